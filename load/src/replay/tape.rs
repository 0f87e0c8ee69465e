//! [`Tape`]: the requests of a recording that one thread sends, and the one that is next.

use std::sync::Arc;

use super::{Recording, Request};

/// Requests in the order of their times.
#[derive(Debug)]
pub(crate) struct Tape {
    /// Those of this thread's connections, whose numbers are its own.
    requests: Vec<Request>,
    bytes: Vec<u8>,
    next: usize,
}

impl Tape {
    /// The share of so many connections from this one on.
    pub(crate) fn new(recording: &Recording, first: u32, connections: u32) -> Self {
        let (mut requests, mut bytes) = (Vec::new(), Vec::new());
        for request in &recording.requests {
            let Some(connection) = request.connection.checked_sub(first) else { continue };
            if connection >= connections {
                continue;
            }
            let start = bytes.len();
            bytes.extend_from_slice(recording.bytes.get(request.bytes.clone()).unwrap_or_default());
            requests.push(Request { connection, bytes: start..bytes.len(), ..request.clone() });
        }
        Self { requests, bytes, next: 0 }
    }

    /// When each is due after the first of the recording, at so many times its speed, in nanoseconds.
    pub(crate) fn moments(&self, speed: f64) -> Arc<[u64]> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "not negative, saturating, and a capture is no finer"
        )]
        let at_speed = |at: u64| (at as f64 / speed) as u64;
        self.requests.iter().map(|request| at_speed(request.at)).collect()
    }

    /// The connection that sends the next.
    pub(crate) fn slot(&self) -> Option<usize> {
        self.requests.get(self.next).map(|request| request.connection as usize)
    }

    /// Appends the next, and goes on to the one behind it.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>) {
        if let Some(request) = self.requests.get(self.next) {
            out.extend_from_slice(self.bytes.get(request.bytes.clone()).unwrap_or_default());
        }
        self.skip();
    }

    /// Goes on without sending it.
    pub(crate) fn skip(&mut self) {
        self.next = (self.next + 1).min(self.requests.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Conversation;

    #[test]
    fn is_every_request_on_the_tape_of_one_thread() {
        let conversations = (0..5_u8).map(|connection| Conversation {
            requests: (0..4)
                .map(|nth| (10 * nth + u64::from(connection), vec![connection; 3]))
                .collect(),
        });
        let recording = Recording::of(conversations.collect());
        assert_eq!((recording.connections, recording.span()), (5, 34));
        let mut sent = Vec::new();
        for (first, connections) in [(0, 2), (2, 3)] {
            let mut tape = Tape::new(&recording, first, connections);
            assert!(tape.moments(2.0).is_sorted());
            while let Some(slot) = tape.slot() {
                let mut bytes = Vec::new();
                tape.take(&mut bytes);
                assert_eq!(bytes.len(), 3);
                assert!(bytes.iter().all(|&byte| usize::from(byte) == first as usize + slot));
                sent.extend(bytes);
            }
        }
        assert_eq!(sent.len(), 60);
    }
}
