//! Opening connections.

use myriapod::proxy_protocol::header_for;
use myriapod::sys::{self, Connecting, Errno, Interest};

use super::opening::CATCH_UP;
use super::{BATCH, Loader, State, clock};
use crate::job::{Kind, Phase};

impl Loader {
    /// Whether connections are being opened, and some are left.
    pub(super) const fn ramping(&self) -> bool {
        matches!(self.phase, Phase::Ramp | Phase::Storm)
            && !self.job.short
            && self.opening.ramped < self.places.len()
            && self.tally.state.stopped.is_none()
    }

    pub(super) fn ramp(&mut self) {
        let now = clock();
        let places = &self.places;
        self.opening
            .age(now, |slot| places.is(slot, State::Connecting) || places.is(slot, State::Shaking));
        for _ in 0..BATCH {
            if !self.ramping() {
                return;
            }
            let Some(slot) = self.opening.next(now) else { return };
            // In a storm, some have not been closed.
            if self.places.is(slot, State::Vacant) {
                self.connect(slot);
                self.opening.began(slot, now);
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a job counts its connections in 32 bits")]
    pub(super) const fn id(&self, slot: usize) -> u32 {
        self.job.first.wrapping_add(slot as u32)
    }

    pub(super) fn kind(&self, slot: usize) -> Kind {
        self.job.kind(slot)
    }

    pub(super) fn connect(&mut self, slot: usize) {
        match self.net.connect(self.id(slot)) {
            Ok(connecting) => self.connect_started(slot, connecting),
            // A Unix socket's backlog is full, and nothing will tell when it is not.
            Err(error) if error.errno() == Some(Errno::EAGAIN) => self.put_off(slot),
            Err(error) => self.connect_failed(slot, &error),
        }
    }

    /// Has a connection tried again in a while.
    #[cold]
    fn put_off(&mut self, slot: usize) {
        if self.job.short {
            self.not_sent(slot);
        } else {
            self.opening.ramped = slot;
            self.opening.not_before = clock() + CATCH_UP;
        }
    }

    fn connect_started(&mut self, slot: usize, connecting: Connecting) {
        let (now, done) = (clock(), connecting.is_done());
        let socket = connecting.into_socket();
        if let Err(error) = self.net.add(&socket, slot, done) {
            return self.connect_failed(slot, &error);
        }
        let Some(place) = self.places.get_mut(slot) else { return };
        place.socket = Some(socket);
        place.state = State::Connecting;
        place.since = now;
        self.opening.connecting += 1;
        if done {
            self.connected(slot, now);
        }
    }

    /// An attempt that the system refused at once, or whose outcome is an error.
    #[cold]
    fn connect_failed(&mut self, slot: usize, error: &sys::SystemError) {
        let (call, errno) = match error {
            sys::SystemError::Call { call, errno, .. } => (*call, *errno),
            _ => ("connect", Errno::EINVAL),
        };
        if self.kind(slot) == Kind::Slow {
            return self.fail(slot, call, errno.name());
        }
        let exhausted = matches!(
            errno,
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EADDRNOTAVAIL
        );
        let hopeless = self.opening.failed();
        if (exhausted || hopeless) && self.tally.state.stopped.is_none() {
            self.tally.state.stopped = Some(error.to_string());
        }
        self.fail(slot, call, errno.name());
    }

    #[cold]
    pub(super) fn fail(&mut self, slot: usize, call: &'static str, errno: String) {
        if self.kind(slot) == Kind::Slow {
            // It comes back.
            self.tally.state.slow_closed += 1;
        } else {
            self.tally.state.failed += 1;
            self.tally.error(self.phase, call, errno);
        }
        if let Some(place) = self.places.get_mut(slot) {
            place.state = State::Vacant;
            place.wire = None;
            if let Some(socket) = place.socket.take() {
                self.net.close(socket);
            }
        }
        if self.job.short {
            self.not_sent(slot);
        }
    }

    /// The socket is connected.
    fn connected(&mut self, slot: usize, now: u64) {
        if self.seal.is_some() {
            self.begin_handshake(slot);
        } else {
            self.open(slot, now);
            self.begin(slot, now);
        }
    }

    /// The connection is one, and counts from now on.
    pub(super) fn open(&mut self, slot: usize, now: u64) {
        self.opening.succeeded();
        let kind = self.kind(slot);
        let Some(place) = self.places.get_mut(slot) else { return };
        place.state = State::Open;
        place.since = now;
        place.answered = 0;
        let state = &mut self.tally.state;
        state.open += 1;
        state.opened += 1;
        if !place.counted && kind != Kind::Slow {
            place.counted = true;
            state.established += 1;
            state.established_idle += u64::from(kind == Kind::Idle);
        }
        if let (Kind::Active, Some(socket)) = (kind, &place.socket) {
            // Unix sockets have no such thing.
            let _ = sys::set_nodelay(socket, true);
        }
        self.places.at_work += usize::from(kind == Kind::Active);
    }

    /// Begins with what a connection is there for.
    pub(super) fn begin(&mut self, slot: usize, now: u64) {
        if self.seal.is_none()
            && let Err(errno) = self.send_proxy_header(slot)
        {
            return self.lose(slot, "send", errno);
        }
        let Some(place) = self.places.get(slot) else { return };
        let due = place.due;
        match self.kind(slot) {
            Kind::Idle => return,
            Kind::Slow => return self.begin_slow(slot),
            Kind::Active => {}
        }
        if self.phase == Phase::Storm {
            self.send(slot, 1, self.began, now);
        } else if self.job.short {
            self.send_one(slot, due);
        } else {
            self.due.add_places(slot, self.job.in_flight as usize);
        }
    }

    /// Says whom a new connection is for, where that was asked for. Or the errno why it could not.
    pub(super) fn send_proxy_header(&self, slot: usize) -> Result<(), String> {
        let Some(mut client) = self.job.proxy_from else { return Ok(()) };
        let Some(target) = self.net.target(self.id(slot)) else { return Ok(()) };
        let Some(socket) = self.places.get(slot).and_then(|place| place.socket.as_ref()) else {
            return Ok(());
        };
        if client.port() == 0 {
            let own = sys::local_address(socket).ok().and_then(|address| address.port());
            client.set_port(own.unwrap_or(0));
        }
        let header = header_for(client, target);
        match socket.send(&header) {
            // A new socket has room for it.
            Ok(sent) if sent == header.len() => Ok(()),
            Ok(_) => Err(Errno::EMSGSIZE.name()),
            Err(errno) => Err(errno.name()),
        }
    }

    pub(super) fn connect_ended(&mut self, slot: usize) {
        let Some(socket) = self.places.get(slot).and_then(|place| place.socket.as_ref()) else {
            return;
        };
        match socket.take_error() {
            Ok(()) => {
                let now = clock();
                self.watch(slot, Interest::READABLE);
                self.connected(slot, now);
            }
            Err(errno) => {
                self.opening.connecting -= 1;
                let target = self.net.target(self.id(slot));
                let target = target.map_or_else(String::new, ToString::to_string);
                self.connect_failed(slot, &sys::SystemError::call("connect", errno, target));
            }
        }
    }

    /// Has more connections opened from the next ramp on, up to so many.
    pub(super) fn grow(&mut self, connections: u32) {
        self.job.connections = connections.max(self.job.connections);
        self.job.all = self.job.connections;
        self.places.grow(self.job.slots());
    }

    /// From now on, each connection has so many places for messages.
    pub(super) fn set_in_flight(&mut self, in_flight: u32) {
        self.job.in_flight = in_flight;
        self.due.clear_places();
        for slot in 0..self.places.len() {
            if self.kind(slot) == Kind::Active && self.places.is(slot, State::Open) {
                self.due.add_places(slot, in_flight as usize);
            }
        }
    }
}
