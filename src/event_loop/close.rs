//! Deadlines, and the ways a connection ends.

use std::time::Duration;

use myriapod_sys::{self as sys, Errno, Interest, Shutdown};

use super::{CLOSE_COST, EventLoop, Role, TIMER_BUDGET, Timers};
use crate::config::Overflow;
use crate::connection::{Connection, Phase};
use crate::event_loop::receive::Socket;
use crate::groups;
use crate::handler::Handler;
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{self, Tick};

/// Connections that are looked at to find one that has long been idle.
const SHED_BUDGET: usize = 64;

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// Brings a connection into order after a step: closes it if it is done, and watches its
    /// socket for what it wants now.
    pub(super) fn settle(&mut self, key: Key, socket: Socket) {
        let draining = self.drain.is_some();
        let Some(connection) = self.connection(key) else { return };
        if connection.send.is_none() && connection.phase != Phase::Lingering {
            match connection.closing {
                Some(cause) if connection.end_seen || connection.phase == Phase::Unsendable => {
                    return self.close(key, cause);
                }
                Some(_) => return self.begin_linger(key),
                None if connection.end_seen && !connection.ready && !connection.is_deferred() => {
                    if !connection.recv.is_none() {
                        // Whole messages are answered before receiving on, so this one is not.
                        self.engine.stats.truncated += 1;
                    }
                    return self.close(key, Cause::Peer);
                }
                None if draining && connection.is_quiet() => match socket {
                    Socket::MayHoldMore if !planted!(DrainTooEarly) => self.look_again(key),
                    Socket::MayHoldMore | Socket::Empty => {
                        connection.closing = Some(Cause::Drained);
                        return self.begin_linger(key);
                    }
                },
                None => {}
            }
        }
        let Some(connection) = self.connection(key) else { return };
        let mut interest = connection.interest();
        if connection.is_deferred() && !connection.paused && connection.closing.is_none() {
            // Stays watched until something comes: the answer may well be faster.
            let was = self.selector.interest(key).unwrap_or(Interest::NONE);
            interest |= was & Interest::READABLE;
        }
        self.watch(key, interest);
    }

    /// Something came for a connection whose deferred reply has not.
    pub(super) fn stop_watching(&mut self, key: Key) {
        if let Some(connection) = self.connection(key) {
            let interest = connection.interest();
            self.watch(key, interest);
        }
    }

    fn watch(&mut self, key: Key, interest: Interest) {
        if let Err(error) = self.selector.modify(key, interest) {
            self.tell(&LogEvent::Failed { error: &error });
            self.close(key, Cause::Error);
        }
    }

    /// From now on the connection only gets its replies; [`settle`](Self::settle) does the rest.
    pub(super) fn begin_close(&mut self, key: Key, cause: Cause) {
        if let Some(connection) = self.connection(key) {
            connection.closing = connection.closing.or(Some(cause));
            connection.paused = false;
            if connection.is_deferred() {
                connection.pending = 0;
            }
            self.release_own(key);
        }
    }

    /// All replies are sent: shuts down our side and reads on for a while, since closing with
    /// unread input would reset the connection and may destroy the last reply.
    fn begin_linger(&mut self, key: Key) {
        let (tick, bytes) = (self.tick, self.engine.config.limits.linger_bytes);
        let Some((socket, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            return;
        };
        // For want of buffers the peer is told by the close alone, and until then it may send on.
        let shut = sys::shutdown(socket, Shutdown::Write);
        if shut.is_err_and(|errno| errno != Errno::ENOBUFS) || planted!(LingerSkipped) {
            return self.finish_close(key);
        }
        connection.phase = Phase::Lingering;
        connection.last_active = tick;
        connection.pending = bytes;
        let interest = connection.interest();
        if self.selector.modify(key, interest).is_err() {
            return self.finish_close(key);
        }
        self.rearm(key);
    }

    /// Closes a connection that was to be closed.
    pub(super) fn finish_close(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else { return };
        let cause = connection.closing.unwrap_or(Cause::Peer);
        self.close(key, cause);
    }

    /// Closes a connection at once, and takes back all that it held.
    pub(super) fn close(&mut self, key: Key, cause: Cause) {
        if !planted!(TimerNotCancelled) {
            self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        }
        self.release_own(key);
        let Some(Role::Connection(connection)) = self.selector.close(key) else { return };
        self.engine.stats.discarded_out += self.pool.return_send(connection.send) as u64;
        self.acceptor.addresses.leave(connection.address);
        if connection.groups != groups::NONE {
            self.leave_all_groups(connection.groups);
        }
        self.engine.stats.open -= 1;
        self.member.release();
        self.engine.stats.count_closed(cause);
        let id = self.engine.id(key);
        self.engine.guard(id, |handler| handler.on_close(connection.state, cause));
        self.tell(&LogEvent::Closed { id, cause });
        if self.acceptor.parked && !planted!(AcceptNotRearmed) {
            self.resume_accepting();
        }
    }

    /// Finds a connection that has been idle for `idle` at least, to make room for a new one.
    ///
    /// Looks in the wheel's order first, where those that have been idle for longest stand in
    /// front; one that has been active since goes where it belongs, so that the next look finds
    /// others. What stands there for another reason (an unfinished message) must not hide who is
    /// behind it, idle connections may have no timer, and the wheel's order is coarse far ahead: so
    /// a few places of the slab, others each time, are looked at too.
    pub(super) fn find_idle(&mut self, idle: Duration) -> Option<Key> {
        let mut longest = None;
        for _ in 0..SHED_BUDGET {
            let Some(index) = self.wheel.first() else { break };
            let Some((key, _)) = self.selector.at_mut(index) else { break };
            longest = self.idle_since(key, idle).map(|ticks| (ticks, key.to_bits()));
            if longest.is_some() {
                break;
            }
            let Some((due, _)) = self.deadline(key) else { break };
            if self.connection(key).and_then(|connection| connection.timer.expires()) == Some(due) {
                break;
            }
            self.wheel.arm(&mut Timers(&mut self.selector), index, due);
        }
        let end = self.selector.end();
        for _ in 0..SHED_BUDGET.min(end as usize) {
            let index = self.acceptor.next_look % end;
            self.acceptor.next_look = index + 1;
            let Some((key, _)) = self.selector.at_mut(index) else { continue };
            longest = longest.max(self.idle_since(key, idle).map(|ticks| (ticks, key.to_bits())));
        }
        longest.map(|(_, key)| Key::from_bits(key))
    }

    /// For how many ticks a connection has been idle, where that is `idle` at least.
    fn idle_since(&mut self, key: Key, idle: Duration) -> Option<u32> {
        let tick = self.tick;
        let connection = self.connection(key)?;
        let since = timer::until(connection.last_active, tick);
        (connection.is_plain() && since > timer::ticks(idle)).then_some(since)
    }

    /// Fires what has expired: closes a connection whose deadline has come, and arms the timer
    /// anew where the connection has been active since.
    pub(super) fn expire(&mut self) {
        let mut budget = TIMER_BUDGET;
        loop {
            let mut entries = Timers(&mut self.selector);
            let Some(index) = self.wheel.expire(&mut entries, self.tick, &mut budget) else {
                return;
            };
            let Some((key, _)) = self.selector.at_mut(index) else { continue };
            let Some((due, cause)) = self.deadline(key) else { continue };
            if timer::until(self.tick, due) > 0 && !planted!(DeadlineFixed) {
                self.wheel.arm(&mut Timers(&mut self.selector), index, due);
            } else {
                self.close(key, cause);
                budget = budget.saturating_sub(CLOSE_COST);
            }
        }
    }

    /// Sees to it that the connection's timer fires no later than its deadline.
    pub(super) fn rearm(&mut self, key: Key) {
        let Some((due, _)) = self.deadline(key) else { return };
        let Some(connection) = self.connection(key) else { return };
        let armed = connection.timer.expires();
        let now = self.tick;
        if armed.is_none_or(|armed| timer::until(now, due) < timer::until(now, armed)) {
            self.wheel.arm(&mut Timers(&mut self.selector), key.index(), due);
        }
    }

    /// The connection's next deadline, and the cause of its close should that come.
    fn deadline(&self, key: Key) -> Option<(Tick, Cause)> {
        let Some(Role::Connection(connection)) = self.selector.get(key) else { return None };
        let limits = &self.engine.config.limits;
        let after = |start: Tick, timeout: Duration, cause: Cause| {
            // The start lies within its tick, so the count begins with the next.
            let due = start.wrapping_add(timer::ticks(timeout).saturating_add(1));
            (!timeout.is_zero()).then_some((due, cause))
        };
        if connection.phase == Phase::Lingering {
            let cause = connection.closing.unwrap_or(Cause::Peer);
            return after(connection.last_active, limits.linger_timeout, cause);
        }
        let sending = self.pool.send(connection.send);
        let receiving = self.pool.recv(connection.recv);
        let write = sending.and_then(|queue| {
            after(queue.stalled_since, limits.write_timeout, Cause::WriteTimeout)
        });
        // While it is we who do not read, the peer is not late.
        let message = receiving.filter(|_| !connection.is_held() && !connection.ready);
        let message = message.and_then(|buffer| {
            if buffer.in_content {
                after(buffer.since, limits.content_timeout, Cause::ContentTimeout)
            } else {
                after(buffer.since, limits.header_timeout, Cause::HeaderTimeout)
            }
        });
        let now = self.tick;
        let over = match limits.overflow {
            Overflow::CloseAfter(timeout) => sending
                .and_then(|queue| queue.over_since)
                .and_then(|since| after(since, timeout, Cause::Overflow)),
            Overflow::DropNewest | Overflow::DropOldest => None,
        };
        let running = write.into_iter().chain(message).chain(over);
        let soonest = running.min_by_key(|(due, _)| timer::until(now, *due));
        if soonest.is_none() && connection.is_deferred() {
            return None;
        }
        soonest.or_else(|| after(connection.last_active, limits.idle_timeout, Cause::Idle))
    }

    /// The stamp that a deadline of this connection's unfinished message begins with: now, or
    /// nothing used up while reading is paused.
    pub(super) fn clock_of(&mut self, key: Key) -> Tick {
        let tick = self.tick;
        self.connection(key).map_or(tick, |connection| if connection.is_held() { 0 } else { tick })
    }
}

const _: () = assert!(size_of::<Connection<()>>() <= 48, "see the table in ARCHITECTURE.md");
