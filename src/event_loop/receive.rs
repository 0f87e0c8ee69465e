//! Receiving, and handing what was received to the engine.
//!
//! ```text
//!                        the connection has no buffer of its own
//! event ─▶ receive_into ─▶ scratch ─▶ answer_ordinary ─▶ one whole message: reply, done
//!    │                        │
//!    │                        └─▶ digest_shared ─▶ process ─▶ whole messages are answered
//!    │                                                └─▶ keep_rest: the rest to a buffer of its own
//!    │                   it has one: a message is unfinished
//!    └────▶ receive_own ─▶ own buffer ─▶ digest_own ─▶ process ─▶ not yet: wait for `missing` bytes
//!                                                         ├─▶ whole, and empty: the buffer goes back
//!                                                         └─▶ more than its share: the ready list
//! ready list ─▶ resume_next ─▶ digest_own, without a receive
//! ```
//!
//! *Scratch* is the buffer that all connections of the loop share; it is empty between two events.
//! An *own* buffer is lent by the pool while a message is unfinished. To *digest* is to answer all whole
//! messages that are there. The *rest* is what is left then.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use myriapod_sys::BorrowedFd;

use super::shared::{After, At, Shared};
use super::{EventLoop, Role};
use crate::buffer::{Lent, RecvBuffer};
use crate::connection::{Connection, Fact, Lingering, Socket};
use crate::engine::{Next, OwnOf, Progress};
use crate::handler::Handler;
use crate::link::{self, Link};
use crate::protocol::{Framing, Missing};
use crate::slab::Key;
use crate::stats::{Cause, Stats};
use crate::view::About;

/// What a receive brought.
#[derive(Clone, Copy)]
pub(super) enum Received {
    Bytes(usize, Socket),
    /// The peer has shut down its sending side.
    End,
    /// Nothing, for now.
    Nothing,
    Failed,
}

/// Receives once: the one place of the loop that does.
#[inline(always)]
pub(super) fn receive_into(
    source: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    stats: &mut Stats,
) -> Received {
    let room = buffer.capacity() - buffer.len();
    match link::receive(source, buffer) {
        Ok(0) => Received::End,
        Ok(len) => {
            stats.bytes_in += len as u64;
            Received::Bytes(len, if len < room { Socket::Empty } else { Socket::MayHoldMore })
        }
        Err(errno) if errno.would_block() => Received::Nothing,
        Err(_) => Received::Failed,
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Handles the events of the last wait. A panic of the handler or the framing for an ordinary
    /// message ends up here, and closes that connection.
    pub(super) fn handle_events(&mut self) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.handle_each_event())) {
            match self.selector.last_event() {
                Some(key) if !self.is_dispatching => self.recover(key),
                // It is no callback that panicked.
                _ => resume_unwind(panic),
            }
        }
    }

    /// The ordinary event ends right here: one look-up, one receive that brings one message of a
    /// known kind to a connection with nothing unfinished, one send that takes the reply.
    #[inline(never)]
    fn handle_each_event(&mut self) {
        while let Some(event) = self.selector.next_event() {
            let Some((key, readiness, source, role)) = self.selector.find(event) else { continue };
            let connection = match role {
                Role::Connection(connection)
                    if readiness == self.ordinary && connection.is_plain() =>
                {
                    connection
                }
                _ => {
                    self.is_dispatching = true;
                    self.dispatch(key, readiness);
                    self.is_dispatching = false;
                    continue;
                }
            };
            let shared = &mut self.shared;
            let about = About {
                key,
                source,
                origin: connection.origin,
                queued: 0,
                peer: None,
                is_open: true,
            };
            shared.scratch.clear();
            let received = if !L::IS_PLAIN && L::is_secure(&connection.link) {
                match shared.receive_records(&mut At { key, source, connection }) {
                    Ok(plain) => Received::Bytes(plain, Socket::Empty),
                    Err(after) => {
                        let step = shared.conclude(connection, after, false);
                        self.apply(key, step);
                        continue;
                    }
                }
            } else {
                receive_into(source, &mut shared.scratch, &mut shared.engine.stats)
            };
            let after = if !matches!(received, Received::Bytes(_, Socket::Empty)) {
                shared.receive_other(&mut At { key, source, connection }, received)
            } else if !shared.engine.answer_ordinary(
                &about,
                &mut connection.own,
                &mut shared.scratch,
            ) {
                shared.digest_short(&mut At { key, source, connection })
            } else if !shared.engine.context.orders.is_empty() {
                shared.obey_ordinary(&mut At { key, source, connection })
            } else {
                connection.touch(shared.tick);
                if shared.send_at_once(&mut At { key, source, connection }) {
                    continue;
                }
                After::Settle(Socket::Empty)
            };
            let step = shared.conclude(connection, after, false);
            self.apply(key, step);
        }
    }

    #[cold]
    #[inline(never)]
    fn recover(&mut self, key: Key) {
        self.work(key, |shared, at| {
            let id = shared.engine.id(key);
            shared.engine.recover(id, &at.connection.own.stream, &shared.scratch);
            shared.obey_ordinary(at)
        });
    }

    /// Gives the next connection on the ready list its turn.
    pub(super) fn resume_next(&mut self) {
        let Some(key) = self.shared.ready.pop_front() else { return };
        self.work(key, |shared, at| {
            if at.connection.is_ready() {
                at.connection.step(Fact::Turn);
                shared.digest_own(at);
                // While it was ready no deadline ran for what is unfinished.
                shared.nearer |= !at.connection.is_ready();
            }
            After::Settle(Socket::MayHoldMore)
        });
    }
}

impl<H: Handler, F: Framing, L: Link> Shared<H, F, L> {
    /// Receives once, and answers whatever whole messages are there then.
    pub(super) fn receive(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        if at.connection.is_waiting() {
            // It stayed watched in the hope that the answer is faster than the next message.
            return After::Unwatch;
        }
        if !at.connection.wants_to_read() || at.connection.is_ready() {
            return After::Settle(Socket::MayHoldMore);
        }
        if !L::IS_PLAIN && L::is_secure(&at.connection.link) {
            return self.receive_secure(at);
        }
        if !at.connection.recv.is_none() {
            return self.receive_own(at);
        }
        self.scratch.clear();
        let received = receive_into(at.source, &mut self.scratch, &mut self.engine.stats);
        self.receive_other(at, received)
    }

    /// The socket held no more than this, and it is not the ordinary message.
    #[inline(never)]
    fn digest_short(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        self.digest_shared(at);
        After::Settle(Socket::Empty)
    }

    /// The ordinary message was answered, and the handler asked for something else besides.
    #[cold]
    #[inline(never)]
    fn obey_ordinary(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        at.connection.touch(self.tick);
        self.obey(at);
        After::Settle(Socket::Empty)
    }

    /// Whatever is not the ordinary message.
    #[inline(never)]
    pub(super) fn receive_other(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        received: Received,
    ) -> After {
        match received {
            Received::Bytes(_, socket) => {
                self.digest_shared(at);
                After::Settle(socket)
            }
            Received::End => {
                at.connection.step(Fact::EndSeen);
                After::Settle(Socket::Empty)
            }
            Received::Nothing => After::Settle(Socket::Empty),
            Received::Failed => After::Close(Cause::Error),
        }
    }

    /// Answers what was received into the shared buffer, and moves what is left of it to a buffer of
    /// the connection's own.
    pub(super) fn digest_shared(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let mut bytes = std::mem::take(&mut self.scratch);
        self.digest_lent(at, &mut bytes);
        self.scratch = bytes;
    }

    /// The same of bytes that came before it was a connection.
    pub(super) fn digest_first(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, bytes: &mut [u8]) {
        if at.connection.is_closing() {
            self.engine.stats.discarded_in += bytes.len() as u64;
        } else if !bytes.is_empty() {
            self.digest_lent(at, bytes);
        }
    }

    #[inline]
    fn digest_lent(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, bytes: &mut [u8]) {
        let Progress { consumed, next } = self.process(at, bytes, Missing::default());
        self.keep_rest(at, bytes.get(consumed..).unwrap_or_default(), next);
        if at.connection.is_ready() {
            self.ready.push_back(at.key);
        }
    }

    /// Receives behind the unfinished message in the connection's own buffer.
    fn receive_own(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        let own = at.connection.recv;
        if H::STREAMS && self.pool.recv(own).is_some_and(RecvBuffer::passes_on) {
            return self.receive_piece(at);
        }
        if self.pool.make_room(own).is_err() {
            self.refuse_for_buffers(at);
            return After::Settle(Socket::MayHoldMore);
        }
        let mut buffer = self.pool.take_bytes(own);
        let received = receive_into(at.source, &mut buffer, &mut self.engine.stats);
        self.pool.put_bytes(own, buffer);
        let socket = match received {
            Received::Bytes(_, socket) => {
                at.connection.touch(self.tick);
                socket
            }
            Received::End => {
                at.connection.step(Fact::EndSeen);
                Socket::Empty
            }
            Received::Nothing => Socket::Empty,
            Received::Failed => return After::Close(Cause::Error),
        };
        self.digest_own(at);
        After::Settle(socket)
    }

    /// Moves what is left in the shared receive buffer to a buffer of the connection's own.
    pub(super) fn keep_rest(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        rest: &[u8],
        next: Next,
    ) {
        if H::STREAMS && !at.connection.recv.is_none() && self.keep_rest_of_stream(at, rest) {
            return;
        }
        let (owner, connection) = (at.owner(), &mut *at.connection);
        let missing = match next {
            Next::Nothing | Next::Stream | Next::Streaming => return,
            Next::Partial(missing) => missing,
            Next::Deferred if rest.is_empty() => return,
            Next::More | Next::Deferred => Missing::default(),
            Next::Close(cause) => {
                self.engine.stats.discarded_in += rest.len() as u64;
                return self.begin_close(connection, cause);
            }
        };
        if connection.is_closing() {
            // Its replies found no room.
            self.engine.stats.discarded_in += rest.len() as u64;
            return;
        }
        let runs = (self.tick, !connection.is_held());
        let Ok(own) = self.pool.lend_recv(owner, rest, missing, runs) else {
            self.engine.stats.discarded_in += rest.len() as u64;
            return self.refuse_for_buffers(at);
        };
        connection.recv = own;
        self.wait_for_rest(connection);
    }

    /// Answers what stands in the connection's own buffer, if it is worth looking.
    pub(super) fn digest_own(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let own = at.connection.recv;
        let Some(buffer) = self.pool.recv(own) else { return };
        let unread = buffer.unread().len();
        // What is unfinished at the end may be a message for all that.
        if unread < buffer.missing.needed && (unread == 0 || !at.connection.is_ended()) {
            return;
        }
        let (start, before) = (buffer.start, buffer.missing);
        let (len, sealed) = (buffer.plain_len(), buffer.sealed);
        let mut bytes = self.pool.take_bytes(own);
        let unread = bytes.get_mut(start..len).unwrap_or_default();
        let Progress { consumed, next } = self.process(at, unread, before);
        if !self.pool.put_bytes(own, bytes) {
            // Its replies found no room, so the connection is being closed.
            self.engine.stats.discarded_in += (len - start - consumed) as u64;
            return;
        }
        let runs = !at.connection.is_held();
        let Some(buffer) = self.pool.recv_mut(own) else { return };
        buffer.start += consumed;
        if H::STREAMS && buffer.stream.is_some() {
            return self.keep_own_of_stream(at);
        }
        buffer.missing = match next {
            Next::Nothing if sealed == 0 => return self.release_done(at.connection),
            // Part of a record is left.
            Next::Nothing | Next::Stream | Next::Streaming => Missing::new(1, false),
            Next::Partial(missing) => missing,
            Next::Deferred if consumed + start == len && sealed == 0 => {
                return self.release_done(at.connection);
            }
            Next::More | Next::Deferred => Missing::default(),
            Next::Close(cause) => return self.begin_close(at.connection, cause),
        };
        // A new message, or a new part of it, has a deadline of its own.
        if consumed > 0 || buffer.missing.in_content != before.in_content {
            buffer.begin(self.tick, runs);
        }
        self.wait_for_rest(at.connection);
        if at.connection.is_ready() {
            self.ready.push_back(at.key);
        }
    }

    /// All that was in the connection's own buffer is answered.
    fn release_done(&mut self, connection: &mut Connection<OwnOf<H, F>, L::Kept>) {
        self.release_own(connection);
        self.nearer = true;
    }

    /// Has the engine answer `bytes`, and sends the replies.
    pub(super) fn process(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        bytes: &mut [u8],
        before: Missing,
    ) -> Progress {
        at.connection.touch(self.tick);
        if H::STREAMS {
            self.process_streams(at, bytes, before)
        } else {
            self.process_messages(at, bytes, before)
        }
    }

    /// The same of messages that are held whole.
    #[inline]
    pub(super) fn process_messages(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        bytes: &mut [u8],
        before: Missing,
    ) -> Progress {
        let (about, is_last) = (self.about(at), at.connection.is_ended());
        let own = &mut at.connection.own;
        let progress = self.engine.process(&about, own, bytes, before, is_last);
        self.obey(at);
        progress
    }

    /// A rest stays in the connection's own buffer: either it waits for the next turn, or the
    /// deadline for what is missing runs.
    pub(super) fn wait_for_rest(&mut self, connection: &mut Connection<OwnOf<H, F>, L::Kept>) {
        if connection.is_held() {
            return;
        }
        let whole =
            self.pool.recv(connection.recv).is_some_and(|buffer| buffer.missing.needed == 0);
        if whole {
            connection.step(Fact::Ready);
        } else {
            self.nearer = true;
        }
    }

    /// Reading goes on, unless something else holds it: whole messages in the buffer get their
    /// turn, and the deadline of an unfinished one runs.
    pub(super) fn resume_reading(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        if !at.connection.recv.is_none() && !at.connection.is_ready() {
            self.wait_for_rest(at.connection);
            if at.connection.is_ready() {
                self.ready.push_back(at.key);
            }
        }
    }

    /// While lingering: reads and drops what still comes. Returns whether to go on.
    pub(super) fn discard(&mut self, source: BorrowedFd<'_>, lingering: &mut Lingering) -> bool {
        self.scratch.clear();
        match receive_into(source, &mut self.scratch, &mut self.engine.stats) {
            Received::Bytes(len, _) => {
                self.engine.stats.discarded_in += len as u64;
                lingering.dropped(len)
            }
            Received::Nothing => true,
            Received::End | Received::Failed => false,
        }
    }

    /// Takes back the receive buffer and the queue of a connection that is over.
    pub(super) fn take_back(&mut self, connection: &mut Connection<OwnOf<H, F>, L::Kept>) {
        self.release_own(connection);
        let queue = std::mem::replace(&mut connection.send, Lent::NONE);
        self.engine.stats.broken_streams += self.pool.bodies(queue);
        self.engine.stats.discarded_out += self.pool.return_send(queue) as u64;
    }
}
