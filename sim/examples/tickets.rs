//! A handler with a bug, and how seeded worlds find it.
//!
//! Each connection draws tickets: a message gets the name of the connection and the next number, and
//! every connection counts for itself. The handler keeps the counts in a list beside the connections
//! and finds a connection's own by the order in which they came. That is right until somebody leaves.
//!
//! ```text
//! cargo sim-example tickets             the bug is found, and the seed that shows it made smaller
//! cargo sim-example tickets -- --good   the handler that keeps the count as its state passes
//! ```

#![allow(clippy::print_stdout, reason = "a program of the command line")]

use std::collections::VecDeque;
use std::process::ExitCode;

use myriapod::protocol::{
    Decoded, EncodeError, Frame, Framing, Head, Input, Mark, Message, ProtocolError, Raw,
};
use myriapod::sys::sim::Rng;
use myriapod::{Cause, Handler, HandlerResult, Reply, SocketAddr, View};
use myriapod_sim::trial::{Ending, Trial, check};

/// Worlds that are lived through.
const SEEDS: u64 = 200;

/// A framing that is not built in: a message is a line.
struct Lines;

impl Framing for Lines {
    type Stream = ();

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let unseen = input.bytes.get(input.scanned..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            return Ok(Decoded::More { scanned: input.bytes.len(), in_content: false });
        };
        let end = input.scanned + at + 1;
        frame.set(0..end, end);
        Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        Raw.begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        Raw.finish(out, mark, head)
    }

    fn error_reply(&mut self, _: &mut Vec<u8>, _: &str, _: &str) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// Draws tickets. With the bug, the state of a connection is a place in `counts`.
struct Tickets {
    good: bool,
    counts: VecDeque<u64>,
}

impl Handler for Tickets {
    /// The connection's place in the list; in the good one, its count.
    type State = u64;

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) -> u64 {
        if self.good {
            return 0;
        }
        self.counts.push_back(0);
        self.counts.len() as u64 - 1
    }

    fn on_message(
        &mut self,
        state: &mut u64,
        _: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let count = match usize::try_from(*state) {
            Ok(place) if !self.good => self.counts.get_mut(place).ok_or("no such place")?,
            _ => state,
        };
        *count += 1;
        reply.binary("", format!("ticket {count}\n").as_bytes())?;
        Ok(())
    }

    /// The bug: everybody behind this place moves up, and nobody tells them.
    fn on_close(&mut self, state: u64, _: &mut View<'_>, _: Cause) {
        if let Ok(place) = usize::try_from(state)
            && !self.good
        {
            self.counts.remove(place);
        }
    }
}

struct Play {
    good: bool,
}

impl Trial for Play {
    type Framing = Lines;
    type Handler = Tickets;
    /// How many tickets it will ask for.
    type Peer = usize;

    fn server(&mut self, _: &mut Rng) -> (Lines, Tickets) {
        (Lines, Tickets { good: self.good, counts: VecDeque::new() })
    }

    fn peer(&mut self, _: usize, rng: &mut Rng) -> (usize, Vec<u8>) {
        let asks = rng.len(0, 20);
        (asks, b"please\n".repeat(asks))
    }

    fn heard(
        &mut self,
        asks: &mut usize,
        _: &[u8],
        heard: &[u8],
        ending: Ending,
    ) -> Result<(), String> {
        let right: String = (1..=*asks).map(|number| format!("ticket {number}\n")).collect();
        let heard = String::from_utf8_lossy(heard);
        if !right.starts_with(&*heard) || ending == Ending::Whole && right != heard {
            let last = heard.lines().last().unwrap_or_default();
            return Err(format!(
                "asked {asks} times, and heard {} lines, {last:?} last",
                heard.lines().count()
            ));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let good = std::env::args().any(|argument| argument == "--good");
    match check(1..=SEEDS, || Play { good }) {
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
