//! Receiving and sending where something stands between a socket and its messages.
//!
//! A plain loop has none of this. What is received is opened in place, and what is left of an
//! unfinished record stays behind the plain bytes in the connection's own buffer. What is sent is
//! sealed as late as it can be: queues hold plain bytes, and in front of them, where the socket has
//! taken a part of some records, the rest of those.

use myriapod_sys::Errno;

use super::receive::Received;
use super::send::Unsent;
use super::shared::{After, At, Shared};
use super::{EventLoop, connection_at};
use crate::buffer::{PoolFull, RecvBuffer};
use crate::connection::{Fact, Socket};
use crate::engine::{OwnOf, Progress};
use crate::handler::Handler;
use crate::link::{self, End, Link, LinkFault, Opened};
use crate::log::LogEvent;
use crate::protocol::{Framing, Missing};
use crate::slab::Key;
use crate::stats::Cause;

/// Plain bytes that are sealed before the socket is asked again: four full records of TLS.
const SEALED_AT_ONCE: usize = 64 << 10;

impl<H: Handler, F: Framing, L: Link> Shared<H, F, L> {
    /// Receives once from a secure connection, and answers whatever whole messages are there then.
    #[inline(never)]
    pub(super) fn receive_secure(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        if !at.connection.recv.is_none() {
            return self.receive_secure_own(at);
        }
        self.scratch.clear();
        match self.receive_records(at) {
            Ok(_plain) => {
                self.digest_shared(at);
                After::Settle(Socket::Empty)
            }
            Err(after) => after,
        }
    }

    /// Receives once into the shared buffer, which is empty. Where it holds whole records and nothing
    /// else is there to do, it then holds their data, which is for the caller to answer.
    #[inline(never)]
    pub(super) fn receive_records(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
    ) -> Result<usize, After> {
        let received = receive_sealed(at, &mut self.scratch);
        let Received::Bytes(len, socket) = received else {
            return Err(self.receive_no_records(at, &received));
        };
        let opened = self.link.open(&mut at.connection.link, at.key.to_bits(), &mut self.scratch);
        self.engine.stats.bytes_in += opened.plain as u64;
        let is_whole = opened.consumed == len && opened.end.is_none() && opened.plain > 0;
        if is_whole && matches!(socket, Socket::Empty) {
            self.scratch.truncate(opened.plain);
            return Ok(opened.plain);
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        self.digest_opened(at, &mut bytes, opened);
        self.scratch = bytes;
        Err(After::Settle(socket))
    }

    /// Takes in bytes that were received already.
    pub(super) fn take_in(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, bytes: &[u8]) -> After {
        if bytes.is_empty() {
            return After::Settle(Socket::MayHoldMore);
        }
        let mut copy = std::mem::take(&mut self.scratch);
        copy.clear();
        copy.extend_from_slice(bytes);
        self.open_shared(at, &mut copy);
        self.scratch = copy;
        After::Settle(Socket::MayHoldMore)
    }

    /// Opens the records in a buffer that all connections share, for one with none of its own.
    fn open_shared(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, bytes: &mut [u8]) {
        let opened = self.link.open(&mut at.connection.link, at.key.to_bits(), bytes);
        self.engine.stats.bytes_in += opened.plain as u64;
        self.digest_opened(at, bytes, opened);
    }

    /// Answers what stands at the front of `bytes`, and keeps a part of a record behind it.
    fn digest_opened(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        bytes: &mut [u8],
        opened: Opened,
    ) {
        at.connection.touch(self.tick);
        if let Some(plain) = bytes.get_mut(..opened.plain).filter(|plain| !plain.is_empty()) {
            let Progress { consumed, next } = self.process(at, plain, Missing::default());
            self.keep_rest(at, plain.get(consumed..).unwrap_or_default(), next);
            if at.connection.is_ready() {
                self.ready.push_back(at.key);
            }
        }
        let rest = bytes.get(opened.consumed..).unwrap_or_default();
        if opened.end.is_none() && !rest.is_empty() {
            self.keep_sealed(at, rest, opened.needed);
        }
        self.note_link_end(at, opened.end);
    }

    /// Part of a record stays in the connection's own buffer, behind the plain bytes if there are any.
    fn keep_sealed(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, sealed: &[u8], record: usize) {
        if at.connection.is_closing() {
            return;
        }
        let kept = if at.connection.recv.is_none() {
            let runs = (self.tick, !at.connection.is_held());
            self.pool
                .lend_recv(at.owner(), &[], Missing::new(1, false), runs)
                .map(|own| at.connection.recv = own)
        } else {
            Ok(())
        };
        let own = at.connection.recv;
        if kept.and_then(|()| self.pool.append_sealed(own, sealed, record)).is_err() {
            return self.refuse_for_buffers(at);
        }
        self.nearer = true;
    }

    /// Receives behind what the connection's own buffer holds.
    fn receive_secure_own(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> After {
        let own = at.connection.recv;
        if self.pool.make_room(own).is_err() {
            self.refuse_for_buffers(at);
            return After::Settle(Socket::MayHoldMore);
        }
        let from = self.pool.recv(own).map_or(0, RecvBuffer::plain_len);
        let mut bytes = self.pool.take_bytes(own);
        let received = receive_sealed(at, &mut bytes);
        let Received::Bytes(_, socket) = received else {
            self.pool.put_bytes(own, bytes);
            return self.receive_no_records(at, &received);
        };
        at.connection.touch(self.tick);
        let sealed = bytes.get_mut(from..).unwrap_or_default();
        let opened = self.link.open(&mut at.connection.link, at.key.to_bits(), sealed);
        self.engine.stats.bytes_in += opened.plain as u64;
        // What is left of a record moves up to the plain bytes.
        let (tail, end) = (from + opened.consumed, from + opened.plain);
        let mut left = bytes.len() - tail;
        bytes.copy_within(tail.., end);
        if opened.end.is_some() {
            left = 0;
        }
        bytes.truncate(end + left);
        self.pool.put_bytes(own, bytes);
        if let Some(buffer) = self.pool.recv_mut(own) {
            (buffer.sealed, buffer.record) = (left, if left > 0 { opened.needed } else { 0 });
        }
        if opened.plain > 0 || left == 0 {
            self.digest_secure_own(at);
        }
        self.note_link_end(at, opened.end);
        After::Settle(socket)
    }

    /// Answers what stands in the connection's own buffer, and gives that back where nothing is left.
    fn digest_secure_own(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) {
        let own = at.connection.recv;
        if self.pool.recv(own).is_some_and(|buffer| {
            buffer.unread().is_empty() && buffer.sealed == 0 && buffer.stream.is_none()
        }) {
            self.release_own(at.connection);
            self.nearer = true;
            return;
        }
        self.digest_own(at);
    }

    /// A receive brought no bytes.
    fn receive_no_records(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        received: &Received,
    ) -> After {
        match received {
            Received::End => {
                if L::note_end(&mut at.connection.link) {
                    let text = "the stream ended without close_notify";
                    self.note_link_fault(at.key, &LinkFault::new(LinkFault::TRUNCATED, text));
                }
                at.connection.step(Fact::EndSeen);
                After::Settle(Socket::Empty)
            }
            Received::Failed => After::Close(Cause::Error),
            Received::Nothing | Received::Bytes(..) => After::Settle(Socket::Empty),
        }
    }

    /// Nothing more will be opened. What came before is still answered; then the connection ends.
    fn note_link_end(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, end: Option<End>) {
        let Some(end) = end else { return };
        if let End::Fault(fault) = &end {
            self.note_link_fault(at.key, fault);
        }
        at.connection.step(Fact::EndSeen);
    }

    fn note_link_fault(&mut self, key: Key, fault: &LinkFault) {
        self.engine.stats.link_faults.add(fault.name, 1);
        let id = self.engine.id(key);
        self.engine.tell(&LogEvent::LinkFault { id, fault });
    }

    /// Seals the replies of one event and sends them, for a connection with nothing queued. Returns
    /// whether the socket took all of them.
    #[inline(never)]
    pub(super) fn send_secure(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> bool {
        let len = self.engine.context.out.len();
        let first = len.min(SEALED_AT_ONCE);
        let sent = if len == 0 { Ok(0) } else { self.seal_and_send(at, 0, first) };
        if first == len && (len == 0 || sent == Ok(self.sealed.len())) {
            self.engine.sent_all();
            return true;
        }
        self.send_secure_rest(at, first, sent)
    }

    /// Seals a piece of the replies, and sends the records. Returns how much of them the socket took.
    #[inline(always)]
    fn seal_and_send(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        from: usize,
        to: usize,
    ) -> Result<usize, Errno> {
        let plain = self.engine.context.out.get(from..to).unwrap_or_default();
        self.sealed.clear();
        if !self.link.seal(&mut at.connection.link, at.key.to_bits(), plain, &mut self.sealed) {
            return Err(Errno::EPIPE);
        }
        match link::send(at.source, &self.sealed) {
            Err(errno) if errno.would_block() => Ok(0),
            sent => sent,
        }
    }

    /// There is more to seal, or the socket did not take all, or it failed. The first `done` bytes of
    /// the replies are sealed.
    #[cold]
    #[inline(never)]
    fn send_secure_rest(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        mut done: usize,
        mut sent: Result<usize, Errno>,
    ) -> bool {
        let len = self.engine.context.out.len();
        while sent == Ok(self.sealed.len()) && done < len {
            let to = len.min(done + SEALED_AT_ONCE);
            sent = self.seal_and_send(at, done, to);
            done = to;
        }
        let Ok(taken) = sent else {
            self.cannot_send_replies(at);
            return false;
        };
        self.engine.stats.bytes_out += done as u64;
        let (out, sealed) =
            (std::mem::take(&mut self.engine.context.out), std::mem::take(&mut self.sealed));
        let records = sealed.get(taken..).unwrap_or_default();
        let plain = out.get(done..).unwrap_or_default();
        let is_queued = records.is_empty() || self.queue_rest(at, records, plain).is_ok();
        if !is_queued {
            // Half a record must not be followed by another.
            self.engine.stats.discarded_out += plain.len() as u64;
            self.stop_sending(at);
            self.begin_close(at.connection, Cause::BufferLimit);
        }
        let took_all = records.is_empty();
        (self.engine.context.out, self.sealed) = (out, sealed);
        self.engine.clear_out();
        took_all
    }

    /// The socket did not take all: the rest of the records is queued, and what is not sealed yet
    /// behind it.
    fn queue_rest(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        records: &[u8],
        plain: &[u8],
    ) -> Result<(), PoolFull> {
        self.queue_records(at, records)?;
        if plain.is_empty() { Ok(()) } else { self.queue(at, Unsent::Own(plain)) }
    }

    /// Records that the socket has not taken wait in front of all that is queued.
    fn queue_records(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        records: &[u8],
    ) -> Result<(), PoolFull> {
        let first = at.connection.send.is_none();
        if first {
            at.connection.send = self.pool.lend_send(at.owner(), self.tick)?;
            self.engine.stats.short_writes += 1;
            self.nearer = true;
        }
        self.note_wait(at.connection.send, true);
        self.pool.queue_sealed(at.connection.send, records)
    }

    /// Sends from the queue of a secure connection once: what is sealed already, then as much as one
    /// send is worth.
    pub(super) fn send_queued_sealed(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
    ) -> Result<(), Errno> {
        let queued = at.connection.send;
        let Some(queue) = self.pool.send(queued) else { return Ok(()) };
        if !queue.sealed().is_empty() {
            let sent = link::send(at.source, queue.sealed())?;
            at.connection.touch(self.tick);
            self.pool.advance_sealed(queued, sent, self.tick);
        }
        let Some(queue) = self.pool.send(queued) else { return Ok(()) };
        if !queue.sealed().is_empty() {
            return Ok(());
        }
        if queue.has_body() && !self.send_body(at)? {
            return Ok(());
        }
        let Some(queue) = self.pool.send(queued) else { return Ok(()) };
        self.gathered.clear();
        for piece in queue.slices() {
            let room = SEALED_AT_ONCE - self.gathered.len();
            self.gathered.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if self.gathered.len() == SEALED_AT_ONCE {
                break;
            }
        }
        if self.gathered.is_empty() {
            return Ok(());
        }
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.clear();
        let result = self.seal_gathered(at, &mut sealed);
        self.sealed = sealed;
        result
    }

    fn seal_gathered(
        &mut self,
        at: &mut At<'_, OwnOf<H, F>, L::Kept>,
        sealed: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let owner = at.key.to_bits();
        if !self.link.seal(&mut at.connection.link, owner, &self.gathered, sealed) {
            return Err(Errno::EPIPE);
        }
        let sent = match link::send(at.source, sealed) {
            Err(errno) if errno.would_block() => 0,
            sent => sent?,
        };
        if sent > 0 {
            at.connection.touch(self.tick);
        }
        self.engine.stats.bytes_out += self.gathered.len() as u64;
        self.pool.advance(at.connection.send, self.gathered.len(), self.tick);
        let rest = sealed.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        self.queue_records(at, rest).map_err(|PoolFull| Errno::ENOBUFS)
    }

    /// Says our last word, if it was not said. Returns how much of it the socket did not take, which
    /// stands at the end of `sealed`.
    fn last_word(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>) -> usize {
        self.sealed.clear();
        self.link.last_word(&mut at.connection.link, at.key.to_bits(), &mut self.sealed);
        if self.sealed.is_empty() {
            return 0;
        }
        match link::send(at.source, &self.sealed) {
            Ok(sent) => self.sealed.len() - sent,
            Err(errno) if errno.would_block() => self.sealed.len(),
            // Nobody is there to hear it.
            Err(_) => 0,
        }
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Says our last word on a connection with nothing unsent. Returns whether that is done; otherwise
    /// it waits in the queue for room.
    pub(super) fn say_last_word(&mut self, key: Key, cause: Cause) -> bool {
        let Some((source, connection)) = connection_at(&mut self.selector, key) else {
            return true;
        };
        if L::has_said_last_word(&connection.link) {
            return true;
        }
        let mut at = At { key, source, connection };
        let left = self.shared.last_word(&mut at);
        if left == 0 {
            return true;
        }
        let sealed = std::mem::take(&mut self.shared.sealed);
        let rest = sealed.get(sealed.len() - left..).unwrap_or_default();
        let is_queued = self.shared.queue_records(&mut at, rest).is_ok();
        self.shared.sealed = sealed;
        if !is_queued {
            return true;
        }
        self.work(key, |shared, at| {
            shared.begin_close(at.connection, cause);
            shared.nearer = true;
            After::Settle(Socket::Empty)
        });
        false
    }

    /// Says our last word if that can be done at once: the connection is closed in any case.
    pub(super) fn try_last_word(&mut self, key: Key) {
        if let Some((source, connection)) = connection_at(&mut self.selector, key)
            && connection.send.is_none()
            && connection.takes_replies()
        {
            let _left = self.shared.last_word(&mut At { key, source, connection });
        }
    }
}

/// Receives once; what comes is not plain.
fn receive_sealed<S, K>(at: &At<'_, S, K>, buffer: &mut Vec<u8>) -> Received {
    let room = buffer.capacity() - buffer.len();
    match link::receive(at.source, buffer) {
        Ok(0) => Received::End,
        Ok(len) => {
            let socket = if len < room { Socket::Empty } else { Socket::MayHoldMore };
            Received::Bytes(len, socket)
        }
        Err(errno) if errno.would_block() => Received::Nothing,
        Err(_) => Received::Failed,
    }
}
