//! One world: a server with tight limits, and peers of every temper.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use myriapod::protocol::EncodeError;
use myriapod::sys::sim::{Closing, Faults, RemoteListener, Rng};
use myriapod::sys::{Signal, Time};
use myriapod::{Handle, Limits, Outgoing, Overflow, Server, SocketAddr, Stats};

use crate::oracle::{self, Deeds, Moment};
use crate::peer::{Habits, Peer, Temper};
use crate::run::Life;
use crate::service::{Book, FIRST_PORT, Promise, Service};

/// Where the server listens.
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 7);

/// Virtual time within which everything outstanding must finish when nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(600);

/// Turns of a server without any progress elsewhere: more means that it spins.
const MOST_TURNS: u32 = 20_000;

/// Which of a few machines a peer is on.
pub(crate) fn host_of(peer: u32) -> u8 {
    u8::try_from(peer % 3).unwrap_or_default() + 1
}

fn address_of(peer: u32) -> SocketAddr {
    let port = FIRST_PORT + u16::try_from(peer).unwrap_or_default();
    SocketAddr::from(([10, 0, 1, host_of(peer)], port))
}

fn millis(rng: &mut Rng, first: u64, last: u64) -> Duration {
    Duration::from_millis(rng.between(first, last))
}

/// The place of a connection in its loop, whoever has it now: what its name says before the `v`.
fn place_of(id: myriapod::ConnectionId) -> String {
    let name = id.to_string();
    name.split('v').next().unwrap_or_default().to_owned()
}

/// Limits that are reached all the time.
fn tight(rng: &mut Rng) -> Limits {
    let high_water = rng.len(100, 6000);
    let max_header_len = rng.len(300, 1000);
    let max_content_len = rng.len(3000, 20_000);
    let message = 2 + max_header_len + max_content_len;
    let overflow = match rng.below(3) {
        0 => Overflow::DropNewest,
        1 => Overflow::DropOldest,
        _ => Overflow::CloseAfter(millis(rng, 50, 1000)),
    };
    let some = rng.below(4);
    Limits {
        max_header_len,
        max_content_len,
        max_connections: Some(rng.len(1, 10)),
        shed_idle: (some == 0).then(|| millis(rng, 50, 1000)),
        max_connections_per_address: rng.chance(300).then(|| rng.len(1, 4)),
        messages_per_event: rng.len(1, 8),
        high_water,
        low_water: rng.len(1, high_water - 1),
        overflow,
        max_buffer_bytes: if rng.chance(200) { message + rng.len(0, 70_000) } else { 8 << 20 },
        header_timeout: millis(rng, 50, 2000),
        content_timeout: millis(rng, 50, 2000),
        idle_timeout: millis(rng, 100, 3000),
        write_timeout: millis(rng, 50, 2000),
        linger_timeout: millis(rng, 20, 500),
        linger_bytes: u32::try_from(rng.len(1, 5000)).unwrap_or(1),
        drain_timeout: millis(rng, 100, 3000),
        accept_batch: rng.len(1, 8),
    }
}

struct Scene<'a> {
    life: &'a mut Life,
    server: Server<Service>,
    handle: Handle,
    book: Rc<RefCell<Book>>,
    limits: Limits,
    habits: Habits,
    peers: Vec<Peer>,
    /// Listeners for the connects of the server, with the peers that are behind them.
    doors: Vec<(u32, RemoteListener)>,
    /// Connects that were asked for and have not come to anything.
    connects: Vec<u64>,
    timers: Vec<(u64, Time)>,
    next_timer: u64,
    closings: Vec<Closing>,
    deeds: Deeds,
    /// The counts at the step before.
    before: Stats,
    base: usize,
    others: usize,
    by_signals: bool,
    /// Whether connections that wait for an answer are closed now and then.
    closes: bool,
    faults: Faults,
    next_push: u64,
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let mut rng = life.rng.clone();
    let limits = tight(&mut rng);
    let book = Rc::new(RefCell::new(Book::default()));
    let by_signals = rng.chance(300);
    let built = Server::builder()
        .listen("10.0.0.1", SERVER.1)
        .limits(limits.clone())
        .one_shot(false)
        .spin(Duration::from_micros(if rng.chance(100) { 20 } else { 0 }))
        .listen_options(myriapod::sys::ListenOptions {
            backlog: u32::try_from(rng.between(1, 8)).unwrap_or(1),
            ..Default::default()
        })
        .signals(if by_signals { &[Signal::Interrupt, Signal::Terminate] } else { &[] })
        .build(Service(Rc::clone(&book)));
    let mut server = built.map_err(|error| error.to_string())?;
    let closes = rng.chance(300);
    let habits = Habits {
        most_requests: *rng.pick(&[3, 12, 40]).unwrap_or(&12),
        longest_answer: *rng.pick(&[10, 500, 5000]).unwrap_or(&10),
        max_header_len: limits.max_header_len,
        max_content_len: limits.max_content_len,
        longest_padding: *rng.pick(&[0, 100, 2500]).unwrap_or(&0),
        later: if closes { 500 } else { *rng.pick(&[0, 200, 600]).unwrap_or(&0) },
        trouble: *rng.pick(&[0, 50, 200]).unwrap_or(&0),
    };
    let audit = server.event_loop().audit();
    let base = life.world.open_descriptors() - audit.entries;
    let others = audit.entries - audit.listeners;
    let faults = Faults::random(&mut rng);
    life.world.set_faults(faults.clone());
    life.rng = rng;
    let mut scene = Scene {
        handle: server.handle(),
        life,
        server,
        book,
        limits,
        habits,
        peers: Vec::new(),
        doors: Vec::new(),
        connects: Vec::new(),
        timers: Vec::new(),
        next_timer: 0,
        closings: Vec::new(),
        deeds: Deeds::default(),
        before: Stats::default(),
        base,
        others,
        by_signals,
        closes,
        faults,
        next_push: 0,
    };
    scene.play()?;
    let Scene { life, server, handle, book, .. } = scene;
    drop((server, handle, book));
    match life.world.open_descriptors() {
        0 => Ok(()),
        left => Err(format!("{left} descriptors are left of the server")),
    }
}

impl Scene<'_> {
    fn play(&mut self) -> Result<(), String> {
        let steps = *self.life.rng.pick(&[100, 400, 2000]).unwrap_or(&400);
        let most_peers = self.life.rng.len(1, 24);
        let closes = self.closes;
        // Some servers are stopped in the middle of everything.
        let stop_at = self.life.rng.chance(400).then(|| self.life.rng.between(20, steps));
        for step in 0..steps {
            self.life.step += 1;
            if Some(step) == stop_at {
                self.stop()?;
            }
            match self.life.rng.below(100) {
                0..=39 => self.turn()?,
                40..=79 => {
                    let at = self.life.rng.index(self.peers.len());
                    if let Some(peer) = self.peers.get_mut(at) {
                        peer.act(&mut self.life.rng)?;
                    }
                }
                80..=87 => {
                    let time = Duration::from_micros(self.life.rng.between(1, 2000));
                    self.life.world.pass(time);
                }
                88..=89 => {
                    let time = millis(&mut self.life.rng, 1, 800);
                    self.life.world.pass(time);
                }
                90..=94 if self.peers.len() < most_peers => self.come()?,
                _ => self.meddle(closes)?,
            }
            self.check()?;
        }
        self.conclude()?;
        self.check()?;
        self.end()
    }

    /// Another peer comes.
    fn come(&mut self) -> Result<(), String> {
        let number = u32::try_from(self.peers.len()).unwrap_or_default();
        let mut peer = Peer::new(number, &mut self.life.rng, self.habits);
        if self.life.rng.chance(150) && self.deeds.drain_began.is_none() {
            return self.invite(peer);
        }
        peer.connect(&address_of(number), &SocketAddr::from(SERVER));
        self.peers.push(peer);
        Ok(())
    }

    /// The server connects to a peer, to nobody, or to silence.
    fn invite(&mut self, peer: Peer) -> Result<(), String> {
        let number = peer.number;
        let mut address = address_of(number);
        match self.life.rng.below(4) {
            0 => {}
            1 => {
                let port = address.port().unwrap_or_default();
                address = SocketAddr::from(([192, 0, 2, 1], port));
            }
            _ => {
                let listener = RemoteListener::bind(&address, 1);
                let listener = listener.map_err(|errno| errno.to_string())?;
                self.doors.push((number, listener));
            }
        }
        let timeout = millis(&mut self.life.rng, 1, 4000);
        let asked = self.handle.connect(address, u64::from(number), timeout);
        asked.map_err(|error| error.to_string())?;
        self.connects.push(u64::from(number));
        self.peers.push(peer);
        Ok(())
    }

    /// Something that is neither a turn nor a peer's.
    fn meddle(&mut self, closes: bool) -> Result<(), String> {
        if closes && self.life.rng.chance(300) {
            return self.close_somebody_owed();
        }
        let to = self.life.rng.index(self.peers.len());
        let number = u32::try_from(to).unwrap_or_default();
        let id = self.book.borrow().seats.get(&number).map(|seat| seat.id);
        match self.life.rng.below(20) {
            0..=7 => self.keep_promise(),
            8..=10 => {
                if let Some(id) = id {
                    let push = self.push(&number.to_string())?;
                    self.tell(|handle| handle.send(id, push))?;
                }
            }
            11 => {
                let push = self.push("all")?;
                self.tell(|handle| handle.broadcast_all(push))?;
            }
            12 => {
                let push = self.push("all")?;
                self.tell(|handle| handle.broadcast("group", push))?;
            }
            13 => {
                if let Some(id) = id {
                    self.tell(|handle| handle.join(id, "group"))?;
                }
            }
            14 => {
                if let Some(id) = id {
                    self.tell(|handle| handle.leave(id, "group"))?;
                }
            }
            15 if self.by_signals && self.deeds.drain_began.is_some() => {
                // Somebody does not want to wait.
                self.deeds.hurried = true;
                self.life.world.raise(Signal::Interrupt);
            }
            16 if closes => {
                if let Some(id) = id {
                    self.deeds.closed.push(number);
                    self.tell(|handle| handle.close(id))?;
                }
            }
            17 => {
                let tag = self.next_timer;
                self.next_timer += 1;
                let after = millis(&mut self.life.rng, 0, 1000);
                let due = self.life.world.now() + after;
                if self.deeds.drain_began.is_none() {
                    self.tell(|handle| handle.timer(after, tag))?;
                    self.timers.push((tag, due));
                }
            }
            18 => {
                // Sometimes there are too few descriptors.
                let open = self.life.world.open_descriptors();
                let limit = if self.life.rng.chance(500) { open + 3 } else { 1024 };
                self.life.world.set_descriptor_limit(limit);
            }
            _ => self.open_doors(),
        }
        Ok(())
    }

    /// Closes a connection that waits for a deferred answer: the answer comes for nobody then, and
    /// its place is soon somebody else's.
    fn close_somebody_owed(&mut self) -> Result<(), String> {
        let book = self.book.borrow();
        let owed = book.seats.iter().filter(|(_, seat)| seat.owed > 0 && seat.cause.is_none());
        let owed: Vec<_> = owed.map(|(number, seat)| (*number, seat.id)).collect();
        drop(book);
        let Some((number, id)) = self.life.rng.pick(&owed).copied() else { return Ok(()) };
        self.deeds.closed.push(number);
        self.tell(|handle| handle.close(id))
    }

    fn tell(
        &self,
        tell: impl FnOnce(&Handle) -> Result<(), myriapod::HandleError>,
    ) -> Result<(), String> {
        if self.deeds.drain_began.is_some() {
            // It may be gone.
            let _ = tell(&self.handle);
            return Ok(());
        }
        tell(&self.handle).map_err(|error| error.to_string())
    }

    fn push(&mut self, to: &str) -> Result<Outgoing, String> {
        let now = self.life.world.now();
        self.deeds.first_push.get_or_insert(now);
        self.next_push += 1;
        let mut content = format!("{to} {}|", self.next_push).into_bytes();
        let padding = self.life.rng.len(0, 300);
        content.resize(content.len() + padding, b'.');
        let push: Result<_, EncodeError> = Ok(Outgoing::binary("sim/push", content));
        push.map_err(|error| error.to_string())
    }

    /// Makes one of the answers that were left for later.
    fn keep_promise(&mut self) {
        let mut book = self.book.borrow_mut();
        if book.promises.is_empty() {
            return;
        }
        let mut at = self.life.rng.index(book.promises.len());
        // An answer for a connection that is gone waits until somebody in its place waits for one.
        let is_gone = |peer| book.seats.get(&peer).is_none_or(|seat| seat.cause.is_some());
        let in_place = |promise: &Promise| {
            let place = place_of(promise.deferred.connection());
            let mut seats = book.seats.values();
            seats.any(|seat| seat.cause.is_none() && seat.owed > 0 && place_of(seat.id) == place)
        };
        let late = |promise: &Promise| is_gone(promise.peer) && in_place(promise);
        if let Some(gone) = book.promises.iter().position(late) {
            at = gone;
        } else if self.deeds.calm_since.is_none()
            && book.promises.get(at).is_some_and(|promise| is_gone(promise.peer))
        {
            return;
        }
        let promise = book.promises.swap_remove(at);
        if let Some(seat) = book.seats.get_mut(&promise.peer) {
            seat.owed = seat.owed.saturating_sub(1);
        }
        drop(book);
        // A loop that is gone has closed the connection.
        let _ = promise.deferred.send(promise.outgoing);
    }

    /// Peers take the connects of the server.
    fn open_doors(&mut self) {
        for (number, door) in &self.doors {
            if let Some(peer) = self.peers.get_mut(*number as usize)
                && peer.remote.is_none()
                && let Some(remote) = door.accept()
            {
                peer.remote = Some(remote);
            }
        }
    }

    fn stop(&mut self) -> Result<(), String> {
        if self.deeds.drain_began.is_some() {
            return Ok(());
        }
        // From now on a receive that comes short has emptied the socket, as it has on real systems:
        // so a server that stops knows that nothing is left.
        self.faults.short_read = 0;
        self.life.world.set_faults(self.faults.clone());
        if self.life.rng.chance(500) {
            // Sockets often hold requests at that moment.
            for peer in self.peers.iter_mut().filter(|peer| peer.temper != Temper::Dribbling) {
                peer.send(usize::MAX);
            }
            self.life.world.pass(Duration::from_millis(1));
        }
        self.peers.iter_mut().for_each(Peer::note_stop);
        self.deeds.drain_began = Some(self.life.world.now());
        if self.by_signals {
            self.life.world.raise(Signal::Terminate);
            return Ok(());
        }
        self.handle.shutdown().map_err(|error| error.to_string())
    }

    /// One turn of the server.
    fn turn(&mut self) -> Result<(), String> {
        let waits = self.life.rng.chance(200);
        let timeout = if waits { millis(&mut self.life.rng, 0, 100) } else { Duration::ZERO };
        let turn = self.server.event_loop().run_once(Some(timeout));
        turn.map(drop).map_err(|error| error.to_string())
    }

    /// Holds what is seen against what must be.
    fn check(&mut self) -> Result<(), String> {
        let closings = self.life.world.take_closings();
        let stats = self.server.stats();
        let audit = self.server.event_loop().audit();
        let watched = self.watched();
        let book = self.book.borrow();
        let moment = self.moment(&stats, &audit, &book, watched);
        oracle::at_every_step(&moment)?;
        oracle::at_growth(&self.before, self.connects.len(), &moment, &self.deeds)?;
        for closing in &closings {
            oracle::at_close(&moment, closing, &self.deeds)?;
        }
        self.life.messages = stats.messages + stats.replies + stats.pushes;
        drop(book);
        self.before = stats;
        self.closings.extend(closings);
        let mut book = self.book.borrow_mut();
        for (tag, at) in book.timers.drain(..) {
            let Some(place) = self.timers.iter().position(|(known, _)| *known == tag) else {
                return Err(format!("timer {tag} fired, and nobody had set it"));
            };
            let (_, due) = self.timers.swap_remove(place);
            if at < due {
                return Err(format!("timer {tag} was early: {at:?} before {due:?}"));
            }
        }
        for tag in book.failed_connects.drain(..) {
            self.connects.retain(|known| *known != tag);
        }
        let arrived =
            |tag: &u64| u32::try_from(*tag).is_ok_and(|tag| book.seats.contains_key(&tag));
        self.connects.retain(|tag| !arrived(tag));
        Ok(())
    }

    fn moment<'a>(
        &'a self,
        stats: &'a myriapod::Stats,
        audit: &'a myriapod::Audit,
        book: &'a Book,
        watched: usize,
    ) -> Moment<'a> {
        Moment {
            limits: &self.limits,
            max_connections: self.limits.max_connections.unwrap_or(usize::MAX),
            longest_answer: self.habits.longest_answer.max(self.habits.longest_padding + 100),
            stats,
            audit,
            book,
            peers: &self.peers,
            world: &self.life.world,
            watched,
            base: self.base,
            others: self.others,
        }
    }

    /// Nothing goes wrong any more: everything must come to its end, and soon.
    fn conclude(&mut self) -> Result<(), String> {
        self.faults = Faults::none();
        self.life.world.set_faults(Faults::none());
        self.life.world.set_descriptor_limit(1024);
        self.deeds.calm_since = Some(self.life.world.now());
        let deadline = self.life.world.now() + PATIENCE;
        let (mut turns, mut rounds) = (0, 0);
        loop {
            self.life.step += 1;
            let mut moved = !self.book.borrow().promises.is_empty();
            self.keep_promise();
            self.open_doors();
            for peer in &mut self.peers {
                moved |= peer.conclude()?;
            }
            self.let_mutes_go();
            let over = self.server.event_loop().is_finished();
            if over {
                // Those of a loop that stops do not fire.
                self.timers.clear();
            }
            let waits = if over { None } else { self.server.event_loop().timeout() };
            let ready = !over && self.has_ready();
            if ready || waits == Some(Duration::ZERO) {
                self.turn()?;
                turns += 1;
                if turns > MOST_TURNS {
                    return Err(format!(
                        "the server spins: ready {ready}, timeout {waits:?}, {:?}, {}",
                        self.server.event_loop().audit(),
                        self.what_is_left()
                    ));
                }
                self.check()?;
            } else if !moved {
                if self.is_quiet() && waits.is_none() {
                    return Ok(());
                }
                let now = self.life.world.now();
                let next = self.life.world.next_happening();
                let next = next.into_iter().chain(waits.map(|waits| now + waits)).min();
                let Some(next) = next else {
                    // What a call brought about while it ran is seen in another round.
                    rounds += 1;
                    if rounds > 3 {
                        return Err(self.what_is_left());
                    }
                    continue;
                };
                rounds = 0;
                self.life.world.pass(next.saturating_since(now).max(Duration::from_nanos(1)));
            }
            if moved {
                turns = 0;
            }
            if self.life.world.now() > deadline {
                return Err(self.what_is_left());
            }
        }
    }

    fn has_ready(&mut self) -> bool {
        let event_loop = self.server.event_loop();
        let poller = event_loop.as_fd();
        poller.is_some_and(|poller| self.life.world.has_ready(poller))
    }

    fn watched(&mut self) -> usize {
        let poller = self.server.event_loop().as_fd();
        poller.map_or(0, |poller| self.life.world.watched(poller))
    }

    /// Peers that never read see no end: they go when the server has closed.
    fn let_mutes_go(&mut self) {
        let book = self.book.borrow();
        for peer in &mut self.peers {
            let Some(remote) = &peer.remote else { continue };
            let over = match book.seats.get(&peer.number) {
                Some(seat) => seat.cause.is_some(),
                None => !remote.is_connecting() && remote.is_ended(),
            };
            if peer.temper == Temper::Mute && over {
                peer.remote = None;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let stats = self.server.stats();
        stats.open == 0
            && self.connects.is_empty()
            && self.timers.is_empty()
            && self.peers.iter().all(Peer::is_done)
    }

    fn what_is_left(&self) -> String {
        let open = self.server.stats().open;
        let book = self.book.borrow();
        let left = self.peers.iter().filter(|peer| !peer.is_done());
        let left: Vec<String> = left
            .map(|peer| {
                let seat = book.seats.get(&peer.number);
                format!(
                    "peer {} ({:?}) owed {} sent all {} seat {:?} remote {:?}",
                    peer.number,
                    peer.temper,
                    peer.owed(),
                    peer.has_sent_all(),
                    seat.map(|seat| (seat.cause, seat.owed, seat.handled)),
                    peer.remote.as_ref().map(|remote| (
                        remote.is_connecting(),
                        remote.is_accepted(),
                        remote.unread(),
                        remote.unreceived()
                    )),
                )
            })
            .collect();
        format!(
            "not finished: {open} open, connects {:?}, timers {:?}, {}",
            self.connects,
            self.timers,
            left.join("; ")
        )
    }

    /// Everybody is gone: nothing may be left. Then the server is stopped, if it was not.
    fn end(&mut self) -> Result<(), String> {
        {
            let watched = self.watched();
            let book = self.book.borrow();
            for peer in &self.peers {
                oracle::at_end(peer, &book, &self.closings, &self.deeds)?;
            }
            let (stats, audit) = (self.server.stats(), self.server.event_loop().audit());
            oracle::at_rest(&self.moment(&stats, &audit, &book, watched))?;
        }
        self.stop()?;
        for _ in 0..100 {
            if self.server.event_loop().is_finished() {
                break;
            }
            self.turn()?;
            self.life.world.pass(Duration::from_millis(50));
        }
        if !self.server.event_loop().is_finished() {
            return Err("a server without connections does not end".to_owned());
        }
        self.check()
    }
}
