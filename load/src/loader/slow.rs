//! Connections that are slow on purpose, beside the others: every other one sends a byte at a time,
//! the rest ask much and read little. What becomes of them is the server's choice, so nothing of it
//! is a fault. One that the server closes comes back.

use myriapod::sys::{self, AsFd as _};

use super::wire::{Seal, Wire};
use super::{Loader, State};
use crate::job::Phase;

/// How often some of them move, in nanoseconds of the clock.
pub(super) const STEP: u64 = 10_000_000;

/// So many steps until it is each one's turn: half a second.
const ROUND: usize = 50;

/// Bytes that one reads in its turn, and requests that it sends.
const SIP: usize = 64;
const GULP: usize = 16;

/// The receive buffer of one that reads little, so that the server notices soon.
const SMALL: usize = 4096;

impl Loader {
    /// Whether there are slow ones that have to move.
    pub(super) const fn is_dripping(&self) -> bool {
        self.job.slow > 0
            && matches!(
                self.phase,
                Phase::Hold | Phase::Warmup | Phase::Run | Phase::Drain | Phase::Storm
            )
    }

    /// One is connected. Nothing that it gets wakes this thread: it is looked after in its turn.
    pub(super) fn begin_slow(&mut self, slot: usize) {
        let Some(socket) = self.places.get(slot).and_then(|place| place.socket.as_ref()) else {
            return;
        };
        self.net.poller.forget(socket.as_fd());
        if reads_little(slot) {
            // Where that cannot be set, the server notices later.
            let _ = sys::set_recv_buffer_size(socket, SMALL);
        }
    }

    /// Moves those whose turn it is.
    pub(super) fn drip(&mut self) {
        self.turn = (self.turn + 1) % ROUND;
        for slot in self.job.slow_places().skip(self.turn).step_by(ROUND) {
            if self.places.is(slot, State::Vacant) {
                self.connect(slot);
            } else if self.places.is(slot, State::Open) {
                let gone = if reads_little(slot) { self.sip(slot) } else { self.creep(slot) };
                if gone {
                    self.lose(slot, "recv", String::new());
                }
            }
        }
    }

    /// Sends another byte of a request, and takes what came; says whether the server has closed.
    fn creep(&mut self, slot: usize) -> bool {
        let tag = self.messages.tag_of(self.id(slot), 0);
        let Some(place) = self.places.get_mut(slot) else { return false };
        let Some(socket) = &place.socket else { return false };
        if place.rest.is_empty() {
            self.messages.write(&mut place.rest, tag);
            seal_rest(&mut self.seal, slot, &mut place.wire, &mut place.rest);
        }
        let sent = socket.send(place.rest.get(..1).unwrap_or_default());
        place.rest.drain(..sent.unwrap_or(0).min(1));
        is_over(sent.err()) || has_ended(&socket.recv(&mut self.buffers.received))
    }

    /// Reads a little, and asks for more; says whether the server has closed.
    fn sip(&mut self, slot: usize) -> bool {
        let tag = self.messages.tag_of(self.id(slot), 0);
        let Some(place) = self.places.get_mut(slot) else { return false };
        let Some(socket) = &place.socket else { return false };
        for _ in 0..GULP {
            if place.rest.is_empty() {
                self.messages.write(&mut place.rest, tag);
                seal_rest(&mut self.seal, slot, &mut place.wire, &mut place.rest);
            }
            match socket.send(&place.rest) {
                Ok(sent) => drop(place.rest.drain(..sent)),
                Err(errno) if errno.would_block() => break,
                Err(_) => return true,
            }
        }
        let sip = self.buffers.received.get_mut(..SIP).unwrap_or_default();
        has_ended(&socket.recv(sip))
    }
}

/// Puts a request into records, where TLS was asked for. Where that fails, the server sees garbage,
/// and closes.
fn seal_rest(
    seal: &mut Option<Seal>,
    slot: usize,
    wire: &mut Option<Box<Wire>>,
    rest: &mut Vec<u8>,
) {
    if let (Some(seal), Some(wire)) = (seal, wire) {
        let _sealed = seal.seal(wire, slot as u64, rest);
    }
}

/// Every other one reads little; the rest send slowly.
const fn reads_little(slot: usize) -> bool {
    slot % 2 == 1
}

fn has_ended(received: &Result<usize, sys::Errno>) -> bool {
    match received {
        Ok(received) => *received == 0,
        Err(errno) => !errno.would_block(),
    }
}

fn is_over(errno: Option<sys::Errno>) -> bool {
    errno.is_some_and(|errno| !errno.would_block())
}
