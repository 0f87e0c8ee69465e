//! What a process of bench is told to do, and what it tells: [`Job`], [`Command`], [`Snapshot`].

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::message::{Content, Service};
use super::report::{Bytes, Messages};

/// The largest latency that is told from larger ones: an hour in nanoseconds.
const LARGEST: u64 = 3_600_000_000_000;

/// The load of one process, or of one thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Host and port of each target, resolved; connections take them in turn.
    pub(crate) targets: Vec<(String, u16)>,
    /// The addresses connected from, in turn; empty for the system's choice.
    pub(crate) sources: Vec<String>,
    /// The first connection's number among those of all processes and threads.
    pub(crate) first: u32,
    pub(crate) connections: u32,
    /// The connections at work of all parts together.
    pub(crate) all: u32,
    /// Silent ones, numbered behind the others.
    pub(crate) idle: u32,
    pub(crate) in_flight: u32,
    pub(crate) service: Service,
    pub(crate) content: Content,
    /// Messages of the run; `None` for as many as fit into its time.
    pub(crate) messages: Option<u64>,
    /// Messages per second; `None` for a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) poisson: bool,
    /// Connections opened per second.
    pub(crate) ramp: Option<f64>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) short: bool,
    /// The client that a PROXY header in front of each connection names.
    pub(crate) proxy_from: Option<SocketAddr>,
    pub(crate) threads: u32,
    /// The processor of each thread, of one process after the other; empty where they are left
    /// alone.
    pub(crate) cpus: Vec<usize>,
}

impl Job {
    /// The `nth` of `parts` jobs that are this one together.
    pub(crate) fn part(&self, nth: u32, parts: u32) -> Self {
        let share = |whole: u32| {
            let begin = |nth: u32| u64::from(whole) * u64::from(nth) / u64::from(parts);
            let (begin, end) = (begin(nth), begin(nth + 1));
            u32::try_from(end - begin).unwrap_or(0)
        };
        // Active and idle ones are numbered apart, so each part takes its numbers out of one row.
        let before: u32 = (0..nth)
            .map(|nth| {
                let end =
                    |whole: u32, nth: u32| u64::from(whole) * u64::from(nth) / u64::from(parts);
                let count = |whole| end(whole, nth + 1) - end(whole, nth);
                u32::try_from(count(self.connections) + count(self.idle)).unwrap_or(0)
            })
            .sum();
        // Work is for those who have connections.
        let end = |nth: u32| u128::from(self.connections) * u128::from(nth) / u128::from(parts);
        let all = u128::from(self.connections.max(1));
        let messages = self.messages.map(|messages| {
            let share = |nth| u128::from(messages) * end(nth) / all;
            u64::try_from(share(nth + 1) - share(nth)).unwrap_or(0)
        });
        let connections = share(self.connections);
        let rate = self
            .rate
            .map(|rate| rate * f64::from(connections) / f64::from(self.connections.max(1)));
        Self {
            first: self.first + before,
            connections,
            idle: share(self.idle),
            messages,
            rate,
            ramp: self.ramp.map(|ramp| ramp / f64::from(parts)),
            ..self.clone()
        }
    }
}

/// What a part of the load is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Nothing yet, or not any more.
    Still,
    /// Opening connections.
    Ramp,
    /// Keeping them.
    Hold,
    Warmup,
    Run,
    /// Waiting for the last replies.
    Drain,
    Close,
}

impl Phase {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Still => "start",
            Self::Ramp => "ramp",
            Self::Hold => "hold",
            Self::Warmup => "warmup",
            Self::Run => "run",
            Self::Drain => "drain",
            Self::Close => "close",
        }
    }
}

/// What is asked of a part of the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Go on to this phase, which began at this time of the clock, in nanoseconds. It is the same for
    /// all, however late each of them hears of it.
    Enter(Phase, u64),
    /// Another rate of all parts together, from the next phase on.
    Rate(f64),
    /// Tell how things stand; with latencies, those since they were last told.
    Tell {
        latencies: bool,
    },
    /// Forget all counts and latencies.
    Reset,
    End,
}

/// How things stand with a part of the load. Counts are sums since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// What the phase is there for is done.
    pub(crate) done: bool,
    /// Open now, idle ones included.
    pub(crate) open: u64,
    /// Slots that have ever been connected; idle ones among them.
    pub(crate) established: u64,
    pub(crate) established_idle: u64,
    /// Connections ever made, attempts that failed, and those that ended too early.
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    pub(crate) messages: Messages,
    pub(crate) bytes: Bytes,
    /// Messages that were due, in an open loop.
    pub(crate) due: u64,
    /// When the last reply that counts came, in nanoseconds of the clock.
    pub(crate) last_reply: u64,
    pub(crate) errors: Vec<(Phase, String, String, u64)>,
    /// Why no more connections are opened.
    pub(crate) stopped: Option<String>,
    /// Why the first wrong reply is wrong: what came.
    pub(crate) first_wrong: Option<String>,
    /// Connections that the server ended after exactly one reply.
    pub(crate) ended_after_one: u64,
    pub(crate) closed_first_by_server: u64,
    pub(crate) closed_first_by_client: u64,
    pub(crate) reset: u64,
    /// Processor time of each thread in nanoseconds.
    pub(crate) cpu: Vec<u64>,
    pub(crate) latencies: Option<Latencies>,
}

impl Snapshot {
    /// Takes what another part tells.
    pub(crate) fn add(&mut self, other: Self) {
        self.done &= other.done;
        self.open += other.open;
        self.established += other.established;
        self.established_idle += other.established_idle;
        self.opened += other.opened;
        self.failed += other.failed;
        self.lost += other.lost;
        let (sum, part) = (&mut self.messages, other.messages);
        sum.sent += part.sent;
        sum.ok += part.ok;
        sum.lost += part.lost;
        sum.wrong += part.wrong;
        sum.late += part.late;
        sum.duplicate += part.duplicate;
        sum.unsent += part.unsent;
        self.bytes.sent += other.bytes.sent;
        self.bytes.received += other.bytes.received;
        self.due += other.due;
        self.last_reply = self.last_reply.max(other.last_reply);
        for (phase, call, errno, count) in other.errors {
            let same = self.errors.iter_mut().find(|known| {
                (known.0, known.1.as_str(), known.2.as_str()) == (phase, &call, &errno)
            });
            match same {
                Some(known) => known.3 += count,
                None => self.errors.push((phase, call, errno, count)),
            }
        }
        self.stopped = self.stopped.take().or(other.stopped);
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.ended_after_one += other.ended_after_one;
        self.closed_first_by_server += other.closed_first_by_server;
        self.closed_first_by_client += other.closed_first_by_client;
        self.reset += other.reset;
        self.cpu.extend(other.cpu);
        match (&mut self.latencies, other.latencies) {
            (Some(sum), Some(part)) => sum.add(&part),
            (sum @ None, part) => *sum = part,
            (Some(_), None) => {}
        }
    }

    /// Bad replies and errors so far.
    pub(crate) fn faults(&self) -> u64 {
        let Messages { lost, wrong, late, duplicate, .. } = self.messages;
        lost + wrong + late + duplicate + self.errors.iter().map(|error| error.3).sum::<u64>()
    }
}

/// Latencies of many messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latencies {
    #[serde(with = "sparse")]
    pub(crate) service: Histogram<u64>,
    #[serde(with = "sparse")]
    pub(crate) response: Histogram<u64>,
    /// How late bench itself was.
    #[serde(with = "sparse")]
    pub(crate) delay: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { service: histogram(), response: histogram(), delay: histogram() }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, other: &Self) {
        // All of them have the same bounds, so nothing can be out of them.
        let _ = self.service.add(&other.service);
        let _ = self.response.add(&other.response);
        let _ = self.delay.add(&other.delay);
    }
}

/// Nanoseconds to three digits.
#[expect(clippy::expect_used, reason = "the bounds are constants within what the crate allows")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LARGEST, 3).expect("bounds that a histogram can have")
}

/// A histogram as a list of values and how often each came.
mod sparse {
    use hdrhistogram::Histogram;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let counts = histogram.iter_recorded();
        serializer.collect_seq(counts.map(|at| (at.value_iterated_to(), at.count_at_value())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let mut histogram = super::histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            histogram.saturating_record_n(value, count);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_the_parts_of_a_job_the_whole() {
        let job = Job {
            targets: vec![("127.0.0.1".to_owned(), 1)],
            sources: Vec::new(),
            first: 10,
            connections: 19_001,
            all: 19_001,
            idle: 7,
            in_flight: 1,
            service: Service::Echo,
            content: Content::Bytes(1),
            messages: Some(1_000_003),
            rate: Some(9.0),
            poisson: false,
            ramp: None,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            short: false,
            proxy_from: None,
            threads: 1,
            cpus: Vec::new(),
        };
        for parts in [1, 2, 3, 7, 50] {
            let mut next = job.first;
            let (mut connections, mut idle, mut messages, mut rate) = (0, 0, 0, 0.0);
            for nth in 0..parts {
                let part = job.part(nth, parts);
                assert_eq!(part.first, next);
                next += part.connections + part.idle;
                connections += part.connections;
                idle += part.idle;
                messages += part.messages.unwrap();
                rate += part.rate.unwrap();
            }
            assert_eq!((connections, idle, messages), (19_001, 7, 1_000_003));
            assert!((rate - 9.0).abs() < 1e-9);
        }
    }

    #[test]
    fn do_latencies_survive_the_way_between_processes() {
        let mut latencies = Latencies::default();
        for value in [1, 999, 1_000_003, LARGEST, u64::MAX] {
            latencies.service.saturating_record(value);
            latencies.response.saturating_record_n(value, 3);
        }
        let text = serde_json::to_string(&latencies).unwrap();
        let back: Latencies = serde_json::from_str(&text).unwrap();
        assert_eq!(back.service, latencies.service);
        assert_eq!(back.response, latencies.response);
        let mut sum = back.clone();
        sum.add(&latencies);
        assert_eq!(sum.service.len(), 10);
    }
}
