//! [`Table`]: what a backend keeps for each watched descriptor.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use crate::{Errno, Interest, Result, SystemError};

/// A vector indexed by descriptor: the system gives out the smallest free number, so it stays dense.
#[derive(Debug)]
pub(crate) struct Table<T>(Vec<Option<T>>);

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// `EEXIST` where the descriptor is there already.
    pub(crate) fn insert(
        &mut self,
        call: &'static str,
        fd: BorrowedFd<'_>,
        value: T,
    ) -> Result<()> {
        let index = index(fd.as_raw_fd());
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        match &mut self.0[index] {
            Some(_) => Err(failed(call, Errno::EEXIST, fd)),
            free => {
                *free = Some(value);
                Ok(())
            }
        }
    }

    /// `ENOENT` where the descriptor is not there.
    pub(crate) fn find(&mut self, call: &'static str, fd: BorrowedFd<'_>) -> Result<&mut T> {
        self.get_mut(fd.as_raw_fd()).ok_or_else(|| failed(call, Errno::ENOENT, fd))
    }

    pub(crate) fn get_mut(&mut self, fd: RawFd) -> Option<&mut T> {
        self.0.get_mut(index(fd))?.as_mut()
    }

    pub(crate) fn remove(&mut self, fd: RawFd) -> Option<T> {
        self.0.get_mut(index(fd))?.take()
    }
}

/// A descriptor is never negative.
fn index(fd: RawFd) -> usize {
    fd.unsigned_abs() as usize
}

/// The error of a backend's function that was applied to a descriptor.
#[cold]
pub(crate) fn failed(call: &'static str, errno: Errno, fd: BorrowedFd<'_>) -> SystemError {
    SystemError::call(call, errno, format_args!("descriptor {}", fd.as_raw_fd()))
}

/// Refuses an empty interest.
pub(crate) fn check(call: &'static str, fd: BorrowedFd<'_>, interest: Interest) -> Result<()> {
    if interest.is_empty() { Err(failed(call, Errno::EINVAL, fd)) } else { Ok(()) }
}
