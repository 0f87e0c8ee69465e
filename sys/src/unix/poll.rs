//! poll: in every Unix since the eighties, with no limit but the time it takes.
//!
//! The kernel looks at every descriptor on every wait, so a wait costs what is watched, not what is
//! ready.
//!
//! Source: poll(2), ppoll(2).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::table::{Table, check, failed};
use super::timeout::keep_waiting;
use crate::{Errno, Event, Events, Interest, Mode, Result, SystemError, Token};

/// A list of descriptors for poll(2). See the [contract](crate#the-backend-contract).
///
/// It has no mode but [`Mode::LEVEL`]. A descriptor that is closed while it is watched, against the
/// contract, is reported once as an error if its number is free when the next wait begins; then it
/// is watched no more.
#[derive(Debug)]
pub struct Poll {
    /// What the kernel reads, without gaps.
    list: Vec<libc::pollfd>,
    /// The tokens, in the order of `list`.
    tokens: Vec<Token>,
    /// Where in `list` a descriptor stands.
    places: Table<usize>,
    /// Where the next wait starts to look, so that those beyond the last one's room come first.
    start: usize,
}

impl Poll {
    /// An empty list; it owns no descriptor.
    ///
    /// # Errors
    ///
    /// None; it returns what the other backends' functions return.
    pub fn new() -> Result<Self> {
        Ok(Self { list: Vec::new(), tokens: Vec::new(), places: Table::new(), start: 0 })
    }

    /// Starts watching `fd`.
    ///
    /// # Errors
    ///
    /// `EEXIST` where it is watched already, `EINVAL` for an empty interest,
    /// [`SystemError::Unsupported`] for any mode but [`Mode::LEVEL`].
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        check("poll add", fd, interest)?;
        mode.level_only("poll")?;
        self.places.insert("poll add", fd, self.list.len())?;
        self.list.push(libc::pollfd { fd: fd.as_raw_fd(), events: bits(interest), revents: 0 });
        self.tokens.push(token);
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
        check("poll modify", fd, interest)?;
        mode.level_only("poll")?;
        let place = *self.places.find("poll modify", fd)?;
        self.list[place].events = bits(interest);
        self.tokens[place] = token;
        Ok(())
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        match self.places.remove(fd.as_raw_fd()) {
            Some(place) => {
                self.take_out(place);
                Ok(())
            }
            None => Err(failed("poll delete", Errno::ENOENT, fd)),
        }
    }

    /// Stops watching `fd`, which is about to be closed.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        if let Some(place) = self.places.remove(fd.as_raw_fd()) {
            self.take_out(place);
        }
    }

    /// `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`, or ppoll where there is one.
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full, or more is watched than `RLIMIT_NOFILE` allows; `ENOMEM`.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        let room = events.free();
        if room == 0 {
            return Err(SystemError::call("poll", Errno::EINVAL, ""));
        }
        let mut ready = keep_waiting(timeout, |left| poll(&mut self.list, left))
            .map_err(|errno| SystemError::call("poll", errno, ""))?;

        let start = if self.start < self.list.len() { self.start } else { 0 };
        let mut closed = Vec::new();
        let mut count = 0;
        for place in (start..self.list.len()).chain(0..start) {
            if ready == 0 {
                break;
            }
            let polled = &self.list[place];
            if polled.revents == 0 {
                continue;
            }
            if count == room {
                self.start = place;
                break;
            }
            ready -= 1;
            count += 1;
            events.push(Event::new(self.tokens[place], flags(polled.revents)));
            if polled.revents & libc::POLLNVAL != 0 {
                closed.push(polled.fd);
            }
        }
        for fd in closed {
            if let Some(place) = self.places.remove(fd) {
                self.take_out(place);
            }
        }
        Ok(count)
    }

    /// Closes the gap with the last of the list.
    fn take_out(&mut self, place: usize) {
        self.list.swap_remove(place);
        self.tokens.swap_remove(place);
        if let Some(moved) = self.list.get(place)
            && let Some(its_place) = self.places.get_mut(moved.fd)
        {
            *its_place = place;
        }
    }
}

/// `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`
///
/// Waits until one descriptor is ready for any of `interest`, and says for what; `None` says that
/// the time is over.
///
/// A hang-up or an error is ready for all of `interest`. `timeout` is as in [`Poll::wait`].
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use myriapod_sys::{Interest, poll::wait_one};
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let soon = Some(Duration::from_millis(1));
/// assert_eq!(wait_one(reader.as_fd(), Interest::READABLE, soon)?, None);
/// writer.write_all(b"x")?;
/// assert_eq!(wait_one(reader.as_fd(), Interest::READABLE, soon)?, Some(Interest::READABLE));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// `EINVAL` for an empty interest, `EBADF` for a descriptor that is not open, `ENOMEM`.
pub fn wait_one(
    fd: BorrowedFd<'_>,
    interest: Interest,
    timeout: Option<Duration>,
) -> Result<Option<Interest>, Errno> {
    if interest.is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut list = [libc::pollfd { fd: fd.as_raw_fd(), events: bits(interest), revents: 0 }];
    if keep_waiting(timeout, |left| poll(&mut list, left))? == 0 {
        return Ok(None);
    }
    let [polled] = list;
    if polled.revents & libc::POLLNVAL != 0 {
        return Err(Errno::EBADF);
    }
    Ok(Some(Event::new(Token(0), flags(polled.revents)).readiness() & interest))
}

/// `int ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *timeout, const sigset_t
/// *sigmask)`, or `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`
fn poll(list: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<usize, Errno> {
    let length = libc::nfds_t::try_from(list.len()).unwrap_or(libc::nfds_t::MAX);
    #[cfg(has_ppoll)]
    let spec = timeout.map(|left| super::timeout::timespec(left, i32::MAX));
    // SAFETY: `list` is as long as it says, `spec` outlives the call, and a null signal mask leaves
    // the mask as it is.
    #[cfg(has_ppoll)]
    let ready = unsafe {
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        libc::ppoll(list.as_mut_ptr(), length, spec, std::ptr::null())
    };
    // SAFETY: `list` is as long as it says.
    #[cfg(not(has_ppoll))]
    let ready = unsafe { libc::poll(list.as_mut_ptr(), length, super::timeout::millis(timeout)) };
    usize::try_from(ready).map_err(|_| Errno::last())
}

/// The peer has shut down sending; where poll cannot say so, the socket is merely readable.
#[cfg(has_pollrdhup)]
const RDHUP: libc::c_short = libc::POLLRDHUP;
#[cfg(not(has_pollrdhup))]
const RDHUP: libc::c_short = 0;

fn bits(interest: Interest) -> libc::c_short {
    let mut bits = 0;
    if interest.is_readable() {
        bits |= libc::POLLIN | RDHUP;
    }
    if interest.is_writable() {
        bits |= libc::POLLOUT;
    }
    bits
}

#[inline]
fn flags(bits: libc::c_short) -> u8 {
    let flag = |bit, flag| if bits & bit != 0 { flag } else { 0 };
    flag(libc::POLLIN, Event::READABLE)
        | flag(libc::POLLOUT, Event::WRITABLE)
        | flag(RDHUP, Event::READ_CLOSED)
        | flag(libc::POLLHUP, Event::HANGUP)
        | flag(libc::POLLERR | libc::POLLNVAL, Event::ERROR)
}
