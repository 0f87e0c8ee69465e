//! [`Pool`]: the buffers that connections borrow for as long as a message or a reply is unfinished.
//!
//! An idle connection holds none. What all connections hold together is bounded, and what they
//! give back is kept for the next one only up to a small reserve.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::slab::{Key, Slab};
use crate::timer::Tick;

/// A receive buffer starts with at most this capacity, however much is announced.
pub(crate) const FIRST_CAPACITY: usize = 64 << 10;

/// Segments that one `sendmsg` takes.
pub(crate) const MAX_SLICES: usize = 16;

/// Own bytes are gathered in segments of this size while replies are small.
const SEGMENT_CAPACITY: usize = 16 << 10;

/// Buffers kept for the next connection, and the largest capacity worth keeping.
const RESERVE: usize = 32;
const RESERVE_CAPACITY: usize = FIRST_CAPACITY;

/// Where a connection's buffer is in the pool: an index, or nothing. 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(u32);

impl Handle {
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// All pooled buffers hold as much as they may together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolFull;

/// The unfinished message of one connection, and whatever whole messages stand before it.
#[derive(Debug)]
pub(crate) struct RecvBuffer {
    pub(crate) bytes: Vec<u8>,
    /// Bytes at the front that are done with.
    pub(crate) start: usize,
    /// Unread bytes that must be there before decoding again makes sense.
    pub(crate) needed: usize,
    /// Whether the header of the first message is whole.
    pub(crate) in_content: bool,
    /// When the present deadline began; while reading is paused, the time already used up of it.
    pub(crate) since: Tick,
}

impl RecvBuffer {
    /// What has been received and not yet decoded.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// What a connection has yet to send.
#[derive(Debug)]
pub(crate) struct SendQueue {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent.
    sent: usize,
    /// Bytes in all that are unsent.
    len: usize,
    /// When the last progress was made.
    pub(crate) stalled_since: Tick,
}

#[derive(Debug)]
enum Segment {
    Own(Vec<u8>),
    /// Bytes that other connections send too.
    #[expect(dead_code, reason = "pushes to many connections share their bytes")]
    Shared(Arc<[u8]>),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl SendQueue {
    /// Bytes that are unsent.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The unsent bytes of the first segments, in order.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        self.segments.iter().take(MAX_SLICES).map(move |segment| {
            let bytes = segment.bytes();
            bytes.get(std::mem::take(&mut skip)..).unwrap_or_default()
        })
    }
}

/// The receive and send buffers of all connections of one loop.
#[derive(Debug)]
pub(crate) struct Pool {
    recv: Slab<RecvBuffer>,
    send: Slab<SendQueue>,
    reserve: Vec<Vec<u8>>,
    /// Capacity of all buffers that are lent out.
    lent: usize,
    limit: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { recv: Slab::new(), send: Slab::new(), reserve: Vec::new(), lent: 0, limit }
    }

    /// Capacity in bytes of all buffers that connections hold.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// How many receive buffers and send queues connections hold.
    pub(crate) fn held(&self) -> usize {
        self.recv.len() + self.send.len()
    }

    pub(crate) fn recv(&self, handle: Handle) -> Option<&RecvBuffer> {
        self.recv.at(handle.0)
    }

    pub(crate) fn recv_mut(&mut self, handle: Handle) -> Option<&mut RecvBuffer> {
        self.recv.at_mut(handle.0).map(|(_, buffer)| buffer)
    }

    pub(crate) fn send(&self, handle: Handle) -> Option<&SendQueue> {
        self.send.at(handle.0)
    }

    pub(crate) fn send_mut(&mut self, handle: Handle) -> Option<&mut SendQueue> {
        self.send.at_mut(handle.0).map(|(_, queue)| queue)
    }

    /// Bytes that a send queue holds; none where there is no queue.
    #[inline]
    pub(crate) fn queued(&self, handle: Handle) -> usize {
        if handle.is_none() { 0 } else { self.send(handle).map_or(0, SendQueue::len) }
    }

    /// Lends a receive buffer that holds `bytes` and has room for `needed` bytes, or for as many as
    /// a first buffer gets.
    pub(crate) fn lend_recv(
        &mut self,
        bytes: &[u8],
        needed: usize,
        in_content: bool,
        since: Tick,
    ) -> Result<Handle, PoolFull> {
        let capacity = needed.min(FIRST_CAPACITY).max(bytes.len());
        let mut buffer = self.take(capacity)?;
        buffer.extend_from_slice(bytes);
        let entry = RecvBuffer { bytes: buffer, start: 0, needed, in_content, since };
        self.recv.insert(entry).map(handle).map_err(|_| PoolFull)
    }

    /// Drops what is decoded from the front and makes room for what is `needed`: the capacity
    /// doubles as bytes arrive, and its last step is exact.
    ///
    /// There is always room for one byte afterwards.
    pub(crate) fn make_room(&mut self, handle: Handle) -> Result<(), PoolFull> {
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        if buffer.start > 0 {
            buffer.bytes.drain(..buffer.start);
            buffer.start = 0;
        }
        let (len, capacity) = (buffer.bytes.len(), buffer.bytes.capacity());
        if len < capacity {
            return Ok(());
        }
        let wanted = buffer.needed.max(len + 1).min(capacity.max(FIRST_CAPACITY / 2) * 2);
        let wanted = wanted.max(len + 1);
        if self.lent - capacity + wanted > self.limit {
            return Err(PoolFull);
        }
        buffer.bytes.reserve_exact(wanted - len);
        self.lent = self.lent - capacity + buffer.bytes.capacity();
        Ok(())
    }

    /// The bytes of a receive buffer, to be put back with [`put_bytes`](Self::put_bytes).
    pub(crate) fn take_bytes(&mut self, handle: Handle) -> Vec<u8> {
        self.recv_mut(handle).map(|buffer| std::mem::take(&mut buffer.bytes)).unwrap_or_default()
    }

    /// Puts back what [`take_bytes`](Self::take_bytes) took; its capacity must not have changed.
    /// Returns whether there still is a buffer to put it into; the pool has it back in any case.
    pub(crate) fn put_bytes(&mut self, handle: Handle, bytes: Vec<u8>) -> bool {
        let Some(buffer) = self.recv_mut(handle) else {
            self.put(bytes);
            return false;
        };
        buffer.bytes = bytes;
        true
    }

    /// Takes a receive buffer back.
    pub(crate) fn return_recv(&mut self, handle: Handle) {
        if let Some(key) = self.recv.at_mut(handle.0).map(|(key, _)| key)
            && let Some(buffer) = self.recv.remove(key)
        {
            self.put(buffer.bytes);
        }
    }

    /// Lends an empty send queue.
    pub(crate) fn lend_send(&mut self, stalled_since: Tick) -> Result<Handle, PoolFull> {
        let queue = SendQueue { segments: VecDeque::new(), sent: 0, len: 0, stalled_since };
        self.send.insert(queue).map(handle).map_err(|_| PoolFull)
    }

    /// Appends a copy of `bytes` to a send queue.
    pub(crate) fn queue(&mut self, to: Handle, bytes: &[u8]) -> Result<(), PoolFull> {
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        let mut rest = bytes;
        if let Some(Segment::Own(last)) = queue.segments.back_mut() {
            let room = (last.capacity() - last.len()).min(rest.len());
            let (now, later) = rest.split_at(room);
            last.extend_from_slice(now);
            queue.len += room;
            rest = later;
        }
        if !rest.is_empty() {
            let mut segment = self.take(rest.len().max(SEGMENT_CAPACITY))?;
            segment.extend_from_slice(rest);
            if let Some((_, queue)) = self.send.at_mut(to.0) {
                queue.len += rest.len();
                queue.segments.push_back(Segment::Own(segment));
            }
        }
        Ok(())
    }

    /// Marks `sent` bytes of a queue as sent `now` and takes back the segments that are done with.
    pub(crate) fn advance(&mut self, handle: Handle, sent: usize, now: Tick) {
        let Some((_, queue)) = self.send.at_mut(handle.0) else { return };
        if sent > 0 {
            queue.stalled_since = now;
        }
        queue.len -= sent.min(queue.len);
        queue.sent += sent;
        let mut done = Vec::new();
        while let Some(first) = queue.segments.front() {
            let len = first.bytes().len();
            if queue.sent < len {
                break;
            }
            queue.sent -= len;
            if let Some(Segment::Own(bytes)) = queue.segments.pop_front() {
                done.push(bytes);
            }
        }
        for bytes in done {
            self.put(bytes);
        }
    }

    /// Takes a send queue back, with whatever it still holds; returns how many bytes that was.
    pub(crate) fn return_send(&mut self, handle: Handle) -> usize {
        let Some(key) = self.send.at_mut(handle.0).map(|(key, _)| key) else { return 0 };
        let Some(queue) = self.send.remove(key) else { return 0 };
        for segment in queue.segments {
            if let Segment::Own(bytes) = segment {
                self.put(bytes);
            }
        }
        queue.len
    }

    /// An empty buffer of at least `capacity`, from the reserve or new.
    fn take(&mut self, capacity: usize) -> Result<Vec<u8>, PoolFull> {
        if self.lent + capacity > self.limit {
            return Err(PoolFull);
        }
        let mut buffer = self.reserve.pop().unwrap_or_default();
        buffer.reserve_exact(capacity);
        self.lent += buffer.capacity();
        Ok(buffer)
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        self.lent -= buffer.capacity();
        let worth_keeping = (1..=RESERVE_CAPACITY).contains(&buffer.capacity());
        if worth_keeping && self.reserve.len() < RESERVE {
            buffer.clear();
            self.reserve.push(buffer);
        }
    }
}

fn handle(key: Key) -> Handle {
    Handle(key.index())
}
