//! [`Awake`]: one signal for as many wakes as come before it is cleared.

// The loop's mailbox is model-checked over this file, with the checker's atomics in place of std's.
use super::atomic::{AtomicUsize, Ordering};

/// Whether a signal is on its way: the wakes that find it so raise none.
///
/// The lowest two bits say how far that is, those above count the wakes that found nothing.
#[derive(Debug)]
pub(crate) struct Awake(AtomicUsize);

/// Somebody is about to raise the signal, which may fail.
const RAISING: usize = 1;
/// It is raised, and not cleared yet.
const RAISED: usize = 2;
const PHASE: usize = 3;

impl Awake {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Raises a signal, unless one is on its way.
    pub(crate) fn wake<E>(&self, raise: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        // Written to whatever it is: a reset that comes after this sees what came before this.
        let mut found = self.0.fetch_or(0, Ordering::AcqRel);
        let ours = loop {
            match found & PHASE {
                RAISED => return Ok(()),
                // Nobody knows whether that one succeeds, so this does not lean on it.
                RAISING => return raise(),
                _ => {
                    // With a number of its own, or a wake that began before a reset and ends after
                    // the next one has begun would vouch for that one.
                    let ours = (found | PHASE).wrapping_add(1) | RAISING;
                    match self.swap_if(found, ours) {
                        Ok(_) => break ours,
                        Err(now) => found = now,
                    }
                }
            }
        };
        let raised = raise();
        // Where it is another's by now, a reset has come in between.
        let _ = self.swap_if(ours, if raised.is_ok() { ours ^ PHASE } else { ours ^ RAISING });
        raised
    }

    fn swap_if(&self, found: usize, next: usize) -> Result<usize, usize> {
        self.0.compare_exchange(found, next, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Clears the signal.
    pub(crate) fn reset(&self, clear: impl FnOnce()) {
        clear();
        // After the clearing: were it before, a wake in between would be cleared, and those that
        // follow would believe it on its way.
        self.0.fetch_and(!PHASE, Ordering::AcqRel);
    }
}
