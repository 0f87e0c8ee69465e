//! [`Pool`]: the buffers that connections borrow for as long as a message or a reply is unfinished.
//!
//! An idle connection holds none. What all connections hold together is bounded, and what they
//! give back is kept for the next one in a small reserve, and not for long.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::Missing;
use crate::reserve::{Release, Reserve};
use crate::slab::{Key, Slab};
use crate::timer::Tick;

/// A receive buffer starts with at most this capacity, however much is announced.
pub(crate) const FIRST_CAPACITY: usize = 64 << 10;

/// Room that a receive buffer has at least where it is not known how much is missing.
const LEAST_ROOM: usize = 1 << 10;

/// A framing that asks for so few bytes more cannot say how many it needs, most likely.
const FEW: usize = 16;

/// Segments that one `sendmsg` takes.
pub(crate) const MAX_SLICES: usize = 16;

/// Own bytes are gathered in segments of this size while replies are small.
const SEGMENT_CAPACITY: usize = 16 << 10;

/// Where a connection's buffer is in the pool: an index, or nothing. 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent(u32);

impl Lent {
    pub(crate) const NONE: Self = Self(u32::MAX);

    #[inline]
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
    /// What the first unread message waits for.
    pub(crate) missing: Missing,
    /// How much of the present deadline is used up.
    pub(crate) clock: Stopwatch,
}

/// The time that a peer has taken: it runs, or stands still while it is we who do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopwatch {
    /// It has run since then.
    Running { since: Tick },
    /// It stands still; so many ticks are used up.
    Stopped { used: u32 },
}

impl Stopwatch {
    /// One that has nothing used up.
    pub(crate) fn new(now: Tick, runs: bool) -> Self {
        if runs { Self::Running { since: now } } else { Self::Stopped { used: 0 } }
    }

    /// Lets it run or stand still from now on.
    pub(crate) fn run(&mut self, now: Tick, runs: bool) {
        *self = match *self {
            Self::Running { since } if !runs => Self::Stopped { used: now.wrapping_sub(since) },
            Self::Stopped { used } if runs => Self::Running { since: now.wrapping_sub(used) },
            same => same,
        };
    }

    /// Since when it would have run, had it never stood still; `None` while it does.
    pub(crate) fn since(self) -> Option<Tick> {
        match self {
            Self::Running { since } => Some(since),
            Self::Stopped { .. } => None,
        }
    }
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
    /// Bytes of the pushed messages in the queue, sent ones of the first included.
    shared: usize,
    /// The system did not take all of it at once.
    pub(crate) has_waited: bool,
    /// When the last progress was made.
    pub(crate) stalled_since: Tick,
    /// Since when it has been above the high-water mark with pushes in it.
    pub(crate) over_since: Option<Tick>,
}

#[derive(Debug)]
enum Segment {
    /// Replies.
    Own(Vec<u8>),
    /// A pushed message, whose bytes other connections may be sending too.
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
    reserve: Reserve,
    /// Capacity of all buffers that are lent out.
    lent: usize,
    /// The most that it ever was.
    most_lent: usize,
    limit: usize,
    /// Set where memory may have become spare.
    spare: bool,
}

impl Pool {
    pub(crate) fn new(limit: usize, release: Release) -> Self {
        let reserve = Reserve::new(release);
        Self {
            recv: Slab::new(),
            send: Slab::new(),
            reserve,
            lent: 0,
            most_lent: 0,
            limit,
            spare: false,
        }
    }

    /// Another limit from now on. What is lent out stays so, also above it.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The most capacity that all buffers together have had.
    pub(crate) fn most_lent(&self) -> usize {
        self.most_lent
    }

    /// Counts `bytes` as lent out, besides what is.
    fn note_lent(&mut self, bytes: usize) {
        self.lent += bytes;
        self.most_lent = self.most_lent.max(self.lent);
    }

    /// Capacity in bytes of all buffers that connections hold.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// How many receive buffers and send queues connections hold.
    pub(crate) fn held(&self) -> usize {
        self.recv.len() + self.send.len()
    }

    pub(crate) fn recv(&self, handle: Lent) -> Option<&RecvBuffer> {
        self.recv.at(handle.0)
    }

    pub(crate) fn recv_mut(&mut self, handle: Lent) -> Option<&mut RecvBuffer> {
        self.recv.at_mut(handle.0).map(|(_, buffer)| buffer)
    }

    pub(crate) fn send(&self, handle: Lent) -> Option<&SendQueue> {
        self.send.at(handle.0)
    }

    pub(crate) fn send_mut(&mut self, handle: Lent) -> Option<&mut SendQueue> {
        self.send.at_mut(handle.0).map(|(_, queue)| queue)
    }

    /// Bytes that a send queue holds; none where there is no queue.
    #[inline]
    pub(crate) fn queued(&self, handle: Lent) -> usize {
        if handle.is_none() { 0 } else { self.send(handle).map_or(0, SendQueue::len) }
    }

    /// Lends a receive buffer that holds `bytes` and has room for what is `missing`, or for as many as
    /// a first buffer gets; for more where it is [not known](capacity_for) how many are needed.
    pub(crate) fn lend_recv(
        &mut self,
        bytes: &[u8],
        missing: Missing,
        clock: Stopwatch,
    ) -> Result<Lent, PoolFull> {
        let needed = missing.needed;
        let least = needed.min(FIRST_CAPACITY).max(bytes.len());
        let roomy = capacity_for(bytes.len(), needed).min(FIRST_CAPACITY).max(least);
        // Nobody is refused a buffer for the sake of room that may not be needed.
        let capacity = if self.lent + roomy <= self.limit { roomy } else { least };
        let mut buffer = self.take(capacity)?;
        buffer.extend_from_slice(bytes);
        let entry = RecvBuffer { bytes: buffer, start: 0, missing, clock };
        self.recv.insert(entry).map(lent).map_err(|_| PoolFull)
    }

    /// Drops what is decoded from the front and makes room for what is `needed`: the capacity
    /// doubles as bytes arrive, and its last step is exact where it is known how many are missing.
    ///
    /// There is always room for one byte afterwards.
    pub(crate) fn make_room(&mut self, handle: Lent) -> Result<(), PoolFull> {
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        if buffer.start > 0 {
            buffer.bytes.drain(..buffer.start);
            buffer.start = 0;
        }
        let (len, capacity) = (buffer.bytes.len(), buffer.bytes.capacity());
        if len < capacity {
            return Ok(());
        }
        let most = capacity.max(FIRST_CAPACITY / 2) * 2;
        let least = buffer.missing.needed.min(most).max(len + 1);
        let roomy = capacity_for(len, buffer.missing.needed).min(most).max(least);
        let others = self.lent - capacity;
        let wanted = if others + roomy <= self.limit { roomy } else { least };
        if others + wanted > self.limit {
            return Err(PoolFull);
        }
        // A buffer that is kept is cheaper than a new one; what is too large to be kept grows where it
        // is, if it can.
        let mut larger = self.reserve.take(wanted, self.limit.saturating_sub(others));
        if larger.capacity() == 0 && Reserve::keeps(wanted) {
            larger.reserve_exact(wanted);
        }
        if larger.capacity() == 0 {
            buffer.bytes.reserve_exact(wanted - len);
        } else {
            larger.extend_from_slice(&buffer.bytes);
            self.reserve.put(std::mem::replace(&mut buffer.bytes, larger));
            self.spare = true;
        }
        let grown = buffer.bytes.capacity() - capacity;
        self.note_lent(grown);
        Ok(())
    }

    /// The bytes of a receive buffer, to be put back with [`put_bytes`](Self::put_bytes).
    pub(crate) fn take_bytes(&mut self, handle: Lent) -> Vec<u8> {
        self.recv_mut(handle).map(|buffer| std::mem::take(&mut buffer.bytes)).unwrap_or_default()
    }

    /// Puts back what [`take_bytes`](Self::take_bytes) took; its capacity must not have changed.
    /// Returns whether there still is a buffer to put it into; the pool has it back in any case.
    pub(crate) fn put_bytes(&mut self, handle: Lent, bytes: Vec<u8>) -> bool {
        let Some(buffer) = self.recv_mut(handle) else {
            self.put(bytes);
            return false;
        };
        buffer.bytes = bytes;
        true
    }

    /// Takes a receive buffer back.
    pub(crate) fn return_recv(&mut self, handle: Lent) {
        if let Some(key) = self.recv.at_mut(handle.0).map(|(key, _)| key)
            && let Some(buffer) = self.recv.remove(key)
        {
            self.put(buffer.bytes);
        }
    }

    /// Lends an empty send queue.
    pub(crate) fn lend_send(&mut self, stalled_since: Tick) -> Result<Lent, PoolFull> {
        let queue = SendQueue {
            segments: VecDeque::new(),
            sent: 0,
            len: 0,
            shared: 0,
            has_waited: false,
            stalled_since,
            over_since: None,
        };
        self.send.insert(queue).map(lent).map_err(|_| PoolFull)
    }

    /// Appends a copy of `bytes` to a send queue: all of them or, where there is no room, none.
    pub(crate) fn queue(&mut self, to: Lent, bytes: &[u8]) -> Result<(), PoolFull> {
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        let room = match queue.segments.back() {
            Some(Segment::Own(last)) => last.capacity() - last.len(),
            _ => 0,
        };
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        let segment = match later.len() {
            0 => None,
            // Behind a push: were that a large one each time, replies and pushes in turn would take
            // a hundred times the memory that they need.
            len if matches!(queue.segments.back(), Some(Segment::Shared(_))) => {
                Some(self.take_new(len)?)
            }
            len => Some(self.take(len.max(SEGMENT_CAPACITY))?),
        };
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        if let Some(Segment::Own(last)) = queue.segments.back_mut() {
            last.extend_from_slice(now);
        }
        if let Some(mut segment) = segment {
            segment.extend_from_slice(later);
            queue.segments.push_back(Segment::Own(segment));
        }
        queue.len += bytes.len();
        Ok(())
    }

    /// Appends a pushed message to a send queue. Each queue counts the bytes, though they are shared.
    pub(crate) fn queue_shared(&mut self, to: Lent, bytes: &Arc<[u8]>) -> Result<(), PoolFull> {
        if self.lent + bytes.len() > self.limit {
            return Err(PoolFull);
        }
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        queue.len += bytes.len();
        queue.shared += bytes.len();
        queue.segments.push_back(Segment::Shared(Arc::clone(bytes)));
        self.note_lent(bytes.len());
        Ok(())
    }

    /// Bytes of the pushed messages of which nothing is sent.
    pub(crate) fn droppable(&self, of: Lent) -> usize {
        let Some(queue) = self.send(of) else { return 0 };
        match queue.segments.front() {
            Some(Segment::Shared(first)) if queue.sent > 0 => queue.shared - first.len(),
            _ => queue.shared,
        }
    }

    /// Drops the oldest pushed message of which nothing is sent. Returns its length, or `None`
    /// where there is none.
    pub(crate) fn drop_oldest_push(&mut self, from: Lent) -> Option<usize> {
        let (_, queue) = self.send.at_mut(from.0)?;
        let begun = usize::from(queue.sent > 0);
        let mut segments = queue.segments.iter().skip(begun);
        let at = begun + segments.position(|segment| matches!(segment, Segment::Shared(_)))?;
        let len = queue.segments.remove(at)?.bytes().len();
        queue.len -= len;
        queue.shared -= len;
        self.lent -= len;
        Some(len)
    }

    /// Marks `sent` bytes of a queue as sent `now` and takes back the segments that are done with.
    pub(crate) fn advance(&mut self, handle: Lent, sent: usize, now: Tick) {
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
            match queue.segments.pop_front() {
                Some(Segment::Own(bytes)) => done.push(bytes),
                Some(Segment::Shared(bytes)) => {
                    queue.shared -= bytes.len();
                    self.lent -= bytes.len();
                }
                None => {}
            }
        }
        for bytes in done {
            self.put(bytes);
        }
    }

    /// Takes a send queue back, with whatever it still holds; returns how many bytes that was.
    pub(crate) fn return_send(&mut self, handle: Lent) -> usize {
        let Some(key) = self.send.at_mut(handle.0).map(|(key, _)| key) else { return 0 };
        let Some(queue) = self.send.remove(key) else { return 0 };
        self.spare = true;
        for segment in queue.segments {
            match segment {
                Segment::Own(bytes) => self.put(bytes),
                Segment::Shared(bytes) => self.lent -= bytes.len(),
            }
        }
        queue.len
    }

    /// An empty buffer of at least `capacity`, from the reserve or new.
    fn take(&mut self, capacity: usize) -> Result<Vec<u8>, PoolFull> {
        if self.lent + capacity > self.limit {
            return Err(PoolFull);
        }
        let mut buffer = self.reserve.take(capacity, self.limit.saturating_sub(self.lent));
        buffer.reserve_exact(capacity);
        self.note_lent(buffer.capacity());
        Ok(buffer)
    }

    /// An empty buffer of `capacity`, not from the reserve.
    fn take_new(&mut self, capacity: usize) -> Result<Vec<u8>, PoolFull> {
        if self.lent + capacity > self.limit {
            return Err(PoolFull);
        }
        let mut buffer = Vec::new();
        buffer.reserve_exact(capacity);
        self.note_lent(buffer.capacity());
        Ok(buffer)
    }

    fn put(&mut self, buffer: Vec<u8>) {
        self.lent -= buffer.capacity();
        self.reserve.put(buffer);
        self.spare = true;
    }

    /// Whether there may be memory to [give back](Self::give_back).
    #[inline]
    pub(crate) fn holds_spare_memory(&self) -> bool {
        self.spare
    }

    /// Gives a little of what is not lent back to the kernel: one buffer that nobody has needed
    /// since the last step, or the places of a thousand.
    pub(crate) fn give_back(&mut self) {
        if self.reserve.is_empty() {
            self.recv.drop_spare_segment();
            self.send.drop_spare_segment();
        } else {
            self.reserve.give_back();
        }
        self.spare = !self.reserve.is_empty()
            || self.recv.has_spare_segment()
            || self.send.has_spare_segment();
    }
}

/// The capacity to aim at for a buffer with `len` bytes, of which `needed` must be there.
///
/// Where a length was announced, that is `needed`. A framing that looks for a delimiter knows only
/// that there is more to come: one receive for each byte would follow from taking that for a number.
/// So its buffer doubles.
fn capacity_for(len: usize, needed: usize) -> usize {
    let is_known = needed <= len || needed - len > FEW;
    if is_known { needed } else { len + len.max(LEAST_ROOM) }
}

fn lent(key: Key) -> Lent {
    Lent(key.index())
}

#[cfg(test)]
mod history;

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(pool: &Pool, handle: Lent) -> Vec<u8> {
        pool.send(handle).unwrap().slices().flatten().copied().collect()
    }

    #[test]
    fn does_a_receive_buffer_reserve_no_more_than_bytes_arrive() {
        let mut pool = Pool::new(10 << 20, |_| 0);
        let needed = 1_000_100;
        let handle = pool
            .lend_recv(b"the beginning", Missing::new(needed, true), Stopwatch::new(0, true))
            .unwrap();
        assert_eq!(pool.lent(), FIRST_CAPACITY, "an announced length alone reserves nothing");
        let mut capacities = Vec::new();
        while pool.recv(handle).unwrap().unread().len() < needed {
            pool.make_room(handle).unwrap();
            let mut bytes = pool.take_bytes(handle);
            capacities.push(bytes.capacity());
            bytes.extend(vec![7; bytes.capacity() - bytes.len()]);
            assert!(pool.put_bytes(handle, bytes));
            assert_eq!(pool.lent(), *capacities.last().unwrap());
        }
        let kib = |kib: usize| kib << 10;
        let doubling = [kib(64), kib(128), kib(256), kib(512)];
        assert_eq!(capacities, [&doubling[..], &[needed]].concat(), "the last step is exact");
        pool.return_recv(handle);
        assert_eq!((pool.lent(), pool.held()), (0, 0));
    }

    #[test]
    fn does_a_buffer_double_whose_framing_asks_for_one_byte_more() {
        const LEN: usize = 1_000_000;
        let mut pool = Pool::new(10 << 20, |_| 0);
        let handle =
            pool.lend_recv(b"GET /", Missing::new(6, false), Stopwatch::new(0, true)).unwrap();
        let mut capacities = Vec::new();
        while pool.recv(handle).unwrap().unread().len() < LEN {
            pool.make_room(handle).unwrap();
            let mut bytes = pool.take_bytes(handle);
            capacities.push(bytes.capacity());
            bytes.resize(bytes.capacity(), 7);
            let len = bytes.len();
            assert!(pool.put_bytes(handle, bytes));
            pool.recv_mut(handle).unwrap().missing.needed = len + 1;
        }
        assert!(capacities.len() <= 12, "{capacities:?}");
        assert!(capacities[0] >= LEAST_ROOM, "{capacities:?}");
        pool.return_recv(handle);
        assert_eq!((pool.lent(), pool.held()), (0, 0));
    }

    #[test]
    fn is_nobody_refused_for_room_that_may_not_be_needed() {
        let mut pool = Pool::new(500, |_| 0);
        let handle = pool
            .lend_recv(b"0123456789", Missing::new(11, false), Stopwatch::new(0, true))
            .unwrap();
        assert_eq!(pool.lent(), 11);
        let mut bytes = pool.take_bytes(handle);
        bytes.push(b'!');
        pool.put_bytes(handle, bytes);
        pool.recv_mut(handle).unwrap().missing.needed = 12;
        pool.make_room(handle).unwrap();
        assert_eq!(pool.lent(), 12);
        pool.return_recv(handle);
    }

    #[test]
    fn does_making_room_drop_what_is_done_with_and_keep_the_rest() {
        let mut pool = Pool::new(1 << 20, |_| 0);
        let handle =
            pool.lend_recv(b"donerest", Missing::new(8, false), Stopwatch::new(0, true)).unwrap();
        pool.recv_mut(handle).unwrap().start = 4;
        pool.recv_mut(handle).unwrap().missing.needed = 20;
        pool.make_room(handle).unwrap();
        assert_eq!(pool.recv(handle).unwrap().unread(), b"rest");
        let mut bytes = pool.take_bytes(handle);
        assert!(bytes.capacity() > bytes.len(), "there is room for a byte at least");
        bytes.push(b'!');
        pool.put_bytes(handle, bytes);
        assert_eq!(pool.recv(handle).unwrap().unread(), b"rest!");
        pool.return_recv(handle);
    }

    #[test]
    fn does_a_buffer_come_back_that_was_taken_while_its_connection_closed() {
        let mut pool = Pool::new(1 << 20, |_| 0);
        let handle = pool
            .lend_recv(b"some bytes", Missing::new(100, false), Stopwatch::new(0, true))
            .unwrap();
        let bytes = pool.take_bytes(handle);
        pool.return_recv(handle);
        assert!(!pool.put_bytes(handle, bytes), "there is no place for it any more");
        assert_eq!((pool.lent(), pool.held()), (0, 0));
    }

    #[test]
    fn is_a_queue_as_it_was_when_the_pool_is_full() {
        let mut pool = Pool::new(50_000, |_| 0);
        let handle = pool.lend_send(0).unwrap();
        pool.queue(handle, b"first").unwrap();
        let lent = pool.lent();
        // A part of it would fit behind the first.
        assert_eq!(pool.queue(handle, &[7; 60_000]), Err(PoolFull));
        assert_eq!((unsent(&pool, handle), pool.lent()), (b"first".to_vec(), lent));
        assert_eq!(pool.send(handle).unwrap().len(), 5);
        assert_eq!(pool.return_send(handle), 5);
        assert_eq!((pool.lent(), pool.held()), (0, 0));
    }

    #[test]
    fn does_a_refused_buffer_cost_nothing() {
        let mut pool = Pool::new(100_000, |_| 0);
        let handle = pool
            .lend_recv(&[1; 60_000], Missing::new(200_000, true), Stopwatch::new(0, true))
            .unwrap();
        let lent = pool.lent();
        assert_eq!(
            pool.lend_recv(&[1; 60_000], Missing::new(60_001, true), Stopwatch::new(0, true)),
            Err(PoolFull)
        );
        let mut bytes = pool.take_bytes(handle);
        bytes.resize(bytes.capacity(), 2);
        pool.put_bytes(handle, bytes);
        assert_eq!(pool.make_room(handle), Err(PoolFull));
        assert_eq!((pool.lent(), pool.held()), (lent, 1));
        pool.return_recv(handle);
        assert_eq!((pool.lent(), pool.held()), (0, 0));
    }

    #[test]
    fn does_a_used_buffer_not_lead_over_the_limit() {
        let mut pool = Pool::new(100_000, |_| 0);
        let used = pool
            .lend_recv(
                &[1; FIRST_CAPACITY],
                Missing::new(FIRST_CAPACITY, false),
                Stopwatch::new(0, true),
            )
            .unwrap();
        pool.return_recv(used);
        let large = pool
            .lend_recv(&[1; 80_000], Missing::new(80_000, false), Stopwatch::new(0, true))
            .unwrap();
        let small = pool.lend_recv(b"x", Missing::new(2, false), Stopwatch::new(0, true)).unwrap();
        assert!(pool.lent() <= 100_000, "{} bytes", pool.lent());
        pool.return_recv(large);
        pool.return_recv(small);
    }
}
