//! Contents that are not held in memory, in seeded worlds: a handler that often has to wait, a source
//! that often has nothing, and peers that must hear every byte in its place.
//!
//! ```text
//! cargo sim-example streams
//! cargo sim-example streams -- 10000    so many worlds
//! ```

#![allow(clippy::print_stdout, reason = "a program of the command line")]

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use myriapod::protocol::{ByteOrder, LengthPrefix, Message, PrefixWidth};
use myriapod::sys::sim::Rng;
use myriapod::{
    Cause, Flow, Handler, HandlerError, HandlerResult, Intake, Limits, MessageHead, Reply,
    SocketAddr, View,
};
use myriapod_sim::trial::{Ending, Trial, check};

/// Worlds that are lived through unless the command line says otherwise.
const SEEDS: u64 = 200;

/// The longest content: the network of some worlds moves two bytes at a time, and every other is
/// waited for.
const MOST: usize = 600;

/// Chances, which what the engine asks may take from elsewhere than the handler.
type Chances = Arc<Mutex<Rng>>;

fn one_in(chances: &Chances, many: usize) -> bool {
    chances.lock().unwrap_or_else(PoisonError::into_inner).len(1, many) == 1
}

/// What a content comes to.
#[derive(Default)]
struct Sum {
    len: u64,
    sum: u8,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.sum = bytes.iter().fold(self.sum, |sum, byte| sum.wrapping_mul(3).wrapping_add(*byte));
    }
}

/// Answers a content with as many bytes, each of which is its sum; one in four is held whole.
struct Streamer {
    chances: Chances,
    served: Served,
}

/// The ports of peers that were served: not those that found no descriptor left, nor those whose
/// connections failed.
type Served = Arc<Mutex<BTreeSet<u16>>>;

impl Streamer {
    fn answer(&self, sum: &Sum, reply: &mut Reply<'_>) -> HandlerResult {
        let source = Source { sum: sum.sum, chances: Arc::clone(&self.chances) };
        // What waits is asked again by the connection's timer, set or not.
        reply.view().set_timer(Duration::from_millis(10));
        Ok(reply.stream("", sum.len, source)?)
    }
}

impl Handler for Streamer {
    type State = Sum;
    const STREAMS: bool = true;

    fn on_open(&mut self, _: &mut View<'_>, peer: &SocketAddr) -> Sum {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.extend(peer.port());
        Sum::default()
    }

    fn on_head(&mut self, sum: &mut Sum, _: &MessageHead<'_>, _: &mut View<'_>) -> Intake {
        *sum = Sum::default();
        if one_in(&self.chances, 4) { Intake::Hold } else { Intake::Stream }
    }

    fn on_piece(
        &mut self,
        sum: &mut Sum,
        piece: &[u8],
        view: &mut View<'_>,
    ) -> Result<Flow, HandlerError> {
        sum.add(piece);
        if !one_in(&self.chances, 3) {
            return Ok(Flow::Go);
        }
        view.set_timer(Duration::from_millis(10));
        Ok(Flow::Wait)
    }

    fn on_end(&mut self, sum: &mut Sum, reply: &mut Reply<'_>) -> HandlerResult {
        self.answer(sum, reply)
    }

    fn on_message(
        &mut self,
        _: &mut Sum,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let mut sum = Sum::default();
        sum.add(message.content());
        self.answer(&sum, reply)
    }

    /// The system may refuse to watch a connection for something else, and then it is closed.
    fn on_close(&mut self, _: Sum, view: &mut View<'_>, cause: Cause) {
        if cause == Cause::Error
            && let Some(port) = view.peer().and_then(|peer| peer.port())
        {
            self.served.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
        }
    }

    fn on_connection_timer(&mut self, _: &mut Sum, view: &mut View<'_>) {
        view.resume();
        // Whatever waits, on either side, waits no longer than this.
        view.set_timer(Duration::from_millis(10));
    }
}

/// Gives a byte for ever, a few at a time, and sometimes has none.
struct Source {
    sum: u8,
    chances: Chances,
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if one_in(&self.chances, 3) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let len = if one_in(&self.chances, 2) { room.len() } else { room.len().min(100) };
        room.iter_mut().take(len).for_each(|byte| *byte = self.sum);
        Ok(len)
    }
}

#[derive(Default)]
struct Play {
    served: Served,
}

impl Trial for Play {
    type Framing = LengthPrefix;
    type Handler = Streamer;
    /// Its port, and what it must hear.
    type Peer = (u16, Vec<u8>);

    fn server(&mut self, rng: &mut Rng) -> (LengthPrefix, Streamer) {
        let seed = u64::try_from(rng.len(0, usize::MAX >> 1)).unwrap_or(0);
        let chances = Arc::new(Mutex::new(Rng::new(seed)));
        let streamer = Streamer { chances, served: Arc::clone(&self.served) };
        (LengthPrefix::new(PrefixWidth::Four, ByteOrder::Big), streamer)
    }

    fn limits(&mut self, _: &mut Rng) -> Limits {
        // The handler and its sources take their time, and the peers are not to blame for it.
        let off = Duration::ZERO;
        Limits { idle_timeout: off, rate_window: off, ..Limits::default() }
    }

    fn peer(&mut self, number: usize, rng: &mut Rng) -> (Self::Peer, Vec<u8>) {
        let port = 40_000 + u16::try_from(number).unwrap_or(0);
        let (mut says, mut hears) = (Vec::new(), Vec::new());
        for number in 0..rng.len(0, 5) {
            let len = if rng.len(0, 1) == 0 { rng.len(0, 30) } else { rng.len(0, MOST) };
            let content: Vec<u8> =
                (0..len).map(|at| u8::try_from((at * 7 + number) % 256).unwrap_or(0)).collect();
            let mut sum = Sum::default();
            sum.add(&content);
            let prefix = u32::try_from(len).unwrap_or(0).to_be_bytes();
            says.extend_from_slice(&prefix);
            says.extend_from_slice(&content);
            hears.extend_from_slice(&prefix);
            hears.resize(hears.len() + len, sum.sum);
        }
        ((port, hears), says)
    }

    fn heard(
        &mut self,
        (port, right): &mut (u16, Vec<u8>),
        _: &[u8],
        heard: &[u8],
        ending: Ending,
    ) -> Result<(), String> {
        let is_served = self.served.lock().unwrap_or_else(PoisonError::into_inner).contains(port);
        let is_whole = ending == Ending::Whole && is_served;
        if !right.starts_with(heard) || is_whole && right.len() != heard.len() {
            let same = right.iter().zip(heard).take_while(|(right, heard)| right == heard).count();
            return Err(format!(
                "heard {} bytes of {}, and the first {same} are right",
                heard.len(),
                right.len()
            ));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let seeds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(SEEDS);
    match check(1..=seeds, Play::default) {
        Ok(lived) => {
            println!("{lived} worlds, and all is well");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
