//! Readiness APIs wrapped directly (epoll, kqueue, poll, select), receiving without copying, and an
//! engine for JSON-header messages that favours the most connections per core.
//!
//! Start at the layer that you need:
//!
//! - [`Server`]: listeners, [`Limits`] and a handler become an event loop. A closure will do for a
//!   handler; [`Handler`] keeps state beside each connection.
//! - [`Servers`]: the same with several event loops, each on a thread of its own.
//! - [`Client`]: the other side, blocking, with timeouts.
//! - [`EventLoop`]: one turn at a time ([`EventLoop::run_once`]), inside a loop of your own.
//! - [`protocol`]: messages without sockets: bytes in, messages out. Bring your own
//!   [`protocol::Framing`] if you speak something else.
//! - [`Selector`]: sockets and the data beside them, without messages.
//! - [`sys`]: the operating system: each readiness API by itself, sockets, signals, the clock.
//!
//! All of this is there by default. Without some of it (`default-features = false`), less is compiled:
//!
//! | feature | what it is | what it brings |
//! |---|---|---|
//! | `json` | [`protocol::JsonHeader`], [`Client`], contents and header keys as JSON, [`ServerBuilder::build`] and [`answer`](ServerBuilder::answer) | `serde`, `serde_json`, `memchr` |
//! | `encoding` | [`Message::text`] in other encodings than UTF-8 and ASCII | `encoding_rs` |
//! | `portable` | [`Backend::Portable`] | `polling` |
//!
//! With none of them, [`ServerBuilder::build_with`] and [`answer_with`](ServerBuilder::answer_with)
//! serve a framing that you name, and `libc` and `nix` are the only dependencies.
//!
//! New to sockets? The [`guide`] walks from one blocking socket to the event loop, one step at a time.
//!
//! ```
//! use myriapod::{Client, Server};
//!
//! let mut server = Server::builder().listen("127.0.0.1", 0).answer(|message, reply| {
//!     let request = message.json()?;
//!     let name = request["name"].as_str().unwrap_or("stranger");
//!     reply.json(&serde_json::json!({ "result": format!("Hello, {name}!") }))?;
//!     Ok(())
//! })?;
//! let (port, handle) = (server.addresses()[0].port().unwrap_or(0), server.handle());
//!
//! let asking = std::thread::spawn(move || {
//!     let mut client = Client::connect("127.0.0.1", port)?;
//!     let reply = client.request_json(&serde_json::json!({ "name": "Neo" }))?;
//!     assert_eq!(reply.json()?["result"], "Hello, Neo!");
//!     handle.shutdown()?;
//!     Ok::<(), myriapod::Error>(())
//! });
//! server.run()?;
//! asking.join().expect("it has not panicked")?;
//! # Ok::<(), myriapod::Error>(())
//! ```
//!
//! What goes wrong is either an [`Error`] that names the call and the errno, or concerns one
//! connection: then that one is closed, the [`Cause`] is counted in [`Stats`], and the others go on.
#![forbid(unsafe_code)]
// Where docs.rs builds the pages, each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod body;
mod buffer;
#[cfg(feature = "json")]
mod client;
mod config;
mod connection;
mod connection_id;
mod context;
mod deferred;
mod engine;
mod error;
mod event_loop;
mod group_watch;
mod groups;
pub mod guide;
mod handle;
mod handle_error;
mod handler;
mod handler_error;
mod handover;
mod intake;
pub mod link;
mod listening;
mod log;
mod loops;
mod mailbox;
#[cfg(all(test, myriapod_loom))]
mod models;
mod outgoing;
mod plan;
mod predecessor;
pub mod protocol;
pub mod proxy_protocol;
mod reply;
mod reserve;
mod selector;
mod server;
mod servers;
mod shares;
pub mod slab;
mod stats;
mod succession;
mod successor;
mod sync;
pub mod timer;
mod usage;
mod view;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(feature = "json")]
pub use client::{Client, ClientOptions, Reconnect, ReplyStream, Ticket};
pub use config::{Config, ConfigError, Limit, LimitKind, LimitValue, Limits, Overflow};
pub use connection_id::ConnectionId;
pub use deferred::{Deferred, DeferredError};
pub use error::Error;
pub use event_loop::{Audit, EventLoop, Turn};
pub use group_watch::GroupWatch;
pub use handle::Handle;
pub use handle_error::HandleError;
pub use handler::Handler;
pub use handler_error::{HandlerError, HandlerResult};
pub use handover::Handover;
pub use intake::{Flow, Intake};
pub use link::TlsInfo;
pub use log::LogEvent;
pub use myriapod_sys as sys;
pub use outgoing::Outgoing;
pub use protocol::{Message, MessageHead, ProtocolError};
pub use proxy_protocol::{Network, ProxyProtocol};
pub use reply::{Content, Reply, ReplyError};
pub use selector::{Ready, Selector};
pub use server::{Server, ServerBuilder};
pub use servers::{Servers, ServersStats};
pub use slab::Key;
pub use stats::{Cause, Count, CountKind, NamedCounts, Stats};
pub use sys::{Backend, Descriptor, Interest, SocketAddr};
pub use view::{PushError, View};
