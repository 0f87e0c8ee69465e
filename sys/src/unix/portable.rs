//! Whatever the crate `polling` finds: epoll, kqueue, event ports or poll.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use polling::PollMode;

use super::table::{Table, check, failed};
use super::timeout::keep_waiting;
use crate::{Errno, Event, Events, Interest, Mode, Result, SystemError, Token};

/// Whether this build has it.
pub(crate) const IS_BUILT: bool = true;

/// A poller of the crate `polling`. See the [contract](crate#the-backend-contract).
///
/// It has [`Mode::ONE_SHOT`] everywhere and [`Mode::EDGE`] where the system has it.
#[derive(Debug)]
pub struct Portable {
    poller: polling::Poller,
    ready: polling::Events,
    /// What is watched. A descriptor is its own key to `polling`: a token may have more bits than a
    /// key, and one key is reserved.
    watched: Table<Watched>,
    /// Whether the system has level-triggered mode. Event ports (illumos) are one-shot only.
    has_level: bool,
    /// Where it has not: what was reported and must be armed again before the next wait.
    disarmed: Vec<RawFd>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    token: Token,
    interest: Interest,
    mode: Mode,
}

impl Portable {
    /// A new poller of whatever kind the system has.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self> {
        let poller = polling::Poller::new()
            .map_err(|error| SystemError::call("polling new", errno(&error), ""))?;
        let has_level = poller.supports_level();
        Ok(Self {
            poller,
            ready: polling::Events::with_capacity(NonZeroUsize::MIN),
            watched: Table::new(),
            has_level,
            disarmed: Vec::new(),
        })
    }

    /// Starts watching `fd`.
    ///
    /// # Errors
    ///
    /// `EEXIST` where it is watched already, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`] for [`Mode::EXCLUSIVE`].
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        const CALL: &str = "polling add";
        check(CALL, fd, interest)?;
        let wanted = self.mode(mode)?;
        self.watched.insert(CALL, fd, Watched { token, interest, mode })?;
        // SAFETY: the descriptor is open, and its watcher deletes or forgets it before it is
        // closed, as the contract says; a breach makes events stale, and no memory unsafe.
        let added =
            unsafe { self.poller.add_with_mode(fd.as_raw_fd(), event(fd, interest), wanted) };
        added.map_err(|error| {
            self.watched.remove(fd.as_raw_fd());
            failed(CALL, errno(&error), fd)
        })
    }

    /// Replaces token, interest and mode, and arms a one-shot again.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`] for [`Mode::EXCLUSIVE`].
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        const CALL: &str = "polling modify";
        check(CALL, fd, interest)?;
        let wanted = self.mode(mode)?;
        let watched = self.watched.find(CALL, fd)?;
        self.poller
            .modify_with_mode(fd, event(fd, interest), wanted)
            .map_err(|error| failed(CALL, errno(&error), fd))?;
        *watched = Watched { token, interest, mode };
        Ok(())
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        const CALL: &str = "polling delete";
        self.watched.find(CALL, fd)?;
        self.watched.remove(fd.as_raw_fd());
        self.poller.delete(fd).map_err(|error| failed(CALL, errno(&error), fd))
    }

    /// Stops watching `fd`, which is about to be closed.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        if self.watched.remove(fd.as_raw_fd()).is_some() {
            // The descriptor is watched and open, so this does not fail; and the close that
            // follows would make up for it.
            let _ = self.poller.delete(fd);
        }
    }

    /// Waits as the contract says.
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        let Some(room) = NonZeroUsize::new(events.free()) else {
            return Err(SystemError::call("polling wait", Errno::EINVAL, ""));
        };
        if self.ready.capacity() != room {
            self.ready = polling::Events::with_capacity(room);
        }
        self.arm()?;
        keep_waiting(timeout, |left| self.wait_once(events, left))
            .map_err(|errno| SystemError::call("polling wait", errno, ""))
    }

    fn wait_once(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<usize, Errno> {
        self.ready.clear();
        self.poller.wait(&mut self.ready, timeout).map_err(|error| errno(&error))?;
        let mut count = 0;
        for ready in self.ready.iter() {
            let Ok(fd) = RawFd::try_from(ready.key) else { continue };
            let Some(watched) = self.watched.get_mut(fd) else { continue };
            if !self.has_level && watched.mode == Mode::LEVEL {
                self.disarmed.push(fd);
            }
            events.push(Event::new(watched.token, flags(&ready)));
            count += 1;
        }
        Ok(count)
    }

    /// Arms again what was level-triggered, where the system disarms all that it reports.
    fn arm(&mut self) -> Result<()> {
        for fd in self.disarmed.drain(..) {
            let Some(watched) = self.watched.get_mut(fd) else { continue };
            // SAFETY: it is watched, so by the contract it is open.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            self.poller
                .modify_with_mode(fd, event(fd, watched.interest), PollMode::Oneshot)
                .map_err(|error| failed("polling modify", errno(&error), fd))?;
        }
        Ok(())
    }

    fn mode(&self, mode: Mode) -> Result<PollMode> {
        let unsupported = |what| Err(SystemError::Unsupported { what, by: "portable" });
        if mode.is_exclusive() {
            return unsupported("exclusive mode");
        }
        if mode.is_edge() && !self.poller.supports_edge() {
            return unsupported("edge-triggered mode");
        }
        Ok(match (mode.is_edge(), mode.is_one_shot()) {
            (false, false) if self.has_level => PollMode::Level,
            (false, _) => PollMode::Oneshot,
            (true, false) => PollMode::Edge,
            (true, true) => PollMode::EdgeOneshot,
        })
    }
}

impl AsFd for Portable {
    /// Readable while there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

fn event(fd: BorrowedFd<'_>, interest: Interest) -> polling::Event {
    let key = fd.as_raw_fd().unsigned_abs() as usize;
    polling::Event::new(key, interest.is_readable(), interest.is_writable())
}

fn flags(event: &polling::Event) -> u8 {
    let flag = |is, flag| if is { flag } else { 0 };
    flag(event.readable, Event::READABLE)
        | flag(event.writable, Event::WRITABLE)
        | flag(event.is_interrupt(), Event::HANGUP)
        | flag(event.is_err() == Some(true), Event::ERROR)
}

/// `polling` hands on what the system said; an error of its own making has no number.
fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn now(portable: &mut Portable) -> Vec<Event> {
        let mut events = Events::with_capacity(8);
        portable.wait(&mut events, Some(Duration::ZERO)).unwrap();
        events.as_slice().to_vec()
    }

    /// As on illumos.
    #[test]
    fn does_a_level_event_come_back_where_the_system_is_one_shot() {
        let mut portable = Portable { has_level: false, ..Portable::new().unwrap() };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        portable.add(ours.as_fd(), Token(1), Interest::READABLE, Mode::LEVEL).unwrap();
        theirs.write_all(b"x").unwrap();
        for _ in 0..3 {
            assert_eq!(now(&mut portable).len(), 1);
        }
        portable.modify(ours.as_fd(), Token(2), Interest::BOTH, Mode::LEVEL).unwrap();
        for _ in 0..3 {
            let events = now(&mut portable);
            assert_eq!(events.len(), 1);
            assert!(events[0].token() == Token(2) && events[0].is_writable());
        }
        portable.modify(ours.as_fd(), Token(3), Interest::BOTH, Mode::ONE_SHOT).unwrap();
        assert_eq!(now(&mut portable).len(), 1);
        assert_eq!(now(&mut portable), []);
        portable.modify(ours.as_fd(), Token(4), Interest::BOTH, Mode::LEVEL).unwrap();
        assert_eq!(now(&mut portable).len(), 1);
        portable.delete(ours.as_fd()).unwrap();
        assert_eq!(now(&mut portable), []);
    }
}
