//! One world: a server with tight limits, and peers of every temper.

mod conclude;
mod limits;
pub(crate) mod meddle;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use myriapod::protocol::Framing;
use myriapod::sys::sim::{Closing, Faults, Remote, RemoteListener, Rng};
use myriapod::sys::{Signal, Time};
use myriapod::{Cause, Error, Handle, HandleError, Limits, Server, SocketAddr, Stats};

use crate::framing::FramingKind;
use crate::oracle::{self, Deeds, Moment};
use crate::peer::{Habits, Peer};
use crate::run::Life;
use crate::service::{Book, FIRST_PORT, Service, peer_at};

/// Where the server listens: a port that tells Wireshark what is spoken. Port 7 is that of echoes.
fn server_at(framing: FramingKind) -> SocketAddr {
    let port = match framing {
        FramingKind::JsonHeader => 65432,
        FramingKind::Padded => 5050,
        FramingKind::Raw => 7,
    };
    SocketAddr::from(([10, 0, 0, 1], port))
}

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

struct Scene<'a> {
    life: &'a mut Life,
    server: Server<Service, Box<dyn Framing<Stream = ()>>>,
    handle: Handle,
    book: Rc<RefCell<Book>>,
    /// The newest limits, all that there ever were, and which are the first that may be in force.
    limits: Limits,
    ever: Vec<Limits>,
    in_force: usize,
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
    /// Sockets that were given to the server and that it has not looked at, and those that it took in
    /// its last turn.
    given: usize,
    adopted: usize,
    /// Whether it is to let peers in, and whether it has heard that it is not.
    accepts: bool,
    is_shut: bool,
    /// Peers that were asked to be closed at once.
    cutting: Vec<u32>,
    /// Whether the server's limits change now and then.
    relimits: bool,
    /// How often the process may be stopped for a while.
    pauses: u32,
    /// It was asked for something and could not be woken.
    unwoken: bool,
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let mut rng = life.rng.clone();
    let limits = limits::tight(&mut rng);
    let framing = FramingKind::random(&mut rng);
    let book = Rc::new(RefCell::new(Book::default()));
    let by_signals = rng.chance(300);
    let built = Server::builder()
        .listen("10.0.0.1", server_at(framing).port().unwrap_or_default())
        .limits(limits.clone())
        .one_shot(false)
        .spin(Duration::from_micros(if rng.chance(100) { 20 } else { 0 }))
        .listen_options(myriapod::sys::ListenOptions {
            backlog: u32::try_from(rng.between(1, 8)).unwrap_or(1),
            ..Default::default()
        })
        .signals(if by_signals { &[Signal::Interrupt, Signal::Terminate] } else { &[] })
        .build_with(
            framing.framing(&limits),
            Service { book: Rc::clone(&book), framing, sets_timers: rng.chance(500) },
        );
    let mut server = built.map_err(|error| error.to_string())?;
    let closes = rng.chance(300);
    let habits = Habits {
        framing,
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
    let relimits = rng.chance(300);
    let pauses = if rng.chance(300) { 5 } else { 0 };
    life.world.set_faults(faults.clone());
    life.rng = rng;
    let mut scene = Scene {
        handle: server.handle(),
        life,
        server,
        book,
        ever: vec![limits.clone()],
        limits,
        in_force: 0,
        habits,
        peers: Vec::new(),
        doors: Vec::new(),
        connects: Vec::new(),
        timers: Vec::new(),
        next_timer: 0,
        closings: Vec::new(),
        deeds: Deeds { hears_all: faults.delayed == 0, ..Deeds::default() },
        before: Stats::default(),
        base,
        others,
        by_signals,
        closes,
        faults,
        next_push: 0,
        given: 0,
        adopted: 0,
        accepts: true,
        is_shut: false,
        cutting: Vec::new(),
        relimits,
        pauses,
        unwoken: false,
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
        let most_peers = self.life.cut.peers_of(most_peers);
        let closes = self.closes;
        // Some servers are stopped in the middle of everything.
        let stop_at = self.life.rng.chance(500).then(|| self.life.rng.between(20, steps));
        for step in 0..steps {
            self.life.step += 1;
            if Some(step) == stop_at {
                if self.life.rng.chance(800) {
                    self.rush()?;
                }
                self.stop()?;
            }
            // Answers come before the time for a stop is over.
            if self.deeds.drain_began.is_some() && self.life.rng.chance(200) {
                self.keep_promise();
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
    pub(super) fn come(&mut self) -> Result<(), String> {
        let number = u32::try_from(self.peers.len()).unwrap_or_default();
        let mut peer = Peer::new(number, &mut self.life.rng, self.habits);
        if self.habits.framing == FramingKind::Raw {
            self.book.borrow_mut().wires.insert(number, peer.wire().to_vec());
        }
        if self.life.rng.chance(150) && self.deeds.drain_began.is_none() {
            return self.invite(peer);
        }
        if self.life.rng.chance(100) {
            return self.bring(peer);
        }
        peer.connect(&address_of(number), &server_at(self.habits.framing));
        self.peers.push(peer);
        Ok(())
    }

    /// The server is given the socket of a peer who is connected already.
    fn bring(&mut self, mut peer: Peer) -> Result<(), String> {
        let from = address_of(peer.number);
        // Where there is no descriptor for it, nobody comes.
        if let Ok((remote, socket)) = Remote::connected(&from, &server_at(self.habits.framing)) {
            peer.remote = Some(remote);
            self.given += 1;
            match self.handle.adopt(socket) {
                Err(Error::Handle(HandleError::Gone)) => self.given -= 1,
                Err(Error::Handle(error)) => self.tell(|_| Err(error))?,
                given => given.map_err(|error| error.to_string())?,
            }
        }
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
        self.tell(|handle| handle.connect(address, u64::from(number), timeout))?;
        self.connects.push(u64::from(number));
        self.peers.push(peer);
        Ok(())
    }

    /// One turn of the server.
    fn turn(&mut self) -> Result<(), String> {
        let waits = self.life.rng.chance(200);
        let timeout = if waits { millis(&mut self.life.rng, 0, 100) } else { Duration::ZERO };
        let turn = self.server.event_loop().run_once(Some(timeout));
        turn.map_err(|error| error.to_string())?;
        // What it could not be woken for, it sees in its next turn, whatever that is for.
        let unheard = self.server.event_loop().audit().unheard;
        if unheard == 0 {
            self.adopted += std::mem::take(&mut self.given);
        }
        if std::mem::take(&mut self.unwoken) && unheard > 0 {
            return Err(format!("{unheard} things were asked for, and a turn did not look"));
        }
        Ok(())
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
        self.note_heard(audit.unheard)?;
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

    /// What the server was asked for before its last turn, it has done, if it has heard of it.
    fn note_heard(&mut self, unheard: usize) -> Result<(), String> {
        self.adopted = 0;
        if unheard > 0 {
            return Ok(());
        }
        self.in_force = self.ever.len() - 1;
        self.is_shut = !self.accepts;
        let book = self.book.borrow();
        for number in self.cutting.drain(..) {
            let cause = book.seats.get(&number).and_then(|seat| seat.cause);
            let mut closings = self.closings.iter();
            let is_closed = closings.any(|closing| peer_at(&closing.peer) == number);
            if cause.is_none() || cause == Some(Cause::Handler) && !is_closed {
                return Err(format!("peer {number} was to be closed at once: {cause:?}"));
            }
        }
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
            ever: &self.ever,
            in_force: self.ever.get(self.in_force..).unwrap_or_default(),
            adopted: self.adopted,
            given: self.given,
            is_shut: self.is_shut,
            asked_for: self.timers.len() + self.connects.len(),
            longest_answer: self.habits.longest_answer_at_once(),
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

    fn watched(&mut self) -> usize {
        let poller = self.server.event_loop().as_fd();
        poller.map_or(0, |poller| self.life.world.watched(poller))
    }
}
