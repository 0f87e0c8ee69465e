//! The ways in which a connection ends.

use std::mem;
use std::time::Duration;

use myriapod_sys::{self as sys, Errno, Interest};

use super::shared::{After, At, Shared, Step, of_address};
use super::{CLOSE_COST, EventLoop, Role, TIMER_BUDGET, Timers, connection_at};
use crate::config::{Limits, Overflow};
use crate::connection::{Connection, Decision, Lingering, Origin, Socket};
use crate::engine::OwnOf;
use crate::groups;
use crate::handler::Handler;
use crate::link::{self, Link};
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{self, Tick};
use crate::view::About;

/// Connections that are looked at to find one that has long been idle.
const SHED_BUDGET: usize = 64;

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Works on one connection and brings it into order afterwards: one look-up serves both.
    /// Returns whether there is such a connection.
    pub(super) fn work(
        &mut self,
        key: Key,
        work: impl FnOnce(&mut Shared<H, F, L>, &mut At<'_, OwnOf<H, F>, L::Kept>) -> After,
    ) -> bool {
        let Some((source, connection)) = connection_at(&mut self.selector, key) else {
            return false;
        };
        let mut at = At { key, source, connection };
        let after = work(&mut self.shared, &mut at);
        let draining = self.drain.is_some()
            && self.shared.may_drain(at.connection)
            && !self.leaving.is_late(key);
        let step = self.shared.conclude(at.connection, after, draining);
        self.apply(key, step);
        true
    }

    /// Does what was decided about a connection.
    pub(super) fn apply(&mut self, key: Key, step: Step) {
        if let Some(due) = step.due {
            self.wheel.arm(&mut Timers(&mut self.selector), key.index(), due);
        }
        match step.decision {
            Decision::Watch(interest) => self.watch(key, interest),
            Decision::WatchOrStay(interest) => {
                let was = self.selector.interest(key).unwrap_or(Interest::NONE);
                self.watch(key, interest | (was & Interest::READABLE));
            }
            Decision::LookAgain(interest) => {
                self.look_again(key);
                self.watch(key, interest);
            }
            Decision::Linger(cause) => self.linger(key, cause),
            Decision::Close(cause) => self.close(key, cause),
        }
        if self.shared.pool.made_some_give_way() {
            self.close_those_that_gave_way();
        }
    }

    /// Others needed room, and these had to give it.
    #[cold]
    #[inline(never)]
    fn close_those_that_gave_way(&mut self) {
        let taken = self.shared.pool.take_taken();
        self.shared.engine.stats.discarded_in += taken.received as u64;
        self.shared.engine.stats.discarded_out += taken.unsent as u64;
        while let Some(key) = self.shared.pool.next_that_gave_way() {
            self.work(key, |shared, at| {
                shared.give_way(at);
                After::Settle(Socket::MayHoldMore)
            });
        }
    }

    fn watch(&mut self, key: Key, interest: Interest) {
        if let Err(error) = self.selector.modify(key, interest) {
            self.tell(&LogEvent::Failed { error: &error });
            self.close(key, Cause::Error);
        }
    }

    /// The conversation is over, and what is to be read and dropped remains: the handler is told,
    /// and the connection keeps its socket and its timer alone.
    pub(super) fn part(&mut self, key: Key, cause: Cause) {
        let left = self.shared.engine.config.limits.linger_bytes;
        let Some((source, role)) = self.selector.entry_mut(key) else { return };
        let Role::Connection(connection) = role else { return };
        if !L::IS_PLAIN {
            // In its place: what is moved leaves a copy behind.
            self.shared.link.forget(&mut connection.link, key.to_bits());
        }
        let (timer, address) = (connection.timer, connection.address);
        let rest = Role::Lingering(Lingering { timer, address, left });
        let Role::Connection(mut connection) = mem::replace(role, rest) else { return };
        let shared = &mut self.shared;
        shared.take_back(&mut connection);
        shared.cancel_timer(key, &mut connection);
        if connection.groups != groups::NONE {
            self.inbox.leave_all_groups(connection.groups);
        }
        shared.served -= usize::from(connection.origin != Origin::CONNECTED);
        let engine = &mut shared.engine;
        engine.stats.open -= 1;
        engine.stats.lingering += 1;
        engine.stats.count_closed(cause);
        let (id, origin) = (engine.id(key), connection.origin);
        let about = About { key, source, origin, queued: 0, peer: None, is_open: false };
        engine.call(&about, "on_close", |handler, view| {
            handler.on_close(connection.own.state, view, cause);
        });
        // There is nothing left that could be done for it.
        engine.take_orders();
        engine.context.peers.remove(&key);
        engine.tell(&LogEvent::Closed { id, cause });
        self.tell_watch();
    }

    /// All replies are sent: shuts down our side and reads on for a while, since closing with
    /// unread input would reset the connection and may destroy the last reply.
    fn linger(&mut self, key: Key, cause: Cause) {
        if !L::IS_PLAIN && !self.say_last_word(key, cause) {
            // It goes out as soon as there is room, and then we are back here.
            return;
        }
        // The kernel may lack buffers to tell the peer: the close tells it then, and until that the
        // peer may send on.
        let shut = self.selector.source(key).map(link::finish);
        let may_linger = matches!(shut, Some(Ok(()) | Err(Errno::ENOBUFS)));
        self.part(key, cause);
        self.read_on(key, may_linger);
    }

    /// Watches what is left of a connection for a while, if that can still bring something.
    pub(super) fn read_on(&mut self, key: Key, may_linger: bool) {
        let watched = may_linger && self.selector.modify(key, Interest::READABLE).is_ok();
        if !watched {
            return self.leave(key);
        }
        let timeout = self.shared.engine.config.limits.linger_timeout;
        let mut timers = Timers(&mut self.selector);
        match after(self.shared.tick, timeout) {
            Some(due) => self.wheel.arm(&mut timers, key.index(), due),
            None => drop(self.wheel.cancel(&mut timers, key.index())),
        }
    }

    /// Closes a connection at once.
    pub(super) fn close(&mut self, key: Key, cause: Cause) {
        if !L::IS_PLAIN {
            self.try_last_word(key);
        }
        self.part(key, cause);
        self.leave(key);
    }

    /// Closes the socket of a connection that is over, and gives its place back.
    pub(super) fn leave(&mut self, key: Key) {
        self.end_if_shared(key);
        self.forget(key);
    }

    /// The same, where another process has the socket too and serves it on.
    pub(super) fn forget(&mut self, key: Key) {
        self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        let Some(Role::Lingering(lingering)) = self.selector.close(key) else { return };
        self.shared.engine.stats.lingering -= 1;
        self.acceptor.addresses.leave(lingering.address);
        self.give_place_back();
    }

    /// A socket is closed: its place is free for another.
    pub(super) fn give_place_back(&mut self) {
        self.member.release();
        if self.acceptor.parked {
            self.resume_accepting();
        }
    }

    /// Something came for a connection that is over.
    pub(super) fn discard(&mut self, key: Key) {
        let Some((source, Role::Lingering(lingering))) = self.selector.entry_mut(key) else {
            return;
        };
        if !self.shared.discard(source, lingering) {
            self.leave(key);
        }
    }

    /// Finds a connection that has been idle for `idle` at least, to make room for a new one.
    ///
    /// Looks in the wheel's order first, where those that have been idle for longest stand in
    /// front; one that has been active since goes where it belongs, so that the next look finds
    /// others. What stands there for another reason (an unfinished message) must not hide what is
    /// behind it, idle connections may have no timer, and the wheel's order is coarse far ahead: so
    /// a few places of the slab, others each time, are looked at too.
    pub(super) fn find_idle(&mut self, idle: Duration) -> Option<Key> {
        let mut longest = None;
        for _ in 0..SHED_BUDGET {
            let Some(index) = self.wheel.first() else { break };
            let Some((key, Role::Connection(connection))) = self.selector.at_mut(index) else {
                break;
            };
            longest = self.shared.idle_since(connection, idle).map(|ticks| (ticks, key.to_bits()));
            if longest.is_some() {
                break;
            }
            let Some((due, _)) = self.shared.deadline(connection) else { break };
            if connection.timer.expires() == Some(due) {
                break;
            }
            self.wheel.arm(&mut Timers(&mut self.selector), index, due);
        }
        let end = self.selector.end();
        for _ in 0..SHED_BUDGET.min(end as usize) {
            let index = self.acceptor.next_look % end;
            self.acceptor.next_look = index + 1;
            if let Some((key, Role::Connection(connection))) = self.selector.at_mut(index) {
                let ticks = self.shared.idle_since(connection, idle);
                longest = longest.max(ticks.map(|ticks| (ticks, key.to_bits())));
            }
        }
        longest.map(|(_, key)| Key::from_bits(key))
    }

    /// Works within other limits from now on.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.acceptor.set_limits(&limits);
        let of_address = of_address(&limits, self.member.loops());
        self.shared.pool.set_limit(limits.max_buffer_bytes, of_address);
        if let Some(max_connections) = limits.max_connections {
            self.member.set_max_connections(max_connections);
        }
        self.shared.engine.set_limits(limits);
        // A timeout may be shorter now.
        self.rearming = Some((0, self.selector.end()));
        if self.acceptor.parked && self.acceptor.paused_until.is_none() {
            self.resume_accepting();
        }
    }

    /// Limits have changed: has the timers of some connections fire in time for them.
    pub(super) fn rearm_some(&mut self) {
        let Some((mut next, end)) = self.rearming else { return };
        let stop = end.min(next.saturating_add(TIMER_BUDGET));
        while next < stop {
            if let Some((key, Role::Connection(_))) = self.selector.at_mut(next) {
                self.work(key, |shared, _| {
                    shared.nearer = true;
                    After::Settle(Socket::MayHoldMore)
                });
            }
            next += 1;
        }
        self.rearming = (next < end).then_some((next, end));
    }

    /// Fires what has expired: ends what is late, and arms the timer of a connection anew that has
    /// been active since.
    pub(super) fn expire(&mut self) {
        let mut budget = TIMER_BUDGET;
        loop {
            let mut entries = Timers(&mut self.selector);
            let now = self.shared.tick;
            let Some(index) = self.wheel.expire(&mut entries, now, &mut budget) else { return };
            self.judge_rates(index);
            match self.selector.at_mut(index) {
                Some((key, Role::Connection(connection))) => {
                    let Some((due, cause)) = self.shared.deadline(connection) else { continue };
                    if timer::until(now, due) > 0 {
                        self.wheel.arm(&mut Timers(&mut self.selector), index, due);
                        continue;
                    }
                    self.close(key, cause);
                }
                Some((key, Role::Lingering(_))) => self.leave(key),
                Some((key, Role::Arriving(_))) => self.arrival_is_late(key),
                Some((_, Role::Listener(_) | Role::Signals | Role::Successors)) | None => continue,
            }
            budget = budget.saturating_sub(CLOSE_COST);
        }
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Where bytes have come, or gone, at the least rate that the limits ask for, the next time for
    /// that begins.
    fn judge_rates(&mut self, index: u32) {
        let Some((key, Role::Connection(connection))) = self.selector.at_mut(index) else { return };
        let (receiving, sending) = (connection.recv, connection.send);
        let now = self.shared.tick;
        let limits = &self.shared.engine.config.limits;
        let window = timer::ticks(limits.rate_window);
        let least = |rate| least_bytes(rate, limits.rate_window);
        let (content, read) = (least(limits.min_content_rate), least(limits.min_read_rate));
        if let Some(buffer) = self.shared.pool.recv_mut(receiving) {
            buffer.judge(now, window, content);
        }
        if let Some(queue) = self.shared.pool.send_mut(sending)
            && queue.is_window_over(now, window)
        {
            // Where the system does not say, what it has taken counts as taken by the peer.
            let sizes = self.selector.source(key).map(sys::queue_sizes);
            let in_system = sizes.and_then(Result::ok).map_or(0, |(_, unsent)| unsent);
            queue.judge(now, in_system, read);
        }
    }
}

/// Bytes that go in a time at a rate of so many a second.
fn least_bytes(rate: usize, time: Duration) -> i64 {
    let bytes = rate as u128 * time.as_millis() / 1000;
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl<H, F, L: Link> Shared<H, F, L> {
    /// Whether a stop may end this connection: deferred replies to others may wait for messages of
    /// one that we made.
    fn may_drain<S>(&self, connection: &Connection<S, L::Kept>) -> bool {
        self.served == 0 || connection.origin != Origin::CONNECTED
    }

    /// For how many ticks a connection has been idle, where that is `idle` at least.
    fn idle_since<S>(&self, connection: &Connection<S, L::Kept>, idle: Duration) -> Option<u32> {
        let since = timer::until(connection.active(), self.tick);
        (connection.is_plain() && since > timer::ticks(idle)).then_some(since)
    }

    /// The connection's next deadline, and the cause of its close should that come.
    pub(super) fn deadline<S>(&self, connection: &Connection<S, L::Kept>) -> Option<(Tick, Cause)> {
        let limits = &self.engine.config.limits;
        let sending = self.pool.send(connection.send);
        let receiving = self.pool.recv(connection.recv);
        // While it is a source of ours that has nothing to send, the peer is not late either.
        let sending = sending.filter(|_| !connection.is_dry());
        let write = sending
            .and_then(|queue| after(queue.stalled_since, limits.write_timeout))
            .map(|due| (due, Cause::WriteTimeout));
        // While it is we who do not read, the peer is not late.
        let held = receiving.filter(|buffer| buffer.stream.is_none() && !connection.is_ready());
        let message = held.and_then(|buffer| {
            let (timeout, cause) = if buffer.missing.in_content {
                (limits.content_timeout, Cause::ContentTimeout)
            } else {
                (limits.header_timeout, Cause::HeaderTimeout)
            };
            Some((after(buffer.clock.since()?, timeout)?, cause))
        });
        let over = match limits.overflow {
            Overflow::CloseAfter(timeout) => sending
                .and_then(|queue| after(queue.over_since?, timeout))
                .map(|due| (due, Cause::Overflow)),
            Overflow::DropNewest | Overflow::DropOldest => None,
        };
        let content = receiving
            .filter(|_| !connection.is_ready() && limits.min_content_rate > 0)
            .and_then(|buffer| after(buffer.window_since()?, limits.rate_window))
            .map(|due| (due, Cause::ContentRate));
        let read = sending
            .filter(|_| limits.min_read_rate > 0)
            .and_then(|queue| after(queue.window_since()?, limits.rate_window))
            .map(|due| (due, Cause::ReadRate));
        let running = write.into_iter().chain(message).chain(over).chain(content).chain(read);
        let soonest = running.min_by_key(|(due, _)| timer::until(self.tick, *due));
        let is_ours = connection.is_waiting() || connection.is_held_back() || connection.is_dry();
        if soonest.is_none() && is_ours {
            return None;
        }
        let idle = || Some((after(connection.active(), limits.idle_timeout)?, Cause::Idle));
        soonest.or_else(idle)
    }
}

/// When `timeout` has surely passed since `start`; `None` for a timeout that is off.
pub(super) fn after(start: Tick, timeout: Duration) -> Option<Tick> {
    // The start lies within its tick, so the count begins with the next.
    let due = start.wrapping_add(timer::ticks(timeout).saturating_add(1));
    (!timeout.is_zero()).then_some(due)
}

const _: () = assert!(size_of::<Role<()>>() <= 44, "see the table in docs/figures.md");
