//! How connections end: who closes, what is lost by it, and what takes too long.

use myriapod::sys::{self, Shutdown};

use super::{CLOSE_TIMEOUT, CLOSING_GRACE, Loader, State, clock, nanos};
use crate::bench::connection::{Asked, Fate};
use crate::bench::job::Phase;

impl Loader {
    /// Opens one short connection before the run, to learn who closes: all of them would wait for
    /// the server's close otherwise until the first had waited in vain.
    pub(super) fn probe(&mut self) {
        let Some(slot) = self.next_free().filter(|_| self.budget > 0) else { return };
        self.budget -= 1;
        self.busy += 1;
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.due = clock();
        }
        self.connect(slot);
    }

    /// A short connection has its answer. Who closes it?
    pub(super) fn answered(&mut self, slot: usize, now: u64) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.state = State::Answered;
        place.since = now;
        if self.server_closes == Some(false) {
            self.close_short(slot);
        }
    }

    /// Closes a short connection that the server keeps open.
    pub(super) fn close_short(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let mut byte = [0];
        match place.socket.as_ref().map(|socket| socket.recv(&mut byte)) {
            // It has closed in this moment.
            Some(Ok(0)) => return self.ended_by_server(slot),
            // Not asked for.
            Some(Ok(_)) => self.count(Fate::Duplicate, 0),
            _ => {}
        }
        self.state.closed_first_by_client += 1;
        self.vacate(slot);
    }

    /// A connection is over; a short one's place is free again.
    pub(super) fn vacate(&mut self, slot: usize) {
        self.at_work -= usize::from(!self.is_idle(slot));
        let Some(place) = self.slots.get_mut(slot) else { return };
        if let Some(socket) = place.socket.take() {
            self.poller.forget(sys::AsFd::as_fd(&socket));
        }
        place.state = State::Vacant;
        place.partial = Vec::new();
        place.rest = Vec::new();
        self.state.open -= 1;
        if self.job.short {
            self.busy -= 1;
            self.free.extend(u32::try_from(slot));
        }
    }

    pub(super) fn ended_by_server(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.state {
            State::Answered => {
                self.server_closes = Some(true);
                self.state.closed_first_by_server += 1;
                self.vacate(slot);
            }
            State::Closing => self.closed(slot),
            _ => self.lose(slot, "recv", "EOF".to_owned()),
        }
    }

    /// The end of a connection that we had shut down.
    pub(super) fn closed(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if !place.partial.is_empty() && place.queue.waiting() == 0 {
            // The start of an answer that nobody has asked for.
            self.state.messages.duplicate += 1;
        }
        self.abandon(slot);
        self.vacate(slot);
    }

    /// All that was asked on a connection and will not be answered is lost.
    pub(super) fn abandon(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        self.waiting -= place.queue.waiting();
        let (lost, now) = (place.queue.abandon(), clock());
        for asked in lost {
            self.count_lost(asked, now);
        }
    }

    /// A request will not be answered any more. Its wait until now counts, or a server that drops
    /// what it is slow to answer would look well.
    fn count_lost(&mut self, asked: Asked, now: u64) {
        self.state.messages.sent += u64::from(!asked.measured);
        self.state.messages.lost += 1;
        self.latencies.response.saturating_record(now.saturating_sub(asked.due));
    }

    /// A connection has ended too early.
    #[cold]
    pub(super) fn lose(&mut self, slot: usize, call: &'static str, errno: String) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let (state, short) = (place.state, self.job.short);
        if state == State::Closing {
            // We had asked for the end; how it comes is the server's choice.
            return self.closed(slot);
        }
        if state == State::Answered {
            self.state.reset += 1;
            self.server_closes = Some(true);
            return self.vacate(slot);
        }
        self.state.ended_after_one += u64::from(place.answered == 1);
        self.state.reset += u64::from(short && errno != "EOF");
        self.error(call, errno);
        self.state.lost += 1;
        self.abandon(slot);
        self.vacate(slot);
    }

    /// Looks for those whose time is over.
    pub(super) fn scan(&mut self, now: u64) {
        if self.waiting == 0 && self.connecting == 0 && self.busy == 0 && self.phase != Phase::Close
        {
            return;
        }
        let connect_timeout = nanos(self.job.connect_timeout);
        let mut lost = std::mem::take(&mut self.abandoned);
        for slot in 0..self.slots.len() {
            let Some(place) = self.slots.get_mut(slot) else { break };
            let age = now.saturating_sub(place.since);
            match place.state {
                State::Connecting if age > connect_timeout => {
                    self.connecting -= 1;
                    self.fail(slot, "connect", "ETIMEDOUT".to_owned());
                }
                State::Open => {
                    let freed = place.queue.expire(now, self.timeout, &mut lost);
                    if freed > 0 {
                        self.waiting -= freed;
                        self.timed_out(slot, freed, now);
                    }
                }
                State::Answered if age > CLOSING_GRACE => {
                    // A server that closes late is waited for each time; one that does not, once.
                    if self.server_closes.is_none() {
                        self.server_closes = Some(false);
                    }
                    if self.server_closes == Some(false) || age > self.timeout {
                        self.close_short(slot);
                    }
                }
                State::Closing if age > CLOSE_TIMEOUT => self.closed(slot),
                _ => {}
            }
        }
        for asked in lost.drain(..) {
            self.count_lost(asked, now);
        }
        self.abandoned = lost;
    }

    /// Requests of a connection were not answered in time, and their places are free.
    #[cold]
    pub(super) fn timed_out(&mut self, slot: usize, freed: usize, now: u64) {
        if self.job.short {
            // There is nothing else to wait for on this connection.
            self.abandon(slot);
            self.state.closed_first_by_client += 1;
            self.vacate(slot);
        } else {
            self.go_on(slot, freed, now);
        }
    }

    /// Shuts all connections down; what still comes is read until the server closes too.
    pub(super) fn close_all(&mut self, now: u64) {
        for slot in 0..self.slots.len() {
            let Some(place) = self.slots.get_mut(slot) else { return };
            match place.state {
                State::Vacant | State::Closing => {}
                State::Connecting => {
                    self.connecting -= 1;
                    if let Some(socket) = place.socket.take() {
                        self.poller.forget(sys::AsFd::as_fd(&socket));
                    }
                    place.state = State::Vacant;
                    if self.job.short {
                        self.not_sent(slot);
                    }
                }
                State::Open | State::Answered => {
                    place.state = State::Closing;
                    place.since = now;
                    let shut = place.socket.as_ref().map(|socket| socket.shutdown(Shutdown::Write));
                    if !matches!(shut, Some(Ok(()))) {
                        self.closed(slot);
                    }
                }
            }
        }
    }
}
