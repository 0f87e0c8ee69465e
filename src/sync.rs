//! The locks, atomics and waker of what threads share: the system's, or, for the models in
//! `models.rs` alone, those of the model checker loom.

#[cfg(not(all(test, myriapod_loom)))]
pub(crate) use {myriapod_sys::Waker, myriapod_sys::pause, std::sync::Mutex, std::sync::atomic};

#[cfg(all(test, myriapod_loom))]
pub(crate) use {
    loom::sync::{Mutex, atomic},
    model::{Waker, pause},
};

// The same code as in the waker itself.
#[cfg(all(test, myriapod_loom))]
#[path = "../sys/src/awake.rs"]
mod awake;

#[cfg(all(test, myriapod_loom))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod model {
    use loom::sync::{Condvar, Mutex};

    use super::awake;

    /// Lets the others go on: time does not pass here.
    pub(crate) fn pause(_: std::time::Duration) {
        loom::thread::yield_now();
    }

    /// A waker and the poller that watches it, whose wait ends for as long as the signal is raised.
    #[derive(Debug)]
    pub(crate) struct Waker {
        awake: awake::Awake,
        signal: Mutex<Signal>,
        raised: Condvar,
    }

    #[derive(Debug)]
    struct Signal {
        is_raised: bool,
        /// Which attempts at raising it fail, counted from now on.
        failing: std::ops::Range<usize>,
        attempts: usize,
    }

    impl Waker {
        pub(crate) fn new() -> Self {
            Self::failing(0..0)
        }

        /// One whose system refuses these raises, the first being number 0.
        pub(crate) fn failing(failing: std::ops::Range<usize>) -> Self {
            let signal = Signal { is_raised: false, failing, attempts: 0 };
            Self { awake: awake::Awake::new(), signal: Mutex::new(signal), raised: Condvar::new() }
        }

        pub(crate) fn wake(&self) -> myriapod_sys::Result<()> {
            self.awake.wake(|| {
                let mut signal = self.signal.lock().unwrap();
                let attempt = signal.attempts;
                signal.attempts += 1;
                if signal.failing.contains(&attempt) {
                    return Err(myriapod_sys::SystemError::call(
                        "wake",
                        myriapod_sys::Errno::ENOMEM,
                        "",
                    ));
                }
                signal.is_raised = true;
                self.raised.notify_all();
                Ok(())
            })
        }

        pub(crate) fn reset(&self) {
            self.awake.reset(|| self.signal.lock().unwrap().is_raised = false);
        }

        pub(crate) fn wait(&self) {
            let mut signal = self.signal.lock().unwrap();
            while !signal.is_raised {
                signal = self.raised.wait(signal).unwrap();
            }
        }
    }

    impl From<myriapod_sys::Waker> for Waker {
        fn from(_: myriapod_sys::Waker) -> Self {
            Self::new()
        }
    }
}
