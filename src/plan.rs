//! [`Plan`]: what event loops are made with, once everything about a server is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use myriapod_sys::{self as sys, ListenOptions, Listener, Signal, Signals, SocketAddr, SocketFile};

use crate::config::Config;
use crate::context::Context;
use crate::engine::Engine;
use crate::error::Error;
use crate::event_loop::{EventLoop, Opening, Proxies, Seed};
use crate::handler::Handler;
use crate::handover::Handover;
use crate::link::Link;
use crate::listening::bind_all;
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Frame, Framing};
use crate::proxy_protocol::ProxyProtocol;
use crate::stats::Stats;
use crate::succession::Succession;
use crate::successor::Inherited;

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
    /// How this server is replaced by another process, or replaces one.
    pub(crate) handover: Option<Handover>,
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
    /// too. Signals go to the first. Where a predecessor serves, its listeners are taken over, and at
    /// last its connections.
    pub(crate) fn listen<H: Handler, F: Framing, L: Link>(
        &self,
        places: Vec<Place<L>>,
        first: &mut EventLoop<H, F, L>,
        others: &mut [Seed<L>],
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut succession =
            Succession::begin(self.handover.as_ref(), &self.configuration(&places))?;
        let mut addresses = Vec::new();
        let (mut proxies, mut openers, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        for (nth, place) in (0..).zip(places) {
            // The options are there for what is bound here.
            let of_this = place.proxies.or_else(|| self.proxies.clone());
            let opened = match (succession.take(nth), place.what) {
                (Some(inherited), what) => {
                    let is_ours = matches!(what, What::Host(..));
                    inherit(inherited, is_ours, addresses.len(), first, others, &mut succession)?
                }
                (None, What::Host(host, port)) => {
                    self.bind(&host, port, addresses.len(), first, others)?
                }
                (None, What::Listener(listener)) => {
                    let (number, spread) = (number(addresses.len()), !others.is_empty());
                    let address = listener.local_address()?;
                    first.add_listener(Opening { listener, number, file: None, spread })?;
                    vec![address]
                }
            };
            for address in opened {
                addresses.push(address);
                proxies.push(of_this.clone());
                openers.push(place.opener.clone());
                origins.push(nth);
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
        succession.finish(first, origins)?;
        Ok(addresses)
    }

    /// Binds all addresses of a host. Returns them in their order.
    fn bind<H: Handler, F: Framing, L: Link>(
        &self,
        host: &str,
        port: u16,
        before: usize,
        first: &mut EventLoop<H, F, L>,
        others: &mut [Seed<L>],
    ) -> Result<Vec<SocketAddr>, Error> {
        let spread = !others.is_empty();
        let is_shared = spread && sys::REUSE_PORT_BALANCES;
        let found = sys::resolve(host, port)?;
        let bound = bind_all(host, &found, &self.options, is_shared)?;
        for error in &bound.failures {
            first.tell(&LogEvent::NotListening { host, error });
        }
        let mut addresses = Vec::new();
        for listener in bound.listeners {
            let number = number(before + addresses.len());
            let address = listener.local_address()?;
            let is_shared = is_shared && !address.is_unix();
            // The file of a Unix socket goes with the server that made it.
            let (file, spread) = (SocketFile::of(&address)?, spread && !is_shared);
            first.add_listener(Opening { listener, number, file, spread })?;
            if is_shared {
                let options = ListenOptions { reuse_port: true, ..bound.options.clone() };
                for other in others.iter_mut() {
                    let listener = Listener::bind(&address, &options)?;
                    other.listen(Opening { listener, number, file: None, spread: false });
                }
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// What a predecessor and its successor must have in common: a line for each place, and what is
    /// promised to each peer.
    fn configuration<L: Link>(&self, places: &[Place<L>]) -> Vec<String> {
        let of_place = |place: &Place<L>| {
            let secure = if place.opener.is_some() { ", secure" } else { "" };
            let is_proxied = place.proxies.is_some() || self.proxies.is_some();
            let proxied = if is_proxied { ", behind proxies" } else { "" };
            match &place.what {
                What::Host(host, port) => format!("listening on {host:?} {port}{secure}{proxied}"),
                What::Listener(_) => format!("listening on what was given{secure}{proxied}"),
            }
        };
        let mut lines: Vec<String> = places.iter().map(of_place).collect();
        lines.push(format!("closing after one reply: {}", self.config.one_shot));
        lines
    }
}

/// The number of an address.
fn number(nth: usize) -> u16 {
    u16::try_from(nth).unwrap_or(u16::MAX)
}

/// Gives a predecessor's listeners of one place to the loops, all of each address: peers may wait in
/// every backlog.
fn inherit<H: Handler, F: Framing, L: Link>(
    inherited: Vec<Inherited>,
    is_ours: bool,
    before: usize,
    first: &mut EventLoop<H, F, L>,
    others: &mut [Seed<L>],
    succession: &mut Succession,
) -> Result<Vec<SocketAddr>, Error> {
    let loops = others.len() + 1;
    let mut of_addresses = BTreeMap::<u16, Vec<Listener>>::new();
    for Inherited { listener, number, .. } in inherited {
        of_addresses.entry(number).or_default().push(listener);
    }
    let mut addresses = Vec::new();
    for listeners in of_addresses.into_values() {
        let number = number(before + addresses.len());
        // Where some loop has none, the others accept for it.
        let spread = listeners.len() < loops;
        let mut address = None;
        for (nth, listener) in listeners.into_iter().enumerate() {
            address = Some(listener.local_address()?);
            let opening = Opening { listener, number, file: None, spread };
            match (nth % loops).checked_sub(1).and_then(|other| others.get_mut(other)) {
                Some(other) => other.listen(opening),
                None => first.add_listener(opening)?,
            }
        }
        if is_ours {
            succession.files.extend(address.iter().map(|address| (number, address.clone())));
        }
        addresses.extend(address);
    }
    Ok(addresses)
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
        context: Context::new(mailbox, handle, event_loop, &config.limits),
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
