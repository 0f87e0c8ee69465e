//! [`Seed`]: all of an event loop that can be made on one thread and taken to another.

use std::sync::Arc;

use myriapod_sys::{self as sys, Backend, Listener, Poller, SocketFile};

use crate::link::Link;
use crate::loops::{self, Member};
use crate::mailbox::Mailbox;
use crate::proxy_protocol::ProxyProtocol;
use crate::selector;

/// What an event loop is made from, besides its handler and framing, which need not be `Send`.
#[derive(Debug)]
pub(crate) struct Seed<L: Link> {
    pub(super) member: Member,
    pub(super) poller: Poller,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) listeners: Vec<Opening>,
    pub(super) proxies: Proxies,
    /// What the handshakes of each listener begin with, by its number.
    pub(super) openers: Openers<L>,
}

/// From where each listener takes PROXY headers, by its number; empty where none does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Arc<[Option<Arc<ProxyProtocol>>]>);

impl Proxies {
    pub(crate) fn new(of_each: Vec<Option<Arc<ProxyProtocol>>>) -> Self {
        if of_each.iter().all(Option::is_none) { Self::default() } else { Self(of_each.into()) }
    }

    /// Those of a listener; `None` where it takes no PROXY headers.
    pub(super) fn of(&self, listener: u16) -> Option<&ProxyProtocol> {
        self.0.get(usize::from(listener))?.as_deref()
    }
}

/// What handshakes begin with, by the number of the listener; nothing for a plain one.
pub(crate) type Openers<L> = Vec<Option<<L as Link>::Opener>>;

/// A listener for a loop.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) listener: Listener,
    /// Its number: the place of its address among the server's.
    pub(crate) number: u16,
    /// Its file, which goes before it is closed.
    pub(crate) file: Option<SocketFile>,
    /// Its connections go to the loop with the fewest.
    pub(crate) spread: bool,
}

impl<L: Link> Seed<L> {
    /// Seeds for `count` loops of one server, the first first.
    pub(crate) fn make(
        backend: Backend,
        count: usize,
        max_connections: usize,
    ) -> sys::Result<Vec<Self>> {
        let mut pollers = Vec::new();
        let mut mailboxes = Vec::new();
        for _ in 0..count {
            let mut poller = selector::poller(backend)?;
            mailboxes.push(Arc::new(Mailbox::new(selector::waker_of(&mut poller)?)));
            pollers.push(poller);
        }
        let members = loops::members_of(mailboxes.clone(), max_connections);
        let parts = members.into_iter().zip(pollers).zip(mailboxes);
        let seed = |((member, poller), mailbox)| Self {
            member,
            poller,
            mailbox,
            listeners: Vec::new(),
            proxies: Proxies::default(),
            openers: Vec::new(),
        };
        Ok(parts.map(seed).collect())
    }

    /// What the handshakes of each listener begin with, also of those that other loops have: a socket
    /// may be handed over.
    pub(crate) fn set_openers(&mut self, openers: Openers<L>) {
        self.openers = openers;
    }

    pub(crate) fn listen(&mut self, opening: Opening) {
        self.listeners.push(opening);
    }

    pub(crate) fn set_proxies(&mut self, proxies: Proxies) {
        self.proxies = proxies;
    }

    pub(crate) fn index(&self) -> u16 {
        self.member.index()
    }
}
