//! Sending: at once where the socket takes it, from a queue where it does not.

use std::io::IoSlice;
use std::sync::Arc;

use myriapod_sys::{self as sys, Errno, Shutdown};

use super::{EventLoop, Role};
use crate::buffer::{Handle, MAX_SLICES, Pool, PoolFull};
use crate::config::Overflow;
use crate::connection::Phase;
use crate::event_loop::receive::Socket;
use crate::handler::Handler;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// Sends the replies of one event with one `send`; what the socket does not take is queued.
    pub(super) fn send_replies(&mut self, key: Key) {
        if self.engine.out.is_empty() {
            return;
        }
        let Some((socket, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            self.engine.stats.discarded_out += self.engine.out.len() as u64;
            return self.engine.clear_out();
        }
        // What is queued goes first.
        let sent =
            if connection.send.is_none() { sys::send(socket, &self.engine.out) } else { Ok(0) };
        self.sent_some(key, sent);
    }

    /// The socket took `sent` bytes of the replies: queues the others.
    pub(super) fn sent_some(&mut self, key: Key, sent: Result<usize, Errno>) {
        let len = self.engine.out.len();
        let sent = match sent {
            Ok(sent) => sent,
            Err(errno) if errno.would_block() => 0,
            Err(_) => {
                self.engine.stats.discarded_out += len as u64;
                self.engine.clear_out();
                return self.stop_sending(key);
            }
        };
        if sent == len {
            return self.engine.sent_all();
        }
        self.engine.stats.bytes_out += sent as u64;
        let out = std::mem::take(&mut self.engine.out);
        let rest = out.get(sent..).unwrap_or_default();
        if self.queue(key, rest) == Err(PoolFull) {
            // Half a reply must not be followed by another: nothing more is sent.
            self.engine.stats.discarded_out += rest.len() as u64;
            self.stop_sending(key);
            self.begin_close(key, Cause::BufferLimit);
        }
        self.engine.out = out;
        self.engine.clear_out();
    }

    /// Appends replies to the connection's send queue.
    fn queue(&mut self, key: Key, bytes: &[u8]) -> Result<(), PoolFull> {
        self.queue_with(key, |pool, queue| pool.queue(queue, bytes))
    }

    /// Appends to the connection's send queue, and pauses reading above the high-water mark.
    fn queue_with(
        &mut self,
        key: Key,
        append: impl FnOnce(&mut Pool, Handle) -> Result<(), PoolFull>,
    ) -> Result<(), PoolFull> {
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else { return Ok(()) };
        let first = connection.send.is_none();
        if first {
            self.engine.stats.short_writes += 1;
            connection.send = self.pool.lend_send(self.tick)?;
        }
        let queue = connection.send;
        if let Err(full) = append(&mut self.pool, queue) {
            if first {
                self.pool.return_send(queue);
                connection.send = Handle::NONE;
            }
            return Err(full);
        }
        let queued = self.pool.queued(connection.send);
        let over = queued >= self.engine.config.limits.high_water;
        if !connection.paused && over {
            self.engine.stats.paused_reads += 1;
            self.hold(key, |connection| connection.paused = true);
        }
        if first || over {
            self.rearm(key);
        }
        Ok(())
    }

    /// Sends a message that is no reply: at once where nothing is queued, else behind what is. What
    /// happens where too much is queued already, the limits say.
    pub(super) fn push(&mut self, key: Key, bytes: &Arc<[u8]>) {
        let Some((socket, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            self.engine.stats.missed += 1;
            return;
        };
        if connection.phase != Phase::Open || connection.closing.is_some() {
            self.engine.stats.missed += 1;
            return;
        }
        let mut sent = 0;
        if connection.send.is_none() {
            match sys::send(socket, bytes) {
                Ok(n) => sent = n,
                Err(errno) if errno.would_block() => {}
                Err(_) => {
                    self.engine.stats.discarded_out += bytes.len() as u64;
                    self.stop_sending(key);
                    return self.settle(key, Socket::MayHoldMore);
                }
            }
            self.engine.stats.bytes_out += sent as u64;
            connection.last_active = self.tick;
            if sent == bytes.len() {
                self.engine.stats.pushes += 1;
                return;
            }
        } else if !self.make_room_for_push(key, bytes.len()) {
            self.engine.stats.dropped_pushes += 1;
            return;
        }
        let queued = self.queue_with(key, |pool, queue| pool.queue_shared(queue, bytes, sent));
        match queued {
            Ok(()) => {
                self.engine.stats.pushes += 1;
                self.note_overflow(key);
            }
            Err(PoolFull) if sent == 0 => self.engine.stats.dropped_pushes += 1,
            Err(PoolFull) => {
                // Half a message must not be followed by another.
                self.engine.stats.discarded_out += (bytes.len() - sent) as u64;
                self.stop_sending(key);
                self.begin_close(key, Cause::BufferLimit);
            }
        }
        self.settle(key, Socket::MayHoldMore);
    }

    /// A push was queued: from the one on that came above the high-water mark, the patience that the
    /// limits may have with such a connection runs. Replies alone only pause reading.
    fn note_overflow(&mut self, key: Key) {
        let Some(Role::Connection(connection)) = self.selector.get(key) else { return };
        let queue = connection.send;
        let over = self.pool.queued(queue) >= self.engine.config.limits.high_water;
        if let Some(queue) = self.pool.send_mut(queue)
            && over
            && queue.over_since.is_none()
        {
            queue.over_since = Some(self.tick);
            self.rearm(key);
        }
    }

    /// Sees whether a pushed message of `len` bytes may be queued, and makes room where old ones
    /// are to give way.
    fn make_room_for_push(&mut self, key: Key, len: usize) -> bool {
        let limits = &self.engine.config.limits;
        let Some(Role::Connection(connection)) = self.selector.get(key) else { return false };
        let queue = connection.send;
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
                    Some(_) => self.engine.stats.dropped_pushes += 1,
                    None => return false,
                },
                Overflow::CloseAfter(_) => return true,
            }
        }
    }

    /// Sends from the queue once, since the socket has room.
    pub(super) fn flush(&mut self, key: Key) {
        let Some((socket, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            return;
        };
        let handle = connection.send;
        let Some(queue) = self.pool.send_mut(handle) else { return };
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(queue.slices()) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        match sys::send_vectored(socket, slices.get(..count).unwrap_or_default()) {
            Ok(sent) => {
                self.engine.stats.bytes_out += sent as u64;
                connection.last_active = self.tick;
                self.pool.advance(handle, sent, self.tick);
            }
            Err(errno) if errno.would_block() => {}
            Err(_) => {
                self.stop_sending(key);
                return self.settle(key, Socket::MayHoldMore);
            }
        }
        let left = self.pool.queued(handle);
        if left == 0 {
            self.pool.return_send(handle);
            connection.send = Handle::NONE;
            let state = &mut connection.state;
            if self.engine.guard(self.engine.id(key), |handler| handler.on_drained(state)).is_none()
            {
                self.begin_close(key, Cause::Panic);
            }
            self.rearm(key);
        }
        if left < self.engine.config.limits.high_water
            && let Some(queue) = self.pool.send_mut(handle)
        {
            queue.over_since = None;
        }
        let Some(connection) = self.connection(key) else { return };
        if connection.paused && left <= self.engine.config.limits.low_water {
            self.hold(key, |connection| connection.paused = false);
            self.resume_reading(key);
        }
        self.settle(key, Socket::MayHoldMore);
    }

    /// The peer takes no more replies. What it sent before is still read and handled, since a
    /// message may want no reply.
    fn stop_sending(&mut self, key: Key) {
        let Some((socket, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            return;
        };
        // Where the system lacked something and the peer is there still, it must not wait for an
        // answer: the end makes it go. Where it is gone, this fails, and receiving says so.
        let _told = sys::shutdown(socket, Shutdown::Write);
        connection.phase = Phase::Unsendable;
        let handle = std::mem::replace(&mut connection.send, Handle::NONE);
        self.engine.stats.discarded_out += self.pool.return_send(handle) as u64;
        // An answer that was deferred would come for nobody.
        self.hold(key, |connection| (connection.paused, connection.pending) = (false, 0));
        self.resume_reading(key);
        self.rearm(key);
    }
}
