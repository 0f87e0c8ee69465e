//! TLS in front of the first request, and our last word behind the last.

use myriapod::sys::Interest;
use myriapod_tls::{Failure, Fault};

use super::wire::Shaken;
use super::{Loader, State, clock};
use crate::job::Kind;

impl Loader {
    /// The socket is connected: its handshake begins.
    pub(super) fn begin_handshake(&mut self, slot: usize) {
        if let Err(errno) = self.send_proxy_header(slot) {
            self.opening.connecting -= 1;
            return self.fail(slot, "send", errno);
        }
        let (Some(seal), Some(place)) = (&mut self.seal, self.places.get_mut(slot)) else { return };
        match seal.begin() {
            Ok(wire) => {
                place.wire = Some(Box::new(wire));
                place.state = State::Shaking;
                self.send_of_handshake(slot);
            }
            Err(failure) => self.handshake_failed(slot, &failure),
        }
    }

    /// Sends what TLS has to say. What finds no room waits.
    fn send_of_handshake(&mut self, slot: usize) {
        let (Some(seal), Some(place)) = (&self.seal, self.places.get_mut(slot)) else { return };
        let (out, Some(socket)) = (seal.out(), &place.socket) else { return };
        let sent = if place.rest.is_empty() && !out.is_empty() {
            match socket.send(out) {
                Ok(sent) => sent,
                Err(errno) if errno.would_block() => 0,
                // Receiving says what happened.
                Err(_) => return,
            }
        } else {
            0
        };
        place.rest.extend_from_slice(out.get(sent..).unwrap_or_default());
        if !place.rest.is_empty() && !place.writing {
            self.watch(slot, Interest::BOTH);
        }
    }

    /// Something has come for a handshake, or what waited finds room.
    pub(super) fn shake(&mut self, slot: usize, writable: bool, readable: bool) {
        if writable && self.places.get(slot).is_some_and(|place| place.writing) {
            self.send_rest(slot);
        }
        if !readable || !self.places.is(slot, State::Shaking) {
            return;
        }
        let Some(place) = self.places.get_mut(slot) else { return };
        let (Some(seal), Some(socket), Some(wire)) =
            (&mut self.seal, &place.socket, &mut place.wire)
        else {
            return;
        };
        let received = match socket.recv(&mut self.buffers.received) {
            Ok(0) => return self.handshake_ended(slot, "EOF".to_owned()),
            Ok(received) => received,
            Err(errno) if errno.would_block() => return,
            Err(errno) => return self.handshake_ended(slot, errno.name()),
        };
        let came = self.buffers.received.get(..received).unwrap_or_default();
        let shaken = seal.shake(wire, came);
        self.send_of_handshake(slot);
        match shaken {
            Ok(None) => {}
            Ok(Some(shaken)) => self.shaken(slot, shaken),
            Err(failure) => self.handshake_failed(slot, &failure),
        }
    }

    fn shaken(&mut self, slot: usize, shaken: Shaken) {
        let now = clock();
        let Some(place) = self.places.get(slot) else { return };
        let took = now.saturating_sub(place.since);
        self.tally.shaken(took, shaken);
        self.open(slot, now);
        self.begin(slot, now);
        // What came together with the last of it: tickets, as a rule.
        if !self.places.is(slot, State::Vacant) {
            self.receive_sealed(slot, 0, now);
        }
    }

    fn handshake_ended(&mut self, slot: usize, errno: String) {
        self.opening.connecting -= 1;
        if self.opening.failed() && self.tally.state.stopped.is_none() {
            self.tally.state.stopped = Some(format!("handshake: {errno}"));
        }
        self.fail(slot, "handshake", errno);
    }

    #[cold]
    fn handshake_failed(&mut self, slot: usize, failure: &Failure) {
        self.opening.connecting -= 1;
        let hopeless = self.opening.failed();
        // A certificate that is not taken now will not be taken later.
        let is_certain = matches!(failure.fault, Fault::NotARecord | Fault::HandshakeFailed);
        if (hopeless || is_certain) && self.tally.state.stopped.is_none() {
            self.tally.state.stopped = Some(format!("handshake: {failure}"));
        }
        let errno = match failure.fault {
            Fault::HandshakeFailed => failure.text.clone(),
            fault => fault.to_string(),
        };
        self.fail(slot, "handshake", errno);
    }

    /// Tells the server that nothing more follows, and forgets the connection's keys.
    pub(super) fn say_last_word(&mut self, slot: usize) {
        let (Some(seal), Some(place)) = (&mut self.seal, self.places.get_mut(slot)) else { return };
        let (Some(wire), Some(socket)) = (&mut place.wire, &place.socket) else { return };
        if self.job.kind(slot) != Kind::Slow && place.rest.is_empty() {
            seal.finish(wire, slot as u64);
            // Where it finds no room, the end of the stream says as much.
            let _sent = socket.send(seal.out());
        }
        seal.forget(slot as u64);
    }
}
