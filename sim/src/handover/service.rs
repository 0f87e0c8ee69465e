//! The service of all processes of a world, and what is known of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use myriapod::sys;
use myriapod::sys::sim::is_killed;
use myriapod::{
    Cause, Deferred, Handle, Handler, HandlerResult, LogEvent, Message, Outgoing, Reply,
    SocketAddr, View,
};

use crate::replies::{To, push_content};
use crate::request::{Question, Verb, answer_bytes};
use crate::service::peer_at;

/// The group that some connections are in.
pub(super) const GROUP: &str = "group";

/// Whether a guest is to be in the group.
pub(super) fn is_member(guest: u32) -> bool {
    !guest.is_multiple_of(3)
}

/// What is known of a guest's connection.
#[derive(Debug)]
pub(super) struct Seat {
    /// The process that has it, as far as that is known.
    pub(super) process: u32,
    /// How many requests were handled, by whichever process.
    pub(super) handled: u32,
    /// How it ended, if it has.
    pub(super) cause: Option<Cause>,
}

/// An answer that is to be made later.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) process: u32,
    pub(super) deferred: Deferred,
    pub(super) outgoing: Outgoing,
}

/// What all processes have told.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) seats: BTreeMap<u32, Seat>,
    pub(super) promises: Vec<Promise>,
    /// Servers that are built and not over, each with its handle.
    pub(super) serving: BTreeMap<u32, Handle>,
    /// Servers that have handed over, and have something left to do maybe.
    pub(super) ending: BTreeMap<u32, Handle>,
    /// To which process each has handed over.
    pub(super) successors: BTreeMap<u32, u32>,
    pub(super) messages: u64,
    pub(super) restored: u64,
    /// Hand-overs that came to something, and those that did not.
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) wrong: Option<String>,
}

/// A book that several threads write in. No call is made while it is open: another thread may go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Book>>);

impl Shared {
    pub(super) fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a server's log is told.
    pub(super) fn note(&self, process: u32, event: &LogEvent<'_>) {
        match event {
            LogEvent::HandedOver { process: to, .. } => {
                let mut book = self.open();
                book.successors.insert(process, *to);
                let handle = book.serving.remove(&process);
                book.ending.extend(handle.map(|handle| (process, handle)));
                book.done += 1;
            }
            LogEvent::NotHandedOver { .. } => self.open().failed += 1,
            _ => {}
        }
    }
}

impl Book {
    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }
}

/// What a process keeps of a connection.
#[derive(Debug)]
pub(super) struct State {
    guest: u32,
    handled: u32,
}

/// The handler of one loop.
pub(super) struct Service {
    book: Shared,
    process: u32,
}

impl Service {
    pub(super) fn new(book: Shared) -> Self {
        Self { book, process: sys::pid() }
    }

    fn seat(&self, guest: u32, handled: u32, is_new: bool) {
        let process = self.process;
        let mut book = self.book.open();
        let before = book.seats.get(&guest).map(|seat| (seat.process, seat.handled, seat.cause));
        match before {
            Some(_) if is_new => book.complain(|| format!("guest {guest} was opened twice")),
            None if !is_new => book.complain(|| format!("guest {guest} was never opened")),
            Some((_, known, _)) if known != handled => book.complain(|| {
                format!("guest {guest}: {handled} requests were handled, and in truth {known}")
            }),
            Some((_, _, Some(cause))) => {
                book.complain(|| format!("guest {guest} goes on after its end as {cause}"));
            }
            _ => {}
        }
        book.restored += u64::from(!is_new);
        book.seats.insert(guest, Seat { process, handled, cause: None });
    }
}

impl Handler for Service {
    type State = State;

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) -> State {
        let guest = peer_at(peer);
        self.seat(guest, 0, true);
        if is_member(guest) {
            // It is there, and hears of it at the end of the turn.
            let _ = view.handle().join(view.id(), GROUP);
        }
        State { guest, handled: 0 }
    }

    fn on_message(
        &mut self,
        state: &mut State,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let State { guest, handled } = state;
        let (guest, expected) = (*guest, *handled);
        *handled += 1;
        let question = Question::read(message.content());
        {
            let mut book = self.book.open();
            book.messages += 1;
            let process = self.process;
            let seat = book.seats.get_mut(&guest);
            let before = seat.map(|seat| {
                seat.handled += 1;
                (seat.handled - 1, seat.process)
            });
            if before != Some((expected, process)) {
                book.complain(|| {
                    format!("guest {guest}: message {expected} in {process}, and {before:?}")
                });
            }
            let asked = question.map(|question| (question.peer, question.sequence));
            if asked != Some((guest, expected)) {
                book.complain(|| format!("guest {guest}, message {expected}: {asked:?}"));
            }
        }
        let Some(Question { sequence, verb, .. }) = question else { return Ok(()) };
        match verb {
            Verb::Echo => reply.echo(&message)?,
            Verb::Sized(len) => {
                reply.binary("sim/answer", &answer_bytes(guest, sequence, len))?;
            }
            Verb::Json => {
                message.json()?;
                reply.json(&serde_json::json!({ "peer": guest, "sequence": sequence }))?;
            }
            Verb::Push => {
                let content = push_content(To::Asker(guest), u64::from(sequence), 0);
                // It may find no room.
                let _ = reply.view().push(&Outgoing::binary("sim/push", content));
                reply.binary("sim/answer", &answer_bytes(guest, sequence, 0))?;
            }
            Verb::Later => {
                let deferred = reply.defer()?;
                let answer = answer_bytes(guest, sequence, 0);
                let outgoing = Outgoing::binary("sim/answer", answer);
                let process = self.process;
                self.book.open().promises.push(Promise { process, deferred, outgoing });
            }
            _ => {}
        }
        Ok(())
    }

    fn hands_over(&self) -> bool {
        true
    }

    fn save(&mut self, state: &State, saved: &mut Vec<u8>) -> bool {
        saved.extend_from_slice(&state.guest.to_le_bytes());
        saved.extend_from_slice(&state.handled.to_le_bytes());
        true
    }

    fn restore(&mut self, saved: &[u8], _: &mut View<'_>, peer: &SocketAddr) -> Option<State> {
        let (guest, handled) = saved.split_first_chunk()?;
        let guest = u32::from_le_bytes(*guest);
        let handled = u32::from_le_bytes(handled.try_into().ok()?);
        if guest != peer_at(peer) {
            let mut book = self.book.open();
            book.complain(|| format!("guest {guest} was restored at the socket of {peer}"));
        }
        self.seat(guest, handled, false);
        Some(State { guest, handled })
    }

    fn on_close(&mut self, state: State, _: &mut View<'_>, cause: Cause) {
        if is_killed() {
            return;
        }
        let State { guest, .. } = state;
        let process = self.process;
        let mut book = self.book.open();
        let successor = book.successors.get(&process).copied();
        // The successor may have it already, and the one after that.
        let seat = book.seats.get_mut(&guest).filter(|seat| seat.process == process);
        match (seat, cause) {
            (Some(seat), Cause::HandedOver) => seat.process = successor.unwrap_or(process),
            (Some(seat), _) => {
                let again = seat.cause.replace(cause).is_some();
                if again {
                    book.complain(|| format!("guest {guest} was closed twice"));
                }
            }
            (None, Cause::HandedOver) => {}
            (None, _) => {
                book.complain(|| format!("guest {guest} was closed as {cause} in {process}"));
            }
        }
    }
}
