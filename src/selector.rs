//! [`Selector`]: sockets, what they are watched for, and the data kept beside them.

use std::fmt;
use std::time::Duration;

use myriapod_sys::{
    AsFd, Backend, BorrowedFd, Descriptor, Error, Event, Events, Interest, Mode, Poller, Result,
    Token, Waker,
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
pub struct Selector<T> {
    // Before the entries: the poller goes first, so that nothing is closed under its eyes.
    poller: Poller,
    entries: Slab<Entry<T>>,
    events: Events,
    next: usize,
    stale: u64,
    woken: bool,
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
    /// What the system says, or [`Error::DescriptorTooLarge`] from `select`; `source` is closed.
    pub fn register(
        &mut self,
        source: impl Into<Descriptor>,
        interest: Interest,
        data: T,
    ) -> Result<Key> {
        let entry = Entry { source: source.into(), interest, data };
        let Ok(key) = self.entries.insert(entry) else {
            return Err(Error::call("register", myriapod_sys::Errno::ENOMEM, "a full slab"));
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

    /// Closes the socket and gives the data back; `None` where the key is gone.
    ///
    /// The socket leaves the poller first: a duplicate of it that lives on, after `try_clone` or in
    /// a forked process, makes no events here. On epoll that is one more system call, unless the
    /// socket is parked.
    pub fn close(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.remove(key)?;
        if !entry.interest.is_empty() {
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
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.poller.as_fd()
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
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn on_every_backend(question: impl Fn(Selector<&'static str>)) {
        for backend in Backend::available() {
            question(Selector::with_backend(*backend).unwrap());
        }
    }

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    /// All that is ready at this moment.
    fn ready<T>(selector: &mut Selector<T>) -> Vec<Ready> {
        selector.select(NOW).unwrap();
        std::iter::from_fn(|| selector.next_ready()).collect()
    }

    #[test]
    fn does_a_registered_socket_tell_what_it_is_ready_for() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
            assert_eq!(ready(&mut selector), []);
            ours.write_all(b"x").unwrap();
            for _ in 0..2 {
                let [ready] = ready(&mut selector)[..] else { panic!("one event") };
                assert_eq!((ready.key, ready.readiness), (key, Interest::READABLE));
            }
            selector.modify(key, Interest::READABLE | Interest::WRITABLE).unwrap();
            let [both] = ready(&mut selector)[..] else { panic!("one event") };
            assert!(both.is_readable() && both.is_writable());
            selector.modify(key, Interest::WRITABLE).unwrap();
            let [ready] = ready(&mut selector)[..] else { panic!("one event") };
            assert_eq!(ready.readiness, Interest::WRITABLE);
            assert_eq!(selector.interest(key), Some(Interest::WRITABLE));
        });
    }

    #[test]
    fn is_a_parked_socket_silent_even_when_its_peer_hangs_up() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
            selector.modify(key, Interest::NONE).unwrap();
            ours.write_all(b"x").unwrap();
            drop(ours);
            assert_eq!(ready(&mut selector), []);
            assert_eq!(selector.get(key), Some(&"data"));
            // What came meanwhile is told once it is watched again.
            selector.modify(key, Interest::READABLE).unwrap();
            assert!(ready(&mut selector)[0].is_readable());
            selector.modify(key, Interest::NONE).unwrap();
            assert_eq!(selector.close(key), Some("data"));
        });
    }

    #[test]
    fn can_a_socket_be_registered_parked() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            let key = selector.register(theirs, Interest::NONE, "data").unwrap();
            ours.write_all(b"x").unwrap();
            assert_eq!(ready(&mut selector), []);
            selector.modify(key, Interest::READABLE).unwrap();
            assert_eq!(ready(&mut selector).len(), 1);
        });
    }

    #[test]
    fn does_unregister_give_the_socket_back_unharmed() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
            ours.write_all(b"x").unwrap();
            let (socket, data) = selector.unregister(key).unwrap();
            assert_eq!((data, selector.len()), ("data", 0));
            assert_eq!(ready(&mut selector), []);
            let mut byte = [0];
            UnixStream::from(socket).read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"x");
            assert!(selector.unregister(key).is_none());
        });
    }

    #[test]
    fn does_close_close_the_socket() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
            assert_eq!(selector.close(key), Some("data"));
            assert_eq!(ours.read(&mut [0]).unwrap(), 0);
            assert_eq!(selector.close(key), None);
            assert_eq!(ready(&mut selector), []);
        });
    }

    /// As after `try_clone`, or a fork without exec: the kernel's own end of it comes later.
    #[test]
    fn is_a_closed_socket_with_a_living_duplicate_no_event() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            let duplicate = theirs.try_clone().unwrap();
            let key = selector.register(theirs, Interest::BOTH, "data").unwrap();
            ours.write_all(b"x").unwrap();
            assert_eq!(ready(&mut selector).len(), 1);
            assert_eq!(selector.close(key), Some("data"));
            assert_eq!(selector.select(NOW).unwrap(), 0, "on {}", selector.backend());
            assert_eq!((selector.next_ready(), selector.stale_events()), (None, 0));
            // The duplicate may be watched again.
            let again = selector.register(duplicate, Interest::READABLE, "again").unwrap();
            let [ready] = ready(&mut selector)[..] else { panic!("one event") };
            assert_eq!((ready.key, selector.get(again)), (again, Some(&"again")));
        });
    }

    #[test]
    fn is_an_event_for_a_socket_that_was_closed_since_counted_and_dropped() {
        on_every_backend(|mut selector| {
            let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
            let (mut ours, mut keys) = (Vec::new(), Vec::new());
            for (mut one, other) in pairs {
                one.write_all(b"x").unwrap();
                ours.push(one);
                keys.push(selector.register(other, Interest::READABLE, "old").unwrap());
            }
            assert_eq!(selector.select(NOW).unwrap(), 4);
            let first = selector.next_ready().unwrap().key;
            // Whoever handles the first closes all others, and a new one takes their place.
            for key in keys.iter().filter(|key| **key != first) {
                selector.close(*key);
            }
            let (_new_ours, new) = pair();
            let reused = selector.register(new, Interest::READABLE, "new").unwrap();
            assert!(keys.iter().any(|key| key.index() == reused.index() && *key != reused));
            assert_eq!(selector.next_ready(), None);
            assert_eq!(selector.stale_events(), 3);
            assert_eq!(selector.get(reused), Some(&"new"));
            let [still] = ready(&mut selector)[..] else { panic!("one event") };
            assert_eq!(still.key, first);
        });
    }

    #[test]
    fn is_an_event_for_what_is_no_longer_watched_left_out() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            ours.write_all(b"x").unwrap();
            let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
            assert_eq!(selector.select(NOW).unwrap(), 1);
            selector.modify(key, Interest::NONE).unwrap();
            assert_eq!(selector.next_ready(), None);
            assert_eq!(selector.stale_events(), 0, "the socket is there");
        });
    }

    #[test]
    fn does_a_stale_key_do_nothing() {
        on_every_backend(|mut selector| {
            let (_ours, theirs) = pair();
            let old = selector.register(theirs, Interest::READABLE, "old").unwrap();
            selector.close(old);
            let (mut ours, theirs) = pair();
            let new = selector.register(theirs, Interest::READABLE, "new").unwrap();
            assert_eq!(old.index(), new.index());
            selector.modify(old, Interest::NONE).unwrap();
            assert_eq!(selector.close(old), None);
            assert!(selector.unregister(old).is_none());
            assert!(selector.get(old).is_none() && selector.source(old).is_none());
            ours.write_all(b"x").unwrap();
            assert_eq!(ready(&mut selector)[0].key, new);
        });
    }

    #[test]
    fn are_all_told_where_more_are_ready_than_one_wait_takes() {
        on_every_backend(|mut selector| {
            selector.events = Events::with_capacity(8);
            let mut ours = Vec::new();
            for _ in 0..50 {
                let (mut one, other) = pair();
                one.write_all(b"x").unwrap();
                ours.push(one);
                selector.register(other, Interest::READABLE, "data").unwrap();
            }
            for _ in 0..7 {
                for ready in ready(&mut selector) {
                    assert_eq!(selector.close(ready.key), Some("data"), "each is told once");
                }
            }
            assert!(selector.is_empty());
        });
    }

    #[test]
    fn does_the_waker_end_a_wait_and_be_no_event() {
        on_every_backend(|mut selector| {
            let waker = selector.waker().unwrap();
            waker.wake().unwrap();
            selector.select(None).unwrap();
            assert!(!selector.take_woken(), "not before it is seen");
            assert_eq!(selector.next_ready(), None);
            assert!(selector.take_woken());
            assert!(!selector.take_woken());
            waker.reset();
            assert_eq!(ready(&mut selector), []);
            assert!(!selector.take_woken());
        });
    }

    #[test]
    fn does_dropping_the_selector_close_its_sockets() {
        on_every_backend(|mut selector| {
            let (mut ours, theirs) = pair();
            selector.register(theirs, Interest::READABLE, "data").unwrap();
            drop(selector);
            assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        });
    }
}
