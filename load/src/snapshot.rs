//! [`Snapshot`]: what a part of the load tells, and [`Latencies`].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::job::Phase;
use crate::report::{Bytes, Messages};

/// The largest latency that is told from larger ones: an hour in nanoseconds.
const LARGEST: u64 = 3_600_000_000_000;

/// How things stand with a part of the load. Counts are sums since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the phase is there for is done.
    pub(crate) done: bool,
    /// The phase; of several parts, the one that is furthest behind.
    pub(crate) phase: Option<Phase>,
    /// Connections open now, idle ones included.
    pub open: u64,
    /// Connections that are being opened.
    pub connecting: u64,
    /// Requests that wait for their answer.
    pub waiting: u64,
    /// Places that have ever been connected.
    pub established: u64,
    /// Idle ones among them.
    pub(crate) established_idle: u64,
    /// Connections ever made.
    pub opened: u64,
    /// Attempts to connect that failed.
    pub failed: u64,
    /// Connections that ended too early.
    pub lost: u64,
    /// Requests, and what became of them.
    pub messages: Messages,
    /// Bytes sent and received.
    pub bytes: Bytes,
    /// Messages that were due, in an open loop.
    pub(crate) due: u64,
    /// When the last reply that counts came, in nanoseconds of the clock.
    pub(crate) last_reply: u64,
    pub(crate) errors: Vec<(Phase, String, String, u64)>,
    /// Why no more connections are opened.
    pub(crate) stopped: Option<String>,
    /// Why the first wrong reply is wrong: what came.
    pub(crate) first_wrong: Option<String>,
    /// What the server speaks, or is said of it, where its first bytes are of another protocol.
    pub(crate) stranger: Option<String>,
    /// Slow connections that the server closed.
    pub slow_closed: u64,
    /// Handshakes of TLS that are over.
    pub(crate) handshakes: Handshakes,
    /// Connections that have had an answer in a storm.
    pub served: u64,
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
        self.phase = match (self.phase, other.phase) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.open += other.open;
        self.connecting += other.connecting;
        self.waiting += other.waiting;
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
        self.stranger = self.stranger.take().or(other.stranger);
        self.slow_closed += other.slow_closed;
        self.served += other.served;
        self.handshakes.full += other.handshakes.full;
        self.handshakes.resumed += other.handshakes.resumed;
        if self.handshakes.suite.is_empty() {
            self.handshakes.suite = other.handshakes.suite;
        }
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

    /// Every error so far: the phase, the call, the errno, and how often.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, &str, &str, u64)> {
        self.errors.iter().map(|(phase, call, errno, count)| {
            (phase.name(), call.as_str(), errno.as_str(), *count)
        })
    }

    /// Bad replies and errors so far.
    #[must_use]
    pub fn faults(&self) -> u64 {
        let Messages { lost, wrong, late, duplicate, .. } = self.messages;
        lost + wrong + late + duplicate + self.errors.iter().map(|error| error.3).sum::<u64>()
    }
}

/// Handshakes of TLS.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Handshakes {
    pub(crate) full: u64,
    pub(crate) resumed: u64,
    /// The cipher suite of the first.
    pub(crate) suite: String,
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
    /// From a connected socket to the end of its handshake.
    #[serde(with = "sparse")]
    pub(crate) handshake: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            service: histogram(),
            response: histogram(),
            delay: histogram(),
            handshake: histogram(),
        }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, other: &Self) {
        // All of them have the same bounds, so nothing can be out of them.
        let _ = self.service.add(&other.service);
        let _ = self.response.add(&other.response);
        let _ = self.delay.add(&other.delay);
        let _ = self.handshake.add(&other.handshake);
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
