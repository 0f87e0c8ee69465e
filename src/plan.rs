//! [`Plan`]: what event loops are made with, once everything about a server is known.

use std::sync::Arc;

use myriapod_sys::{self as sys, ListenOptions, Listener, Signal, Signals, SocketAddr, SocketFile};

use crate::config::Config;
use crate::desk::Desk;
use crate::engine::Engine;
use crate::error::Error;
use crate::event_loop::{EventLoop, Opening, Seed};
use crate::handler::Handler;
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Frame, Framing};
use crate::stats::Stats;

/// What all loops tell what happens.
pub(crate) type SharedLog = Arc<dyn Fn(&LogEvent<'_>) + Send + Sync>;

/// Where a server listens.
pub(crate) enum Place {
    Host(String, u16),
    Listener(Listener),
}

/// What event loops are made with.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) options: ListenOptions,
    pub(crate) signals: Vec<Signal>,
    /// The first loop's.
    pub(crate) log: Option<LogHook>,
    pub(crate) log_each: Option<SharedLog>,
    pub(crate) log_messages: bool,
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

    pub(crate) fn event_loop<H: Handler, F: Framing>(
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
    pub(crate) fn listen<H: Handler, F: Framing>(
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
    let engine = |mailbox| Engine {
        desk: Desk::new(mailbox, event_loop, &config.limits),
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

/// A hook of one loop for the log of all.
pub(crate) fn hook(log: &SharedLog) -> LogHook {
    let log = Arc::clone(log);
    Box::new(move |event| log(event))
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
