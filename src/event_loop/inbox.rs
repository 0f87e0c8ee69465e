//! What other threads have asked of the loop: deferred replies, pushes, groups, timers, connects.

use std::collections::VecDeque;
use std::sync::Arc;

use myriapod_sys::{self as sys, Descriptor, Errno, SocketAddr};

use super::arrive::Way;
use super::send::Push;
use super::shared::{After, Alarm};
use super::{EventLoop, Role, connection_at};
use crate::connection::{Fact, Origin, Socket};
use crate::engine::Engine;
use crate::group_watch::GroupWatch;
use crate::groups::{Groups, Walk};
use crate::handler::Handler;
use crate::link::Link;
use crate::mailbox::Item;
use crate::outgoing::Outgoing;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;
use crate::view::About;

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
    /// Who is told when a group comes or goes.
    watch: Option<Arc<dyn GroupWatch>>,
}

/// A message on its way to many connections, encoded once.
#[derive(Debug)]
struct Broadcast {
    push: Push,
    to: To,
    /// One that does not get it.
    except: Option<Key>,
}

#[derive(Debug)]
enum To {
    Group(Walk),
    /// One that has not got it yet, behind the broadcasts before.
    One(Option<Key>),
    /// All places of the slab from the first up to the second.
    All(u32, u32),
}

/// Whom a broadcast reaches next.
enum Next {
    Member(Key),
    /// A place that nobody has.
    Nobody,
    End,
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

    /// The names of the groups of a connection, whose list of groups begins at `head`.
    pub(super) fn group_names(&self, head: u32) -> Vec<Box<str>> {
        self.groups.names(head)
    }

    /// Puts a connection into a group. Returns where its list of groups begins then.
    pub(super) fn join(&mut self, key: Key, head: u32, group: &str) -> u32 {
        self.groups.join(key, head, group)
    }

    /// A connection is over, whose list of groups begins at `head`.
    pub(super) fn leave_all_groups(&mut self, head: u32) {
        let mut walks = walks(&mut self.broadcasts);
        self.groups.leave_all(head, &mut walks);
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
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
            let is_large = matches!(&item, Item::Step(step) if step.is_large());
            self.handle_item(item);
            if is_large {
                // Others get their turn before the next.
                break;
            }
        }
        self.broadcast_some();
        self.ring();
        self.send_unsent();
    }

    /// Does all that was asked for by now, but steps of a hand-over.
    pub(super) fn finish_inbox(&mut self) {
        let mut items = std::mem::take(&mut self.inbox.items);
        items.extend(self.mailbox.take());
        for item in items {
            if matches!(item, Item::Step(_)) {
                self.inbox.items.push_back(item);
                continue;
            }
            self.handle_item(item);
            if self.inbox.broadcasts.len() >= MAX_BROADCASTS {
                self.finish_broadcasts();
            }
        }
        self.finish_broadcasts();
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
                self.answer_deferred(key, sequence, close, |engine, _| {
                    match engine.encode(&outgoing) {
                        Ok(()) => engine.stats.replies += 1,
                        Err(_) => engine.error_reply("EncodeError", "the answer cannot be encoded"),
                    }
                });
            }
            Item::Fail { key, sequence, error, close, id } => {
                self.answer_deferred(key, sequence, close, |engine, about| {
                    engine.context.note_id(Some(&id));
                    engine.reply_error(about, &error);
                    engine.context.forget_id();
                });
            }
            Item::Abandon { key, sequence, id } => {
                self.answer_deferred(key, sequence, true, |engine, about| {
                    engine.context.note_id(Some(&id));
                    if about.origin != Origin::CONNECTED {
                        engine.error_reply("Abandoned", "the answer was abandoned");
                    }
                    engine.context.forget_id();
                });
            }
            Item::Send { key, outgoing } => {
                if let Some(push) = self.encode(&outgoing) {
                    self.push(key, &push);
                }
            }
            Item::SendBehind { key, outgoing } => {
                let Some(push) = self.encode(&outgoing) else { return };
                if self.inbox.broadcasts.is_empty() {
                    return self.push(key, &push);
                }
                let to = To::One(Some(key));
                self.inbox.broadcasts.push_back(Broadcast { push, to, except: None });
            }
            Item::Broadcast { group, except, outgoing } => {
                let Some(push) = self.encode(&outgoing) else { return };
                let to = match group {
                    Some(name) => To::Group(self.inbox.groups.walk(&name)),
                    None => To::All(0, self.selector.end()),
                };
                self.inbox.broadcasts.push_back(Broadcast { push, to, except });
            }
            Item::Join { key, group } => {
                self.regroup(key, |groups, head, _| groups.join(key, head, &group));
            }
            Item::Leave { key, group } => {
                self.regroup(key, |groups, head, walks| groups.leave(head, &group, walks));
            }
            Item::Stream { key } => {
                let found = self.work(key, |shared, at| {
                    shared.resume_streams(at);
                    After::Settle(Socket::MayHoldMore)
                });
                self.shared.engine.stats.missed += u64::from(!found);
            }
            Item::Close { key } => {
                let found = self.work(key, |shared, at| {
                    shared.begin_close(at.connection, Cause::Handler);
                    After::Settle(Socket::MayHoldMore)
                });
                self.shared.engine.stats.missed += u64::from(!found);
            }
            Item::CloseNow { key } => {
                let found = self.work(key, |_, _| After::Close(Cause::Handler));
                self.shared.engine.stats.missed += u64::from(!found);
            }
            Item::Adopt { socket, peer } => self.adopt(socket, peer),
            Item::Limits(limits) => self.set_limits(*limits),
            Item::Watch(watch) => {
                self.inbox.watch = Some(watch);
                self.inbox.groups.watch();
                self.tell_watch();
            }
            Item::LogMessages(on) => {
                let engine = &mut self.shared.engine;
                engine.log_messages = on && engine.log.is_some();
            }
            Item::Accept(accepting) => self.set_accepting(accepting),
            Item::Members { group, to } => {
                let mut walk = self.inbox.groups.walk(&group);
                let keys = std::iter::from_fn(|| self.inbox.groups.next(&mut walk));
                // The one who asked may have gone.
                let _ = to.send(keys.map(|key| self.shared.engine.id(key)).collect());
            }
            Item::Connect { address, tag, timeout, caller } => {
                self.connect(address, tag, timeout, caller);
            }
            Item::Timer { due, tag } => {
                // This turn may have begun long before it was asked for.
                let after = due.saturating_since(self.now);
                self.shared.alarms.set(self.shared.tick, after, Alarm::Loop(tag));
            }
            Item::HandOver { socket, peer, listener } => {
                self.arrive(socket, peer, listener.map_or(Way::Adopted, Way::Accepted));
            }
            Item::Step(step) => self.step_over(*step),
            Item::Stats { to } => {
                // The one who asked may have gone.
                let _ = to.send(self.stats());
            }
        }
    }

    /// The message as it goes over the wire; one that cannot be encoded is dropped and counted.
    fn encode(&mut self, outgoing: &Outgoing) -> Option<Push> {
        let encoded = self.shared.engine.guard("encode", |engine| {
            let mut bytes = Vec::new();
            outgoing.encode(&mut engine.framing, &mut bytes).map(|()| bytes)
        });
        let Some(Ok(bytes)) = encoded else {
            self.shared.engine.stats.dropped_pushes += 1;
            return None;
        };
        Some(Push { bytes: bytes.into(), tag: outgoing.tag() })
    }

    /// The reply that the connection's next message waits for is there.
    fn answer_deferred(
        &mut self,
        key: Key,
        sequence: u32,
        close: bool,
        answer: impl FnOnce(&mut Engine<H, F>, &About<'_>),
    ) {
        let mut waited = false;
        self.work(key, |shared, at| {
            let settle = After::Settle(Socket::MayHoldMore);
            let Some(last) = at.connection.waits_for(sequence) else { return settle };
            waited = true;
            shared.step(at.connection, Fact::Answered);
            let about = shared.about(at);
            shared.engine.context.start = shared.engine.context.out.len();
            if shared.engine.guard("encode", |engine| answer(engine, &about)).is_none() {
                shared.engine.clear_out();
                shared.engine.context.orders.only_close(Cause::Panic);
            }
            at.connection.touch(shared.tick);
            shared.obey(at);
            if close || last || shared.engine.config.one_shot {
                shared.begin_close(at.connection, Cause::Handler);
            } else {
                shared.resume_reading(at);
                shared.nearer = true;
            }
            settle
        });
        self.shared.engine.stats.missed += u64::from(!waited);
    }

    /// Queues a message for a connection, if it is still there.
    fn push(&mut self, key: Key, push: &Push) {
        let found = self.work(key, |shared, at| shared.push(at, push));
        self.shared.engine.stats.missed += u64::from(!found);
    }

    /// Sends all that is to be broadcast.
    fn finish_broadcasts(&mut self) {
        while !self.inbox.broadcasts.is_empty() {
            self.broadcast_some();
        }
    }

    /// Goes on with the broadcasts, the oldest first.
    fn broadcast_some(&mut self) {
        let mut budget = BROADCAST_BUDGET;
        while let Some(broadcast) = self.inbox.broadcasts.front() {
            let (push, except) = (broadcast.push.clone(), broadcast.except);
            // Several for one connection go out with one send; of one alone nothing is to be gathered.
            let at_once = self.inbox.broadcasts.len() == 1 && self.inbox.items.is_empty();
            loop {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                match self.next_member() {
                    Next::Member(key) if Some(key) == except => {}
                    Next::Member(key) if at_once => {
                        let found = self.work(key, |shared, at| shared.push_at_once(at, &push));
                        self.shared.engine.stats.missed += u64::from(!found);
                    }
                    Next::Member(key) => self.push(key, &push),
                    Next::Nobody => {}
                    Next::End => break,
                }
            }
            self.inbox.broadcasts.pop_front();
        }
    }

    /// Whom the oldest broadcast reaches next.
    fn next_member(&mut self) -> Next {
        let Some(broadcast) = self.inbox.broadcasts.front_mut() else { return Next::End };
        let key = match &mut broadcast.to {
            To::Group(walk) => self.inbox.groups.next(walk),
            To::One(key) => key.take(),
            To::All(next, end) if *next == *end => None,
            To::All(next, _) => {
                let index = *next;
                *next += 1;
                match self.selector.at_mut(index) {
                    Some((key, Role::Connection(_))) => Some(key),
                    _ => return Next::Nobody,
                }
            }
        };
        key.map_or(Next::End, Next::Member)
    }

    /// Changes the groups of a connection.
    fn regroup(
        &mut self,
        key: Key,
        change: impl FnOnce(&mut Groups, u32, &mut [&mut Walk]) -> u32,
    ) {
        let Some((_, connection)) = connection_at(&mut self.selector, key) else {
            self.shared.engine.stats.missed += 1;
            return;
        };
        let mut walks = walks(&mut self.inbox.broadcasts);
        connection.groups = change(&mut self.inbox.groups, connection.groups, &mut walks);
        self.tell_watch();
    }

    /// Tells who watches which groups came and went.
    pub(super) fn tell_watch(&mut self) {
        let Some(watch) = &self.inbox.watch else { return };
        for (group, came) in self.inbox.groups.take_news() {
            self.shared.engine.guard("watch", |_| {
                if came { watch.first_in(&group) } else { watch.last_out(&group) }
            });
        }
    }

    /// Fires the handler's timers that are due.
    fn ring(&mut self) {
        let mut budget = super::TIMER_BUDGET;
        while let Some(alarm) = self.shared.alarms.take_due(self.shared.tick, &mut budget) {
            match alarm {
                Alarm::Loop(tag) => {
                    let engine = &mut self.shared.engine;
                    engine.guard("on_timer", |engine| engine.handler.on_timer(tag));
                }
                Alarm::Connection(key) => {
                    self.work(key, |shared, at| {
                        shared.cancel_timer(at.key, at.connection);
                        shared.call(at, "on_connection_timer", |handler, state, view| {
                            handler.on_connection_timer(state, view);
                        });
                        After::Settle(Socket::MayHoldMore)
                    });
                }
            }
        }
    }

    /// A connected socket was given to the server: it goes where there are fewest connections.
    fn adopt(&mut self, socket: Descriptor, peer: SocketAddr) {
        let place = if self.drain.is_some() { None } else { self.member.reserve(true) };
        let Some(place) = place else {
            self.shared.engine.stats.turned_away += 1;
            return;
        };
        if place == self.member.index() {
            self.arrive(socket, peer, Way::Adopted);
        } else if self.member.hand_over(place, socket, peer, None).is_ok() {
            self.shared.engine.stats.handed_over += 1;
        } else {
            self.shared.engine.stats.turned_away += 1;
        }
    }

    /// The loop has finished: nobody is heard any more, and who has asked for a connect is told.
    pub(super) fn close_mailbox(&mut self) {
        let unheard = std::mem::take(&mut self.inbox.items);
        for item in unheard.into_iter().chain(self.mailbox.close()) {
            match item {
                Item::Connect { address, tag, .. } => {
                    let error = sys::SystemError::call("connect", Errno::ECONNABORTED, &address);
                    self.connect_failed(tag, &error);
                }
                // Its socket is closed, and had a place here.
                Item::HandOver { .. } => self.member.release(),
                Item::Step(step) => (0..step.connections()).for_each(|_| self.member.release()),
                _ => {}
            }
        }
    }
}

fn walks(broadcasts: &mut VecDeque<Broadcast>) -> Vec<&mut Walk> {
    let walks = broadcasts.iter_mut().filter_map(|broadcast| match &mut broadcast.to {
        To::Group(walk) => Some(walk),
        To::One(_) | To::All(..) => None,
    });
    walks.collect()
}
