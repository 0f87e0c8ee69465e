//! What buffers hold of contents that are not held in memory.

use super::clock::Window;
use super::send::Segment;
use super::{Lent, Of, Owner, Pool, PoolFull, RecvBuffer, Stopwatch, count, lent};
use crate::body::{Body, Filled, Incoming};
use crate::protocol::Missing;
use crate::timer::Tick;

impl Pool {
    /// Lends a receive buffer of no bytes for a content that is not held, or notes the content in the
    /// buffer that the connection has. The peer's time for it begins.
    pub(crate) fn begin_stream(
        &mut self,
        owner: Owner,
        handle: Lent,
        stream: Incoming,
        (now, runs): (Tick, bool),
    ) -> Result<Lent, PoolFull> {
        let missing = Missing::new(1, true);
        if let Some(buffer) = self.recv_mut(handle) {
            (buffer.stream, buffer.missing) = (Some(Box::new(stream)), missing);
            buffer.begin(now, runs);
            return Ok(handle);
        }
        let entry = RecvBuffer {
            bytes: Vec::new(),
            start: 0,
            missing,
            sealed: 0,
            record: 0,
            stream: Some(Box::new(stream)),
            clock: Stopwatch::new(now, runs),
            window: Window::new(now, runs, Some(0)),
            loan: u32::MAX,
        };
        let key = self.recv.insert(entry).map_err(|_| PoolFull)?;
        let loan = self.shares.lend(owner, Of::Receiving(key.index()));
        match (loan, self.recv.get_mut(key)) {
            (Some(loan), Some(entry)) => {
                entry.loan = loan;
                Ok(lent(key))
            }
            _ => {
                self.recv.remove(key);
                Err(PoolFull)
            }
        }
    }

    /// Appends bytes that the handler does not take yet.
    pub(crate) fn append(&mut self, handle: Lent, bytes: &[u8]) -> Result<(), PoolFull> {
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        let (len, capacity, loan) = (buffer.bytes.len(), buffer.bytes.capacity(), buffer.loan);
        let wanted = len + bytes.len();
        if wanted > capacity {
            self.make_way(loan, wanted - capacity)?;
        }
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        buffer.bytes.reserve_exact(bytes.len());
        buffer.bytes.extend_from_slice(bytes);
        let grown = buffer.bytes.capacity() - capacity;
        self.note_lent(loan, grown);
        Ok(())
    }

    /// All bytes of a receive buffer are done with: keeps the buffer, and gives its memory back.
    pub(crate) fn empty(&mut self, handle: Lent) {
        let Some(buffer) = self.recv_mut(handle) else { return };
        buffer.start = 0;
        let (loan, bytes) = (buffer.loan, std::mem::take(&mut buffer.bytes));
        if bytes.capacity() > 0 {
            self.put(loan, bytes);
        }
    }

    /// Appends a content that is read when there is room to a send queue.
    pub(crate) fn queue_body(&mut self, to: Lent, body: Body) {
        if let Some(queue) = self.send_mut(to) {
            queue.bodies += 1;
            queue.segments.push_back(Segment::Body(Box::new(body)));
        }
    }

    /// The content that a send queue begins with, if it does.
    pub(crate) fn first_body(&mut self, of: Lent) -> Option<&mut Body> {
        match self.send_mut(of)?.segments.front_mut() {
            Some(Segment::Body(body)) => Some(body),
            _ => None,
        }
    }

    /// So many bytes of the content that the queue begins with were sent `now` by the system.
    pub(crate) fn advance_body(&mut self, of: Lent, sent: usize, now: Tick) {
        if let Some(body) = self.first_body(of) {
            body.advance(sent as u64);
        }
        if let Some(queue) = self.send_mut(of) {
            queue.stalled_since = now;
            queue.given += count(sent);
        }
        self.drop_body_that_is_done(of);
    }

    fn drop_body_that_is_done(&mut self, of: Lent) {
        if self.first_body(of).is_some_and(|body| body.left() == 0)
            && let Some(queue) = self.send_mut(of)
        {
            queue.segments.pop_front();
            queue.bodies -= 1;
        }
    }

    /// Reads the next piece of the content that a queue begins with, and puts it in front of the
    /// rest. Nothing happens where it begins with something else.
    pub(crate) fn fill(&mut self, of: Lent) -> Result<Filled, PoolFull> {
        let Some(body) = self.first_body(of) else { return Ok(Filled::Bytes) };
        let len = body.next_len();
        let Some(queue) = self.send(of) else { return Ok(Filled::Bytes) };
        let loan = queue.loan;
        let mut piece = self.take(loan, len, len)?;
        let filled = self.first_body(of).map_or(Filled::Bytes, |body| body.fill(&mut piece));
        match self.send_mut(of) {
            Some(queue) if filled == Filled::Bytes => {
                queue.len += piece.len();
                let body = queue.segments.pop_front();
                queue.segments.push_front(Segment::Own(piece));
                match body {
                    Some(Segment::Body(body)) if body.left() == 0 => queue.bodies -= 1,
                    Some(body) => queue.segments.insert(1, body),
                    None => {}
                }
            }
            _ => self.put(loan, piece),
        }
        Ok(filled)
    }

    /// A queue goes on after its source had nothing: the peer's time begins anew.
    pub(crate) fn restart(&mut self, queue: Lent, now: Tick) {
        if let Some(queue) = self.send_mut(queue) {
            queue.stalled_since = now;
            queue.window = Window::new(now, true, None);
        }
    }

    /// Whether nothing is left in a send queue.
    pub(crate) fn is_done(&self, queue: Lent) -> bool {
        self.send(queue).is_none_or(super::SendQueue::is_done)
    }

    /// How many contents a send queue has that are read when there is room.
    pub(crate) fn bodies(&self, queue: Lent) -> u64 {
        self.send(queue).map_or(0, |queue| queue.bodies as u64)
    }

    /// Whether a send queue has a content that is read when there is room.
    pub(crate) fn has_body(&self, queue: Lent) -> bool {
        self.send(queue).is_some_and(super::SendQueue::has_body)
    }
}
