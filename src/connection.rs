//! One connection as a state machine: facts in, decisions out; no socket and no clock.
//!
//! ```text
//!             enter                 Asked                 nothing is unsent
//!  arriving ────────▶ Open ───────────────────▶ Closing ───────────────────▶ lingering ──▶ gone
//!                     │  ▲                         ▲                             ▲
//!            Deferred │  │ Answered          Asked │                             │
//!                     ▼  │                         │      the loop stops, and     │
//!                   Waiting ───────────────────────┤      nothing is in flight    │
//!                     │                            │      (from Open) ────────────┘
//!          SendFailed ▼                            │
//!                 Unsendable ──────────────────────┴──▶ gone, without lingering
//! ```
//!
//! The peer's end ([`Fact::EndSeen`]) is no state: requests that came before it are still answered.
//! Then the connection is gone; there is nobody left to linger for.
//!
//! The loop tells [`Connection::step`] what happened, and asks [`Connection::decide`] what to do
//! once nothing more is to be told. Invariants, which `step` asserts in debug builds:
//!
//! 1. `Closing`: no receive buffer, not on the ready list, not paused. Nothing is read any more.
//! 2. `Unsendable`: no send queue, not paused. Nothing is sent any more.
//! 3. On the ready list: there is a receive buffer.
//! 4. `Waiting`: not on the ready list. The next message waits for the reply.
//! 5. Held: there is a receive buffer, since a content is on its way, and it is not `Closing`.
//! 6. Dry: there is a send queue, which begins with what the source has yet to give.

use myriapod_sys::Interest;

use crate::buffer::Lent;
use crate::groups;
use crate::stats::Cause;
use crate::timer::{Tick, TimerLinks};

/// What a loop keeps for one open connection, beside its socket. With a plain link and a handler
/// without state, it fits into the 56 bytes of an entry (docs/figures.md has the table).
///
/// Three kinds of methods, called in this order:
///
/// 1. [`step`](Self::step) notes a [`Fact`]. It is the only one that changes the state. [`touch`](Self::touch)
///    notes that bytes went in either direction.
/// 2. Questions, which change nothing: [`wants_to_read`](Self::wants_to_read),
///    [`takes_replies`](Self::takes_replies), [`is_closing`](Self::is_closing) and others.
/// 3. [`decide`](Self::decide), once no more facts are to come: what the loop has to do now. It checks
///    the invariants above.
///
/// [`list_unsent`](Self::list_unsent) and [`unlist_unsent`](Self::unlist_unsent) keep the mark that
/// says whether it is on the list of those to send for; the list itself is the loop's.
#[derive(Debug)]
pub(crate) struct Connection<S, K = ()> {
    pub(crate) timer: TimerLinks,
    /// The unfinished message, if there is one.
    pub(crate) recv: Lent,
    /// What is unsent, if there is anything.
    pub(crate) send: Lent,
    /// Which entry of the table of addresses counts this connection.
    pub(crate) address: u32,
    /// The head of the list of its groups.
    pub(crate) groups: u32,
    state: State,
    /// How it came about.
    pub(crate) origin: Origin,
    marks: Marks,
    /// What stands between its socket and its messages; of no size for a plain one.
    pub(crate) link: K,
    /// The handler's own.
    pub(crate) own: S,
}

/// How far a connection is. Bytes last went in either direction at `active`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Messages and replies.
    Open { active: Tick },
    /// The next message waits for the reply with this number. With `last`, the connection is closed
    /// behind that reply.
    Waiting { active: Tick, sequence: u32, last: bool },
    /// Sending failed: what has arrived is still handled, and replies are dropped.
    Unsendable { active: Tick },
    /// Nothing is read any more; what is unsent goes out first. Without `linger`, sending has failed:
    /// there is nothing left that a reset could destroy.
    Closing { active: Tick, cause: Cause, linger: bool },
}

/// What else is known of a connection. All are independent but for the invariants above.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    const NONE: Self = Self(0);
    /// The peer has shut down its sending side.
    const END_SEEN: Self = Self(1);
    /// Not read from until the queue is below the low-water mark.
    const PAUSED: Self = Self(1 << 1);
    /// On the ready list: the receive buffer may hold whole messages.
    const READY: Self = Self(1 << 2);
    /// On the list of those whose queue is sent at the end of the turn.
    const UNSENT: Self = Self(1 << 3);
    /// It has a timer of the handler's.
    const TIMER: Self = Self(1 << 4);
    /// The handler does not take the next piece of a content yet.
    const HELD: Self = Self(1 << 5);
    /// What is sent next waits for its source.
    const DRY: Self = Self(1 << 6);

    const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 != 0
    }

    const fn and(self, marks: Self) -> Self {
        Self(self.0 | marks.0)
    }

    fn set(&mut self, marks: Self, on: bool) {
        self.0 = if on { self.0 | marks.0 } else { self.0 & !marks.0 };
    }
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = ["end_seen", "paused", "ready", "unsent", "timer", "held", "dry"];
        let set = names.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}

/// How a connection came about, and the number of its listener if it has one: two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u16);

impl Origin {
    /// We connected to the peer.
    pub(crate) const CONNECTED: Self = Self(u16::MAX);
    /// It was given to the loop as a connected socket.
    pub(crate) const ADOPTED: Self = Self(u16::MAX - 1);
    /// The largest number that a listener can have.
    pub(crate) const MAX_LISTENER: u16 = u16::MAX - 2;

    /// It was accepted by the listener with this number.
    pub(crate) const fn accepted(listener: u16) -> Self {
        Self(if listener > Self::MAX_LISTENER { Self::MAX_LISTENER } else { listener })
    }

    /// The number by which another process knows the same.
    pub(crate) const fn to_bits(self) -> u16 {
        self.0
    }

    /// What has this number.
    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The listener that accepted it.
    pub(crate) const fn listener(self) -> Option<u16> {
        if self.0 > Self::MAX_LISTENER { None } else { Some(self.0) }
    }
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The peer has shut down its sending side.
    EndSeen,
    /// The reply to its last message comes later.
    Deferred { sequence: u32, last: bool },
    /// That reply is there.
    Answered,
    /// It is to be closed, for this cause, behind what is unsent.
    Asked(Cause),
    /// The peer takes no more bytes.
    SendFailed,
    /// Its queue has reached the high-water mark.
    QueueHigh,
    /// Its queue is down to the low-water mark.
    QueueLow,
    /// Its receive buffer may hold whole messages, and it waits for its turn.
    Ready,
    /// Its turn has come.
    Turn,
    /// The handler does not take the next piece of a content yet.
    Held,
    /// The handler goes on with it.
    Resumed,
    /// The source of what is sent next has nothing for now.
    Dry,
    /// It may have something.
    Fed,
}

/// What is known of a socket after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// It holds nothing more: a receive came short, or would have blocked.
    Empty,
    /// It may hold more.
    MayHoldMore,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Watch its socket for this.
    Watch(Interest),
    /// The same; but if it is watched for reading now, it stays so until something comes.
    WatchOrStay(Interest),
    /// The same, and the loop is being stopped: the socket may hold requests, so receive once more.
    LookAgain(Interest),
    /// Its replies are sent: shut down our side, then read on for a while and drop what comes.
    Linger(Cause),
    /// Close it.
    Close(Cause),
}

impl<S, K> Connection<S, K> {
    pub(crate) fn new(own: S, link: K, origin: Origin, address: u32, now: Tick) -> Self {
        Self {
            timer: TimerLinks::UNARMED,
            recv: Lent::NONE,
            send: Lent::NONE,
            address,
            groups: groups::NONE,
            state: State::Open { active: now },
            origin,
            marks: Marks::NONE,
            link,
            own,
        }
    }

    /// Notes what happened. Several facts may follow one another before [`decide`](Self::decide)
    /// says what to do about them.
    pub(crate) fn step(&mut self, fact: Fact) {
        let active = self.active();
        match fact {
            Fact::EndSeen => self.marks.set(Marks::END_SEEN, true),
            Fact::Deferred { sequence, last } => {
                if let State::Open { .. } = self.state {
                    self.marks.set(Marks::READY, false);
                    self.state = State::Waiting { active, sequence, last };
                }
            }
            Fact::Answered => {
                if let State::Waiting { .. } = self.state {
                    self.state = State::Open { active };
                }
            }
            Fact::Asked(cause) => match self.state {
                // The first cause is the one that is told.
                State::Closing { .. } => {}
                State::Unsendable { .. } | State::Open { .. } | State::Waiting { .. } => {
                    let linger = !matches!(self.state, State::Unsendable { .. });
                    self.marks.set(Marks::PAUSED.and(Marks::READY).and(Marks::HELD), false);
                    self.state = State::Closing { active, cause, linger };
                }
            },
            Fact::SendFailed => {
                self.marks.set(Marks::PAUSED.and(Marks::DRY), false);
                match self.state {
                    // An answer that was deferred would come for nobody.
                    State::Open { .. } | State::Waiting { .. } | State::Unsendable { .. } => {
                        self.state = State::Unsendable { active };
                    }
                    State::Closing { cause, .. } => {
                        self.state = State::Closing { active, cause, linger: false };
                    }
                }
            }
            Fact::QueueHigh => {
                let reads = matches!(self.state, State::Open { .. } | State::Waiting { .. });
                self.marks.set(Marks::PAUSED, reads || self.marks.has(Marks::PAUSED));
            }
            Fact::QueueLow => self.marks.set(Marks::PAUSED, false),
            Fact::Ready => {
                let reads = matches!(self.state, State::Open { .. } | State::Unsendable { .. });
                self.marks.set(Marks::READY, reads && !self.recv.is_none());
            }
            Fact::Turn => self.marks.set(Marks::READY, false),
            Fact::Held => {
                let reads = matches!(self.state, State::Open { .. } | State::Unsendable { .. });
                self.marks.set(Marks::HELD, reads && !self.recv.is_none());
            }
            Fact::Resumed => self.marks.set(Marks::HELD, false),
            Fact::Dry => self.marks.set(Marks::DRY, !self.send.is_none()),
            Fact::Fed => self.marks.set(Marks::DRY, false),
        }
    }

    /// What to do now, given what is known of its socket. `draining`: the loop is being stopped, and
    /// this connection is to end once nothing of it is in flight.
    pub(crate) fn decide(&self, socket: Socket, draining: bool) -> Decision {
        self.check();
        if self.send.is_none() {
            match self.state {
                State::Closing { cause, linger, .. } if self.is_ended() || !linger => {
                    return Decision::Close(cause);
                }
                State::Closing { cause, .. } => return Decision::Linger(cause),
                State::Open { .. } | State::Unsendable { .. }
                    if self.is_ended() && !self.is_ready() && !self.marks.has(Marks::HELD) =>
                {
                    return Decision::Close(Cause::Peer);
                }
                State::Open { .. } | State::Unsendable { .. } if draining && self.is_quiet() => {
                    return match socket {
                        Socket::MayHoldMore => Decision::LookAgain(self.interest()),
                        Socket::Empty => Decision::Linger(Cause::Drained),
                    };
                }
                _ => {}
            }
        }
        match self.state {
            // The answer may well be faster than whatever comes next.
            State::Waiting { .. } if !self.is_paused() => Decision::WatchOrStay(self.interest()),
            _ => Decision::Watch(self.interest()),
        }
    }

    /// The invariants at the top of this file.
    fn check(&self) {
        let closing = matches!(self.state, State::Closing { .. });
        let unsendable = matches!(self.state, State::Unsendable { .. });
        let waiting = matches!(self.state, State::Waiting { .. });
        debug_assert!(
            !closing || self.recv.is_none() && !self.is_ready() && !self.is_paused(),
            "1: {:?} {:?}",
            self.state,
            self.marks
        );
        debug_assert!(!unsendable || self.send.is_none() && !self.is_paused(), "2");
        debug_assert!(!self.is_ready() || !self.recv.is_none(), "3");
        debug_assert!(!waiting || !self.is_ready(), "4");
        debug_assert!(!self.marks.has(Marks::HELD) || !self.recv.is_none() && !closing, "5");
        debug_assert!(!self.marks.has(Marks::DRY) || !self.send.is_none(), "6");
    }

    /// What the socket should be watched for: the one place that decides it.
    #[inline]
    pub(crate) fn interest(&self) -> Interest {
        let mut interest = Interest::NONE;
        if self.wants_to_read() {
            interest = Interest::READABLE;
        }
        // What was queued in this turn is sent at its end, whatever the socket says.
        if !self.send.is_none() && !self.marks.has(Marks::UNSENT.and(Marks::DRY)) {
            interest |= Interest::WRITABLE;
        }
        interest
    }

    /// Whether receiving makes sense. A connection on the ready list stays watched, since it will
    /// be read from again within a turn or two, but is not read from meanwhile.
    #[inline]
    pub(crate) fn wants_to_read(&self) -> bool {
        let reads = matches!(self.state, State::Open { .. } | State::Unsendable { .. });
        reads && !self.marks.has(Marks::END_SEEN.and(Marks::PAUSED).and(Marks::HELD))
    }

    /// Whether it is we who do not read on, so that the peer is not late.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.marks.has(Marks::PAUSED.and(Marks::HELD)) || self.is_waiting()
    }

    /// Whether the handler does not take the next piece of a content yet.
    pub(crate) fn is_held_back(&self) -> bool {
        self.marks.has(Marks::HELD)
    }

    /// Whether what is sent next waits for its source.
    pub(crate) fn is_dry(&self) -> bool {
        self.marks.has(Marks::DRY)
    }

    /// Whether its next message waits for a deferred reply.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether it waits for the deferred reply with this number; if so, whether that is its last.
    pub(crate) fn waits_for(&self, number: u32) -> Option<bool> {
        match self.state {
            State::Waiting { sequence, last, .. } if sequence == number => Some(last),
            _ => None,
        }
    }

    /// Whether it is being closed, or nothing can be sent to it any more.
    pub(crate) fn is_deaf(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Unsendable { .. })
    }

    /// Whether replies can be sent to it.
    #[inline]
    pub(crate) fn takes_replies(&self) -> bool {
        !matches!(self.state, State::Unsendable { .. } | State::Closing { linger: false, .. })
    }

    /// Whether it is to be closed once all is sent.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Why it is being closed, if it is.
    pub(crate) fn closing_cause(&self) -> Option<Cause> {
        match self.state {
            State::Closing { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// Whether it is open, with nothing unfinished in either direction and nothing in the way.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let in_the_way = Marks::END_SEEN.and(Marks::PAUSED).and(Marks::READY).and(Marks::UNSENT);
        matches!(self.state, State::Open { .. })
            && !self.marks.has(in_the_way)
            && self.recv.is_none()
            && self.send.is_none()
    }

    /// Whether another process can go on with it: neither side has ended, no reply is owed, and we did
    /// not make it.
    pub(crate) fn may_go(&self) -> bool {
        let is_open = matches!(self.state, State::Open { .. });
        is_open && !self.is_ended() && self.origin != Origin::CONNECTED
    }

    /// Whether it can once its deferred reply is out.
    pub(crate) fn may_go_later(&self) -> bool {
        let waits = matches!(self.state, State::Waiting { last: false, .. });
        waits && !self.is_ended() && self.origin != Origin::CONNECTED
    }

    /// Whether nothing of a message or reply is in flight, as far as we know.
    fn is_quiet(&self) -> bool {
        let at_rest = matches!(self.state, State::Open { .. } | State::Unsendable { .. });
        at_rest && self.recv.is_none() && self.send.is_none() && !self.is_ready()
    }

    /// When bytes last went in either direction.
    #[inline]
    pub(crate) fn active(&self) -> Tick {
        match self.state {
            State::Open { active }
            | State::Waiting { active, .. }
            | State::Unsendable { active }
            | State::Closing { active, .. } => active,
        }
    }

    /// Bytes went in one direction.
    #[inline]
    pub(crate) fn touch(&mut self, now: Tick) {
        match &mut self.state {
            State::Open { active }
            | State::Waiting { active, .. }
            | State::Unsendable { active }
            | State::Closing { active, .. } => *active = now,
        }
    }

    /// Whether the peer has shut down its sending side.
    pub(crate) fn is_ended(&self) -> bool {
        self.marks.has(Marks::END_SEEN)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.marks.has(Marks::PAUSED)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.marks.has(Marks::READY)
    }

    /// Puts it on the list of those whose queue is sent at the end of the turn. Returns whether it
    /// was not there before.
    pub(crate) fn list_unsent(&mut self) -> bool {
        let was_listed = self.marks.has(Marks::UNSENT);
        self.marks.set(Marks::UNSENT, true);
        !was_listed
    }

    /// It is taken off that list.
    pub(crate) fn unlist_unsent(&mut self) {
        self.marks.set(Marks::UNSENT, false);
    }

    /// Whether its queue is sent at the end of the turn.
    pub(crate) fn is_unsent(&self) -> bool {
        self.marks.has(Marks::UNSENT)
    }

    /// Whether it has a timer of the handler's.
    pub(crate) fn has_timer(&self) -> bool {
        self.marks.has(Marks::TIMER)
    }

    pub(crate) fn set_has_timer(&mut self, has: bool) {
        self.marks.set(Marks::TIMER, has);
    }
}

/// What is left of a connection whose conversation is over: our side is shut down, and what still
/// arrives is read and dropped. Closing with unread input would reset the connection, and the reset
/// may destroy the last reply.
#[derive(Debug)]
pub(crate) struct Lingering {
    pub(crate) timer: TimerLinks,
    /// Which entry of the table of addresses counts it.
    pub(crate) address: u32,
    /// Bytes that may still be read and dropped.
    pub(crate) left: u32,
}

impl Lingering {
    /// So many bytes were dropped. Returns whether to go on.
    pub(crate) fn dropped(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left > 0
    }
}

#[cfg(test)]
mod tests;
