//! What other threads have asked of the loop: deferred replies, pushes, groups, timers, connects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{self as sys, Connecting, Errno, Interest, Socket as Handshake, SocketAddr};

use super::receive::Socket;
use super::{EventLoop, Role};
use crate::connection::Connection;
use crate::groups::{Groups, Walk};
use crate::handle::Item;
use crate::handler::Handler;
use crate::log::LogEvent;
use crate::outgoing::Outgoing;
use crate::protocol::{EncodeError, Framing};
use crate::slab::{Key, Slab};
use crate::stats::Cause;
use crate::timer::{self, Tick, TimerEntries, TimerLinks, Wheel};

/// Items that are handled in one turn.
const ITEM_BUDGET: usize = 1024;

/// Sends of broadcasts in one turn.
const BROADCAST_BUDGET: usize = 256;

/// Broadcasts that are under way at once.
const MAX_BROADCASTS: usize = 64;

/// What other threads asked for and is not done yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    /// The mailbox may hold more.
    woken: bool,
    broadcasts: VecDeque<Broadcast>,
    groups: Groups,
    clock: Clock,
}

/// A message on its way to many connections, encoded once.
#[derive(Debug)]
struct Broadcast {
    bytes: Arc<[u8]>,
    to: To,
}

#[derive(Debug)]
enum To {
    Group(Walk),
    /// All places of the slab from the first up to the second.
    All(u32, u32),
}

/// Timers that are no connection's.
#[derive(Debug, Default)]
struct Clock {
    wheel: Wheel,
    entries: Slab<Alarm>,
}

#[derive(Debug)]
struct Alarm {
    links: TimerLinks,
    what: What,
}

#[derive(Debug)]
enum What {
    Timer { tag: u64 },
    Connect { tag: u64, peer: Box<SocketAddr>, key: Key },
}

struct Alarms<'a>(&'a mut Slab<Alarm>);

impl TimerEntries for Alarms<'_> {
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
        self.0.at_mut(index).map(|(_, alarm)| &mut alarm.links)
    }
}

impl Inbox {
    /// Whether there is something to do without waiting for any event.
    pub(super) fn has_work(&self) -> bool {
        self.woken || !self.items.is_empty() || !self.broadcasts.is_empty()
    }

    /// How many groups have members.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// How many timers are running.
    pub(super) fn timers(&self) -> usize {
        self.clock.wheel.len()
    }

    /// How many timers are set and connects under way.
    #[cfg(myriapod_sim)]
    pub(super) fn alarms(&self) -> usize {
        self.clock.entries.len()
    }

    /// When the next timer fires.
    pub(super) fn next_alarm(&self) -> Option<Tick> {
        self.clock.wheel.next()
    }
}

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// Does what other threads have asked for, a bounded part of it in one turn.
    pub(super) fn work_inbox(&mut self) {
        self.inbox.woken |= self.selector.take_woken() | self.mailbox.take_unheard();
        for _ in 0..ITEM_BUDGET {
            // What is not done yet waits where it is counted: in the mailbox.
            if self.inbox.broadcasts.len() >= MAX_BROADCASTS {
                break;
            }
            if self.inbox.items.is_empty() && std::mem::take(&mut self.inbox.woken) {
                self.inbox.items = self.mailbox.take().into();
            }
            let Some(item) = self.inbox.items.pop_front() else { break };
            self.handle_item(item);
        }
        self.broadcast_some();
        self.ring();
    }

    fn handle_item(&mut self, item: Item) {
        match item {
            Item::Shutdown => self.begin_drain(),
            Item::CutOff => self.hurry(),
            Item::Resume => {
                if self.acceptor.parked {
                    self.resume_accepting();
                }
            }
            Item::Answer { key, sequence, outgoing, close } => {
                self.answer_deferred(key, sequence, close, |engine| {
                    outgoing.encode(&mut engine.framing, &mut engine.out)
                });
            }
            Item::Abandon { key, sequence } => {
                self.answer_deferred(key, sequence, true, |engine| {
                    let text = "the answer was abandoned";
                    engine.framing.error_reply(&mut engine.out, "Abandoned", text)
                });
            }
            Item::Send { key, outgoing } => {
                if let Some(bytes) = self.encode(&outgoing) {
                    self.push(key, &bytes);
                }
            }
            Item::Broadcast { group, outgoing } => {
                let Some(bytes) = self.encode(&outgoing) else { return };
                let to = match group {
                    Some(name) => To::Group(self.inbox.groups.walk(&name)),
                    None => To::All(0, self.selector.end()),
                };
                self.inbox.broadcasts.push_back(Broadcast { bytes, to });
            }
            Item::Join { key, group } => {
                self.regroup(key, |groups, head, _| groups.join(key, head, &group));
            }
            Item::Leave { key, group } => {
                self.regroup(key, |groups, head, walks| groups.leave(head, &group, walks));
            }
            Item::Close { key } => {
                if self.connection(key).is_none() {
                    self.engine.stats.missed += 1;
                }
                self.begin_close(key, Cause::Handler);
                self.settle(key, Socket::MayHoldMore);
            }
            Item::Connect { address, tag, timeout } => self.connect(address, tag, timeout),
            Item::Timer { due, tag } => {
                // This turn may have begun long before it was asked for.
                self.set_alarm(due.saturating_since(self.now), What::Timer { tag });
            }
            Item::Adopt { socket, peer } => self.open(socket, &peer),
            Item::Stats { to } => {
                // Whoever asked may have gone.
                let _ = to.send(self.stats());
            }
        }
    }

    /// The message as it goes over the wire; one that cannot be encoded is dropped and counted.
    fn encode(&mut self, outgoing: &Outgoing) -> Option<Arc<[u8]>> {
        let mut bytes = Vec::new();
        match outgoing.encode(&mut self.engine.framing, &mut bytes) {
            Ok(()) => Some(bytes.into()),
            Err(_) => {
                self.engine.stats.dropped_pushes += 1;
                None
            }
        }
    }

    /// The reply that the connection's next message waits for is there.
    fn answer_deferred(
        &mut self,
        key: Key,
        sequence: u32,
        close: bool,
        encode: impl FnOnce(&mut crate::connection::Engine<H, F>) -> Result<(), EncodeError>,
    ) {
        let waits = self
            .connection(key)
            .is_some_and(|connection| connection.is_deferred() && connection.pending == sequence);
        if !waits {
            self.engine.stats.missed += 1;
            return;
        }
        self.hold(key, |connection| connection.pending = 0);
        match encode(&mut self.engine) {
            Ok(()) => self.engine.stats.replies += 1,
            Err(error) => self.engine.error_reply("EncodeError", &error.to_string()),
        }
        let tick = self.tick;
        let mut close = close;
        if let Some(connection) = self.connection(key) {
            connection.last_active = tick;
            close |= connection.last_reply;
        }
        self.send_replies(key);
        if close || self.engine.config.one_shot {
            self.begin_close(key, Cause::Handler);
        } else {
            self.resume_reading(key);
            self.rearm(key);
        }
        self.settle(key, Socket::MayHoldMore);
    }

    /// Goes on with the broadcasts, the oldest first.
    fn broadcast_some(&mut self) {
        for _ in 0..BROADCAST_BUDGET {
            let Some(broadcast) = self.inbox.broadcasts.front_mut() else { return };
            let key = match &mut broadcast.to {
                To::Group(walk) => self.inbox.groups.next(walk),
                To::All(next, end) if *next == *end => None,
                To::All(next, _) => {
                    let index = *next;
                    *next += 1;
                    match self.selector.at_mut(index) {
                        Some((key, Role::Connection(_))) => Some(key),
                        _ => continue,
                    }
                }
            };
            let bytes = Arc::clone(&broadcast.bytes);
            match key {
                Some(key) => self.push(key, &bytes),
                None => {
                    self.inbox.broadcasts.pop_front();
                }
            }
        }
    }

    /// Changes the groups of a connection.
    fn regroup(
        &mut self,
        key: Key,
        change: impl FnOnce(&mut Groups, u32, &mut [&mut Walk]) -> u32,
    ) {
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else {
            self.engine.stats.missed += 1;
            return;
        };
        let mut walks = walks(&mut self.inbox.broadcasts);
        connection.groups = change(&mut self.inbox.groups, connection.groups, &mut walks);
    }

    /// A connection is closed, whose list of groups begins at `head`.
    pub(super) fn leave_all_groups(&mut self, head: u32) {
        let mut walks = walks(&mut self.inbox.broadcasts);
        self.inbox.groups.leave_all(head, &mut walks);
    }

    /// Starts to connect.
    fn connect(&mut self, peer: SocketAddr, tag: u64, timeout: Duration) {
        let started = if self.drain.is_some() {
            Err(sys::Error::call("connect", Errno::ECONNABORTED, &peer))
        } else {
            Handshake::connect_start(&peer, None)
        };
        let (socket, interest) = match started {
            Ok(Connecting::Done(socket) | Connecting::InProgress(socket)) => {
                (socket, Interest::WRITABLE)
            }
            Err(error) => return self.connect_failed(tag, &error),
        };
        let role = Role::Connecting(u32::MAX);
        match self.selector.register(socket, interest, role) {
            Ok(key) => {
                let what = What::Connect { tag, peer: Box::new(peer), key };
                let alarm = self.set_alarm(timeout, what);
                if let Some(Role::Connecting(index)) = self.selector.get_mut(key) {
                    *index = alarm;
                }
            }
            Err(error) => self.connect_failed(tag, &error),
        }
    }

    /// A connect has finished, one way or the other.
    pub(super) fn connected(&mut self, key: Key) {
        let Some((socket, Role::Connecting(alarm))) = self.selector.entry_mut(key) else { return };
        let result = sys::take_error(socket);
        let alarm = *alarm;
        let Some(What::Connect { tag, peer, .. }) = self.cancel_alarm(alarm) else { return };
        if let Err(errno) = result {
            self.selector.close(key);
            return self.connect_failed(tag, &sys::Error::call("connect", errno, &peer));
        }
        let id = self.engine.id(key);
        let state = self.engine.guard(id, |handler| handler.on_connect(tag, id, &peer));
        let Some(state) = state else {
            self.selector.close(key);
            return;
        };
        if let Some(role) = self.selector.get_mut(key) {
            *role = Role::Connection(Connection::new(state, super::accept::EXEMPT, self.tick));
        }
        self.tell(&LogEvent::Opened { id, peer: &peer });
        self.engine.stats.connected += 1;
        self.engine.stats.open += 1;
        self.member.enter();
        self.rearm(key);
        self.settle(key, Socket::MayHoldMore);
    }

    fn connect_failed(&mut self, tag: u64, error: &sys::Error) {
        // There is no connection that a panic could be about.
        let id = self.engine.id(Key::from_bits(u64::MAX));
        self.engine.guard(id, |handler| handler.on_connect_error(tag, error));
    }

    /// Has something happen after a while. Returns its place in the clock.
    fn set_alarm(&mut self, after: Duration, what: What) -> u32 {
        let alarm = Alarm { links: TimerLinks::UNARMED, what };
        let Ok(key) = self.inbox.clock.entries.insert(alarm) else { return u32::MAX };
        let due = self.tick.wrapping_add(timer::ticks(after).saturating_add(1));
        let clock = &mut self.inbox.clock;
        if clock.wheel.is_empty() {
            // It has not moved while it had nothing to do.
            clock.wheel = Wheel::starting_at(self.tick);
        }
        clock.wheel.arm(&mut Alarms(&mut clock.entries), key.index(), due);
        key.index()
    }

    fn cancel_alarm(&mut self, index: u32) -> Option<What> {
        let clock = &mut self.inbox.clock;
        clock.wheel.cancel(&mut Alarms(&mut clock.entries), index);
        let (key, _) = clock.entries.at_mut(index)?;
        clock.entries.remove(key).map(|alarm| alarm.what)
    }

    /// Fires the timers that are due.
    fn ring(&mut self) {
        let mut budget = super::TIMER_BUDGET;
        loop {
            let clock = &mut self.inbox.clock;
            let mut entries = Alarms(&mut clock.entries);
            let Some(index) = clock.wheel.expire(&mut entries, self.tick, &mut budget) else {
                return;
            };
            match self.cancel_alarm(index) {
                Some(What::Timer { tag }) => {
                    let id = self.engine.id(Key::from_bits(u64::MAX));
                    self.engine.guard(id, |handler| handler.on_timer(tag));
                }
                Some(What::Connect { tag, peer, key }) => {
                    self.selector.close(key);
                    let error = sys::Error::call("connect", Errno::ETIMEDOUT, &peer);
                    self.connect_failed(tag, &error);
                }
                None => {}
            }
        }
    }

    /// The loop has finished: nobody is heard any more, and whoever has asked for a connect is told.
    pub(super) fn close_mailbox(&mut self) {
        let unheard = std::mem::take(&mut self.inbox.items);
        for item in unheard.into_iter().chain(self.mailbox.close()) {
            if let Item::Connect { address, tag, .. } = item {
                let error = sys::Error::call("connect", Errno::ECONNABORTED, &address);
                self.connect_failed(tag, &error);
            }
        }
    }

    /// A graceful stop begins: connects that are under way are given up.
    pub(super) fn stop_connecting(&mut self) {
        for index in 0..self.inbox.clock.entries.end() {
            let Some(Alarm { what: What::Connect { tag, peer, key, .. }, .. }) =
                self.inbox.clock.entries.at(index)
            else {
                continue;
            };
            let (tag, key) = (*tag, *key);
            let error = sys::Error::call("connect", Errno::ECONNABORTED, peer);
            self.cancel_alarm(index);
            self.selector.close(key);
            self.connect_failed(tag, &error);
        }
    }
}

fn walks(broadcasts: &mut VecDeque<Broadcast>) -> Vec<&mut Walk> {
    let walks = broadcasts.iter_mut().filter_map(|broadcast| match &mut broadcast.to {
        To::Group(walk) => Some(walk),
        To::All(..) => None,
    });
    walks.collect()
}
