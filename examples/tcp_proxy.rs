//! A proxy: what comes from one side goes to the other, both ways, for as many pairs as there are
//! descriptors.
//!
//! ```text
//! $ cargo run --example tcp_proxy -- 127.0.0.1 8080 localhost 65432
//! listening on 127.0.0.1:8080 for localhost:65432
//! ```
//!
//! Nothing waits but `select`: connecting goes on by itself, and its outcome is an event. What one
//! side does not take at once is kept, 64 KiB at most, and until all of it is taken nothing more is
//! received from the other: so the other's own send buffer fills, and it learns to wait. The end of
//! one direction is passed on when all before it is sent, and the other direction goes on. A failure
//! is one line on stderr, and both sides see a reset, which nobody can take for an end.
//!
//! Beside it: any client and any server. Watch: that neither side waits for the other.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use command::Stop;
use myriapod::sys::{
    self, Errno, ListenOptions, Listener, Shutdown, Socket, SystemError, accept, recv, send,
    shutdown,
};
use myriapod::{Interest, Key, Ready, Selector, SocketAddr};

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;

/// Bytes that are received at a time: no more than that ever wait to be sent on.
const PIECE: usize = 64 << 10;

/// How long a side may take nothing of what waits for it, or not answer when it is connected to.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often those are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Descriptors that are for nobody's bytes: the listener, the selector, the terminal.
const OTHER_DESCRIPTORS: u64 = 16;

/// One side of a pair. The listener has none.
struct Side {
    name: String,
    /// Who gets what is received here; a client has nobody until it is connected to somebody.
    other: Option<Key>,
    /// While it is connected to: which of the addresses is tried.
    connecting: Option<usize>,
    /// What the other has sent and this one has not taken yet.
    unsent: Vec<u8>,
    /// Since when it takes nothing, where something waits for it.
    waiting: Option<Instant>,
    /// Nothing more comes from here.
    ended: bool,
    /// It was told that nothing more comes from the other.
    told: bool,
}

struct Proxy {
    selector: Selector<Option<Side>>,
    listening: Key,
    /// Where to connect to, one after the other until one answers.
    targets: Vec<SocketAddr>,
    pairs: u64,
    most_pairs: u64,
    /// No descriptor was left for another pair: one must be closed first.
    exhausted: bool,
    piece: Vec<u8>,
}

fn main() -> ExitCode {
    command::run("HOST PORT TO_HOST TO_PORT", |arguments| match arguments {
        [host, port, to_host, to_port] => {
            let (port, to_port) = (command::port(port)?, command::port(to_port)?);
            let targets = sys::resolve(to_host, to_port)?;
            // Of a name's addresses, the first.
            let address = sys::resolve(host, port)?.swap_remove(0);
            let listener = Listener::bind(&address, &ListenOptions::default())?;
            let (here, there) = (listener.local_address()?, blocking::place(to_host, &targets[0]));
            println!("listening on {here} for {there}");
            Proxy::new(listener, targets)?.run()
        }
        _ => Err(Stop::Usage),
    })
}

/// One line for each failure. Nobody may be there to read it.
fn complain(error: &SystemError) {
    let _ = writeln!(std::io::stderr(), "{error}");
}

/// How much of it was sent: nothing where the socket has no room, which is no failure.
fn try_send(socket: sys::BorrowedFd<'_>, bytes: &[u8], name: &str) -> Result<usize, SystemError> {
    match send(socket, bytes) {
        Err(errno) if errno.would_block() => Ok(0),
        sent => sent.map_err(|errno| SystemError::call("send", errno, name)),
    }
}

/// Sends what is small at once, and asks a peer that says nothing whether it is there. What cannot
/// be set, as with Unix sockets, is done without.
fn prepare(socket: impl sys::AsFd + Copy) {
    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
    let _ = sys::set_nodelay(socket, true);
    let _ = sys::set_keepalive(socket, Some(sys::Keepalive { idle, interval, count: 6 }));
}

impl Proxy {
    fn new(listener: Listener, targets: Vec<SocketAddr>) -> Result<Self, Stop> {
        let mut selector = Selector::new()?;
        let listening = selector.register(listener, Interest::READABLE, None)?;
        let descriptors = sys::raise_descriptor_limit()?.soft;
        let most_pairs = (descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2).max(1);
        let (pairs, exhausted, piece) = (0, false, vec![0; PIECE]);
        Ok(Self { selector, listening, targets, pairs, most_pairs, exhausted, piece })
    }

    fn run(&mut self) -> Result<(), Stop> {
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            self.selector.select((self.pairs > 0).then_some(LOOK_EVERY))?;
            while let Some(ready) = self.selector.next_ready() {
                if ready.key == self.listening {
                    self.accept()?;
                } else if let Err(error) = self.serve(ready) {
                    complain(&error);
                    self.reset(ready.key);
                }
            }
            let now = Instant::now();
            if now >= look_at {
                self.end_those_that_stand_still(now);
                look_at = now + LOOK_EVERY;
            }
            let room = self.pairs < self.most_pairs && !self.exhausted;
            let interest = if room { Interest::READABLE } else { Interest::NONE };
            self.selector.modify(self.listening, interest)?;
        }
    }

    fn accept(&mut self) -> Result<(), SystemError> {
        let Some(listener) = self.selector.source(self.listening) else { return Ok(()) };
        let (client, name) = match accept(listener) {
            Ok((client, address)) => (client, address.to_string()),
            // No descriptors left: peers go on waiting until a pair is closed.
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                let error = SystemError::call("accept", errno, "a client");
                if self.pairs == 0 {
                    return Err(error);
                }
                complain(&error);
                self.exhausted = true;
                return Ok(());
            }
            // Nobody any more, or somebody who is gone already.
            Err(_) => return Ok(()),
        };
        prepare(&client);
        // Nothing is received from it before there is somebody to give it to.
        let client = self.selector.register(client, Interest::NONE, Some(Side::new(name)))?;
        self.pairs += 1;
        self.connect(client, 0);
        Ok(())
    }

    /// Starts to connect a client to the first address from this one on that takes it.
    fn connect(&mut self, client: Key, from: usize) {
        for (index, target) in self.targets.iter().enumerate().skip(from) {
            let side = Side {
                other: Some(client),
                connecting: Some(index),
                waiting: Some(Instant::now()),
                ..Side::new(target.to_string())
            };
            let started = Socket::connect_start(target, None).and_then(|connecting| {
                // Also where it is connected already: then it is writable at once.
                self.selector.register(connecting.into_socket(), Interest::WRITABLE, Some(side))
            });
            match started {
                Ok(upstream) => {
                    if let Some(Some(client)) = self.selector.get_mut(client) {
                        client.other = Some(upstream);
                    }
                    return;
                }
                Err(error) => complain(&error),
            }
        }
        self.reset(client);
    }

    /// Does what a side is ready for. An error ends the pair.
    fn serve(&mut self, ready: Ready) -> Result<(), SystemError> {
        let here = ready.key;
        let Some((socket, Some(side))) = self.selector.entry_mut(here) else { return Ok(()) };
        let Some(there) = side.other else { return Ok(()) };
        if let Some(index) = side.connecting {
            if let Err(errno) = sys::take_error(socket) {
                complain(&SystemError::call("connect", errno, &side.name));
                self.selector.close(here);
                self.connect(there, index + 1);
                return Ok(());
            }
            prepare(socket);
            (side.connecting, side.waiting) = (None, None);
        } else if ready.is_writable() && !side.unsent.is_empty() {
            side.send_rest(socket)?;
        }
        if ready.is_readable() {
            self.pass_on(here, there)?;
        }
        self.go_on(here, there)
    }

    /// Receives once, and sends it on; what is not taken waits.
    fn pass_on(&mut self, from: Key, to: Key) -> Result<(), SystemError> {
        let Some([(source, Some(from)), (target, Some(to))]) =
            self.selector.two_entries_mut(from, to)
        else {
            return Ok(());
        };
        if from.ended || !to.unsent.is_empty() {
            return Ok(());
        }
        match recv(source, &mut self.piece) {
            Ok(0) => from.ended = true,
            Ok(count) => {
                let piece = &self.piece[..count];
                let sent = try_send(target, piece, &to.name)?;
                if sent < count {
                    to.unsent.extend_from_slice(&piece[sent..]);
                    to.waiting = Some(Instant::now());
                }
            }
            Err(errno) if errno.would_block() => {}
            Err(errno) => return Err(SystemError::call("recv", errno, &from.name)),
        }
        Ok(())
    }

    /// Passes ends on, and watches both sides for what can be done next.
    fn go_on(&mut self, here: Key, there: Key) -> Result<(), SystemError> {
        let Some([(socket, Some(one)), (other_socket, Some(other))]) =
            self.selector.two_entries_mut(here, there)
        else {
            return Ok(());
        };
        one.tell_the_end(other, socket)?;
        other.tell_the_end(one, other_socket)?;
        if one.told && other.told {
            self.selector.close(here);
            self.selector.close(there);
            self.closed();
            return Ok(());
        }
        let interests = [one.interest(other), other.interest(one)];
        self.selector.modify(here, interests[0])?;
        self.selector.modify(there, interests[1])
    }

    /// Ends a pair so that both sides see a failure.
    fn reset(&mut self, key: Key) {
        let Some(Some(side)) = self.selector.get(key) else { return };
        for key in [Some(key), side.other].into_iter().flatten() {
            if let Some(socket) = self.selector.source(key) {
                // Unix sockets know no reset: they see an end.
                let _ = sys::set_linger(socket, Some(Duration::ZERO));
            }
            self.selector.close(key);
        }
        self.closed();
    }

    fn closed(&mut self) {
        self.pairs -= 1;
        self.exhausted = false;
    }

    fn end_those_that_stand_still(&mut self, now: Instant) {
        let stands_still = |side: &Side| side.waiting.is_some_and(|since| now - since >= PATIENCE);
        let sides = self.selector.iter().filter_map(|(key, side)| Some((key, side.as_ref()?)));
        let late: Vec<_> = sides
            .filter(|(_, side)| stands_still(side))
            .map(|(key, side)| {
                let call = if side.connecting.is_some() { "connect" } else { "send" };
                (key, SystemError::call(call, Errno::ETIMEDOUT, &side.name))
            })
            .collect();
        for (key, error) in late {
            complain(&error);
            self.reset(key);
        }
    }
}

impl Side {
    fn new(name: String) -> Self {
        let (other, connecting, waiting) = (None, None, None);
        Self { name, other, connecting, unsent: Vec::new(), waiting, ended: false, told: false }
    }

    /// Sends what has waited, as much of it as is taken.
    fn send_rest(&mut self, socket: sys::BorrowedFd<'_>) -> Result<(), SystemError> {
        let sent = try_send(socket, &self.unsent, &self.name)?;
        if sent == self.unsent.len() {
            // The memory goes too: a pair that rests holds none.
            self.unsent = Vec::new();
            self.waiting = None;
        } else if sent > 0 {
            self.unsent.drain(..sent);
            self.waiting = Some(Instant::now());
        }
        Ok(())
    }

    /// Shuts this side's socket down for sending, once, when all that the other sent is sent on.
    fn tell_the_end(
        &mut self,
        other: &Self,
        socket: sys::BorrowedFd<'_>,
    ) -> Result<(), SystemError> {
        if other.ended && self.unsent.is_empty() && !self.told {
            shutdown(socket, Shutdown::Write)
                .map_err(|errno| SystemError::call("shutdown", errno, &self.name))?;
            self.told = true;
        }
        Ok(())
    }

    /// What it is to be watched for.
    fn interest(&self, other: &Self) -> Interest {
        if self.connecting.is_some() {
            return Interest::WRITABLE;
        }
        let mut interest = Interest::NONE;
        if !self.ended && other.connecting.is_none() && other.unsent.is_empty() {
            interest |= Interest::READABLE;
        }
        if !self.unsent.is_empty() {
            interest |= Interest::WRITABLE;
        }
        interest
    }
}
