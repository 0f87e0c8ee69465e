//! When to accept, how many at once, and what to do when the system has no room for more.

use std::sync::Arc;

use myriapod_sys::{self as sys, Errno, Interest, SocketFile, SpareDescriptor};

use super::addresses::AddressTable;
use super::arrive::Way;
use super::seed::Proxies;
use super::{EventLoop, Role};
use crate::config::Limits;
use crate::handler::Handler;
use crate::link::Link;
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{self, Tick};
use crate::usage::Usages;

/// How long accepting pauses at most when descriptors or memory run out: 100 milliseconds.
pub(crate) const PAUSE_TICKS: u32 = 10;

/// At most one line about pauses in this time: a second.
const LOG_TICKS: u32 = 100;

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Accepts from the listeners that have peers waiting, a batch at the most.
    pub(super) fn accept(&mut self) {
        if self
            .acceptor
            .paused_until
            .is_some_and(|until| timer::until(self.shared.tick, until) == 0)
        {
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
        let shed_idle = self.shared.engine.config.limits.shed_idle;
        let may_shed = !self.catch_up.is_under_way();
        let (mut place, mut idle) = (self.member.reserve(spread), None);
        if place.is_none() {
            idle = shed_idle.filter(|_| may_shed).and_then(|idle| self.find_idle(idle));
            if idle.is_some() {
                // In its place, as soon as somebody is there to take it.
                self.member.enter();
                place = Some(self.member.index());
            }
        }
        let Some(place) = place.or_else(|| self.member.reserve_or_want(spread)) else {
            // Nobody has been idle for long enough: somebody may be soon.
            self.acceptor.paused_until =
                shed_idle.map(|_| self.shared.tick.wrapping_add(PAUSE_TICKS));
            self.park_listeners();
            let max_connections = self.member.max_connections();
            if self.acceptor.may_log(self.shared.tick) {
                self.tell(&LogEvent::AtLimit { max_connections });
            }
            return false;
        };
        let Some((source, Role::Listener(number))) = self.selector.entry_mut(listener) else {
            self.member.release_at(place);
            return false;
        };
        let number = *number;
        let errno = match sys::accept(source) {
            Ok((socket, peer)) if place == self.member.index() => {
                if let Some(idle) = idle {
                    self.close(idle, Cause::Shed);
                }
                self.arrive(socket, peer, Way::Accepted(number));
                return true;
            }
            Ok((socket, peer)) => {
                match self.member.hand_over(place, socket, peer, Some(number)) {
                    Ok(()) => self.shared.engine.stats.handed_over += 1,
                    Err(_) => self.shared.engine.stats.turned_away += 1,
                }
                return true;
            }
            Err(errno) => errno,
        };
        self.member.release_at(place);
        match classify(errno) {
            AcceptError::Empty => false,
            AcceptError::Next => {
                self.shared.engine.stats.accept_errors += 1;
                true
            }
            AcceptError::Exhausted => {
                self.pause_accepting(errno);
                if self.acceptor.may_turn_away(self.shared.tick)
                    && let Some(spare) = &mut self.acceptor.spare
                    && let Some(source) = self.selector.source(listener)
                    && spare.turn_away(source) == Ok(true)
                {
                    self.shared.engine.stats.turned_away += 1;
                }
                false
            }
            AcceptError::Unexpected => {
                self.shared.engine.stats.accept_errors += 1;
                self.pause_accepting(errno);
                false
            }
        }
    }

    fn pause_accepting(&mut self, errno: Errno) {
        self.shared.engine.stats.accept_pauses += 1;
        self.member.starve();
        self.acceptor.paused_until = Some(self.shared.tick.wrapping_add(PAUSE_TICKS));
        self.park_listeners();
        if self.acceptor.may_log(self.shared.tick) {
            let open = self.shared.engine.stats.open;
            self.tell(&LogEvent::AcceptPaused { errno, open });
        }
    }

    fn park_listeners(&mut self) {
        if !std::mem::replace(&mut self.acceptor.parked, true) {
            self.watch_listeners(Interest::NONE);
        }
    }

    /// Lets peers in, or leaves them in the backlog until further notice.
    pub(super) fn set_accepting(&mut self, accepting: bool) {
        self.acceptor.is_stopped = !accepting;
        if accepting {
            self.resume_accepting();
        } else {
            self.park_listeners();
        }
    }

    /// Leaves peers in the backlog for a moment: another process may be the one that accepts them.
    pub(super) fn hold_accepting(&mut self) {
        self.acceptor.is_held = true;
        self.park_listeners();
    }

    /// They may come in again.
    pub(super) fn release_accepting(&mut self) {
        if std::mem::take(&mut self.acceptor.is_held) {
            self.resume_accepting();
        }
    }

    /// Lets peers in again, where anything had stopped them but the owner's wish.
    pub(super) fn resume_accepting(&mut self) {
        self.acceptor.paused_until = None;
        self.watch_post();
        if self.acceptor.is_stopped || self.acceptor.is_held {
            return;
        }
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
                    // Memory or watches ran out, most likely: tried again after a pause.
                    self.acceptor.parked = true;
                    self.acceptor.paused_until = Some(self.shared.tick.wrapping_add(PAUSE_TICKS));
                }
                if self.acceptor.may_log(self.shared.tick) {
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
    /// The owner does not want peers for now.
    pub(crate) is_stopped: bool,
    /// A hand-over is about to begin.
    pub(crate) is_held: bool,
    /// Accepting pauses until then: descriptors or memory ran out.
    pub(crate) paused_until: Option<Tick>,
    pub(crate) spare: Option<SpareDescriptor>,
    /// The place in the slab where the next search for an idle connection begins.
    pub(crate) next_look: u32,
    last_line: Option<Tick>,
    last_turn_away: Option<Tick>,
    pub(crate) addresses: AddressTable,
    /// Where proxies are.
    pub(crate) proxies: Proxies,
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
    pub(crate) fn new(limits: &Limits, usages: Arc<Usages>) -> Self {
        Self {
            listeners: Vec::new(),
            spread: Vec::new(),
            files: Vec::new(),
            waiting: Vec::new(),
            batch: 1,
            full_in_turn: None,
            max_batch: limits.accept_batch,
            parked: false,
            is_stopped: false,
            is_held: false,
            paused_until: None,
            spare: SpareDescriptor::open().ok(),
            next_look: 0,
            last_line: None,
            last_turn_away: None,
            addresses: AddressTable::new(limits.max_connections_per_address, usages),
            proxies: Proxies::default(),
        }
    }

    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        self.max_batch = limits.accept_batch;
        self.addresses.set_limit(limits.max_connections_per_address);
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut acceptor = Acceptor::new(&limits, Arc::new(Usages::new()));
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
