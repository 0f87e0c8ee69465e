//! Contents that are not held in memory: pieces go to the handler straight from the buffer that they
//! were received in, and the contents of replies are read when the socket has room.

use myriapod_sys::Errno;

use super::receive::receive_into;
use super::shared::{After, At, Shared};
use crate::body::{Body, Filled};
use crate::connection::Fact;
use crate::engine::{Next, OwnOf, Progress, Taken};
use crate::handler::Handler;
use crate::intake::Flow;
use crate::link::{self, Link};
use crate::protocol::{Framing, Missing};
use crate::stats::Cause;

/// The most of a file that the system is asked to send at once, so that others get their turn.
const FILE_AT_ONCE: u64 = 1 << 20;

impl<H: Handler, F: Framing, L: Link> Shared<H, F, L> {
    /// As [`process`](Self::process), where the handler streams contents.
    pub(super) fn process_streams(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        bytes: &mut [u8],
        mut before: Missing,
    ) -> Progress {
        let mut consumed = 0;
        let mut budget = self.engine.config.limits.messages_per_event;
        loop {
            if self.is_streaming(at) {
                before = Missing::default();
                consumed += self.take_piece(at, bytes.get(consumed..).unwrap_or_default());
                if !at.connection.is_closing() && self.is_streaming(at) {
                    return Progress { consumed, next: Next::Streaming };
                }
            }
            let rest = bytes.get_mut(consumed..).unwrap_or_default();
            if rest.is_empty() && !at.connection.is_closing() {
                return Progress { consumed, next: Next::Nothing };
            }
            if at.connection.is_closing() || budget == 0 {
                return Progress { consumed, next: Next::More };
            }
            if at.connection.is_held() {
                let is_waiting = at.connection.is_waiting();
                let next = if is_waiting { Next::Deferred } else { Next::More };
                return Progress { consumed, next };
            }
            budget -= 1;
            let progress = self.process_messages(at, rest, before);
            before = Missing::default();
            consumed += progress.consumed;
            if progress.next != Next::Stream {
                return Progress { consumed, next: progress.next };
            }
            self.begin_stream(at);
        }
    }

    fn is_streaming(&self, at: &At<'_, OwnOf<H, F>, L::Kept>) -> bool {
        self.pool.recv(at.connection.recv).is_some_and(|buffer| buffer.stream.is_some())
    }

    /// A content begins that comes in pieces.
    fn begin_stream(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let Some(incoming) = self.engine.context.incoming.take() else { return };
        if at.connection.is_closing() {
            return;
        }
        let (owner, runs) = (at.owner(), (self.tick, !at.connection.is_held()));
        match self.pool.begin_stream(owner, at.connection.recv, incoming, runs) {
            Ok(own) => at.connection.recv = own,
            Err(_) => self.refuse_for_buffers(at),
        }
        self.nearer = true;
    }

    /// Hands the handler what `bytes` have of the content that comes. Returns how much that was.
    fn take_piece(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, bytes: &[u8]) -> usize {
        if at.connection.is_held_back() {
            return 0;
        }
        let own = at.connection.recv;
        let stream = self.pool.recv_mut(own).and_then(|buffer| buffer.stream.as_mut());
        let Some(stream) = stream else { return 0 };
        let piece = stream.take(bytes);
        let (left, is_dropped, id) = (stream.left, stream.is_dropped(), &stream.id);
        if is_dropped {
            self.engine.stats.discarded_in += piece.len() as u64;
        } else if !piece.is_empty() {
            let id = id.clone();
            let about = self.about(at);
            match self.engine.take_piece(&about, &mut at.connection.own, &id, piece) {
                Taken::Piece(Flow::Go) => self.obey(at),
                Taken::Piece(Flow::Wait) => {
                    self.step(at.connection, Fact::Held);
                    self.obey(at);
                }
                Taken::Refused => {
                    self.engine.stats.broken_streams += u64::from(left > 0);
                    let may_drop = self.engine.may_drop(&about, left);
                    self.obey(at);
                    self.drop_rest(at, may_drop);
                }
                Taken::Panicked => self.obey(at),
            }
        }
        if left == 0 && !at.connection.is_held_back() && !at.connection.is_closing() {
            self.end_stream(at);
        }
        piece.len()
    }

    /// The handler does not want the rest of a content.
    fn drop_rest(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, may_drop: bool) {
        if at.connection.is_closing() {
            return;
        }
        let stream = self.pool.recv_mut(at.connection.recv).and_then(|one| one.stream.as_mut());
        if let Some(stream) = stream {
            stream.place = None;
        }
        if !may_drop {
            self.begin_close(at.connection, Cause::Handler);
        }
    }

    /// A content has come whole.
    fn end_stream(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let buffer = self.pool.recv_mut(at.connection.recv);
        let Some(stream) = buffer.and_then(|buffer| buffer.stream.take()) else { return };
        self.engine.stats.messages += 1;
        if !stream.is_dropped() {
            let id = stream.id;
            drop(stream.place);
            let about = self.about(at);
            self.engine.end_stream(&about, &mut at.connection.own, &id);
            self.obey(at);
        }
    }

    /// Receives a piece of a content that is not held, into the buffer that all connections share.
    pub(super) fn receive_piece(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        self.scratch.clear();
        let received = receive_into(at.source, &mut self.scratch, &mut self.engine.stats);
        self.receive_other(at, received)
    }

    /// Keeps what is left in the shared receive buffer of a connection that streams or has just done
    /// so. Returns whether that is all.
    pub(super) fn keep_rest_of_stream(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        rest: &[u8],
    ) -> bool {
        if !self.is_streaming(at) {
            self.release_own(at.connection);
            self.nearer = true;
            return false;
        }
        let own = at.connection.recv;
        if rest.is_empty() || at.connection.is_closing() {
            self.engine.stats.discarded_in += rest.len() as u64;
            return true;
        }
        if self.pool.append(own, rest).is_err() {
            self.engine.stats.discarded_in += rest.len() as u64;
            self.refuse_for_buffers(at);
        } else if let Some(buffer) = self.pool.recv_mut(own) {
            buffer.missing = Missing::new(0, true);
        }
        true
    }

    /// The same for a buffer of its own, of which all up to `start` is done with.
    pub(super) fn keep_own_of_stream(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let own = at.connection.recv;
        let Some(buffer) = self.pool.recv_mut(own) else { return };
        let is_empty = buffer.unread().is_empty();
        buffer.missing = Missing::new(usize::from(is_empty), true);
        if is_empty && buffer.sealed == 0 && !L::is_secure(&at.connection.link) {
            self.pool.empty(own);
        }
        self.wait_for_rest(at.connection);
        if at.connection.is_ready() {
            self.ready.push_back(at.key);
        }
    }

    /// The handler goes on with what is streamed on a connection.
    pub(super) fn resume_streams(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        if at.connection.is_held_back() {
            self.step(at.connection, Fact::Resumed);
            let stream = self.pool.recv(at.connection.recv).and_then(|one| one.stream.as_ref());
            if stream.is_some_and(|stream| stream.left == 0) {
                self.end_stream(at);
            }
            self.tidy_after_stream(at);
            self.nearer = true;
        }
        if at.connection.is_dry() {
            at.connection.step(Fact::Fed);
            self.pool.restart(at.connection.send, self.tick);
            self.list_for_sending(at);
        }
    }

    /// Reading goes on behind a content; its buffer is given back where it holds nothing.
    fn tidy_after_stream(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let Some(buffer) = self.pool.recv_mut(at.connection.recv) else { return };
        let has_rest = !buffer.unread().is_empty();
        if buffer.stream.is_none() && !has_rest && buffer.sealed == 0 {
            return self.release_own(at.connection);
        }
        if has_rest {
            buffer.missing = Missing::new(0, buffer.stream.is_some());
        }
        self.resume_reading(at);
    }

    /// The queue is sent at the end of the turn.
    fn list_for_sending(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        if at.connection.list_unsent() {
            self.unsent.push_back(at.key);
        }
    }

    /// Queues the content of a reply whose head is queued or sent.
    pub(super) fn queue_body(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, body: Body) {
        self.engine.stats.streams_out += 1;
        if at.connection.takes_replies() && at.connection.send.is_none() {
            match self.pool.lend_send(at.owner(), self.tick) {
                Ok(queue) => at.connection.send = queue,
                Err(_) => {
                    self.stop_sending(at);
                    self.begin_close(at.connection, Cause::BufferLimit);
                }
            }
        }
        if !at.connection.takes_replies() {
            self.engine.stats.broken_streams += 1;
            return;
        }
        self.pool.queue_body(at.connection.send, body);
        if !at.connection.is_paused() {
            self.step(at.connection, Fact::QueueHigh);
        }
        self.list_for_sending(at);
        self.nearer = true;
    }

    /// Sends from the content that the queue begins with, or reads the next piece of it. Returns
    /// whether that is now in the queue and waits to be sent.
    pub(super) fn send_body(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
    ) -> Result<bool, Errno> {
        let queued = at.connection.send;
        let is_plain = L::IS_PLAIN || !L::is_secure(&at.connection.link);
        let Some(body) = self.pool.first_body(queued) else { return Ok(true) };
        if let Some((file, offset, left)) = body.file().filter(|_| is_plain) {
            let len = usize::try_from(left.min(FILE_AT_ONCE)).unwrap_or(0);
            match link::send_file(at.source, file, offset, len) {
                Ok(0) => self.break_body(at),
                Ok(sent) => {
                    self.engine.stats.bytes_out += sent as u64;
                    at.connection.touch(self.tick);
                    self.pool.advance_body(queued, sent, self.tick);
                }
                // Not every file can be sent by the system.
                Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => body.read_only(),
                Err(Errno::EIO) => self.break_body(at),
                Err(errno) => return Err(errno),
            }
            return Ok(false);
        }
        match self.pool.fill(queued) {
            Ok(Filled::Bytes) => return Ok(true),
            Ok(Filled::Waits) => at.connection.step(Fact::Dry),
            Ok(Filled::Broken { has_panicked }) => {
                if has_panicked {
                    self.engine.note_panic(Some(self.engine.id(at.key)), "Read::read");
                }
                self.break_body(at);
            }
            Err(_) => {
                self.stop_sending(at);
                self.begin_close(at.connection, Cause::BufferLimit);
            }
        }
        Ok(false)
    }

    /// The content of a reply cannot be finished: nothing may follow it.
    fn break_body(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        self.stop_sending(at);
        self.begin_close(at.connection, Cause::StreamBroken);
    }
}
