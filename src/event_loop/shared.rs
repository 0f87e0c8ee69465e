//! [`Shared`]: what all connections of a loop work with, and [`At`]: the one that is worked on.

use std::collections::VecDeque;

use myriapod_sys::{self as sys, BorrowedFd};

use super::SHARED_RECV;
use crate::buffer::{Lent, Pool};
use crate::connection::{Connection, Decision, Fact, Socket};
use crate::engine::Engine;
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{self, Tick};

/// What all connections of a loop work with. It knows neither the selector nor the wheel: what is to
/// be done there, it says ([`Step`]).
pub(super) struct Shared<H, F> {
    pub(super) engine: Engine<H, F>,
    pub(super) pool: Pool,
    /// Receives what comes for a connection with nothing unfinished.
    pub(super) scratch: Vec<u8>,
    /// Connections whose buffers may hold whole messages.
    pub(super) ready: VecDeque<Key>,
    /// Connections whose queues are sent at the end of the turn.
    pub(super) unsent: VecDeque<Key>,
    /// The time of this turn.
    pub(super) tick: Tick,
    /// The deadline of the connection that is worked on may have come nearer.
    pub(super) nearer: bool,
}

/// One connection, borrowed apart from the rest of the loop: its name, its socket, what is kept.
pub(super) struct At<'a, S> {
    pub(super) key: Key,
    pub(super) source: BorrowedFd<'a>,
    pub(super) connection: &'a mut Connection<S>,
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

impl<H, F> Shared<H, F> {
    pub(super) fn new(engine: Engine<H, F>) -> Self {
        let pool = Pool::new(engine.config.limits.max_buffer_bytes, sys::release_pages);
        Self {
            engine,
            pool,
            scratch: Vec::with_capacity(SHARED_RECV),
            ready: VecDeque::new(),
            unsent: VecDeque::new(),
            tick: 0,
            nearer: false,
        }
    }

    /// What follows from some work on a connection.
    pub(super) fn conclude<S>(
        &mut self,
        connection: &Connection<S>,
        after: After,
        draining: bool,
    ) -> Step {
        let decision = match after {
            After::Settle(socket) => connection.decide(socket, draining),
            After::Unwatch => Decision::Watch(connection.interest()),
            After::Close(cause) => Decision::Close(cause),
        };
        if decision == Decision::Close(Cause::Peer) && !connection.recv.is_none() {
            // Whole messages are answered before receiving on, so this one is not.
            self.engine.stats.truncated += 1;
        }
        let due = if std::mem::take(&mut self.nearer) { self.sooner(connection) } else { None };
        Step { decision, due }
    }

    /// The connection's deadline, where its timer would fire later.
    fn sooner<S>(&self, connection: &Connection<S>) -> Option<Tick> {
        let (due, _) = self.deadline(connection)?;
        let ahead = timer::until(self.tick, due);
        let is_later = |armed| ahead < timer::until(self.tick, armed);
        connection.timer.expires().is_none_or(is_later).then_some(due)
    }

    /// Notes a fact. While the connection may not be read from, the clock of its unfinished message
    /// stands still.
    pub(super) fn step<S>(&mut self, connection: &mut Connection<S>, fact: Fact) {
        connection.step(fact);
        self.run_clock(connection);
    }

    fn run_clock<S>(&mut self, connection: &Connection<S>) {
        if let Some(buffer) = self.pool.recv_mut(connection.recv) {
            buffer.clock.run(self.tick, !connection.is_held());
        }
    }

    /// From now on the connection only gets what is unsent.
    pub(super) fn begin_close<S>(&mut self, connection: &mut Connection<S>, cause: Cause) {
        self.release_own(connection);
        connection.step(Fact::Asked(cause));
    }

    /// Gives the connection's receive buffer back, and counts what it still held.
    pub(super) fn release_own<S>(&mut self, connection: &mut Connection<S>) {
        connection.step(Fact::Turn);
        let own = std::mem::replace(&mut connection.recv, Lent::NONE);
        let unread = self.pool.recv(own).map_or(0, |buffer| buffer.unread().len());
        self.engine.stats.discarded_in += unread as u64;
        self.pool.return_recv(own);
    }
}
