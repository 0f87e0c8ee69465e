//! [`Waker`]: a counter that a poller watches.

use super::descriptor::{AsFd, Descriptor, call_number};
use super::faults::FaultKind;
use super::kernel::{Kernel, Object};
use super::threads::call;
use crate::awake::Awake;
use crate::{Errno, Interest, Mode, Poller, Result, SystemError, Token};

/// Makes a poller report a token, from any thread.
#[derive(Debug)]
pub struct Waker(Descriptor, Awake);

impl Waker {
    /// A waker whose events carry `token`.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(poller: &mut Poller, token: Token) -> Result<Self> {
        let open = |kernel: &mut Kernel| {
            kernel.enter(call_number::OPEN);
            kernel.open(Object::Counter(false))
        };
        let number = call(open).map_err(|errno| SystemError::call("waker", errno, ""))?;
        let waker = Self(Descriptor::new(number), Awake::new());
        poller.add(waker.0.as_fd(), token, Interest::READABLE, Mode::LEVEL)?;
        Ok(waker)
    }

    /// Makes the poller report the token, now or when it next waits.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn wake(&self) -> Result<()> {
        self.1.wake(|| self.raise())
    }

    fn raise(&self) -> Result<()> {
        let raised = call(|kernel| {
            let raised = match kernel.fault(FaultKind::Unwoken, kernel.faults.unwoken) {
                true => Err(Errno::ENOMEM),
                false => Ok(()),
            };
            kernel.tell_result(raised, |()| 0)
        });
        raised.map_err(|errno| SystemError::call("wake", errno, ""))?;
        self.set(true);
        Ok(())
    }

    /// Takes the event back.
    pub fn reset(&self) {
        self.1.reset(|| self.set(false));
    }

    fn set(&self, raised: bool) {
        let number = self.0.as_fd().number();
        call(|kernel| {
            kernel.enter_at(call_number::WAKE, number);
            kernel.tell(u64::from(raised));
            if let Ok(Object::Counter(counter)) = kernel.object(number) {
                *counter = raised;
            }
        });
    }

    /// Takes the waker out of the `poller` that it was made with, and ends it.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it was made with another poller.
    pub fn close(self, poller: &mut Poller) -> Result<()> {
        poller
            .delete(self.0.as_fd())
            .map_err(|_| SystemError::call("close waker", Errno::ENOENT, ""))
    }
}
