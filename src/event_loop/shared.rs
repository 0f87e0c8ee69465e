//! [`Shared`]: what all connections of a loop work with, and [`At`]: the one that is worked on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use myriapod_sys::{self as sys, BorrowedFd, Time};

use super::SHARED_RECV;
use super::timers::Alarms;
use crate::buffer::{Lent, Pool};
use crate::config::Limits;
use crate::connection::{Connection, Decision, Fact, Origin, Socket};
use crate::context::Orders;
use crate::engine::{Engine, OwnOf};
use crate::handler::Handler;
use crate::link::{self, Ending, Link};
use crate::protocol::Framing;
use crate::shares::{AddressLimit, Owner};
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{self, Tick};
use crate::view::{About, View};

/// What a peer is told whose message finds no room.
const NO_ROOM: &str = "the buffers of all connections are full; try again later";

/// What all connections of a loop work with. It knows neither the selector nor the wheel: what is to
/// be done there, it says ([`Step`]).
pub(super) struct Shared<H, F, L: Link> {
    pub(super) engine: Engine<H, F>,
    pub(super) link: L,
    /// Records on their way to a socket, and what they are made from; empty where all is plain.
    pub(super) sealed: Vec<u8>,
    pub(super) gathered: Vec<u8>,
    pub(super) pool: Pool,
    /// Receives what comes for a connection with nothing unfinished.
    pub(super) scratch: Vec<u8>,
    /// Connections whose buffers may hold whole messages.
    pub(super) ready: VecDeque<Key>,
    /// Connections whose queues are sent at the end of the turn.
    pub(super) unsent: VecDeque<Key>,
    /// The time of this turn, and when that tick began.
    pub(super) tick: Tick,
    pub(super) tick_began: Time,
    /// The deadline of the connection that is worked on may have come nearer.
    pub(super) nearer: bool,
    /// The handler wants the connection that is worked on to be closed at once.
    pub(super) cut: bool,
    /// Pushed messages that have just made room for another, by their tags.
    pub(super) gave_way: Vec<u64>,
    /// The handler's timers.
    pub(super) alarms: Alarms<Alarm>,
    /// Which of them is a connection's.
    timers: BTreeMap<Key, Key>,
    /// Open connections that we did not make. A stop ends those that we made after them.
    pub(super) served: usize,
}

/// What a timer of the handler is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    /// The loop's, with its tag.
    Loop(u64),
    /// A connection's.
    Connection(Key),
}

/// What the peers of one address may have of the buffers of all loops together, where this loop has
/// its share of them.
pub(super) fn of_address(limits: &Limits, loops: usize) -> AddressLimit {
    let (near, others) = limits.buffer_bytes_per_address(loops);
    AddressLimit { near, others }
}

/// One connection, borrowed apart from the rest of the loop: its name, its socket, what is kept.
pub(super) struct At<'a, S, K = ()> {
    pub(super) key: Key,
    pub(super) source: BorrowedFd<'a>,
    pub(super) connection: &'a mut Connection<S, K>,
}

impl<S, K> At<'_, S, K> {
    /// Whose the buffers of this connection are.
    pub(super) fn owner(&self) -> Owner {
        Owner { connection: self.key, address: self.connection.address }
    }
}

/// What is known of a connection after some work on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    /// It is brought into order, given what is known of its socket.
    Settle(Socket),
    /// Something came for it, and it waits for a deferred reply: it is not watched until then.
    Unwatch,
    /// It cannot go on.
    Close(Cause),
}

/// What is to be done outside of [`Shared`] after some work on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) decision: Decision,
    /// When its timer is to fire, where that is sooner than it would.
    pub(super) due: Option<Tick>,
}

impl<H, F, L: Link> Shared<H, F, L> {
    pub(super) fn new(engine: Engine<H, F>, link: L, loops: usize, now: Time) -> Self {
        let limits = &engine.config.limits;
        let of_address = of_address(limits, loops);
        let pool = Pool::new(limits.max_buffer_bytes, of_address, sys::release_pages);
        Self {
            engine,
            link,
            sealed: Vec::new(),
            gathered: Vec::new(),
            pool,
            scratch: Vec::with_capacity(SHARED_RECV),
            ready: VecDeque::new(),
            unsent: VecDeque::new(),
            tick: 0,
            tick_began: now,
            nearer: false,
            cut: false,
            gave_way: Vec::new(),
            alarms: Alarms::default(),
            timers: BTreeMap::new(),
            served: 0,
        }
    }

    /// What follows from some work on a connection.
    pub(super) fn conclude<S>(
        &mut self,
        connection: &Connection<S, L::Kept>,
        after: After,
        draining: bool,
    ) -> Step {
        let cut = std::mem::take(&mut self.cut);
        let decision = match after {
            _ if cut => Decision::Close(connection.closing_cause().unwrap_or(Cause::Handler)),
            After::Settle(socket) => connection.decide(socket, draining),
            After::Unwatch => Decision::Watch(connection.interest()),
            After::Close(cause) => Decision::Close(cause),
        };
        let is_of_link = !L::IS_PLAIN && !cut && L::is_secure(&connection.link);
        if decision == Decision::Close(Cause::Peer) && !connection.recv.is_none() {
            // Whole messages are answered before receiving on, so this one is not.
            self.engine.stats.truncated += 1;
        }
        let decision = match (decision, after) {
            (Decision::Close(cause), After::Settle(_) | After::Unwatch) if is_of_link => {
                end(cause, L::ending(&connection.link), connection.takes_replies())
            }
            _ => decision,
        };
        let due = if std::mem::take(&mut self.nearer) { self.sooner(connection) } else { None };
        Step { decision, due }
    }

    /// The connection's deadline, where its timer would fire later.
    pub(super) fn sooner<S>(&self, connection: &Connection<S, L::Kept>) -> Option<Tick> {
        let (due, _) = self.deadline(connection)?;
        let ahead = timer::until(self.tick, due);
        let is_later = |armed| ahead < timer::until(self.tick, armed);
        connection.timer.expires().is_none_or(is_later).then_some(due)
    }

    /// Notes a fact. While the connection may not be read from, the clock of its unfinished message
    /// stands still.
    pub(super) fn step<S>(&mut self, connection: &mut Connection<S, L::Kept>, fact: Fact) {
        connection.step(fact);
        self.run_clock(connection);
    }

    fn run_clock<S>(&mut self, connection: &Connection<S, L::Kept>) {
        if let Some(buffer) = self.pool.recv_mut(connection.recv) {
            let limits = &self.engine.config.limits;
            let timeout = if buffer.missing.in_content {
                limits.content_timeout
            } else {
                limits.header_timeout
            };
            let (timeout, window) = (timer::ticks(timeout), timer::ticks(limits.rate_window));
            buffer.run_clocks(self.tick, !connection.is_held(), timeout, window);
        }
    }

    /// In how many ticks the connection's timer fires.
    pub(super) fn timer_left(&self, key: Key) -> Option<Tick> {
        let due = self.alarms.due(*self.timers.get(&key)?)?;
        Some(timer::until(self.tick, due))
    }

    /// Sets or cancels the connection's timer.
    pub(super) fn set_timer<S>(&mut self, at: &mut At<'_, S, L::Kept>, after: Option<Duration>) {
        self.cancel_timer(at.key, at.connection);
        // This turn may have begun long before it was asked for.
        let behind = || sys::now().saturating_since(self.tick_began);
        if let Some(after) = after.map(|after| after.saturating_add(behind()))
            && let Some(alarm) = self.alarms.set(self.tick, after, Alarm::Connection(at.key))
        {
            self.timers.insert(at.key, alarm);
            at.connection.set_has_timer(true);
        }
    }

    /// Cancels the connection's timer, or forgets it where it has fired.
    pub(super) fn cancel_timer<S>(&mut self, key: Key, connection: &mut Connection<S, L::Kept>) {
        if connection.has_timer() {
            connection.set_has_timer(false);
            self.timers.remove(&key).and_then(|alarm| self.alarms.cancel(alarm));
        }
    }

    /// From now on the connection only gets what is unsent.
    pub(super) fn begin_close<S>(&mut self, connection: &mut Connection<S, L::Kept>, cause: Cause) {
        self.release_own(connection);
        connection.step(Fact::Asked(cause));
    }

    /// Gives the connection's receive buffer back, and counts what it still held.
    pub(super) fn release_own<S>(&mut self, connection: &mut Connection<S, L::Kept>) {
        connection.step(Fact::Turn);
        connection.step(Fact::Resumed);
        let own = std::mem::replace(&mut connection.recv, Lent::NONE);
        let buffer = self.pool.recv(own);
        let unread = buffer.map_or(0, |buffer| buffer.unread().len());
        let stream = buffer.and_then(|buffer| buffer.stream.as_ref());
        self.engine.stats.broken_streams += u64::from(stream.is_some_and(|one| !one.is_dropped()));
        self.engine.stats.discarded_in += unread as u64;
        self.pool.return_recv(own);
    }
}

impl<H: Handler, F: Framing, L: Link> Shared<H, F, L> {
    /// The connection as its handler sees it.
    pub(super) fn about<'a>(&self, at: &At<'a, OwnOf<H, F>, L::Kept>) -> About<'a> {
        About {
            key: at.key,
            source: at.source,
            origin: at.connection.origin,
            queued: self.pool.queued(at.connection.send),
            peer: None,
            // Somebody who pushes the next piece whenever one is sent would never see the end.
            is_open: !at.connection.is_deaf(),
        }
    }

    /// Calls the handler about a connection, and does what it asks for.
    pub(super) fn call(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        callback: &'static str,
        call: impl FnOnce(&mut H, &mut H::State, &mut View<'_>),
    ) {
        let about = self.about(at);
        let state = &mut at.connection.own.state;
        self.engine.call(&about, callback, |handler, view| call(handler, state, view));
        self.obey(at);
    }

    /// Does what the handler asked for in its last call, and sends what it pushed and replied.
    pub(super) fn obey(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let orders = self.engine.take_orders();
        if orders.has(Orders::TIMER) {
            self.set_timer(at, orders.timer);
        }
        if orders.has(Orders::CLOSE_NOW | Orders::RESET) {
            if orders.has(Orders::RESET) {
                // Where it fails, the connection is closed in the ordinary way.
                let _asked = link::reset(at.source);
            }
            self.engine.stats.discarded_out += self.engine.context.out.len() as u64;
            self.engine.clear_out();
            self.engine.context.drop_body();
            self.begin_close(at.connection, Cause::Handler);
            self.cut = true;
            return;
        }
        if orders.has(Orders::DEFERRED) {
            let (sequence, last) = (orders.sequence, orders.has(Orders::CLOSE));
            self.step(at.connection, Fact::Deferred { sequence, last });
        }
        self.send(at);
        if orders.has(Orders::BODY)
            && let Some(body) = self.engine.context.body.take()
        {
            self.queue_body(at, body);
        }
        if orders.has(Orders::COUNTED) {
            self.note_overflow(at.connection);
        }
        if orders.has(Orders::RESUME) {
            self.resume_streams(at);
        }
        if orders.has(Orders::CLOSE) && !orders.has(Orders::DEFERRED) {
            self.begin_close(at.connection, orders.cause);
        }
    }

    /// There is no room for what the peer sends: it gets an error reply, and its connection is
    /// closed.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse_for_buffers(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        // An answer that is owed would be taken for this one.
        let tells = !at.connection.is_waiting()
            && !at.connection.is_deaf()
            && at.connection.origin != Origin::CONNECTED;
        self.begin_close(at.connection, Cause::BufferLimit);
        if tells {
            self.engine.stats.refused_messages += 1;
            self.engine.error_reply("BufferLimit", NO_ROOM);
            self.obey(at);
        }
    }

    /// What the connection's buffers held was taken away for others.
    pub(super) fn give_way(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        self.engine.stats.gave_way += 1;
        if self.pool.is_taken(at.connection.send) {
            // Half a reply must not be followed by another: nothing more is sent.
            self.stop_sending(at);
            return self.begin_close(at.connection, Cause::BufferLimit);
        }
        self.refuse_for_buffers(at);
    }
}

/// A secure connection is to be closed whose peer has ended like this. `can_tell`: it can be sent to.
fn end(cause: Cause, ending: Ending, can_tell: bool) -> Decision {
    let cause = match (cause, ending) {
        (Cause::Peer, Ending::Fault) => Cause::LinkFault,
        (Cause::Peer, Ending::Cut) => Cause::Truncated,
        _ => cause,
    };
    match ending {
        // The peer waits for our last word, and there may be more from it that is to be dropped.
        Ending::Closed | Ending::Fault if can_tell => Decision::Linger(cause),
        _ => Decision::Close(cause),
    }
}
