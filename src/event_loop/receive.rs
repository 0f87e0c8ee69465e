//! Receiving, and handing what was received to the engine.

use myriapod_sys::{self as sys, Errno, Interest};

use super::{EventLoop, Role};
use crate::buffer::Handle;
use crate::connection::{Connection, Next, Phase, Progress};
use crate::handler::Handler;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;

/// What is known of a socket after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// It holds nothing more: a receive came short, or would have blocked.
    Empty,
    /// It may hold more.
    MayHoldMore,
}

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// Handles the events of the last wait.
    ///
    /// The ordinary event is handled right here: one look-up, one `recv` that brings one message of
    /// a known kind to a connection with nothing unfinished, one `send` that takes the reply.
    #[inline(never)]
    pub(super) fn handle_events(&mut self) {
        while let Some(event) = self.selector.next_event() {
            let Some((key, readiness, source, role)) = self.selector.find(event) else { continue };
            let connection = match role {
                Role::Connection(connection)
                    if readiness == Interest::READABLE
                        && connection.is_plain()
                        && self.drain.is_none() =>
                {
                    connection
                }
                _ => {
                    self.dispatch(key, readiness);
                    continue;
                }
            };
            self.shared.clear();
            let len = match sys::recv_append(source, &mut self.shared) {
                Ok(len) => len,
                Err(errno) => {
                    self.cannot_receive(key, errno);
                    continue;
                }
            };
            if len == self.shared.capacity() || !self.engine.is_predicted(&self.shared) {
                self.digest_shared(key);
                continue;
            }
            self.engine.stats.bytes_in += len as u64;
            connection.last_active = self.tick;
            if let Some(cause) =
                self.engine.answer::<true>(self.engine.id(key), &mut connection.state, &self.shared)
            {
                self.send_and_close(key, cause);
                continue;
            }
            if self.engine.desk.is_deferred() {
                self.begin_deferral(key);
                continue;
            }
            let out = &self.engine.out;
            let sent = if out.is_empty() { Ok(0) } else { sys::send(source, out) };
            if sent == Ok(out.len()) {
                self.engine.sent_all();
            } else {
                self.sent_some(key, sent);
                self.settle(key, Socket::Empty);
            }
        }
    }

    /// Receives once, and answers whatever whole messages are there then.
    pub(super) fn receive(&mut self, key: Key) {
        let Some((source, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            return;
        };
        if connection.is_deferred() {
            // It stayed watched in the hope that the answer is faster than the next message.
            return self.stop_watching(key);
        }
        if connection.ready || !connection.wants_to_read() {
            return;
        }
        if connection.phase == Phase::Lingering {
            return self.discard(key);
        }
        if !connection.recv.is_none() {
            let own = connection.recv;
            return self.receive_own(key, own);
        }
        self.shared.clear();
        match sys::recv_append(source, &mut self.shared) {
            Ok(_) => self.digest_shared(key),
            Err(errno) => self.cannot_receive(key, errno),
        }
    }

    /// A receive failed: for now, or for good.
    #[cold]
    #[inline(never)]
    fn cannot_receive(&mut self, key: Key, errno: Errno) {
        if errno.would_block() {
            self.settle(key, Socket::Empty);
        } else {
            self.close(key, Cause::Error);
        }
    }

    /// Answers what was received into the shared buffer (nothing is the end of the stream), and moves
    /// what is left of it to a buffer of the connection's own.
    #[inline(never)]
    fn digest_shared(&mut self, key: Key) {
        if self.shared.is_empty() {
            if let Some(connection) = self.connection(key) {
                connection.end_seen = true;
            }
            return self.settle(key, Socket::Empty);
        }
        self.engine.stats.bytes_in += self.shared.len() as u64;
        let bytes = std::mem::take(&mut self.shared);
        let socket =
            if bytes.len() < bytes.capacity() { Socket::Empty } else { Socket::MayHoldMore };
        let progress = self.process(key, &bytes);
        self.shared = bytes;
        if let Some(Progress { consumed, next }) = progress {
            self.keep_rest(key, consumed, next);
        }
        self.settle(key, socket);
    }

    /// Sends the replies, and begins to close.
    #[cold]
    #[inline(never)]
    fn send_and_close(&mut self, key: Key, cause: Cause) {
        self.send_replies(key);
        self.begin_close(key, cause);
        self.settle(key, Socket::Empty);
    }

    /// Receives behind the unfinished message in the connection's own buffer.
    fn receive_own(&mut self, key: Key, own: Handle) {
        if self.pool.make_room(own).is_err() {
            self.begin_close(key, Cause::BufferLimit);
            return self.settle(key, Socket::MayHoldMore);
        }
        let mut buffer = self.pool.take_bytes(own);
        let socket = self.recv_into(key, &mut buffer);
        self.pool.put_bytes(own, buffer);
        let Some(socket) = socket else { return self.close(key, Cause::Error) };
        self.digest_own(key, own);
        self.settle(key, socket);
    }

    /// One `recv` into the free end of `buffer`. `None` where it failed, and the connection is to be
    /// closed as soon as its buffer is back; the end of the stream is noted in the connection.
    fn recv_into(&mut self, key: Key, buffer: &mut Vec<u8>) -> Option<Socket> {
        let Some((source, Role::Connection(connection))) = self.selector.entry_mut(key) else {
            return None;
        };
        let room = buffer.capacity() - buffer.len();
        match sys::recv_append(source, buffer) {
            Ok(0) => {
                connection.end_seen = true;
                Some(Socket::Empty)
            }
            Ok(received) => {
                self.engine.stats.bytes_in += received as u64;
                // Whoever uploads is not idle, however long it takes; the linger has its own start.
                if connection.phase != Phase::Lingering {
                    connection.last_active = self.tick;
                }
                Some(if received < room { Socket::Empty } else { Socket::MayHoldMore })
            }
            Err(errno) if errno.would_block() => Some(Socket::Empty),
            Err(_) => None,
        }
    }

    /// Moves what is left in the shared receive buffer to a buffer of the connection's own.
    fn keep_rest(&mut self, key: Key, consumed: usize, next: Next) {
        let rest = self.shared.get(consumed..).unwrap_or_default();
        let (needed, in_content) = match next {
            Next::Nothing => return,
            Next::Partial { needed, in_content } => (needed, in_content),
            Next::Deferred if rest.is_empty() => return,
            Next::More | Next::Deferred => (0, false),
            Next::Close(cause) => {
                self.engine.stats.discarded_in += rest.len() as u64;
                return self.begin_close(key, cause);
            }
        };
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else { return };
        // While it is not read from, nothing of the deadline is used up.
        let since = if connection.is_held() { 0 } else { self.tick };
        let Ok(own) = self.pool.lend_recv(rest, needed, in_content, since) else {
            self.engine.stats.discarded_in += rest.len() as u64;
            return self.begin_close(key, Cause::BufferLimit);
        };
        connection.recv = own;
        self.wait_for_rest(key);
    }

    /// Answers what stands in the connection's own buffer, if it is worth looking.
    fn digest_own(&mut self, key: Key, own: Handle) {
        let Some(buffer) = self.pool.recv(own) else { return };
        if buffer.unread().len() < buffer.needed {
            return;
        }
        let (start, was_in_content) = (buffer.start, buffer.in_content);
        let bytes = self.pool.take_bytes(own);
        let len = bytes.len();
        let progress = self.process(key, bytes.get(start..).unwrap_or_default());
        let kept = self.pool.put_bytes(own, bytes);
        let Some(Progress { consumed, next }) = progress else { return };
        if !kept {
            // Its replies found no room, so the connection is being closed.
            self.engine.stats.discarded_in += (len - start - consumed) as u64;
            return;
        }
        let since = self.clock_of(key);
        let Some(buffer) = self.pool.recv_mut(own) else { return };
        buffer.start += consumed;
        (buffer.needed, buffer.in_content) = match next {
            Next::Nothing => {
                self.release_own(key);
                return self.rearm(key);
            }
            Next::Partial { needed, in_content } => (needed, in_content),
            Next::Deferred if consumed + start == len => return self.release_own(key),
            Next::More | Next::Deferred => (0, false),
            Next::Close(cause) => return self.begin_close(key, cause),
        };
        // A new message, or a new part of it, has a deadline of its own.
        if consumed > 0 || buffer.in_content != was_in_content {
            buffer.since = since;
        }
        self.wait_for_rest(key);
    }

    /// Has the engine answer `bytes`, and sends the replies.
    fn process(&mut self, key: Key, bytes: &[u8]) -> Option<Progress> {
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else { return None };
        connection.last_active = self.tick;
        let queued = self.pool.queued(connection.send);
        let progress =
            self.engine.process(self.engine.id(key), &mut connection.state, bytes, queued);
        if progress.next == Next::Deferred {
            connection.last_reply = self.engine.desk.closes();
            connection.pending = self.engine.desk.take_deferred();
        }
        self.send_replies(key);
        Some(progress)
    }

    /// A rest stays in the connection's own buffer: either it waits for the next turn, or the
    /// deadline for what is missing runs.
    fn wait_for_rest(&mut self, key: Key) {
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else { return };
        let whole = self.pool.recv(connection.recv).is_some_and(|buffer| buffer.needed == 0);
        if connection.is_held() {
            return;
        }
        if whole {
            connection.ready = true;
            self.ready.push_back(key);
        } else {
            self.rearm(key);
        }
    }

    /// The ordinary message's reply was deferred, so nothing is sent now.
    #[cold]
    #[inline(never)]
    fn begin_deferral(&mut self, key: Key) {
        let last_reply = self.engine.desk.closes();
        let pending = self.engine.desk.take_deferred();
        if let Some(connection) = self.connection(key) {
            (connection.pending, connection.last_reply) = (pending, last_reply);
        }
        self.settle(key, Socket::Empty);
    }

    /// Applies a change after which the connection may be read from, or may not: while it may not,
    /// the deadline of an unfinished message stands still.
    pub(super) fn hold(&mut self, key: Key, change: impl FnOnce(&mut Connection<H::State>)) {
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else { return };
        let was_held = connection.is_held();
        change(connection);
        if connection.is_held() != was_held
            && let Some(buffer) = self.pool.recv_mut(connection.recv)
        {
            // The moment it began becomes the time that is used up, and the other way round.
            buffer.since = self.tick.wrapping_sub(buffer.since);
        }
    }

    /// Reading goes on, unless something else holds it: whole messages in the buffer get their
    /// turn, and the deadline of an unfinished one runs.
    pub(super) fn resume_reading(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else { return };
        if !connection.recv.is_none() && !connection.ready {
            self.wait_for_rest(key);
        }
    }

    /// Gives the next connection on the ready list its turn.
    pub(super) fn resume_next(&mut self) {
        let Some(key) = self.ready.pop_front() else { return };
        let Some(connection) = self.connection(key) else { return };
        if !std::mem::take(&mut connection.ready) || connection.closing.is_some() {
            return;
        }
        let own = connection.recv;
        self.digest_own(key, own);
        self.settle(key, Socket::MayHoldMore);
    }

    /// While lingering: reads and drops what still comes.
    fn discard(&mut self, key: Key) {
        let mut buffer = std::mem::take(&mut self.shared);
        buffer.clear();
        let socket = self.recv_into(key, &mut buffer);
        let received = buffer.len();
        self.shared = buffer;
        self.engine.stats.discarded_in += received as u64;
        let Some(connection) = self.connection(key) else { return };
        let received = u32::try_from(received).unwrap_or(u32::MAX);
        connection.pending = connection.pending.saturating_sub(received);
        if socket.is_none() || connection.end_seen || connection.pending == 0 {
            self.finish_close(key);
        }
    }

    /// Gives the connection's receive buffer back, and counts what it still held.
    pub(super) fn release_own(&mut self, key: Key) {
        let Some(Role::Connection(connection)) = self.selector.get_mut(key) else { return };
        connection.ready = false;
        let own = std::mem::replace(&mut connection.recv, Handle::NONE);
        let unread = self.pool.recv(own).map_or(0, |buffer| buffer.unread().len());
        self.engine.stats.discarded_in += unread as u64;
        self.pool.return_recv(own);
    }
}
