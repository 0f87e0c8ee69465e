//! [`Server`] and [`ServerBuilder`]: listeners, limits and a handler become an event loop, or several.

#[cfg(feature = "json")]
mod json;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{self as sys, Backend, ListenOptions, Listener, Signal, SocketAddr};

use crate::config::{Config, ConfigError, Limits};
use crate::error::Error;
use crate::event_loop::{EventLoop, Seed};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::handler_error::HandlerResult;
use crate::handover::Handover;
use crate::link::{Link, Opener, Plain};
use crate::log::{LogEvent, LogHook};
use crate::plan::{Place, Plan, SharedLog, What, hook};
use crate::protocol::{DefaultFraming, Framing, Message};
use crate::proxy_protocol::ProxyProtocol;
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
pub struct ServerBuilder<L: Link = Plain> {
    places: Vec<Place<L>>,
    /// Openers of different links were given, which one loop cannot have.
    is_mixed: bool,
    options: ListenOptions,
    config: Config,
    backend: Backend,
    signals: Vec<Signal>,
    proxies: Option<Arc<ProxyProtocol>>,
    log: Option<LogHook>,
    log_each: Option<SharedLog>,
    log_messages: bool,
    threads: usize,
    pin: bool,
    handover: Option<Handover>,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            is_mixed: false,
            options: ListenOptions::default(),
            config: Config::default(),
            backend: Backend::native(),
            signals: Vec::new(),
            proxies: None,
            log: None,
            log_each: None,
            log_messages: true,
            threads: 1,
            pin: false,
            handover: None,
        }
    }
}

impl ServerBuilder {
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
}

impl<L: Link> ServerBuilder<L> {
    /// Listens on `host` and `port`; may be called more than once. A host is a name, an IPv4 or
    /// IPv6 address, `""` for all IPv4 interfaces, or `unix:PATH`.
    ///
    /// A name is looked up once, and all its addresses are listened on; often `localhost` is both
    /// `::1` and `127.0.0.1`. At least one must work. The log is told of the others
    /// ([`LogEvent::NotListening`]). An address in use is an error that stops the build, because
    /// its peers would reach another program.
    ///
    /// Port 0 takes any that is free: the same on all addresses of a name, unless no such port is
    /// found in 16 tries. [`Server::addresses`] has all of them.
    ///
    /// ```
    /// use myriapod::{Message, Reply, Server};
    ///
    /// let answer = |message: Message<'_>, reply: &mut Reply<'_>| {
    ///     Ok(reply.binary("binary/echo", message.content())?)
    /// };
    /// let server = Server::builder().listen("localhost", 0).build(answer)?;
    /// let port = server.addresses()[0].port();
    /// assert!(server.addresses().iter().all(|address| address.port() == port));
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    pub fn listen(mut self, host: &str, port: u16) -> Self {
        self.places.push(Place {
            what: What::Host(host.to_owned(), port),
            proxies: None,
            opener: None,
        });
        self
    }

    /// As [`listen`](Self::listen), behind proxies of its own, whatever is said with
    /// [`proxy_protocol`](Self::proxy_protocol).
    pub fn listen_behind(mut self, host: &str, port: u16, proxies: ProxyProtocol) -> Self {
        let (what, proxies) = (What::Host(host.to_owned(), port), Some(Arc::new(proxies)));
        self.places.push(Place { what, proxies, opener: None });
        self
    }

    /// Serves a listener that came from elsewhere; may be called more than once.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.places.push(Place { what: What::Listener(listener), proxies: None, opener: None });
        self
    }

    /// As [`listener`](Self::listener), behind proxies of its own.
    pub fn listener_behind(mut self, listener: Listener, proxies: ProxyProtocol) -> Self {
        let (what, proxies) = (What::Listener(listener), Some(Arc::new(proxies)));
        self.places.push(Place { what, proxies, opener: None });
        self
    }

    /// Has all listeners take the PROXY protocol, versions 1 and 2, but those that were given proxies
    /// of their own.
    ///
    /// From these networks a header is required, whole within `arrival_timeout`. From anywhere else
    /// every connection is refused, with or without a header, so nobody can pretend to be a proxy.
    /// What is refused is counted by cause ([`Stats::refused_by_proxy`]).
    ///
    /// The address in the header is the connection's peer: for the handler ([`View::peer`],
    /// [`View::proxy`]), in the log, and for `max_connections_per_address`. Where the header has no
    /// address (`UNKNOWN`, `UNSPEC`), the socket's own stays; so it does for a health check
    /// (`LOCAL`), which does not count against the limit by address.
    ///
    /// ```
    /// use myriapod::{ProxyProtocol, Server};
    ///
    /// let proxies: ProxyProtocol = "127.0.0.0/8,10.0.0.0/8,unix".parse()?;
    /// let server = Server::builder()
    ///     .listen("127.0.0.1", 0)
    ///     .proxy_protocol(proxies)
    ///     .answer(|message, reply| Ok(reply.echo(&message)?))?;
    /// # drop(server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Source: the specification of the PROXY protocol, `doc/proxy-protocol.txt` of HAProxy.
    ///
    /// [`View::peer`]: crate::View::peer
    /// [`View::proxy`]: crate::View::proxy
    pub fn proxy_protocol(mut self, proxies: ProxyProtocol) -> Self {
        self.proxies = Some(Arc::new(proxies));
        self
    }

    /// The last [`listen`](Self::listen) or [`listener`](Self::listener) is a secure one: its peers
    /// take part in a handshake first, which begins with `opener`, and the handler hears of those for
    /// whom it succeeds. The crate `myriapod-tls` has an opener for TLS 1.3. Where a name has several
    /// addresses, all of them are secure.
    ///
    /// Other listeners of the same server may be plain, or have an opener of their own, if it is of
    /// the same type.
    pub fn secure<O: Opener>(self, opener: O) -> ServerBuilder<O::Link> {
        let last = self.places.len().checked_sub(1);
        let mut opener = Some(opener);
        self.over(last.is_none(), |number| if Some(number) == last { opener.take() } else { None })
    }

    /// All listeners so far are secure ones, as by [`secure`](Self::secure).
    pub fn secure_all<O: Opener>(self, opener: &O) -> ServerBuilder<O::Link> {
        self.over(false, |_| Some(opener.clone()))
    }

    /// Has the server make secure connections where that is asked for
    /// ([`Handle::connect_secure`]). Its listeners stay as they are.
    pub fn link<M: Link>(self) -> ServerBuilder<M> {
        self.over::<M::Opener>(false, |_| None)
    }

    /// Gives listeners an opener by their number, and the server the link of those.
    fn over<O: Opener>(
        self,
        is_mixed: bool,
        mut opener: impl FnMut(usize) -> Option<O>,
    ) -> ServerBuilder<O::Link> {
        let mut is_mixed = self.is_mixed || is_mixed;
        let mut places = Vec::new();
        for (number, Place { what, proxies, opener: before }) in self.places.into_iter().enumerate()
        {
            let before: Option<Box<dyn Any>> = before.map(|before| Box::new(before) as _);
            let before = before.map(|before| before.downcast::<O>().map(|before| *before));
            // A listener that was to be secure must not become a plain one.
            is_mixed |= matches!(before, Some(Err(_)));
            let opener = opener(number).or_else(|| before.and_then(Result::ok));
            places.push(Place { what, proxies, opener });
        }
        ServerBuilder {
            places,
            is_mixed,
            options: self.options,
            proxies: self.proxies,
            config: self.config,
            backend: self.backend,
            signals: self.signals,
            log: self.log,
            log_each: self.log_each,
            log_messages: self.log_messages,
            threads: self.threads,
            pin: self.pin,
            handover: self.handover,
        }
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
    /// signal handler is installed. [`Signal::User1`] and [`Signal::Hangup`] are exceptions: they stop
    /// nothing, and the log is told of them ([`LogEvent::Report`], [`LogEvent::Reload`]).
    ///
    /// A server that was built before a fork hears the signals of the process that runs it, from the
    /// first turn on. The other process must not run it. It may drop it, or end; but with
    /// [`Backend::Portable`] a drop ends both. In the process that bound a Unix socket, a drop
    /// removes its file, so a parent that leaves such a server to its child calls
    /// [`std::process::exit`].
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
    ///
    /// A handler that sleeps or computes keeps its own loop waiting, and no other loop helps out:
    /// not for its connections, and not for new ones. Where each loop has a listener (see
    /// [`Servers`]), the kernel has chosen a loop for a new client before anybody accepts it; that
    /// client then waits, although the other loops are idle. Where the first loop accepts for all
    /// (Unix sockets, for example), all new clients wait while a handler of the first loop does. So
    /// give long work to threads and [defer](Reply::defer) the reply.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Whether each event loop stays on one processor, of those that the thread which calls
    /// [`Servers::run`] may use. That thread is pinned too, until `run` returns. Linux has this.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Has another process replace this one without losing a connection, or this one replace another.
    ///
    /// The server listens on a Unix socket at a path, whose file only its own user may open. A second
    /// server that is built with the same path, in another process, takes over the listeners and the
    /// connections of the first, which ends: its `run` returns. Where nobody answers at the path, the
    /// server begins as any other, also where a process has left the file behind.
    ///
    /// Either all is handed over or nothing. Until the last word is said, the first process can take
    /// everything back: it serves on if the second one ends, stands still, or would serve something
    /// else. Both must listen on the same places; what else they must have in common,
    /// [`Handover::identity`] says. The number of threads may differ, and so may the limits.
    ///
    /// What goes along with a connection: its unread and unsent bytes, its peer where a proxy has said
    /// it, its groups, its timer, how much of its deadlines is used up, and what the handler
    /// [saves](Handler::save). A handler that cannot save hands over the listeners alone, and the log is
    /// told so ([`LogEvent::StaysHere`]). What cannot go is finished as by a graceful stop: secure
    /// connections, those that were made from here, those that wait for a deferred reply, and messages
    /// under way of more than 16 MiB. What threads of the first process ask of a connection after it is
    /// gone is counted (`Stats::missed`), and nothing else.
    ///
    /// Building takes over, so [`run`](Server::run) should follow at once: the connections wait for it.
    ///
    /// ```
    /// use myriapod::Server;
    ///
    /// # let dir = std::env::temp_dir().join(format!("handover-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// let path = dir.join("handover");
    /// let server = Server::builder()
    ///     .listen("127.0.0.1", 0)
    ///     .handover(&path)
    ///     .answer(|message, reply| Ok(reply.echo(&message)?))?;
    /// assert!(path.exists());
    /// drop(server);
    /// assert!(!path.exists());
    /// # std::fs::remove_dir(dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Source: unix(7), `SCM_RIGHTS`.
    pub fn handover(mut self, handover: impl Into<Handover>) -> Self {
        self.handover = Some(handover.into());
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

    /// Builds a server of messages in any framing.
    ///
    /// # Errors
    ///
    /// Limits that cannot work, and whatever the system refuses: an address that is in use, a
    /// missing permission, a lack of descriptors.
    pub fn build_with<H: Handler, F: Framing>(
        self,
        framing: F,
        handler: H,
    ) -> Result<Server<H, F, L>, Error> {
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

    /// Builds a server of messages in any framing, with [`threads`](Self::threads) event loops, each
    /// with a framing and a handler that its own thread makes.
    ///
    /// # Errors
    ///
    /// As [`build_with`](Self::build_with); also where `pin` is asked for and the system has no such
    /// thing.
    pub fn build_each_with<H, F, N, M>(
        self,
        framing: N,
        handler: M,
    ) -> Result<Servers<H, F, L>, Error>
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
        let mut others: Vec<Seed<L>> = seeds.collect();
        let log = plan.log.take();
        let mut first = plan.event_loop(first, log, framing(), handler())?;
        let addresses = plan.listen(places, &mut first, &mut others)?;
        let make = move || (framing(), handler());
        Ok(Servers::new(first, others, plan, Arc::new(make), addresses, cpus))
    }

    /// Checks everything that can be checked before anything is bound.
    fn plan(self) -> Result<Planned<L>, Error> {
        if self.is_mixed {
            return Err(ConfigError::MixedLinks.into());
        }
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
        let seeds = Seed::make(backend, threads, max_connections)?;
        let config = Config { limits: share, ..config };
        let (options, signals, proxies) = (self.options, self.signals, self.proxies);
        let handover = self.handover;
        let plan =
            Plan { config, options, signals, proxies, log, log_each, log_messages, handover };
        Ok((plan, self.places, seeds))
    }
}

/// A plan, where to listen, and what the event loops are made from.
type Planned<L> = (Plan, Vec<Place<L>>, Vec<Seed<L>>);

/// There is a seed for each loop, and at least one loop.
fn no_loop() -> Error {
    ConfigError::Zero { name: "threads" }.into()
}

impl<L: Link> fmt::Debug for ServerBuilder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
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
    let reserved = <ServerBuilder>::reserved_descriptors(threads);
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
pub struct Server<H: Handler, F: Framing = DefaultFraming, L: Link = Plain> {
    event_loop: EventLoop<H, F, L>,
    addresses: Vec<SocketAddr>,
}

impl Server<fn(Message<'_>, &mut Reply<'_>) -> HandlerResult> {
    /// Begins to describe a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl<H: Handler, F: Framing, L: Link> Server<H, F, L> {
    /// Where it listens, with the real port where 0 was asked for. A name may have several
    /// addresses; they stand together, in the order in which the system names them.
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
    pub fn event_loop(&mut self) -> &mut EventLoop<H, F, L> {
        &mut self.event_loop
    }
}

impl<H: Handler, F: Framing, L: Link> fmt::Debug for Server<H, F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("event_loop", &self.event_loop)
            .finish_non_exhaustive()
    }
}
