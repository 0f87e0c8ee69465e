//! [`Remote`]: a broker that is reached over the network.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use myriapod::sys::{self, JoinHandle};
use myriapod::{Handle, Limits, Overflow, Server};
use myriapod_tls::{Connector, Tls};

use crate::bounds::MAX_PAYLOAD;
use crate::broker::{Broker, BrokerStats, Inbox};
use crate::dialect::Wire;
use crate::link::{Link, Talker};
use crate::nats::Nats;
use crate::redis::Redis;
use crate::target::{BrokerError, Secure, Target};

/// One broker, or several of which the next is tried where one cannot be reached. They must know
/// the same messages: a server and its standby, or the members of a NATS cluster.
///
/// It has one thread with one event loop, however many channels there are.
///
/// ```
/// use myriapod_cluster::Remote;
///
/// let remote: Remote = "redis://:secret@10.0.0.1/2,redis://10.0.0.2:6380".parse()?;
/// assert_eq!(remote.to_string(), "redis://10.0.0.1:6379,redis://10.0.0.2:6380");
/// assert!("nats://token@[::1]".parse::<Remote>().is_ok());
/// let error = "rediss://10.0.0.1".parse::<Remote>().unwrap_err();
/// assert!(error.to_string().contains("TLS"));
/// # Ok::<(), myriapod_cluster::BrokerError>(())
/// ```
#[derive(Debug)]
pub struct Remote {
    link: Arc<Link>,
    named: String,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Remote {
    /// Bytes of messages that may be sent and not confirmed: 8 MiB. What is published above that is
    /// lost, and counted.
    pub const MAX_WAITING: usize = 8 << 20;

    fn new(targets: Vec<Target>) -> Result<Self, BrokerError> {
        let kind = std::mem::discriminant::<Target>;
        if targets.windows(2).any(|pair| matches!(pair, [a, b] if kind(a) != kind(b))) {
            return Err(BrokerError::Syntax { why: "all brokers must be of one kind" });
        }
        let named: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let mut targets = targets.into_iter();
        let first = targets.next().ok_or(BrokerError::Syntax { why: "no broker is named" })?;
        let link = Link::new(first, targets.collect(), Self::MAX_WAITING);
        Ok(Self { link: Arc::new(link), named: named.join(","), running: Mutex::new(None) })
    }

    /// The same as a text is parsed, and `rediss://` and `tls://` beside `redis://` and `nats://`:
    /// Redis and NATS over TLS. `connector` says whom to trust; a broker's certificate must have its
    /// host's name, or `name` where that is given.
    ///
    /// # Errors
    ///
    /// [`BrokerError`].
    pub fn secure(
        text: &str,
        connector: &Connector,
        name: Option<&str>,
    ) -> Result<Self, BrokerError> {
        let secure = Secure { connector, name };
        Self::new(
            text.split(',')
                .map(|one| Target::parse(one, Some(secure)))
                .collect::<Result<_, _>>()?,
        )
    }

    fn one(target: Target) -> Self {
        let named = target.to_string();
        let link = Arc::new(Link::new(target, Vec::new(), Self::MAX_WAITING));
        Self { link, named, running: Mutex::new(None) }
    }
}

impl From<Redis> for Remote {
    fn from(redis: Redis) -> Self {
        Self::one(Target::Redis(redis))
    }
}

impl From<Nats> for Remote {
    fn from(nats: Nats) -> Self {
        Self::one(Target::Nats(nats))
    }
}

impl From<Redis> for Box<dyn Broker> {
    fn from(redis: Redis) -> Self {
        Box::new(Remote::from(redis))
    }
}

impl From<Nats> for Box<dyn Broker> {
    fn from(nats: Nats) -> Self {
        Box::new(Remote::from(nats))
    }
}

impl From<Remote> for Box<dyn Broker> {
    fn from(remote: Remote) -> Self {
        Box::new(remote)
    }
}

/// The brokers, without users and passwords.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named)
    }
}

impl FromStr for Remote {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        Self::new(text.split(',').map(|one| Target::parse(one, None)).collect::<Result<_, _>>()?)
    }
}

impl Remote {
    /// The loop that carries its messages, which nobody runs yet.
    pub(crate) fn build(&self, inbox: Inbox) -> Result<Server<Talker, Wire, Tls>, myriapod::Error> {
        let limits = Limits {
            max_content_len: MAX_PAYLOAD,
            // What is sent is bounded by what is not confirmed; subscriptions come on top.
            high_water: Self::MAX_WAITING * 4,
            low_water: Self::MAX_WAITING,
            overflow: Overflow::DropNewest,
            idle_timeout: Duration::ZERO,
            min_content_rate: 0,
            min_read_rate: 0,
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(1),
            linger_timeout: Duration::from_millis(200),
            messages_per_event: 1024,
            ..Limits::default()
        };
        let server = Server::builder()
            .link::<Tls>()
            .limits(limits)
            .build_with(self.link.framing(), Talker(Arc::clone(&self.link)))?;
        self.link.begin(inbox, server.handle());
        Ok(server)
    }
}

impl Broker for Remote {
    fn start(&self, inbox: Inbox) -> Result<(), myriapod::Error> {
        let mut server = self.build(inbox)?;
        let handle = server.handle();
        let thread = sys::spawn("broker", move || {
            // Its end is told by the closes of its connections.
            let _ = server.run();
        })?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Running { handle, thread });
        Ok(())
    }

    fn publish(&self, channel: &str, payload: &[u8]) -> bool {
        self.link.publish(channel, payload)
    }

    fn subscribe(&self, channel: &str) {
        self.link.subscribe(channel);
    }

    fn unsubscribe(&self, channel: &str) {
        self.link.unsubscribe(channel);
    }

    fn stats(&self) -> BrokerStats {
        self.link.stats()
    }
}

/// Sends what was published, then ends; a second at the most, unless the name of a broker is being
/// looked up.
impl Drop for Remote {
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { handle, thread }) = running {
            // One that is gone has ended.
            let _ = handle.shutdown();
            if self.link.stats().is_up {
                let _ = thread.wait();
            }
        }
    }
}
