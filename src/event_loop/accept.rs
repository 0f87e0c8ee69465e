//! When to accept, how many at once, and what to do when the system has no room for more.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use myriapod_sys::{
    self as sys, Descriptor, Errno, Interest, SocketAddr, SocketFile, SpareDescriptor,
};

use super::{EventLoop, Role};
use crate::config::{DEFAULT_PER_ADDRESS, Limits};
use crate::connection::Connection;
use crate::handler::Handler;
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::slab::{Key, Slab};
use crate::stats::Cause;
use crate::timer::{self, Tick};

/// How long accepting pauses at most when descriptors or memory run out: 100 milliseconds.
pub(crate) const PAUSE_TICKS: u32 = 10;

/// At most one line about pauses in this time: a second.
const LOG_TICKS: u32 = 100;

/// No entry in the table of addresses: the peer is exempt.
pub(crate) const EXEMPT: u32 = u32::MAX;

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// Accepts from the listeners that have peers waiting, a batch at the most.
    pub(super) fn accept(&mut self) {
        if self.acceptor.paused_until.is_some_and(|until| timer::until(self.tick, until) == 0) {
            self.resume_accepting();
        }
        if self.acceptor.waiting.is_empty() {
            return;
        }
        let mut left = self.acceptor.batch(self.turn);
        self.acceptor.take_turns(self.turn);
        while let Some(listener) = self.acceptor.waiting.pop() {
            // What the system lacks for one listener, it lacks for all.
            while left > 0 && !self.acceptor.parked && self.accept_one(listener) {
                left -= 1;
            }
        }
        if left == 0 {
            self.acceptor.batch_was_full(self.turn);
        }
    }

    /// Accepts one peer. Returns whether it makes sense to go on.
    pub(super) fn accept_one(&mut self, listener: Key) -> bool {
        let spread = self.acceptor.spread.contains(&listener);
        let shed_idle = self.engine.config.limits.shed_idle;
        let (mut place, mut idle) = (self.member.reserve(spread), None);
        if place.is_none() {
            idle = shed_idle.and_then(|idle| self.find_idle(idle));
            if idle.is_some() {
                // In its place, as soon as somebody is there to take it.
                self.member.enter();
                place = Some(self.member.index());
            }
        }
        let Some(place) = place.or_else(|| self.member.reserve_or_want(spread)) else {
            // Nobody has been idle for long enough: somebody may be soon.
            self.acceptor.paused_until = shed_idle.map(|_| self.tick.wrapping_add(PAUSE_TICKS));
            self.park_listeners();
            let max_connections = self.member.max_connections();
            if self.acceptor.may_log(self.tick) {
                self.tell(&LogEvent::AtLimit { max_connections });
            }
            return false;
        };
        let Some(source) = self.selector.source(listener) else {
            self.member.release_at(place);
            return false;
        };
        let errno = match sys::accept(source) {
            Ok((socket, peer)) if place == self.member.index() => {
                if let Some(idle) = idle {
                    self.close(idle, Cause::Shed);
                }
                self.open(socket, &peer);
                return true;
            }
            Ok((socket, peer)) => {
                match self.member.hand_over(place, socket, peer) {
                    Ok(()) => self.engine.stats.handed_over += 1,
                    Err(_) => self.engine.stats.turned_away += 1,
                }
                return true;
            }
            Err(errno) => errno,
        };
        self.member.release_at(place);
        match classify(errno) {
            AcceptError::Empty => false,
            AcceptError::Next => {
                self.engine.stats.accept_errors += 1;
                true
            }
            AcceptError::Exhausted => {
                self.pause_accepting(errno);
                if self.acceptor.may_turn_away(self.tick)
                    && let Some(spare) = &mut self.acceptor.spare
                    && let Some(source) = self.selector.source(listener)
                    && spare.turn_away(source) == Ok(true)
                {
                    self.engine.stats.turned_away += 1;
                }
                false
            }
            AcceptError::Unexpected => {
                self.engine.stats.accept_errors += 1;
                self.pause_accepting(errno);
                false
            }
        }
    }

    /// Serves a connection, whose place in this loop is taken already.
    pub(super) fn open(&mut self, socket: Descriptor, peer: &SocketAddr) {
        let Some(address) = self.acceptor.addresses.enter(peer) else {
            self.member.release();
            self.engine.stats.refused_by_address += 1;
            if self.acceptor.may_log(self.tick) {
                let limit = self.acceptor.addresses.limit();
                self.tell(&LogEvent::RefusedByAddress { peer, limit });
            }
            return;
        };
        // The handler is told the key, and its state belongs beside it: so the entry comes first,
        // and is watched only when it is complete.
        let key = match self.selector.register(socket, Interest::NONE, Role::Listener) {
            Ok(key) => key,
            Err(error) => {
                self.acceptor.addresses.leave(address);
                self.member.release();
                return self.tell(&LogEvent::Failed { error: &error });
            }
        };
        let id = self.engine.id(key);
        self.engine.stats.accepted += 1;
        self.engine.stats.open += 1;
        self.tell(&LogEvent::Opened { id, peer });
        let Some(state) = self.engine.guard(id, |handler| handler.on_open(id, peer)) else {
            self.selector.close(key);
            self.acceptor.addresses.leave(address);
            self.engine.stats.open -= 1;
            self.member.release();
            return self.engine.stats.count_closed(Cause::Panic);
        };
        if let Some(entry) = self.selector.get_mut(key) {
            *entry = Role::Connection(Connection::new(state, address, self.tick));
        }
        if let Err(error) = self.selector.modify(key, Interest::READABLE) {
            self.tell(&LogEvent::Failed { error: &error });
            self.close(key, Cause::Error);
            return;
        }
        self.rearm(key);
        self.look_again(key);
    }

    fn pause_accepting(&mut self, errno: Errno) {
        self.engine.stats.accept_pauses += 1;
        self.member.starve();
        self.acceptor.paused_until = Some(self.tick.wrapping_add(PAUSE_TICKS));
        self.park_listeners();
        if self.acceptor.may_log(self.tick) {
            let open = self.engine.stats.open;
            self.tell(&LogEvent::AcceptPaused { errno, open });
        }
    }

    fn park_listeners(&mut self) {
        if !std::mem::replace(&mut self.acceptor.parked, true) {
            self.watch_listeners(Interest::NONE);
        }
    }

    /// Lets peers in again, where anything had stopped them.
    pub(super) fn resume_accepting(&mut self) {
        self.acceptor.paused_until = None;
        if std::mem::take(&mut self.acceptor.parked) {
            self.watch_listeners(Interest::READABLE);
        }
    }

    /// Closes a listener for good. Its file goes first: as soon as nobody answers there, another
    /// server may bind the path, and that one's file is not ours to remove.
    pub(super) fn close_listener(&mut self, listener: Key) {
        self.acceptor.files.retain(|(key, _)| *key != listener);
        self.selector.close(listener);
    }

    fn watch_listeners(&mut self, interest: Interest) {
        for at in 0..self.acceptor.listeners.len() {
            let Some(key) = self.acceptor.listeners.get(at).copied() else { return };
            if let Err(error) = self.selector.modify(key, interest) {
                if !interest.is_empty() {
                    // For want of memory or of watches, most likely: tried again after a pause.
                    self.acceptor.parked = true;
                    self.acceptor.paused_until = Some(self.tick.wrapping_add(PAUSE_TICKS));
                }
                if self.acceptor.may_log(self.tick) {
                    self.tell(&LogEvent::Failed { error: &error });
                }
            }
        }
    }
}

/// The listeners of one loop and the state of accepting.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) listeners: Vec<Key>,
    /// Those among them whose connections go to the loop with the fewest.
    pub(crate) spread: Vec<Key>,
    /// The files of the Unix sockets among them that were bound here.
    pub(crate) files: Vec<(Key, SocketFile)>,
    /// Listeners that have peers waiting, as far as the last wait said.
    pub(crate) waiting: Vec<Key>,
    /// How many to accept in one turn.
    batch: usize,
    full_in_turn: Option<u64>,
    max_batch: usize,
    /// The listeners are out of the poller.
    pub(crate) parked: bool,
    /// Accepting pauses until then for want of descriptors or memory.
    pub(crate) paused_until: Option<Tick>,
    pub(crate) spare: Option<SpareDescriptor>,
    /// The place in the slab where the next search for an idle connection begins.
    pub(crate) next_look: u32,
    last_line: Option<Tick>,
    last_turn_away: Option<Tick>,
    pub(crate) addresses: AddressTable,
}

/// What to do about an error of accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nobody waits.
    Empty,
    /// That peer is gone, or its network: go on with the next.
    Next,
    /// The system lacks descriptors or memory.
    Exhausted,
    /// Nothing that accept(2) lists for a listening socket.
    Unexpected,
}

/// Sorts the errors of accept(2).
pub(crate) fn classify(errno: Errno) -> AcceptError {
    if errno.would_block() {
        return AcceptError::Empty;
    }
    match errno {
        Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => AcceptError::Exhausted,
        Errno::ECONNABORTED | Errno::EINTR | Errno::ETIMEDOUT | Errno::EPERM => AcceptError::Next,
        _ if errno.is_pending_network_error() => AcceptError::Next,
        _ => AcceptError::Unexpected,
    }
}

impl Acceptor {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            listeners: Vec::new(),
            spread: Vec::new(),
            files: Vec::new(),
            waiting: Vec::new(),
            batch: 1,
            full_in_turn: None,
            max_batch: limits.accept_batch,
            parked: false,
            paused_until: None,
            spare: SpareDescriptor::open().ok(),
            next_look: 0,
            last_line: None,
            last_turn_away: None,
            addresses: AddressTable::new(limits.max_connections_per_address),
        }
    }

    /// How many peers to accept in this turn. Doubles while the backlog outlasts one turn after the
    /// other, so that a trickle never pays for an accept that finds nobody.
    pub(crate) fn batch(&mut self, turn: u64) -> usize {
        let in_a_row = self.full_in_turn.is_some_and(|full| full + 1 == turn);
        self.batch = if in_a_row { (self.batch * 2).min(self.max_batch) } else { 1 };
        self.batch
    }

    /// Lets another listener come first in each turn, so that a rush at one does not keep the
    /// others waiting.
    fn take_turns(&mut self, turn: u64) {
        let count = self.waiting.len();
        let first = usize::try_from(turn % count.max(1) as u64).unwrap_or_default();
        self.waiting.rotate_left(first);
    }

    /// Notes that a turn's batch was used up, so that more peers may be waiting.
    pub(crate) fn batch_was_full(&mut self, turn: u64) {
        self.full_in_turn = Some(turn);
    }

    /// Whether a peer may be turned away now; if so, the next one has to wait for as long as a
    /// pause. A pause that a departure cuts short is no reason to turn away another.
    fn may_turn_away(&mut self, now: Tick) -> bool {
        let may = self.last_turn_away.is_none_or(|last| now.wrapping_sub(last) >= PAUSE_TICKS);
        if may {
            self.last_turn_away = Some(now);
        }
        may
    }

    /// Whether a line may be logged now; if so, the next one has to wait.
    pub(crate) fn may_log(&mut self, now: Tick) -> bool {
        let may = self.last_line.is_none_or(|last| now.wrapping_sub(last) >= LOG_TICKS);
        if may {
            self.last_line = Some(now);
        }
        may
    }
}

/// How many connections each peer's address has open.
///
/// A tree and not a hash table: peers choose their addresses, and a hash without a random seed
/// would let them choose collisions.
#[derive(Debug)]
pub(crate) struct AddressTable {
    limit: Option<usize>,
    by_network: BTreeMap<IpAddr, Key>,
    entries: Slab<(IpAddr, usize)>,
}

impl AddressTable {
    fn new(limit: Option<usize>) -> Self {
        Self { limit, by_network: BTreeMap::new(), entries: Slab::new() }
    }

    /// The number of connections that one address may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_PER_ADDRESS)
    }

    /// Counts one more connection of `peer`. Returns its entry, [`EXEMPT`] where there is none, or
    /// `None` where the peer has as many connections as it may.
    pub(crate) fn enter(&mut self, peer: &SocketAddr) -> Option<u32> {
        if self.limit.is_none() && (peer.is_loopback() || peer.is_unix()) {
            return Some(EXEMPT);
        }
        let limit = self.limit();
        // All peers of Unix sockets are one: they have no address of their own.
        let network = network(peer.ip().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let key = match self.by_network.get(&network) {
            Some(key) => *key,
            None => {
                let key = self.entries.insert((network, 0)).ok()?;
                self.by_network.insert(network, key);
                key
            }
        };
        let (_, count) = self.entries.get_mut(key)?;
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(key.index())
    }

    /// How many addresses have connections.
    #[cfg(myriapod_sim)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts one connection less for an entry.
    pub(crate) fn leave(&mut self, entry: u32) {
        let Some((key, (network, count))) = self.entries.at_mut(entry) else { return };
        *count -= 1;
        if *count == 0 {
            self.by_network.remove(network);
            self.entries.remove(key);
        }
    }
}

/// What counts as one address: an IPv4 address, mapped or not, or an IPv6 /64 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    #[test]
    fn does_an_address_get_its_number_of_connections_and_no_more() {
        let mut table = AddressTable::new(Some(2));
        let first = table.enter(&peer("192.0.2.1:1")).unwrap();
        assert_eq!(table.enter(&peer("192.0.2.1:2")), Some(first));
        assert_eq!(table.enter(&peer("192.0.2.1:3")), None);
        assert!(table.enter(&peer("192.0.2.2:3")).is_some());
        table.leave(first);
        assert_eq!(table.enter(&peer("[::ffff:192.0.2.1]:4")), Some(first), "mapped is the same");
        table.leave(first);
        table.leave(first);
        assert_eq!(table.by_network.len(), 1, "an address without connections is forgotten");
    }

    #[test]
    fn is_an_ipv6_network_one_address() {
        let mut table = AddressTable::new(Some(1));
        assert!(table.enter(&peer("[2001:db8::1]:1")).is_some());
        assert_eq!(table.enter(&peer("[2001:db8::2]:1")), None);
        assert!(table.enter(&peer("[2001:db8:0:1::1]:1")).is_some());
    }

    #[test]
    fn may_an_address_have_1024_connections_where_nothing_is_set() {
        let mut table = AddressTable::new(Limits::default().max_connections_per_address);
        for port in 1..=1024 {
            assert!(table.enter(&peer(&format!("192.0.2.1:{port}"))).is_some());
        }
        assert_eq!(table.enter(&peer("192.0.2.1:1025")), None);
    }

    #[test]
    fn are_loopback_and_unix_exempt_unless_a_limit_is_set() {
        let unix = SocketAddr::Unix(sys::UnixAddr::Unnamed);
        let mut table = AddressTable::new(None);
        assert_eq!(table.enter(&unix), Some(EXEMPT));
        assert_eq!(table.enter(&peer("127.0.0.1:1")), Some(EXEMPT));
        assert_eq!(table.enter(&peer("[::1]:1")), Some(EXEMPT));
        let mut table = AddressTable::new(Some(1));
        assert!(table.enter(&peer("127.0.0.1:1")).is_some());
        assert_eq!(table.enter(&peer("127.0.0.1:2")), None);
    }

    #[test]
    fn is_every_network_error_of_a_peer_passed_over() {
        // Not every system has each; the last one is Linux's alone.
        let names = "ENETDOWN EPROTO ENOPROTOOPT EHOSTDOWN EHOSTUNREACH EOPNOTSUPP ENETUNREACH \
            ECONNABORTED ETIMEDOUT EPERM ENONET";
        for errno in names.split(' ').filter_map(Errno::from_name) {
            assert_eq!(classify(errno), AcceptError::Next, "{errno}");
        }
        assert_eq!(classify(Errno::EMFILE), AcceptError::Exhausted);
        assert_eq!(classify(Errno::EBADF), AcceptError::Unexpected);
    }

    #[test]
    fn does_the_batch_grow_in_a_ramp_and_fall_in_a_trickle() {
        let limits = Limits { accept_batch: 16, ..Limits::default() };
        let mut acceptor = Acceptor::new(&limits);
        let mut ramp = Vec::new();
        for turn in 1..=6 {
            ramp.push(acceptor.batch(turn));
            acceptor.batch_was_full(turn);
        }
        assert_eq!(ramp, [1, 2, 4, 8, 16, 16]);
        for turn in [8, 10, 12] {
            assert_eq!(acceptor.batch(turn), 1, "a turn without waiting peers lay in between");
            acceptor.batch_was_full(turn);
        }
    }
}
