//! [`Waker`]: ends a wait from another thread.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

#[cfg(has_kqueue)]
use super::poller::Inner;
use crate::awake::Awake;
use crate::{Errno, Interest, Mode, Poller, Result, SystemError, Token};

/// Makes a poller report a token, from any thread.
///
/// Many wakes make one event. Its receiver calls [`reset`](Self::reset) and *then* looks at what
/// the wakers left for it: a wake that comes before the end of the reset needs no event of its own,
/// for what was left before that wake is visible after that reset.
///
/// An eventfd where there is one (Linux), a user event where the poller is a kqueue, a pipe
/// elsewhere.
///
/// ```
/// use std::sync::Arc;
/// use std::thread;
/// use myriapod_sys::{Backend, Events, Poller, Token, Waker};
///
/// let mut poller = Poller::new(Backend::native())?;
/// let waker = Arc::new(Waker::new(&mut poller, Token(0))?);
/// let thread = thread::spawn({
///     let waker = waker.clone();
///     move || waker.wake()
/// });
/// let mut events = Events::with_capacity(1);
/// poller.wait(&mut events, None)?;
/// assert_eq!(events.as_slice()[0].token(), Token(0));
/// waker.reset();
/// # thread.join().unwrap()?;
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
#[derive(Debug)]
pub struct Waker {
    signal: Signal,
    awake: Awake,
}

/// What the poller watches.
#[derive(Debug)]
enum Signal {
    #[cfg(has_eventfd)]
    Counter(OwnedFd),
    #[cfg(has_kqueue)]
    User(super::kqueue::User),
    #[cfg(not(has_eventfd))]
    Pipe { reader: OwnedFd, writer: OwnedFd },
}

impl Waker {
    /// A waker whose events carry `token`.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`; [`SystemError::DescriptorTooLarge`] from select.
    pub fn new(poller: &mut Poller, token: Token) -> Result<Self> {
        let awake = Awake::new();
        #[cfg(has_kqueue)]
        if let Inner::Kqueue(kqueue) = &mut poller.0 {
            match kqueue.add_user(token) {
                Ok(user) => return Ok(Self { signal: Signal::User(user), awake }),
                // NetBSD before 10 and older OpenBSDs have no user events.
                Err(error) if error.errno() == Some(Errno::EINVAL) => {}
                Err(error) => return Err(error),
            }
        }
        let signal = Signal::descriptor()?;
        if let Some(watched) = signal.watched() {
            poller.add(watched, token, Interest::READABLE, Mode::LEVEL)?;
        }
        Ok(Self { signal, awake })
    }

    /// Makes the poller report the token, now or when it next waits.
    ///
    /// # Errors
    ///
    /// None that is known; the system's, should it come.
    pub fn wake(&self) -> Result<()> {
        self.awake.wake(|| self.signal.raise())
    }

    /// Takes the event back; to be called when the token has come, before anything is done about
    /// it. Without it, the event comes back on every wait of most backends.
    pub fn reset(&self) {
        self.awake.reset(|| self.signal.clear());
    }

    /// Takes the waker out of the `poller` that it was made with, and ends it.
    ///
    /// Where the waker is dropped instead, its poller must not be used any more.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it was made with another poller.
    pub fn close(self, poller: &mut Poller) -> Result<()> {
        #[cfg(has_kqueue)]
        if let (Inner::Kqueue(kqueue), Signal::User(user)) = (&mut poller.0, &self.signal) {
            return kqueue.delete_user(user);
        }
        match self.signal.watched() {
            Some(watched) => poller.delete(watched),
            None => Err(SystemError::call("close waker", Errno::ENOENT, "")),
        }
    }
}

impl Signal {
    #[cfg(has_eventfd)]
    fn descriptor() -> Result<Self> {
        use std::os::fd::FromRawFd;
        // int eventfd(unsigned int initval, int flags)
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(SystemError::call("eventfd", Errno::last(), ""));
        }
        // SAFETY: the call has just created the descriptor, and nobody else knows it.
        Ok(Self::Counter(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    #[cfg(not(has_eventfd))]
    fn descriptor() -> Result<Self> {
        let (reader, writer) = pipe()?;
        Ok(Self::Pipe { reader, writer })
    }

    /// The descriptor that the poller watches, if it is one.
    fn watched(&self) -> Option<BorrowedFd<'_>> {
        match self {
            #[cfg(has_eventfd)]
            Self::Counter(counter) => Some(counter.as_fd()),
            #[cfg(has_kqueue)]
            Self::User(_) => None,
            #[cfg(not(has_eventfd))]
            Self::Pipe { reader, .. } => Some(reader.as_fd()),
        }
    }

    fn raise(&self) -> Result<()> {
        match self {
            #[cfg(has_eventfd)]
            Self::Counter(counter) => write(counter, &1_u64.to_ne_bytes()),
            #[cfg(has_kqueue)]
            Self::User(user) => user.trigger(),
            #[cfg(not(has_eventfd))]
            Self::Pipe { writer, .. } => write(writer, &[1]),
        }
    }

    fn clear(&self) {
        match self {
            // One read empties a counter.
            #[cfg(has_eventfd)]
            Self::Counter(counter) => {
                read(counter);
            }
            // The kernel cleared it when it reported it.
            #[cfg(has_kqueue)]
            Self::User(_) => {}
            // A byte for each wake that a reset overtook, so hardly ever more than one or two; were
            // some left, the event would come once more.
            #[cfg(not(has_eventfd))]
            Self::Pipe { reader, .. } => {
                read(reader);
            }
        }
    }
}

/// `ssize_t write(int fd, const void *buf, size_t count)`; a full pipe wakes as well as any.
fn write(fd: &OwnedFd, bytes: &[u8]) -> Result<()> {
    loop {
        // SAFETY: `bytes` is as long as it says.
        let written = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        match Errno::last() {
            _ if written >= 0 => return Ok(()),
            Errno::EINTR => {}
            errno if errno.would_block() => return Ok(()),
            errno => return Err(SystemError::call("write", errno, "waker")),
        }
    }
}

/// `ssize_t read(int fd, void *buf, size_t count)`; nothing to read is as good as something.
fn read(fd: &OwnedFd) {
    let mut bytes = [0_u8; 64];
    loop {
        // SAFETY: `bytes` is as long as it says.
        let read = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        if read >= 0 || Errno::last() != Errno::EINTR {
            return;
        }
    }
}

/// `int pipe2(int pipefd[2], int flags)`
#[cfg(all(not(has_eventfd), has_pipe2))]
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::OFlag;
    nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|errno| SystemError::call("pipe2", errno.into(), ""))
}

/// `int pipe(int pipefd[2])`, and the flags in a second step.
#[cfg(all(not(has_eventfd), not(has_pipe2)))]
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    let ends = nix::unistd::pipe().map_err(|errno| SystemError::call("pipe", errno.into(), ""))?;
    for end in [&ends.0, &ends.1] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .and_then(|_| fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)))
            .map_err(|errno| SystemError::call("fcntl", errno.into(), "waker"))?;
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;
    use crate::Backend;

    #[test]
    fn is_its_descriptor_closed_on_exec() {
        let mut poller = Poller::new(Backend::Poll).unwrap();
        let waker = Waker::new(&mut poller, Token(0)).unwrap();
        let watched = waker.signal.watched().unwrap();
        let flags = FdFlag::from_bits_retain(fcntl(watched, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }

    #[test]
    fn does_a_reset_overtaken_by_wakes_leave_nothing_behind() {
        let mut poller = Poller::new(Backend::Poll).unwrap();
        let waker = Waker::new(&mut poller, Token(0)).unwrap();
        for _ in 0..40 {
            waker.signal.raise().unwrap();
        }
        waker.reset();
        let mut events = crate::Events::with_capacity(1);
        assert_eq!(poller.wait(&mut events, Some(std::time::Duration::ZERO)), Ok(0));
    }

    #[test]
    fn does_a_full_pipe_or_counter_wake() {
        let mut poller = Poller::new(Backend::Poll).unwrap();
        let waker = Waker::new(&mut poller, Token(0)).unwrap();
        match &waker.signal {
            #[cfg(has_eventfd)]
            Signal::Counter(counter) => write(counter, &(u64::MAX - 1).to_ne_bytes()).unwrap(),
            #[cfg(has_kqueue)]
            Signal::User(_) => unreachable!(),
            #[cfg(not(has_eventfd))]
            Signal::Pipe { writer, .. } => {
                // A pipe holds no more than 1 MiB.
                for _ in 0..1 << 20 {
                    write(writer, &[1]).unwrap();
                }
            }
        }
        waker.wake().unwrap();
    }
}
