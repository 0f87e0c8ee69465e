//! [`Stop`]: SIGINT and SIGTERM end a run in order, and a second one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use myriapod::sys::poll::wait_one;
use myriapod::sys::{self, AsFd as _, Interest, Signal, Signals};
use myriapod_load::Interruption;

use crate::failure::Failure;

/// What a shell says of a command that a signal ended: 128 and its number.
const BY_INTERRUPT: u8 = 130;
const BY_TERMINATE: u8 = 143;

/// Whether a signal has come.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Catches signals on a thread of their own, so that none waits for what else is done.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let mut signals = Signals::install(&[Signal::Interrupt, Signal::Terminate])?;
        let status = Arc::new(AtomicU8::new(0));
        let told = Arc::clone(&status);
        sys::spawn("signals", move || {
            while wait_one(signals.as_fd(), Interest::READABLE, None).is_ok() {
                while let Some(signal) = signals.take() {
                    let by = match signal {
                        Signal::Terminate => BY_TERMINATE,
                        _ => BY_INTERRUPT,
                    };
                    if told.swap(by, Relaxed) != 0 {
                        std::process::exit(by.into());
                    }
                }
            }
        })?;
        Ok(Self(status))
    }

    pub(crate) fn interruption(&self) -> Option<Interruption> {
        let status = self.0.load(Relaxed);
        (status != 0).then_some(Interruption { status })
    }
}
