//! The service under test, and what it notes of everything that the engine tells it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use myriapod::sys::sim::mix;
use myriapod::sys::{self, Time};
use myriapod::{
    Cause, ConnectionId, Deferred, Handler, HandlerError, HandlerResult, Message, Outgoing,
    PushError, Reply, SocketAddr, View,
};

use crate::framing::FramingKind;
use crate::raw::{self, Wish};
use crate::replies::{To, push_content};
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
    /// When its timer is due, if one is set, and how often one has fired.
    pub(crate) timer_due: Option<Time>,
    /// When it was due before the call that is under way.
    timer_before: Option<Time>,
    fired: u32,
    /// The service wanted it closed at once, maybe by a reset.
    pub(crate) cut: bool,
    pub(crate) reset: bool,
    /// When the service was told of its end.
    pub(crate) closed_at: Option<Time>,
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
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Messages that were pushed with an answer and found no room: whose, and with which.
    pub(crate) refused: Vec<(u32, u32)>,
    /// Pushes that were dropped, as the service was told.
    pub(crate) dropped: u64,
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

    fn is_accepted(&self, peer: u32) -> bool {
        self.seats.get(&peer).is_some_and(|seat| seat.accepted)
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

    /// What the service asked for in this call is not done, since it panics or its error ends the
    /// connection.
    fn unwind(&mut self, peer: u32) {
        if let Some(seat) = self.seats.get_mut(&peer) {
            seat.timer_due = seat.timer_before;
        }
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
    /// Whether it sets timers.
    pub(crate) sets_timers: bool,
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
            timer_due: None,
            timer_before: None,
            fired: 0,
            cut: false,
            reset: false,
            closed_at: None,
        };
        if book.seats.insert(peer, seat).is_some() {
            book.complain(|| format!("peer {peer} was opened twice"));
        }
        peer
    }

    /// With some messages the connection's timer is set, and with some it is cancelled.
    fn wind(&mut self, peer: u32, view: &mut View<'_>) {
        let mut book = self.book.borrow_mut();
        let Some(seat) = book.seats.get_mut(&peer).filter(|_| self.sets_timers) else { return };
        seat.timer_before = seat.timer_due;
        let bits =
            mix(u64::from(peer) << 32 | u64::from(seat.handled) << 8 | u64::from(seat.fired));
        match bits % 8 {
            0..=2 => {
                let after = Duration::from_millis(bits >> 8 & 0x3ff);
                view.set_timer(after);
                seat.timer_due = Some(sys::now() + after);
            }
            3 => {
                view.cancel_timer();
                seat.timer_due = None;
            }
            _ => {}
        }
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
                book.unwind(peer);
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
        self.book.borrow_mut().bytes += message.bytes().len() as u64;
        self.wind(peer, reply.view());
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
            Verb::Error => {
                if !book.is_accepted(peer) {
                    book.unwind(peer);
                }
                return Err(HandlerError::new("Refused", REFUSAL));
            }
            Verb::BadJson => {
                if !book.is_accepted(peer) {
                    book.unwind(peer);
                }
                drop(book);
                message.json()?;
            }
            Verb::Close => {
                reply.binary("sim/answer", &answer_bytes(peer, sequence, 0))?;
                reply.close();
            }
            Verb::Panic => {
                book.unwind(peer);
                drop(book);
                panic_as_asked();
            }
            Verb::Push => {
                let content = push_content(To::Asker(peer), u64::from(sequence), 0);
                let push = Outgoing::binary("sim/push", content);
                let answer = answer_bytes(peer, sequence, 0);
                let pushed = if sequence % 2 == 0 {
                    let pushed = reply.view().push(&push);
                    reply.binary("sim/answer", &answer)?;
                    pushed
                } else {
                    reply.binary("sim/answer", &answer)?;
                    reply.view().push(&push)
                };
                match pushed {
                    Ok(()) => {}
                    Err(PushError::Full) => book.refused.push((peer, sequence)),
                    // Sending has failed before: it would come for nobody.
                    Err(PushError::Closed) => {}
                    Err(error) => book.complain(|| format!("peer {peer}: push: {error}")),
                }
            }
            Verb::CloseNow | Verb::Reset => {
                if let Some(seat) = book.seats.get_mut(&peer) {
                    seat.cut = true;
                    seat.reset = verb == Verb::Reset;
                }
                match verb {
                    Verb::Reset => reply.view().reset(),
                    _ => reply.view().close_now(),
                }
            }
        }
        Ok(())
    }

    fn on_connection_timer(&mut self, peer: &mut u32, view: &mut View<'_>) {
        let (peer, now) = (*peer, sys::now());
        let mut book = self.book.borrow_mut();
        let Some(seat) = book.seats.get_mut(&peer) else {
            return book.complain(|| format!("a timer of peer {peer}, who was never opened"));
        };
        seat.fired += 1;
        let (due, closed) = (seat.timer_due.take(), seat.cause.is_some());
        if closed || due.is_none_or(|due| now < due) {
            book.complain(|| {
                format!("peer {peer}: its timer, due at {due:?}, fired at {now:?}, closed {closed}")
            });
        }
        drop(book);
        self.wind(peer, view);
    }

    fn on_push_dropped(&mut self, _: &mut u32, _: &mut View<'_>, count: u64) {
        self.book.borrow_mut().dropped += count;
    }

    fn on_close(&mut self, peer: u32, _: &mut View<'_>, cause: Cause) {
        let now = sys::now();
        let mut book = self.book.borrow_mut();
        let Some(seat) = book.seats.get_mut(&peer) else {
            return book.complain(|| format!("peer {peer} was closed and never opened"));
        };
        seat.closed_at = Some(now);
        if seat.cause.replace(cause).is_some() {
            book.complain(|| format!("peer {peer} was closed twice"));
        }
    }
}
