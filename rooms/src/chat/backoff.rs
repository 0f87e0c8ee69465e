//! [`Backoff`]: how long to wait before a lost connection is made again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

/// Doubles with each failure, up to a most, and takes a random part of it off: clients that lost
/// one server do not come back at one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { next: LEAST }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.next = LEAST;
    }

    /// How long to wait now: between half of the time and the whole.
    pub(super) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(MOST);
        // The seed of a hash table is random.
        let random = RandomState::new().hash_one(0) % 1024;
        let parts = 1024 + u32::try_from(random).unwrap_or(0);
        whole * parts / 2048
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_the_wait_grow_to_its_most_and_no_further() {
        let mut backoff = Backoff::new();
        for whole in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let (waited, whole) = (backoff.wait(), Duration::from_millis(whole));
            assert!(waited >= whole / 2 && waited < whole, "{waited:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() < LEAST);
    }
}
