//! [`Link`]: the connections to one broker at a time, on an event loop of their own.
//!
//! All that happens to them is one *round*: its lanes are connected, greet, and are used until one of
//! them fails. Then all are closed, and after a while another round begins, with the next broker
//! where there are several. What belongs to an earlier round is passed over.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use myriapod::link::LinkFault;
use myriapod::sys::{self, SystemError};
use myriapod::{
    Cause, ConnectionId, Handle, Handler, HandlerResult, Message, Outgoing, Reply, SocketAddr, View,
};

use crate::backoff::Backoff;
use crate::broker::{BrokerStats, Inbox, Incoming};
use crate::dialect::{Dialect, Heard, Wire};
use crate::target::Target;

/// For connecting, and then for greeting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a broker is asked whether it is there. One that says nothing for two of these is not.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// The most lanes of any broker.
const LANES: usize = 2;

/// What timers of the loop are for; the round is beside it.
const RECONNECT: u64 = 0;
const GREETED: u64 = 1;
const ALIVE: u64 = 2;
const KINDS: u64 = 4;

/// What a link and its user share.
pub(crate) struct Link {
    targets: Box<[Target]>,
    /// Bytes that may be sent and not confirmed.
    max_waiting: usize,
    inbox: OnceLock<Inbox>,
    handle: OnceLock<Handle>,
    state: Mutex<State>,
}

struct State {
    /// All that is to be subscribed.
    wanted: BTreeSet<Box<str>>,
    round: u64,
    dialect: Box<dyn Dialect>,
    lanes: [Lane; LANES],
    is_up: bool,
    /// Bytes of each message that is sent and not confirmed, the oldest first.
    waiting: VecDeque<usize>,
    waiting_bytes: usize,
    /// Brokers and addresses tried so far.
    attempts: usize,
    backoff: Backoff,
    stats: BrokerStats,
}

#[derive(Clone, Copy, Default)]
struct Lane {
    connection: Option<ConnectionId>,
    is_ready: bool,
    /// Something came since it was last asked whether it is there.
    is_alive: bool,
}

impl Link {
    /// A link to the first of these that can be reached.
    pub(crate) fn new(first: Target, others: Vec<Target>, max_waiting: usize) -> Self {
        let dialect = first.dialect();
        let targets = std::iter::once(first).chain(others).collect();
        let state = State {
            wanted: BTreeSet::new(),
            round: 0,
            dialect,
            lanes: [Lane::default(); LANES],
            is_up: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            attempts: 0,
            backoff: Backoff::new(),
            stats: BrokerStats::default(),
        };
        let (inbox, handle) = (OnceLock::new(), OnceLock::new());
        Self { targets, max_waiting, inbox, handle, state: Mutex::new(state) }
    }

    /// The framing of all of them.
    pub(crate) fn framing(&self) -> Wire {
        self.state().dialect.framing()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes goes to `inbox`, and the loop can be asked with `handle`.
    pub(crate) fn begin(&self, inbox: Inbox, handle: Handle) {
        let _ = self.inbox.set(inbox);
        let _ = self.handle.set(handle);
    }

    pub(crate) fn stats(&self) -> BrokerStats {
        let state = self.state();
        BrokerStats {
            is_up: state.is_up,
            waiting: state.waiting.len() as u64,
            channels: state.wanted.len() as u64,
            ..state.stats
        }
    }

    pub(crate) fn publish(&self, channel: &str, payload: &[u8]) -> bool {
        let mut state = self.state();
        let fits = payload.len() <= state.dialect.max_payload()
            && (state.waiting_bytes == 0
                || state.waiting_bytes + payload.len() <= self.max_waiting);
        if !state.is_up || !fits {
            return false;
        }
        let mut out = Vec::new();
        state.dialect.publish(channel, payload, &mut out);
        let lane = state.dialect.publishing_lane();
        if !self.send(&state, lane, out) {
            return false;
        }
        state.dialect.published();
        state.waiting.push_back(payload.len());
        state.waiting_bytes += payload.len();
        true
    }

    pub(crate) fn subscribe(&self, channel: &str) {
        let mut state = self.state();
        if state.wanted.insert(channel.into()) && state.is_up {
            let mut out = Vec::new();
            state.dialect.subscribe(channel, &mut out);
            self.insist(&mut state, out);
        }
    }

    pub(crate) fn unsubscribe(&self, channel: &str) {
        let mut state = self.state();
        if state.wanted.remove(channel) && state.is_up {
            let mut out = Vec::new();
            state.dialect.unsubscribe(channel, &mut out);
            self.insist(&mut state, out);
        }
    }

    /// Sends what changes subscriptions. Where the loop does not take it, the round is over: the next
    /// one begins with all that are wanted.
    fn insist(&self, state: &mut State, out: Vec<u8>) {
        if !self.send(state, 0, out) {
            self.close(state);
        }
    }

    /// Queues bytes for a lane.
    fn send(&self, state: &State, lane: usize, bytes: Vec<u8>) -> bool {
        let connection = state.lanes.get(lane).and_then(|lane| lane.connection);
        let (Some(handle), Some(connection)) = (self.handle.get(), connection) else {
            return false;
        };
        if bytes.is_empty() {
            return true;
        }
        // One that could not be woken looks in its next turn.
        let sent = handle.send(connection, Outgoing::binary("", bytes));
        matches!(sent, Ok(()) | Err(myriapod::HandleError::NotWoken))
    }

    /// Has all lanes closed; their ends end the round.
    fn close(&self, state: &mut State) {
        state.is_up = false;
        for connection in state.lanes.iter().filter_map(|lane| lane.connection) {
            if let Some(handle) = self.handle.get() {
                // A loop that is gone has closed it.
                let _ = handle.close_now(connection);
            }
        }
    }

    fn timer(&self, after: Duration, kind: u64, round: u64) {
        if let Some(handle) = self.handle.get() {
            // The one reason not to take it is the end.
            let _ = handle.timer(after, round * KINDS + kind);
        }
    }

    fn tell(&self, incoming: Incoming<'_>) {
        if let Some(inbox) = self.inbox.get() {
            inbox(incoming);
        }
    }

    /// The broker of this attempt.
    fn target(&self, state: &State) -> Option<&Target> {
        self.targets.get(state.attempts % self.targets.len().max(1))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// The handler of the link's loop.
pub(crate) struct Talker(pub(crate) Arc<Link>);

/// Which lane a connection is, of which round.
pub(crate) struct Place {
    lane: usize,
    round: u64,
}

impl Talker {
    /// Begins a round.
    fn connect(&self) {
        let link = &*self.0;
        let (target, which) = {
            let state = link.state();
            let Some(target) = link.target(&state).cloned() else { return };
            (target, state.attempts / link.targets.len().max(1))
        };
        // This may take long; nobody waits for this loop.
        let addresses = sys::resolve(target.host(), target.port());
        let mut state = link.state();
        state.round += 1;
        let round = state.round;
        state.dialect = target.dialect();
        state.lanes = [Lane::default(); LANES];
        let address = match &addresses {
            Ok(addresses) => addresses.get(which % addresses.len().max(1)).cloned(),
            Err(_) => None,
        };
        let (Some(address), Some(handle)) = (address, link.handle.get()) else {
            let why =
                addresses.err().map_or_else(|| "it has no address".to_owned(), |e| e.to_string());
            self.fail(state, round, &why);
            return;
        };
        for lane in 0..state.dialect.lanes().min(LANES) {
            // Told below, by `on_connect` or `on_connect_error`.
            let (address, tag) = (address.clone(), round * LANES as u64 + lane as u64);
            let _ = match target.caller() {
                Some(to) => handle.connect_secure(address, tag, PATIENCE, to.clone()),
                None => handle.connect(address, tag, PATIENCE),
            };
        }
        link.timer(PATIENCE * 2, GREETED, round);
    }

    /// The round is over.
    fn fail(&self, mut state: MutexGuard<'_, State>, round: u64, why: &str) {
        let link = &*self.0;
        if state.round != round {
            return;
        }
        link.close(&mut state);
        // What comes of this round from now on is passed over.
        state.round += 1;
        let (next, wait) = (state.round, state.backoff.wait());
        state.stats.failures += 1;
        state.stats.unconfirmed += state.waiting.len() as u64;
        state.waiting.clear();
        state.waiting_bytes = 0;
        state.lanes = [Lane::default(); LANES];
        let broker = link.target(&state).map_or_else(String::new, ToString::to_string);
        state.attempts += 1;
        drop(state);
        link.timer(wait, RECONNECT, next);
        link.tell(Incoming::Down { broker: &broker, why });
    }

    /// A lane can be used; once all can, everything is subscribed.
    fn ready(&self, mut state: MutexGuard<'_, State>, lane: usize) {
        let link = &*self.0;
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.is_ready = true;
        }
        let count = state.dialect.lanes();
        if state.is_up || !state.lanes.iter().take(count).all(|lane| lane.is_ready) {
            return;
        }
        let State { wanted, dialect, .. } = &mut *state;
        let mut out = Vec::new();
        for channel in wanted.iter() {
            dialect.subscribe(channel, &mut out);
        }
        state.is_up = true;
        state.backoff.reset();
        let round = state.round;
        link.insist(&mut state, out);
        let broker = link.target(&state).map_or_else(String::new, ToString::to_string);
        drop(state);
        link.timer(ALIVE_EVERY, ALIVE, round);
        link.tell(Incoming::Up { broker: &broker });
    }

    /// Asks all lanes whether they are there, unless one did not answer last time.
    fn ask(&self, mut state: MutexGuard<'_, State>, round: u64) {
        let link = &*self.0;
        let count = state.dialect.lanes().min(LANES);
        if state.lanes.iter().take(count).any(|lane| !lane.is_alive) {
            self.fail(state, round, "it does not answer any more");
            return;
        }
        for nth in 0..count {
            let mut out = Vec::new();
            state.dialect.ping(nth, &mut out);
            link.send(&state, nth, out);
            if let Some(lane) = state.lanes.get_mut(nth) {
                lane.is_alive = false;
            }
        }
        drop(state);
        link.timer(ALIVE_EVERY, ALIVE, round);
    }
}

impl Handler for Talker {
    type State = Place;

    fn on_start(&mut self, handle: &Handle) {
        // `begin` was called with the same one.
        let _ = handle.timer(Duration::ZERO, RECONNECT);
    }

    // Nobody connects to this loop.
    fn on_open(&mut self, view: &mut View<'_>, _peer: &SocketAddr) -> Place {
        view.close_now();
        Place { lane: 0, round: 0 }
    }

    fn on_connect(&mut self, tag: u64, view: &mut View<'_>, _peer: &SocketAddr) -> Place {
        let lanes = LANES as u64;
        let (round, lane) = (tag / lanes, usize::try_from(tag % lanes).unwrap_or(0));
        let mut state = self.0.state();
        if state.round != round {
            view.close_now();
            return Place { lane, round };
        }
        let hello = state.dialect.opened(lane);
        let preface = view.tls().map(|tls| state.dialect.preface(tls.preface()));
        if let Some(lane) = state.lanes.get_mut(lane) {
            *lane = Lane { connection: Some(view.id()), is_ready: false, is_alive: true };
        }
        if !hello.is_empty() {
            // A new connection has room for it.
            let _ = view.push(&Outgoing::binary("", hello));
        }
        match preface {
            Some(Heard::Say(bytes)) => {
                let _ = view.push(&Outgoing::binary("", bytes));
            }
            Some(Heard::Failed(why)) => {
                view.close_now();
                self.fail(state, round, &why);
            }
            _ => {}
        }
        Place { lane, round }
    }

    fn on_connect_error(&mut self, tag: u64, error: &SystemError) {
        let state = self.0.state();
        self.fail(state, tag / LANES as u64, &error.to_string());
    }

    fn on_handshake_error(&mut self, tag: u64, fault: &LinkFault) {
        let state = self.0.state();
        self.fail(state, tag / LANES as u64, &fault.text);
    }

    fn on_message(
        &mut self,
        place: &mut Place,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let link = &*self.0;
        let mut state = link.state();
        if state.round != place.round {
            return Ok(());
        }
        if let Some(lane) = state.lanes.get_mut(place.lane) {
            lane.is_alive = true;
        }
        match state.dialect.heard(place.lane, &message) {
            Heard::Nothing => {}
            Heard::Say(bytes) => {
                drop(state);
                reply.binary("", &bytes)?;
            }
            Heard::Ready => self.ready(state, place.lane),
            heard @ (Heard::Published | Heard::Refused) => {
                if let Some(bytes) = state.waiting.pop_front() {
                    state.waiting_bytes = state.waiting_bytes.saturating_sub(bytes);
                    match heard {
                        Heard::Published => state.stats.published += 1,
                        _ => state.stats.unconfirmed += 1,
                    }
                }
            }
            Heard::Message { channel, payload } => {
                drop(state);
                link.tell(Incoming::Message { channel, payload });
            }
            Heard::Complaint(why) => {
                let broker = link.target(&state).map_or_else(String::new, ToString::to_string);
                drop(state);
                link.tell(Incoming::Refused { broker: &broker, why: &why });
            }
            Heard::Failed(why) => {
                reply.view().close_now();
                self.fail(state, place.round, &why);
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, tag: u64) {
        let (round, kind) = (tag / KINDS, tag % KINDS);
        let state = self.0.state();
        if state.round != round {
            return;
        }
        match kind {
            RECONNECT => {
                drop(state);
                self.connect();
            }
            GREETED if !state.is_up => self.fail(state, round, "it does not greet in time"),
            ALIVE => self.ask(state, round),
            _ => {}
        }
    }

    fn on_push_dropped(&mut self, place: &mut Place, view: &mut View<'_>, _count: u64) {
        // So much waits for the broker that something is missing: it begins anew.
        view.close_now();
        let state = self.0.state();
        self.fail(state, place.round, "it reads too slowly");
    }

    fn on_close(&mut self, place: Place, _view: &mut View<'_>, cause: Cause) {
        let state = self.0.state();
        if matches!(cause, Cause::Drained | Cause::CutOff | Cause::Dropped) {
            return;
        }
        let why = match cause {
            Cause::Peer => "it closed the connection".to_owned(),
            cause => format!("the connection was closed: {}", cause.name()),
        };
        self.fail(state, place.round, &why);
    }
}
