//! The service under test, and what it notes of everything that the engine tells it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use myriapod::sys::{self, Time};
use myriapod::{
    Cause, ConnectionId, Deferred, Handler, HandlerError, HandlerResult, Message, Outgoing, Reply,
    SocketAddr,
};

use crate::request::{Question, Verb, answer_bytes};

/// The port of the peer with the number 0.
pub(crate) const FIRST_PORT: u16 = 1000;

/// Which peer has an address.
pub(crate) fn peer_at(address: &SocketAddr) -> u32 {
    u32::from(address.port().unwrap_or_default().wrapping_sub(FIRST_PORT))
}

/// What the service knows of one connection.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: ConnectionId,
    pub(crate) accepted: bool,
    /// How many messages it has had.
    pub(crate) handled: u32,
    pub(crate) opened_at: Time,
    /// When it had the last one; when it was opened where there was none.
    pub(crate) handled_at: Time,
    pub(crate) cause: Option<Cause>,
    /// Deferred answers that are not made.
    pub(crate) owed: u32,
}

/// An answer that is to be made later.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) peer: u32,
    pub(crate) deferred: Deferred,
    pub(crate) outgoing: Outgoing,
}

/// Everything that the service was told.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) seats: BTreeMap<u32, Seat>,
    pub(crate) promises: Vec<Promise>,
    pub(crate) timers: Vec<(u64, Time)>,
    pub(crate) failed_connects: Vec<u64>,
    pub(crate) messages: u64,
    /// Peers of which a message came before the answer to the one before was made.
    pub(crate) impatient: Vec<u32>,
    pub(crate) wrong: Option<String>,
}

impl Book {
    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }
}

/// The handler.
pub(crate) struct Service(pub(crate) Rc<RefCell<Book>>);

impl Service {
    fn seat(&mut self, peer: u32, id: ConnectionId, accepted: bool) -> u32 {
        let now = sys::now();
        let mut book = self.0.borrow_mut();
        let seat = Seat {
            id,
            accepted,
            handled: 0,
            opened_at: now,
            handled_at: now,
            cause: None,
            owed: 0,
        };
        if book.seats.insert(peer, seat).is_some() {
            book.complain(|| format!("peer {peer} was opened twice"));
        }
        peer
    }
}

impl Handler for Service {
    type State = u32;

    fn on_open(&mut self, id: ConnectionId, peer: &SocketAddr) -> u32 {
        self.seat(peer_at(peer), id, true)
    }

    fn on_connect(&mut self, tag: u64, id: ConnectionId, peer: &SocketAddr) -> u32 {
        let number = peer_at(peer);
        if u64::from(number) != tag {
            self.0.borrow_mut().complain(|| format!("connect {tag} has reached {peer}"));
        }
        self.seat(number, id, false)
    }

    fn on_connect_error(&mut self, tag: u64, _: &sys::Error) {
        self.0.borrow_mut().failed_connects.push(tag);
    }

    fn on_timer(&mut self, tag: u64) {
        let now = sys::now();
        self.0.borrow_mut().timers.push((tag, now));
    }

    fn on_message(
        &mut self,
        peer: &mut u32,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let peer = *peer;
        let now = sys::now();
        let mut book = self.0.borrow_mut();
        book.messages += 1;
        let Some(question) = Question::read(message.content()) else {
            book.complain(|| format!("peer {peer} never asked {:?}", message.content()));
            return Ok(());
        };
        let Some(seat) = book.seats.get_mut(&peer) else {
            book.complain(|| format!("a message of peer {peer}, who was never opened"));
            return Ok(());
        };
        let expected = seat.handled;
        seat.handled += 1;
        seat.handled_at = now;
        let (closed, owed) = (seat.cause.is_some(), seat.owed);
        if (question.peer, question.sequence) != (peer, expected) {
            book.complain(|| format!("peer {peer}, message {expected}: it was {question:?}"));
        }
        if closed {
            book.complain(|| format!("peer {peer}: a message after the close"));
        }
        if owed > 0 {
            book.impatient.push(peer);
        }
        let Question { sequence, verb, .. } = question;
        match verb {
            Verb::Echo => reply.echo(&message)?,
            Verb::Sized(len) => {
                reply.binary("sim/answer", &answer_bytes(peer, sequence, len))?;
            }
            Verb::Json => {
                drop(book);
                message.json()?;
                reply.json(&serde_json::json!({ "peer": peer, "sequence": sequence }))?;
            }
            Verb::Nothing => {}
            Verb::Later | Verb::CloseLater => {
                let mut deferred = reply.defer()?;
                if verb == Verb::CloseLater {
                    deferred.close();
                }
                let content = answer_bytes(peer, sequence, 0);
                let outgoing = Outgoing::binary("sim/answer", content);
                if let Some(seat) = book.seats.get_mut(&peer) {
                    seat.owed += 1;
                }
                book.promises.push(Promise { peer, deferred, outgoing });
            }
            Verb::Abandon => drop(reply.defer()?),
            Verb::Error => return Err(HandlerError::new("Refused", "not today")),
            Verb::BadJson => {
                drop(book);
                message.json()?;
            }
            Verb::Close => {
                reply.binary("sim/answer", &answer_bytes(peer, sequence, 0))?;
                reply.close();
            }
            Verb::Panic => {
                drop(book);
                // As panic! does, whose message nobody would see.
                std::panic::resume_unwind(Box::new("a handler that was asked to"));
            }
        }
        Ok(())
    }

    fn on_close(&mut self, peer: u32, cause: Cause) {
        let mut book = self.0.borrow_mut();
        let Some(seat) = book.seats.get_mut(&peer) else {
            return book.complain(|| format!("peer {peer} was closed and never opened"));
        };
        if seat.cause.replace(cause).is_some() {
            book.complain(|| format!("peer {peer} was closed twice"));
        }
    }
}
