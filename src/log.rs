//! [`LogEvent`]: what the engine tells its owner, through a closure and no logging crate.

use std::fmt;

use myriapod_sys::{Errno, SocketAddr, SystemError};

use crate::connection_id::ConnectionId;
use crate::link::LinkFault;
use crate::protocol::Fault;
use crate::proxy_protocol::Refusal;
use crate::stats::Cause;

/// Takes what the engine has to tell.
pub(crate) type LogHook = Box<dyn FnMut(&LogEvent<'_>) + Send>;

/// Something an operator may want to know. Its `Display` is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogEvent<'a> {
    /// A connection was accepted.
    Opened {
        /// Which.
        id: ConnectionId,
        /// Who is at the other end.
        peer: &'a SocketAddr,
    },
    /// A whole message arrived.
    Message {
        /// On which connection.
        id: ConnectionId,
        /// The `content-type` of its header.
        content_type: &'a str,
        /// Bytes of the whole message.
        len: usize,
    },
    /// A peer sent something malformed.
    Fault {
        /// On which connection.
        id: ConnectionId,
        /// What was wrong.
        fault: Fault,
        /// The same in words.
        text: &'a str,
    },
    /// A handler returned an error.
    HandlerError {
        /// On which connection.
        id: ConnectionId,
        /// What it said.
        text: &'a str,
    },
    /// A secure connection cannot go on, or ended before its peer said so. Routine.
    LinkFault {
        /// The connection.
        id: ConnectionId,
        /// What went wrong.
        fault: &'a LinkFault,
    },
    /// A handshake failed, so that no connection came of it. Routine.
    HandshakeFailed {
        /// The other end.
        peer: &'a SocketAddr,
        /// What went wrong.
        fault: &'a LinkFault,
    },
    /// A handler or a framing panicked. A connection that it was about is being closed.
    HandlerPanic {
        /// On which connection, if it was about one.
        id: Option<ConnectionId>,
        /// In which of its functions. `on_message` stands for the framing's writing of the reply too.
        callback: &'static str,
    },
    /// A connection was closed.
    Closed {
        /// Which.
        id: ConnectionId,
        /// Why.
        cause: Cause,
    },
    /// Accepting stops for a while: the system lacks something. At most once a second.
    AcceptPaused {
        /// What it lacks.
        errno: Errno,
        /// Connections open at this moment.
        open: u64,
    },
    /// The limit on connections is reached; peers wait in the backlog. At most once a second.
    AtLimit {
        /// The limit.
        max_connections: usize,
    },
    /// A peer was refused because its address has as many connections as it may.
    RefusedByAddress {
        /// Who.
        peer: &'a SocketAddr,
        /// The limit.
        limit: usize,
    },
    /// A socket was refused: a PROXY header is required, and this one may not bring one, or brought
    /// none that is right.
    RefusedByProxy {
        /// Who is at the other end of the socket.
        peer: &'a SocketAddr,
        /// Why.
        refusal: Refusal,
        /// Whether another such event was told within the last second, or nothing was sent at all,
        /// as a health check does: then it is [routine](LogEvent::is_routine).
        is_routine: bool,
    },
    /// A limit is lower than what was asked for.
    LimitLowered {
        /// What was asked for.
        asked: usize,
        /// What it is.
        lowered: usize,
        /// The limit of the system behind it.
        because: &'a str,
    },
    /// One of several addresses of a host cannot be listened on; the others are.
    NotListening {
        /// The host as it was given.
        host: &'a str,
        /// Which address, and why.
        error: &'a SystemError,
    },
    /// A graceful stop begins.
    Draining {
        /// Connections open at this moment.
        open: u64,
    },
    /// `SIGUSR1` came, for which signals were asked: somebody wants to know how things are.
    Report,
    /// `SIGHUP` came, for which signals were asked: the configuration is to be read again.
    Reload,
    /// A call failed that is not supposed to.
    Failed {
        /// Which, and why.
        error: &'a SystemError,
    },
}

impl LogEvent<'_> {
    /// Whether this is of the kind that happens for every connection or message.
    #[must_use]
    pub const fn is_routine(&self) -> bool {
        matches!(
            self,
            Self::Opened { .. }
                | Self::Message { .. }
                | Self::Fault { .. }
                | Self::HandlerError { .. }
                | Self::LinkFault { .. }
                | Self::HandshakeFailed { .. }
                | Self::Closed { .. }
                | Self::RefusedByProxy { is_routine: true, .. }
        )
    }
}

impl fmt::Display for LogEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { id, peer } => write!(f, "{id}: opened by {peer}"),
            Self::Message { id, content_type, len } => {
                write!(f, "{id}: message of {len} bytes, {content_type}")
            }
            Self::Fault { id, fault, text } => write!(f, "{id}: {}: {text}", fault.name()),
            Self::HandlerError { id, text } => write!(f, "{id}: handler error: {text}"),
            Self::LinkFault { id, fault } => write!(f, "{id}: {fault}"),
            Self::HandshakeFailed { peer, fault } => write!(f, "handshake with {peer}: {fault}"),
            Self::HandlerPanic { id: Some(id), callback } => {
                write!(f, "{id}: {callback} panicked; closing")
            }
            Self::HandlerPanic { id: None, callback } => write!(f, "{callback} panicked"),
            Self::Closed { id, cause } => write!(f, "{id}: closed: {cause}"),
            Self::AcceptPaused { errno, open } => {
                write!(f, "accept: {errno}; pausing, {open} connections are open")
            }
            Self::AtLimit { max_connections } => write!(
                f,
                "max_connections ({max_connections}) reached; further peers wait in the backlog"
            ),
            Self::RefusedByAddress { peer, limit } => write!(
                f,
                "{peer}: refused, its address has max_connections_per_address ({limit}) open"
            ),
            Self::RefusedByProxy { peer, refusal, .. } => write!(f, "{peer}: refused, {refusal}"),
            Self::LimitLowered { asked, lowered, because } => {
                write!(f, "max_connections lowered from {asked} to {lowered}: {because}")
            }
            Self::NotListening { host, error } => {
                write!(f, "not listening on all addresses of {host}: {error}")
            }
            Self::Draining { open } => write!(f, "stopping; {open} connections are open"),
            Self::Report => f.write_str("asked for a report"),
            Self::Reload => f.write_str("asked to read the configuration again"),
            Self::Failed { error } => write!(f, "{error}"),
        }
    }
}
