//! [`Node`]: one server among others, below groups: named channels, and bytes on them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::backoff::random;
use crate::broker::{Broker, BrokerStats, Inbox, Incoming};
use crate::channel::Prefix;

/// Bytes in front of a payload: who sent it.
const ID_LEN: usize = 16;

/// One server among others that share a broker. [`Cluster`](crate::Cluster) is made of this, and so is
/// what wants to know itself what other nodes say, and may change it on the way to its members.
///
/// A payload goes with the name of the node in front of it, so that no node hears itself.
pub struct Node {
    prefix: Prefix,
    id: [u8; ID_LEN],
    broker: Box<dyn Broker>,
    counts: Arc<Counts>,
    hears: Arc<OnceLock<Hears>>,
}

/// What is told to the user of a node.
type Hears = Box<dyn Fn(Arrival<'_>) + Send + Sync>;

/// What comes to a node.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Arrival<'a> {
    /// Another node said this to a group.
    Message {
        /// The group.
        group: &'a str,
        /// What.
        payload: &'a [u8],
    },
    /// The broker can be reached, or cannot any more, or refuses something: a line for the log.
    Note(&'a str),
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    own: AtomicU64,
    foreign: AtomicU64,
    not_sent: AtomicU64,
    undelivered: AtomicU64,
    /// It was told that the broker is away.
    is_away: AtomicBool,
}

/// What a node has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// What its broker has done.
    pub broker: BrokerStats,
    /// Messages of other nodes that came.
    pub received: u64,
    /// Messages of its own that came back, and were passed over. Redis sends them.
    pub own: u64,
    /// Messages that no node of this kind has sent, passed over.
    pub foreign: u64,
    /// Messages that did not reach all other nodes, or may not have: they were not sent while the
    /// broker was away or slow, or sent and not confirmed.
    pub lost: u64,
    /// Messages of other nodes that an event loop here did not take, because too much waited for it.
    pub undelivered: u64,
}

/// `broker_up=1 broker_channels=3 …` in one line.
impl fmt::Display for NodeStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "broker_up={} broker_channels={} broker_published={} broker_received={} \
             broker_lost={} broker_failures={} broker_undelivered={}",
            u8::from(self.broker.is_up),
            self.broker.channels,
            self.broker.published,
            self.received,
            self.lost,
            self.broker.failures,
            self.undelivered,
        )
    }
}

impl Node {
    /// Begins to be a node. `hears` is called with what comes, on a thread of the broker, one thing
    /// after another; it must not wait.
    ///
    /// ```no_run
    /// use myriapod_cluster::{Arrival, Node, Prefix, Redis};
    ///
    /// let redis = Redis::new("127.0.0.1", 6379);
    /// let node = Node::start(redis, Prefix::default(), |arrival| match arrival {
    ///     Arrival::Message { group, payload } => println!("{group}: {payload:?}"),
    ///     Arrival::Note(text) => println!("{text}"),
    ///     _ => {}
    /// })?;
    /// node.subscribe("news");
    /// node.publish("news", b"none");
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What keeps it from ever working: a lack of descriptors, or of threads.
    pub fn start(
        broker: impl Into<Box<dyn Broker>>,
        prefix: Prefix,
        hears: impl Fn(Arrival<'_>) + Send + Sync + 'static,
    ) -> Result<Self, myriapod::Error> {
        let id = format!("{:016x}", random());
        let node = Self {
            prefix,
            id: id.into_bytes().try_into().unwrap_or([b'0'; ID_LEN]),
            broker: broker.into(),
            counts: Arc::default(),
            hears: Arc::default(),
        };
        let _ = node.hears.set(Box::new(hears));
        node.broker.start(node.inbox())?;
        Ok(node)
    }

    fn inbox(&self) -> Inbox {
        let (id, prefix) = (self.id, self.prefix.clone());
        let (counts, hears) = (Arc::clone(&self.counts), Arc::clone(&self.hears));
        Arc::new(move |incoming| {
            let Some(hears) = hears.get() else { return };
            match incoming {
                Incoming::Message { channel, payload } => {
                    let group = prefix.group(channel);
                    let Some(((from, payload), group)) = split(payload).zip(group) else {
                        counts.foreign.fetch_add(1, Relaxed);
                        return;
                    };
                    if *from == id {
                        counts.own.fetch_add(1, Relaxed);
                        return;
                    }
                    counts.received.fetch_add(1, Relaxed);
                    hears(Arrival::Message { group: &group, payload });
                }
                Incoming::Up { broker } => {
                    counts.is_away.store(false, Relaxed);
                    hears(Arrival::Note(&format!("{broker} is there")));
                }
                Incoming::Down { broker, why } => {
                    // Once, however often it is tried.
                    if !counts.is_away.swap(true, Relaxed) {
                        hears(Arrival::Note(&format!("{broker} is away: {why}")));
                    }
                }
                Incoming::Refused { broker, why } => {
                    hears(Arrival::Note(&format!("{broker} refuses: {why}")));
                }
            }
        })
    }

    /// Has what other nodes say to a group come.
    pub fn subscribe(&self, group: &str) {
        if let Some(channel) = self.prefix.channel(group) {
            self.broker.subscribe(&channel);
        }
    }

    /// Has no more of it come.
    pub fn unsubscribe(&self, group: &str) {
        if let Some(channel) = self.prefix.channel(group) {
            self.broker.unsubscribe(&channel);
        }
    }

    /// Says something to a group on all other nodes. Returns whether it is on its way; if not, it is
    /// [counted](NodeStats::lost). A group whose channel's name is longer than 1,024 bytes reaches
    /// nobody.
    pub fn publish(&self, group: &str, payload: &[u8]) -> bool {
        let sent = self.prefix.channel(group).is_some_and(|channel| {
            let mut bytes = Vec::with_capacity(ID_LEN + payload.len());
            bytes.extend_from_slice(&self.id);
            bytes.extend_from_slice(payload);
            self.broker.publish(&channel, &bytes)
        });
        if !sent {
            self.counts.not_sent.fetch_add(1, Relaxed);
        }
        sent
    }

    /// A message of another node did not reach the members here.
    pub fn count_undelivered(&self) {
        self.counts.undelivered.fetch_add(1, Relaxed);
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let broker = self.broker.stats();
        NodeStats {
            broker,
            received: self.counts.received.load(Relaxed),
            own: self.counts.own.load(Relaxed),
            foreign: self.counts.foreign.load(Relaxed),
            lost: self.counts.not_sent.load(Relaxed) + broker.unconfirmed,
            undelivered: self.counts.undelivered.load(Relaxed),
        }
    }
}

fn split(payload: &[u8]) -> Option<(&[u8; ID_LEN], &[u8])> {
    payload.split_first_chunk()
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("prefix", &self.prefix)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
