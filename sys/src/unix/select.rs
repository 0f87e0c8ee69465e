//! select, the granddaddy: 4.2BSD had it in 1983, and every system since.
//!
//! Three sets of bits go in, one bit for each descriptor, and come back with only those left that
//! are ready. The sets are of a fixed size, so a descriptor of 1,024 and above does not fit.
//!
//! Source: select(2), pselect(2).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::table::{Table, check, failed};
use super::timeout::{keep_waiting, timespec};
use crate::{Errno, Event, Events, Interest, Mode, Result, SystemError, Token};

/// The first descriptor number that a set cannot hold: `FD_SETSIZE`.
pub const DESCRIPTORS: usize = libc::FD_SETSIZE;

/// Sets of descriptors for pselect(2). See the [contract](crate#the-backend-contract).
///
/// It has no mode but [`Mode::LEVEL`]. It cannot tell a hang-up or an error from ordinary
/// readiness: it reports them as ready for the interest that is held. A descriptor that is closed
/// while it is watched, against the contract, is reported once as an error if its number is free
/// when the next wait begins; then it is watched no more.
pub struct Select {
    readable: Set,
    writable: Set,
    watched: Table<(Token, Interest)>,
    /// One more than the largest descriptor that is watched.
    end: RawFd,
    /// Where the next wait starts to look, so that those beyond the last one's room come first.
    start: RawFd,
}

/// An `fd_set`.
#[derive(Clone, Copy)]
struct Set(libc::fd_set);

impl Set {
    fn new() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` has room for one set.
        unsafe { libc::FD_ZERO(set.as_mut_ptr()) };
        // SAFETY: FD_ZERO has filled it.
        Self(unsafe { set.assume_init() })
    }

    /// `fd` is below `FD_SETSIZE`: [`Select::add`] lets no other in.
    fn put(&mut self, fd: RawFd, inside: bool) {
        if inside {
            // SAFETY: `fd` is below `FD_SETSIZE`, so its bit is in the set.
            unsafe { libc::FD_SET(fd, &raw mut self.0) };
        } else {
            // SAFETY: as above.
            unsafe { libc::FD_CLR(fd, &raw mut self.0) };
        }
    }

    fn has(&self, fd: RawFd) -> bool {
        // SAFETY: `fd` is below `FD_SETSIZE`, so its bit is in the set.
        unsafe { libc::FD_ISSET(fd, &raw const self.0) }
    }
}

impl Select {
    /// Empty sets; it owns no descriptor.
    ///
    /// # Errors
    ///
    /// None; it returns what the other backends' functions return.
    pub fn new() -> Result<Self> {
        Ok(Self {
            readable: Set::new(),
            writable: Set::new(),
            watched: Table::new(),
            end: 0,
            start: 0,
        })
    }

    /// Starts watching `fd`.
    ///
    /// # Errors
    ///
    /// [`SystemError::DescriptorTooLarge`], `EEXIST` where it is watched already, `EINVAL` for an empty
    /// interest, [`SystemError::Unsupported`] for any mode but [`Mode::LEVEL`].
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        check("select add", fd, interest)?;
        mode.level_only("select")?;
        let descriptor = fd.as_raw_fd();
        if descriptor.unsigned_abs() as usize >= libc::FD_SETSIZE {
            return Err(SystemError::DescriptorTooLarge { descriptor, limit: libc::FD_SETSIZE });
        }
        self.watched.insert("select add", fd, (token, interest))?;
        self.end = self.end.max(descriptor + 1);
        self.put(descriptor, interest);
        Ok(())
    }

    /// Replaces token and interest.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`] for any mode but [`Mode::LEVEL`].
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        check("select modify", fd, interest)?;
        mode.level_only("select")?;
        *self.watched.find("select modify", fd)? = (token, interest);
        self.put(fd.as_raw_fd(), interest);
        Ok(())
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        if self.take_out(fd.as_raw_fd()) {
            Ok(())
        } else {
            Err(failed("select delete", Errno::ENOENT, fd))
        }
    }

    /// Stops watching `fd`, which is about to be closed.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        self.take_out(fd.as_raw_fd());
    }

    /// `int pselect(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, const struct
    /// timespec *timeout, const sigset_t *sigmask)`
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full; `ENOMEM`.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        let room = events.free();
        if room == 0 {
            return Err(SystemError::call("select", Errno::EINVAL, ""));
        }
        let (mut readable, mut writable) = (self.readable, self.writable);
        let waited = keep_waiting(timeout, |left| {
            // What an interrupted call leaves in the sets is undefined.
            (readable, writable) = (self.readable, self.writable);
            select(self.end, &mut readable, &mut writable, left)
        });
        let mut bits = match waited {
            Ok(bits) => bits,
            Err(Errno::EBADF) => return self.report_closed(events, room),
            Err(errno) => return Err(SystemError::call("select", errno, "")),
        };

        let start = if self.start < self.end { self.start } else { 0 };
        let mut count = 0;
        for fd in (start..self.end).chain(0..start) {
            if bits == 0 {
                break;
            }
            let (read, write) = (readable.has(fd), writable.has(fd));
            if !read && !write {
                continue;
            }
            if count == room {
                self.start = fd;
                break;
            }
            bits = bits.saturating_sub(usize::from(read) + usize::from(write));
            if let Some((token, _)) = self.watched.get_mut(fd) {
                let flags = if read { Event::READABLE } else { 0 }
                    | if write { Event::WRITABLE } else { 0 };
                events.push(Event::new(*token, flags));
                count += 1;
            }
        }
        Ok(count)
    }

    /// Finds which descriptor was closed while it was watched, for select does not say.
    #[cold]
    fn report_closed(&mut self, events: &mut Events, room: usize) -> Result<usize> {
        let mut count = 0;
        for fd in 0..self.end {
            let Some((token, _)) = self.watched.get_mut(fd) else { continue };
            // int fcntl(int fd, int cmd, ... /* arg */ )
            // SAFETY: takes numbers only.
            if count < room && unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                events.push(Event::new(*token, Event::ERROR));
                count += 1;
                self.take_out(fd);
            }
        }
        if count == 0 { Err(SystemError::call("select", Errno::EBADF, "")) } else { Ok(count) }
    }

    fn put(&mut self, fd: RawFd, interest: Interest) {
        self.readable.put(fd, interest.is_readable());
        self.writable.put(fd, interest.is_writable());
    }

    /// Says whether it was there.
    fn take_out(&mut self, fd: RawFd) -> bool {
        if self.watched.remove(fd).is_none() {
            return false;
        }
        self.put(fd, Interest::NONE);
        while self.end > 0 && self.watched.get_mut(self.end - 1).is_none() {
            self.end -= 1;
        }
        true
    }
}

impl std::fmt::Debug for Select {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Select").field("end", &self.end).finish_non_exhaustive()
    }
}

/// How many bits are left in both sets.
fn select(
    end: RawFd,
    readable: &mut Set,
    writable: &mut Set,
    timeout: Option<Duration>,
) -> Result<usize, Errno> {
    // macOS refuses more than 100,000,000 seconds.
    let spec = timeout.map(|left| timespec(left, 100_000_000));
    // SAFETY: all sets hold `end` bits, `spec` outlives the call, and a null signal mask leaves the
    // mask as it is.
    let bits = unsafe {
        libc::pselect(
            end,
            &raw mut readable.0,
            &raw mut writable.0,
            ptr::null_mut(),
            spec.as_ref().map_or(ptr::null(), ptr::from_ref),
            ptr::null(),
        )
    };
    usize::try_from(bits).map_err(|_| Errno::last())
}
