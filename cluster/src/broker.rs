//! [`Broker`]: what carries messages from node to node.

use std::fmt;
use std::sync::Arc;

/// What carries messages from node to node. [`Redis`](crate::Redis) and [`Nats`](crate::Nats) are
/// there; another is a few functions.
///
/// None of them may wait: event loops call them. Channels have ASCII letters, digits and
/// `-._%` in their names, so that no broker takes one for a pattern.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use myriapod_cluster::{Broker, BrokerStats, Inbox, Incoming};
///
/// /// Nodes in one process.
/// #[derive(Clone, Default)]
/// struct Here(Arc<Mutex<Vec<Inbox>>>);
///
/// impl Broker for Here {
///     fn start(&self, inbox: Inbox) -> Result<(), myriapod::Error> {
///         self.0.lock().unwrap().push(inbox);
///         Ok(())
///     }
///
///     fn publish(&self, channel: &str, payload: &[u8]) -> bool {
///         let inboxes = self.0.lock().unwrap().clone();
///         inboxes.iter().for_each(|inbox| inbox(Incoming::Message { channel, payload }));
///         true
///     }
///
///     // A node passes over what it has no members for.
///     fn subscribe(&self, _channel: &str) {}
///
///     fn unsubscribe(&self, _channel: &str) {}
/// }
/// # let _ = Here::default();
/// ```
pub trait Broker: Send + Sync {
    /// Begins to work: what arrives goes to `inbox`, on any thread. Called once.
    ///
    /// # Errors
    ///
    /// What keeps it from ever working. A broker that cannot be reached now is none: it is tried
    /// again.
    fn start(&self, inbox: Inbox) -> Result<(), myriapod::Error>;

    /// Sends a message to all that are subscribed to a channel; says whether it is on its way. If
    /// not, it is lost.
    fn publish(&self, channel: &str, payload: &[u8]) -> bool;

    /// Has messages of a channel come. Called once until [`unsubscribe`](Self::unsubscribe), and it
    /// holds also after the broker was away.
    fn subscribe(&self, channel: &str);

    /// Has no more of them come.
    fn unsubscribe(&self, channel: &str);

    /// What it has done. The default knows nothing.
    fn stats(&self) -> BrokerStats {
        BrokerStats::default()
    }
}

/// Where what a broker brings goes.
pub type Inbox = Arc<dyn Fn(Incoming<'_>) + Send + Sync>;

/// What a broker brings.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Incoming<'a> {
    /// Somebody published this, perhaps this node.
    Message {
        /// On which channel.
        channel: &'a str,
        /// What.
        payload: &'a [u8],
    },
    /// The broker can be reached, and all channels are asked for again.
    Up {
        /// Which one, without its password.
        broker: &'a str,
    },
    /// It does not do one thing that it was asked for, because of a permission say.
    Refused {
        /// Which one, without its password.
        broker: &'a str,
        /// What it says.
        why: &'a str,
    },
    /// It cannot be reached, and is tried again.
    Down {
        /// Which one, without its password.
        broker: &'a str,
        /// Why.
        why: &'a str,
    },
}

/// What a broker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Whether messages go through now.
    pub is_up: bool,
    /// Messages that it has confirmed.
    pub published: u64,
    /// Messages that are sent and not confirmed yet.
    pub waiting: u64,
    /// Messages that were sent and not confirmed when the connection was lost, or were refused.
    pub unconfirmed: u64,
    /// Channels that are subscribed, or shall be.
    pub channels: u64,
    /// Times that a connection was lost, or could not be made.
    pub failures: u64,
}

impl fmt::Debug for dyn Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
