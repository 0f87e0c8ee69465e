//! The simulated network: listening queues, connects, and streams of bytes between two ends.

use std::collections::VecDeque;
use std::fmt;

use super::faults::FaultKind;
use super::kernel::{Happening, Kernel, MICROSECOND};
use crate::event::Event;
use crate::{Errno, SocketAddr, Time};

pub(super) type EndId = u64;
pub(super) type ListeningId = u64;

/// What a buffer holds where nothing else is said.
const BUFFER: usize = 64 << 10;

/// How long a connect waits before it tries again, doubled each time, and how often it does.
const RETRY: u64 = 200_000 * MICROSECOND;
const ATTEMPTS: u32 = 6;

/// Where nobody ever answers: TEST-NET-1 of RFC 5737.
const SILENT: [u8; 3] = [192, 0, 2];

/// Whose an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A descriptor of the program under test.
    Descriptor,
    /// The test itself, as a peer far away.
    Remote,
    /// Nobody has accepted it yet.
    Backlog,
    /// It is closed; what it has to send still goes out.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A connect is under way.
    Connecting,
    Connected,
    /// It was never connected, or was reset.
    Broken,
}

/// One end of a stream.
#[derive(Debug)]
pub(super) struct End {
    pub(super) owner: Owner,
    pub(super) state: State,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) other: Option<EndId>,
    /// What waits to be taken by `SO_ERROR` or the next call.
    pub(super) error: Option<Errno>,
    /// What has arrived and is not read.
    pub(super) inbox: VecDeque<u8>,
    pub(super) inbox_cap: usize,
    /// The other side has ended its stream.
    pub(super) end_seen: bool,
    /// What was sent and has not arrived.
    pub(super) outbox: VecDeque<u8>,
    pub(super) outbox_cap: usize,
    /// Our side has ended its stream, and the other side knows.
    pub(super) finished: bool,
    pub(super) finish_told: bool,
    /// The cable is pulled: nothing gets through any more, in either direction.
    pub(super) silent: bool,
    /// A delivery is scheduled.
    pub(super) moving: bool,
    /// Bytes that the end's owner has received, and when it last received and sent any.
    pub(super) received: u64,
    pub(super) received_at: u64,
    /// When its owner ended its side, and how many bytes it had received by then.
    pub(super) finished_at: Option<(u64, u64)>,
    /// When bytes last arrived.
    pub(super) arrived_at: u64,
    pub(super) sent_at: u64,
    /// Whether a poller had no room for it.
    pub(super) unwatched: bool,
    /// When each of the bytes that a descriptor received was received: up to which number, when.
    pub(super) receipts: Receipts,
    /// Bytes of a descriptor's last send that found no room, since when some do, and when the
    /// last progress was made since.
    pub(super) unsent: usize,
    pub(super) stalled_from: u64,
    pub(super) progress_at: u64,
}

/// When bytes were received: up to which number, when.
#[derive(Clone, Default)]
pub(super) struct Receipts(Vec<(u64, u64)>);

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} receipts", self.0.len())
    }
}

/// What was known of a stream when the program closed its descriptor.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Whom it was connected to.
    pub peer: SocketAddr,
    /// When it was closed.
    pub at: Time,
    /// When the program last received bytes from it; when it was made where it never did.
    pub received_at: Time,
    /// When the program last sent bytes.
    pub sent_at: Time,
    /// Whether it had been reset.
    pub was_broken: bool,
    /// Bytes that the program had received from the peer.
    pub received: u64,
    /// Whether the peer's end of the stream had arrived.
    pub end_seen: bool,
    /// When the program had shut down its side, if it had.
    pub finished_at: Option<Time>,
    /// Bytes that it had received since.
    pub received_after: u64,
    /// Bytes that had arrived and were not received, and when the last of them arrived.
    pub unread: usize,
    /// See `unread`.
    pub arrived_at: Time,
    /// Whether a poller has ever had no room for it.
    pub unwatched: bool,
    /// Bytes of the last send that found no room.
    pub unsent: usize,
    /// Since when there has always been something that found no room.
    pub stalled_from: Time,
    /// When something of it last found room.
    pub progress_at: Time,
    receipts: Receipts,
}

impl Closing {
    /// When the program received the byte with this number, counted from 0.
    #[must_use]
    pub fn byte_received_at(&self, number: u64) -> Option<Time> {
        let at = self.receipts.0.partition_point(|(end, _)| *end <= number);
        self.receipts.0.get(at).map(|(_, at)| Time::from_nanos(*at))
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<EndId>,
    pub(super) reuse_port: bool,
}

impl Kernel {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver(end) => self.deliver(end),
            Happening::Reset(end) => self.reset_arrives(end),
            Happening::Connect(end, attempt) => self.connect_arrives(end, attempt),
            Happening::Fail(end, errno) => self.break_end(end, Errno::from_raw(errno)),
            Happening::Alarm => {}
        }
    }

    /// How long something is on its way.
    fn latency(&mut self) -> u64 {
        if self.fault(FaultKind::SlowNetwork, self.faults.slow_network) {
            return self.rng.between(1, 3_000_000) * MICROSECOND;
        }
        let most = self.faults.latency;
        self.rng.between(0, most) * MICROSECOND
    }

    fn buffer_cap(&mut self) -> usize {
        match self.faults.buffer {
            0 => BUFFER,
            most => self.rng.len(1, most),
        }
    }

    pub(super) fn new_end(&mut self, owner: Owner, local: SocketAddr, peer: SocketAddr) -> EndId {
        let id = self.new_id();
        let (inbox_cap, outbox_cap) = (self.buffer_cap(), self.buffer_cap());
        let end = End {
            owner,
            state: State::Connecting,
            local,
            peer,
            other: None,
            error: None,
            inbox: VecDeque::new(),
            inbox_cap,
            end_seen: false,
            outbox: VecDeque::new(),
            outbox_cap,
            finished: false,
            finish_told: false,
            silent: false,
            moving: false,
            received: 0,
            finished_at: None,
            received_at: self.now,
            arrived_at: self.now,
            sent_at: self.now,
            unwatched: false,
            receipts: Receipts::default(),
            unsent: 0,
            stalled_from: self.now,
            progress_at: self.now,
        };
        self.ends.insert(id, end);
        id
    }

    /// Two ends that are connected to each other.
    pub(super) fn join(&mut self, one: EndId, other: EndId) {
        for (end, far) in [(one, other), (other, one)] {
            if let Some(end) = self.ends.get_mut(&end) {
                end.other = Some(far);
                end.state = State::Connected;
            }
        }
    }

    /// Begins to connect an end to its peer's address.
    pub(super) fn begin_connect(&mut self, end: EndId) {
        let Some(target) = self.ends.get(&end).map(|end| end.peer.clone()) else { return };
        let mut after = self.latency();
        if self.fault(FaultKind::LateConnect, self.faults.late_connect) {
            after += self.rng.between(1, 5_000_000) * MICROSECOND;
        }
        let silent = target.ip().is_some_and(|ip| match ip {
            std::net::IpAddr::V4(ip) => ip.octets().starts_with(&SILENT),
            std::net::IpAddr::V6(_) => false,
        });
        if silent {
            self.note(FaultKind::TimedOut);
            let after = self.rng.between(20_000_000, 120_000_000) * MICROSECOND;
            return self.schedule_in(after, Happening::Fail(end, Errno::ETIMEDOUT.raw()));
        }
        self.schedule_in(after, Happening::Connect(end, 0));
    }

    fn connect_arrives(&mut self, end: EndId, attempt: u32) {
        let Some(connecting) = self.ends.get(&end) else { return };
        if connecting.state != State::Connecting || connecting.owner == Owner::Nobody {
            return;
        }
        let (target, source) = (connecting.peer.clone(), connecting.local.clone());
        let fits = |listening: &Listening| listening.address == target;
        let fitting: Vec<ListeningId> = self
            .listenings
            .iter()
            .filter(|(_, listening)| fits(listening))
            .map(|(id, _)| *id)
            .collect();
        let Some(to) = self.rng.pick(&fitting).copied() else {
            self.note(FaultKind::Refused);
            return self.break_end(end, Errno::ECONNREFUSED);
        };
        let full = self.listenings.get(&to).is_none_or(|to| to.queue.len() >= to.backlog);
        if full {
            self.note(FaultKind::BacklogFull);
            if attempt >= ATTEMPTS {
                self.note(FaultKind::TimedOut);
                return self.break_end(end, Errno::ETIMEDOUT);
            }
            return self.schedule_in(RETRY << attempt, Happening::Connect(end, attempt + 1));
        }
        let accepted = self.new_end(Owner::Backlog, target, source);
        self.join(end, accepted);
        if let Some(to) = self.listenings.get_mut(&to) {
            to.queue.push_back(accepted);
        }
    }

    /// The end's connection has failed, or its connect.
    pub(super) fn break_end(&mut self, end: EndId, errno: Errno) {
        let Some(end) = self.ends.get_mut(&end) else { return };
        if end.state == State::Broken {
            return;
        }
        end.state = State::Broken;
        end.error = Some(errno);
        end.outbox.clear();
    }

    /// Has bytes go on from this end, if any can.
    fn set_moving(&mut self, end: EndId) {
        let Some(from) = self.ends.get(&end) else { return };
        let nothing = from.outbox.is_empty() && (!from.finished || from.finish_told);
        let broken = from.state != State::Connected || from.silent;
        if from.moving || nothing || broken {
            return;
        }
        let Some(to) = from.other.and_then(|other| self.ends.get(&other)) else { return };
        // It goes on when there is room: whoever reads says so.
        let full = to.inbox.len() >= to.inbox_cap && to.owner != Owner::Nobody;
        if to.silent || (full && !from.outbox.is_empty()) {
            return;
        }
        if let Some(from) = self.ends.get_mut(&end) {
            from.moving = true;
        }
        let after = self.latency();
        self.schedule_in(after, Happening::Deliver(end));
    }

    fn deliver(&mut self, end: EndId) {
        let Some(from) = self.ends.get_mut(&end) else { return };
        from.moving = false;
        let Some(other) = from.other else { return };
        if from.state != State::Connected || from.silent {
            return;
        }
        let ready = from.outbox.len();
        let Some(to) = self.ends.get(&other) else {
            // Nobody is there any more.
            return self.schedule_reset(end);
        };
        if to.silent || to.state != State::Connected {
            return;
        }
        if ready == 0 {
            return self.deliver_end(end, other);
        }
        if to.owner == Owner::Nobody {
            // Bytes for a socket that is closed.
            self.drop_end(other);
            return self.schedule_reset(end);
        }
        let room = to.inbox_cap.saturating_sub(to.inbox.len());
        let mut count = ready.min(room);
        if count > 1 && self.fault(FaultKind::Dribble, self.faults.dribble) {
            count = 1;
        } else if count > 1 && self.rng.chance(300) {
            count = self.rng.len(1, count);
        }
        let now = self.now;
        let Some(from) = self.ends.get_mut(&end) else { return };
        let bytes: Vec<u8> = from.outbox.drain(..count).collect();
        if let Some(to) = self.ends.get_mut(&other) {
            to.inbox.extend(bytes);
            to.arrived_at = now;
        }
        self.set_moving(end);
    }

    fn deliver_end(&mut self, end: EndId, other: EndId) {
        let Some(from) = self.ends.get_mut(&end) else { return };
        if !from.finished || from.finish_told {
            return;
        }
        from.finish_told = true;
        if let Some(to) = self.ends.get_mut(&other) {
            to.end_seen = true;
        }
        self.sweep(end);
        self.sweep(other);
    }

    /// Forgets an end that is closed and has nothing to do any more.
    fn sweep(&mut self, end: EndId) {
        let done = self.ends.get(&end).is_some_and(|end| {
            end.owner == Owner::Nobody
                && (end.state == State::Broken || (end.finish_told && end.end_seen))
        });
        if done {
            self.ends.remove(&end);
        }
    }

    fn drop_end(&mut self, end: EndId) {
        self.ends.remove(&end);
    }

    /// A reset is on its way to this end.
    fn schedule_reset(&mut self, end: EndId) {
        let after = self.latency();
        self.schedule_in(after, Happening::Reset(end));
    }

    fn reset_arrives(&mut self, end: EndId) {
        let Some(to) = self.ends.get_mut(&end) else { return };
        if to.silent {
            return;
        }
        // One that has seen the end already was told to stop, rather than cut off.
        let errno = if to.end_seen { Errno::EPIPE } else { Errno::ECONNRESET };
        let unread = !to.inbox.is_empty();
        self.break_end(end, errno);
        if unread
            && self.fault(FaultKind::DroppedByReset, self.faults.dropped_by_reset)
            && let Some(to) = self.ends.get_mut(&end)
        {
            to.inbox.clear();
        }
        self.sweep(end);
    }

    /// `close(2)` of a stream.
    pub(super) fn close_end(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.owner == Owner::Descriptor {
            let closing = Closing {
                peer: end.peer.clone(),
                at: Time::from_nanos(self.now),
                received_at: Time::from_nanos(end.received_at),
                sent_at: Time::from_nanos(end.sent_at),
                was_broken: end.state == State::Broken,
                received: end.received,
                unread: end.inbox.len(),
                end_seen: end.end_seen,
                finished_at: end.finished_at.map(|(at, _)| Time::from_nanos(at)),
                received_after: end.finished_at.map_or(0, |(_, before)| end.received - before),
                arrived_at: Time::from_nanos(end.arrived_at),
                unwatched: end.unwatched,
                unsent: end.unsent,
                stalled_from: Time::from_nanos(end.stalled_from),
                progress_at: Time::from_nanos(end.progress_at),
                receipts: std::mem::take(&mut end.receipts),
            };
            self.closings.push(closing);
        }
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.owner = Owner::Nobody;
        if end.state != State::Connected {
            self.drop_end(id);
            return;
        }
        if !end.inbox.is_empty() {
            return self.abort(id);
        }
        end.finished = true;
        self.set_moving(id);
        self.sweep(id);
        // What the other side still sends finds nobody, and is answered by a reset.
        if let Some(other) = self.ends.get(&id).and_then(|end| end.other) {
            self.set_moving(other);
        }
    }

    /// Closes an end by a reset: what it had to send is lost.
    pub(super) fn abort(&mut self, id: EndId) {
        let Some(end) = self.ends.remove(&id) else { return };
        if let Some(other) = end.other
            && end.state == State::Connected
            && !end.silent
        {
            self.schedule_reset(other);
        }
    }

    pub(super) fn close_listening(&mut self, listening: ListeningId) {
        let Some(listening) = self.listenings.remove(&listening) else { return };
        for end in listening.queue {
            self.abort(end);
        }
    }

    /// Ends our side of the stream.
    pub(super) fn finish(&mut self, id: EndId) -> Result<(), Errno> {
        let now = self.now;
        let end = self.ends.get_mut(&id).ok_or(Errno::ENOTCONN)?;
        if end.state != State::Connected {
            return Err(Errno::ENOTCONN);
        }
        end.finished = true;
        end.finished_at.get_or_insert((now, end.received));
        self.set_moving(id);
        Ok(())
    }

    /// Takes up to `len` bytes that have arrived; nothing is the end.
    pub(super) fn take(&mut self, id: EndId, len: usize) -> Result<Vec<u8>, Errno> {
        let taken = self.take_some(id, len);
        match &taken {
            Ok(bytes) => self.tell_bytes(bytes),
            Err(errno) => self.tell_bytes(errno.name().as_bytes()),
        }
        taken
    }

    fn take_some(&mut self, id: EndId, len: usize) -> Result<Vec<u8>, Errno> {
        if self.fault(FaultKind::BufferChange, self.faults.buffer_change) {
            let cap = self.buffer_cap();
            if let Some(end) = self.ends.get_mut(&id) {
                end.inbox_cap = cap;
            }
        }
        let end = self.ends.get_mut(&id).ok_or(Errno::ENOTCONN)?;
        if end.inbox.is_empty() {
            if let Some(errno) = end.error.take() {
                return Err(errno);
            }
            return match end.state {
                State::Connected if end.end_seen => Ok(Vec::new()),
                State::Connected => Err(Errno::EAGAIN),
                State::Connecting => Err(Errno::EAGAIN),
                State::Broken => Ok(Vec::new()),
            };
        }
        let there = end.inbox.len().min(len);
        let is_ours = end.owner == Owner::Descriptor;
        let mut count = there;
        if is_ours && there > 1 && self.fault(FaultKind::ShortRead, self.faults.short_read) {
            count = if self.rng.chance(500) { 1 } else { self.rng.len(1, there - 1) };
        }
        let Some(end) = self.ends.get_mut(&id) else { return Err(Errno::ENOTCONN) };
        let bytes: Vec<u8> = end.inbox.drain(..count).collect();
        end.received += bytes.len() as u64;
        end.received_at = self.now;
        if is_ours {
            end.receipts.0.push((end.received, self.now));
        }
        if let Some(other) = end.other {
            self.set_moving(other);
        }
        Ok(bytes)
    }

    /// Takes as many of these bytes as there is room for.
    pub(super) fn give<'a>(
        &mut self,
        id: EndId,
        slices: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<usize, Errno> {
        let asked: usize = slices.clone().map(<[u8]>::len).sum();
        let given = self.give_some(id, slices);
        let now = self.now;
        if let Some(end) = self.ends.get_mut(&id) {
            let took = given.as_ref().copied().unwrap_or_default();
            if end.unsent == 0 {
                end.stalled_from = now;
            }
            if end.unsent == 0 || took > 0 {
                end.progress_at = now;
            }
            end.unsent = asked - took;
        }
        self.tell_result(given, |took| *took as u64)
    }

    fn give_some<'a>(
        &mut self,
        id: EndId,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Result<usize, Errno> {
        if self.fault(FaultKind::BufferChange, self.faults.buffer_change) {
            let cap = self.buffer_cap();
            if let Some(end) = self.ends.get_mut(&id) {
                end.outbox_cap = cap;
            }
        }
        let end = self.ends.get_mut(&id).ok_or(Errno::EPIPE)?;
        if let Some(errno) = end.error.take() {
            return Err(errno);
        }
        match end.state {
            State::Connecting => return Err(Errno::EAGAIN),
            State::Broken => return Err(Errno::EPIPE),
            State::Connected if end.finished => return Err(Errno::EPIPE),
            State::Connected => {}
        }
        let mut room = end.outbox_cap.saturating_sub(end.outbox.len());
        if end.owner == Owner::Descriptor {
            if room > 0 && self.fault(FaultKind::FullBuffer, self.faults.full_buffer) {
                return Err(Errno::EAGAIN);
            }
            if room > 1 && self.fault(FaultKind::ShortWrite, self.faults.short_write) {
                room = if self.rng.chance(500) { 1 } else { self.rng.len(1, room - 1) };
            }
        }
        let Some(end) = self.ends.get_mut(&id) else { return Err(Errno::EPIPE) };
        let (mut count, mut asked) = (0, 0);
        for slice in slices {
            let taken = slice.len().min(room - count);
            let bytes = slice.get(..taken).unwrap_or_default();
            end.outbox.extend(bytes);
            if self.dead.is_none() {
                self.trace.add_bytes(bytes);
            }
            count += taken;
            asked += slice.len();
        }
        if asked > 0 && count == 0 {
            return Err(Errno::EAGAIN);
        }
        end.sent_at = self.now;
        self.set_moving(id);
        Ok(count)
    }

    /// What an end is ready for, in an event's own flags.
    pub(super) fn end_flags(&self, id: EndId) -> u8 {
        let Some(end) = self.ends.get(&id) else { return Event::ERROR | Event::HANGUP };
        let mut flags = 0;
        if !end.inbox.is_empty() || end.end_seen {
            flags |= Event::READABLE;
        }
        match end.state {
            State::Connecting => return 0,
            State::Broken => {
                flags |= Event::READABLE | Event::WRITABLE | Event::HANGUP;
            }
            State::Connected => {
                let room = end.outbox_cap.saturating_sub(end.outbox.len());
                // As Linux: a third must be free.
                if room > 0 && room * 3 >= end.outbox_cap || end.finished {
                    flags |= Event::WRITABLE;
                }
                if end.end_seen {
                    flags |= Event::READ_CLOSED;
                    if end.finished {
                        flags |= Event::HANGUP;
                    }
                }
            }
        }
        if end.error.is_some() {
            flags |= Event::ERROR | Event::READABLE | Event::WRITABLE;
        }
        flags
    }
}
