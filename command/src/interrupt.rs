//! [`Interrupt`]: waiting that Ctrl-C ends.

use myriapod::sys::poll::wait_one;
use myriapod::sys::{self, AsFd, Interest, Signal, Signals, Time};

use crate::failure::Failure;

/// Ctrl-C and SIGTERM, caught, so that a command that goes on for ever ends in good order.
#[derive(Debug)]
pub struct Interrupt(Signals);

impl Interrupt {
    /// Catches both from now on.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn catch() -> Result<Self, Failure> {
        Ok(Self(Signals::install(&[Signal::Interrupt, Signal::Terminate])?))
    }

    /// Waits until `time`, or until somebody ends the command; says whether that was so.
    pub fn by(&mut self, time: Time) -> Result<bool, Failure> {
        let left = time.saturating_since(sys::now());
        wait_one(self.0.as_fd(), Interest::READABLE, Some(left))
            .map_err(|errno| sys::SystemError::call("poll", errno, ""))?;
        Ok(self.0.take().is_some())
    }
}
