//! kqueue: the native backend of macOS and the BSDs.
//!
//! The kernel watches *filters*, and a descriptor has two of them, for reading and for writing;
//! here they are merged again, so that a descriptor has one event for a wait.
//!
//! Under `--cfg myriapod_libkqueue` this file compiles on Linux too, over libkqueue, which is an
//! independent kqueue that the contract's tests can run against.
//!
//! Source: kqueue(2) of FreeBSD, NetBSD and macOS.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::table::{Table, check, failed};
use super::timeout::{keep_waiting, timespec};
use crate::{Errno, Event, Events, Interest, Mode, Result, SystemError, Token};

#[cfg(myriapod_libkqueue)]
use self::libkqueue as sys;
#[cfg(not(myriapod_libkqueue))]
use libc as sys;
use sys::{EV_ADD, EV_CLEAR, EV_DELETE, EV_DISABLE, EV_DISPATCH, EV_ENABLE, EV_EOF, EV_ERROR};
use sys::{EV_RECEIPT, EVFILT_READ, EVFILT_USER, EVFILT_WRITE, kevent as Kevent};

/// A kernel event queue. See the [contract](crate#the-backend-contract).
///
/// It has every mode but [`Mode::EXCLUSIVE`]. From reading alone it cannot tell a hang-up from a
/// half-close: both are [`Event::is_read_closed`].
#[derive(Debug)]
pub struct Kqueue {
    /// Shared with the wakers, for a duplicate of the descriptor is no queue to libkqueue.
    queue: Arc<OwnedFd>,
    /// What the kernel fills in; as long as the largest wait so far asked for.
    ready: Ready,
    watched: Table<Watched>,
    /// The descriptors that the current wait has something of.
    met: Vec<RawFd>,
    /// Pipes that had lost their reader before their write filter was added, see [`Self::apply`].
    broken: Vec<RawFd>,
    /// The tokens of user events; their identifiers are the places.
    users: Vec<Option<Token>>,
}

#[derive(Debug)]
struct Ready(Vec<Kevent>);

// SAFETY: what keeps the structure from being Send is a pointer that is always null.
unsafe impl Send for Ready {}
// SAFETY: as above.
unsafe impl Sync for Ready {}

#[derive(Debug)]
struct Watched {
    token: Token,
    interest: Interest,
    mode: Mode,
    /// What the current wait has gathered; 0 between waits.
    flags: u8,
}

impl Kqueue {
    /// `int kqueue(void)`
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: takes nothing.
        let fd = unsafe { sys::kqueue() };
        if fd < 0 {
            return Err(SystemError::call("kqueue", Errno::last(), ""));
        }
        // SAFETY: the call has just created the descriptor, and nobody else knows it.
        let queue = unsafe { OwnedFd::from_raw_fd(fd) };
        // kqueue1, which does this in one step, is not everywhere.
        // SAFETY: takes numbers only.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(SystemError::call("fcntl", Errno::last(), "kqueue"));
        }
        Ok(Self {
            queue: Arc::new(queue),
            ready: Ready(Vec::new()),
            watched: Table::new(),
            met: Vec::new(),
            broken: Vec::new(),
            users: Vec::new(),
        })
    }

    /// `int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist, int
    /// nevents, const struct timespec *timeout)`
    ///
    /// Starts watching `fd`.
    ///
    /// # Errors
    ///
    /// `EEXIST` where it is watched already, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`] for [`Mode::EXCLUSIVE`], `ENOMEM`.
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        const CALL: &str = "kqueue add";
        check(CALL, fd, interest)?;
        refuse_exclusive(mode)?;
        self.watched.insert(CALL, fd, Watched { token, interest, mode, flags: 0 })?;
        self.apply(fd, Interest::NONE, interest, mode).map_err(|errno| {
            self.remove(fd);
            failed(CALL, errno, fd)
        })
    }

    /// `int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist, int
    /// nevents, const struct timespec *timeout)`
    ///
    /// Replaces token, interest and mode, and arms a one-shot again.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`] for [`Mode::EXCLUSIVE`], `ENOMEM`.
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        const CALL: &str = "kqueue modify";
        check(CALL, fd, interest)?;
        refuse_exclusive(mode)?;
        let watched = self.watched.find(CALL, fd)?;
        let old = std::mem::replace(watched, Watched { token, interest, mode, flags: 0 });
        // A filter keeps the mode that it was first added with, and arms and looks again when it is
        // added anew. Level-triggered it need not.
        let kept = if old.mode == mode && mode == Mode::LEVEL {
            old.interest & interest
        } else {
            Interest::NONE
        };
        if !kept.is_writable() {
            self.broken.retain(|broken| *broken != fd.as_raw_fd());
        }
        let (gone, new) = (old.interest.without(kept), interest.without(kept));
        self.apply(fd, gone, new, mode).map_err(|errno| failed(CALL, errno, fd))
    }

    /// `int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist, int
    /// nevents, const struct timespec *timeout)`
    ///
    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        if self.remove(fd) { Ok(()) } else { Err(failed("kqueue delete", Errno::ENOENT, fd)) }
    }

    /// Announces that `fd` is about to be closed. The kernel forgets it by itself; libkqueue does
    /// not.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        if cfg!(myriapod_libkqueue) {
            self.remove(fd);
        } else if self.watched.remove(fd.as_raw_fd()).is_some() {
            self.broken.retain(|broken| *broken != fd.as_raw_fd());
        }
    }

    /// `int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist,
    /// int nevents, const struct timespec *timeout)`
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        let room = events.free();
        if room == 0 {
            return Err(SystemError::call("kevent", Errno::EINVAL, ""));
        }
        if self.ready.0.len() < room {
            self.ready.0.resize(room, event(0, EVFILT_READ, 0));
        }
        let timeout = if self.broken.is_empty() { timeout } else { Some(Duration::ZERO) };
        keep_waiting(timeout, |left| self.wait_once(events, left))
            .map_err(|errno| SystemError::call("kevent", errno, ""))
    }

    fn wait_once(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<usize, Errno> {
        let room = events.free();
        let ready = call(&self.queue, &[], &mut self.ready.0[..room], timeout)?;
        let before = events.free();
        for ready in &self.ready.0[..ready] {
            if ready.filter == EVFILT_USER {
                if let Some(Some(token)) = self.users.get(ready.ident) {
                    events.push(Event::new(*token, Event::READABLE));
                }
            } else if let Ok(fd) = RawFd::try_from(ready.ident) {
                match self.watched.get_mut(fd) {
                    Some(watched) => {
                        if watched.flags == 0 {
                            self.met.push(fd);
                        }
                        watched.flags |= flags(ready);
                    }
                    // Forgotten but not closed: it must not end every wait.
                    None => {
                        change(&self.queue, &mut [event(ready.ident, ready.filter, EV_DELETE)])?;
                    }
                }
            }
        }
        self.broken.retain(|fd| {
            let Some(watched) = self.watched.get_mut(*fd) else { return false };
            if watched.flags == 0 {
                if self.met.len() == events.free() {
                    return true;
                }
                self.met.push(*fd);
            }
            watched.flags |= Event::HANGUP;
            watched.mode == Mode::LEVEL
        });
        for fd in self.met.drain(..) {
            let Some(watched) = self.watched.get_mut(fd) else { continue };
            let flags = std::mem::take(&mut watched.flags);
            events.push(Event::new(watched.token, flags));
            // One shot is one event: it disarms the filter that had nothing to say as well.
            if watched.mode.is_one_shot() && watched.interest == Interest::BOTH {
                let fd = fd.unsigned_abs() as usize;
                if flags & Event::WRITABLE == 0 {
                    change(&self.queue, &mut [event(fd, EVFILT_WRITE, EV_DISABLE)])?;
                } else if flags & Event::READABLE == 0 {
                    change(&self.queue, &mut [event(fd, EVFILT_READ, EV_DISABLE)])?;
                }
            }
        }
        Ok(before - events.free())
    }

    /// Adds the filter of a waker.
    pub(crate) fn add_user(&mut self, token: Token) -> Result<User> {
        let free = self.users.iter().position(Option::is_none);
        let ident = free.unwrap_or(self.users.len());
        change(&self.queue, &mut [event(ident, EVFILT_USER, EV_ADD | EV_CLEAR)])
            .map_err(|errno| SystemError::call("kevent", errno, "waker"))?;
        match self.users.get_mut(ident) {
            Some(user) => *user = Some(token),
            None => self.users.push(Some(token)),
        }
        Ok(User { queue: Arc::clone(&self.queue), ident })
    }

    /// Takes the filter of a waker out again.
    pub(crate) fn delete_user(&mut self, user: &User) -> Result<()> {
        match self.users.get_mut(user.ident) {
            Some(token) if Arc::ptr_eq(&self.queue, &user.queue) => *token = None,
            _ => return Err(SystemError::call("close waker", Errno::ENOENT, "")),
        }
        change(&self.queue, &mut [event(user.ident, EVFILT_USER, EV_DELETE)])
            .map_err(|errno| SystemError::call("kevent", errno, "waker"))?;
        Ok(())
    }

    /// Says whether it was there.
    fn remove(&mut self, fd: BorrowedFd<'_>) -> bool {
        let Some(watched) = self.watched.remove(fd.as_raw_fd()) else { return false };
        self.broken.retain(|broken| *broken != fd.as_raw_fd());
        // It may be gone already: the kernel drops the filters of what is closed.
        let _ = self.apply(fd, watched.interest, Interest::NONE, Mode::LEVEL);
        true
    }

    /// Deletes the filters in `gone`, then adds those in `new`, in one call.
    fn apply(
        &mut self,
        fd: BorrowedFd<'_>,
        gone: Interest,
        new: Interest,
        mode: Mode,
    ) -> Result<(), Errno> {
        let mut flags = EV_ADD | EV_ENABLE;
        if mode.is_edge() {
            flags |= EV_CLEAR;
        }
        if mode.is_one_shot() {
            flags |= EV_DISPATCH;
        }
        let ident = fd.as_raw_fd().unsigned_abs() as usize;
        let mut changes = [event(ident, EVFILT_READ, 0); 4];
        let mut count = 0;
        let gone = filters(gone).map(|filter| event(ident, filter, EV_DELETE));
        let new = filters(new).map(|filter| event(ident, filter, flags));
        for (place, change) in changes.iter_mut().zip(gone.chain(new)) {
            *place = change;
            count += 1;
        }
        if change(&self.queue, &mut changes[..count])? == Pipe::Broken {
            self.broken.push(fd.as_raw_fd());
        }
        Ok(())
    }
}

impl AsFd for Kqueue {
    /// Readable while there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// A user event: what a waker of a kqueue is made of.
#[derive(Debug)]
pub(crate) struct User {
    queue: Arc<OwnedFd>,
    ident: usize,
}

impl User {
    /// Makes the queue report it, from any thread.
    pub(crate) fn trigger(&self) -> Result<()> {
        let mut trigger = event(self.ident, EVFILT_USER, 0);
        trigger.fflags = sys::NOTE_TRIGGER;
        change(&self.queue, &mut [trigger])
            .map_err(|errno| SystemError::call("kevent", errno, "waker"))?;
        Ok(())
    }
}

fn refuse_exclusive(mode: Mode) -> Result<()> {
    if mode.is_exclusive() {
        return Err(SystemError::Unsupported { what: "exclusive mode", by: "kqueue" });
    }
    Ok(())
}

fn filters(interest: Interest) -> impl Iterator<Item = Filter> {
    let read = interest.is_readable().then_some(EVFILT_READ);
    let write = interest.is_writable().then_some(EVFILT_WRITE);
    read.into_iter().chain(write)
}

fn flags(event: &Kevent) -> u8 {
    let ended = event.flags & EV_EOF != 0;
    let mut flags = match event.filter {
        EVFILT_WRITE if ended => Event::WRITABLE | Event::HANGUP,
        EVFILT_WRITE => Event::WRITABLE,
        _ if ended => Event::READABLE | Event::READ_CLOSED,
        _ => Event::READABLE,
    };
    // Behind an end, `fflags` is the socket's error.
    if event.flags & EV_ERROR != 0 || ended && event.fflags != 0 {
        flags |= Event::ERROR;
    }
    flags
}

/// What the `EV_SET` macro makes.
fn event(ident: usize, filter: Filter, flags: Flags) -> Kevent {
    // SAFETY: the structure is integers and a pointer, all of which may be zero.
    let mut event: Kevent = unsafe { std::mem::zeroed() };
    event.ident = ident;
    event.filter = filter;
    event.flags = flags;
    event
}

/// What came of adding a filter.
#[derive(PartialEq, Eq)]
enum Pipe {
    Whole,
    /// FreeBSD does not watch a pipe that nobody will read: its hang-up is ours to report.
    Broken,
}

/// Applies up to four changes, in one call.
fn change(queue: &OwnedFd, changes: &mut [Kevent]) -> Result<Pipe, Errno> {
    let mut pipe = Pipe::Whole;
    if changes.is_empty() {
        return Ok(pipe);
    }
    for change in &mut *changes {
        // With it the kernel answers with what came of each, rather than with pending events.
        change.flags |= EV_RECEIPT;
    }
    let mut receipts = [changes[0]; 4];
    let count = match call(queue, changes, &mut receipts[..changes.len()], Some(Duration::ZERO)) {
        // Changes are made before the call can be interrupted.
        Err(Errno::EINTR) => 0,
        count => count?,
    };
    for (change, receipt) in changes.iter().zip(&receipts[..count]) {
        if receipt.flags & EV_ERROR == 0 || receipt.data == 0 {
            continue;
        }
        match Errno::from_raw(i32::try_from(receipt.data).unwrap_or(libc::EINVAL)) {
            // What is to be deleted or disabled may be gone already.
            Errno::ENOENT if change.flags & (EV_DELETE | EV_DISABLE) != 0 => {}
            Errno::EPIPE if change.flags & EV_ADD != 0 => pipe = Pipe::Broken,
            errno => return Err(errno),
        }
    }
    Ok(pipe)
}

/// Applies changes and collects events: kevent(2).
fn call(
    queue: &OwnedFd,
    changes: &[Kevent],
    events: &mut [Kevent],
    timeout: Option<Duration>,
) -> Result<usize, Errno> {
    // macOS refuses more than 100,000,000 seconds.
    let spec = timeout.map(|left| timespec(left, 100_000_000));
    // SAFETY: both lists are as long as they say, and `spec` outlives the call.
    let count = unsafe {
        sys::kevent(
            queue.as_raw_fd(),
            changes.as_ptr(),
            Count::try_from(changes.len()).unwrap_or(Count::MAX),
            events.as_mut_ptr(),
            Count::try_from(events.len()).unwrap_or(Count::MAX),
            spec.as_ref().map_or(ptr::null(), ptr::from_ref),
        )
    };
    usize::try_from(count).map_err(|_| Errno::last())
}

#[cfg(not(target_os = "netbsd"))]
mod numbers {
    pub(super) type Filter = i16;
    pub(super) type Flags = u16;
    pub(super) type Count = libc::c_int;
}
#[cfg(target_os = "netbsd")]
mod numbers {
    pub(super) type Filter = u32;
    pub(super) type Flags = u32;
    pub(super) type Count = libc::size_t;
}
use numbers::{Count, Filter, Flags};

/// libkqueue, with the layout of FreeBSD before version 12.
#[cfg(myriapod_libkqueue)]
mod libkqueue {
    use libc::{c_int, c_void, timespec};

    #[derive(Clone, Copy, Debug)]
    #[repr(C)]
    pub(super) struct kevent {
        pub(super) ident: usize,
        pub(super) filter: i16,
        pub(super) flags: u16,
        pub(super) fflags: u32,
        pub(super) data: isize,
        pub(super) udata: *mut c_void,
    }

    #[link(name = "kqueue")]
    unsafe extern "C" {
        pub(super) fn kqueue() -> c_int;
        pub(super) fn kevent(
            kq: c_int,
            changelist: *const kevent,
            nchanges: c_int,
            eventlist: *mut kevent,
            nevents: c_int,
            timeout: *const timespec,
        ) -> c_int;
    }

    pub(super) const EVFILT_READ: i16 = -1;
    pub(super) const EVFILT_WRITE: i16 = -2;
    pub(super) const EVFILT_USER: i16 = -11;
    pub(super) const EV_ADD: u16 = 0x0001;
    pub(super) const EV_DELETE: u16 = 0x0002;
    pub(super) const EV_ENABLE: u16 = 0x0004;
    pub(super) const EV_DISABLE: u16 = 0x0008;
    pub(super) const EV_CLEAR: u16 = 0x0020;
    pub(super) const EV_RECEIPT: u16 = 0x0040;
    pub(super) const EV_DISPATCH: u16 = 0x0080;
    pub(super) const EV_ERROR: u16 = 0x4000;
    pub(super) const EV_EOF: u16 = 0x8000;
    pub(super) const NOTE_TRIGGER: u32 = 0x0100_0000;
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn now(kqueue: &mut Kqueue, room: usize) -> Vec<Event> {
        let mut events = Events::with_capacity(room);
        kqueue.wait(&mut events, Some(Duration::ZERO)).unwrap();
        events.as_slice().to_vec()
    }

    /// As after `EPIPE` from FreeBSD.
    #[test]
    fn is_a_pipe_that_the_kernel_does_not_watch_a_hang_up() {
        let mut kqueue = Kqueue::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        kqueue.add(ours.as_fd(), Token(1), Interest::READABLE, Mode::LEVEL).unwrap();
        kqueue.add(theirs.as_fd(), Token(2), Interest::WRITABLE, Mode::LEVEL).unwrap();
        kqueue.broken.push(ours.as_raw_fd());
        for _ in 0..3 {
            let events = now(&mut kqueue, 2);
            assert_eq!(events.len(), 2);
            let event = events.iter().find(|event| event.token() == Token(1));
            assert!(event.is_some_and(Event::is_hangup));
            assert_eq!(now(&mut kqueue, 1).len(), 1);
        }
        kqueue.modify(ours.as_fd(), Token(1), Interest::READABLE, Mode::EDGE).unwrap();
        assert_eq!(now(&mut kqueue, 2).len(), 1);
        kqueue.broken.push(ours.as_raw_fd());
        assert_eq!(now(&mut kqueue, 2).len(), 2);
        assert_eq!(now(&mut kqueue, 2).len(), 1);
        kqueue.broken.push(ours.as_raw_fd());
        kqueue.delete(ours.as_fd()).unwrap();
        assert_eq!(now(&mut kqueue, 2).len(), 1);
    }

    #[test]
    fn does_what_was_forgotten_but_not_closed_end_one_wait_at_most() {
        let mut kqueue = Kqueue::new().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        kqueue.add(ours.as_fd(), Token(1), Interest::WRITABLE, Mode::LEVEL).unwrap();
        // What `forget` does but under libkqueue.
        kqueue.watched.remove(ours.as_raw_fd());
        assert_eq!(now(&mut kqueue, 1), []);
        let mut ready = [event(0, EVFILT_READ, 0)];
        assert_eq!(call(&kqueue.queue, &[], &mut ready, Some(Duration::ZERO)), Ok(0));
    }
}
