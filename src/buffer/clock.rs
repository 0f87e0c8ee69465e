//! The time that a peer has taken: [`Stopwatch`]; and the stretch of it in which bytes have to go at a
//! least rate: [`Window`].

use crate::timer::Tick;

/// What a peer has left of its time at least when we read on: 50 milliseconds.
const GRACE: u32 = 5;

/// The time that a peer has taken: it runs, or stands still while it is we who do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopwatch {
    /// It has run since then.
    Running { since: Tick },
    /// It stands still; so many ticks are used up.
    Stopped { used: u32 },
}

impl Stopwatch {
    /// One that has nothing used up.
    pub(crate) fn new(now: Tick, runs: bool) -> Self {
        if runs { Self::Running { since: now } } else { Self::Stopped { used: 0 } }
    }

    /// Lets it run or stand still from now on. `timeout` is the time that the peer has.
    pub(crate) fn run(&mut self, now: Tick, runs: bool, timeout: u32) {
        *self = match *self {
            Self::Running { since } if !runs => Self::Stopped { used: now.wrapping_sub(since) },
            Self::Stopped { used } if runs => {
                // What has come meanwhile is read before the peer is late.
                let used = used.min(timeout.saturating_sub(GRACE));
                Self::Running { since: now.wrapping_sub(used) }
            }
            same => same,
        };
    }

    /// How much of the time is used up.
    pub(crate) fn used(self, now: Tick) -> Tick {
        match self {
            Self::Running { since } => now.wrapping_sub(since),
            Self::Stopped { used } => used,
        }
    }

    /// As [`new`](Self::new), with so much used up.
    pub(crate) fn with(now: Tick, runs: bool, used: Tick) -> Self {
        if runs { Self::Running { since: now.wrapping_sub(used) } } else { Self::Stopped { used } }
    }

    /// Since when it would have run, had it never stood still; `None` while it does.
    pub(crate) fn since(self) -> Option<Tick> {
        match self {
            Self::Running { since } => Some(since),
            Self::Stopped { .. } => None,
        }
    }
}

/// A stretch of time, and how many bytes had gone when it began.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) clock: Stopwatch,
    bytes: Option<i64>,
}

impl Window {
    pub(crate) fn new(now: Tick, runs: bool, bytes: Option<i64>) -> Self {
        Self { clock: Stopwatch::new(now, runs), bytes }
    }

    /// Whether it has lasted for so many ticks.
    pub(crate) fn is_over(&self, now: Tick, ticks: u32) -> bool {
        self.clock.since().is_some_and(|since| now.wrapping_sub(since) > ticks)
    }

    /// It is over, and so many bytes have gone by now: where `least` did within it, or where it was
    /// not known how many had gone before, the next one begins.
    pub(crate) fn judge(&mut self, now: Tick, bytes: i64, least: i64) {
        if self.bytes.is_none_or(|before| bytes - before >= least) {
            *self = Self::new(now, true, Some(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_the_next_window_begin_only_where_enough_has_come() {
        let mut window = Window::new(100, true, Some(50));
        assert!(!window.is_over(1_100, 1_000), "it began within its tick");
        assert!(window.is_over(1_101, 1_000));
        window.judge(1_101, 549, 500);
        assert!(window.is_over(1_102, 1_000), "it is late");
        window.judge(1_102, 550, 500);
        assert!(!window.is_over(1_103, 1_000));
        window.judge(2_200, 1_049, 500);
        assert!(window.is_over(2_200, 1_000));
    }

    #[test]
    fn is_a_window_that_began_in_the_dark_not_judged() {
        let mut window = Window::new(0, true, None);
        window.judge(1_001, -7, 500);
        assert!(!window.is_over(1_002, 1_000));
        window.judge(2_100, 492, 500);
        assert!(window.is_over(2_100, 1_000));
    }
}
