//! The simulated network: listening queues, and what is on its way: connects, bytes, ends, resets.

use std::collections::VecDeque;

use super::end::{EndId, Owner, State};
use super::faults::FaultKind;
use super::kernel::{Happening, Kernel, MICROSECOND};
use super::wire::Carried;
use crate::{Errno, SocketAddr};

pub(super) type ListeningId = u64;

/// How long a connect waits before it tries again, doubled each time, and how often it does.
const RETRY: u64 = 200_000 * MICROSECOND;
const ATTEMPTS: u32 = 6;

/// Where nobody ever answers: TEST-NET-1 of RFC 5737.
const SILENT: [u8; 3] = [192, 0, 2];

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

    /// Begins to connect an end to its peer's address.
    pub(super) fn begin_connect(&mut self, end: EndId) {
        let Some(target) = self.ends.get(&end).map(|end| end.peer.clone()) else { return };
        if target.is_unix() {
            return self.connect_arrives(end, 0);
        }
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
        self.carry(end, || Carried::Opened);
        if let Some(to) = self.listenings.get_mut(&to) {
            to.queue.push_back(accepted);
        }
    }

    /// Has bytes go on from this end, if any can.
    pub(super) fn set_moving(&mut self, end: EndId) {
        let Some(from) = self.ends.get(&end) else { return };
        let nothing = from.outbox.is_empty() && (!from.finished || from.finish_told);
        let broken = from.state != State::Connected || from.silent;
        if from.moving || nothing || broken {
            return;
        }
        let Some(to) = from.other.and_then(|other| self.ends.get(&other)) else { return };
        // It goes on when there is room: the reader says so.
        let full = to.inbox.len() >= to.inbox_cap && to.owner != Owner::Nobody;
        if to.silent || (full && !from.outbox.is_empty()) {
            return;
        }
        if let Some(from) = self.ends.get_mut(&end) {
            from.moving = true;
        }
        if self.ends.get(&end).is_some_and(|end| end.is_near) {
            return self.deliver(end);
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
        if self.ends.get(&end).is_some_and(|end| end.is_near) {
            // All that there is room for.
        } else if count > 1 && self.fault(FaultKind::Dribble, self.faults.dribble) {
            count = 1;
        } else if count > 1 && self.rng.chance(300) {
            count = self.rng.len(1, count);
        }
        let now = self.now;
        let Some(from) = self.ends.get_mut(&end) else { return };
        let bytes: Vec<u8> = from.outbox.drain(..count).collect();
        self.carry(end, || Carried::Bytes(bytes.clone()));
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
        self.carry(end, || Carried::Ended);
        if let Some(to) = self.ends.get_mut(&other) {
            to.end_seen = true;
        }
        self.sweep(end);
        self.sweep(other);
    }

    /// A reset is on its way to this end.
    pub(super) fn schedule_reset(&mut self, end: EndId) {
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
        let (unread, other) = (!to.inbox.is_empty(), to.other);
        if let Some(other) = other {
            self.carry(other, || Carried::Reset);
        }
        self.break_end(end, errno);
        if unread
            && self.fault(FaultKind::DroppedByReset, self.faults.dropped_by_reset)
            && let Some(to) = self.ends.get_mut(&end)
        {
            to.inbox.clear();
        }
        self.sweep(end);
    }

    pub(super) fn close_listening(&mut self, listening: ListeningId) {
        let Some(listening) = self.listenings.remove(&listening) else { return };
        for end in listening.queue {
            self.abort(end);
        }
    }
}
