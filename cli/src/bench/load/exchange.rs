//! Requests and their replies.

use myriapod::sys::{self, Errno, Interest, Mode, Token};

use super::{BATCH, CATCH_UP, Loader, MOST_FRESH, State, clock};
use crate::bench::connection::{Asked, Fate};
use crate::bench::job::Phase;
use crate::bench::message::{Found, Verdict};
use crate::bench::schedule::Schedule;

impl Loader {
    pub(super) fn sending(&self) -> bool {
        matches!(self.phase, Phase::Warmup | Phase::Run)
            && self.budget > 0
            && !(self.job.short && self.state.stopped.is_some())
    }

    /// Sends what became due since the last turn and until `end`, where a connection is free for it.
    pub(super) fn send_rest_of_due(&mut self, end: u64) {
        while let Some(due) = self.schedule.as_ref().map(Schedule::next).filter(|&due| due <= end) {
            self.send_due(end);
            if self.schedule.as_ref().is_none_or(|schedule| schedule.next() == due) {
                return;
            }
        }
    }

    /// What was due and will not be sent any more: its wait until now counts, or a server that
    /// stalls to the end would look well.
    pub(super) fn count_unsent(&mut self, now: u64) {
        for due in std::mem::take(&mut self.retries) {
            self.unsent(due, now);
        }
        let Some(mut schedule) = self.schedule.take() else { return };
        while schedule.next() <= now && self.budget > 0 {
            self.unsent(schedule.next(), now);
            schedule.advance();
        }
    }

    /// Counts a message that will not be sent, and that has its place in the budget still.
    fn unsent(&mut self, due: u64, now: u64) {
        self.latencies.response.saturating_record(now.saturating_sub(due));
        self.state.messages.unsent += 1;
        self.state.due += 1;
        self.budget = self.budget.saturating_sub(1);
    }

    /// The connection that was opened for a request could not be made. In an open loop the request
    /// is due all the same: another connection is tried for it, and its wait goes on.
    pub(super) fn not_sent(&mut self, slot: usize) {
        let Some(due) = self.slots.get(slot).map(|slot| slot.due) else { return };
        self.busy -= 1;
        self.budget = self.budget.saturating_add(1);
        self.free.extend(u32::try_from(slot));
        if self.rate.is_none() {
            return;
        }
        let now = clock();
        match self.phase {
            Phase::Warmup | Phase::Run => {
                self.retries.push_back(due);
                self.retry_after = now + CATCH_UP;
            }
            Phase::Drain | Phase::Close => self.unsent(due, now),
            _ => {}
        }
    }

    /// What is due next, and whether that is a moment of the schedule.
    fn next_due(&mut self, now: u64) -> (u64, bool) {
        if let Some(&due) = self.retries.front().filter(|_| self.retry_after <= now) {
            return (due, false);
        }
        (self.schedule.as_ref().map_or(now, Schedule::next), true)
    }

    /// Sends what is due, and was by `end`, to whoever has a free place; in a closed loop, something
    /// is always due.
    pub(super) fn send_due(&mut self, end: u64) {
        let mut now = clock();
        for _ in 0..BATCH * 4 {
            if !self.sending() || (self.job.short && self.connecting >= MOST_FRESH) {
                return;
            }
            let (due, scheduled) = self.next_due(now);
            if due > end {
                return;
            }
            if due > now {
                now = clock();
                if due > now {
                    return;
                }
            }
            let Some(slot) = self.next_free() else { return };
            if !scheduled {
                self.retries.pop_front();
                if self.failures > 0 {
                    // As long as none succeeds, they are tried one at a time.
                    self.retry_after = now + CATCH_UP;
                }
            } else if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
            if self.job.short {
                self.budget -= 1;
                self.busy += 1;
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.due = due;
                }
                self.connect(slot);
                continue;
            }
            now = clock();
            // A place that was free before the moment came cannot be why it was missed.
            if self.schedule.is_some() && self.slots.get(slot).is_some_and(|slot| slot.since <= due)
            {
                self.latencies.delay.saturating_record(now - due);
            }
            self.send(slot, 1, due, now);
        }
    }

    /// A slot with a free place.
    pub(super) fn next_free(&mut self) -> Option<usize> {
        while let Some(slot) = self.free.pop_front() {
            let slot = slot as usize;
            let wanted = if self.job.short { State::Vacant } else { State::Open };
            if self.slots.get(slot).is_some_and(|slot| slot.state == wanted) {
                return Some(slot);
            }
        }
        None
    }

    /// The only request of a short connection; its place in the budget is taken already.
    pub(super) fn send_one(&mut self, slot: usize, due: u64) {
        self.budget = self.budget.saturating_add(1);
        self.send(slot, 1, due, clock());
    }

    /// Sends so many requests that became due at `due`; `now` is the time.
    #[inline]
    pub(super) fn send(&mut self, slot: usize, count: usize, due: u64, now: u64) {
        let (id, measured) =
            (self.id(slot), self.phase == Phase::Run || self.phase == Phase::Drain);
        let Some(place) = self.slots.get_mut(slot) else { return };
        self.scratch.clear();
        for _ in 0..count {
            let number = place.queue.ask(due, now, measured);
            self.messages.write(&mut self.scratch, self.messages.tag_of(id, number));
        }
        self.waiting += count;
        if measured {
            self.budget -= count as u64;
            if self.rate.is_some() {
                self.state.due += count as u64;
            }
            self.state.messages.sent += count as u64;
            self.state.bytes.sent += self.scratch.len() as u64;
        }
        if !place.rest.is_empty() {
            place.rest.extend_from_slice(&self.scratch);
            return;
        }
        let Some(socket) = &place.socket else { return };
        match socket.send(&self.scratch) {
            Ok(sent) if sent == self.scratch.len() => {}
            Ok(sent) => self.keep_rest(slot, sent),
            Err(errno) if errno.would_block() => self.keep_rest(slot, 0),
            Err(errno) => self.lose(slot, "send", errno.name()),
        }
    }

    #[cold]
    pub(super) fn keep_rest(&mut self, slot: usize, sent: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.rest.extend_from_slice(self.scratch.get(sent..).unwrap_or_default());
        self.watch(slot, true);
    }

    /// Changes whether a slot waits to be writable.
    pub(super) fn watch(&mut self, slot: usize, writing: bool) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(socket) = &place.socket else { return };
        place.writing = writing;
        let interest = if writing { Interest::BOTH } else { Interest::READABLE };
        let fd = sys::AsFd::as_fd(socket);
        if let Err(error) = self.poller.modify(fd, Token(slot as u64), interest, Mode::LEVEL) {
            let errno = error.errno().unwrap_or(Errno::EINVAL);
            self.lose(slot, "modify", errno.name());
        }
    }

    #[cold]
    pub(super) fn send_rest(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(socket) = &place.socket else { return };
        match socket.send(&place.rest) {
            Ok(sent) => {
                place.rest.drain(..sent);
                if place.rest.is_empty() {
                    place.rest = Vec::new();
                    self.watch(slot, false);
                }
            }
            Err(errno) if errno.would_block() => {}
            Err(errno) => self.lose(slot, "send", errno.name()),
        }
    }

    #[inline]
    pub(super) fn receive(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(socket) = &place.socket else { return };
        let received = match socket.recv(&mut self.received) {
            Ok(0) => return self.ended_by_server(slot),
            Ok(received) => received,
            Err(errno) if errno.would_block() => return,
            Err(errno) => return self.lose(slot, "recv", errno.name()),
        };
        let now = clock();
        if matches!(self.phase, Phase::Run | Phase::Drain | Phase::Close) {
            self.state.bytes.received += received as u64;
        }
        if place.partial.is_empty() {
            // Taken for as long as it is read, since the replies change everything else.
            let mut buffer = std::mem::take(&mut self.received);
            self.read(slot, buffer.get_mut(..received).unwrap_or_default(), now);
            self.received = buffer;
        } else {
            place.partial.extend_from_slice(self.received.get(..received).unwrap_or_default());
            let mut whole = std::mem::take(&mut place.partial);
            self.read(slot, &mut whole, now);
        }
    }

    /// Takes the replies out of `input`, keeps what is left of it, and sends what they make room for.
    pub(super) fn read(&mut self, slot: usize, mut input: &mut [u8], now: u64) {
        let (id, timeout) = (self.id(slot), self.timeout);
        let mut freed = 0;
        while !input.is_empty() {
            match self.messages.find(input) {
                Found::Reply(len, verdict) => {
                    input = std::mem::take(&mut input).get_mut(len..).unwrap_or_default();
                    let Some(place) = self.slots.get_mut(slot) else { return };
                    place.answered = place.answered.saturating_add(1);
                    let answer = place.queue.answer(id, &self.messages, verdict, now, timeout);
                    let (fate, free) = answer;
                    freed += usize::from(free);
                    self.count(fate, now);
                }
                Found::Incomplete(_) => {
                    if let Some(place) = self.slots.get_mut(slot) {
                        place.partial.extend_from_slice(input);
                    }
                    break;
                }
                Found::Broken(why) => {
                    self.waiting -= freed;
                    self.broken(slot, now, why);
                    return;
                }
            }
        }
        self.waiting -= freed;
        if freed > 0 {
            self.go_on(slot, freed, now);
        }
    }

    /// No reply and no way on behind it.
    #[cold]
    pub(super) fn broken(&mut self, slot: usize, now: u64, why: String) {
        let (id, timeout) = (self.id(slot), self.timeout);
        if let Some(place) = self.slots.get_mut(slot) {
            let (fate, free) = place.queue.answer(id, &self.messages, Verdict::Wrong, now, timeout);
            self.waiting -= usize::from(free);
            self.count(fate, now);
        }
        self.lose(slot, "decode", why);
    }

    /// Places of a connection have become free.
    #[inline]
    pub(super) fn go_on(&mut self, slot: usize, freed: usize, now: u64) {
        if self.job.short {
            return self.answered(slot, now);
        }
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.state != State::Open {
            return;
        }
        place.since = now;
        if self.schedule.is_none() && self.sending() {
            let count = freed.min(usize::try_from(self.budget).unwrap_or(usize::MAX));
            self.send(slot, count, now, now);
            if count == freed {
                return;
            }
        }
        for _ in 0..freed {
            self.free.extend(u32::try_from(slot));
        }
    }

    #[inline]
    pub(super) fn count(&mut self, fate: Fate, now: u64) {
        let messages = &mut self.state.messages;
        match fate {
            Fate::Ok(asked) => {
                if asked.measured {
                    messages.ok += 1;
                    self.record(asked, now);
                }
            }
            Fate::Late(asked) => {
                messages.late += 1;
                messages.sent += u64::from(!asked.measured);
                self.record(asked, now);
            }
            Fate::Wrong(asked) => {
                messages.wrong += 1;
                messages.sent += u64::from(!asked.measured);
            }
            Fate::Duplicate => messages.duplicate += 1,
        }
    }

    #[inline]
    pub(super) fn record(&mut self, asked: Asked, now: u64) {
        self.latencies.service.saturating_record(now.saturating_sub(asked.sent));
        self.latencies.response.saturating_record(now.saturating_sub(asked.due));
        self.state.last_reply = now;
    }
}
