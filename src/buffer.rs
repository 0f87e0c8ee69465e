//! [`Pool`]: the buffers that connections borrow for as long as a message or a reply is unfinished.
//!
//! An idle connection holds none. What all connections hold together is bounded, and what they
//! give back is kept for the next one in a small reserve, and not for long.

mod clock;
mod recv;
mod sealed;
mod send;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;

use self::clock::{Stopwatch, Window};
pub(crate) use self::recv::RecvBuffer;
use self::send::Segment;
pub(crate) use self::send::SendQueue;

use crate::protocol::Missing;
use crate::reserve::{Release, Reserve};
use crate::shares::{AddressLimit, Candidate, Of, Owner, Shares};
use crate::slab::{Key, Slab};
use crate::timer::Tick;
use crate::usage::Usage;

/// A receive buffer has room for this or for twice what has come, whichever is more, however much is
/// announced.
pub(crate) const FIRST_CAPACITY: usize = 4 << 10;

/// So much is lent for each buffer also where the pool is full, up to a second limit.
const FLOOR: usize = FIRST_CAPACITY;

/// The second limit is by this part of the first above it.
const RESERVED_PART: usize = 8;

/// Room that a receive buffer has at least where it is not known how much is missing.
const LEAST_ROOM: usize = 1 << 10;

/// A framing that asks for so few bytes more cannot say how many it needs, most likely.
const FEW: usize = 16;

/// Segments that one `sendmsg` takes.
pub(crate) const MAX_SLICES: usize = 128;

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

/// The receive and send buffers of all connections of one loop.
///
/// A connection keeps a [`Lent`] for each direction, and returns it as soon as nothing is unfinished:
///
/// - **Receive.** [`lend_recv`](Self::lend_recv) copies what is unfinished into a buffer;
///   [`make_room`](Self::make_room) before each further receive; [`return_recv`](Self::return_recv)
///   at the end.
/// - **Send.** [`lend_send`](Self::lend_send) makes a queue; [`queue`](Self::queue) and
///   [`queue_shared`](Self::queue_shared) append; [`advance`](Self::advance) takes off what was sent;
///   [`return_send`](Self::return_send) at the end.
/// - **Full.** Where the limit is reached, the address that holds most gives way, its oldest buffer first. The loop asks
///   [`next_that_gave_way`](Self::next_that_gave_way) after each call that may lend, and closes it.
/// - **At rest.** [`give_back`](Self::give_back) returns memory to the system, from time to time,
///   while [`holds_spare_memory`](Self::holds_spare_memory).
///
/// Invariants: `lent` is the capacity of all buffers that are lent out; it stays within `limit`, but
/// for a floor for each buffer up to a second limit. Each buffer is a loan in `shares`, in the list of
/// its connection's address.
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
    /// Who holds how much.
    shares: Shares,
    /// Connections whose buffers were taken away for others. They are to be closed.
    gave_way: Vec<Key>,
    /// Received and unsent bytes that went with them.
    taken: Taken,
}

/// Bytes that were taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) received: usize,
    pub(crate) unsent: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize, of_address: AddressLimit, release: Release) -> Self {
        let reserve = Reserve::new(release);
        Self {
            recv: Slab::new(),
            send: Slab::new(),
            reserve,
            lent: 0,
            most_lent: 0,
            limit,
            spare: false,
            shares: Shares::new(of_address),
            gave_way: Vec::new(),
            taken: Taken::default(),
        }
    }

    /// Other limits from now on. What is lent out stays so, also above them.
    pub(crate) fn set_limit(&mut self, limit: usize, of_address: AddressLimit) {
        self.limit = limit;
        self.shares.set_limit(of_address);
    }

    /// An address has its first connection in this loop; `is_near` for one on this machine.
    pub(crate) fn open_address(&mut self, address: u32, usage: Arc<Usage>, is_near: bool) {
        self.shares.open(address, usage, is_near);
    }

    /// The next connection whose buffers were taken away for others.
    pub(crate) fn next_that_gave_way(&mut self) -> Option<Key> {
        self.gave_way.pop()
    }

    /// Whether there is such a connection.
    #[inline]
    pub(crate) fn made_some_give_way(&self) -> bool {
        !self.gave_way.is_empty()
    }

    /// What was taken away since this was last asked.
    pub(crate) fn take_taken(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }

    /// Whether what was in a send queue was taken away.
    pub(crate) fn is_taken(&self, queue: Lent) -> bool {
        self.send(queue).is_some_and(|queue| queue.is_taken)
    }

    /// The most capacity that all buffers together have had.
    pub(crate) fn most_lent(&self) -> usize {
        self.most_lent
    }

    /// Counts `bytes` as lent out, besides what is.
    fn note_lent(&mut self, loan: u32, bytes: usize) {
        self.lent += bytes;
        self.most_lent = self.most_lent.max(self.lent);
        self.shares.grow(loan, bytes);
    }

    /// Counts `bytes` as not lent out any more.
    fn note_returned(&mut self, loan: u32, bytes: usize) {
        self.lent -= bytes;
        self.shares.shrink(loan, bytes);
    }

    /// Whether a loan may grow by so many bytes as things are.
    fn fits(&self, loan: u32, more: usize) -> bool {
        let Some((owner, held)) = self.shares.loan(loan) else { return false };
        let wanted = self.lent.saturating_add(more);
        let is_floor = held.saturating_add(more) <= FLOOR;
        let fits = wanted <= self.limit
            || is_floor && wanted <= self.limit.saturating_add(self.limit / RESERVED_PART);
        fits && self.shares.may_hold(owner.address, more)
    }

    /// Sees that a loan may grow by so many bytes. Where there is no room, others give way: the
    /// address that holds most, and of its buffers the oldest. Refuses the one that would have to
    /// give way itself.
    fn make_way(&mut self, loan: u32, more: usize) -> Result<(), PoolFull> {
        if self.fits(loan, more) { Ok(()) } else { self.have_others_give_way(loan, more) }
    }

    #[cold]
    #[inline(never)]
    fn have_others_give_way(&mut self, loan: u32, more: usize) -> Result<(), PoolFull> {
        let (owner, held) = self.shares.loan(loan).ok_or(PoolFull)?;
        if held.saturating_add(more) > self.limit.min(self.shares.most(owner.address)) {
            // Nobody gives way for what does not fit into an empty pool.
            return Err(PoolFull);
        }
        while !self.fits(loan, more) {
            let wanted = self.shares.held(owner.address).saturating_add(more);
            let largest = self.shares.largest().filter(|largest| {
                self.shares.may_hold(owner.address, more) && self.shares.held(*largest) >= wanted
            });
            let first = self.shares.oldest(largest.unwrap_or(owner.address)).ok_or(PoolFull)?;
            if first.owner.connection == owner.connection {
                return Err(PoolFull);
            }
            self.take_away(first);
        }
        Ok(())
    }

    /// Takes away what a buffer holds. The buffer itself stays lent until its connection is closed.
    fn take_away(&mut self, from: Candidate) {
        match from.of {
            Of::Receiving(at) => {
                let Some((_, buffer)) = self.recv.at_mut(at) else { return };
                self.taken.received += buffer.unread().len();
                let bytes = std::mem::take(&mut buffer.bytes);
                (buffer.start, buffer.sealed, buffer.record) = (0, 0, 0);
                self.put(from.loan, bytes);
            }
            Of::Sending(at) => {
                let Some((_, queue)) = self.send.at_mut(at) else { return };
                self.taken.unsent += queue.len;
                queue.is_taken = true;
                (queue.len, queue.sent, queue.shared) = (0, 0, 0);
                let segments = std::mem::take(&mut queue.segments);
                let sealed = std::mem::take(&mut queue.sealed);
                queue.sealed_sent = 0;
                self.put_segments(from.loan, segments);
                self.put(from.loan, sealed);
            }
        }
        self.shares.unlist(from.loan);
        self.gave_way.push(from.owner.connection);
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
    /// a first buffer gets; for more where it is [not known](capacity_for) how many are needed. The
    /// peer's time runs from now on, or stands still.
    pub(crate) fn lend_recv(
        &mut self,
        owner: Owner,
        bytes: &[u8],
        missing: Missing,
        (now, runs): (Tick, bool),
    ) -> Result<Lent, PoolFull> {
        let (len, needed) = (bytes.len(), missing.needed);
        let most = (2 * len).max(FIRST_CAPACITY);
        let least = needed.min(FIRST_CAPACITY).max(len);
        let roomy = capacity_for(len, needed).min(most).max(least);
        let clock = Stopwatch::new(now, runs);
        let window = Window::new(now, runs, Some(count(len)));
        let entry = RecvBuffer {
            bytes: Vec::new(),
            start: 0,
            missing,
            sealed: 0,
            record: 0,
            stream: None,
            clock,
            window,
            loan: u32::MAX,
        };
        let key = self.recv.insert(entry).map_err(|_| PoolFull)?;
        let lending = self.lend(owner, Of::Receiving(key.index()), least, roomy);
        let (Ok((loan, mut buffer)), Some(entry)) = (lending, self.recv.get_mut(key)) else {
            self.recv.remove(key);
            return Err(PoolFull);
        };
        buffer.extend_from_slice(bytes);
        (entry.bytes, entry.loan) = (buffer, loan);
        Ok(lent(key))
    }

    /// A new loan, with an empty buffer of at least `least`.
    fn lend(
        &mut self,
        owner: Owner,
        of: Of,
        least: usize,
        roomy: usize,
    ) -> Result<(u32, Vec<u8>), PoolFull> {
        let loan = self.shares.lend(owner, of).ok_or(PoolFull)?;
        match self.take(loan, least, roomy) {
            Ok(buffer) => Ok((loan, buffer)),
            Err(full) => {
                self.shares.end(loan);
                Err(full)
            }
        }
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
        let needed = buffer.missing.needed.max(buffer.plain_len() + buffer.record);
        let most = capacity.max(FIRST_CAPACITY / 2) * 2;
        let least = needed.min(most).max(len + 1);
        let roomy = capacity_for(len, needed).min(most).max(least);
        let loan = buffer.loan;
        let wanted = if self.fits(loan, roomy - capacity) {
            roomy
        } else {
            self.make_way(loan, least - capacity)?;
            least
        };
        let spare = self.limit.saturating_sub(self.lent - capacity);
        // A buffer that is kept is cheaper than a new one; what is too large to be kept grows where it
        // is, if it can.
        let mut larger = self.reserve.take(wanted, spare.min(2 * wanted));
        if larger.capacity() == 0 && Reserve::keeps(wanted) {
            larger.reserve_exact(wanted);
        }
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        if larger.capacity() == 0 {
            buffer.bytes.reserve_exact(wanted - len);
        } else {
            larger.extend_from_slice(&buffer.bytes);
            self.reserve.put(std::mem::replace(&mut buffer.bytes, larger));
            self.spare = true;
        }
        let grown = buffer.bytes.capacity() - capacity;
        self.note_lent(loan, grown);
        Ok(())
    }

    /// The bytes of a receive buffer, to be put back with [`put_bytes`](Self::put_bytes).
    pub(crate) fn take_bytes(&mut self, handle: Lent) -> Vec<u8> {
        self.recv_mut(handle).map(|buffer| std::mem::take(&mut buffer.bytes)).unwrap_or_default()
    }

    /// Puts back what [`take_bytes`](Self::take_bytes) took; its capacity must not have changed.
    /// Returns whether there still is a buffer to put it into; the pool has it back in any case.
    pub(crate) fn put_bytes(&mut self, handle: Lent, bytes: Vec<u8>) -> bool {
        match self.recv_mut(handle) {
            Some(buffer) => {
                buffer.bytes = bytes;
                true
            }
            None => {
                self.keep(bytes);
                false
            }
        }
    }

    /// Takes a receive buffer back.
    pub(crate) fn return_recv(&mut self, handle: Lent) {
        if let Some(key) = self.recv.at_mut(handle.0).map(|(key, _)| key)
            && let Some(buffer) = self.recv.remove(key)
        {
            // Its bytes may be elsewhere just now.
            let charged = self.shares.loan(buffer.loan).map_or(0, |(_, bytes)| bytes);
            self.note_returned(buffer.loan, charged);
            self.shares.end(buffer.loan);
            self.keep(buffer.bytes);
        }
    }

    /// Lends an empty send queue.
    pub(crate) fn lend_send(
        &mut self,
        owner: Owner,
        stalled_since: Tick,
    ) -> Result<Lent, PoolFull> {
        let queue = SendQueue {
            segments: VecDeque::new(),
            sent: 0,
            len: 0,
            shared: 0,
            bodies: 0,
            has_waited: false,
            stalled_since,
            over_since: None,
            is_taken: false,
            given: 0,
            window: Window::new(stalled_since, true, None),
            loan: u32::MAX,
            sealed: Vec::new(),
            sealed_sent: 0,
        };
        let key = self.send.insert(queue).map_err(|_| PoolFull)?;
        let loan = self.shares.lend(owner, Of::Sending(key.index()));
        match (loan, self.send.get_mut(key)) {
            (Some(loan), Some(queue)) => {
                queue.loan = loan;
                Ok(lent(key))
            }
            _ => {
                self.send.remove(key);
                Err(PoolFull)
            }
        }
    }

    /// Appends a copy of `bytes` to a send queue: all of them or, where there is no room, none.
    pub(crate) fn queue(&mut self, to: Lent, bytes: &[u8]) -> Result<(), PoolFull> {
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        let room = match queue.segments.back() {
            Some(Segment::Own(last)) => last.capacity() - last.len(),
            _ => 0,
        };
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        let loan = queue.loan;
        let segment = match later.len() {
            0 => None,
            // Behind a push: were that a large one each time, replies and pushes in turn would take
            // a hundred times the memory that they need.
            len if matches!(queue.segments.back(), Some(Segment::Shared(..))) => {
                Some(self.take_new(loan, len)?)
            }
            len => Some(self.take(loan, len, len.max(SEGMENT_CAPACITY))?),
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
    pub(crate) fn queue_shared(
        &mut self,
        to: Lent,
        bytes: &Arc<[u8]>,
        tag: u64,
    ) -> Result<(), PoolFull> {
        let Some(queue) = self.send(to) else { return Ok(()) };
        let loan = queue.loan;
        // Nobody gives way to a push.
        if !self.fits(loan, bytes.len()) {
            return Err(PoolFull);
        }
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        queue.len += bytes.len();
        queue.shared += bytes.len();
        queue.segments.push_back(Segment::Shared(Arc::clone(bytes), tag));
        self.note_lent(loan, bytes.len());
        Ok(())
    }

    /// Bytes of the pushed messages of which nothing is sent.
    pub(crate) fn droppable(&self, of: Lent) -> usize {
        let Some(queue) = self.send(of) else { return 0 };
        match queue.segments.front() {
            Some(Segment::Shared(first, _)) if queue.sent > 0 => queue.shared - first.len(),
            _ => queue.shared,
        }
    }

    /// Drops the oldest pushed message of which nothing is sent. Returns its length, or `None`
    /// where there is none.
    pub(crate) fn drop_oldest_push(&mut self, from: Lent) -> Option<(usize, u64)> {
        let (_, queue) = self.send.at_mut(from.0)?;
        let begun = usize::from(queue.sent > 0);
        let mut segments = queue.segments.iter().skip(begun);
        let at = begun + segments.position(|segment| matches!(segment, Segment::Shared(..)))?;
        let segment = queue.segments.remove(at)?;
        let len = segment.bytes().len();
        let tag = if let Segment::Shared(_, tag) = segment { tag } else { 0 };
        queue.len -= len;
        queue.shared -= len;
        let loan = queue.loan;
        self.note_returned(loan, len);
        Some((len, tag))
    }

    /// Marks `sent` bytes of a queue as sent `now` and takes back the segments that are done with.
    pub(crate) fn advance(&mut self, handle: Lent, sent: usize, now: Tick) {
        let Some((_, queue)) = self.send.at_mut(handle.0) else { return };
        if sent > 0 {
            queue.stalled_since = now;
        }
        queue.len -= sent.min(queue.len);
        queue.sent += sent;
        queue.given += count(sent);
        let loan = queue.loan;
        let mut done = VecDeque::new();
        while let Some(first) = queue.segments.front() {
            let len = first.bytes().len();
            if queue.sent < len || matches!(first, Segment::Body(_)) {
                break;
            }
            queue.sent -= len;
            if let Some(Segment::Shared(bytes, _)) = queue.segments.front() {
                queue.shared -= bytes.len();
            }
            done.extend(queue.segments.pop_front());
        }
        self.put_segments(loan, done);
    }

    /// Takes a send queue back, with whatever it still holds; returns how many bytes that was.
    pub(crate) fn return_send(&mut self, handle: Lent) -> usize {
        let Some(key) = self.send.at_mut(handle.0).map(|(key, _)| key) else { return 0 };
        let Some(queue) = self.send.remove(key) else { return 0 };
        self.put_segments(queue.loan, queue.segments);
        self.shares.end(queue.loan);
        self.spare = true;
        if queue.sealed.capacity() > 0 {
            self.put(queue.loan, queue.sealed);
        }
        queue.len
    }

    fn put_segments(&mut self, loan: u32, segments: VecDeque<Segment>) {
        for segment in segments {
            match segment {
                Segment::Own(bytes) => self.put(loan, bytes),
                Segment::Shared(bytes, _) => self.note_returned(loan, bytes.len()),
                Segment::Body(_) => {}
            }
        }
    }

    /// An empty buffer for a loan, from the reserve or new: of `roomy` bytes where there is room for
    /// them, and else of `least`.
    fn take(&mut self, loan: u32, least: usize, roomy: usize) -> Result<Vec<u8>, PoolFull> {
        let capacity = if self.fits(loan, roomy) {
            roomy
        } else {
            self.make_way(loan, least)?;
            least
        };
        let spare = self.limit.saturating_sub(self.lent);
        let mut buffer = self.reserve.take(capacity, spare.min(2 * capacity));
        buffer.reserve_exact(capacity);
        self.note_lent(loan, buffer.capacity());
        Ok(buffer)
    }

    /// An empty buffer of `capacity` for a loan, not from the reserve.
    fn take_new(&mut self, loan: u32, capacity: usize) -> Result<Vec<u8>, PoolFull> {
        self.make_way(loan, capacity)?;
        let mut buffer = Vec::new();
        buffer.reserve_exact(capacity);
        self.note_lent(loan, buffer.capacity());
        Ok(buffer)
    }

    fn put(&mut self, loan: u32, buffer: Vec<u8>) {
        self.note_returned(loan, buffer.capacity());
        self.keep(buffer);
    }

    fn keep(&mut self, buffer: Vec<u8>) {
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
            self.shares.drop_spare_segment();
        } else {
            self.reserve.give_back();
        }
        self.spare = !self.reserve.is_empty()
            || self.recv.has_spare_segment()
            || self.send.has_spare_segment()
            || self.shares.has_spare_segment();
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

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn lent(key: Key) -> Lent {
    Lent(key.index())
}

#[cfg(test)]
mod history;

#[cfg(test)]
mod tests;
