//! What the kernel tells of every socket when asked through netlink, as ss does.
//!
//! Source: `sock_diag(7)`, netlink(7).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::{TcpState, UnixAddr};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_packet_sock_diag::unix::nlas::{Nla as UnixNla, UnixDiagName};
use netlink_packet_sock_diag::unix::{
    ShowFlags, StateFlags as UnixStates, UnixRequest, UnixResponse,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::entry::{Entry, Protocol};

/// A socket that has asked a question.
fn ask(question: SockDiagMessage, flags: u16) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut packet = NetlinkMessage::new(header, question.into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(socket)
}

/// Asks one question that many messages answer.
fn dump(question: SockDiagMessage) -> io::Result<Vec<SockDiagMessage>> {
    let socket = ask(question, NLM_F_REQUEST | NLM_F_DUMP)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
            let len = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
            let Some(message) = rest.get(..len).filter(|message| !message.is_empty()) else {
                break;
            };
            match NetlinkMessage::<SockDiagMessage>::deserialize(message).map(|one| one.payload) {
                Ok(NetlinkPayload::InnerMessage(answer)) => answers.push(answer),
                Ok(NetlinkPayload::Done(_)) => return Ok(answers),
                Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
                // A message that the library cannot read must not hide the others.
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        if datagram.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The one TCP socket with these ends; a listener where the peer is unspecified. The kernel looks it
/// up, so that it costs the same however many there are.
pub(super) fn tcp_one(
    local: std::net::SocketAddr,
    peer: std::net::SocketAddr,
) -> io::Result<Option<Entry>> {
    let (family, protocol) = match local {
        std::net::SocketAddr::V4(_) => (AF_INET, Protocol::Tcp4),
        std::net::SocketAddr::V6(_) => (AF_INET6, Protocol::Tcp6),
    };
    let socket_id = SocketId {
        source_port: local.port(),
        destination_port: peer.port(),
        source_address: local.ip(),
        destination_address: peer.ip(),
        interface_id: 0,
        // Any: the cookie is for those who ask about a socket that they know already.
        cookie: [0xff; 8],
    };
    let question = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::from_bits_retain(u32::MAX),
        socket_id,
    };
    let socket = ask(SockDiagMessage::InetRequest(question), NLM_F_REQUEST)?;
    let (datagram, _) = socket.recv_from_full()?;
    match NetlinkMessage::<SockDiagMessage>::deserialize(&datagram).map(|one| one.payload) {
        Ok(NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer))) => {
            Ok(Some(inet_entry(protocol, &answer)))
        }
        Ok(NetlinkPayload::Error(error)) => match error.to_io() {
            error if error.kind() == io::ErrorKind::NotFound => Ok(None),
            error => Err(error),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// All sockets of one Internet protocol.
pub(super) fn inet(protocol: Protocol) -> io::Result<Vec<Entry>> {
    inet_in(protocol, StateFlags::from_bits_retain(u32::MAX))
}

/// Those that listen.
pub(super) fn listeners(protocol: Protocol) -> io::Result<Vec<Entry>> {
    // The number of TCP_LISTEN in the kernel's include/net/tcp_states.h.
    inet_in(protocol, StateFlags::from_bits_retain(1 << 10))
}

fn inet_in(protocol: Protocol, states: StateFlags) -> io::Result<Vec<Entry>> {
    let (family, number, socket_id) = match protocol {
        Protocol::Tcp6 => (AF_INET6, IPPROTO_TCP, SocketId::new_v6()),
        Protocol::Udp4 => (AF_INET, IPPROTO_UDP, SocketId::new_v4()),
        Protocol::Udp6 => (AF_INET6, IPPROTO_UDP, SocketId::new_v6()),
        _ => (AF_INET, IPPROTO_TCP, SocketId::new_v4()),
    };
    let question = InetRequest {
        family,
        protocol: number,
        extensions: ExtensionFlags::INFO,
        states,
        socket_id,
    };
    let answers = dump(SockDiagMessage::InetRequest(question))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            SockDiagMessage::InetResponse(answer) => Some(inet_entry(protocol, answer)),
            _ => None,
        })
        .collect())
}

fn inet_entry(protocol: Protocol, answer: &InetResponse) -> Entry {
    let header = &answer.header;
    let id = &header.socket_id;
    let address = |ip, port| -> SocketAddr {
        match ip {
            IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
            IpAddr::V6(v6) => {
                let scope = if v6.is_unicast_link_local() { id.interface_id } else { 0 };
                SocketAddrV6::new(v6, port, 0, scope).into()
            }
        }
    };
    let state = TcpState::from_linux(header.state);
    let info = answer.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Some(&info[..]),
        _ => None,
    });
    // A listener has neither; its numbers there mean something else.
    let info = info.filter(|_| state != TcpState::Listen);
    // The offsets of tcpi_rtt and tcpi_total_retrans in struct tcp_info, which only ever grows.
    let number = |at: usize| {
        let bytes = info?.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    Entry {
        protocol,
        state,
        recv_queue: header.recv_queue,
        send_queue: header.send_queue,
        local: address(id.source_address, id.source_port),
        peer: address(id.destination_address, id.destination_port),
        // 0 is a connection that has measured nothing yet.
        rtt: number(68)
            .filter(|&micros| micros > 0)
            .map(|micros| Duration::from_micros(micros.into())),
        retransmits: number(100),
        uid: Some(header.uid),
        inode: header.inode.into(),
        owners: Vec::new(),
    }
}

/// All Unix sockets.
pub(super) fn unix() -> io::Result<Vec<Entry>> {
    let question = UnixRequest {
        state_flags: UnixStates::from_bits_retain(u32::MAX),
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::PEER | ShowFlags::RQLEN,
        cookie: [0xff; 8],
    };
    let answers = dump(SockDiagMessage::UnixRequest(question))?;
    let answers: Vec<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            SockDiagMessage::UnixResponse(answer) => Some(answer),
            _ => None,
        })
        .collect();
    let names: BTreeMap<u32, SocketAddr> =
        answers.iter().map(|answer| (answer.header.inode, unix_name(answer))).collect();
    Ok(answers.into_iter().map(|answer| unix_entry(answer, &names)).collect())
}

fn unix_name(answer: &UnixResponse) -> SocketAddr {
    SocketAddr::Unix(match answer.name() {
        Some(UnixDiagName::Pathname(path)) => UnixAddr::Path(path.into()),
        Some(UnixDiagName::Abstract(name)) => UnixAddr::Abstract(name.clone()),
        None => UnixAddr::Unnamed,
    })
}

fn unix_entry(answer: &UnixResponse, names: &BTreeMap<u32, SocketAddr>) -> Entry {
    let peer = answer.peer().and_then(|inode| names.get(&inode)).cloned();
    let queues = answer.nlas.iter().find_map(|nla| match nla {
        UnixNla::ReceiveQueueLength(received, sent) => Some((*received, *sent)),
        _ => None,
    });
    let (recv_queue, send_queue) = queues.unwrap_or_default();
    Entry {
        protocol: Protocol::Unix,
        state: TcpState::from_linux(answer.header.state),
        recv_queue,
        send_queue,
        local: unix_name(answer),
        peer: peer.unwrap_or(SocketAddr::Unix(UnixAddr::Unnamed)),
        rtt: None,
        retransmits: None,
        uid: None,
        inode: answer.header.inode.into(),
        owners: Vec::new(),
    }
}
