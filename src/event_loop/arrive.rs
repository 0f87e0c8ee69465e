//! The birth of a connection: everything that is not one yet, and [`EventLoop::enter`].
//!
//! A socket arrives by one of three ways: it was accepted, it was given to the loop, or it connects
//! to a peer. Where there are steps to take first (a connect that is under way), it waits for them
//! with a deadline. Then it enters, and the handler hears of it.

use std::time::Duration;

use myriapod_sys::{
    self as sys, Connecting, Descriptor, Errno, Interest, Socket as Handshake, SocketAddr,
};

use super::addresses::{Entered, NO_ENTRY};
use super::close::after;
use super::shared::After;
use super::{EventLoop, Role, Timers};
use crate::connection::{Connection, Origin, Socket};
use crate::handler::Handler;
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::TimerLinks;
use crate::view::About;

/// A socket that is not a connection yet, in its entry of the selector.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) timer: TimerLinks,
    /// Where the loop keeps what is to be known when it enters, if it has to wait for a step. A socket
    /// without steps enters at once.
    waits: Option<Key>,
}

/// What is known of a socket that arrives.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) way: Way,
    pub(super) peer: SocketAddr,
    /// Which entry of the table of addresses counts it.
    pub(super) address: u32,
}

/// How a socket arrives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// It was accepted by the listener with this number.
    Accepted(u16),
    /// It was given to the loop, connected.
    Adopted,
    /// It connects to the peer; the tag says which connect it is.
    Connects(u64),
}

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// A connected socket arrives, whose place in this loop is taken already.
    pub(super) fn arrive(&mut self, socket: Descriptor, peer: SocketAddr, way: Way) {
        let Some(Entered { address, first }) = self.acceptor.addresses.enter(&peer) else {
            self.give_place_back();
            self.shared.engine.stats.refused_by_address += 1;
            if self.acceptor.may_log(self.shared.tick) {
                let limit = self.acceptor.addresses.limit();
                self.tell(&LogEvent::RefusedByAddress { peer: &peer, limit });
            }
            return;
        };
        if let Some((usage, is_near)) = first {
            self.shared.pool.open_address(address, usage, is_near);
        }
        // The handler is told the key, and its state belongs beside it: so the entry comes first,
        // and is watched only when it is complete.
        let arriving = Role::Arriving(Arriving { timer: TimerLinks::UNARMED, waits: None });
        match self.selector.register(socket, Interest::NONE, arriving) {
            Ok(key) => self.enter(key, Arrival { way, peer, address }),
            Err(error) => {
                self.acceptor.addresses.leave(address);
                self.give_place_back();
                self.tell(&LogEvent::Failed { error: &error });
            }
        }
    }

    /// An arriving socket becomes a connection: the only place that calls `on_open` and
    /// `on_connect`.
    fn enter(&mut self, key: Key, arrival: Arrival) {
        let Arrival { way, peer, address } = arrival;
        let engine = &mut self.shared.engine;
        let id = engine.id(key);
        let origin = match way {
            Way::Accepted(listener) => Origin::accepted(listener),
            Way::Adopted => Origin::ADOPTED,
            Way::Connects(_) => Origin::CONNECTED,
        };
        match way {
            Way::Connects(_) => engine.stats.connected += 1,
            Way::Accepted(_) | Way::Adopted => engine.stats.accepted += 1,
        }
        engine.tell(&LogEvent::Opened { id, peer: &peer });
        let Some(source) = self.selector.source(key) else { return };
        let about = About { key, source, origin, queued: 0, peer: Some(&peer), is_open: true };
        let own = match way {
            Way::Connects(tag) => engine
                .call(&about, "on_connect", |handler, view| handler.on_connect(tag, view, &peer)),
            Way::Accepted(_) | Way::Adopted => {
                engine.call(&about, "on_open", |handler, view| handler.on_open(view, &peer))
            }
        };
        let Some(own) = own else {
            engine.take_orders();
            engine.clear_out();
            engine.stats.count_closed(Cause::Panic);
            return self.turn_away(key, address);
        };
        engine.stats.open += 1;
        self.shared.served += usize::from(origin != Origin::CONNECTED);
        let connection = Connection::new(own, origin, address, self.shared.tick);
        if let Some(role) = self.selector.get_mut(key) {
            *role = Role::Connection(connection);
        }
        self.work(key, |shared, at| {
            shared.nearer = true;
            shared.obey(at);
            After::Settle(Socket::MayHoldMore)
        });
    }

    /// A socket whose place is taken does not become a connection.
    fn turn_away(&mut self, key: Key, address: u32) {
        self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        self.selector.close(key);
        self.acceptor.addresses.leave(address);
        self.give_place_back();
    }

    /// Starts to connect.
    pub(super) fn connect(&mut self, peer: SocketAddr, tag: u64, timeout: Duration) {
        let started = if self.drain.is_some() {
            Err(sys::SystemError::call("connect", Errno::ECONNABORTED, &peer))
        } else {
            Handshake::connect_start(&peer, None)
        };
        let socket = match started {
            Ok(Connecting::Done(socket) | Connecting::InProgress(socket)) => socket,
            Err(error) => return self.connect_failed(tag, &error),
        };
        let arrival = Arrival { way: Way::Connects(tag), peer, address: NO_ENTRY };
        let waits = self.arrivals.insert(arrival).ok();
        let arriving = Role::Arriving(Arriving { timer: TimerLinks::UNARMED, waits });
        match self.selector.register(socket, Interest::WRITABLE, arriving) {
            Ok(key) => {
                let due = after(self.shared.tick, timeout).unwrap_or(self.shared.tick);
                self.wheel.arm(&mut Timers(&mut self.selector), key.index(), due);
            }
            Err(error) => {
                waits.and_then(|waits| self.arrivals.remove(waits));
                self.connect_failed(tag, &error);
            }
        }
    }

    /// The step that an arriving socket waits for is done, one way or the other.
    pub(super) fn step_is_done(&mut self, key: Key) {
        let Some((source, Role::Arriving(arriving))) = self.selector.entry_mut(key) else { return };
        let waits = arriving.waits.take();
        let result = sys::take_error(source);
        let Some(arrival) = waits.and_then(|waits| self.arrivals.remove(waits)) else { return };
        self.member.enter();
        match result {
            Ok(()) => {
                self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
                self.enter(key, arrival);
            }
            Err(errno) => self.arrival_failed(key, &arrival, errno),
        }
    }

    /// The deadline of an arriving socket has come.
    pub(super) fn arrival_is_late(&mut self, key: Key) {
        self.give_up_arrival(key, Errno::ETIMEDOUT);
    }

    fn give_up_arrival(&mut self, key: Key, errno: Errno) {
        let Some(Role::Arriving(arriving)) = self.selector.get_mut(key) else { return };
        let waits = arriving.waits.take();
        let Some(arrival) = waits.and_then(|waits| self.arrivals.remove(waits)) else { return };
        self.member.enter();
        self.arrival_failed(key, &arrival, errno);
    }

    fn arrival_failed(&mut self, key: Key, arrival: &Arrival, errno: Errno) {
        self.turn_away(key, arrival.address);
        if let Way::Connects(tag) = arrival.way {
            let error = sys::SystemError::call("connect", errno, &arrival.peer);
            self.connect_failed(tag, &error);
        }
    }

    pub(super) fn connect_failed(&mut self, tag: u64, error: &sys::SystemError) {
        let engine = &mut self.shared.engine;
        engine.guard("on_connect_error", |engine| engine.handler.on_connect_error(tag, error));
    }

    /// A graceful stop begins: what has not arrived is given up.
    pub(super) fn stop_arriving(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        for index in 0..self.selector.end() {
            if let Some((key, Role::Arriving(_))) = self.selector.at_mut(index) {
                self.give_up_arrival(key, Errno::ECONNABORTED);
            }
        }
    }
}
