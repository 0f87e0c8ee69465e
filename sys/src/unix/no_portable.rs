//! [`Portable`] without the feature `portable`: there is none, so nothing is ever asked of one.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::{Events, Interest, Mode, Result, SystemError, Token};

/// Whether this build has it.
pub(crate) const IS_BUILT: bool = false;

/// What stands in its place.
#[derive(Debug)]
pub(crate) struct Portable(Infallible);

impl Portable {
    pub(crate) const fn new() -> Result<Self> {
        Err(SystemError::Unsupported { what: "portable", by: "this build" })
    }

    pub(crate) fn add(&mut self, _: BorrowedFd<'_>, _: Token, _: Interest, _: Mode) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn modify(
        &mut self,
        _: BorrowedFd<'_>,
        _: Token,
        _: Interest,
        _: Mode,
    ) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn delete(&mut self, _: BorrowedFd<'_>) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn forget(&mut self, _: BorrowedFd<'_>) {
        match self.0 {}
    }

    pub(crate) fn wait(&mut self, _: &mut Events, _: Option<Duration>) -> Result<usize> {
        match self.0 {}
    }
}

impl AsFd for Portable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use crate::{Backend, Poller};

    #[test]
    fn is_a_backend_that_was_not_built_neither_offered_nor_made() {
        assert!(!Backend::available().contains(&Backend::Portable));
        assert!("portable".parse::<Backend>().is_err());
        let error = Poller::new(Backend::Portable).unwrap_err();
        assert_eq!(error.to_string(), "this build has no portable");
    }
}
