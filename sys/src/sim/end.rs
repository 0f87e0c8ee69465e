//! [`End`]: one end of a stream, and what its owner does with it.

use std::collections::VecDeque;

use super::closing::{Closing, Receipts};
use super::faults::FaultKind;
use super::kernel::{Kernel, Object};
use super::process::ProcessId;
use crate::event::Event;
use crate::{Errno, SocketAddr};

pub(super) type EndId = u64;

/// What a buffer holds where nothing else is said.
const BUFFER: usize = 64 << 10;

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
    /// It leads to another process of this machine: what is sent is there at once.
    pub(super) is_near: bool,
    /// The process that has last used it, and those that had before.
    pub(super) hand: Option<ProcessId>,
    pub(super) past_hands: Vec<ProcessId>,
    /// Bytes that its owner has sent.
    pub(super) given: u64,
    /// Descriptors on their way to it, each with the number of the byte that they come with.
    pub(super) passed: VecDeque<(u64, Vec<Object>)>,
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
    /// A close resets the connection.
    pub(super) resets: bool,
    /// The cable is pulled: nothing gets through any more, in either direction.
    pub(super) silent: bool,
    /// A delivery is scheduled.
    pub(super) moving: bool,
    /// Bytes that the end's owner has received, and when it last received and sent any.
    pub(super) received: u64,
    pub(super) received_at: u64,
    /// When its owner ended its side or tried to, and how many bytes it had received by then.
    pub(super) finished_at: Option<(u64, u64)>,
    /// When bytes last arrived.
    pub(super) arrived_at: u64,
    pub(super) sent_at: u64,
    /// Whether a poller had no room for it.
    pub(super) unwatched: bool,
    /// Whether a receive came short since its owner was told to stop.
    pub(super) came_short: bool,
    /// When each of the bytes that a descriptor received was received: up to which number, when.
    pub(super) receipts: Receipts,
    /// Bytes of a descriptor's last send that found no room, since when some do, and when the
    /// last progress was made since.
    pub(super) unsent: usize,
    pub(super) stalled_from: u64,
    pub(super) progress_at: u64,
}

impl Kernel {
    fn buffer_cap(&mut self) -> usize {
        match self.faults.buffer {
            0 => BUFFER,
            most => self.rng.len(1, most),
        }
    }

    pub(super) fn new_end(&mut self, owner: Owner, local: SocketAddr, peer: SocketAddr) -> EndId {
        let id = self.new_id();
        let (mut inbox_cap, mut outbox_cap) = (self.buffer_cap(), self.buffer_cap());
        let is_near = local.is_unix() || peer.is_unix();
        if is_near {
            (inbox_cap, outbox_cap) = (BUFFER, BUFFER);
        }
        let end = End {
            owner,
            state: State::Connecting,
            is_near,
            hand: None,
            past_hands: Vec::new(),
            given: 0,
            passed: VecDeque::new(),
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
            resets: false,
            silent: false,
            moving: false,
            received: 0,
            finished_at: None,
            received_at: self.now,
            arrived_at: self.now,
            sent_at: self.now,
            unwatched: false,
            came_short: false,
            receipts: Receipts::default(),
            unsent: 0,
            stalled_from: self.now,
            progress_at: self.now,
        };
        self.ends.insert(id, end);
        id
    }

    /// Gives all streams buffers of the ordinary size.
    pub(super) fn make_room(&mut self) {
        let ids: Vec<EndId> = self.ends.keys().copied().collect();
        for end in self.ends.values_mut() {
            (end.inbox_cap, end.outbox_cap) = (BUFFER, BUFFER);
        }
        // What had to wait goes on.
        ids.into_iter().for_each(|id| self.set_moving(id));
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

    /// A process uses the end. One that has left it to another must not use it again.
    fn use_end(&mut self, id: EndId) {
        let process = self.process();
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.owner != Owner::Descriptor || end.hand == Some(process) {
            return;
        }
        let is_back = end.past_hands.contains(&process);
        end.past_hands.extend(end.hand.replace(process));
        if is_back {
            self.dead = Some("a descriptor is in two hands: each process uses it after the other");
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

    /// The same as a descriptor's owner asks for it, who may be refused.
    pub(super) fn shut(&mut self, id: EndId) -> Result<(), Errno> {
        self.use_end(id);
        let now = self.now;
        let can = |end: &End| end.state == State::Connected && !end.finished;
        if self.ends.get(&id).is_some_and(can)
            && self.fault(FaultKind::NotShut, self.faults.not_shut)
            && let Some(end) = self.ends.get_mut(&id)
        {
            end.finished_at.get_or_insert((now, end.received));
            return Err(Errno::ENOBUFS);
        }
        self.finish(id)
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
        self.use_end(id);
        if self.fault(FaultKind::BufferChange, self.faults.buffer_change) {
            let cap = self.buffer_cap();
            if let Some(end) = self.ends.get_mut(&id).filter(|end| !end.is_near) {
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
        let stopping = self.faults.stopping;
        let (kind, rate) = match stopping {
            false => (FaultKind::ShortRead, self.faults.short_read),
            true => (FaultKind::ShortLastRead, self.faults.short_last_read),
        };
        let comes_short = is_ours && there > 1 && self.fault(kind, rate);
        let count = match comes_short {
            false => there,
            true if self.rng.chance(500) => 1,
            true => self.rng.len(1, there - 1),
        };
        let Some(end) = self.ends.get_mut(&id) else { return Err(Errno::ENOTCONN) };
        end.came_short |= comes_short && stopping;
        let bytes: Vec<u8> = end.inbox.drain(..count).collect();
        end.received += bytes.len() as u64;
        end.received_at = self.now;
        if is_ours {
            end.receipts.note(end.received, self.now);
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
        self.use_end(id);
        if self.fault(FaultKind::BufferChange, self.faults.buffer_change) {
            let cap = self.buffer_cap();
            if let Some(end) = self.ends.get_mut(&id).filter(|end| !end.is_near) {
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
        if end.is_near {
            let is_gone = |other: &End| other.owner == Owner::Nobody;
            let other = end.other.and_then(|other| self.ends.get(&other));
            if other.is_none_or(is_gone) {
                return Err(Errno::EPIPE);
            }
        } else if end.owner == Owner::Descriptor {
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
        end.given += count as u64;
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

    /// `close(2)` of a stream.
    pub(super) fn close_end(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.owner == Owner::Descriptor {
            self.closings.push(Closing::of(end, self.now));
        }
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.owner = Owner::Nobody;
        if end.state != State::Connected {
            self.drop_end(id);
            return;
        }
        if end.is_near {
            end.inbox.clear();
        }
        if !end.inbox.is_empty() || end.resets {
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

    /// Forgets an end that is closed and has nothing to do any more.
    pub(super) fn sweep(&mut self, end: EndId) {
        let done = self.ends.get(&end).is_some_and(|end| {
            end.owner == Owner::Nobody
                && (end.state == State::Broken || (end.finish_told && end.end_seen))
        });
        if done {
            self.ends.remove(&end);
        }
    }

    pub(super) fn drop_end(&mut self, end: EndId) {
        self.ends.remove(&end);
    }
}
