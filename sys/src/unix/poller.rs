//! [`Poller`]: one of the backends, chosen at run time.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

#[cfg(has_epoll)]
use super::epoll::Epoll;
#[cfg(has_kqueue)]
use super::kqueue::Kqueue;
use super::poll::Poll;
use super::portable::Portable;
use super::select::Select;
use super::table::failed;
use crate::{Backend, Descriptor, Errno, Events, Interest, Mode, Result, SystemError, Token};

/// A poller over any backend that the system has. See the
/// [contract](crate#the-backend-contract).
///
/// - **Say what to watch.** [`add`](Self::add) a descriptor with a token of yours, then
///   [`modify`](Self::modify) what it is watched for, then [`delete`](Self::delete) it.
///   [`forget`](Self::forget) is `delete` for one that is about to be closed, and cannot fail.
/// - **Wait.** [`wait`](Self::wait) fills a list of events, each with its token.
/// - **Live inside another loop.** [`as_fd`](Self::as_fd) and [`descriptor`](Self::descriptor), where
///   the backend has a descriptor.
///
/// The invariant that the caller keeps: a descriptor stays open from `add` until `delete` or
/// `forget`, since the kernel knows the open file and not the number. [`Selector`] in the crate
/// `myriapod` keeps it, by owning what it watches.
///
/// [`Selector`]: https://docs.rs/myriapod/latest/myriapod/struct.Selector.html
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsFd;
/// use myriapod_sys::{Backend, Events, Interest, Mode, Poller, Token};
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let mut poller = Poller::new(Backend::native())?;
/// poller.add(reader.as_fd(), Token(7), Interest::READABLE, Mode::LEVEL)?;
/// writer.write_all(b"x")?;
/// let mut events = Events::with_capacity(64);
/// poller.wait(&mut events, None)?;
/// assert_eq!(events.as_slice()[0].token(), Token(7));
/// poller.forget(reader.as_fd());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Poller(pub(crate) Inner);

#[derive(Debug)]
pub(crate) enum Inner {
    #[cfg(has_epoll)]
    Epoll(Epoll),
    #[cfg(has_kqueue)]
    Kqueue(Kqueue),
    Poll(Poll),
    Select(Box<Select>),
    Portable(Portable),
}

/// Calls the same function of whichever backend it is.
macro_rules! dispatch {
    ($poller:expr, $backend:ident => $call:expr) => {
        match $poller {
            #[cfg(has_epoll)]
            Inner::Epoll($backend) => $call,
            #[cfg(has_kqueue)]
            Inner::Kqueue($backend) => $call,
            Inner::Poll($backend) => $call,
            Inner::Select($backend) => $call,
            Inner::Portable($backend) => $call,
        }
    };
}

impl Poller {
    /// A new poller over `backend`.
    ///
    /// # Errors
    ///
    /// [`SystemError::Unsupported`](crate::SystemError::Unsupported) where this system does not have it; `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(backend: Backend) -> Result<Self> {
        Ok(Self(match backend {
            #[cfg(has_epoll)]
            Backend::Epoll => Inner::Epoll(Epoll::new()?),
            #[cfg(has_kqueue)]
            Backend::Kqueue => Inner::Kqueue(Kqueue::new()?),
            Backend::Poll => Inner::Poll(Poll::new()?),
            Backend::Select => Inner::Select(Box::new(Select::new()?)),
            Backend::Portable => Inner::Portable(Portable::new()?),
            #[cfg(not(all(has_epoll, has_kqueue)))]
            absent => {
                return Err(crate::SystemError::Unsupported {
                    what: absent.name(),
                    by: "this system",
                });
            }
        }))
    }

    /// The backend it was made of.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        match &self.0 {
            #[cfg(has_epoll)]
            Inner::Epoll(_) => Backend::Epoll,
            #[cfg(has_kqueue)]
            Inner::Kqueue(_) => Backend::Kqueue,
            Inner::Poll(_) => Backend::Poll,
            Inner::Select(_) => Backend::Select,
            Inner::Portable(_) => Backend::Portable,
        }
    }

    /// A descriptor that is readable while there are events, so that the poller can live inside
    /// another loop. Poll and select have none.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            #[cfg(has_epoll)]
            Inner::Epoll(epoll) => Some(epoll.as_fd()),
            #[cfg(has_kqueue)]
            Inner::Kqueue(kqueue) => Some(kqueue.as_fd()),
            Inner::Poll(_) | Inner::Select(_) => None,
            Inner::Portable(portable) => Some(portable.as_fd()),
        }
    }

    /// A duplicate of [`as_fd`](Self::as_fd), for those who want to own what they watch.
    ///
    /// # Errors
    ///
    /// [`SystemError::Unsupported`](crate::SystemError::Unsupported) from poll and select, `EMFILE`.
    pub fn descriptor(&self) -> Result<Descriptor> {
        let (what, by) = ("descriptor to be watched by", self.backend().name());
        let fd = self.as_fd().ok_or(SystemError::Unsupported { what, by })?;
        fd.try_clone_to_owned().map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            failed("fcntl F_DUPFD_CLOEXEC", errno, fd)
        })
    }

    /// Starts watching `fd`, whose events will carry `token`.
    ///
    /// # Errors
    ///
    /// `EEXIST` where it is watched already, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`](crate::SystemError::Unsupported) for a mode that the backend does not have,
    /// [`SystemError::DescriptorTooLarge`](crate::SystemError::DescriptorTooLarge) from select.
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        dispatch!(&mut self.0, backend => backend.add(fd, token, interest, mode))
    }

    /// Replaces token, interest and mode, and arms a one-shot again.
    ///
    /// # Errors
    ///
    /// `ENOENT` where `fd` is not watched, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`](crate::SystemError::Unsupported) for a mode that the backend does not have.
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        dispatch!(&mut self.0, backend => backend.modify(fd, token, interest, mode))
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        dispatch!(&mut self.0, backend => backend.delete(fd))
    }

    /// Stops watching `fd`, which is about to be closed: call it before each close of a watched
    /// descriptor.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        dispatch!(&mut self.0, backend => backend.forget(fd));
    }

    /// Waits until something is ready or `timeout` is over, appends at most `events`'
    /// [free](Events::free) room of events, and returns how many.
    ///
    /// `None` waits for ever, zero does not block, anything else is rounded up.
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full.
    #[inline]
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        dispatch!(&mut self.0, backend => backend.wait(events, timeout))
    }
}

/// A loop may be built on one thread and run on another, and a waker used from many.
const _: fn() = || {
    const fn is_send<T: Send>() {}
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send::<Poller>();
    is_send_and_sync::<crate::Waker>();
};
