//! A loop gives its connections to another process: it passes their descriptors ahead while it
//! serves, stops at the end of a turn, says what is to be known of each, and forgets them.

use std::sync::Arc;

use myriapod_sys::{self as sys, BorrowedFd, Descriptor, Interest, Receiver, Sender, SocketFile};

use super::accept::PAUSE_TICKS;
use super::arrive::{Arrival, Arriving, Way};
use super::shared::After;
use super::{EventLoop, Role, Timers, arriving_at, connection_at};
use crate::buffer::{Lent, SendQueue};
use crate::connection::{Connection, Socket};
use crate::engine::OwnOf;
use crate::groups;
use crate::handler::Handler;
use crate::handover::{
    BATCH, Batch, Channel, Described, Failure, Late, Message, Order, Parcel, Passed, Step, Summary,
    Unread, Unsent, pass,
};
use crate::link::{self, Link};
use crate::log::LogEvent;
use crate::predecessor::Predecessor;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;

/// What is kept beside a socket.
type RoleOf<H, F, L> = Role<OwnOf<H, F>, <L as Link>::Kept>;

/// Places of the slab that are looked at for one batch.
const LOOKS: u32 = 16 << 10;

/// What a loop knows of hand-overs; empty for a server that is never replaced.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// By their place in the slab: which connections the other process has a descriptor of.
    passed: Vec<u64>,
    /// Another process may have descriptors of our connections.
    is_shared: bool,
    /// Those that were written down.
    described: Vec<Key>,
    /// Those that go when they can, and where to.
    late: Vec<Key>,
    to: Option<Sender<Late>>,
    /// So many of them are on their way.
    under_way: usize,
    /// Where successors knock; the first loop has it.
    post: Option<Box<Post>>,
}

impl Leaving {
    /// Whether a connection goes to another process later.
    pub(super) fn is_late(&self, key: Key) -> bool {
        self.late.contains(&key)
    }

    /// Whether there is any.
    #[inline]
    pub(super) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Whether some are on their way, and may come back.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }
}

/// Where successors knock.
#[derive(Debug)]
struct Post {
    listener: Key,
    /// Its file goes before the listener.
    file: Option<SocketFile>,
    predecessor: Arc<Predecessor>,
    /// A hand-over is under way.
    is_busy: bool,
    /// It is out of the poller for a moment.
    is_parked: bool,
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Lets successors knock at a listener, whose file is ours.
    pub(crate) fn watch_for_successors(
        &mut self,
        listener: sys::Listener,
        file: Option<SocketFile>,
        predecessor: Predecessor,
    ) -> sys::Result<()> {
        let listener = self.selector.register(listener, Interest::READABLE, Role::Successors)?;
        let predecessor = Arc::new(predecessor);
        self.leaving.post =
            Some(Box::new(Post { listener, file, predecessor, is_busy: false, is_parked: false }));
        Ok(())
    }

    /// Why connections cannot go to another process, whatever they are doing.
    pub(crate) fn why_all_stay(&self) -> Option<&'static str> {
        if !self.shared.engine.handler.hands_over() {
            Some("connections of a handler without save and restore")
        } else if size_of::<F::Stream>() > 0 {
            Some("connections of a framing that keeps something of each")
        } else {
            None
        }
    }

    /// A process knocks. A thread talks to it.
    pub(super) fn greet_successor(&mut self) {
        let Some(post) = &mut self.leaving.post else { return };
        let Some(source) = self.selector.source(post.listener) else { return };
        let socket = match sys::accept(source) {
            Ok((socket, _)) => socket,
            Err(errno) if errno.would_block() => return,
            Err(_) => {
                // The system lacks something, most likely, and would report this again at once.
                post.is_parked = self.selector.modify(post.listener, Interest::NONE).is_ok();
                let again = self.shared.tick.wrapping_add(PAUSE_TICKS);
                self.acceptor.paused_until.get_or_insert(again);
                return;
            }
        };
        let refused = match sys::peer_user(&socket) {
            Ok(user) if user != sys::user() => Some(format!("user {user} may not take over")),
            Ok(_) if post.is_busy => Some("another hand-over is under way".to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let knock = source.try_clone_to_owned();
        let predecessor = Arc::clone(&post.predecessor);
        let why = match (refused, knock) {
            (None, Ok(knock)) => {
                post.is_busy = true;
                let talk = move || predecessor.hand_over(socket, &knock);
                match sys::spawn("handover", talk) {
                    Ok(_detached) => return,
                    Err(error) => {
                        post.is_busy = false;
                        error.to_string()
                    }
                }
            }
            (Some(why), _) => {
                // It is told if it can be: the socket is new, so there is room.
                let channel = Channel::new(socket, predecessor.patience());
                let _ = channel.send(&Message::Refused { why: why.clone() });
                why
            }
            (None, Err(error)) => error.to_string(),
        };
        self.tell(&LogEvent::NotHandedOver { process: None, why: &why });
    }

    /// Successors may knock again, where the system had lacked something.
    pub(super) fn watch_post(&mut self) {
        if let Some(post) = &mut self.leaving.post
            && post.is_parked
        {
            post.is_parked = self.selector.modify(post.listener, Interest::READABLE).is_err();
            let again = self.shared.tick.wrapping_add(PAUSE_TICKS);
            self.acceptor.paused_until = post.is_parked.then_some(again);
        }
    }

    /// Nobody can take over any more: the file of the socket goes first.
    pub(super) fn close_post(&mut self) {
        if let Some(Post { listener, file, .. }) = self.leaving.post.take().map(|post| *post) {
            {
                let _removed = file;
            }
            self.selector.close(listener);
        }
    }

    /// Does a step of a hand-over.
    pub(super) fn step_over(&mut self, step: Step) {
        match step {
            Step::Listeners { to } => drop(to.send(self.duplicate_listeners())),
            Step::Ahead { batch } => self.pass_batch(&batch),
            Step::Hold { to } => {
                self.hold_accepting();
                let _ = to.send(());
            }
            Step::Freeze { orders, to } => {
                // What a connection was put into or is to get is part of it.
                self.finish_inbox();
                let may = if self.drain.is_some() {
                    Err(Failure::new("the server is being stopped"))
                } else {
                    Ok(())
                };
                let is_frozen = may.is_ok();
                // Nobody waits for it any more where it took too long.
                if to.send(may).is_ok() && is_frozen {
                    self.freeze(&orders);
                }
            }
            Step::Release => {
                // The next one has no descriptors yet.
                self.leaving.passed = Vec::new();
                self.release_accepting();
            }
            Step::Failed { process, why } => {
                if let Some(post) = &mut self.leaving.post {
                    post.is_busy = false;
                }
                self.tell(&LogEvent::NotHandedOver { process, why: &why });
            }
            Step::Arrived { is_back } => {
                self.leaving.under_way -= 1;
                if !is_back {
                    self.give_place_back();
                }
            }
            Step::Take { connections } => {
                for (parcel, socket) in connections {
                    self.take_over(parcel, socket);
                }
            }
        }
    }

    fn duplicate_listeners(&self) -> Result<Vec<(Descriptor, u16)>, Failure> {
        if self.drain.is_some() {
            return Err(Failure::new("the server is being stopped"));
        }
        let mut duplicates = Vec::new();
        for key in &self.acceptor.listeners {
            if let (Some(source), Some(Role::Listener(number))) =
                (self.selector.source(*key), self.selector.get(*key))
            {
                let duplicate = source.try_clone_to_owned();
                duplicates.push((duplicate.map_err(Failure::new)?, *number));
            }
        }
        Ok(duplicates)
    }

    /// Passes the next connections of which the other process has no descriptor.
    fn pass_batch(&mut self, batch: &Batch) {
        let end = self.selector.end();
        let stop = end.min(batch.from.saturating_add(LOOKS));
        let mut keys = Vec::new();
        let mut index = batch.from;
        self.leaving.passed.resize(end as usize, u64::MAX);
        while index < stop && keys.len() < BATCH {
            if let Some((key, Role::Connection(connection))) = self.selector.at_mut(index)
                && let Some(passed) = self.leaving.passed.get_mut(index as usize)
                && *passed != key.to_bits()
                && may_go::<_, L>(connection)
            {
                *passed = key.to_bits();
                keys.push(key);
            }
            index += 1;
        }
        let sources = keys.iter().filter_map(|key| self.selector.source(*key));
        let sources: Vec<BorrowedFd<'_>> = sources.collect();
        let count = sources.len();
        let bits = keys.iter().map(|key| key.to_bits()).collect();
        let passed = if count == 0 {
            Ok(())
        } else {
            self.leaving.is_shared = true;
            pass(&batch.socket, self.member.index(), bits, &sources)
        };
        let next = (index < end).then_some(index);
        // The one who asked may have gone.
        let _ = batch.to.send(passed.map(|()| Passed { count, next }));
    }

    /// Stops to serve, until all is decided.
    fn freeze(&mut self, orders: &Receiver<Order>) {
        self.send_unsent();
        // No time limit: only the one who orders knows whether the connections are ours still.
        loop {
            match orders.recv() {
                Ok(Order::Pass { batch }) => self.pass_batch(&batch),
                Ok(Order::Describe { to }) => drop(to.send(self.describe())),
                Ok(Order::Tell { summary: Summary { connections, process, took }, to }) => {
                    self.tell(&LogEvent::HandedOver { connections, process, took });
                    let _ = to.send(());
                }
                Ok(Order::Go { late }) => {
                    self.leaving.to = self.leaving.has_late().then_some(late);
                    return self.part_with_all();
                }
                Err(_nobody) => {
                    self.leaving.described = Vec::new();
                    self.leaving.late = Vec::new();
                    return self.release_accepting();
                }
            }
        }
    }

    /// Writes down what is to be known of each connection that can go and was passed.
    fn describe(&mut self) -> Described {
        let mut described = Described::default();
        self.leaving.described.clear();
        self.leaving.late.clear();
        if self.why_all_stay().is_some() {
            return described;
        }
        for index in 0..self.selector.end() {
            let connection = match self.selector.at_mut(index) {
                Some((key, Role::Connection(connection))) => (key, connection),
                Some((key, Role::Arriving(Arriving { waits: Some(waits), .. }))) => {
                    if self.arrivals.get(*waits).is_some_and(Arrival::waits_for_header) {
                        self.leaving.late.push(key);
                    }
                    continue;
                }
                _ => continue,
            };
            let (key, connection) = connection;
            let is_passed = self.leaving.passed.get(index as usize) == Some(&key.to_bits());
            let (may_go, waits) = (may_go::<_, L>(connection), may_go_later::<_, L>(connection));
            if is_passed && may_go && !self.carries_too_much(key) {
                if let Some(parcel) = self.pack(key) {
                    parcel.write(&mut described.bytes);
                    described.connections += 1;
                    self.leaving.described.push(key);
                }
            } else if may_go || waits {
                self.leaving.late.push(key);
            }
        }
        described.late = u32::try_from(self.leaving.late.len()).unwrap_or(u32::MAX);
        described
    }

    /// Whether too many bytes of a connection are unread or unsent, or it is in the midst of a content
    /// that is not held in memory.
    fn carries_too_much(&mut self, key: Key) -> bool {
        let Some((_, connection)) = connection_at(&mut self.selector, key) else { return false };
        let pool = &self.shared.pool;
        let receiving = pool.recv(connection.recv);
        let streams = receiving.is_some_and(|buffer| buffer.stream.is_some())
            || pool.send(connection.send).is_some_and(SendQueue::has_body);
        let unread = receiving.map_or(0, |buffer| buffer.unread().len());
        streams || unread + pool.queued(connection.send) > Parcel::MAX_CARRIED
    }

    /// What is to be known of a connection; `None` where it cannot be said.
    fn pack(&mut self, key: Key) -> Option<Parcel> {
        let (_, connection) = connection_at(&mut self.selector, key)?;
        let groups = if connection.groups == groups::NONE {
            Vec::new()
        } else {
            self.inbox.group_names(connection.groups)
        };
        let is_too_long = |group: &str| group.len() > Parcel::MAX_GROUP_NAME;
        if groups.len() > Parcel::MAX_GROUPS || groups.iter().any(|group| is_too_long(group)) {
            return None;
        }
        let mut state = Vec::new();
        let saved = self
            .shared
            .engine
            .guard("save", |engine| engine.handler.save(&connection.own.state, &mut state));
        if saved != Some(true) || state.len() > Parcel::MAX_STATE {
            return None;
        }
        let tick = self.shared.tick;
        let unread = self.shared.pool.recv(connection.recv).map(|buffer| Unread {
            bytes: buffer.unread().to_vec(),
            in_content: buffer.missing.in_content,
            used: buffer.used(tick),
        });
        let unsent = self.shared.pool.send(connection.send).map(|queue| {
            let mut bytes = Vec::with_capacity(queue.len());
            queue.copy_to(&mut bytes);
            Unsent { bytes, stalled: tick.wrapping_sub(queue.stalled_since) }
        });
        Some(Parcel {
            name: (self.member.index(), key.to_bits()),
            origin: connection.origin.to_bits(),
            idle: tick.wrapping_sub(connection.active()),
            peer: self.shared.engine.context.peers.get(&key).cloned(),
            groups,
            timer: self.shared.timer_left(key),
            unread,
            unsent,
            state,
            is_arriving: false,
        })
    }

    /// Sends those that can go by now, and leaves those alone that never can.
    pub(super) fn send_late(&mut self) {
        for key in std::mem::take(&mut self.leaving.late) {
            if arriving_at(&mut self.selector, key).is_some() {
                self.send_arrival(key);
                continue;
            }
            let Some((_, connection)) = connection_at(&mut self.selector, key) else { continue };
            let (may_go, waits) = (may_go::<_, L>(connection), may_go_later::<_, L>(connection));
            if waits || may_go && self.carries_too_much(key) {
                self.leaving.late.push(key);
                continue;
            }
            let parcel = if may_go { self.pack(key) } else { None };
            let to = self.leaving.to.clone();
            if let (Some(parcel), Some(to)) = (parcel, to) {
                self.send_one(key, parcel, &to);
            } else {
                // It ends here, as the others do.
                self.work(key, |_, _| After::Settle(Socket::MayHoldMore));
            }
        }
        if !self.leaving.has_late() {
            self.leaving.to = None;
        }
    }

    fn send_one(&mut self, key: Key, parcel: Parcel, to: &Sender<Late>) {
        let Some((_, connection)) = connection_at(&mut self.selector, key) else { return };
        let receiving = std::mem::replace(&mut connection.recv, Lent::NONE);
        let sending = std::mem::replace(&mut connection.send, Lent::NONE);
        self.shared.pool.return_recv(receiving);
        self.shared.pool.return_send(sending);
        self.part(key, Cause::HandedOver);
        let Some((socket, Role::Lingering(lingering))) = self.take_out(key) else {
            return;
        };
        self.shared.engine.stats.lingering -= 1;
        self.acceptor.addresses.leave(lingering.address);
        self.leaving.under_way += 1;
        // Its place is kept until it has arrived: it may come back.
        let _ = to.send(Late { parcel, socket });
    }

    /// A socket whose PROXY header is not whole goes with what has come of it.
    fn send_arrival(&mut self, key: Key) {
        let Some(to) = self.leaving.to.clone() else { return };
        let Some((socket, Role::Arriving(arriving))) = self.take_out(key) else { return };
        let arrival = arriving.waits.and_then(|waits| self.arrivals.remove(waits));
        let Some(Arrival { way: Way::Accepted(listener), begun, .. }) = arrival else { return };
        let parcel = Parcel {
            name: (self.member.index(), key.to_bits()),
            origin: listener,
            idle: 0,
            peer: None,
            groups: Vec::new(),
            timer: None,
            unread: Some(Unread { bytes: begun, in_content: false, used: 0 }),
            unsent: None,
            state: Vec::new(),
            is_arriving: true,
        };
        self.leaving.under_way += 1;
        let _ = to.send(Late { parcel, socket });
    }

    /// A socket leaves the loop, open, with what is kept of it.
    fn take_out(&mut self, key: Key) -> Option<(Descriptor, RoleOf<H, F, L>)> {
        self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        self.selector.unregister(key)
    }

    /// Nothing goes later any more.
    pub(super) fn forget_late(&mut self) {
        self.leaving.late = Vec::new();
        self.leaving.to = None;
    }

    /// The connections that were written down belong to another process: they are forgotten, without
    /// a word to their peers. What is left is finished as in a graceful stop.
    fn part_with_all(&mut self) {
        for (_, file) in self.acceptor.files.drain(..) {
            file.keep();
        }
        while let Some(listener) = self.acceptor.listeners.pop() {
            self.selector.close(listener);
        }
        if let Some(Post { listener, file, .. }) = self.leaving.post.take().map(|post| *post) {
            file.into_iter().for_each(SocketFile::keep);
            self.selector.close(listener);
        }
        for key in std::mem::take(&mut self.leaving.described) {
            if let Some((_, connection)) = connection_at(&mut self.selector, key) {
                let receiving = std::mem::replace(&mut connection.recv, Lent::NONE);
                let sending = std::mem::replace(&mut connection.send, Lent::NONE);
                self.shared.pool.return_recv(receiving);
                self.shared.pool.return_send(sending);
            }
            self.part(key, Cause::HandedOver);
            self.forget(key);
        }
        self.begin_end();
    }

    /// Before a socket is closed of which another process may have a descriptor: its peer learns of
    /// the end from this alone.
    pub(super) fn end_if_shared(&self, key: Key) {
        if self.leaving.is_shared
            && let Some(source) = self.selector.source(key)
        {
            // Where it fails, the peer is gone.
            let _ = link::end(source);
        }
    }
}

/// Whether another process can go on with a connection.
fn may_go<S, L: Link>(connection: &Connection<S, L::Kept>) -> bool {
    connection.may_go() && (L::IS_PLAIN || !L::is_secure(&connection.link))
}

/// Whether it can once its deferred reply is out.
fn may_go_later<S, L: Link>(connection: &Connection<S, L::Kept>) -> bool {
    connection.may_go_later() && (L::IS_PLAIN || !L::is_secure(&connection.link))
}
