//! [`Trial`]: a handler and a framing of your own, and peers that know what they must hear.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use myriapod::protocol::Framing;
use myriapod::sys::sim::{Faults, Remote, Rng, World, mix};
use myriapod::{Handler, Limits, Server, SocketAddr};

use crate::cut::{Cut, shrink};

/// Where the server of a trial listens, and where its peers are.
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 65432);
const FIRST_PORT: u16 = 40_000;

/// Peers of one world, and steps of one.
const MOST_PEERS: usize = 8;
const STEPS: [u64; 3] = [50, 200, 800];

/// Rounds in which everything must have come to its end once nothing goes wrong any more.
const LAST_ROUNDS: u32 = 20_000;

/// How a peer's conversation stands when it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It goes on.
    Open,
    /// The server has heard all that the peer says, and nothing more will come.
    Whole,
    /// The peer has left or was reset, so anything may be missing at the end.
    Cut,
}

/// What you bring: a server, what its peers say, and what they must hear.
pub trait Trial {
    /// The server's framing.
    type Framing: Framing + 'static;
    /// The server's handler.
    type Handler: Handler;
    /// What a peer remembers of its conversation.
    type Peer;

    /// A server for one world.
    fn server(&mut self, rng: &mut Rng) -> (Self::Framing, Self::Handler);

    /// Limits of the server; the default ones are good for most.
    fn limits(&mut self, _rng: &mut Rng) -> Limits {
        Limits::default()
    }

    /// The `number`th peer: what it remembers, and all bytes that it will ever say. How they are cut
    /// into packets is the world's choice.
    fn peer(&mut self, number: usize, rng: &mut Rng) -> (Self::Peer, Vec<u8>);

    /// Judges what a peer has heard so far, from its begin; `said` are the bytes of it that the
    /// network has taken.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    fn heard(
        &mut self,
        peer: &mut Self::Peer,
        said: &[u8],
        heard: &[u8],
        ending: Ending,
    ) -> Result<(), String>;

    /// Judges the server after each of its turns.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    fn server_is_well(&mut self, _handler: &mut Self::Handler) -> Result<(), String> {
        Ok(())
    }
}

/// The first seed that failed, made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub what: String,
    /// With what it still fails in the same way; nothing else is needed for it.
    pub smaller: Cut,
    /// What was wrong then.
    pub what_smaller: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed={}: {}", self.seed, self.what)?;
        if self.smaller.is_none() {
            return Ok(());
        }
        write!(f, "\n    smaller:{}: {}", self.smaller, self.what_smaller)
    }
}

/// Lives through the worlds of `seeds`, until one fails. `trial` makes a new one for each.
///
/// # Errors
///
/// The first seed that failed.
pub fn check<T: Trial>(
    seeds: impl IntoIterator<Item = u64>,
    trial: impl Fn() -> T,
) -> Result<u64, Failure> {
    let mut lived = 0;
    for seed in seeds {
        let Err(what) = live(seed, &Cut::default(), &mut trial()) else {
            lived += 1;
            continue;
        };
        let mut what_smaller = what.clone();
        let smaller = shrink(&what, |cut| live(seed, cut, &mut trial()).err());
        if let Err(what) = live(seed, &smaller, &mut trial()) {
            what_smaller = what;
        }
        return Err(Failure { seed, what, smaller, what_smaller });
    }
    Ok(lived)
}

/// Lives through one world: the same seed and cut are the same world.
///
/// # Errors
///
/// What was wrong; a panic of the trial too.
pub fn live<T: Trial>(seed: u64, cut: &Cut, trial: &mut T) -> Result<(), String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let world = World::enter(seed, Faults::none());
        cut.apply(&world);
        Scene::new(world, Rng::new(mix(seed)), cut, trial)?.play()
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("of no text")))
    })
}

/// A peer on the network.
struct Peer<P> {
    memory: P,
    remote: Option<Remote>,
    says: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    /// It is gone before its time, or was cut off.
    cut: bool,
    /// Its end of the stream, and the server's.
    finished: bool,
    ended: bool,
}

struct Scene<'a, T: Trial> {
    rng: Rng,
    trial: &'a mut T,
    server: Server<T::Handler, T::Framing>,
    peers: Vec<Peer<T::Peer>>,
    most_peers: usize,
    // Last: whatever lives in the world goes before it, also where a world fails.
    world: World,
}

impl<'a, T: Trial> Scene<'a, T> {
    fn new(world: World, mut rng: Rng, cut: &Cut, trial: &'a mut T) -> Result<Self, String> {
        let (framing, handler) = trial.server(&mut rng);
        let limits = trial.limits(&mut rng);
        let built = Server::builder()
            .listen("10.0.0.1", SERVER.1)
            .limits(limits)
            .build_with(framing, handler);
        let server = built.map_err(|error| error.to_string())?;
        let most_peers = cut.peers_of(rng.len(1, MOST_PEERS));
        world.set_faults(Faults::random(&mut rng));
        Ok(Self { world, rng, trial, server, peers: Vec::new(), most_peers })
    }

    fn play(mut self) -> Result<(), String> {
        let steps = self.rng.pick(&STEPS).copied().unwrap_or(50);
        for _ in 0..steps {
            match self.rng.below(100) {
                0..=39 => self.turn()?,
                40..=79 => {
                    let at = self.rng.index(self.peers.len());
                    self.act(at)?;
                }
                80..=89 => {
                    let time = Duration::from_micros(self.rng.between(1, 2000));
                    self.world.pass(time);
                }
                _ if self.peers.len() < self.most_peers => self.come(),
                _ => {}
            }
        }
        self.conclude()
    }

    /// Another peer comes.
    fn come(&mut self) {
        let number = self.peers.len();
        let (memory, says) = self.trial.peer(number, &mut self.rng);
        let port = FIRST_PORT + u16::try_from(number).unwrap_or_default();
        let from = SocketAddr::from(([10, 0, 1, 1], port));
        let remote = Some(Remote::connect(&from, &SocketAddr::from(SERVER)));
        let peer = Peer {
            memory,
            remote,
            says,
            said: 0,
            heard: Vec::new(),
            cut: false,
            finished: false,
            ended: false,
        };
        self.peers.push(peer);
    }

    fn turn(&mut self) -> Result<(), String> {
        let turn = self.server.event_loop().run_once(Some(Duration::ZERO));
        turn.map_err(|error| format!("the server: {error}"))?;
        self.trial.server_is_well(self.server.event_loop().handler_mut())
    }

    /// A peer says something, listens, or leaves.
    fn act(&mut self, at: usize) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        match self.rng.below(100) {
            0..=44 => peer.say(&mut self.rng),
            45..=89 => return self.listen(at),
            90..=93 if peer.said == peer.says.len() => peer.finish(),
            94..=95 => {
                // In the middle of everything.
                peer.cut = true;
                drop(peer.remote.take());
            }
            96 => {
                peer.cut = true;
                if let Some(remote) = peer.remote.take() {
                    remote.reset();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn listen(&mut self, at: usize) -> Result<(), String> {
        let len = self.rng.len(1, 5000);
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        if peer.listen(len) {
            self.judge(at)?;
        }
        Ok(())
    }

    fn judge(&mut self, at: usize) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        let ending = match (peer.cut, peer.ended) {
            (true, _) => Ending::Cut,
            (false, true) => Ending::Whole,
            (false, false) => Ending::Open,
        };
        let said = peer.says.get(..peer.said).unwrap_or_default();
        let judged = self.trial.heard(&mut peer.memory, said, &peer.heard, ending);
        judged.map_err(|what| format!("peer {at}: {what}"))
    }

    /// Nothing goes wrong any more: everybody says the rest and ends, and the server answers.
    fn conclude(mut self) -> Result<(), String> {
        self.world.set_faults(Faults::none());
        for _ in 0..LAST_ROUNDS {
            self.turn()?;
            self.world.pass(Duration::from_millis(1));
            let mut left = false;
            for at in 0..self.peers.len() {
                let Some(peer) = self.peers.get_mut(at) else { continue };
                if peer.remote.is_none() || peer.ended {
                    continue;
                }
                left = true;
                peer.say_all();
                self.listen(at)?;
            }
            if !left {
                return self.last_judgement();
            }
        }
        Err("not everything has come to its end".to_owned())
    }

    fn last_judgement(mut self) -> Result<(), String> {
        for at in 0..self.peers.len() {
            self.judge(at)?;
        }
        drop(self.peers);
        drop(self.server);
        match self.world.open_descriptors() {
            0 => Ok(()),
            left => Err(format!("{left} descriptors are left of the server")),
        }
    }
}

impl<P> Peer<P> {
    fn say(&mut self, rng: &mut Rng) {
        let rest = self.says.get(self.said..).unwrap_or_default();
        let len = rng.len(1, rest.len().max(1));
        self.send(len);
    }

    fn say_all(&mut self) {
        self.send(usize::MAX);
        if self.said == self.says.len() {
            self.finish();
        }
    }

    fn send(&mut self, len: usize) {
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.is_connected()) else {
            return;
        };
        let rest = self.says.get(self.said..).unwrap_or_default();
        let now = rest.get(..len).unwrap_or(rest);
        if now.is_empty() {
            return;
        }
        match remote.send(now) {
            Ok(sent) => self.said += sent,
            Err(errno) if errno.would_block() => {}
            Err(_) => (self.cut, self.ended) = (true, true),
        }
    }

    fn finish(&mut self) {
        if let Some(remote) = self.remote.as_ref().filter(|remote| remote.is_connected())
            && !self.finished
        {
            self.finished = true;
            remote.finish();
        }
    }

    /// Takes what has come; says whether there is something new to judge.
    fn listen(&mut self, len: usize) -> bool {
        let Some(remote) = &self.remote else { return false };
        if remote.is_connecting() {
            return false;
        }
        match remote.recv(len) {
            Ok(bytes) if bytes.is_empty() => {
                self.ended = true;
                // The server has closed before all was said.
                self.cut |= !self.finished;
            }
            Ok(bytes) => self.heard.extend(bytes),
            Err(errno) if errno.would_block() => return false,
            Err(_) => (self.cut, self.ended) = (true, true),
        }
        true
    }
}
