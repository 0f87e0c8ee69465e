//! [`Entry`]: what is shown of one socket.

use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::TcpState;

/// The protocol, with its family where it has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// Unix sockets of all kinds.
    Unix,
}

impl Protocol {
    /// Its name, such as `tcp4`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp4 => "tcp4",
            Self::Tcp6 => "tcp6",
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
            Self::Unix => "unix",
        }
    }
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of its program.
    pub name: String,
    /// The number of the process.
    pub pid: i32,
    /// The descriptor in it.
    pub fd: i32,
}

/// One socket.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The protocol.
    pub protocol: Protocol,
    /// The state; of a datagram socket, `Closed` where it has no peer.
    pub state: TcpState,
    /// Bytes received that the program has not read; of a listener, connections that wait to be
    /// accepted.
    pub recv_queue: u32,
    /// Bytes sent that the peer has not acknowledged; of a listener, how many connections may wait.
    pub send_queue: u32,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// The round-trip time as TCP has measured it.
    pub rtt: Option<Duration>,
    /// Segments sent again since the connection began.
    pub retransmits: Option<u32>,
    /// Whose it is.
    pub uid: Option<u32>,
    /// 0 where no program holds it any more.
    pub inode: u64,
    /// The processes that hold it, as far as that may be known.
    pub owners: Vec<Owner>,
}

impl Entry {
    /// Whether either end has this port.
    pub fn has_port(&self, port: u16) -> bool {
        [&self.local, &self.peer].into_iter().any(|address| address.port() == Some(port))
    }

    /// Whether it listens.
    pub fn is_listening(&self) -> bool {
        self.state == TcpState::Listen
    }

    /// Where it stands in the list: what a program holds before what only the kernel remembers.
    pub fn rank(&self) -> u8 {
        match self.state {
            TcpState::Listen => 0,
            TcpState::TimeWait => 2,
            _ => 1,
        }
    }

    /// As netstat has it; a datagram socket without a peer is `UNCONN`, as ss says.
    pub fn state_name(&self) -> String {
        match (self.protocol, self.state) {
            (Protocol::Udp4 | Protocol::Udp6 | Protocol::Unix, TcpState::Closed) => "UNCONN".into(),
            (_, state) => state.to_string(),
        }
    }
}

/// An address as netstat has it: `*` for no port or no address.
pub fn shown(address: &SocketAddr) -> String {
    match address {
        SocketAddr::Unix(_) => address.to_string(),
        _ if address.port() == Some(0) && address.ip().is_some_and(|ip| ip.is_unspecified()) => {
            "*:*".to_owned()
        }
        _ => address.to_string(),
    }
}
