//! What the servers here share: their arguments, where they listen, and the JSON-header messages as
//! one would write them with `serde_json`.

#![forbid(unsafe_code)]

pub mod message;
pub mod session;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// What went wrong; nobody looks closer than that.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a server has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Send the bytes back as they come.
    Raw,
    /// Send each message back.
    Echo,
    /// Answer searches.
    Search,
}

impl Job {
    /// The first argument.
    pub fn from_args() -> Result<Self> {
        match std::env::args().nth(1).as_deref() {
            Some("raw") => Ok(Self::Raw),
            Some("echo") => Ok(Self::Echo),
            Some("search") => Ok(Self::Search),
            other => Err(format!("raw, echo or search, not {other:?}").into()),
        }
    }
}

/// A listener on a free port, which is printed.
pub fn listen() -> Result<TcpListener> {
    myriapod_sys::raise_descriptor_limit()?;
    // The standard library asks for a backlog of 128 only.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    announce(listener.local_addr()?.port());
    Ok(listener)
}

/// Prints where a server listens.
pub fn announce(port: u16) {
    println!("listening on ('127.0.0.1', {port})");
}
