//! [`Descriptor`], [`BorrowedFd`], [`AsFd`]: as the standard library's, with numbers of a simulated
//! system.

use std::io;
use std::marker::PhantomData;

use super::kernel::{Kernel, Object};
use super::threads::{call, call_if_there};

/// An open descriptor of the simulated system and the duty to close it.
#[derive(Debug)]
pub struct Descriptor(i32);

/// A descriptor that is open for `'fd` at least.
#[derive(Clone, Copy, Debug)]
pub struct BorrowedFd<'fd>(i32, PhantomData<&'fd Descriptor>);

/// Whatever is a descriptor.
pub trait AsFd {
    /// The descriptor.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

impl Descriptor {
    pub(super) fn new(number: i32) -> Self {
        Self(number)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        call_if_there(|kernel| {
            kernel.enter_at(call_number::CLOSE, self.0);
            kernel.close(self.0);
        });
    }
}

impl BorrowedFd<'_> {
    pub(super) const fn number(self) -> i32 {
        self.0
    }

    /// A second descriptor for the same object: a stream, a listener or signals.
    ///
    /// # Errors
    ///
    /// `EMFILE` and its like, `EINVAL` for anything else.
    pub fn try_clone_to_owned(&self) -> io::Result<Descriptor> {
        let clone = |kernel: &mut Kernel| {
            let object = kernel.object(self.0)?.duplicate()?;
            kernel.has_duplicates |= !matches!(object, Object::Signals);
            kernel.open(object)
        };
        match call(clone) {
            Ok(number) => Ok(Descriptor(number)),
            Err(errno) => Err(io::Error::from_raw_os_error(errno.raw())),
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        BorrowedFd(self.0, PhantomData)
    }
}

impl AsFd for BorrowedFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        BorrowedFd(self.0, PhantomData)
    }
}

impl<T: AsFd> AsFd for &T {
    fn as_fd(&self) -> BorrowedFd<'_> {
        T::as_fd(self)
    }
}

/// What a call is in a trace.
pub(super) mod call_number {
    pub(in crate::world) const ACCEPT: u64 = 1;
    pub(in crate::world) const BIND: u64 = 2;
    pub(in crate::world) const CLOSE: u64 = 3;
    pub(in crate::world) const CONNECT: u64 = 4;
    pub(in crate::world) const RECV: u64 = 5;
    pub(in crate::world) const SEND: u64 = 6;
    pub(in crate::world) const SHUTDOWN: u64 = 7;
    pub(in crate::world) const SOCKET_ERROR: u64 = 8;
    pub(in crate::world) const WATCH: u64 = 9;
    pub(in crate::world) const WAIT: u64 = 10;
    pub(in crate::world) const WAKE: u64 = 11;
    pub(in crate::world) const SPAWN: u64 = 12;
    pub(in crate::world) const OPEN: u64 = 13;
    pub(in crate::world) const CLOCK: u64 = 14;
    pub(in crate::world) const NAME: u64 = 15;
    pub(in crate::world) const REMOTE: u64 = 16;
    pub(in crate::world) const CHANNEL: u64 = 17;
}
