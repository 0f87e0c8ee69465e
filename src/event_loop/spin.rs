//! [`Spin`]: looking for events for a while before blocking, as long as that pays.

use std::time::Duration;

use myriapod_sys::{self as sys, Time};

/// The most that is known in favour of spinning, and what is known at first.
const CONFIDENCE: u8 = 8;

/// What a spin that found nothing costs of it, and one that found something gives.
const STEP: u8 = 1;

/// What a blocking wait gives that ended within the time of a spin.
const REGAIN: u8 = 4;

/// Whether and how long to spin.
#[derive(Debug)]
pub(super) struct Spin {
    limit: Duration,
    confidence: u8,
}

impl Spin {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, confidence: CONFIDENCE }
    }

    pub(super) fn is_on(&self) -> bool {
        !self.limit.is_zero()
    }

    /// How long to spin before a wait of `timeout`.
    pub(super) fn budget(&self, timeout: Option<Duration>) -> Duration {
        let limit = if self.confidence > 0 { self.limit } else { Duration::ZERO };
        timeout.map_or(limit, |timeout| limit.min(timeout))
    }

    /// Spinning found events, or found none.
    fn spun(&mut self, found: bool) {
        self.confidence = if found {
            self.confidence.saturating_add(STEP).min(CONFIDENCE)
        } else {
            self.confidence.saturating_sub(STEP)
        };
    }

    /// A blocking wait with no spin before it brought events after `waited`.
    fn blocked(&mut self, waited: Duration) {
        if waited <= self.limit {
            self.confidence = self.confidence.saturating_add(REGAIN).min(CONFIDENCE);
        }
    }

    /// Waits by `select` for at most `timeout`, spinning first. Returns the events that came.
    #[cold]
    #[inline(never)]
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut clock: impl FnMut() -> Time,
        mut select: impl FnMut(Option<Duration>) -> sys::Result<usize>,
    ) -> sys::Result<usize> {
        let begin = clock();
        let budget = self.budget(timeout);
        while !budget.is_zero() {
            let events = select(Some(Duration::ZERO))?;
            if events > 0 {
                self.spun(true);
                return Ok(events);
            }
            if clock().saturating_since(begin) >= budget {
                self.spun(false);
                break;
            }
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(clock().saturating_since(begin)));
        let events = select(left)?;
        if budget.is_zero() && events > 0 {
            self.blocked(clock().saturating_since(begin));
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const LIMIT: Duration = Duration::from_micros(50);

    /// Waits for events that come after `comes`, in a world where a look takes a microsecond.
    /// Returns how often it looked and whether it blocked.
    fn wait(spin: &mut Spin, timeout: Option<Duration>, comes: Duration) -> (u32, bool) {
        let now = Cell::new(Duration::ZERO);
        let (mut looks, mut blocked) = (0, false);
        let clock = || Time::from_nanos(0) + now.get();
        let found = spin.wait(timeout, clock, |timeout| {
            if timeout == Some(Duration::ZERO) {
                looks += 1;
                now.set(now.get() + Duration::from_micros(1));
            } else {
                blocked = true;
                let until = timeout.map_or(comes, |timeout| comes.min(now.get() + timeout));
                now.set(now.get().max(until));
            }
            Ok(usize::from(now.get() >= comes))
        });
        assert_eq!(found, Ok(usize::from(timeout.is_none_or(|timeout| timeout >= comes))));
        (looks, blocked)
    }

    #[test]
    fn is_an_event_that_comes_soon_found_without_blocking() {
        let mut spin = Spin::new(LIMIT);
        for _ in 0..100 {
            assert_eq!(wait(&mut spin, None, Duration::from_micros(9)), (9, false));
        }
    }

    #[test]
    fn does_spinning_give_up_and_come_back_as_it_pays() {
        let mut spin = Spin::new(LIMIT);
        let late = Duration::from_millis(5);
        for _ in 0..CONFIDENCE {
            assert_eq!(wait(&mut spin, None, late), (50, true));
        }
        for _ in 0..10 {
            assert_eq!(wait(&mut spin, None, late), (0, true));
        }
        let soon = Duration::from_micros(9);
        assert_eq!(wait(&mut spin, None, soon), (0, true));
        assert_eq!(wait(&mut spin, None, soon), (9, false));
    }

    #[test]
    fn is_a_deadline_kept() {
        let mut spin = Spin::new(LIMIT);
        let never = Duration::from_secs(1);
        let (looks, _) = wait(&mut spin, Some(Duration::from_micros(20)), never);
        // The last one is the wait itself, with no time left.
        assert_eq!(looks, 21);
        wait(&mut spin, Some(Duration::from_micros(90)), never);
    }

    #[test]
    fn does_a_wait_that_may_not_block_look_once() {
        let mut spin = Spin::new(LIMIT);
        assert_eq!(wait(&mut spin, Some(Duration::ZERO), Duration::from_secs(1)), (1, false));
    }
}
