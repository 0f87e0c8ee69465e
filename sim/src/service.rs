//! The service under test, and what it notes of everything that the engine tells it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use myriapod::sys::{self, Time};
use myriapod::{
    Cause, ConnectionId, Deferred, Handler, HandlerError, HandlerResult, Message, Outgoing, Reply,
    SocketAddr, View,
};

use crate::framing::FramingKind;
use crate::raw::{self, Wish};
use crate::request::{Question, REFUSAL, Verb, answer_bytes};

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
    /// How many requests it has had.
    pub(crate) handled: u32,
    pub(crate) opened_at: Time,
    /// When it had the last one; when it was opened where there was none.
    pub(crate) handled_at: Time,
    pub(crate) cause: Option<Cause>,
    /// Deferred answers that are not made.
    pub(crate) owed: u32,
    /// Answers that its last message took with it, since where nothing is framed a message is of
    /// several requests.
    pub(crate) lost: u64,
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
    /// What peers send where nothing is framed, so that it is known what comes next.
    pub(crate) wires: BTreeMap<u32, Vec<u8>>,
}

impl Book {
    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    /// A message of `count` requests has come. Returns how many the peer has had before.
    fn note_requests(&mut self, peer: u32, count: u32) -> Option<u32> {
        self.messages += 1;
        let Some(seat) = self.seats.get_mut(&peer) else {
            self.complain(|| format!("a message of peer {peer}, who was never opened"));
            return None;
        };
        let before = seat.handled;
        seat.handled += count;
        seat.handled_at = sys::now();
        let (closed, owed) = (seat.cause.is_some(), seat.owed);
        if closed {
            self.complain(|| format!("peer {peer}: a message after the close"));
        }
        if owed > 0 {
            self.impatient.push(peer);
        }
        Some(before)
    }

    /// An answer to the peer is to be made later.
    fn promise(&mut self, peer: u32, deferred: Deferred, answer: Vec<u8>) {
        if let Some(seat) = self.seats.get_mut(&peer) {
            seat.owed += 1;
        }
        let outgoing = Outgoing::binary("sim/answer", answer);
        self.promises.push(Promise { peer, deferred, outgoing });
    }
}

/// The handler.
pub(crate) struct Service {
    pub(crate) book: Rc<RefCell<Book>>,
    pub(crate) framing: FramingKind,
}

impl Service {
    fn seat(&mut self, peer: u32, id: ConnectionId, accepted: bool) -> u32 {
        let now = sys::now();
        let mut book = self.book.borrow_mut();
        let seat = Seat {
            id,
            accepted,
            handled: 0,
            opened_at: now,
            handled_at: now,
            cause: None,
            owed: 0,
            lost: 0,
        };
        if book.seats.insert(peer, seat).is_some() {
            book.complain(|| format!("peer {peer} was opened twice"));
        }
        peer
    }

    /// Bytes without any framing: whatever has come at once.
    fn on_bytes(
        &mut self,
        peer: u32,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let bytes = message.content();
        let mut book = self.book.borrow_mut();
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(before) = book.note_requests(peer, count) else { return Ok(()) };
        let start = before as usize;
        let expected = book.wires.get(&peer).and_then(|wire| wire.get(start..start + bytes.len()));
        if expected != Some(bytes) {
            book.complain(|| format!("peer {peer}, from byte {before} on: it was {bytes:?}"));
        }
        let answer = raw::answer(bytes);
        let Wish { verb, is_later } = raw::wish(bytes);
        if matches!(verb, Verb::Abandon | Verb::Panic)
            && let Some(seat) = book.seats.get_mut(&peer)
        {
            seat.lost = answer.len() as u64;
        }
        match verb {
            Verb::Abandon => drop(reply.defer()?),
            Verb::Panic => {
                drop(book);
                panic_as_asked();
            }
            _ if is_later => {
                let mut deferred = reply.defer()?;
                if verb == Verb::Close {
                    deferred.close();
                }
                book.promise(peer, deferred, answer);
            }
            _ => {
                if answer == bytes {
                    reply.echo(message)?;
                } else if !answer.is_empty() {
                    reply.binary("", &answer)?;
                }
                if verb == Verb::Close {
                    reply.close();
                }
            }
        }
        Ok(())
    }
}

/// As panic! does, whose message nobody would see.
fn panic_as_asked() {
    std::panic::resume_unwind(Box::new("a handler that was asked to"));
}

impl Handler for Service {
    type State = u32;

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) -> u32 {
        self.seat(peer_at(peer), view.id(), true)
    }

    fn on_connect(&mut self, tag: u64, view: &mut View<'_>, peer: &SocketAddr) -> u32 {
        let number = peer_at(peer);
        if u64::from(number) != tag {
            self.book.borrow_mut().complain(|| format!("connect {tag} has reached {peer}"));
        }
        self.seat(number, view.id(), false)
    }

    fn on_connect_error(&mut self, tag: u64, _: &sys::SystemError) {
        self.book.borrow_mut().failed_connects.push(tag);
    }

    fn on_timer(&mut self, tag: u64) {
        let now = sys::now();
        self.book.borrow_mut().timers.push((tag, now));
    }

    fn on_message(
        &mut self,
        peer: &mut u32,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let peer = *peer;
        if self.framing == FramingKind::Raw {
            return self.on_bytes(peer, &message, reply);
        }
        let mut book = self.book.borrow_mut();
        let Some(expected) = book.note_requests(peer, 1) else { return Ok(()) };
        let Some(question) = Question::read(message.content()) else {
            book.complain(|| format!("peer {peer} never asked {:?}", message.content()));
            return Ok(());
        };
        if (question.peer, question.sequence) != (peer, expected) {
            book.complain(|| format!("peer {peer}, message {expected}: it was {question:?}"));
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
                book.promise(peer, deferred, answer_bytes(peer, sequence, 0));
            }
            Verb::Abandon => drop(reply.defer()?),
            Verb::Error => return Err(HandlerError::new("Refused", REFUSAL)),
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
                panic_as_asked();
            }
        }
        Ok(())
    }

    fn on_close(&mut self, peer: u32, _: &mut View<'_>, cause: Cause) {
        let mut book = self.book.borrow_mut();
        let Some(seat) = book.seats.get_mut(&peer) else {
            return book.complain(|| format!("peer {peer} was closed and never opened"));
        };
        if seat.cause.replace(cause).is_some() {
            book.complain(|| format!("peer {peer} was closed twice"));
        }
    }
}
