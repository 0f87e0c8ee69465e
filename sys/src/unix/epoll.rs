//! epoll: the native backend of Linux.
//!
//! ```text
//! descriptor 7 ─┐                    ┌─ interest list ────────────┐
//!               ├─▶ open socket ◀────┤ (7, socket): IN, token 12  │
//! descriptor 9 ─┘        │           │ (8, socket): IN, token 13  │
//!   a duplicate          │           └────────────────────────────┘
//!                  bytes come        ┌─ ready list ───────────────┐
//!                        └──────────▶│ (7, socket)                │─▶ epoll_wait: IN, token 12
//!                                    └────────────────────────────┘
//! ```
//!
//! Level-triggered, an entry goes back to the ready list after each wait that reports it, and leaves it
//! when the socket has nothing more. Edge-triggered, it leaves with the report. The entry is of the
//! open *socket*: when 7 is closed and 9 is not, it stays, and nobody can delete it any more. That is
//! why [`Epoll::forget`] comes first.
//!
//! Source: epoll(7), `epoll_create1(2)`, `epoll_ctl(2)`, `epoll_pwait2(2)`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::table::{check, failed};
use super::timeout::{keep_waiting, millis};
use crate::{Errno, Event, Events, Interest, Mode, Result, SystemError, Token};

/// An epoll instance. See the [contract](crate#the-backend-contract).
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    /// What the kernel fills in; as long as the largest wait so far asked for.
    ready: Vec<libc::epoll_event>,
    /// Whether `epoll_pwait2` is there: Linux 5.11 and later, where no filter forbids it.
    has_pwait2: bool,
}

/// What `epoll_pwait2` takes: 64 bits each, also where `time_t` has 32.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Epoll {
    /// `int epoll_create1(int flags)`
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: takes a number only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(SystemError::call("epoll_create1", Errno::last(), ""));
        }
        // SAFETY: the call has just created the descriptor, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, ready: Vec::new(), has_pwait2: true })
    }

    /// `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` with `EPOLL_CTL_ADD`
    ///
    /// Starts watching `fd`.
    ///
    /// # Errors
    ///
    /// `EEXIST` where it is watched already, `EINVAL` for an empty interest or a mode that
    /// [`Mode::EXCLUSIVE`] does not go with, `EPERM` for a regular file, `ENOMEM`, `ENOSPC`.
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        self.control("epoll_ctl add", libc::EPOLL_CTL_ADD, fd, token, interest, mode)
    }

    /// `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` with `EPOLL_CTL_MOD`
    ///
    /// Replaces token, interest and mode, and arms a one-shot again.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched, `EINVAL` for an empty interest, and where
    /// [`Mode::EXCLUSIVE`] is asked for or was given with `add`.
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        self.control("epoll_ctl modify", libc::EPOLL_CTL_MOD, fd, token, interest, mode)
    }

    /// `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` with `EPOLL_CTL_DEL`
    ///
    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        // Linux before 2.6.9 wanted an event here too.
        let mut unused = libc::epoll_event { events: 0, u64: 0 };
        self.apply("epoll_ctl delete", libc::EPOLL_CTL_DEL, fd, &mut unused)
    }

    /// Stops watching `fd`, which is about to be closed. The kernel forgets it by itself only with
    /// the last of its duplicates, and one may live on, here or in a forked process: its events
    /// would go on, and nobody could end them.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        // It fails where it is not watched, and then there is nothing to stop.
        let _ = self.delete(fd);
    }

    /// `int epoll_pwait2(int epfd, struct epoll_event *events, int maxevents, const struct timespec
    /// *timeout, const sigset_t *sigmask)`, or `epoll_wait` where the kernel does not have it.
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        let room = events.free();
        if self.ready.len() < room {
            self.ready.resize(room, libc::epoll_event { events: 0, u64: 0 });
        }
        let count = keep_waiting(timeout, |left| self.wait_once(room, left))
            .map_err(|errno| SystemError::call("epoll_wait", errno, ""))?;
        let ready = self.ready[..count].iter();
        events.extend(ready.map(|ready| Event::new(Token(ready.u64), flags(ready.events))));
        Ok(count)
    }

    /// The system call, once.
    #[inline]
    fn wait_once(&mut self, room: usize, timeout: Option<Duration>) -> Result<usize, Errno> {
        let room = i32::try_from(room).unwrap_or(i32::MAX);
        if self.has_pwait2 {
            let spec = timeout.map(|left| Timespec {
                seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                nanoseconds: left.subsec_nanos().into(),
            });
            // SAFETY: `ready` has at least `room` elements, and the kernel writes no more than
            // that; `spec` outlives the call; a null signal mask leaves the mask as it is.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.epoll.as_raw_fd(),
                    self.ready.as_mut_ptr(),
                    room,
                    spec.as_ref().map_or(ptr::null(), ptr::from_ref),
                    ptr::null::<libc::sigset_t>(),
                    0_usize,
                )
            };
            match usize::try_from(count) {
                Ok(count) => return Ok(count),
                // Filters written before the call existed answer EPERM.
                Err(_) if matches!(Errno::last().raw(), libc::ENOSYS | libc::EPERM) => {
                    self.has_pwait2 = false;
                }
                Err(_) => return Err(Errno::last()),
            }
        }
        // SAFETY: as above.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.ready.as_mut_ptr(), room, millis(timeout))
        };
        usize::try_from(count).map_err(|_| Errno::last())
    }

    fn control(
        &self,
        call: &'static str,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        check(call, fd, interest)?;
        let mut event = libc::epoll_event { events: bits(interest, mode), u64: token.0 };
        self.apply(call, operation, fd, &mut event)
    }

    /// `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)`
    fn apply(
        &self,
        call: &'static str,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        event: &mut libc::epoll_event,
    ) -> Result<()> {
        // SAFETY: both descriptors are open, and `event` outlives the call.
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd.as_raw_fd(), event) };
        if done < 0 { Err(failed(call, Errno::last(), fd)) } else { Ok(()) }
    }
}

impl AsFd for Epoll {
    /// Readable while there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

const IN: u32 = libc::EPOLLIN.cast_unsigned();
const OUT: u32 = libc::EPOLLOUT.cast_unsigned();
const RDHUP: u32 = libc::EPOLLRDHUP.cast_unsigned();
const HUP: u32 = libc::EPOLLHUP.cast_unsigned();
const ERR: u32 = libc::EPOLLERR.cast_unsigned();
const EDGE: u32 = libc::EPOLLET.cast_unsigned();
const ONE_SHOT: u32 = libc::EPOLLONESHOT.cast_unsigned();
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE.cast_unsigned();

fn bits(interest: Interest, mode: Mode) -> u32 {
    let mut bits = 0;
    if interest.is_readable() {
        bits |= IN;
        // EPOLLEXCLUSIVE takes neither EPOLLRDHUP nor EPOLLONESHOT.
        if !mode.is_exclusive() {
            bits |= RDHUP;
        }
    }
    if interest.is_writable() {
        bits |= OUT;
    }
    if mode.is_edge() {
        bits |= EDGE;
    }
    if mode.is_one_shot() {
        bits |= ONE_SHOT;
    }
    if mode.is_exclusive() {
        bits |= EXCLUSIVE;
    }
    bits
}

#[inline]
fn flags(bits: u32) -> u8 {
    let flag = |bit, flag| if bits & bit != 0 { flag } else { 0 };
    flag(IN, Event::READABLE)
        | flag(OUT, Event::WRITABLE)
        | flag(RDHUP, Event::READ_CLOSED)
        | flag(HUP, Event::HANGUP)
        | flag(ERR, Event::ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_a_kernel_without_pwait2_wait_in_milliseconds() {
        let mut epoll = Epoll { has_pwait2: false, ..Epoll::new().unwrap() };
        let mut events = Events::with_capacity(1);
        assert_eq!(epoll.wait(&mut events, Some(Duration::from_micros(1))), Ok(0));
        let (reader, _) = std::io::pipe().unwrap();
        epoll.add(reader.as_fd(), Token(7), Interest::READABLE, Mode::LEVEL).unwrap();
        assert_eq!(epoll.wait(&mut events, None), Ok(1));
        assert!(events.as_slice()[0].is_hangup());
    }
}
