//! myriapod
#![forbid(unsafe_code)]

mod buffer;
mod client;
mod config;
mod connection;
mod error;
mod event_loop;
mod handler;
mod log;
pub mod protocol;
mod selector;
mod server;
pub mod slab;
mod stats;
pub mod timer;

pub use client::{Client, ClientOptions};
pub use config::{Config, ConfigError, Limits};
pub use error::Error;
pub use event_loop::{EventLoop, Handle, Turn};
pub use handler::{ConnectionId, Handler, HandlerError, HandlerResult, Reply, ReplyError};
pub use log::LogEvent;
pub use myriapod_sys as sys;
pub use protocol::{Message, ProtocolError};
pub use selector::{Ready, Selector};
pub use server::{Server, ServerBuilder};
pub use slab::Key;
pub use stats::{Cause, Stats};
pub use sys::{Backend, Descriptor, Interest, SocketAddr};
