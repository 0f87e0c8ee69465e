//! [`Observer`]: who watches a run while it goes on, and may end it.

use crate::report::{Phase, Second};
use crate::snapshot::Snapshot;

/// How a run stands.
#[derive(Debug)]
pub struct Now<'a> {
    /// The last second that is over.
    pub point: &'a Second,
    /// How much of the phase is done, from 0 to 1, where that is known.
    pub share: Option<f64>,
    /// Seconds since the first phase began.
    pub since_start: f64,
    /// All counts so far.
    pub snapshot: &'a Snapshot,
}

/// Why a run is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// The status that the report then has, such as 130 for SIGINT.
    pub status: u8,
}

/// Watches a run. Everything is optional.
pub trait Observer {
    /// A second is over.
    fn second(&mut self, now: &Now<'_>) {
        let _ = now;
    }

    /// A phase is over.
    fn passed(&mut self, phase: &Phase) {
        let _ = phase;
    }

    /// Nothing more will come.
    fn done(&mut self) {}

    /// Whether the run is to end now. It is asked some times a second; the run then ends in order,
    /// and what was measured is reported.
    fn interrupted(&mut self) -> Option<Interruption> {
        None
    }
}

/// Nobody watches.
impl Observer for () {}
