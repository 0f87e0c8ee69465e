//! [`Cluster`]: the groups of a server, carried to others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use myriapod::protocol::{DecodeLimits, Decoder, JsonHeader};
use myriapod::{GroupWatch, Handle, HandleError, Outgoing};

use crate::bounds::MAX_PAYLOAD;
use crate::broker::Broker;
use crate::channel::Prefix;
use crate::node::{Arrival, Node, NodeStats};

/// A server that is joined to others: a broadcast to a group reaches its members on every node.
///
/// Dropping it takes the server out again, once what was published is sent.
pub struct Cluster {
    carrier: Arc<Carrier>,
}

/// What the event loops tell of groups.
struct Carrier {
    handle: Handle,
    /// Set right after it is made, and taken at the end.
    node: Mutex<Option<Arc<Node>>>,
    /// How many loops have members of each group.
    loops: Mutex<BTreeMap<Box<str>, usize>>,
    log: OnceLock<Log>,
}

/// Where lines for people go.
type Log = Box<dyn Fn(&str) + Send + Sync>;

impl Cluster {
    /// Joins a server to all others that do so with the same broker, under the prefix `myriapod.`.
    ///
    /// # Errors
    ///
    /// [`JoinError`]. A broker that cannot be reached is no error: it is tried until it can.
    pub fn join(handle: Handle, broker: impl Into<Box<dyn Broker>>) -> Result<Self, JoinError> {
        Self::join_with(handle, broker, Prefix::default(), |_| {})
    }

    /// The same with a prefix of its own, and lines for the log: that the broker is there, or away,
    /// or refuses something.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_with(
        handle: Handle,
        broker: impl Into<Box<dyn Broker>>,
        prefix: Prefix,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, JoinError> {
        let carrier = Arc::new(Carrier {
            handle,
            node: Mutex::new(None),
            loops: Mutex::default(),
            log: OnceLock::new(),
        });
        let _ = carrier.log.set(Box::new(log));
        let hears: Weak<Carrier> = Arc::downgrade(&carrier);
        let started = Node::start(broker, prefix, move |arrival| {
            if let Some(carrier) = hears.upgrade() {
                carrier.hear(arrival);
            }
        });
        let node = started.map_err(JoinError::Broker)?;
        *carrier.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(node));
        match carrier.handle.watch_groups(Arc::clone(&carrier)) {
            Ok(true) => Ok(Self { carrier }),
            Ok(false) => Err(JoinError::Already),
            Err(error) => Err(JoinError::Server(error)),
        }
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        self.carrier.node().map(|node| node.stats()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let node = self.carrier.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(node);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Why a server could not join a cluster.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It is in one, or somebody else [watches](Handle::watch_groups) its groups.
    Already,
    /// It is gone.
    Server(HandleError),
    /// The broker can never work: there is a lack of descriptors, or of threads.
    Broker(myriapod::Error),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("the groups of this server are watched already"),
            Self::Server(error) => error.fmt(f),
            Self::Broker(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Already => None,
            Self::Server(error) => Some(error),
            Self::Broker(error) => Some(error),
        }
    }
}

impl Carrier {
    fn node(&self) -> Option<Arc<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something comes from the broker.
    fn hear(&self, arrival: Arrival<'_>) {
        match arrival {
            Arrival::Message { group, payload } => {
                let delivered = read(payload).is_some_and(|outgoing| {
                    match self.handle.broadcast_here(group, outgoing) {
                        // It is there, and will be seen.
                        Ok(()) | Err(HandleError::NotWoken) => true,
                        Err(_) => false,
                    }
                });
                if !delivered && let Some(node) = self.node() {
                    node.count_undelivered();
                }
            }
            Arrival::Note(text) => {
                if let Some(log) = self.log.get() {
                    log(text);
                }
            }
        }
    }
}

impl GroupWatch for Carrier {
    fn first_in(&self, group: &str) {
        // Held until it is subscribed, so that no other loop unsubscribes in between.
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let count = loops.entry(group.into()).or_default();
        *count += 1;
        if *count == 1
            && let Some(node) = self.node()
        {
            node.subscribe(group);
        }
    }

    fn last_out(&self, group: &str) {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = loops.get_mut(group) else { return };
        *count -= 1;
        if *count == 0 {
            loops.remove(group);
            if let Some(node) = self.node() {
                node.unsubscribe(group);
            }
        }
    }

    fn broadcast(&self, group: &str, outgoing: &Outgoing) {
        let Some(node) = self.node() else { return };
        let mut bytes = Vec::new();
        // What no header can say reaches nobody here either, and is counted there.
        if outgoing.write_to(&mut JsonHeader::new(LIMITS), &mut bytes).is_ok() {
            node.publish(group, &bytes);
        }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// Between nodes, a message has a JSON header, whatever its members' connections speak.
const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 65_535, max_content_len: MAX_PAYLOAD };

/// A message as another node wrote it.
fn read(payload: &[u8]) -> Option<Outgoing> {
    let mut decoder = Decoder::new(JsonHeader::new(LIMITS));
    decoder.feed(payload);
    let message = decoder.next_message().ok()??;
    Outgoing::copy_of(&message).ok()
}
