//! A poller with its events, and sockets in the states that the questions need.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use myriapod_sys::{Backend, Errno, Event, Events, Interest, Mode, Poller, SystemError, Token};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(crate) const READ: Interest = Interest::READABLE;
pub(crate) const WRITE: Interest = Interest::WRITABLE;
pub(crate) const BOTH: Interest = Interest::BOTH;

/// What a test that fails waits for in vain.
pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(20));

/// A poller with room for 64 events.
pub(crate) struct Fixture {
    pub(crate) poller: Poller,
}

impl Fixture {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { poller: Poller::new(backend).unwrap() }
    }

    pub(crate) fn add(&mut self, fd: &impl AsFd, token: u64, interest: Interest) {
        self.poller.add(fd.as_fd(), Token(token), interest, Mode::LEVEL).unwrap();
    }

    pub(crate) fn modify(&mut self, fd: &impl AsFd, token: u64, interest: Interest) {
        self.poller.modify(fd.as_fd(), Token(token), interest, Mode::LEVEL).unwrap();
    }

    /// What is ready now.
    pub(crate) fn now(&mut self) -> Vec<Event> {
        self.wait(64, Some(Duration::ZERO))
    }

    /// What comes next; there must be something.
    pub(crate) fn next(&mut self) -> Vec<Event> {
        let events = self.wait(64, LONG);
        assert!(!events.is_empty(), "nothing came");
        events
    }

    /// The only thing that comes next.
    pub(crate) fn only(&mut self) -> Event {
        let events = self.next();
        assert_eq!(events.len(), 1, "{events:?}");
        events[0]
    }

    /// Waits with so much room; the count that `wait` returns is checked.
    pub(crate) fn wait(&mut self, room: usize, timeout: Option<Duration>) -> Vec<Event> {
        let mut events = Events::with_capacity(room);
        let count = self.poller.wait(&mut events, timeout).unwrap();
        assert_eq!(count, events.as_slice().len());
        events.as_slice().to_vec()
    }

    /// Waits until the only event there is satisfies `condition`.
    pub(crate) fn until(&mut self, condition: impl Fn(&Event) -> bool) -> Event {
        for _ in 0..1_000_000 {
            let event = self.only();
            if condition(&event) {
                return event;
            }
            std::thread::yield_now();
        }
        panic!("it never came to be");
    }
}

/// Whether the error is a system call's with this number.
pub(crate) fn is<T: std::fmt::Debug>(result: Result<T, SystemError>, errno: Errno) -> bool {
    result.unwrap_err().errno() == Some(errno)
}

/// Whether all of `interest` is ready.
pub(crate) fn covers(event: &Event, interest: Interest) -> bool {
    event.readiness() & interest == interest
}

/// Whether hang-ups and errors are told from ordinary readiness, whatever the interest.
pub(crate) fn gives_hints(backend: Backend) -> bool {
    !matches!(backend, Backend::Select | Backend::Kqueue)
}

/// Whether a half-close is told from something to read.
pub(crate) fn tells_half_close(backend: Backend) -> bool {
    let can = backend != Backend::Poll || cfg!(has_pollrdhup);
    can && !matches!(backend, Backend::Select | Backend::Portable)
}

pub(crate) fn has_edge(backend: Backend) -> bool {
    !matches!(backend, Backend::Select | Backend::Poll)
}

pub(crate) fn has_one_shot(backend: Backend) -> bool {
    has_edge(backend)
}

/// Whether it is libkqueue that would answer, which is no kernel: says what it does otherwise.
pub(crate) fn is_libkqueue(backend: Backend, otherwise: &str) -> bool {
    let is = cfg!(myriapod_libkqueue) && backend == Backend::Kqueue;
    if is {
        println!("not asked of libkqueue: {otherwise}");
    }
    is
}

/// A pair of connected Unix sockets that do not block.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

/// A pair of connected TCP sockets that do not block.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    one.set_nodelay(true).unwrap();
    (one, other)
}

/// Writes until there is no more room.
pub(crate) fn fill(stream: &mut impl Write) {
    let bytes = [0; 65_536];
    for size in [bytes.len(), 1] {
        loop {
            match stream.write(&bytes[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Reads until there is nothing more; says how much there was.
pub(crate) fn drain(stream: &mut impl Read) -> usize {
    let mut bytes = vec![0; 65_536];
    let mut all = 0;
    loop {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return all,
            Ok(count) => all += count,
        }
    }
}

/// A duplicate with a number of at least `least`.
pub(crate) fn duplicate(fd: BorrowedFd<'_>, least: RawFd) -> OwnedFd {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = libc::rlim_t::from(least.unsigned_abs()) + 1_000;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).unwrap();
    }
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least)).unwrap();
    // SAFETY: the call has just created the descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Closes `old` and gives its number to `new` in one step, so that no other test can come between.
pub(crate) fn replace(old: &impl AsFd, new: &impl AsFd) {
    let (old, new) = (old.as_fd().as_raw_fd(), new.as_fd().as_raw_fd());
    // SAFETY: both are open, and the owner of `old` goes on to own whatever stands behind it.
    assert_eq!(unsafe { libc::dup2(new, old) }, old);
}

/// Closes a descriptor that its owner still believes to be open.
pub(crate) fn close_behind_its_back(fd: OwnedFd) -> BorrowedFd<'static> {
    let number = std::os::fd::IntoRawFd::into_raw_fd(fd);
    // SAFETY: nobody owns the descriptor any more.
    assert_eq!(unsafe { libc::close(number) }, 0);
    // SAFETY: not open, and that is the point; only the number is used.
    unsafe { BorrowedFd::borrow_raw(number) }
}
