//! What is watched for, and what comes back: the same words for every backend.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign};

use crate::{Result, SystemError};

/// What the caller calls a watched descriptor; it comes back in every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What to watch a descriptor for.
///
/// ```
/// use myriapod_sys::Interest;
///
/// let mut interest = Interest::READABLE;
/// interest |= Interest::WRITABLE;
/// assert!(interest.is_readable() && interest.contains(Interest::WRITABLE));
/// assert_eq!(interest.without(Interest::READABLE), Interest::WRITABLE);
/// assert!(Interest::NONE.is_empty());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Nothing. Backends refuse it; a [selector](../myriapod/struct.Selector.html) parks the socket.
    pub const NONE: Self = Self(0);
    /// There is something to receive or to accept, or the peer has shut down sending.
    pub const READABLE: Self = Self(1);
    /// Something can be sent, or a connect has finished.
    pub const WRITABLE: Self = Self(4);
    /// Both.
    pub const BOTH: Self = Self(5);

    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether readability is asked for.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether all of `other` is asked for. Nothing is always.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether writability is asked for.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Interest {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAndAssign for Interest {
    fn bitand_assign(&mut self, other: Self) {
        *self = *self & other;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::READABLE => "READABLE",
            Self::WRITABLE => "WRITABLE",
            Self::BOTH => "READABLE | WRITABLE",
            _ => "NONE",
        })
    }
}

/// How events repeat. Level-triggered is what all backends share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mode(u8);

impl Mode {
    /// An event on every wait for as long as its condition holds.
    pub const LEVEL: Self = Self(0);
    /// An event only when something new arrives (`EPOLLET`, `EV_CLEAR`). The reader must then
    /// read until `EAGAIN`.
    pub const EDGE: Self = Self(1);
    /// One event; then nothing until `modify` arms it again (`EPOLLONESHOT`, `EV_DISPATCH`).
    pub const ONE_SHOT: Self = Self(2);
    /// Of several pollers that watch one listener, wake at least one rather than all
    /// (`EPOLLEXCLUSIVE`). Only with `add`: epoll refuses to modify it.
    pub const EXCLUSIVE: Self = Self(4);

    /// Whether this is edge-triggered.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        self.0 & Self::EDGE.0 != 0
    }

    /// Whether this is one-shot.
    #[must_use]
    pub const fn is_one_shot(self) -> bool {
        self.0 & Self::ONE_SHOT.0 != 0
    }

    /// Whether this is exclusive.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        self.0 & Self::EXCLUSIVE.0 != 0
    }

    /// Refuses everything else.
    pub(crate) const fn level_only(self, by: &'static str) -> Result<()> {
        let what = if self.is_edge() {
            "edge-triggered mode"
        } else if self.is_one_shot() {
            "one-shot mode"
        } else if self.is_exclusive() {
            "exclusive mode"
        } else {
            return Ok(());
        };
        Err(SystemError::Unsupported { what, by })
    }
}

impl BitOr for Mode {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Mode {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// What became of one descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    token: Token,
    flags: u8,
}

impl Event {
    // The bits of epoll and poll, where they fit: then the compiler converts with one mask.
    pub(crate) const READABLE: u8 = Interest::READABLE.0;
    pub(crate) const WRITABLE: u8 = Interest::WRITABLE.0;
    pub(crate) const ERROR: u8 = 8;
    pub(crate) const HANGUP: u8 = 16;
    pub(crate) const READ_CLOSED: u8 = 32;

    /// An event from a backend's own flags; a hang-up or an error makes it ready for everything,
    /// and a closed reading side makes it readable, as the contract says.
    #[inline]
    pub(crate) const fn new(token: Token, flags: u8) -> Self {
        if flags & (Self::HANGUP | Self::ERROR | Self::READ_CLOSED) == 0 {
            return Self { token, flags };
        }
        Self { token, flags: Self::implied(flags) }
    }

    #[cold]
    const fn implied(mut flags: u8) -> u8 {
        if flags & (Self::HANGUP | Self::ERROR) != 0 {
            flags |= Self::READABLE | Self::WRITABLE;
        }
        if flags & Self::READ_CLOSED != 0 {
            flags |= Self::READABLE;
        }
        flags
    }

    /// The token that was given with `add` or `modify`.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// `recv` or `accept` will not block: there is something, or the end, or an error to collect.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.flags & Self::READABLE != 0
    }

    /// `send` will not block, or will return the error; a connect has finished.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.flags & Self::WRITABLE != 0
    }

    /// A hint: the peer has shut down its sending side (`EPOLLRDHUP`, `EV_EOF`).
    #[must_use]
    pub const fn is_read_closed(&self) -> bool {
        self.flags & Self::READ_CLOSED != 0
    }

    /// A hint: both directions are over (`EPOLLHUP`).
    #[must_use]
    pub const fn is_hangup(&self) -> bool {
        self.flags & Self::HANGUP != 0
    }

    /// A hint: an error waits to be collected (`EPOLLERR`).
    #[must_use]
    pub const fn is_error(&self) -> bool {
        self.flags & Self::ERROR != 0
    }

    /// The readiness as an interest, to be compared with what was asked for.
    #[must_use]
    pub const fn readiness(&self) -> Interest {
        Interest(self.flags & Interest::BOTH.0)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("token", &self.token.0)
            .field("readable", &self.is_readable())
            .field("writable", &self.is_writable())
            .field("read_closed", &self.is_read_closed())
            .field("hangup", &self.is_hangup())
            .field("error", &self.is_error())
            .finish()
    }
}

/// Room for events, filled by `wait` and reused.
///
/// Its capacity is the most that one `wait` reports. What it leaves out comes first in the next:
/// nothing is reported twice while something else that stays ready is not reported at all.
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    capacity: usize,
}

impl Events {
    /// Room for `capacity` events.
    ///
    /// # Panics
    ///
    /// Where `capacity` is 0: a wait could then never report anything.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(capacity > 0, "a wait needs room for one event");
        Self { list: Vec::with_capacity(capacity), capacity }
    }

    /// The most that one `wait` reports.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How much of that is free; a wait without any is `EINVAL`.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity - self.list.len()
    }

    /// Forgets all events and keeps the room.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// The events, in the system's order.
    #[must_use]
    pub fn as_slice(&self) -> &[Event] {
        &self.list
    }

    /// Appends all; backends append no more than [`free`](Self::free).
    pub(crate) fn extend(&mut self, events: impl ExactSizeIterator<Item = Event>) {
        debug_assert!(events.len() <= self.free());
        self.list.extend(events);
    }

    /// Appends one; backends append no more than [`free`](Self::free).
    pub(crate) fn push(&mut self, event: Event) {
        self.extend(std::iter::once(event));
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}
