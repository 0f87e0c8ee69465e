//! How connections end: who closes, what is lost by it, and what takes too long.

use myriapod::sys::Shutdown;

use super::{CLOSE_TIMEOUT, CLOSING_GRACE, Loader, State, clock, nanos};
use crate::connection::Fate;
use crate::job::{Kind, Phase};

impl Loader {
    /// Opens one short connection before the run, to learn who closes: all of them would wait for
    /// the server's close otherwise until the first had waited in vain.
    pub(super) fn probe(&mut self) {
        if self.due.budget > 0
            && let Some(slot) = self.next_free()
        {
            self.open_short(slot, clock());
        }
    }

    /// A short connection has its answer. Who closes it?
    pub(super) fn answered(&mut self, slot: usize, now: u64) {
        let Some(place) = self.places.get_mut(slot) else { return };
        place.state = State::Answered;
        place.since = now;
        if self.server_closes == Some(false) {
            self.close_short(slot);
        }
    }

    /// Closes a short connection that the server keeps open.
    fn close_short(&mut self, slot: usize) {
        if self.seal.is_some() {
            return self.close_short_sealed(slot);
        }
        let Some(place) = self.places.get_mut(slot) else { return };
        let mut byte = [0];
        match place.socket.as_ref().map(|socket| socket.recv(&mut byte)) {
            // It has closed in this moment.
            Some(Ok(0)) => return self.ended_by_server(slot),
            // Not asked for.
            Some(Ok(_)) => self.tally.fate(Fate::Duplicate, 0),
            _ => {}
        }
        self.tally.state.closed_first_by_client += 1;
        self.vacate(slot);
    }

    /// The same through TLS, where tickets may have come, and the server's last word.
    fn close_short_sealed(&mut self, slot: usize) {
        let Some(place) = self.places.get(slot) else { return };
        match place.socket.as_ref().map(|socket| socket.recv(&mut self.buffers.received)) {
            Some(Ok(0)) => return self.ended_by_server(slot),
            Some(Ok(received)) => self.receive_sealed(slot, received, clock()),
            _ => {}
        }
        if !self.places.is(slot, State::Vacant) {
            self.tally.state.closed_first_by_client += 1;
            self.vacate(slot);
        }
    }

    /// A connection is over; a short one's place is free again.
    pub(super) fn vacate(&mut self, slot: usize) {
        let active = self.kind(slot) == Kind::Active;
        self.say_last_word(slot);
        let Some(place) = self.places.get_mut(slot) else { return };
        place.state = State::Vacant;
        place.wire = None;
        place.partial = Vec::new();
        place.rest = Vec::new();
        if let Some(socket) = place.socket.take() {
            self.net.close(socket);
        }
        self.places.at_work -= usize::from(active);
        self.tally.state.open -= 1;
        if self.job.short && active {
            self.places.busy -= 1;
            self.due.add_places(slot, 1);
        }
    }

    pub(super) fn ended_by_server(&mut self, slot: usize) {
        let Some(place) = self.places.get_mut(slot) else { return };
        match place.state {
            State::Answered => {
                self.server_closes = Some(true);
                self.tally.state.closed_first_by_server += 1;
                self.vacate(slot);
            }
            State::Closing => self.closed(slot),
            _ => self.lose(slot, "recv", "EOF".to_owned()),
        }
    }

    /// The end of a connection that we had shut down.
    fn closed(&mut self, slot: usize) {
        self.abandon(slot, true);
        self.vacate(slot);
    }

    /// All that was asked on a connection and will not be answered is lost; but where bytes came that
    /// are no start of a reply, the first has a wrong one. At the end, the start of an answer that
    /// nobody has asked for is told too.
    fn abandon(&mut self, slot: usize, at_end: bool) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let untouched = place.answered == 0;
        let (waiting, partial) = (place.queue.waiting(), std::mem::take(&mut place.partial));
        let (mut asked, now) = (place.queue.abandon(), clock());
        self.places.waiting -= waiting;
        if !partial.is_empty() {
            if untouched && self.tally.state.messages.ok == 0 {
                let known = &mut self.tally.state.stranger;
                *known = known.take().or_else(|| self.messages.stranger(&partial));
            }
            let wrong = if self.messages.may_begin(&partial) { None } else { asked.next() };
            if let Some(asked) = wrong {
                self.tally.fate(Fate::Wrong(asked), now);
            } else if at_end && waiting == 0 {
                self.tally.fate(Fate::Duplicate, now);
            }
        }
        for asked in asked {
            self.tally.lost(asked, now);
        }
    }

    /// A connection has ended too early.
    #[cold]
    pub(super) fn lose(&mut self, slot: usize, call: &'static str, errno: String) {
        let slow = self.kind(slot) == Kind::Slow;
        let Some(place) = self.places.get_mut(slot) else { return };
        let (state, short) = (place.state, self.job.short);
        if state == State::Closing {
            // We had asked for the end; how it comes is the server's choice.
            return self.closed(slot);
        }
        if slow {
            // That is what a server may do with them.
            self.tally.state.slow_closed += 1;
            return self.vacate(slot);
        }
        if state == State::Answered {
            self.tally.state.reset += 1;
            self.server_closes = Some(true);
            return self.vacate(slot);
        }
        self.tally.state.ended_after_one += u64::from(place.answered == 1);
        self.tally.state.reset += u64::from(short && errno != "EOF");
        self.tally.state.lost += 1;
        self.tally.error(self.phase, call, errno);
        self.abandon(slot, false);
        self.vacate(slot);
    }

    /// Looks for those whose time is over.
    pub(super) fn scan(&mut self, now: u64) {
        let nobody = self.places.waiting == 0
            && self.opening.connecting == 0
            && self.places.busy == 0
            && self.phase != Phase::Close;
        if nobody {
            return;
        }
        let (timeout, connect_timeout) = (self.timeout(), nanos(self.job.connect_timeout));
        let mut lost = std::mem::take(&mut self.buffers.abandoned);
        for slot in 0..self.places.len() {
            let Some(place) = self.places.get_mut(slot) else { break };
            let age = now.saturating_sub(place.since);
            match place.state {
                State::Connecting | State::Shaking if age > connect_timeout => {
                    let call = if place.state == State::Shaking { "handshake" } else { "connect" };
                    self.opening.connecting -= 1;
                    self.fail(slot, call, "ETIMEDOUT".to_owned());
                }
                State::Open => {
                    let freed = place.queue.expire(now, timeout, &mut lost);
                    if freed > 0 {
                        self.places.waiting -= freed;
                        self.timed_out(slot, freed, now);
                    }
                }
                State::Answered if age > CLOSING_GRACE => {
                    // A server that closes late is waited for each time; one that does not, once.
                    if self.server_closes.is_none() {
                        self.server_closes = Some(false);
                    }
                    if self.server_closes == Some(false) || age > timeout {
                        self.close_short(slot);
                    }
                }
                State::Closing if age > CLOSE_TIMEOUT => self.closed(slot),
                _ => {}
            }
        }
        for asked in lost.drain(..) {
            self.tally.lost(asked, now);
        }
        self.buffers.abandoned = lost;
    }

    /// Requests of a connection were not answered in time, and their places are free.
    #[cold]
    fn timed_out(&mut self, slot: usize, freed: usize, now: u64) {
        if self.job.short {
            // There is nothing else to wait for on this connection.
            self.abandon(slot, false);
            self.tally.state.closed_first_by_client += 1;
            self.vacate(slot);
        } else {
            self.go_on(slot, freed, now);
        }
    }

    /// Closes all connections at once, and has them all opened again: each sends one request.
    pub(super) fn storm(&mut self) {
        for slot in 0..self.places.len() {
            let open = self.places.is(slot, State::Open);
            if open && self.kind(slot) == Kind::Active {
                self.abandon(slot, false);
                self.vacate(slot);
            }
        }
        self.due.clear_places();
        self.opening.again();
    }

    /// Shuts all connections down; what still comes is read until the server closes too.
    pub(super) fn close_all(&mut self, now: u64) {
        for slot in 0..self.places.len() {
            let slow = self.kind(slot) == Kind::Slow;
            let Some(place) = self.places.get_mut(slot) else { return };
            match place.state {
                State::Vacant | State::Closing => {}
                // Nothing would tell of its end.
                State::Open if slow => self.vacate(slot),
                State::Connecting | State::Shaking => {
                    self.opening.connecting -= 1;
                    place.state = State::Vacant;
                    place.wire = None;
                    if let Some(socket) = place.socket.take() {
                        self.net.close(socket);
                    }
                    if self.job.short {
                        self.not_sent(slot);
                    }
                }
                State::Open | State::Answered => {
                    place.state = State::Closing;
                    place.since = now;
                    self.say_last_word(slot);
                    let Some(place) = self.places.get(slot) else { return };
                    let shut = place.socket.as_ref().map(|socket| socket.shutdown(Shutdown::Write));
                    if !matches!(shut, Some(Ok(()))) {
                        self.closed(slot);
                    }
                }
            }
        }
    }
}
