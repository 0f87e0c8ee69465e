//! [`EventLoop`]: wait, receive, answer, send, accept, expire, close.
//!
//! One turn is [`EventLoop::run_once`]; each of its steps has a file of its own.

mod accept;
mod addresses;
mod arrive;
mod audit;
mod catch_up;
mod close;
mod drain;
#[cfg(all(test, feature = "json"))]
mod entries;
mod greeting;
mod hand_over;
mod handshake;
mod inbox;
mod memory;
mod receive;
mod secure;
mod seed;
mod send;
mod shared;
mod spin;
mod streams;
mod take_over;
mod timers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{
    self as sys, BorrowedFd, Descriptor, Interest, Signal, Signals, SocketAddr, SocketFile, Time,
};

use self::accept::Acceptor;
use self::arrive::{Arrival, Arriving};
pub use self::audit::Audit;
use self::catch_up::CatchUp;
use self::drain::Drain;
use self::hand_over::Leaving;
use self::handshake::HANDSHAKE_STEPS;
use self::inbox::Inbox;
use self::memory::GiveBack;
pub(crate) use self::seed::{Openers, Opening, Proxies, Seed};
use self::shared::{After, Shared};
use self::spin::Spin;
use crate::connection::{Connection, Lingering, Socket};
use crate::engine::{Engine, OwnOf};
use crate::error::Error;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::link::{Link, LinkFault, Plain};
use crate::log::LogEvent;
use crate::loops::{Member, StopAll};
use crate::mailbox::Mailbox;
use crate::protocol::{DefaultFraming, Framing};
use crate::selector::Selector;
use crate::slab::{Key, Slab};
use crate::stats::{Cause, Stats};
use crate::timer::{self, TICK, Tick, TimerEntries, TimerLinks, Wheel};

/// Capacity of the receive buffer that all connections of a loop share.
const SHARED_RECV: usize = 64 << 10;

/// Timers that are fired or moved in one turn.
const TIMER_BUDGET: u32 = 1024;

/// As how many of them a connection counts that is closed: that takes the kernel a while, the more the
/// more its peer has sent and we have not read.
const CLOSE_COST: u32 = 64;

/// The counts are left where the handler can read them once in this time: a second. More often once
/// it has.
const PUBLISH_TICKS: u32 = 100;

/// One thread's server: its sockets, its timers, its buffers and its handler.
///
/// Made by [`ServerBuilder`](crate::ServerBuilder). Its methods are of four kinds:
///
/// - **Run it.** [`run`](Self::run) serves until it is stopped: turn after turn.
///   [`run_once`](Self::run_once) does one turn: wait, handle what is ready, accept, fire timers, then
///   do what other threads have asked for.
/// - **Put it into another loop.** There, call `run_once` with a timeout of zero when
///   [`as_fd`](Self::as_fd) (or its duplicate, [`descriptor`](Self::descriptor)) is readable, or when
///   [`timeout`](Self::timeout) has passed. Ask for the timeout again after each turn.
/// - **Look at it and ask it for something.** [`stats`](Self::stats), [`audit`](Self::audit),
///   [`handler_mut`](Self::handler_mut), and [`handle`](Self::handle), which other threads may use
///   while it runs.
/// - **End it.** [`begin_drain`](Self::begin_drain) starts a graceful stop and
///   [`cut_off`](Self::cut_off) ends it at once; after either, go on with turns until
///   [`is_finished`](Self::is_finished).
///
/// Between two turns, this holds: a connection with nothing unfinished has no buffer; it has at most
/// one timer in the wheel, which is never set behind its next deadline; where something is left to do
/// that no descriptor tells of (messages that wait in our own buffers), `timeout` is zero. The
/// simulation checks these after each turn.
pub struct EventLoop<H: Handler, F: Framing = DefaultFraming, L: Link = Plain> {
    // Before the selector: the files of Unix sockets go before their listeners.
    acceptor: Acceptor,
    selector: Selector<Role<OwnOf<H, F>, L::Kept>>,
    wheel: Wheel,
    shared: Shared<H, F, L>,
    signals: Option<Signals>,
    signals_at: Option<Key>,
    mailbox: Arc<Mailbox>,
    inbox: Inbox,
    member: Member,
    /// Sockets that wait for a step before they become connections.
    arrivals: Slab<Arrival<L>>,
    /// What the handshakes of each listener begin with, by its number.
    openers: Openers<L>,
    /// Handshakes that are under way, and steps of them that may be taken in this turn.
    handshakes: usize,
    handshake_steps: u32,
    /// The clock as it was read after the last wait.
    now: Time,
    turn: u64,
    /// What the ordinary event says: readable; nothing while the loop is being stopped.
    ordinary: Interest,
    /// An event that is not the ordinary one is being handled.
    is_dispatching: bool,
    drain: Option<Drain>,
    leaving: Leaving,
    catch_up: CatchUp,
    spin: Spin,
    give_back: GiveBack,
    /// Limits have changed: the entries whose timers are to be looked at, from the first up to the
    /// second.
    rearming: Option<(u32, u32)>,
    /// When the counts were last left where the handler can read them.
    published: Tick,
}

/// What a registered descriptor is for. The first three are the stages of a connection's life, in
/// their order.
#[derive(Debug)]
enum Role<S, K = ()> {
    Arriving(Arriving),
    Connection(Connection<S, K>),
    Lingering(Lingering),
    /// A listener, with its number.
    Listener(u16),
    Signals,
    /// Where processes knock that want to take over.
    Successors,
}

/// The connection with this key, if it is one, and its socket.
fn connection_at<S, K>(
    selector: &mut Selector<Role<S, K>>,
    key: Key,
) -> Option<(BorrowedFd<'_>, &mut Connection<S, K>)> {
    match selector.entry_mut(key)? {
        (source, Role::Connection(connection)) => Some((source, connection)),
        _ => None,
    }
}

/// The same of a socket that arrives.
fn arriving_at<S, K>(
    selector: &mut Selector<Role<S, K>>,
    key: Key,
) -> Option<(BorrowedFd<'_>, &mut Arriving)> {
    match selector.entry_mut(key)? {
        (source, Role::Arriving(arriving)) => Some((source, arriving)),
        _ => None,
    }
}

/// Gives a socket its next role.
fn promote<S, K>(selector: &mut Selector<Role<S, K>>, key: Key, next: Role<S, K>) {
    if let Some((_, role)) = selector.entry_mut(key) {
        *role = next;
    }
}

/// What one turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Events that the system reported.
    pub events: usize,
    /// Whether the loop was stopped and has nothing left to do.
    pub finished: bool,
}

/// The openers that there are.
fn known<O: Clone>(openers: &[Option<O>]) -> Vec<O> {
    openers.iter().flatten().cloned().collect()
}

/// The timers run through the entries of the selector.
struct Timers<'a, S, K>(&'a mut Selector<Role<S, K>>);

impl<S, K> TimerEntries for Timers<'_, S, K> {
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
        match self.0.at_mut(index) {
            Some((_, Role::Connection(connection))) => Some(&mut connection.timer),
            Some((_, Role::Lingering(lingering))) => Some(&mut lingering.timer),
            Some((_, Role::Arriving(arriving))) => Some(&mut arriving.timer),
            Some((_, Role::Listener(_) | Role::Signals | Role::Successors)) | None => None,
        }
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Bytes of memory that one idle connection takes, the handler's own state included.
    pub const BYTES_PER_CONNECTION: usize = Selector::<Role<OwnOf<H, F>, L::Kept>>::ENTRY_SIZE;

    pub(crate) fn new(
        seed: Seed<L>,
        engine: impl FnOnce(Arc<Mailbox>, Handle) -> Engine<H, F>,
    ) -> Result<Self, Error> {
        let Seed { member, poller, mailbox, listeners, proxies, openers } = seed;
        let link = L::for_loop(&known(&openers)).map_err(Error::Link)?;
        let mut engine = engine(Arc::clone(&mailbox), member.handle());
        let limits = engine.config.limits.clone();
        engine.set_limits(limits.clone());
        // For as long as this call: the loop may be run by another thread.
        mailbox.set_owner(sys::this_thread());
        engine.handler.on_start(&member.handle());
        mailbox.set_owner(0);
        let spin = Spin::new(engine.config.spin);
        let now = sys::now();
        let mut event_loop = Self {
            selector: Selector::over(poller),
            wheel: Wheel::new(),
            acceptor: Acceptor::new(&limits, member.usages()),
            shared: Shared::new(engine, link, member.loops(), now),
            signals: None,
            signals_at: None,
            mailbox,
            inbox: Inbox::default(),
            member,
            arrivals: Slab::new(),
            openers,
            handshakes: 0,
            handshake_steps: 0,
            now,
            turn: 0,
            ordinary: Interest::READABLE,
            is_dispatching: false,
            drain: None,
            leaving: Leaving::default(),
            catch_up: CatchUp::default(),
            spin,
            give_back: GiveBack::default(),
            rearming: None,
            published: 0_u32.wrapping_sub(PUBLISH_TICKS),
        };
        event_loop.set_proxies(proxies);
        for opening in listeners {
            event_loop.add_listener(opening)?;
        }
        Ok(event_loop)
    }

    /// What the handshakes of each listener begin with, by its number.
    pub(crate) fn secure(&mut self, openers: Openers<L>) -> Result<(), LinkFault> {
        self.shared.link = L::for_loop(&known(&openers))?;
        self.openers = openers;
        Ok(())
    }

    /// Adds a listening socket.
    pub(crate) fn add_listener(&mut self, opening: Opening) -> sys::Result<()> {
        let Opening { listener, number, file, spread } = opening;
        let key = self.selector.register(listener, Interest::READABLE, Role::Listener(number))?;
        self.acceptor.listeners.push(key);
        self.acceptor.files.extend(file.map(|file| (key, file)));
        self.acceptor.spread.extend(spread.then_some(key));
        Ok(())
    }

    /// The file of the Unix socket with this number goes with this server from now on.
    pub(crate) fn own_file(&mut self, number: u16, address: &SocketAddr) -> sys::Result<()> {
        let file = SocketFile::of(address)?;
        let is_it = |key: &&Key| matches!(self.selector.get(**key), Some(Role::Listener(known)) if *known == number);
        if let (Some(file), Some(key)) = (file, self.acceptor.listeners.iter().find(is_it)) {
            self.acceptor.files.push((*key, file));
        }
        Ok(())
    }

    /// From where each listener takes PROXY headers.
    pub(crate) fn set_proxies(&mut self, proxies: Proxies) {
        self.acceptor.proxies = proxies;
    }

    /// Stops gracefully at the first of these signals, and at once at the second; `SIGUSR1` asks
    /// for a report.
    pub(crate) fn add_signals(&mut self, signals: Signals) -> sys::Result<()> {
        self.signals = Some(signals);
        self.watch_signals()
    }

    /// Where the process has forked since the server was built, the signals go to the one that runs
    /// the loop.
    fn take_over_signals(&mut self) -> sys::Result<()> {
        if let Some(signals) = &mut self.signals
            && signals.take_over()?
        {
            self.watch_signals()?;
        }
        Ok(())
    }

    /// Watches the descriptor that leads to the signals, in place of one that did before.
    fn watch_signals(&mut self) -> sys::Result<()> {
        let Some(signals) = &self.signals else { return Ok(()) };
        let descriptor = signals.try_clone_descriptor()?;
        let key = self.selector.register(descriptor, Interest::READABLE, Role::Signals)?;
        self.signals_at.replace(key).and_then(|before| self.selector.close(before));
        Ok(())
    }

    /// A handle of this loop, and of the server's others, for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.member.handle()
    }

    /// What every loop of the server is asked through.
    pub(crate) fn mailboxes(&self) -> Arc<[Arc<Mailbox>]> {
        self.member.mailboxes()
    }

    /// What takes a place for a connection of another process, and says in which loop.
    pub(crate) fn usher(&self) -> impl Fn() -> usize + Send + 'static {
        self.member.usher()
    }

    /// What stops all loops of the server when this one cannot go on.
    pub(crate) fn stop_all(&self) -> StopAll {
        self.member.stop_all()
    }

    /// The handler.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.shared.engine.handler
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.engine.stats.clone();
        stats.stale_events = self.selector.stale_events();
        stats.link = self.shared.link.counts();
        stats.groups = self.inbox.groups() as u64;
        stats.pool_bytes = self.shared.pool.lent() as u64;
        stats.pool_buffers = self.shared.pool.held() as u64;
        stats.timers = (self.wheel.len() + self.shared.alarms.len()) as u64;
        stats
    }

    /// The descriptor that becomes readable when a turn has something to do, for use inside
    /// another loop; the backends `poll` and `select` have none.
    ///
    /// The other loop does one turn, `run_once(Some(Duration::ZERO))`, when this is readable or
    /// [`timeout`](Self::timeout) has passed. That is all where it is told for as long as a
    /// descriptor is readable (level-triggered: poll(2), another
    /// [`Selector`](crate::Selector)).
    ///
    /// Where it is told of changes only (edge-triggered: tokio, mio), it is not told again of what a
    /// turn has left in the kernel, such as peers in the backlog. There, **only a turn with
    /// [`events`](Turn::events) 0 shows that nothing is left**. So with tokio's `AsyncFd`, call
    /// `clear_ready()` after such a turn and after no other; with mio, do another turn until one
    /// has no events. What is left in the loop's own buffers, such as messages beyond
    /// `messages_per_event`, no descriptor tells of: then `timeout` is zero.
    ///
    /// It borrows the event loop. Where the other loop wants to own what it watches, give it a
    /// [`descriptor`](Self::descriptor).
    ///
    /// Source: epoll(7), "Level-triggered and edge-triggered"; for tokio and mio, their
    /// documentation of `AsyncFd` and of `Poll`.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.selector.as_fd()
    }

    /// An owned duplicate of [`as_fd`](Self::as_fd), for tokio's `AsyncFd`, mio's `SourceFd` and
    /// others that keep what they watch. The event loop stays free to be run. What `as_fd` says of
    /// loops that are told of changes only holds here too; the examples `inside_tokio` and
    /// `inside_mio` are whole programs.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use std::time::Duration;
    /// use myriapod::{Client, Interest, Selector, Server};
    ///
    /// let mut server = Server::builder().listen("127.0.0.1", 0).answer(|message, reply| {
    ///     reply.echo(&message)?;
    ///     Ok(())
    /// })?;
    /// let mut outer = Selector::new()?;
    /// outer.register(server.event_loop().descriptor()?, Interest::READABLE, "the server")?;
    ///
    /// let _client = Client::connect("127.0.0.1", server.addresses()[0].port().unwrap_or(0))?;
    /// while server.stats().accepted == 0 {
    ///     outer.select(server.event_loop().timeout())?;
    ///     server.event_loop().run_once(Some(Duration::ZERO))?;
    /// }
    /// # }
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Unsupported`](sys::SystemError::Unsupported) from the backends `poll` and
    /// `select`, which have no descriptor; `EMFILE`.
    pub fn descriptor(&self) -> sys::Result<Descriptor> {
        self.selector.descriptor()
    }

    /// How long from now until a turn is due even if nothing is ready; `None` for never. Zero says
    /// that something is left to do of which no descriptor tells. Ask again after each turn.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_from(sys::now())
    }

    fn timeout_from(&self, now: Time) -> Option<Duration> {
        let accepts = !self.acceptor.listeners.is_empty() && !self.acceptor.parked;
        let served = self.shared.served;
        let drains = self.drain.as_ref().is_some_and(|drain| drain.has_work(served) || accepts);
        let goes_on = self.rearming.is_some() || self.catch_up.is_under_way();
        if !self.shared.ready.is_empty() || drains || goes_on || self.inbox.has_work() {
            return Some(Duration::ZERO);
        }
        let until = |at: Option<Tick>| at.map_or(u32::MAX, |at| timer::until(self.shared.tick, at));
        let again = if self.member.owes_a_wake() { 1 } else { u32::MAX };
        let ahead = until(self.wheel.next())
            .min(again)
            .min(until(self.acceptor.paused_until))
            .min(until(self.shared.alarms.next()))
            .min(until(self.give_back.due()))
            .min(until(self.drain.as_ref().and_then(|drain| drain.deadline)));
        if ahead == u32::MAX {
            return None;
        }
        Some((self.shared.tick_began + TICK * ahead).saturating_since(now))
    }

    /// Serves until it is stopped. Returns whether that was graceful: all that was in flight was
    /// finished, and no second signal came.
    ///
    /// # Errors
    ///
    /// What the system says to a wait, which nothing can be done about.
    pub fn run(&mut self) -> sys::Result<bool> {
        self.take_over_signals()?;
        // One turn follows the other at once, so the clock of the last one will do.
        while !self.turn(None, self.now)?.finished {}
        let hurried = self.drain.as_ref().is_some_and(|drain| drain.hurried);
        Ok(!hurried && self.shared.engine.stats.closed_for(Cause::CutOff) == 0)
    }

    /// Does one turn: waits at most for `timeout` (`None`: until there is something to do), then
    /// does what there is to do. After the loop has finished, it returns at once.
    ///
    /// # Errors
    ///
    /// What the system says to a wait, which nothing can be done about.
    pub fn run_once(&mut self, timeout: Option<Duration>) -> sys::Result<Turn> {
        if self.turn == 0 {
            self.take_over_signals()?;
        }
        // The last turn may have been long ago.
        let now = if timeout == Some(Duration::ZERO) { self.now } else { sys::now() };
        self.turn(timeout, now)
    }

    fn turn(&mut self, timeout: Option<Duration>, now: Time) -> sys::Result<Turn> {
        self.mailbox.set_owner(sys::this_thread());
        if self.is_finished() {
            self.close_mailbox();
            return Ok(Turn { events: 0, finished: true });
        }
        let due = self.timeout_from(now);
        let timeout = match (timeout, due) {
            (Some(timeout), Some(due)) => Some(timeout.min(due)),
            (timeout, due) => timeout.or(due),
        };
        let events = if self.spin.is_on() && timeout != Some(Duration::ZERO) {
            self.spin.wait(timeout, sys::now, |timeout| self.selector.select(timeout))?
        } else {
            self.selector.select(timeout)?
        };
        self.turn += 1;
        let is_late = self.read_clock(timeout);
        if is_late || self.catch_up.is_under_way() {
            self.catch_up.note_turn(is_late, events, self.selector.end());
        }
        self.shared.engine.stats.wakeups += 1;
        self.shared.engine.stats.events += events as u64;

        // Those that were waiting for their turn before this one; new ones wait for the next.
        let leftovers = self.shared.ready.len();
        if !L::IS_PLAIN {
            self.handshake_steps = HANDSHAKE_STEPS;
        }
        self.handle_events();
        for _ in 0..leftovers {
            self.resume_next();
        }
        self.accept();
        if !self.catch_up.is_under_way() {
            self.expire();
        }
        self.rearm_some();
        self.work_inbox();
        self.member.wake_others();
        self.drain();
        self.give_back();
        if self.shared.tick.wrapping_sub(self.published) >= PUBLISH_TICKS
            || self.mailbox.wants_stats()
        {
            self.published = self.shared.tick;
            self.mailbox.publish(self.stats());
        }
        let finished = self.is_finished();
        if finished {
            self.close_mailbox();
        }
        Ok(Turn { events, finished })
    }

    /// Reads the clock after a wait that was to take `timeout` at most. Returns whether far more time
    /// has passed since the last turn.
    fn read_clock(&mut self, timeout: Option<Duration>) -> bool {
        self.now = sys::now();
        let elapsed = self.now.saturating_since(self.shared.tick_began);
        if elapsed < TICK {
            return false;
        }
        let ticks = u32::try_from(elapsed.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX);
        self.shared.tick = self.shared.tick.wrapping_add(ticks);
        self.shared.tick_began += TICK * ticks;
        CatchUp::is_due(ticks, timeout)
    }

    /// Handles an event that is not the ordinary one.
    #[inline(never)]
    fn dispatch(&mut self, key: Key, readiness: Interest) {
        match self.selector.get(key) {
            Some(Role::Connection(_)) => {
                self.work(key, |shared, at| {
                    let mut after = After::Settle(Socket::MayHoldMore);
                    // Reading comes first: what the peer sent before it went is not lost.
                    if readiness.is_readable() {
                        after = shared.receive(at);
                    }
                    if readiness.is_writable() && matches!(after, After::Settle(_)) {
                        after = shared.flush(at);
                    }
                    after
                });
            }
            Some(Role::Lingering(_)) => self.discard(key),
            Some(Role::Arriving(_)) => self.step_on(key),
            Some(Role::Listener(_)) => self.acceptor.waiting.push(key),
            Some(Role::Signals) => self.take_signals(),
            Some(Role::Successors) => self.greet_successor(),
            None => {}
        }
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.as_mut().and_then(Signals::take) {
            let at_once = self.drain.is_some();
            if signal == Signal::User1 {
                self.tell(&LogEvent::Report);
                continue;
            }
            if signal == Signal::Hangup {
                self.tell(&LogEvent::Reload);
                continue;
            }
            self.member.stop_others(at_once);
            if at_once {
                self.hurry();
            } else {
                self.begin_drain();
            }
        }
    }

    pub(crate) fn tell(&mut self, event: &LogEvent<'_>) {
        self.shared.engine.tell(event);
    }
}

impl<H: Handler, F: Framing, L: Link> Drop for EventLoop<H, F, L> {
    fn drop(&mut self) {
        self.close_mailbox();
        self.selector.abandon();
        self.close_post();
        // After a fork, the sockets are served on by the other process.
        self.leaving = Leaving::default();
        self.stop_arriving();
        for index in 0..self.selector.end() {
            if let Some((key, Role::Connection(_))) = self.selector.at_mut(index) {
                self.close(key, Cause::Dropped);
            }
        }
    }
}

impl<H: Handler, F: Framing, L: Link> fmt::Debug for EventLoop<H, F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("selector", &self.selector)
            .field("open", &self.shared.engine.stats.open)
            .field("draining", &self.drain.is_some())
            .finish_non_exhaustive()
    }
}
