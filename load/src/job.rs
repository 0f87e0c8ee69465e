//! What a process of bench is told to do, and in which phase: [`Job`], [`Command`], [`Phase`].

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{Content, Service};
use crate::replay::Replay;
use crate::secure::Secure;

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
    /// Slow ones, numbered behind those.
    pub(crate) slow: u32,
    pub(crate) in_flight: u32,
    pub(crate) service: Service,
    /// The text that names it; `None` for the service's own.
    pub(crate) framing: Option<String>,
    pub(crate) content: Content,
    /// Messages of the run; `None` for as many as fit into its time.
    pub(crate) messages: Option<u64>,
    /// Messages per second; `None` for a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) poisson: bool,
    /// Send what was recorded, at its own times.
    pub(crate) replay: Option<Replay>,
    /// Connections opened per second.
    pub(crate) ramp: Option<f64>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) short: bool,
    /// The client that a PROXY header in front of each connection names.
    pub(crate) proxy_from: Option<SocketAddr>,
    pub(crate) secure: Option<Secure>,
    pub(crate) threads: u32,
    /// The processor of each thread, of one process after the other; empty where they are left
    /// alone.
    pub(crate) cpus: Vec<usize>,
}

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Active,
    Idle,
    Slow,
}

impl Job {
    /// Places for all its connections.
    pub(crate) const fn slots(&self) -> usize {
        self.connections as usize + self.idle as usize + self.slow as usize
    }

    /// What the connection in a place is there for.
    #[inline]
    pub(crate) const fn kind(&self, slot: usize) -> Kind {
        let active = self.connections as usize;
        if slot < active {
            Kind::Active
        } else if slot < active + self.idle as usize {
            Kind::Idle
        } else {
            Kind::Slow
        }
    }

    /// The places of the slow ones.
    pub(crate) const fn slow_places(&self) -> std::ops::Range<usize> {
        self.connections as usize + self.idle as usize..self.slots()
    }

    /// The share of so many messages of all parts together.
    pub(crate) fn share_of(&self, all: u64) -> u64 {
        let share = u128::from(all) * u128::from(self.connections) / u128::from(self.all.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

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
                let all = count(self.connections) + count(self.idle) + count(self.slow);
                u32::try_from(all).unwrap_or(0)
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
            slow: share(self.slow),
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
    /// All connections are closed, come back at once, and ask one thing each.
    Storm,
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
            Self::Storm => "storm",
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
    /// So many messages more of all parts together.
    Budget(u64),
    /// So many messages outstanding on each connection.
    InFlight(u32),
    /// So many connections, from the next ramp on. For a load of one part.
    Grow(u32),
    /// Tell how things stand; with latencies, those since they were last told.
    Tell {
        latencies: bool,
    },
    /// Forget all counts and latencies.
    Reset,
    End,
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
            slow: 5,
            in_flight: 1,
            service: Service::Echo,
            framing: Some("length:4be".to_owned()),
            content: Content::Bytes(1),
            messages: Some(1_000_003),
            rate: Some(9.0),
            poisson: false,
            replay: None,
            ramp: None,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            short: false,
            proxy_from: None,
            secure: None,
            threads: 1,
            cpus: Vec::new(),
        };
        for parts in [1, 2, 3, 7, 50] {
            let mut next = job.first;
            let (mut connections, mut silent, mut messages, mut rate) = (0, 0, 0, 0.0);
            for nth in 0..parts {
                let part = job.part(nth, parts);
                assert_eq!(part.first, next);
                next += part.connections + part.idle + part.slow;
                connections += part.connections;
                silent += part.idle + part.slow;
                messages += part.messages.unwrap();
                rate += part.rate.unwrap();
            }
            assert_eq!((connections, silent, messages), (19_001, 12, 1_000_003));
            assert!((rate - 9.0).abs() < 1e-9);
        }
    }
}
