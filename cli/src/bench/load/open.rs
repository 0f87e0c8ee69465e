//! Opening connections.

use myriapod::proxy_protocol::header_for;
use myriapod::sys::{self, Connecting, Errno, Interest, Mode, Socket, Token};

use super::{
    BATCH, CATCH_UP, FRESH, Loader, MOST_CONNECTING, MOST_FAILURES, MOST_FRESH, State, clock,
};

impl Loader {
    pub(super) const fn ramping(&self) -> bool {
        !self.job.short && self.ramped < self.slots.len() && self.state.stopped.is_none()
    }

    pub(super) fn ramp(&mut self) {
        let now = clock();
        self.age(now);
        for _ in 0..BATCH {
            let crowded = self.fresh.len() >= MOST_FRESH || self.connecting >= MOST_CONNECTING;
            if !self.ramping() || crowded || now < self.ramp_after {
                return;
            }
            if let Some(pace) = &mut self.pace {
                if pace.next() > now {
                    return;
                }
                pace.advance();
            }
            let slot = self.ramped;
            self.ramped += 1;
            self.connect(slot);
            if let Ok(slot) = u32::try_from(slot) {
                self.fresh.push_back((slot, now));
            }
        }
    }

    /// Forgets the attempts that are over or not fresh any more.
    pub(super) fn age(&mut self, now: u64) {
        while let Some(&(slot, began)) = self.fresh.front() {
            let slot = self.slots.get(slot as usize);
            let under_way = slot.is_some_and(|slot| slot.state == State::Connecting);
            if under_way && now.saturating_sub(began) < FRESH {
                return;
            }
            if under_way {
                self.ramp_after = now + CATCH_UP;
            }
            self.fresh.pop_front();
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a job counts its connections in 32 bits")]
    pub(super) const fn id(&self, slot: usize) -> u32 {
        self.job.first.wrapping_add(slot as u32)
    }

    pub(super) const fn is_idle(&self, slot: usize) -> bool {
        slot >= self.job.connections as usize
    }

    pub(super) fn connect(&mut self, slot: usize) {
        let id = self.id(slot) as usize;
        let Some(target) = self.targets.get(id % self.targets.len().max(1)) else { return };
        let turn = id / self.targets.len().max(1);
        // Another source may have ports left where one has none.
        let tries = self.sources.len().max(1);
        for nth in 0..tries {
            let source = self.sources.get((turn + nth) % tries);
            match Socket::connect_start(target, source) {
                Ok(connecting) => return self.connect_started(slot, connecting),
                Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) && nth + 1 < tries => {}
                // A Unix socket's backlog is full, and nothing will tell when it is not.
                Err(error) if error.errno() == Some(Errno::EAGAIN) => return self.put_off(slot),
                Err(error) => return self.connect_failed(slot, &error),
            }
        }
    }

    /// Has a connection tried again in a while.
    #[cold]
    fn put_off(&mut self, slot: usize) {
        if self.job.short {
            self.not_sent(slot);
        } else {
            self.ramped = slot;
            self.ramp_after = clock() + CATCH_UP;
        }
    }

    pub(super) fn connect_started(&mut self, slot: usize, connecting: Connecting) {
        let (now, done) = (clock(), connecting.is_done());
        let socket = connecting.into_socket();
        let interest = if done { Interest::READABLE } else { Interest::WRITABLE };
        let token = Token(slot as u64);
        if let Err(error) = self.poller.add(sys::AsFd::as_fd(&socket), token, interest, Mode::LEVEL)
        {
            return self.connect_failed(slot, &error);
        }
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.socket = Some(socket);
        place.state = State::Connecting;
        place.since = now;
        self.connecting += 1;
        if done {
            self.connected(slot, now);
        }
    }

    /// An attempt that the system refused at once, or whose outcome is an error.
    #[cold]
    pub(super) fn connect_failed(&mut self, slot: usize, error: &sys::SystemError) {
        let (call, errno) = match error {
            sys::SystemError::Call { call, errno, .. } => (*call, *errno),
            _ => ("connect", Errno::EINVAL),
        };
        let exhausted = matches!(
            errno,
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EADDRNOTAVAIL
        );
        self.failures += 1;
        if (exhausted || self.failures >= MOST_FAILURES) && self.state.stopped.is_none() {
            self.state.stopped = Some(error.to_string());
        }
        self.fail(slot, call, errno.name());
    }

    #[cold]
    pub(super) fn fail(&mut self, slot: usize, call: &'static str, errno: String) {
        self.state.failed += 1;
        self.error(call, errno);
        if let Some(place) = self.slots.get_mut(slot) {
            if let Some(socket) = place.socket.take() {
                self.poller.forget(sys::AsFd::as_fd(&socket));
            }
            place.state = State::Vacant;
        }
        if self.job.short {
            self.not_sent(slot);
        }
    }

    pub(super) fn connected(&mut self, slot: usize, now: u64) {
        self.connecting -= 1;
        self.failures = 0;
        let idle = self.is_idle(slot);
        let (short, in_flight) = (self.job.short, self.job.in_flight);
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.state = State::Open;
        place.since = now;
        place.answered = 0;
        self.state.open += 1;
        self.state.opened += 1;
        if !place.counted {
            place.counted = true;
            self.state.established += 1;
            self.state.established_idle += u64::from(idle);
        }
        if idle {
            return self.send_proxy_header(slot);
        }
        self.at_work += 1;
        self.send_proxy_header(slot);
        let Some(place) = self.slots.get_mut(slot).filter(|place| place.state == State::Open)
        else {
            return;
        };
        if let Some(socket) = &place.socket {
            // Unix sockets have no such thing.
            let _ = sys::set_nodelay(socket, true);
        }
        if short {
            let due = place.due;
            self.send_one(slot, due);
        } else {
            for _ in 0..in_flight {
                self.free.extend(u32::try_from(slot));
            }
        }
    }

    /// Says whom a new connection is for, where that was asked for.
    fn send_proxy_header(&mut self, slot: usize) {
        let Some(mut client) = self.job.proxy_from else { return };
        let id = self.id(slot) as usize;
        let Some(target) = self.targets.get(id % self.targets.len().max(1)) else { return };
        let Some(socket) = self.slots.get(slot).and_then(|place| place.socket.as_ref()) else {
            return;
        };
        if client.port() == 0 {
            let own = sys::local_address(socket).ok().and_then(|address| address.port());
            client.set_port(own.unwrap_or(0));
        }
        let header = header_for(client, target);
        match socket.send(&header) {
            // A new socket has room for it.
            Ok(sent) if sent == header.len() => {}
            Ok(_) => self.lose(slot, "send", Errno::EMSGSIZE.name()),
            Err(errno) => self.lose(slot, "send", errno.name()),
        }
    }

    pub(super) fn connect_ended(&mut self, slot: usize) {
        let Some(socket) = self.slots.get(slot).and_then(|place| place.socket.as_ref()) else {
            return;
        };
        match socket.take_error() {
            Ok(()) => {
                let now = clock();
                self.watch(slot, false);
                self.connected(slot, now);
            }
            Err(errno) => {
                self.connecting -= 1;
                let id = self.id(slot) as usize;
                let target = self.targets.get(id % self.targets.len().max(1));
                let target = target.map_or_else(String::new, ToString::to_string);
                self.connect_failed(slot, &sys::SystemError::call("connect", errno, target));
            }
        }
    }
}
