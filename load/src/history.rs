//! [`History`]: what is kept of a run over time, and how the points of its series are made.

use std::time::Duration;

use hdrhistogram::Histogram;
use myriapod::sys::Time;
use myriapod_machine::ProcessUsage;

use crate::job::Phase;
use crate::report::{MemoryPoint, Phase as Passed, Second};
use crate::snapshot::{Latencies, Snapshot, histogram};

/// The phases that are over, a point for each second, and the server's memory.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) started: Time,
    pub(crate) started_unix_s: u64,
    pub(crate) phases: Vec<Passed>,
    pub(crate) series: Vec<Second>,
    pub(crate) memory: Vec<MemoryPoint>,
    /// The latencies since the last point of the series.
    pub(crate) recent: Latencies,
    /// All handshakes of TLS, from the first on.
    pub(crate) handshakes: Histogram<u64>,
    /// How things stood when the point that is under way began.
    begun: Reading,
}

/// How things stood at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    at: Time,
    ok: u64,
    bench_cpu: u64,
    server: Option<(Duration, u64)>,
}

impl Reading {
    pub(crate) fn new(at: Time, snapshot: &Snapshot, server: Option<&ProcessUsage>) -> Self {
        Self {
            at,
            ok: snapshot.messages.ok,
            bench_cpu: snapshot.cpu.iter().sum(),
            server: server.map(|usage| (usage.running, usage.rss_bytes)),
        }
    }
}

impl History {
    pub(crate) fn new(started: Time, started_unix_s: u64) -> Self {
        Self {
            started,
            started_unix_s,
            phases: Vec::new(),
            series: Vec::new(),
            memory: Vec::new(),
            recent: Latencies::default(),
            handshakes: histogram(),
            begun: Reading { at: started, ..Reading::default() },
        }
    }

    /// When the point that is under way began.
    pub(crate) const fn under_way(&self) -> Time {
        self.begun.at
    }

    /// The next point begins now, and counts nothing of what was before.
    pub(crate) fn begin(&mut self, now: Reading) {
        self.begun = now;
        self.recent = Latencies::default();
    }

    /// The point that is under way ends, and the next one begins.
    pub(crate) fn point(&mut self, phase: Phase, snapshot: &Snapshot, now: Reading) {
        let begun = std::mem::replace(&mut self.begun, now);
        let recent = std::mem::take(&mut self.recent).response;
        let percentile =
            |quantile| (!recent.is_empty()).then(|| recent.value_at_quantile(quantile));
        let seconds = now.at.saturating_since(begun.at).as_secs_f64();
        let server_cpus = now
            .server
            .zip(begun.server)
            .map(|((now, _), (begun, _))| now.saturating_sub(begun).as_secs_f64() / seconds);
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let point = Second {
            at_s: now.at.saturating_since(self.started).as_secs_f64(),
            phase: phase.name().to_owned(),
            connections: snapshot.open,
            rate: now.ok.saturating_sub(begun.ok) as f64 / seconds,
            p50_ns: percentile(0.5),
            p99_ns: percentile(0.99),
            errors: snapshot.faults(),
            server_rss_bytes: now.server.map(|(_, rss)| rss),
            server_cpus,
            bench_cpus: now.bench_cpu.saturating_sub(begun.bench_cpu) as f64 / 1e9 / seconds,
        };
        self.series.push(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many rightly answered, seconds of processor time of bench and the server.
    fn reading(at_s: u64, ok: u64, bench: u64, server: u64) -> (Snapshot, Reading) {
        let mut snapshot = Snapshot { cpu: vec![bench * 1_000_000_000], ..Snapshot::default() };
        snapshot.messages.ok = ok;
        let mut usage = ProcessUsage::default();
        usage.running = Duration::from_secs(server);
        let at = Time::from_nanos(at_s * 1_000_000_000);
        let reading = Reading::new(at, &snapshot, Some(&usage));
        (snapshot, reading)
    }

    #[test]
    fn does_the_first_second_of_a_run_count_what_was_before() {
        let mut history = History::new(Time::from_nanos(0), 0);
        history.recent.response.saturating_record(9);
        // A ramp that kept everybody busy, and another run's answers, which were forgotten.
        history.point(Phase::Ramp, &reading(2, 500, 2, 2).0, reading(2, 500, 2, 2).1);
        history.recent.response.saturating_record(9);
        history.begin(reading(4, 0, 4, 3).1);
        let (snapshot, now) = reading(6, 100, 5, 4);
        history.point(Phase::Run, &snapshot, now);
        let second = history.series.last().unwrap();
        assert_eq!((second.rate, second.bench_cpus), (50.0, 0.5));
        assert_eq!((second.server_cpus, second.p50_ns, second.at_s), (Some(0.5), None, 6.0));
    }
}
