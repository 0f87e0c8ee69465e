//! [`EventLoop`]: wait, receive, answer, send, accept, expire, close.
//!
//! One turn is [`EventLoop::run_once`]; each of its steps has a file of its own.

mod accept;
#[cfg(myriapod_sim)]
mod audit;
mod close;
mod drain;
#[cfg(test)]
mod entries;
mod inbox;
mod memory;
mod receive;
mod seed;
mod send;
mod spin;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{self as sys, AsFd, BorrowedFd, Interest, Signal, Signals, Time};

use self::accept::Acceptor;
#[cfg(myriapod_sim)]
pub use self::audit::Audit;
use self::drain::Drain;
use self::inbox::Inbox;
use self::memory::GiveBack;
pub(crate) use self::seed::{Opening, Seed};
use self::spin::Spin;
use crate::buffer::Pool;
use crate::connection::{Connection, Engine};
use crate::crew::{Brake, Member};
use crate::handle::{Handle, Mailbox};
use crate::handler::{Desk, Handler};
use crate::log::LogEvent;
use crate::protocol::{Framing, JsonHeader};
use crate::selector::Selector;
use crate::slab::Key;
use crate::stats::{Cause, Stats};
use crate::timer::{self, TICK, Tick, TimerEntries, TimerLinks, Wheel};

/// Capacity of the receive buffer that all connections of a loop share.
const SHARED_RECV: usize = 64 << 10;

/// Timers that are fired or moved in one turn.
const TIMER_BUDGET: u32 = 1024;

/// As how many of them a connection counts that is closed: that takes the kernel a while, the more the
/// more its peer has sent and we have not read.
const CLOSE_COST: u32 = 64;

/// One thread's server: its sockets, its timers, its buffers and its handler.
///
/// [`run`](Self::run) serves until it is stopped. [`run_once`](Self::run_once) does one turn, so
/// that it can live in a loop of somebody else's; [`as_fd`](Self::as_fd) is readable when a turn
/// has something to do, and [`timeout`](Self::timeout) says when one is due in any case.
///
/// Made by [`ServerBuilder`](crate::ServerBuilder).
pub struct EventLoop<H: Handler, F: Framing = JsonHeader> {
    // Before the selector: the files of Unix sockets go before their listeners.
    acceptor: Acceptor,
    selector: Selector<Role<H::State>>,
    wheel: Wheel,
    pool: Pool,
    engine: Engine<H, F>,
    signals: Option<Signals>,
    mailbox: Arc<Mailbox>,
    inbox: Inbox,
    member: Member,
    /// The shared receive buffer.
    shared: Vec<u8>,
    /// Connections whose buffers may hold whole messages.
    ready: VecDeque<Key>,
    /// The clock as it was read after the last wait.
    now: Time,
    /// The same in ticks, and when that tick began.
    tick: Tick,
    tick_began: Time,
    turn: u64,
    drain: Option<Drain>,
    spin: Spin,
    give_back: GiveBack,
}

/// What a registered descriptor is for.
#[derive(Debug)]
enum Role<S> {
    Connection(Connection<S>),
    Listener,
    Signals,
    /// A connect under way, and its place in the clock.
    Connecting(u32),
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

/// The timers run through the entries of the selector.
struct Timers<'a, S>(&'a mut Selector<Role<S>>);

impl<S> TimerEntries for Timers<'_, S> {
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
        match self.0.at_mut(index) {
            Some((_, Role::Connection(connection))) => Some(&mut connection.timer),
            _ => None,
        }
    }
}

impl<H: Handler, F: Framing> EventLoop<H, F> {
    /// Bytes of memory that one idle connection takes, the handler's own state included.
    pub const BYTES_PER_CONNECTION: usize = Selector::<Role<H::State>>::ENTRY_SIZE;

    pub(crate) fn new(seed: Seed, engine: impl FnOnce(Desk) -> Engine<H, F>) -> sys::Result<Self> {
        let Seed { member, poller, mailbox, listeners } = seed;
        let engine = engine(Desk::new(Arc::clone(&mailbox)));
        let limits = &engine.config.limits;
        let spin = Spin::new(engine.config.spin);
        let now = sys::now();
        let mut event_loop = Self {
            selector: Selector::over(poller),
            wheel: Wheel::new(),
            pool: Pool::new(limits.max_buffer_bytes, sys::release_pages),
            acceptor: Acceptor::new(limits),
            engine,
            signals: None,
            mailbox,
            inbox: Inbox::default(),
            member,
            shared: Vec::with_capacity(SHARED_RECV),
            ready: VecDeque::new(),
            now,
            tick: 0,
            tick_began: now,
            turn: 0,
            drain: None,
            spin,
            give_back: GiveBack::default(),
        };
        for opening in listeners {
            event_loop.add_listener(opening)?;
        }
        Ok(event_loop)
    }

    /// Adds a listening socket.
    pub(crate) fn add_listener(&mut self, opening: Opening) -> sys::Result<()> {
        let Opening { listener, file, spread } = opening;
        let key = self.selector.register(listener, Interest::READABLE, Role::Listener)?;
        self.acceptor.listeners.push(key);
        self.acceptor.files.extend(file.map(|file| (key, file)));
        self.acceptor.spread.extend(spread.then_some(key));
        Ok(())
    }

    /// Stops gracefully at the first of these signals, and at once at the second; `SIGUSR1` asks
    /// for a report.
    pub(crate) fn add_signals(&mut self, signals: Signals) -> sys::Result<()> {
        let watched = signals.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = sys::Errno::from_raw(error.raw_os_error().unwrap_or_default());
            sys::Error::call("fcntl F_DUPFD_CLOEXEC", errno, "the signals' descriptor")
        })?;
        self.selector.register(watched, Interest::READABLE, Role::Signals)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// A handle of this loop, and of the server's others, for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.member.handle()
    }

    /// What stops all loops of the server when this one cannot go on.
    pub(crate) fn brake(&self) -> Brake {
        self.member.brake()
    }

    /// The handler.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.engine.handler
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.engine.stats.clone();
        stats.stale_events = self.selector.stale_events();
        stats.groups = self.inbox.groups() as u64;
        stats.pool_bytes = self.pool.lent() as u64;
        stats.pool_buffers = self.pool.held() as u64;
        stats.timers = (self.wheel.len() + self.inbox.timers()) as u64;
        stats
    }

    /// The descriptor that becomes readable when a turn has something to do, for use inside
    /// another loop; the backends `poll` and `select` have none.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.selector.as_fd()
    }

    /// How long from now until a turn is due even if nothing is ready; `None` for never.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_from(sys::now())
    }

    fn timeout_from(&self, now: Time) -> Option<Duration> {
        let accepts = !self.acceptor.listeners.is_empty() && !self.acceptor.parked;
        let drains = self.drain.as_ref().is_some_and(|drain| drain.has_work() || accepts);
        if !self.ready.is_empty() || drains || self.inbox.has_work() {
            return Some(Duration::ZERO);
        }
        let until = |at: Option<Tick>| at.map_or(u32::MAX, |at| timer::until(self.tick, at));
        let again = if self.member.owes_a_wake() { 1 } else { u32::MAX };
        let ahead = until(self.wheel.next())
            .min(again)
            .min(until(self.acceptor.paused_until))
            .min(until(self.inbox.next_alarm()))
            .min(until(self.give_back.due()))
            .min(until(self.drain.as_ref().and_then(|drain| drain.deadline)));
        if ahead == u32::MAX {
            return None;
        }
        Some((self.tick_began + TICK * ahead).saturating_since(now))
    }

    /// Serves until it is stopped. Returns whether that was graceful: all that was in flight was
    /// finished, and no second signal came.
    ///
    /// # Errors
    ///
    /// What the system says to a wait, which nothing can be done about.
    pub fn run(&mut self) -> sys::Result<bool> {
        // One turn follows the other at once, so the clock of the last one will do.
        while !self.turn(None, self.now)?.finished {}
        let hurried = self.drain.as_ref().is_some_and(|drain| drain.hurried);
        Ok(!hurried && self.engine.stats.closed_for(Cause::CutOff) == 0)
    }

    /// Does one turn: waits at most for `timeout` (`None`: until there is something to do), then
    /// does what there is to do. After the loop has finished, it returns at once.
    ///
    /// # Errors
    ///
    /// What the system says to a wait, which nothing can be done about.
    pub fn run_once(&mut self, timeout: Option<Duration>) -> sys::Result<Turn> {
        // The last turn may have been long ago.
        let now = if timeout == Some(Duration::ZERO) { self.now } else { sys::now() };
        self.turn(timeout, now)
    }

    fn turn(&mut self, timeout: Option<Duration>, now: Time) -> sys::Result<Turn> {
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
        self.read_clock();
        self.engine.stats.wakeups += 1;
        self.engine.stats.events += events as u64;

        // Those that were waiting for their turn before this one; new ones wait for the next.
        let leftovers = self.ready.len();
        self.handle_events();
        for _ in 0..leftovers {
            self.resume_next();
        }
        self.accept();
        self.expire();
        self.work_inbox();
        self.member.wake_others();
        self.drain();
        self.give_back();
        let finished = self.is_finished();
        if finished {
            self.close_mailbox();
        }
        Ok(Turn { events, finished })
    }

    fn read_clock(&mut self) {
        self.now = sys::now();
        let elapsed = self.now.saturating_since(self.tick_began);
        if elapsed >= TICK {
            let ticks = u32::try_from(elapsed.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX);
            self.tick = self.tick.wrapping_add(ticks);
            self.tick_began += TICK * ticks;
        }
    }

    /// Handles an event that is not the ordinary one.
    #[inline(never)]
    fn dispatch(&mut self, key: Key, readiness: Interest) {
        match self.selector.get(key) {
            Some(Role::Connection(_)) => {
                // Reading comes first: what the peer sent before it went is not lost.
                if readiness.is_readable() {
                    self.receive(key);
                }
                if readiness.is_writable() {
                    self.flush(key);
                }
            }
            Some(Role::Listener) => self.acceptor.waiting.push(key),
            Some(Role::Signals) => self.take_signals(),
            Some(Role::Connecting(_)) => self.connected(key),
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
            self.member.stop_others(at_once);
            if at_once {
                self.hurry();
            } else {
                self.begin_drain();
            }
        }
    }

    /// The connection that `key` names.
    fn connection(&mut self, key: Key) -> Option<&mut Connection<H::State>> {
        match self.selector.get_mut(key) {
            Some(Role::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    fn tell(&mut self, event: &LogEvent<'_>) {
        self.engine.tell(event);
    }
}

impl<H: Handler, F: Framing> Drop for EventLoop<H, F> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl<H: Handler, F: Framing> fmt::Debug for EventLoop<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("selector", &self.selector)
            .field("open", &self.engine.stats.open)
            .field("draining", &self.drain.is_some())
            .finish_non_exhaustive()
    }
}
