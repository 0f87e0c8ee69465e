//! [`Greeting`]: a handshake under way, and what of it waits in either direction.

use myriapod_sys::BorrowedFd;

use crate::link::{self, Link};

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Greeting<L: Link> {
    pub(super) handshake: L::Handshake,
    /// What has come and is not taken in: part of a record, or what follows the handshake.
    pub(super) received: Vec<u8>,
    /// What the socket has not taken.
    pub(super) unsent: Vec<u8>,
    pub(super) is_over: bool,
    /// The PROXY header that came first; empty where there was none.
    pub(super) proxy: Vec<u8>,
}

impl<L: Link> Greeting<L> {
    /// Sends what is unsent. Returns whether the socket can still be sent to.
    pub(super) fn send(&mut self, source: BorrowedFd<'_>) -> bool {
        while !self.unsent.is_empty() {
            match link::send(source, &self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(errno) => return errno.would_block(),
            }
        }
        true
    }
}
