//! [`Selector`]: sockets, what they are watched for, and the data kept beside them.

use std::fmt;
use std::time::Duration;

use myriapod_sys::{
    AsFd, Backend, BorrowedFd, Descriptor, Event, Events, Interest, Mode, Poller, Result,
    SystemError, Token, Waker,
};

use crate::slab::{Key, Slab};

/// Events that one wait takes from the system.
const EVENTS_PER_WAIT: usize = 1024;

/// The token of the waker; no key has it, since a slab ends at 2^31 entries.
const WAKER: Token = Token(u64::MAX);

/// Watches sockets and keeps data beside each, in the shape of Python's `selectors` module.
///
/// The selector owns what is registered, so that nothing is closed while it is watched: the
/// number of a closed descriptor is given to the next one at once, and events would go to the
/// wrong connection. A key carries a generation, so an event that was already under way when its
/// socket went is counted ([`stale_events`](Self::stale_events)) and never delivered.
///
/// Anything that is a descriptor may be registered: a socket, a listener, a pipe, a timerfd.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// use myriapod::{Interest, Selector};
///
/// let (mut ours, theirs) = UnixStream::pair()?;
/// let mut selector = Selector::new()?;
/// let key = selector.register(theirs, Interest::READABLE, "the data beside it")?;
///
/// ours.write_all(b"hello")?;
/// selector.select(Some(Duration::from_secs(5)))?;
/// let ready = selector.next_ready().expect("it is readable");
/// assert_eq!(ready.key, key);
/// assert!(ready.is_readable());
/// assert_eq!(selector.get(key), Some(&"the data beside it"));
///
/// let (socket, data) = selector.unregister(key).expect("it is registered");
/// # let _ = (socket, data);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// So may the signals of the process, by a duplicate of their descriptor:
///
/// ```
/// use myriapod::sys::{Signal, Signals};
/// use myriapod::{Interest, Selector};
///
/// let mut signals = Signals::install(&[Signal::User1])?;
/// let mut selector = Selector::new()?;
/// let key = selector.register(signals.try_clone_descriptor()?, Interest::READABLE, ())?;
/// # nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
/// selector.select(None)?;
/// assert_eq!(selector.next_ready().map(|ready| ready.key), Some(key));
/// assert_eq!(signals.take(), Some(Signal::User1));
/// # Ok::<(), myriapod::Error>(())
/// ```
pub struct Selector<T> {
    // Before the entries: the poller goes first, so that nothing is closed under its eyes.
    poller: Poller,
    entries: Slab<Entry<T>>,
    events: Events,
    next: usize,
    stale: u64,
    woken: bool,
    /// See [`abandon`](Self::abandon).
    is_abandoned: bool,
}

#[derive(Debug)]
struct Entry<T> {
    source: Descriptor,
    interest: Interest,
    data: T,
}

/// A registered socket that is ready for something it is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The key that `register` returned.
    pub key: Key,
    /// What it is ready for, of what it is watched for.
    pub readiness: Interest,
    /// A hint: the peer is gone in both directions, or an error waits to be collected.
    pub is_closing: bool,
}

impl Ready {
    /// Whether receiving (or accepting) will not block.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.readiness.is_readable()
    }

    /// Whether sending will not block, or a connect has finished.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.readiness.is_writable()
    }
}

/// A poller for [`Selector::over`]: unlike a selector it can always go to another thread.
pub(crate) fn poller(backend: Backend) -> Result<Poller> {
    Poller::new(backend)
}

/// The waker of the selector that will be made over `poller`.
pub(crate) fn waker_of(poller: &mut Poller) -> Result<Waker> {
    Waker::new(poller, WAKER)
}

impl<T> Selector<T> {
    /// Bytes of memory that one registration takes, `T` included.
    pub const ENTRY_SIZE: usize = Slab::<Entry<T>>::ENTRY_SIZE;

    /// A selector over the system's own readiness API.
    ///
    /// # Errors
    ///
    /// Where the system has no descriptor or memory left for one.
    pub fn new() -> Result<Self> {
        Self::with_backend(Backend::native())
    }

    /// A selector over `backend`.
    ///
    /// # Errors
    ///
    /// Where the system does not have it, or no descriptor or memory left for it.
    pub fn with_backend(backend: Backend) -> Result<Self> {
        Ok(Self::over(Poller::new(backend)?))
    }

    /// A selector over a poller that watches nothing yet, but perhaps the waker.
    pub(crate) fn over(poller: Poller) -> Self {
        Self {
            poller,
            entries: Slab::new(),
            events: Events::with_capacity(EVENTS_PER_WAIT),
            next: 0,
            stale: 0,
            woken: false,
            is_abandoned: false,
        }
    }

    /// Which readiness API this selector uses.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.poller.backend()
    }

    /// Takes `source` over and watches it for `interest`, level-triggered. With
    /// [`Interest::NONE`] it is only kept.
    ///
    /// # Errors
    ///
    /// What the system says, or [`SystemError::DescriptorTooLarge`] from `select`; `source` is closed.
    pub fn register(
        &mut self,
        source: impl Into<Descriptor>,
        interest: Interest,
        data: T,
    ) -> Result<Key> {
        let entry = Entry { source: source.into(), interest, data };
        let Ok(key) = self.entries.insert(entry) else {
            return Err(SystemError::call("register", myriapod_sys::Errno::ENOMEM, "a full slab"));
        };
        if interest.is_empty() {
            return Ok(key);
        }
        let Some(entry) = self.entries.get(key) else { return Ok(key) };
        let token = Token(key.to_bits());
        if let Err(error) = self.poller.add(entry.source.as_fd(), token, interest, Mode::LEVEL) {
            self.entries.remove(key);
            return Err(error);
        }
        Ok(key)
    }

    /// Watches for `interest` from now on. With [`Interest::NONE`] the socket leaves the poller
    /// and stays registered, so that not even a hang-up is reported. Where nothing changes, no
    /// system call is made; a key that is gone is no error.
    ///
    /// # Errors
    ///
    /// What the system says; the socket is watched as before then.
    #[inline]
    pub fn modify(&mut self, key: Key, interest: Interest) -> Result<()> {
        match self.entries.get_mut(key) {
            Some(entry) if entry.interest != interest => {
                let was = std::mem::replace(&mut entry.interest, interest);
                let (source, token) = (entry.source.as_fd(), Token(key.to_bits()));
                let result = if was.is_empty() {
                    self.poller.add(source, token, interest, Mode::LEVEL)
                } else if interest.is_empty() {
                    self.poller.delete(source)
                } else {
                    self.poller.modify(source, token, interest, Mode::LEVEL)
                };
                if result.is_err() {
                    entry.interest = was;
                }
                result
            }
            _ => Ok(()),
        }
    }

    /// Stops watching and gives socket and data back; `None` where the key is gone.
    ///
    /// The caller may go on using the socket. To close it, use [`close`](Self::close).
    pub fn unregister(&mut self, key: Key) -> Option<(Descriptor, T)> {
        let entry = self.entries.remove(key)?;
        if !entry.interest.is_empty() {
            // It is watched, so this cannot fail; and if it did, there would be nothing to do.
            let _ = self.poller.delete(entry.source.as_fd());
        }
        Some((entry.source, entry.data))
    }

    /// There will be no other wait: what is closed from now on stays in the poller, which goes too.
    ///
    /// After a fork both processes have the same poller, and what one takes out of it the other no
    /// longer hears of.
    pub(crate) fn abandon(&mut self) {
        self.is_abandoned = true;
    }

    /// Closes the socket and gives the data back; `None` where the key is gone.
    ///
    /// The socket leaves the poller first: a duplicate of it that lives on, after `try_clone` or in
    /// a forked process, makes no events here. On epoll that is one more system call, unless the
    /// socket is parked.
    ///
    /// A poller that was forked is one for both processes: what a child closes here, its parent no
    /// longer hears of either. Drop the selector as a whole instead.
    pub fn close(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.remove(key)?;
        if !entry.interest.is_empty() && !self.is_abandoned {
            self.poller.forget(entry.source.as_fd());
        }
        Some(entry.data)
    }

    /// Waits until something is ready, at most for `timeout` (`None`: for ever), and returns how
    /// many events there are to take with [`next_ready`](Self::next_ready). What was not taken of
    /// the last wait is dropped; it is reported again, since all is level-triggered.
    ///
    /// # Errors
    ///
    /// What the system says. Signals are no error: the wait goes on.
    pub fn select(&mut self, timeout: Option<Duration>) -> Result<usize> {
        self.events.clear();
        self.next = 0;
        self.poller.wait(&mut self.events, timeout)
    }

    /// The next socket of the last [`select`](Self::select) that is ready for something it is
    /// watched for *now*: a socket that was closed or is no longer watched since is left out.
    #[inline]
    pub fn next_ready(&mut self) -> Option<Ready> {
        while let Some(event) = self.next_event() {
            if let Some((key, readiness, ..)) = self.find(event) {
                let is_closing = event.is_hangup() || event.is_error();
                return Some(Ready { key, readiness, is_closing });
            }
        }
        None
    }

    /// The next event of the last [`select`](Self::select), whatever it is for.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let event = *self.events.as_slice().get(self.next)?;
        self.next += 1;
        Some(event)
    }

    /// The key of the event that was taken last.
    pub(crate) fn last_event(&self) -> Option<Key> {
        let event = self.events.as_slice().get(self.next.checked_sub(1)?)?;
        Some(Key::from_bits(event.token().0))
    }

    /// The socket that an event is for, what it is ready for and the data beside it, unless it is
    /// not watched for any of that now. One look-up then serves the whole event.
    #[inline]
    pub(crate) fn find(&mut self, event: Event) -> Option<(Key, Interest, BorrowedFd<'_>, &mut T)> {
        let key = Key::from_bits(event.token().0);
        let Some(entry) = self.entries.get_mut(key) else {
            if event.token() == WAKER {
                self.woken = true;
            } else {
                self.stale += 1;
            }
            return None;
        };
        let readiness = entry.interest & event.readiness();
        (!readiness.is_empty()).then(|| (key, readiness, entry.source.as_fd(), &mut entry.data))
    }

    /// Makes a handle that ends a wait from another thread. One for each selector.
    ///
    /// # Errors
    ///
    /// Where the system has no descriptor left, or there is a waker already.
    pub fn waker(&mut self) -> Result<Waker> {
        waker_of(&mut self.poller)
    }

    /// Whether the waker was seen since this was last asked.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// The data beside a socket.
    #[must_use]
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.entries.get(key).map(|entry| &entry.data)
    }

    /// The data beside a socket, to be changed.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.get_mut(key).map(|entry| &mut entry.data)
    }

    /// A socket and the data beside it.
    #[must_use]
    #[inline]
    pub fn entry_mut(&mut self, key: Key) -> Option<(BorrowedFd<'_>, &mut T)> {
        self.entries.get_mut(key).map(|entry| (entry.source.as_fd(), &mut entry.data))
    }

    /// Two sockets at once and the data beside them, as a proxy needs them to move bytes from one to
    /// the other; `None` where one is gone, or both are the same.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use myriapod::sys::{recv_append, send};
    /// use myriapod::{Interest, Selector};
    ///
    /// let (client, ours) = UnixStream::pair()?;
    /// let (theirs, server) = UnixStream::pair()?;
    /// let mut selector = Selector::new()?;
    /// let from = selector.register(ours, Interest::READABLE, Vec::with_capacity(1024))?;
    /// let to = selector.register(theirs, Interest::NONE, Vec::new())?;
    ///
    /// send(&client, b"hello")?;
    /// let [(socket, buffer), (other, _)] =
    ///     selector.two_entries_mut(from, to).expect("both are registered");
    /// recv_append(&socket, buffer)?;
    /// let sent = send(&other, buffer)?;
    /// buffer.drain(..sent);
    /// # let mut got = Vec::with_capacity(16);
    /// # recv_append(&server, &mut got)?;
    /// # assert_eq!(got, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn two_entries_mut(
        &mut self,
        first: Key,
        second: Key,
    ) -> Option<[(BorrowedFd<'_>, &mut T); 2]> {
        let both = self.entries.get_two_mut(first, second)?;
        Some(both.map(|entry| (entry.source.as_fd(), &mut entry.data)))
    }

    /// Whatever is registered at a place in the slab, for lists that run through the entries.
    #[must_use]
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        self.entries.at_mut(index).map(|(key, entry)| (key, &mut entry.data))
    }

    /// The socket that `key` names.
    #[must_use]
    pub fn source(&self, key: Key) -> Option<BorrowedFd<'_>> {
        self.entries.get(key).map(|entry| entry.source.as_fd())
    }

    /// What the socket is watched for.
    #[must_use]
    pub fn interest(&self, key: Key) -> Option<Interest> {
        self.entries.get(key).map(|entry| entry.interest)
    }

    /// All keys and the data beside their sockets.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.data))
    }

    /// How many sockets are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One more than the highest place in use so far.
    #[must_use]
    pub(crate) fn end(&self) -> u32 {
        self.entries.end()
    }

    /// Events that came for sockets which were closed in the meantime.
    #[must_use]
    pub fn stale_events(&self) -> u64 {
        self.stale
    }

    /// The descriptor that is readable while events wait, for use inside another loop; `poll` and
    /// `select` have none.
    ///
    /// It borrows the selector. Where the other loop wants to own what it watches, give it a
    /// [`descriptor`](Self::descriptor).
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.poller.as_fd()
    }

    /// A descriptor of its own that is readable while events wait, for tokio's `AsyncFd`, mio's
    /// `SourceFd` and others that take `AsFd` or `AsRawFd`: the selector stays free to be changed.
    ///
    /// Once it is readable, [`select`](Self::select) with a timeout of zero has the events. It is
    /// level-triggered as they are: where the other loop is told of changes only, as with
    /// `AsyncFd`, it may clear its readiness only after a `select` that returned 0.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use std::os::fd::OwnedFd;
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    /// use myriapod::sys::send;
    /// use myriapod::{Interest, Selector};
    ///
    /// let mut inner = Selector::new()?;
    /// let mut outer = Selector::new()?;
    /// let watched: OwnedFd = inner.descriptor()?;
    /// outer.register(watched, Interest::READABLE, "the inner selector")?;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// inner.register(theirs, Interest::READABLE, "a socket")?;
    /// send(&ours, b"hello")?;
    /// assert_eq!(outer.select(Some(Duration::from_secs(5)))?, 1);
    /// assert_eq!(inner.select(Some(Duration::ZERO))?, 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Unsupported`] from `poll` and `select`, which have no descriptor; `EMFILE`.
    pub fn descriptor(&self) -> Result<Descriptor> {
        self.poller.descriptor()
    }
}

impl<T> fmt::Debug for Selector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector")
            .field("backend", &self.backend())
            .field("len", &self.len())
            .field("stale_events", &self.stale)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
