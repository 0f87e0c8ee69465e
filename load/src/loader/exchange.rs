//! Requests and their replies.

use myriapod::sys::{Errno, Interest};

use super::{BATCH, Loader, State, clock};
use crate::connection::Fate;
use crate::job::{Kind, Phase};
use crate::message::{Found, Verdict};

impl Loader {
    pub(super) fn sending(&self) -> bool {
        matches!(self.phase, Phase::Warmup | Phase::Run)
            && self.due.budget > 0
            && !(self.job.short && self.tally.state.stopped.is_some())
    }

    /// Sends what became due since the last turn and until `end`, where a connection is free for it.
    pub(super) fn send_rest_of_due(&mut self, end: u64) {
        while let Some(due) = self.due.moment(end) {
            self.send_due(end);
            if self.due.moment(u64::MAX) == Some(due) {
                return;
            }
        }
    }

    /// The connection that was opened for a request could not be made. In an open loop the request
    /// is due all the same: another connection is tried for it, and its wait goes on.
    pub(super) fn not_sent(&mut self, slot: usize) {
        let Some(due) = self.places.get(slot).map(|slot| slot.due) else { return };
        self.places.busy -= 1;
        self.due.budget = self.due.budget.saturating_add(1);
        self.due.add_places(slot, 1);
        if self.due.rate.is_none() {
            return;
        }
        let now = clock();
        match self.phase {
            Phase::Warmup | Phase::Run => self.due.retry(due, now),
            Phase::Drain | Phase::Close => {
                self.due.budget = self.due.budget.saturating_sub(1);
                self.tally.unsent(due, now);
            }
            _ => {}
        }
    }

    /// Sends what is due, and was by `end`, to each connection that has a free place; in a closed loop, something
    /// is always due.
    pub(super) fn send_due(&mut self, end: u64) {
        let mut now = clock();
        for _ in 0..BATCH * 4 {
            if !self.sending() || (self.job.short && self.opening.is_crowded()) {
                return;
            }
            let (due, scheduled) = self.due.next(now);
            if due > end {
                return;
            }
            if due > now {
                now = clock();
                if due > now {
                    return;
                }
            }
            let Some(slot) = self.next_slot() else { return };
            self.due.take(scheduled, now, self.opening.is_failing());
            if self.tape.is_some() && !self.places.is(slot, State::Open) {
                self.leave_out(due, now);
                continue;
            }
            if self.job.short {
                self.open_short(slot, due);
                continue;
            }
            now = clock();
            // A place that was free before the moment came cannot be why it was missed.
            let free_before =
                self.tape.is_some() || self.places.get(slot).is_some_and(|slot| slot.since <= due);
            if self.due.is_open_loop() && free_before {
                self.tally.latencies.delay.saturating_record(now - due);
            }
            self.send(slot, 1, due, now);
        }
    }

    /// The connection of a recorded request is not there: nobody else can send it.
    #[cold]
    fn leave_out(&mut self, due: u64, now: u64) {
        if let Some(tape) = &mut self.tape {
            tape.skip();
        }
        self.due.budget -= 1;
        self.tally.unsent(due, now);
    }

    /// Opens a connection for the request that became due at `due`.
    pub(super) fn open_short(&mut self, slot: usize, due: u64) {
        self.due.budget -= 1;
        self.places.busy += 1;
        if let Some(slot) = self.places.get_mut(slot) {
            slot.due = due;
        }
        self.connect(slot);
    }

    /// The slot that sends what is due: the one that a recording names, or one with a free place.
    fn next_slot(&mut self) -> Option<usize> {
        match &self.tape {
            Some(tape) => tape.slot(),
            None => self.next_free(),
        }
    }

    /// A slot with a free place.
    pub(super) fn next_free(&mut self) -> Option<usize> {
        let wanted = if self.job.short { State::Vacant } else { State::Open };
        while let Some(slot) = self.due.pop_place() {
            if self.places.is(slot, wanted) {
                return Some(slot);
            }
        }
        None
    }

    /// The only request of a short connection; its place in the budget is taken already.
    pub(super) fn send_one(&mut self, slot: usize, due: u64) {
        self.due.budget = self.due.budget.saturating_add(1);
        self.send(slot, 1, due, clock());
    }

    /// Sends so many requests that became due at `due`; `now` is the time.
    #[inline]
    pub(super) fn send(&mut self, slot: usize, count: usize, due: u64, now: u64) {
        let id = self.id(slot);
        let measured = matches!(self.phase, Phase::Run | Phase::Drain);
        let Some(place) = self.places.get_mut(slot) else { return };
        let scratch = &mut self.buffers.scratch;
        scratch.clear();
        for _ in 0..count {
            let number = place.queue.ask(due, now, measured);
            match &mut self.tape {
                Some(tape) => tape.take(scratch),
                None => self.messages.write(scratch, self.messages.tag_of(id, number)),
            }
        }
        let len = scratch.len();
        if let (Some(seal), Some(wire)) = (&mut self.seal, &mut place.wire)
            && let Err(fault) = seal.seal(wire, slot as u64, scratch)
        {
            self.places.waiting += count;
            return self.lose(slot, "seal", fault.name().to_owned());
        }
        let rest = &mut place.rest;
        let sent = match &place.socket {
            Some(socket) if rest.is_empty() => Some(socket.send(scratch)),
            _ => {
                rest.extend_from_slice(scratch);
                None
            }
        };
        self.places.waiting += count;
        if measured {
            let count = count as u64;
            self.due.budget -= count;
            let state = &mut self.tally.state;
            if self.due.rate.is_some() {
                state.due += count;
            }
            state.messages.sent += count;
            state.bytes.sent += len as u64;
        }
        match sent {
            None => {}
            Some(Ok(sent)) if sent == self.buffers.scratch.len() => {}
            Some(Ok(sent)) => self.keep_rest(slot, sent),
            Some(Err(errno)) if errno.would_block() => self.keep_rest(slot, 0),
            Some(Err(errno)) => self.lose(slot, "send", errno.name()),
        }
    }

    #[cold]
    fn keep_rest(&mut self, slot: usize, sent: usize) {
        let Some(place) = self.places.get_mut(slot) else { return };
        place.rest.extend_from_slice(self.buffers.scratch.get(sent..).unwrap_or_default());
        self.watch(slot, Interest::BOTH);
    }

    /// Changes what a slot waits for.
    pub(super) fn watch(&mut self, slot: usize, interest: Interest) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let Some(socket) = &place.socket else { return };
        place.writing = interest == Interest::BOTH;
        if let Err(error) = self.net.watch(socket, slot, interest) {
            let errno = error.errno().unwrap_or(Errno::EINVAL);
            self.lose(slot, "modify", errno.name());
        }
    }

    #[cold]
    pub(super) fn send_rest(&mut self, slot: usize) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let Some(socket) = &place.socket else { return };
        match socket.send(&place.rest) {
            Ok(sent) => {
                place.rest.drain(..sent);
                if place.rest.is_empty() {
                    place.rest = Vec::new();
                    self.watch(slot, Interest::READABLE);
                }
            }
            Err(errno) if errno.would_block() => {}
            Err(errno) => self.lose(slot, "send", errno.name()),
        }
    }

    #[inline]
    pub(super) fn receive(&mut self, slot: usize) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let Some(socket) = &place.socket else { return };
        let received = match socket.recv(&mut self.buffers.received) {
            Ok(0) => return self.ended_by_server(slot),
            Ok(received) => received,
            Err(errno) if errno.would_block() => return,
            Err(errno) => return self.lose(slot, "recv", errno.name()),
        };
        let now = clock();
        if place.wire.is_some() {
            return self.receive_sealed(slot, received, now);
        }
        self.note_received(received);
        let Some(place) = self.places.get_mut(slot) else { return };
        let came = self.buffers.received.get(..received).unwrap_or_default();
        if place.partial.is_empty() {
            // Taken for as long as it is read, since the replies change everything else.
            let mut buffer = std::mem::take(&mut self.buffers.received);
            self.read(slot, buffer.get_mut(..received).unwrap_or_default(), now);
            self.buffers.received = buffer;
        } else {
            place.partial.extend_from_slice(came);
            let mut whole = std::mem::take(&mut place.partial);
            self.read(slot, &mut whole, now);
        }
    }

    fn note_received(&mut self, bytes: usize) {
        if matches!(self.phase, Phase::Run | Phase::Drain | Phase::Close) {
            self.tally.state.bytes.received += bytes as u64;
        }
    }

    /// The same through TLS: so many bytes of records have come.
    pub(super) fn receive_sealed(&mut self, slot: usize, received: usize, now: u64) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let (Some(seal), Some(wire)) = (&mut self.seal, &mut place.wire) else { return };
        let came = self.buffers.received.get(..received).unwrap_or_default();
        let opened = seal.open(wire, slot as u64, came);
        let mut plain = std::mem::take(seal.plain());
        self.note_received(plain.len());
        if let Some(place) = self.places.get_mut(slot).filter(|place| !place.partial.is_empty()) {
            place.partial.append(&mut plain);
            std::mem::swap(&mut plain, &mut place.partial);
            place.partial = Vec::new();
        }
        self.read(slot, &mut plain, now);
        plain.clear();
        if let Some(seal) = &mut self.seal {
            *seal.plain() = plain;
        }
        if let Err(fault) = opened
            && !self.places.is(slot, State::Vacant)
        {
            self.lose(slot, "recv", fault.name().to_owned());
        }
    }

    /// Takes the replies out of `input`, keeps what is left of it, and sends what they make room for.
    fn read(&mut self, slot: usize, mut input: &mut [u8], now: u64) {
        if self.kind(slot) == Kind::Slow {
            return;
        }
        let (id, timeout) = (self.id(slot), self.timeout());
        let mut freed = 0;
        while !input.is_empty() {
            match self.messages.find(input) {
                Found::Reply(len, verdict) => {
                    if verdict == Verdict::Wrong && self.is_stranger(slot, input) {
                        self.places.waiting -= freed;
                        return self.broken(slot, now, "no reply".to_owned());
                    }
                    input = std::mem::take(&mut input).get_mut(len..).unwrap_or_default();
                    let Some(place) = self.places.get_mut(slot) else { return };
                    place.answered = place.answered.saturating_add(1);
                    let answer = place.queue.answer(id, &self.messages, verdict, now, timeout);
                    let (fate, free) = answer;
                    freed += usize::from(free);
                    self.tally.fate(fate, now);
                    if self.phase == Phase::Storm {
                        self.tally.served(fate, now);
                    }
                }
                Found::Incomplete(_) => {
                    if let Some(place) = self.places.get_mut(slot) {
                        place.partial.extend_from_slice(input);
                    }
                    break;
                }
                Found::Broken(why) => {
                    self.places.waiting -= freed;
                    self.is_stranger(slot, input);
                    return self.broken(slot, now, why);
                }
            }
        }
        self.places.waiting -= freed;
        if freed > 0 {
            self.go_on(slot, freed, now);
        }
    }

    /// Bytes that are no reply: is this a server of another protocol? That is so where no reply has
    /// ever been right, and these are the first bytes that came on a connection.
    #[cold]
    fn is_stranger(&mut self, slot: usize, input: &[u8]) -> bool {
        let first = self.places.get(slot).is_some_and(|place| place.answered == 0);
        if !first || self.tally.state.messages.ok > 0 {
            return false;
        }
        let stranger = self.messages.stranger(input);
        let known = &mut self.tally.state.stranger;
        *known = known.take().or(stranger);
        known.is_some()
    }

    /// No reply and no way on behind it: nothing that was asked on this connection has an answer but
    /// these bytes.
    #[cold]
    fn broken(&mut self, slot: usize, now: u64, why: String) {
        if let Some(place) = self.places.get_mut(slot) {
            self.places.waiting -= place.queue.waiting();
        }
        if let Some(place) = self.places.get_mut(slot) {
            for asked in place.queue.abandon() {
                self.tally.fate(Fate::Wrong(asked), now);
            }
        }
        self.lose(slot, "decode", why);
    }

    /// Places of a connection have become free.
    #[inline]
    pub(super) fn go_on(&mut self, slot: usize, freed: usize, now: u64) {
        if self.job.short {
            return self.answered(slot, now);
        }
        let Some(place) = self.places.get_mut(slot) else { return };
        if place.state != State::Open {
            return;
        }
        place.since = now;
        if !self.due.is_open_loop() && self.sending() {
            let count = freed.min(usize::try_from(self.due.budget).unwrap_or(usize::MAX));
            self.send(slot, count, now, now);
            if count == freed {
                return;
            }
        }
        self.due.add_places(slot, freed);
    }
}
