//! [`Opening`]: when another connection may be begun, so that no backlog is flooded.

use std::collections::VecDeque;

use crate::schedule::Schedule;

/// Connections under way at once.
const MOST_CONNECTING: usize = 4096;

/// The same where each has a handshake to do: a server allows some hundreds at once, and more of them
/// only wait for its processor.
const MOST_SHAKING: usize = 128;

/// Those of them that were begun lately: a backlog is not to be flooded.
const MOST_FRESH: usize = 256;

/// An attempt that takes so long has met a full backlog, or a long way. The kernel tries again, but
/// only after a second; meanwhile others are begun, after a pause in which the server may catch up.
const FRESH: u64 = 20_000_000;
pub(super) const CATCH_UP: u64 = 5_000_000;

/// After so many failures with no success between, no more connections are tried.
const MOST_FAILURES: u32 = 100;

/// The attempts of one thread. It knows no sockets; times are nanoseconds of the clock.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Slots below this one have been tried.
    pub(super) ramped: usize,
    pub(super) pace: Option<Schedule>,
    /// Attempts under way.
    pub(super) connecting: usize,
    /// Those that may be fresh, with the time when each began.
    fresh: VecDeque<(u32, u64)>,
    /// No attempt is made before this time.
    pub(super) not_before: u64,
    failures: u32,
    /// Each has a handshake to do.
    shakes: bool,
}

impl Opening {
    pub(super) fn new(shakes: bool) -> Self {
        Self { shakes, ..Self::default() }
    }

    /// Attempts that may be under way at once.
    const fn most(&self) -> usize {
        if self.shakes { MOST_SHAKING } else { MOST_CONNECTING }
    }

    /// Whether short connections that are under way are enough.
    pub(super) const fn is_crowded(&self) -> bool {
        self.connecting >= MOST_FRESH || self.connecting >= self.most()
    }

    /// Whether nothing has been connected since the last failure.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The slot to be connected now, if one may be.
    pub(super) fn next(&mut self, now: u64) -> Option<usize> {
        let crowded = self.fresh.len() >= MOST_FRESH || self.connecting >= self.most();
        if crowded || now < self.not_before {
            return None;
        }
        if let Some(pace) = &mut self.pace {
            if pace.next() > now {
                return None;
            }
            pace.advance();
        }
        let slot = self.ramped;
        self.ramped += 1;
        Some(slot)
    }

    /// A slot's attempt began.
    pub(super) fn began(&mut self, slot: usize, now: u64) {
        if let Ok(slot) = u32::try_from(slot) {
            self.fresh.push_back((slot, now));
        }
    }

    /// Forgets the attempts that are over or not fresh any more.
    pub(super) fn age(&mut self, now: u64, is_under_way: impl Fn(usize) -> bool) {
        while let Some(&(slot, began)) = self.fresh.front() {
            let under_way = is_under_way(slot as usize);
            if under_way && now.saturating_sub(began) < FRESH {
                return;
            }
            if under_way {
                self.not_before = now + CATCH_UP;
            }
            self.fresh.pop_front();
        }
    }

    /// When another attempt may be begun; `None` where one that is under way has to end first.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        if self.connecting >= self.most() {
            return None;
        }
        if self.fresh.len() >= MOST_FRESH {
            return Some(self.fresh.front().map_or(0, |(_, began)| began + FRESH));
        }
        Some(self.pace.as_ref().map_or(0, Schedule::next).max(self.not_before))
    }

    /// All begin anew: every slot is tried again, at once.
    pub(super) fn again(&mut self) {
        self.ramped = 0;
        self.pace = None;
        self.fresh.clear();
        self.not_before = 0;
    }

    /// An attempt failed; says whether there is no use in others.
    pub(super) const fn failed(&mut self) -> bool {
        self.failures += 1;
        self.failures >= MOST_FAILURES
    }

    /// An attempt succeeded.
    pub(super) const fn succeeded(&mut self) {
        self.connecting -= 1;
        self.failures = 0;
    }
}
