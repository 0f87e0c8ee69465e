//! Step 12: a search server by hand: the loop, a decoder, a queue of replies, and deadlines.
//!
//! The wire is the tutorial's last: two bytes, a JSON header, a content. All that the engine does
//! for one client is here in small. A client that says nothing is looked at once a second, and
//! closed after some of them: a list of all is walked, which a timing wheel spares the engine.

use std::error::Error;
use std::time::Duration;

use myriapod::protocol::{Decoder, Head, JsonHeader, encode};
use myriapod::sys::{
    self, BorrowedFd, Errno, ListenOptions, Listener, Shutdown, Time, accept, recv, recv_append,
    send,
};
use myriapod::{Interest, Key, Selector};
use serde_json::json;

/// Bytes of replies that may wait.
const MAX_UNSENT: usize = 64 << 10;
/// For a message that has begun, and for a client that we have said goodbye to.
const DEADLINE: Duration = Duration::from_secs(3);

struct Client {
    decoder: Decoder<JsonHeader>,
    unsent: Vec<u8>,
    /// Since when something is unfinished.
    since: Option<Time>,
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
    let mut looked = sys::now();
    loop {
        // A second at most while somebody has a deadline; for ever while nobody has.
        let has_deadline =
            selector.iter().any(|(_, client)| client.as_ref().is_some_and(|it| it.since.is_some()));
        selector.select(has_deadline.then_some(Duration::from_secs(1)))?;
        while let Some(ready) = selector.next_ready() {
            if ready.key == listening {
                accept_one(&mut selector, listening)?;
                continue;
            }
            let Some((socket, Some(client))) = selector.entry_mut(ready.key) else { continue };
            match client.turn(socket, ready.is_readable()) {
                Ok(Some(interest)) => selector.modify(ready.key, interest)?,
                Ok(None) | Err(_) => close(&mut selector, ready.key, listening)?,
            }
        }
        let now = sys::now();
        if now.saturating_since(looked) >= Duration::from_millis(500) {
            looked = now;
            let late = |client: &Client| {
                client.since.is_some_and(|since| now.saturating_since(since) > DEADLINE)
            };
            let all = selector.iter();
            let late: Vec<Key> =
                all.filter(|(_, one)| one.as_ref().is_some_and(late)).map(|(key, _)| key).collect();
            for key in late {
                close(&mut selector, key, listening)?;
            }
        }
    }
}

fn search(value: &str) -> String {
    match value {
        "morpheus" => "Follow the white rabbit. 🐰".to_owned(),
        "ring" => "In the caves beneath the Misty Mountains. 💍".to_owned(),
        "🐶" => "🐾 Playing ball! 🏐".to_owned(),
        other => format!("No match for '{other}'."),
    }
}

impl Client {
    fn new() -> Self {
        let decoder = Decoder::new(JsonHeader::default());
        let (unsent, since) = (Vec::new(), None);
        Self { decoder, unsent, since, leaving: false, ended: false, shut_down: false }
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
                Ok(sent) => {
                    self.unsent.drain(..sent);
                    // It reads: its clock starts anew.
                    self.since = None;
                }
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
        // The clock runs from the first unfinished byte, not from the last.
        let unfinished = self.leaving || !self.unsent.is_empty() || self.decoder.rest() > 0;
        self.since = if unfinished { self.since.or_else(|| Some(sys::now())) } else { None };

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
            let (head, content) = match self.decoder.next_message() {
                Ok(Some(message)) if message.is_json() => match message.json() {
                    Ok(request) => {
                        let result = search(request["value"].as_str().unwrap_or_default());
                        (Head::json(), json!({ "result": result }).to_string().into_bytes())
                    }
                    Err(fault) => (
                        Head::json(),
                        json!({ "error": fault.to_string() }).to_string().into_bytes(),
                    ),
                },
                Ok(Some(message)) => {
                    let first = message.content().get(..10).unwrap_or(message.content());
                    let content = [b"First 10 bytes of request: ", first].concat();
                    (Head::binary("binary/custom-server-binary-type"), content)
                }
                Ok(None) => return,
                // Where the next message begins is not known any more.
                Err(_) => {
                    self.leaving = true;
                    return;
                }
            };
            self.since = None;
            if encode(&mut self.unsent, &head, &content).is_err() {
                self.leaving = true;
            }
        }
    }
}

fn close(
    selector: &mut Selector<Option<Client>>,
    key: Key,
    listening: Key,
) -> Result<(), Box<dyn Error>> {
    selector.close(key);
    // A descriptor is free: a client that waits in the backlog may come.
    Ok(selector.modify(listening, Interest::READABLE)?)
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
