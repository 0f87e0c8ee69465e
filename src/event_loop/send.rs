//! Sending: what the socket takes now, the rest from a queue. Replies and pushes go the same way.

use std::io::IoSlice;
use std::sync::Arc;

use myriapod_sys::Errno;

use super::EventLoop;
use super::shared::{After, At, Shared};
use crate::buffer::{Lent, MAX_SLICES, PoolFull};
use crate::config::Overflow;
use crate::connection::{Connection, Fact, Socket};
use crate::engine::OwnOf;
use crate::handler::Handler;
use crate::link::{self, Link};
use crate::protocol::Framing;
use crate::stats::Cause;

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Sends what was queued in this turn: all of one connection goes out together.
    pub(super) fn send_unsent(&mut self) {
        while let Some(key) = self.shared.unsent.pop_front() {
            self.work(key, |shared, at| {
                at.connection.unlist_unsent();
                let after = shared.flush(at);
                if !at.connection.send.is_none() {
                    shared.engine.stats.short_writes += 1;
                    shared.nearer = true;
                }
                after
            });
        }
    }
}

impl<H: Handler, F: Framing, L: Link> Shared<H, F, L> {
    /// Sends the replies of one event. What the socket does not take is queued.
    pub(super) fn send(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        if self.engine.context.out.is_empty() {
            return;
        }
        if !at.connection.takes_replies() {
            self.engine.stats.discarded_out += self.engine.context.out.len() as u64;
            return self.engine.clear_out();
        }
        if at.connection.send.is_none() {
            self.send_at_once(at);
        } else {
            // What is queued goes first.
            self.queue_replies(at, 0);
        }
    }

    /// Sends the replies of one event to a connection with nothing queued. Returns whether the
    /// socket took all of them.
    #[inline(always)]
    pub(super) fn send_at_once(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> bool {
        if !L::IS_PLAIN && L::is_secure(&at.connection.link) {
            return self.send_secure(at);
        }
        let out = &self.engine.context.out;
        let sent = if out.is_empty() { Ok(0) } else { link::send(at.source, out) };
        if sent == Ok(out.len()) {
            self.engine.sent_all();
            return true;
        }
        match sent {
            Ok(sent) => self.queue_replies(at, sent),
            Err(errno) if errno.would_block() => self.queue_replies(at, 0),
            Err(_) => self.cannot_send_replies(at),
        }
        false
    }

    #[cold]
    #[inline(never)]
    pub(super) fn cannot_send_replies(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        self.engine.stats.discarded_out += self.engine.context.out.len() as u64;
        self.engine.clear_out();
        self.stop_sending(at);
    }

    /// The socket took `sent` bytes of the replies: the others are queued.
    #[cold]
    #[inline(never)]
    fn queue_replies(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, sent: usize) {
        self.engine.stats.bytes_out += sent as u64;
        let out = std::mem::take(&mut self.engine.context.out);
        let rest = out.get(sent..).unwrap_or_default();
        if self.queue(at, Unsent::Own(rest)) == Err(PoolFull) {
            // Half a reply must not be followed by another: nothing more is sent.
            self.engine.stats.discarded_out += rest.len() as u64;
            self.stop_sending(at);
            self.begin_close(at.connection, Cause::BufferLimit);
        }
        self.engine.context.out = out;
        self.engine.clear_out();
    }

    /// Appends to the connection's queue, and pauses reading above the high-water mark.
    pub(super) fn queue(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        unsent: Unsent<'_>,
    ) -> Result<(), PoolFull> {
        let owner = at.owner();
        let connection = &mut *at.connection;
        let first = connection.send.is_none();
        if first {
            connection.send = self.pool.lend_send(owner, self.tick)?;
        }
        let queue = connection.send;
        let appended = match unsent {
            Unsent::Own(bytes) => {
                self.engine.stats.short_writes += u64::from(first);
                self.nearer |= first;
                self.note_wait(queue, first);
                self.pool.queue(queue, bytes)
            }
            Unsent::Shared(Push { bytes, tag }) => self.pool.queue_shared(queue, bytes, *tag),
        };
        if let Err(full) = appended {
            if first {
                self.pool.return_send(queue);
                connection.send = Lent::NONE;
            }
            return Err(full);
        }
        let over = self.pool.queued(queue) >= self.engine.config.limits.high_water;
        if over && !connection.is_paused() {
            self.engine.stats.paused_reads += 1;
            self.step(connection, Fact::QueueHigh);
        }
        self.nearer |= over;
        Ok(())
    }

    /// Notes whether the system has left something of a queue. Returns whether it had before.
    pub(super) fn note_wait(&mut self, queue: Lent, waits: bool) -> bool {
        let Some(queue) = self.pool.send_mut(queue) else { return false };
        let had_waited = queue.has_waited;
        queue.has_waited |= waits;
        had_waited
    }

    /// Queues a message that is no reply; all that is queued for one connection in one turn is sent
    /// together. What happens where too much is queued already, the limits say.
    pub(super) fn push(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, push: &Push) -> After {
        let bytes = &push.bytes;
        if at.connection.is_deaf() {
            self.engine.stats.missed += 1;
            return After::Settle(Socket::MayHoldMore);
        }
        // Where too much is queued, and the socket has not been asked yet whether it takes that.
        let over = self.pool.queued(at.connection.send) + bytes.len()
            > self.engine.config.limits.high_water;
        if over {
            self.flush_unsent(at);
        }
        let was_empty = at.connection.send.is_none();
        let may = !at.connection.is_deaf() && self.make_room_for_push(at.connection, bytes.len());
        let mut is_queued = may && self.queue(at, Unsent::Shared(push)).is_ok();
        if may && !is_queued && self.flush_unsent(at) {
            is_queued = !at.connection.is_deaf() && self.queue(at, Unsent::Shared(push)).is_ok();
        }
        if is_queued {
            self.engine.stats.pushes += 1;
            self.note_overflow(at.connection);
            if (was_empty || at.connection.is_unsent()) && at.connection.list_unsent() {
                self.unsent.push_back(at.key);
            }
        }
        if !is_queued {
            self.gave_way.push(push.tag);
        }
        if !self.gave_way.is_empty() {
            self.tell_of_dropped(at);
        }
        After::Settle(Socket::MayHoldMore)
    }

    /// As [`push`](Self::push), where nothing else is being pushed: a connection with nothing queued
    /// gets it at once, and needs no queue.
    pub(super) fn push_at_once(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        push: &Push,
    ) -> After {
        let is_secure = !L::IS_PLAIN && L::is_secure(&at.connection.link);
        if is_secure || !at.connection.send.is_none() || at.connection.is_deaf() {
            return self.push(at, push);
        }
        // What there is no room for, and what is wrong with the socket, is seen to there.
        let sent = link::send(at.source, &push.bytes).unwrap_or(0);
        if sent == 0 {
            return self.push(at, push);
        }
        self.engine.stats.bytes_out += sent as u64;
        self.engine.stats.pushes += 1;
        at.connection.touch(self.tick);
        if sent < push.bytes.len() {
            self.queue_rest_of_push(at, push.bytes.get(sent..).unwrap_or_default());
        }
        After::Settle(Socket::MayHoldMore)
    }

    /// The socket took a part of a push only.
    #[cold]
    #[inline(never)]
    fn queue_rest_of_push(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, rest: &[u8]) {
        if self.queue(at, Unsent::Own(rest)) == Err(PoolFull) {
            // Half a message must not be followed by another: nothing more is sent.
            self.engine.stats.discarded_out += rest.len() as u64;
            self.stop_sending(at);
            self.begin_close(at.connection, Cause::BufferLimit);
        } else {
            self.note_overflow(at.connection);
        }
    }

    /// The handler is told which messages were dropped.
    #[cold]
    #[inline(never)]
    fn tell_of_dropped(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let dropped = std::mem::take(&mut self.gave_way);
        self.engine.stats.dropped_pushes += dropped.len() as u64;
        let untagged = dropped.iter().filter(|tag| **tag == 0).count() as u64;
        if untagged > 0 {
            self.call(at, "on_push_dropped", |handler, state, view| {
                handler.on_push_dropped(state, view, untagged);
            });
        }
        for tag in dropped.into_iter().filter(|tag| *tag != 0) {
            self.call(at, "on_tagged_push_dropped", |handler, state, view| {
                handler.on_tagged_push_dropped(state, view, tag);
            });
        }
    }

    /// Sends what was queued in this turn, before its end. Returns whether there was such. What is
    /// left waits until the socket has room.
    fn flush_unsent(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> bool {
        let is_unsent = at.connection.is_unsent();
        if is_unsent {
            at.connection.unlist_unsent();
            self.flush(at);
            self.nearer = true;
        }
        is_unsent
    }

    /// A push was queued: from the one on that came above the high-water mark, the patience that the
    /// limits may have with such a connection runs. Replies alone only pause reading.
    pub(super) fn note_overflow(&mut self, connection: &Connection<OwnOf<H, F>, L::Kept>) {
        let over = self.pool.queued(connection.send) >= self.engine.config.limits.high_water;
        if let Some(queue) = self.pool.send_mut(connection.send)
            && over
            && queue.over_since.is_none()
        {
            queue.over_since = Some(self.tick);
            self.nearer = true;
        }
    }

    /// Sees whether a pushed message of `len` bytes may be queued, and makes room where old ones
    /// are to give way. The first one always may.
    fn make_room_for_push(
        &mut self,
        connection: &Connection<OwnOf<H, F>, L::Kept>,
        len: usize,
    ) -> bool {
        let limits = &self.engine.config.limits;
        let queue = connection.send;
        if self.pool.queued(queue) == 0 {
            return true;
        }
        loop {
            if self.pool.queued(queue) + len <= limits.high_water {
                return true;
            }
            match limits.overflow {
                Overflow::DropNewest => return false,
                // Nothing is gained by dropping some where even all would not do.
                Overflow::DropOldest
                    if self.pool.queued(queue) - self.pool.droppable(queue) + len
                        > limits.high_water =>
                {
                    return false;
                }
                Overflow::DropOldest => match self.pool.drop_oldest_push(queue) {
                    Some((_, tag)) => self.gave_way.push(tag),
                    None => return false,
                },
                Overflow::CloseAfter(_) => return true,
            }
        }
    }

    /// Sends from the queue once.
    pub(super) fn flush(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        let settle = After::Settle(Socket::MayHoldMore);
        let queued = at.connection.send;
        if queued.is_none() {
            return settle;
        }
        let sent = if !L::IS_PLAIN && L::is_secure(&at.connection.link) {
            self.send_queued_sealed(at)
        } else {
            self.send_queued(at)
        };
        if sent.is_err_and(|errno| !errno.would_block()) {
            self.stop_sending(at);
            return settle;
        }
        if at.connection.send.is_none() {
            // What it began with could not be finished.
            return settle;
        }
        let left = self.pool.queued(queued);
        let had_waited = self.note_wait(queued, !self.pool.is_done(queued));
        let limits = &self.engine.config.limits;
        let (high, low) = (limits.high_water, limits.low_water);
        if left < high
            && let Some(queue) = self.pool.send_mut(queued)
        {
            queue.over_since = None;
        }
        if self.pool.is_done(queued) {
            self.pool.return_send(queued);
            at.connection.send = Lent::NONE;
            if had_waited {
                self.call(at, "on_drained", H::on_drained);
            }
            self.nearer = true;
        }
        if at.connection.is_paused() && left <= low && !self.pool.has_body(at.connection.send) {
            self.step(at.connection, Fact::QueueLow);
            self.resume_reading(at);
        }
        settle
    }

    /// Sends from the queue once.
    fn send_queued(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> Result<(), Errno> {
        let queued = at.connection.send;
        let Some(mut queue) = self.pool.send(queued) else { return Ok(()) };
        if queue.has_body() {
            if !self.send_body(at)? {
                return Ok(());
            }
            let Some(filled) = self.pool.send(queued) else { return Ok(()) };
            queue = filled;
        }
        let mut pieces = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (slot, bytes) in pieces.iter_mut().zip(queue.slices()) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        let sent = link::send_vectored(at.source, pieces.get(..count).unwrap_or_default())?;
        self.engine.stats.bytes_out += sent as u64;
        at.connection.touch(self.tick);
        self.pool.advance(queued, sent, self.tick);
        Ok(())
    }

    /// The peer takes no more replies. What it sent before is still read and handled, since a
    /// message may want no reply.
    pub(super) fn stop_sending(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        // Where the system lacked something and the peer is there still, it must not wait for an
        // answer: the end makes it go. Where it is gone, this fails, and receiving says so.
        let _told = link::finish(at.source);
        let queue = std::mem::replace(&mut at.connection.send, Lent::NONE);
        self.engine.stats.broken_streams += self.pool.bodies(queue);
        self.engine.stats.discarded_out += self.pool.return_send(queue) as u64;
        self.step(at.connection, Fact::SendFailed);
        self.resume_reading(at);
        self.nearer = true;
    }
}

/// What is appended to a queue.
#[derive(Clone, Copy)]
pub(super) enum Unsent<'a> {
    /// Replies, which are copied.
    Own(&'a [u8]),
    /// A pushed message.
    Shared(&'a Push),
}

/// A message that is pushed, encoded once for all that get it.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) bytes: Arc<[u8]>,
    pub(super) tag: u64,
}
