//! [`Entry`]: what is shown of one socket.

use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::TcpState;

/// The protocol, with its family where it has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
    Unix,
}

impl Protocol {
    pub(super) const fn name(self) -> &'static str {
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
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) fd: i32,
}

/// One socket.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) protocol: Protocol,
    pub(super) state: TcpState,
    /// Bytes received that the program has not read; of a listener, connections that wait to be
    /// accepted.
    pub(super) recv_queue: u32,
    /// Bytes sent that the peer has not acknowledged; of a listener, how many connections may wait.
    pub(super) send_queue: u32,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) rtt: Option<Duration>,
    /// Segments sent again since the connection began.
    pub(super) retransmits: Option<u32>,
    pub(super) uid: Option<u32>,
    /// 0 where no program holds it any more.
    pub(super) inode: u64,
    pub(super) owners: Vec<Owner>,
}

impl Entry {
    /// Whether either end has this port.
    pub(super) fn has_port(&self, port: u16) -> bool {
        [&self.local, &self.peer].into_iter().any(|address| address.port() == Some(port))
    }

    pub(super) fn is_listening(&self) -> bool {
        self.state == TcpState::Listen
    }

    /// Where it stands in the list: what a program holds before what only the kernel remembers.
    pub(super) fn rank(&self) -> u8 {
        match self.state {
            TcpState::Listen => 0,
            TcpState::TimeWait => 2,
            _ => 1,
        }
    }

    /// As netstat has it; a datagram socket without a peer is `UNCONN`, as ss says.
    pub(super) fn state_name(&self) -> String {
        match (self.protocol, self.state) {
            (Protocol::Udp4 | Protocol::Udp6 | Protocol::Unix, TcpState::Closed) => "UNCONN".into(),
            (_, state) => state.to_string(),
        }
    }
}

/// An address as netstat has it: `*` for no port or no address.
pub(super) fn shown(address: &SocketAddr) -> String {
    match address {
        SocketAddr::Unix(_) => address.to_string(),
        _ if address.port() == Some(0) && address.ip().is_some_and(|ip| ip.is_unspecified()) => {
            "*:*".to_owned()
        }
        _ => address.to_string(),
    }
}
