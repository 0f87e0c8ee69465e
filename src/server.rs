//! [`Server`] and [`ServerBuilder`]: listeners, limits and a handler become an event loop.

use std::fmt;

use myriapod_sys::{self as sys, Backend, ListenOptions, Listener, Signal, Signals, SocketAddr};

use crate::config::{Config, Limits};
use crate::connection::Engine;
use crate::error::Error;
use crate::event_loop::EventLoop;
use crate::handle::Handle;
use crate::handler::{Handler, HandlerResult, Reply};
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Frame, Framing, JsonHeader, Message};
use crate::stats::Stats;

/// Descriptors that are left for everything but connections.
const RESERVED_DESCRIPTORS: u64 = 64;

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
    log_messages: bool,
}

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
            log_messages: true,
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
    /// signal handler is installed.
    pub fn signals(mut self, signals: &[Signal]) -> Self {
        self.signals = signals.to_vec();
        self
    }

    /// Is told what happens.
    pub fn log(mut self, log: impl FnMut(&LogEvent<'_>) + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// Whether the log is told of every single message, as it is unless this says no.
    pub fn log_messages(mut self, log_messages: bool) -> Self {
        self.log_messages = log_messages;
        self
    }

    /// Builds a server of JSON-header messages that are answered by a closure.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn answer<C>(self, answer: C) -> Result<Server<C>, Error>
    where
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
    {
        self.build(answer)
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
        let Self { places, options, config, backend, signals, mut log, log_messages } = self;
        config.limits.validate()?;
        let max_connections = max_connections(&config.limits, backend, &mut log)?;
        let engine = |desk| Engine {
            handler,
            framing,
            frame: Frame::NONE,
            out: Vec::new(),
            desk,
            config,
            stats: Stats::default(),
            log_messages: log_messages && log.is_some(),
            log,
        };
        let mut event_loop = EventLoop::new(backend, engine, max_connections)?;
        let mut addresses = Vec::new();
        for place in places {
            let (listener, is_ours) = match place {
                Place::Host(host, port) => (bind(&host, port, &options)?, true),
                Place::Listener(listener) => (listener, false),
            };
            let address = listener.local_address()?;
            // The file of a Unix socket goes with the server that made it.
            let file = (is_ours && address.is_unix()).then(|| address.clone());
            event_loop.add_listener(listener, file)?;
            addresses.push(address);
        }
        if !signals.is_empty() {
            event_loop.add_signals(Signals::install(&signals)?)?;
        }
        Ok(Server { event_loop, addresses })
    }
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
    let mut first_error = None;
    for address in sys::resolve(host, port)? {
        match Listener::bind(&address, options) {
            Ok(listener) => return Ok(listener),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let nothing = || sys::Error::call("bind", sys::Errno::EADDRNOTAVAIL, host);
    Err(first_error.unwrap_or_else(nothing).into())
}

/// How many connections the descriptors allow, and no more than was asked for.
fn max_connections(
    limits: &Limits,
    backend: Backend,
    log: &mut Option<LogHook>,
) -> Result<usize, Error> {
    let descriptors = sys::raise_descriptor_limit()?.soft;
    let mut ceiling = descriptors;
    let mut because = format!("RLIMIT_NOFILE is {descriptors}");
    if backend == Backend::Select && sys::select::DESCRIPTORS as u64 <= descriptors {
        ceiling = sys::select::DESCRIPTORS as u64;
        because = format!("select cannot watch descriptors from {ceiling} on");
    }
    let allowed = ceiling.saturating_sub(RESERVED_DESCRIPTORS).max(1);
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
