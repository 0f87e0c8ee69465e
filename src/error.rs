//! [`Error`]: everything that can go wrong outside a single connection.

use std::time::Duration;
use std::{fmt, io};

use crate::config::ConfigError;
use crate::handle_error::HandleError;
use crate::link::LinkFault;
use crate::protocol::{EncodeError, ProtocolError};

/// What a server could not be built or run with, or a client could not do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: which call, why, and on what.
    System(myriapod_sys::SystemError),
    /// A configuration that cannot work.
    Config(ConfigError),
    /// The peer sent something malformed.
    Protocol(ProtocolError),
    /// A request could not be encoded.
    Encode(EncodeError),
    /// The secure protocol could not be set up, or ended the connection.
    Link(LinkFault),
    /// An event loop could not be asked.
    Handle(HandleError),
    /// Nothing could be taken over from the process that answers at the path of the hand-over.
    Handover {
        /// The path.
        path: Box<str>,
        /// Why not.
        why: Box<str>,
    },
    /// The peer took too long.
    Timeout {
        /// What was waited for: `connect`, `send` or `recv`.
        call: &'static str,
        /// For whom.
        peer: Box<str>,
        /// How long.
        timeout: Duration,
    },
    /// The peer closed the connection before a whole reply had arrived.
    Closed {
        /// Who.
        peer: Box<str>,
        /// Bytes of the unfinished reply.
        received: usize,
    },
    /// A client has earlier requests whose replies have not been received yet.
    RepliesAwaited {
        /// How many.
        count: usize,
    },
    /// A client has no request whose reply could be received.
    NothingAwaited,
    /// A client has as many requests under way as it may.
    TooManyTickets {
        /// How many.
        count: usize,
    },
    /// A client keeps as much as it may of what nobody has taken.
    TooMuchKept {
        /// How many bytes.
        bytes: usize,
    },
    /// What a content is read from, or written to, failed, or ended too early.
    Stream {
        /// `read` or `write`.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl Error {
    /// The kind that the standard library has for it.
    #[must_use]
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::System(error) => error.io_kind(),
            Self::Protocol(_) | Self::Link(_) => io::ErrorKind::InvalidData,
            Self::Handle(HandleError::Gone) => io::ErrorKind::BrokenPipe,
            Self::Handle(HandleError::Full) => io::ErrorKind::WouldBlock,
            Self::Handle(HandleError::NotWoken | HandleError::OwnLoop) => io::ErrorKind::Other,
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::Closed { .. } => io::ErrorKind::UnexpectedEof,
            Self::Handover { .. } => io::ErrorKind::Other,
            Self::Config(_)
            | Self::Encode(_)
            | Self::RepliesAwaited { .. }
            | Self::NothingAwaited => io::ErrorKind::InvalidInput,
            Self::TooManyTickets { .. } | Self::TooMuchKept { .. } => io::ErrorKind::WouldBlock,
            Self::Stream { error, .. } => error.kind(),
        }
    }
}

/// Of the kind that [`io_kind`](Error::io_kind) says, with the whole error inside.
///
/// ```
/// use std::io;
///
/// fn main() -> io::Result<()> {
///     let server = myriapod::Server::builder().listen("127.0.0.1", 0).answer(|_, _| Ok(()))?;
///     # drop(server);
///     Ok(())
/// }
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Protocol(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::Link(fault) => fault.fmt(f),
            Self::Handle(error) => error.fmt(f),
            Self::Timeout { call, peer, timeout } => {
                write!(f, "{call} {peer}: nothing within {timeout:?}")
            }
            Self::Closed { peer, received: 0 } => {
                write!(f, "recv {peer}: the peer closed the connection without a reply")
            }
            Self::Closed { peer, received } => write!(
                f,
                "recv {peer}: the peer closed the connection {received} bytes into a reply"
            ),
            Self::RepliesAwaited { count } => {
                write!(f, "{count} earlier requests have no reply yet: receive those first")
            }
            Self::Handover { path, why } => write!(f, "taking over at {path}: {why}"),
            Self::NothingAwaited => f.write_str("no request is waiting for a reply"),
            Self::TooManyTickets { count } => {
                write!(f, "{count} requests are under way: wait for one of them first")
            }
            Self::TooMuchKept { bytes } => {
                write!(f, "{bytes} bytes of replies and pushes are kept: take some of them first")
            }
            Self::Stream { call, error } => write!(f, "{call} a content: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Link(fault) => Some(fault),
            Self::System(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::Protocol(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Stream { error, .. } => Some(error),
            Self::Handle(error) => Some(error),
            Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Handover { .. }
            | Self::RepliesAwaited { .. }
            | Self::TooManyTickets { .. }
            | Self::TooMuchKept { .. }
            | Self::NothingAwaited => None,
        }
    }
}

impl From<myriapod_sys::SystemError> for Error {
    fn from(error: myriapod_sys::SystemError) -> Self {
        Self::System(error)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<HandleError> for Error {
    fn from(error: HandleError) -> Self {
        Self::Handle(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Fault;

    #[test]
    fn does_an_error_keep_its_kind_and_all_else_on_the_way_to_std() {
        let refused =
            myriapod_sys::SystemError::call("connect", myriapod_sys::Errno::ECONNREFUSED, "");
        let timeout = Duration::from_secs(1);
        for (error, kind) in [
            (Error::from(refused), io::ErrorKind::ConnectionRefused),
            (ProtocolError::new(Fault::HeaderNotJson).into(), io::ErrorKind::InvalidData),
            (HandleError::Gone.into(), io::ErrorKind::BrokenPipe),
            (Error::Closed { peer: "".into(), received: 0 }, io::ErrorKind::UnexpectedEof),
            (Error::Timeout { call: "recv", peer: "".into(), timeout }, io::ErrorKind::TimedOut),
        ] {
            let said = error.to_string();
            let error = io::Error::from(error);
            assert_eq!((error.kind(), error.to_string()), (kind, said));
            let inside = error.into_inner().unwrap();
            assert!(inside.is::<Error>());
        }
    }
}
