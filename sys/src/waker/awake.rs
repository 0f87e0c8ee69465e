//! [`Awake`]: one signal for as many wakes as come before it is cleared.

// The loop's mailbox is model-checked over this file, with the checker's atomics in place of std's.
use super::atomic::{AtomicBool, Ordering};

/// Whether a signal is on its way: the wakes that find it so raise none.
#[derive(Debug)]
pub(crate) struct Awake(AtomicBool);

impl Awake {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Raises a signal, unless one is on its way.
    pub(crate) fn wake<E>(&self, raise: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.0.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        raise().inspect_err(|_| self.0.store(false, Ordering::Release))
    }

    /// Clears the signal.
    pub(crate) fn reset(&self, clear: impl FnOnce()) {
        clear();
        // After the clearing: were it before, a wake in between would be cleared, and those that
        // follow would believe it on its way.
        self.0.swap(false, Ordering::AcqRel);
    }
}
