//! Groups that reach over several servers.
//!
//! A [`Cluster`] joins a server to others, its *nodes*, through a *broker*: Redis or NATS, or
//! whatever implements [`Broker`]. From then on, a broadcast to a group reaches the members on all
//! nodes. Joining and leaving a group stay as they are: a node subscribes with its first member of a
//! group and unsubscribes with its last.
//!
//! ```no_run
//! use myriapod::Server;
//! use myriapod_cluster::{Cluster, Redis};
//!
//! let mut server = Server::builder().listen("127.0.0.1", 0).answer(|message, reply| {
//!     let view = reply.view();
//!     view.handle().join(view.id(), "news")?;
//!     view.handle().broadcast("news", myriapod::Outgoing::copy_of(&message)?)?;
//!     Ok(())
//! })?;
//! let cluster = Cluster::join(server.handle(), Redis::new("127.0.0.1", 6379))?;
//! server.run()?;
//! println!("{}", cluster.stats());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - **At most once.** A message is never sent to the broker twice, and a node never hears its own.
//!   While the broker is away, what is broadcast reaches the members of its own node and nobody else.
//!   [`NodeStats::lost`] counts it: what was not sent, and what was sent and not confirmed, which
//!   others may have got. What a broker had confirmed and not handed on when it died, nobody counts.
//! - **One order for each publisher.** What one node broadcasts arrives in that order on every other
//!   node. What two nodes broadcast may arrive in either order.
//! - **Nothing waits for the broker.** No event loop blocks, and what is not confirmed yet is bounded
//!   ([`Remote::MAX_WAITING`]); above that, it is lost and counted.
//! - **It comes back.** A lost connection is made again, after a time that grows and has a random
//!   part; then every group is subscribed again. What was published meanwhile is not made up for.
//!
//! Brokers are reached in plain text or over TLS 1.3: [`Redis::tls`], [`Nats::tls`],
//! [`Remote::secure`].

mod backoff;
mod bounds;
mod broker;
mod channel;
mod cluster;
mod dialect;
#[cfg(fuzzing)]
mod fuzzing;
mod link;
mod nats;
mod nats_framing;
mod node;
mod redis;
mod remote;
mod resp;
#[cfg(myriapod_sim)]
mod stepped;
mod target;

pub use self::broker::{Broker, BrokerStats, Inbox, Incoming};
pub use self::channel::{Prefix, PrefixError};
pub use self::cluster::{Cluster, JoinError};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::fuzzing::check_brokers;
pub use self::nats::Nats;
pub use self::node::{Arrival, Node, NodeStats};
pub use self::redis::Redis;
pub use self::remote::Remote;
#[cfg(myriapod_sim)]
#[doc(hidden)]
pub use self::stepped::Stepped;
pub use self::target::BrokerError;
