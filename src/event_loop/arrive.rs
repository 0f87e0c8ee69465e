//! The birth of a connection: everything that is not one yet, and [`EventLoop::enter`].
//!
//! A socket arrives by one of three ways: it was accepted, it was given to the loop, or it connects
//! to a peer. Where there are steps to take first (a connect that is under way, the header of a
//! proxy), it waits for them with a deadline. Then it enters, and the handler hears of it.

use std::any::Any;
use std::time::Duration;

use myriapod_sys::{
    self as sys, Connecting, Descriptor, Errno, Interest, Socket as Handshake, SocketAddr,
};

use super::addresses::{Entered, NO_ENTRY};
use super::close::after;
use super::greeting::Greeting;
use super::receive::{Received, receive_into};
use super::shared::After;
use super::{EventLoop, Role, Timers, arriving_at, promote};
use crate::connection::{Connection, Origin, Socket};
use crate::engine::Own;
use crate::handler::Handler;
use crate::link::{Link, LinkFault, Session};
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::proxy_protocol::{Command, Header, Refusal, parse};
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::TimerLinks;
use crate::view::{About, Peer};

/// A socket that is not a connection yet, in its entry of the selector.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) timer: TimerLinks,
    /// Where the loop keeps what is to be known when it enters, if it has to wait for a step. A socket
    /// without steps enters at once.
    pub(super) waits: Option<Key>,
}

/// What is known of a socket that arrives.
#[derive(Debug)]
pub(super) struct Arrival<L: Link> {
    pub(super) way: Way,
    pub(super) peer: SocketAddr,
    /// Which entry of the table of addresses counts it.
    pub(super) address: u32,
    /// What has come of the header that it waits for.
    pub(super) begun: Vec<u8>,
    /// The handshake that is under way, behind the header.
    pub(super) greeting: Option<Box<Greeting<L>>>,
    /// What a handshake begins with once the connect is done.
    pub(super) caller: Option<L::Caller>,
}

impl<L: Link> Arrival<L> {
    fn new(way: Way, peer: SocketAddr, address: u32) -> Self {
        Self { way, peer, address, begun: Vec::new(), greeting: None, caller: None }
    }

    /// Whether it waits for the rest of a PROXY header.
    pub(super) fn waits_for_header(&self) -> bool {
        matches!(self.way, Way::Accepted(_)) && self.greeting.is_none()
    }
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

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// A connected socket arrives, whose place in this loop is taken already.
    pub(super) fn arrive(&mut self, socket: Descriptor, peer: SocketAddr, way: Way) {
        if let Way::Accepted(listener) = way
            && let Some(proxies) = self.acceptor.proxies.of(listener)
        {
            let is_trusted = proxies.trusts(&peer);
            return self.arrive_by_proxy(socket, peer, way, is_trusted);
        }
        let Some(address) = self.enter_address(&peer) else {
            self.give_place_back();
            return self.refused_by_address(&peer);
        };
        // The handler is told the key, and its state belongs beside it: so the entry comes first,
        // and is watched only when it is complete.
        let arriving = Role::Arriving(Arriving { timer: TimerLinks::UNARMED, waits: None });
        match self.selector.register(socket, Interest::NONE, arriving) {
            Ok(key) => {
                let arrival = Arrival::new(way, peer, address);
                self.enter_or_greet(key, arrival, None, &mut []);
            }
            Err(error) => {
                self.acceptor.addresses.leave(address);
                self.give_place_back();
                self.tell(&LogEvent::Failed { error: &error });
            }
        }
    }

    /// Counts a connection of the peer's address; `None` where it has as many as it may.
    fn enter_address(&mut self, peer: &SocketAddr) -> Option<u32> {
        let Entered { address, first } = self.acceptor.addresses.enter(peer)?;
        if let Some((usage, is_near)) = first {
            self.shared.pool.open_address(address, usage, is_near);
        }
        Some(address)
    }

    fn refused_by_address(&mut self, peer: &SocketAddr) {
        self.shared.engine.stats.refused_by_address += 1;
        if self.acceptor.may_log(self.shared.tick) {
            let limit = self.acceptor.addresses.limit();
            self.tell(&LogEvent::RefusedByAddress { peer, limit });
        }
    }

    /// What an arriving socket does next: its handshake where the listener is a secure one, or it enters.
    /// What a proxy said of it is known, with the bytes that said it, and `first` is what came behind.
    fn enter_or_greet(
        &mut self,
        key: Key,
        arrival: Arrival<L>,
        proxy: Option<(&Header<'_>, &[u8])>,
        first: &mut [u8],
    ) {
        match self.opener(arrival.way) {
            None => self.enter(key, arrival, proxy.map(|(header, _)| header), None, first),
            Some(opener) => {
                let said = proxy.and_then(|(header, bytes)| bytes.get(..header.len()));
                self.greet(key, arrival, &opener, said.unwrap_or_default(), first);
            }
        }
    }

    /// An arriving socket becomes a connection: the only place that calls `on_open` and
    /// `on_connect`. What a proxy said of it is known, and `first` is what came behind that.
    pub(super) fn enter(
        &mut self,
        key: Key,
        arrival: Arrival<L>,
        proxy: Option<&Header<'_>>,
        secured: Option<(L::Kept, L::Session)>,
        first: &mut [u8],
    ) {
        let Arrival { way, peer, address, .. } = arrival;
        let (link, session) = match secured {
            Some((link, session)) => (link, Some(session)),
            None => (L::Kept::default(), None),
        };
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
        if proxy.is_some_and(|header| header.source().is_some()) {
            engine.context.peers.insert(key, peer.clone());
        }
        let session = session.as_ref().map(|session| session as &dyn Session);
        let who = Peer { address: &peer, proxy, session };
        let about = About { key, source, origin, queued: 0, peer: Some(&who), is_open: true };
        let own = match way {
            Way::Connects(tag) => engine.call(&about, "on_connect", |handler, view| Own {
                state: handler.on_connect(tag, view, &peer),
                stream: F::Stream::default(),
            }),
            Way::Accepted(_) | Way::Adopted => engine.call(&about, "on_open", |handler, view| {
                Own { state: handler.on_open(view, &peer), stream: F::Stream::default() }
            }),
        };
        let Some(own) = own else {
            engine.take_orders();
            engine.clear_out();
            engine.stats.count_closed(Cause::Panic);
            engine.stats.discarded_in += first.len() as u64;
            engine.context.peers.remove(&key);
            return self.turn_away(key, address);
        };
        engine.stats.open += 1;
        self.shared.served += usize::from(origin != Origin::CONNECTED);
        let connection = Connection::new(own, link, origin, address, self.shared.tick);
        promote(&mut self.selector, key, Role::Connection(connection));
        self.work(key, |shared, at| {
            shared.nearer = true;
            shared.obey(at);
            if !L::IS_PLAIN && L::is_secure(&at.connection.link) {
                return shared.take_in(at, first);
            }
            shared.digest_first(at, first);
            After::Settle(Socket::MayHoldMore)
        });
    }

    /// A socket whose place is taken does not become a connection.
    pub(super) fn turn_away(&mut self, key: Key, address: u32) {
        self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        self.selector.close(key);
        self.acceptor.addresses.leave(address);
        self.give_place_back();
    }

    /// Starts to connect, with a handshake of this loop's link behind it where there is a caller.
    pub(super) fn connect(
        &mut self,
        peer: SocketAddr,
        tag: u64,
        timeout: Duration,
        caller: Option<Box<dyn Any + Send>>,
    ) {
        let Ok(caller) = caller.map(<Box<dyn Any + Send>>::downcast::<L::Caller>).transpose()
        else {
            let (what, by) = ("a secure connection", "a server over another link");
            return self.connect_failed(tag, &sys::SystemError::Unsupported { what, by });
        };
        let caller = caller.map(|caller| *caller);
        let started = if self.drain.is_some() {
            Err(sys::SystemError::call("connect", Errno::ECONNABORTED, &peer))
        } else {
            Handshake::connect_start(&peer, None)
        };
        let socket = match started {
            Ok(Connecting::Done(socket) | Connecting::InProgress(socket)) => socket,
            Err(error) => return self.connect_failed(tag, &error),
        };
        let way = Way::Connects(tag);
        let arrival = Arrival { caller, ..Arrival::new(way, peer, NO_ENTRY) };
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

    /// Something happened on an arriving socket: the step that it waits for is done, or goes on.
    pub(super) fn step_on(&mut self, key: Key) {
        let Some((_, arriving)) = arriving_at(&mut self.selector, key) else { return };
        let arrival = arriving.waits.and_then(|waits| self.arrivals.get(waits));
        if !L::IS_PLAIN && arrival.is_some_and(|arrival| arrival.greeting.is_some()) {
            return self.shake(key);
        }
        match arrival.map(|arrival| arrival.way) {
            Some(Way::Connects(_)) => self.connect_is_done(key),
            Some(Way::Accepted(_) | Way::Adopted) => self.read_header(key),
            None => {}
        }
    }

    /// A connect is done, one way or the other.
    fn connect_is_done(&mut self, key: Key) {
        let Some((source, arriving)) = arriving_at(&mut self.selector, key) else { return };
        let waits = arriving.waits.take();
        let result = sys::take_error(source);
        let Some(mut arrival) = waits.and_then(|waits| self.arrivals.remove(waits)) else { return };
        self.member.enter();
        match (result, arrival.caller.take()) {
            (Ok(()), Some(caller)) => self.call(key, arrival, &caller),
            (Ok(()), None) => {
                self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
                self.enter(key, arrival, None, None, &mut []);
            }
            (Err(errno), _) => self.arrival_failed(key, &arrival, errno),
        }
    }

    /// Takes what is known of an arriving socket: its step is done, or given up.
    pub(super) fn take_arrival(&mut self, key: Key) -> Option<Arrival<L>> {
        let (_, arriving) = arriving_at(&mut self.selector, key)?;
        self.arrivals.remove(arriving.waits.take()?)
    }

    /// The deadline of an arriving socket has come.
    pub(super) fn arrival_is_late(&mut self, key: Key) {
        if !L::IS_PLAIN && self.is_greeting(key) {
            let text = "the handshake was not finished in time";
            return self.greeting_failed(key, &LinkFault::new(LinkFault::TIMEOUT, text));
        }
        self.give_up_arrival(key, Errno::ETIMEDOUT, Refusal::Late);
    }

    fn give_up_arrival(&mut self, key: Key, errno: Errno, refusal: Refusal) {
        let Some(arrival) = self.take_arrival(key) else { return };
        match arrival.way {
            Way::Connects(_) => {
                // It takes its place when it has arrived.
                self.member.enter();
                self.arrival_failed(key, &arrival, errno);
            }
            Way::Accepted(_) | Way::Adopted => {
                self.turn_away(key, arrival.address);
                self.refused_by_proxy(&arrival.peer, refusal, arrival.begun.len());
            }
        }
    }

    /// A connected socket arrives that a PROXY header is required of.
    fn arrive_by_proxy(
        &mut self,
        socket: Descriptor,
        peer: SocketAddr,
        way: Way,
        is_trusted: bool,
    ) {
        if !is_trusted {
            drop(socket);
            self.give_place_back();
            return self.refused_by_proxy(&peer, Refusal::Untrusted, 0);
        }
        self.wait_for_header(socket, peer, way, Vec::new());
    }

    /// Has a socket wait for its PROXY header, of which so much has begun.
    pub(super) fn wait_for_header(
        &mut self,
        socket: Descriptor,
        peer: SocketAddr,
        way: Way,
        begun: Vec<u8>,
    ) {
        let arrival = Arrival { begun, ..Arrival::new(way, peer, NO_ENTRY) };
        let Ok(waits) = self.arrivals.insert(arrival) else {
            self.give_place_back();
            self.shared.engine.stats.turned_away += 1;
            return;
        };
        let arriving = Arriving { timer: TimerLinks::UNARMED, waits: Some(waits) };
        match self.selector.register(socket, Interest::NONE, Role::Arriving(arriving)) {
            Ok(key) => {
                let timeout = self.shared.engine.config.limits.arrival_timeout;
                if let Some(due) = after(self.shared.tick, timeout) {
                    self.wheel.arm(&mut Timers(&mut self.selector), key.index(), due);
                }
                // Nearly always it is there already.
                self.read_header(key);
            }
            Err(error) => {
                self.arrivals.remove(waits);
                self.give_place_back();
                self.tell(&LogEvent::Failed { error: &error });
            }
        }
    }

    /// Receives what there is of a socket's PROXY header, and has it enter once that is whole.
    fn read_header(&mut self, key: Key) {
        let Some((source, arriving)) = arriving_at(&mut self.selector, key) else { return };
        let waits = arriving.waits;
        let Some(arrival) = waits.and_then(|waits| self.arrivals.get_mut(waits)) else { return };
        let mut bytes = std::mem::take(&mut self.shared.scratch);
        bytes.clear();
        bytes.extend_from_slice(&arrival.begun);
        let known = bytes.len();
        let received = receive_into(source, &mut bytes, &mut self.shared.engine.stats);
        arrival.begun.extend_from_slice(bytes.get(known..).unwrap_or_default());
        let header = match received {
            Received::Bytes(..) => parse(&bytes),
            Received::Nothing => Ok(None),
            Received::End | Received::Failed => Err(Refusal::Ended),
        };
        match header {
            Ok(Some(header)) => self.enter_by_proxy(key, &header, &bytes),
            // Nobody waits for a header when the loop is being stopped.
            Ok(None) if self.drain.is_none() => {
                if let Err(error) = self.selector.modify(key, Interest::READABLE) {
                    self.tell(&LogEvent::Failed { error: &error });
                    self.give_up_arrival(key, Errno::ENOMEM, Refusal::Ended);
                }
            }
            Ok(None) => self.give_up_arrival(key, Errno::ECONNABORTED, Refusal::Ended),
            Err(refusal) => self.give_up_arrival(key, Errno::ECONNABORTED, refusal),
        }
        self.shared.scratch = bytes;
    }

    /// The PROXY header at the front of `bytes` is whole.
    fn enter_by_proxy(&mut self, key: Key, header: &Header<'_>, bytes: &[u8]) {
        let Some(mut arrival) = self.take_arrival(key) else { return };
        self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        if let Some(source) = header.source() {
            arrival.peer = source.clone();
        }
        if header.command() == Command::Proxy {
            let Some(address) = self.enter_address(&arrival.peer) else {
                self.shared.engine.stats.discarded_in += bytes.len() as u64;
                self.turn_away(key, NO_ENTRY);
                return self.refused_by_address(&arrival.peer);
            };
            arrival.address = address;
        }
        // A copy: the header borrows what stands before, and a framing may change what it reads.
        let mut first = bytes.get(header.len()..).unwrap_or_default().to_vec();
        self.enter_or_greet(key, arrival, Some((header, bytes)), &mut first);
    }

    fn refused_by_proxy(&mut self, peer: &SocketAddr, refusal: Refusal, received: usize) {
        self.shared.engine.stats.discarded_in += received as u64;
        self.shared.engine.stats.count_refusal(refusal);
        let is_silent = refusal == Refusal::Ended && received == 0;
        let is_routine = is_silent || !self.acceptor.may_log(self.shared.tick);
        self.tell(&LogEvent::RefusedByProxy { peer, refusal, is_routine });
    }

    pub(super) fn arrival_failed(&mut self, key: Key, arrival: &Arrival<L>, errno: Errno) {
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
            let Some((key, Role::Arriving(arriving))) = self.selector.at_mut(index) else {
                continue;
            };
            let waits = arriving.waits;
            if self.leaving.is_late(key) {
                continue;
            }
            if !L::IS_PLAIN && self.is_greeting(key) {
                let arrival = waits.and_then(|waits| self.arrivals.get(waits));
                let is_ours = arrival.is_some_and(|one| matches!(one.way, Way::Connects(_)));
                if self.drain.is_none() || is_ours {
                    self.cut_greeting(key);
                }
                // A peer that was accepted may have sent a request behind its handshake.
                continue;
            }
            let way = waits.and_then(|waits| self.arrivals.get(waits)).map(|arrival| arrival.way);
            if self.drain.is_some() && matches!(way, Some(Way::Accepted(_))) {
                // A header that is there already counts.
                self.read_header(key);
            }
            self.give_up_arrival(key, Errno::ECONNABORTED, Refusal::Ended);
        }
    }
}
