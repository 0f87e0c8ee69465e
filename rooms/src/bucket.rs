//! [`Bucket`]: how many requests a connection may still make.

use myriapod::sys::Time;

/// A request takes a token; tokens come back at a steady rate, up to a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Nanoseconds of waiting that are saved up. A token costs a second divided by the rate.
    saved: u64,
    last: Time,
}

const SECOND: u64 = 1_000_000_000;

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Time) -> Self {
        Self { saved: u64::MAX, last: now }
    }

    /// Takes a token; says whether there was one. `rate` is tokens a second, `burst` the most that
    /// are saved up. Both are at least 1.
    pub(super) fn take(&mut self, now: Time, rate: usize, burst: usize) -> bool {
        // A rate above a token each nanosecond is no limit.
        let cost = SECOND / (rate as u64).clamp(1, SECOND);
        let waited = now.saturating_since(self.last).as_nanos();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.last = now;
        let most = cost.saturating_mul(burst as u64);
        self.saved = self.saved.saturating_add(waited).min(most);
        match self.saved.checked_sub(cost) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn takes(bucket: &mut Bucket, millis: u64) -> usize {
        (0..100).take_while(|_| bucket.take(at(millis), 20, 40)).count()
    }

    #[test]
    fn is_there_a_burst_and_then_a_rate() {
        let mut bucket = Bucket::new(at(0));
        assert_eq!(takes(&mut bucket, 0), 40);
        assert_eq!(takes(&mut bucket, 49), 0);
        assert_eq!(takes(&mut bucket, 50), 1);
        assert_eq!(takes(&mut bucket, 1050), 20);
        assert_eq!(takes(&mut bucket, 1_000_000), 40, "no more is saved up");
        // Time that goes backwards gives nothing, and takes nothing.
        assert_eq!(takes(&mut bucket, 0), 0);
    }

    #[test]
    fn do_extreme_rates_neither_overflow_nor_divide_by_zero() {
        let mut bucket = Bucket::new(at(0));
        assert!(bucket.take(at(0), usize::MAX, usize::MAX));
        assert!(bucket.take(at(u64::MAX / 1_000_000), 1, usize::MAX));
    }
}
