//! [`Backoff`]: how long to wait before a broker is tried again.

#[cfg(not(myriapod_sim))]
use std::collections::hash_map::RandomState;
#[cfg(not(myriapod_sim))]
use std::hash::BuildHasher as _;
use std::time::Duration;

/// Doubles with each failure, up to a most, less a random part: nodes that lost one broker do not
/// come back at one moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

const LEAST: Duration = Duration::from_millis(50);
/// A broker that is back has its nodes within two of these.
const MOST: Duration = Duration::from_secs(2);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: LEAST }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.next = LEAST;
    }

    /// How long to wait now: between half of the time and the whole.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(MOST);
        let parts = 1024 + u32::try_from(random() % 1024).unwrap_or(0);
        whole * parts / 2048
    }
}

/// A random number: the seeds of hash tables are.
#[cfg(not(myriapod_sim))]
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(myriapod::sys::now().as_nanos())
}

/// The same in a simulated world, where only its time may decide.
#[cfg(myriapod_sim)]
pub(crate) fn random() -> u64 {
    myriapod::sys::sim::mix(myriapod::sys::now().as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_the_wait_grow_to_its_most_and_no_further() {
        let mut backoff = Backoff::new();
        for whole in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let (waited, whole) = (backoff.wait(), Duration::from_millis(whole));
            assert!(waited >= whole / 2 && waited < whole, "{waited:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() < LEAST);
    }
}
