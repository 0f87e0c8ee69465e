//! [`Server`] and [`ServerBuilder`]: listeners, limits and a handler become an event loop, or several.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{
    self as sys, Backend, ListenOptions, Listener, Signal, Signals, SocketAddr, SocketFile,
};

use crate::config::{Config, ConfigError, Limits};
use crate::desk::Desk;
use crate::engine::Engine;
use crate::error::Error;
use crate::event_loop::{EventLoop, Opening, Seed};
use crate::handle::Handle;
use crate::handler::{Handler, HandlerResult};
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Frame, Framing, JsonHeader, Message};
use crate::reply::Reply;
use crate::servers::Servers;
use crate::stats::Stats;

/// Descriptors that are left for everything but connections.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Descriptors that each further event loop takes: its poller, its waker, its spare, listeners.
const DESCRIPTORS_PER_LOOP: u64 = 8;

/// Event loops that one server may have.
const MAX_THREADS: usize = 1024;

/// What a server is made from.
///
/// ```
/// use myriapod::{HandlerResult, Limits, Message, Reply, Server};
///
/// let mut server = Server::builder()
///     .listen("127.0.0.1", 0)
///     .limits(Limits { max_content_len: 64 * 1024, ..Limits::default() })
///     .answer(|message, reply| {
///         reply.json(&serde_json::json!({ "bytes": message.content().len() }))?;
///         Ok(())
///     })?;
/// println!("listening on {}", server.addresses()[0]);
/// # server.handle().shutdown()?;
/// server.run()?;
/// # Ok::<(), myriapod::Error>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct ServerBuilder {
    places: Vec<Place>,
    options: ListenOptions,
    config: Config,
    backend: Backend,
    signals: Vec<Signal>,
    log: Option<LogHook>,
    log_each: Option<SharedLog>,
    log_messages: bool,
    threads: usize,
    pin: bool,
}

/// What all loops tell what happens.
type SharedLog = Arc<dyn Fn(&LogEvent<'_>) + Send + Sync>;

enum Place {
    Host(String, u16),
    Listener(Listener),
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            options: ListenOptions::default(),
            config: Config::default(),
            backend: Backend::native(),
            signals: Vec::new(),
            log: None,
            log_each: None,
            log_messages: true,
            threads: 1,
            pin: false,
        }
    }
}

impl ServerBuilder {
    /// Listens on `host` and `port`; may be called more than once. A host is a name, an IPv4 or
    /// IPv6 address, `""` for all IPv4 interfaces, or `unix:PATH`. A name is asked for once, and
    /// the first of its addresses that can be bound is taken. Port 0 takes any that is free.
    pub fn listen(mut self, host: &str, port: u16) -> Self {
        self.places.push(Place::Host(host.to_owned(), port));
        self
    }

    /// Serves a listener that came from elsewhere; may be called more than once.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.places.push(Place::Listener(listener));
        self
    }

    /// How to listen, for the hosts given with [`listen`](Self::listen).
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.options = options;
        self
    }

    /// The bounds on what peers can make the server hold, wait for or do.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Whether every connection is closed after its first reply, as the tutorial's server does.
    pub fn one_shot(mut self, one_shot: bool) -> Self {
        self.config.one_shot = one_shot;
        self
    }

    /// The readiness API; the system's own where nothing else is said.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Stops gracefully at the first of these signals, and at once at the second. Without this, no
    /// signal handler is installed. [`Signal::User1`] is an exception: it stops nothing, and the log
    /// is told of it ([`LogEvent::Report`]).
    pub fn signals(mut self, signals: &[Signal]) -> Self {
        self.signals = signals.to_vec();
        self
    }

    /// Is told what happens; of several event loops, only the first tells it.
    pub fn log(mut self, log: impl FnMut(&LogEvent<'_>) + Send + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// Is told what happens on every event loop, by their threads, maybe at the same time. It takes
    /// the place of [`log`](Self::log).
    pub fn log_each(mut self, log: impl Fn(&LogEvent<'_>) + Send + Sync + 'static) -> Self {
        self.log_each = Some(Arc::new(log));
        self
    }

    /// How many event loops serve, each on a thread of its own; 1 unless set, 1,024 at most. More
    /// than one need a handler each: [`build_each`](Self::build_each).
    ///
    /// `max_connections` and `max_buffer_bytes` are for all of them together. A loop whose share
    /// of connections is used up hands new ones over to another; a loop's share of buffers is its
    /// own. `max_connections_per_address` and `accept_batch` are for each loop.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How many descriptors a server of as many event loops keeps for everything but connections,
    /// so many fewer than `RLIMIT_NOFILE` are the most connections it takes: 64, and 8 more for
    /// each loop after the first.
    ///
    /// ```
    /// assert_eq!(myriapod::ServerBuilder::reserved_descriptors(2), 72);
    /// ```
    #[must_use]
    pub const fn reserved_descriptors(threads: usize) -> u64 {
        RESERVED_DESCRIPTORS + DESCRIPTORS_PER_LOOP * (threads as u64).saturating_sub(1)
    }

    /// Whether each event loop stays on one processor, of those that the thread which calls
    /// [`Servers::run`] may use. That thread is pinned too, until `run` returns. Linux has this.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Before an event loop blocks, it looks for events again and again for as long as this. Zero,
    /// the default, is off.
    ///
    /// An event that comes meanwhile is handled without the time that it takes to wake a thread.
    /// The cost is a processor that is busy although nothing happens: give each loop one of its
    /// own, and no more than some tens of microseconds. With fewer processors than busy threads,
    /// the peers included, it makes everything slower. A loop whose events come later than this
    /// finds out after a few waits and blocks at once, until one comes soon.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.config.spin = spin;
        self
    }

    /// Whether the log is told of every single message, as it is unless this says no.
    pub fn log_messages(mut self, log_messages: bool) -> Self {
        self.log_messages = log_messages;
        self
    }

    /// Builds a server of JSON-header messages.
    ///
    /// # Errors
    ///
    /// Limits that cannot work, and whatever the system refuses: an address that is in use, a
    /// missing permission, a lack of descriptors.
    pub fn build<H: Handler>(self, handler: H) -> Result<Server<H>, Error> {
        let framing = JsonHeader::new(self.config.limits.decode());
        self.build_with(framing, handler)
    }

    /// Builds a server of messages in another framing.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_with<H: Handler, F: Framing>(
        self,
        framing: F,
        handler: H,
    ) -> Result<Server<H, F>, Error> {
        if self.threads != 1 {
            return Err(ConfigError::OneHandler { threads: self.threads }.into());
        }
        let (mut plan, places, mut seeds) = self.plan()?;
        let Some(seed) = seeds.pop() else { return Err(no_loop()) };
        let log = plan.log.take();
        let mut event_loop = plan.event_loop(seed, log, framing, handler)?;
        let addresses = plan.listen(places, &mut event_loop, &mut [])?;
        Ok(Server { event_loop, addresses })
    }

    /// Builds a server of JSON-header messages with [`threads`](Self::threads) event loops, each
    /// with a handler that its own thread makes.
    ///
    /// ```
    /// use myriapod::{Message, Reply, Server};
    ///
    /// let mut servers = Server::builder().listen("127.0.0.1", 0).threads(2).build_each(|| {
    ///     // Of this loop alone: no lock is needed.
    ///     let mut count = 0u64;
    ///     move |_: Message<'_>, reply: &mut Reply<'_>| {
    ///         count += 1;
    ///         Ok(reply.json(&serde_json::json!({ "messages of this loop": count }))?)
    ///     }
    /// })?;
    /// # servers.handle().shutdown()?;
    /// servers.run()?;
    /// println!("{}", servers.stats());
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); also where `pin` is asked for and the system has no such thing.
    pub fn build_each<H, M>(self, handler: M) -> Result<Servers<H>, Error>
    where
        H: Handler + 'static,
        M: Fn() -> H + Send + Sync + 'static,
    {
        let limits = self.config.limits.decode();
        self.build_each_with(move || JsonHeader::new(limits), handler)
    }

    /// Builds a server of messages in another framing, with [`threads`](Self::threads) event loops.
    ///
    /// # Errors
    ///
    /// As [`build_each`](Self::build_each).
    pub fn build_each_with<H, F, N, M>(self, framing: N, handler: M) -> Result<Servers<H, F>, Error>
    where
        H: Handler + 'static,
        F: Framing + 'static,
        N: Fn() -> F + Send + Sync + 'static,
        M: Fn() -> H + Send + Sync + 'static,
    {
        let cpus = if self.pin { sys::thread_cpus()? } else { Vec::new() };
        let (mut plan, places, seeds) = self.plan()?;
        let mut seeds = seeds.into_iter();
        let Some(first) = seeds.next() else { return Err(no_loop()) };
        let mut others: Vec<Seed> = seeds.collect();
        let log = plan.log.take();
        let mut first = plan.event_loop(first, log, framing(), handler())?;
        let addresses = plan.listen(places, &mut first, &mut others)?;
        let make = move || (framing(), handler());
        Ok(Servers::new(first, others, plan, Arc::new(make), addresses, cpus))
    }

    /// Checks everything that can be checked before anything is bound.
    fn plan(self) -> Result<(Plan, Vec<Place>, Vec<Seed>), Error> {
        let Self { config, backend, threads, log, log_each, log_messages, .. } = self;
        if threads == 0 {
            return Err(ConfigError::Zero { name: "threads" }.into());
        }
        if threads > MAX_THREADS {
            let (name, ceiling) = ("threads", MAX_THREADS);
            return Err(ConfigError::TooLarge { name, value: threads, ceiling }.into());
        }
        config.limits.validate()?;
        let share = config.limits.share_of(threads)?;
        let mut log = match &log_each {
            Some(shared) => Some(hook(shared)),
            None => log,
        };
        let max_connections = max_connections(&config.limits, backend, threads, &mut log)?;
        let seeds = Seed::sow(backend, threads, max_connections)?;
        let config = Config { limits: share, ..config };
        let (options, signals) = (self.options, self.signals);
        let plan = Plan { config, options, signals, log, log_each, log_messages };
        Ok((plan, self.places, seeds))
    }
}

/// A hook of one loop for the log of all.
fn hook(log: &SharedLog) -> LogHook {
    let log = Arc::clone(log);
    Box::new(move |event| log(event))
}

/// There is a seed for each loop, and at least one loop.
fn no_loop() -> Error {
    ConfigError::Zero { name: "threads" }.into()
}

/// What event loops are made with.
pub(crate) struct Plan {
    config: Config,
    options: ListenOptions,
    signals: Vec<Signal>,
    /// The first loop's.
    log: Option<LogHook>,
    log_each: Option<SharedLog>,
    log_messages: bool,
}

/// The part of a plan that can go to another thread.
pub(crate) struct LoopPlan {
    config: Config,
    log: Option<SharedLog>,
    log_messages: bool,
}

impl LoopPlan {
    /// Makes an event loop on the thread that will run it.
    pub(crate) fn event_loop<H: Handler, F: Framing>(
        self,
        seed: Seed,
        framing: F,
        handler: H,
    ) -> Result<EventLoop<H, F>, Error> {
        let Self { config, log, log_messages } = self;
        event_loop(seed, config, log.as_ref().map(hook), log_messages, framing, handler)
    }
}

impl Plan {
    /// The plan for another loop than the first.
    pub(crate) fn for_another(&self) -> LoopPlan {
        LoopPlan {
            config: self.config.clone(),
            log: self.log_each.clone(),
            log_messages: self.log_messages,
        }
    }

    fn event_loop<H: Handler, F: Framing>(
        &self,
        seed: Seed,
        log: Option<LogHook>,
        framing: F,
        handler: H,
    ) -> Result<EventLoop<H, F>, Error> {
        event_loop(seed, self.config.clone(), log, self.log_messages, framing, handler)
    }

    /// Gives each place to the first loop and, where the kernel spreads connections, to the others
    /// too. Signals go to the first.
    fn listen<H: Handler, F: Framing>(
        &self,
        places: Vec<Place>,
        first: &mut EventLoop<H, F>,
        others: &mut [Seed],
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut addresses = Vec::new();
        let spread = !others.is_empty();
        for (number, place) in places.into_iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let (listener, is_ours) = match place {
                Place::Host(host, port) if spread && sys::REUSE_PORT_BALANCES => {
                    (bind_shared(&host, port, &self.options)?, true)
                }
                Place::Host(host, port) => (bind(&host, port, &self.options)?, true),
                Place::Listener(listener) => (listener, false),
            };
            let address = listener.local_address()?;
            let is_shared = is_ours && sys::REUSE_PORT_BALANCES && !address.is_unix();
            // The file of a Unix socket goes with the server that made it.
            let file = if is_ours { SocketFile::of(&address)? } else { None };
            first.add_listener(Opening { listener, number, file, spread: spread && !is_shared })?;
            for other in others.iter_mut().filter(|_| is_shared) {
                let options = ListenOptions { reuse_port: true, ..self.options.clone() };
                let listener = Listener::bind(&address, &options)?;
                other.listen(Opening { listener, number, file: None, spread: false });
            }
            addresses.push(address);
        }
        if !self.signals.is_empty() {
            first.add_signals(Signals::install(&self.signals)?)?;
        }
        Ok(addresses)
    }
}

fn event_loop<H: Handler, F: Framing>(
    seed: Seed,
    config: Config,
    log: Option<LogHook>,
    log_messages: bool,
    framing: F,
    handler: H,
) -> Result<EventLoop<H, F>, Error> {
    let event_loop = seed.index();
    let engine = |mailbox, handle| Engine {
        desk: Desk::new(mailbox, handle, event_loop, &config.limits),
        handler,
        framing,
        frame: Frame::NONE,
        out_used: 0,
        config,
        stats: Stats::default(),
        #[cfg(myriapod_sim)]
        decoded: 0,
        log_messages: log_messages && log.is_some(),
        log,
    };
    Ok(EventLoop::new(seed, engine)?)
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// Binds the first address of a host that can be bound.
fn bind(host: &str, port: u16, options: &ListenOptions) -> Result<Listener, Error> {
    bind_first(host, port, |address| Listener::bind(address, options))
}

/// The same for a port that the listeners of several loops share, and nobody else unless that was
/// asked for.
fn bind_shared(host: &str, port: u16, options: &ListenOptions) -> Result<Listener, Error> {
    bind_first(host, port, |address| {
        if address.is_unix() {
            return Listener::bind(address, options);
        }
        if !options.reuse_port && port != 0 {
            Listener::probe(address, options)?;
        }
        Listener::bind(address, &ListenOptions { reuse_port: true, ..options.clone() })
    })
}

fn bind_first(
    host: &str,
    port: u16,
    bind: impl Fn(&SocketAddr) -> sys::Result<Listener>,
) -> Result<Listener, Error> {
    let mut first_error = None;
    for address in sys::resolve(host, port)? {
        match bind(&address) {
            Ok(listener) => return Ok(listener),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let nothing = || sys::SystemError::call("bind", sys::Errno::EADDRNOTAVAIL, host);
    Err(first_error.unwrap_or_else(nothing).into())
}

/// How many connections the descriptors allow, and no more than was asked for.
fn max_connections(
    limits: &Limits,
    backend: Backend,
    threads: usize,
    log: &mut Option<LogHook>,
) -> Result<usize, Error> {
    let descriptors = sys::raise_descriptor_limit()?.soft;
    let mut ceiling = descriptors;
    let mut because = format!("RLIMIT_NOFILE is {descriptors}");
    if backend == Backend::Select && sys::select::DESCRIPTORS as u64 <= descriptors {
        ceiling = sys::select::DESCRIPTORS as u64;
        because = format!("select cannot watch descriptors from {ceiling} on");
    }
    let reserved = ServerBuilder::reserved_descriptors(threads);
    let allowed = ceiling.saturating_sub(reserved).max(1);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    match limits.max_connections {
        Some(asked) if asked > allowed => {
            if let Some(log) = log {
                log(&LogEvent::LimitLowered { asked, lowered: allowed, because: &because });
            }
            Ok(allowed)
        }
        asked => Ok(asked.unwrap_or(allowed)),
    }
}

/// A server: listeners and one event loop.
pub struct Server<H: Handler, F: Framing = JsonHeader> {
    event_loop: EventLoop<H, F>,
    addresses: Vec<SocketAddr>,
}

impl Server<fn(Message<'_>, &mut Reply<'_>) -> HandlerResult> {
    /// Begins to describe a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl<H: Handler, F: Framing> Server<H, F> {
    /// Where it listens, with the real port where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle that stops the server from another thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.event_loop.handle()
    }

    /// Serves until it is stopped, by a [`Handle`] or a signal. Returns whether that was graceful:
    /// all that was in flight was finished, and no second signal came.
    ///
    /// # Errors
    ///
    /// What the system says to a wait, which nothing can be done about.
    pub fn run(&mut self) -> Result<bool, Error> {
        Ok(self.event_loop.run()?)
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.event_loop.stats()
    }

    /// The event loop, to be run one turn at a time inside another loop.
    pub fn event_loop(&mut self) -> &mut EventLoop<H, F> {
        &mut self.event_loop
    }
}

impl<H: Handler, F: Framing> fmt::Debug for Server<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("event_loop", &self.event_loop)
            .finish_non_exhaustive()
    }
}
