//! [`Plan`]: what event loops are made with, once everything about a server is known.

use std::sync::Arc;

use myriapod_sys::{self as sys, ListenOptions, Listener, Signal, Signals, SocketAddr, SocketFile};

use crate::config::Config;
use crate::desk::Desk;
use crate::engine::Engine;
use crate::error::Error;
use crate::event_loop::{EventLoop, Opening, Proxies, Seed};
use crate::handler::Handler;
use crate::link::Link;
use crate::listening::bind_all;
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Frame, Framing};
use crate::proxy_protocol::ProxyProtocol;
use crate::stats::Stats;

/// What all loops tell what happens.
pub(crate) type SharedLog = Arc<dyn Fn(&LogEvent<'_>) + Send + Sync>;

/// Where a server listens.
pub(crate) struct Place<L: Link> {
    pub(crate) what: What,
    /// Where its proxies are, unless that is said of the whole server.
    pub(crate) proxies: Option<Arc<ProxyProtocol>>,
    /// What handshakes there begin with; nothing for a plain listener.
    pub(crate) opener: Option<L::Opener>,
}

/// What there is to listen with.
pub(crate) enum What {
    Host(String, u16),
    Listener(Listener),
}

/// What event loops are made with.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) options: ListenOptions,
    pub(crate) signals: Vec<Signal>,
    /// Where the proxies of all listeners are.
    pub(crate) proxies: Option<Arc<ProxyProtocol>>,
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
    pub(crate) fn event_loop<H: Handler, F: Framing, L: Link>(
        self,
        seed: Seed<L>,
        framing: F,
        handler: H,
    ) -> Result<EventLoop<H, F, L>, Error> {
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

    pub(crate) fn event_loop<H: Handler, F: Framing, L: Link>(
        &self,
        seed: Seed<L>,
        log: Option<LogHook>,
        framing: F,
        handler: H,
    ) -> Result<EventLoop<H, F, L>, Error> {
        event_loop(seed, self.config.clone(), log, self.log_messages, framing, handler)
    }

    /// Gives each place to the first loop and, where the kernel spreads connections, to the others
    /// too. Signals go to the first.
    pub(crate) fn listen<H: Handler, F: Framing, L: Link>(
        &self,
        places: Vec<Place<L>>,
        first: &mut EventLoop<H, F, L>,
        others: &mut [Seed<L>],
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut addresses = Vec::new();
        let (mut proxies, mut openers) = (Vec::new(), Vec::new());
        let spread = !others.is_empty();
        for place in places {
            // The options are there for what is bound here.
            let of_this = place.proxies.or_else(|| self.proxies.clone());
            let (listeners, options) = match place.what {
                What::Host(host, port) => {
                    let found = sys::resolve(&host, port)?;
                    let is_shared = spread && sys::REUSE_PORT_BALANCES;
                    let bound = bind_all(&host, &found, &self.options, is_shared)?;
                    for error in &bound.failures {
                        first.tell(&LogEvent::NotListening { host: &host, error });
                    }
                    (bound.listeners, Some(bound.options))
                }
                What::Listener(listener) => (vec![listener], None),
            };
            for listener in listeners {
                let number = u16::try_from(addresses.len()).unwrap_or(u16::MAX);
                let address = listener.local_address()?;
                let shared = options
                    .as_ref()
                    .filter(|_| spread && sys::REUSE_PORT_BALANCES && !address.is_unix());
                // The file of a Unix socket goes with the server that made it.
                let file = if options.is_some() { SocketFile::of(&address)? } else { None };
                let spread = spread && shared.is_none();
                first.add_listener(Opening { listener, number, file, spread })?;
                if let Some(options) = shared {
                    let options = ListenOptions { reuse_port: true, ..options.clone() };
                    for other in others.iter_mut() {
                        let listener = Listener::bind(&address, &options)?;
                        other.listen(Opening { listener, number, file: None, spread: false });
                    }
                }
                addresses.push(address);
                proxies.push(of_this.clone());
                openers.push(place.opener.clone());
            }
        }
        others.iter_mut().for_each(|other| other.set_openers(openers.clone()));
        first.secure(openers).map_err(Error::Link)?;
        let proxies = Proxies::new(proxies);
        others.iter_mut().for_each(|other| other.set_proxies(proxies.clone()));
        first.set_proxies(proxies);
        if !self.signals.is_empty() {
            first.add_signals(Signals::install(&self.signals)?)?;
        }
        Ok(addresses)
    }
}

fn event_loop<H: Handler, F: Framing, L: Link>(
    seed: Seed<L>,
    config: Config,
    log: Option<LogHook>,
    log_messages: bool,
    framing: F,
    handler: H,
) -> Result<EventLoop<H, F, L>, Error> {
    let event_loop = seed.index();
    let engine = |mailbox, handle| Engine {
        desk: Desk::new(mailbox, handle, event_loop, &config.limits),
        handler,
        framing,
        frame: Frame::new(),
        out_used: 0,
        config,
        stats: Stats::default(),
        log_messages: log_messages && log.is_some(),
        log,
    };
    EventLoop::new(seed, engine)
}

/// A hook of one loop for the log of all.
pub(crate) fn hook(log: &SharedLog) -> LogHook {
    let log = Arc::clone(log);
    Box::new(move |event| log(event))
}
