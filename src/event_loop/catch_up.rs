//! [`CatchUp`]: after a time in which the loop did not run, it reads before it judges.
//!
//! The process was stopped, the machine was paused, a callback took long: meanwhile messages have
//! arrived, and deadlines have passed. One wait reports so many events and no more, and one event
//! receives once. So a few turns come in between in which no deadline fires.

use std::time::Duration;

use crate::timer::{self, Tick};

/// By how much more than a wait was to take the clock may move on between two turns: a quarter of a
/// second.
const LATE_TICKS: Tick = 25;

/// Turns without deadlines at most, besides those that it takes to hear of each entry twice. What a
/// message of 1 MiB needs is less.
const MOST_TURNS: u32 = 32;

/// Entries that one wait is sure to report, if they are ready.
const ENTRIES_PER_TURN: u32 = 512;

/// Turns in which no deadline fires, since what has arrived may not have been read.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// As many are left at most.
    turns: u32,
}

impl CatchUp {
    /// Whether deadlines wait.
    pub(super) fn is_under_way(&self) -> bool {
        self.turns > 0
    }

    /// Whether so many ticks between two turns are far more than the wait was to take. One without
    /// a timeout had no deadline to miss.
    pub(super) fn is_due(ticks: u32, timeout: Option<Duration>) -> bool {
        timeout.is_some_and(|timeout| ticks > timer::ticks(timeout).saturating_add(LATE_TICKS))
    }

    /// A wait has ended, far later than it was to or not, and has brought so many events of
    /// `entries`. One that brings none, in time, says that all has been read.
    pub(super) fn note_turn(&mut self, is_late: bool, events: usize, entries: u32) {
        self.turns = match self.turns {
            0 if is_late => MOST_TURNS + entries / ENTRIES_PER_TURN,
            _ if events == 0 && !is_late => 0,
            // However late each turn is, deadlines fire now and then.
            turns => turns.saturating_sub(1),
        };
    }
}
