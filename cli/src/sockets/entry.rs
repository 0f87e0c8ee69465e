//! [`Entry`]: what is shown of one socket.

use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::TcpState;

/// The protocol, with its family where it has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
    Unix,
}

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
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
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) fd: i32,
}

/// One socket.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) protocol: Protocol,
    pub(crate) state: TcpState,
    /// Bytes received that the program has not read; of a listener, connections that wait to be
    /// accepted.
    pub(crate) recv_queue: u32,
    /// Bytes sent that the peer has not acknowledged; of a listener, how many connections may wait.
    pub(crate) send_queue: u32,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) rtt: Option<Duration>,
    /// Segments sent again since the connection began.
    pub(crate) retransmits: Option<u32>,
    pub(crate) uid: Option<u32>,
    /// 0 where no program holds it any more.
    pub(crate) inode: u64,
    pub(crate) owners: Vec<Owner>,
}

impl Entry {
    /// Whether either end has this port.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        [&self.local, &self.peer].into_iter().any(|address| address.port() == Some(port))
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.state == TcpState::Listen
    }

    /// Where it stands in the list: what a program holds before what only the kernel remembers.
    pub(crate) fn rank(&self) -> u8 {
        match self.state {
            TcpState::Listen => 0,
            TcpState::TimeWait => 2,
            _ => 1,
        }
    }

    /// As netstat has it; a datagram socket without a peer is `UNCONN`, as ss says.
    pub(crate) fn state_name(&self) -> String {
        match (self.protocol, self.state) {
            (Protocol::Udp4 | Protocol::Udp6 | Protocol::Unix, TcpState::Closed) => "UNCONN".into(),
            (_, state) => state.to_string(),
        }
    }
}

/// An address as netstat has it: `*` for no port or no address.
pub(crate) fn shown(address: &SocketAddr) -> String {
    match address {
        SocketAddr::Unix(_) => address.to_string(),
        _ if address.port() == Some(0) && address.ip().is_some_and(|ip| ip.is_unspecified()) => {
            "*:*".to_owned()
        }
        _ => address.to_string(),
    }
}
