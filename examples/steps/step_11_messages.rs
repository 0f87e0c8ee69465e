//! Step 11: messages. A decoder beside each socket knows how far a message has come.
//!
//! The wire is the tutorial's first: 64 bytes with a length in digits, then the text. Each text is
//! answered with "Msg received". A client that sends half a message is kept for ever: step 12.

use std::error::Error;

use myriapod::protocol::{Decoder, Padded};
use myriapod::sys::{
    self, BorrowedFd, Errno, ListenOptions, Listener, Shutdown, accept, recv, recv_append, send,
};
use myriapod::{Interest, Key, Selector};

/// Bytes of replies that may wait.
const MAX_UNSENT: usize = 64 << 10;

struct Client {
    decoder: Decoder<Padded>,
    unsent: Vec<u8>,
    /// No message is read any more: what is unsent goes out, and what still comes is dropped.
    leaving: bool,
    /// The client has ended its side.
    ended: bool,
    /// We have ended ours.
    shut_down: bool,
}

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let address = sys::resolve(host, port)?.swap_remove(0);
    let listener = Listener::bind(&address, &ListenOptions::default())?;
    let mut selector: Selector<Option<Client>> = Selector::new()?;
    let listening = selector.register(listener, Interest::READABLE, None)?;
    loop {
        selector.select(None)?;
        while let Some(ready) = selector.next_ready() {
            if ready.key == listening {
                accept_one(&mut selector, listening)?;
                continue;
            }
            let Some((socket, Some(client))) = selector.entry_mut(ready.key) else { continue };
            match client.turn(socket, ready.is_readable()) {
                Ok(Some(interest)) => selector.modify(ready.key, interest)?,
                Ok(None) | Err(_) => {
                    selector.close(ready.key);
                    selector.modify(listening, Interest::READABLE)?;
                }
            }
        }
    }
}

impl Client {
    fn new() -> Self {
        let decoder = Decoder::new(Padded::default());
        Self { decoder, unsent: Vec::new(), leaving: false, ended: false, shut_down: false }
    }

    /// Receives, decodes, answers, sends. `None`: the conversation is over.
    fn turn(
        &mut self,
        socket: BorrowedFd<'_>,
        is_readable: bool,
    ) -> Result<Option<Interest>, Errno> {
        if is_readable && self.leaving {
            // To close a socket with unread bytes sends a reset, and it may destroy our last reply.
            self.ended = matches!(recv(socket, &mut [0; 4096]), Ok(0));
        } else if is_readable {
            let buffer = self.decoder.buffer_mut();
            buffer.reserve(4096);
            match recv_append(socket, buffer) {
                Ok(count) => self.ended = count == 0,
                Err(errno) if errno.would_block() => {}
                Err(errno) => return Err(errno),
            }
        }
        self.answer();
        if self.ended {
            self.leaving = true;
        }
        if !self.unsent.is_empty() {
            match send(socket, &self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(errno) if errno.would_block() => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.unsent.is_empty() && self.leaving {
            if self.ended {
                return Ok(None);
            }
            if !self.shut_down {
                sys::shutdown(socket, Shutdown::Write)?;
                self.shut_down = true;
            }
        }
        let mut interest = Interest::NONE;
        if !self.ended && self.unsent.len() < MAX_UNSENT {
            interest |= Interest::READABLE;
        }
        if !self.unsent.is_empty() {
            interest |= Interest::WRITABLE;
        }
        Ok(Some(interest))
    }

    /// One `recv` may hold half a message, or five.
    fn answer(&mut self) {
        while !self.leaving {
            match self.decoder.next_message() {
                Ok(Some(message)) => {
                    self.leaving = message.content() == Padded::DISCONNECT.as_bytes();
                    self.unsent.extend_from_slice(Padded::RECEIVED.as_bytes());
                }
                Ok(None) => return,
                // Where the next message begins is not known any more.
                Err(_) => self.leaving = true,
            }
        }
    }
}

fn accept_one(
    selector: &mut Selector<Option<Client>>,
    listening: Key,
) -> Result<(), Box<dyn Error>> {
    let Some(listener) = selector.source(listening) else { return Ok(()) };
    match accept(listener) {
        Ok((socket, _peer)) => {
            selector.register(socket, Interest::READABLE, Some(Client::new()))?;
        }
        Err(Errno::EMFILE | Errno::ENFILE) => selector.modify(listening, Interest::NONE)?,
        Err(_) => {}
    }
    Ok(())
}
