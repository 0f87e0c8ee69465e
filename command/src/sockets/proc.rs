//! What `/proc` tells: which process holds a socket, and, where the kernel does not answer through
//! netlink, the sockets themselves.
//!
//! Source: `proc_pid_fd(5)`, `proc_pid_net(5)`.

use std::collections::HashMap;
use std::io;

use myriapod::SocketAddr;
use myriapod::sys::TcpState;
use procfs::ProcError;
use procfs::process::{FDTarget, all_processes};

use super::entry::{Entry, Owner, Protocol};

/// Adds to each entry the processes that hold it, as far as we may look into them.
pub(super) fn add_owners(entries: &mut [Entry]) {
    let mut places: HashMap<u64, usize> = HashMap::new();
    places.extend(entries.iter().enumerate().map(|(at, entry)| (entry.inode, at)));
    places.remove(&0);
    if places.is_empty() {
        return;
    }
    // Processes come and go while we look.
    for process in all_processes().into_iter().flatten().flatten() {
        let mut name = None;
        for fd in process.fd().into_iter().flatten().flatten() {
            let FDTarget::Socket(inode) = fd.target else { continue };
            let Some(entry) = places.get(&inode).and_then(|&at| entries.get_mut(at)) else {
                continue;
            };
            let name: &String = name.get_or_insert_with(|| {
                process.stat().map_or_else(|_| "?".to_owned(), |stat| stat.comm)
            });
            let owner = Owner { name: name.clone(), pid: process.pid(), fd: fd.fd };
            entry.owners.push(owner);
        }
    }
}

/// All sockets of one Internet protocol, without what only netlink tells.
pub(super) fn inet(protocol: Protocol) -> io::Result<Vec<Entry>> {
    let plain = |state, queues: (u32, u32), addresses: (_, _), uid, inode| Entry {
        protocol,
        state: TcpState::from_linux(state),
        recv_queue: queues.0,
        send_queue: queues.1,
        local: SocketAddr::from(addresses.0),
        peer: SocketAddr::from(addresses.1),
        rtt: None,
        retransmits: None,
        uid: Some(uid),
        inode,
        owners: Vec::new(),
    };
    let entries = match protocol {
        Protocol::Udp4 | Protocol::Udp6 => {
            let v4 = protocol == Protocol::Udp4;
            let list = if v4 { procfs::net::udp() } else { procfs::net::udp6() }.map_err(as_io)?;
            let entry = |one: procfs::net::UdpNetEntry| {
                let queues = (one.rx_queue, one.tx_queue);
                let addresses = (one.local_address, one.remote_address);
                plain(one.state.to_u8(), queues, addresses, one.uid, one.inode)
            };
            list.into_iter().map(entry).collect()
        }
        _ => {
            let v4 = protocol == Protocol::Tcp4;
            let list = if v4 { procfs::net::tcp() } else { procfs::net::tcp6() }.map_err(as_io)?;
            let entry = |one: procfs::net::TcpNetEntry| {
                let queues = (one.rx_queue, one.tx_queue);
                let addresses = (one.local_address, one.remote_address);
                plain(one.state.to_u8(), queues, addresses, one.uid, one.inode)
            };
            list.into_iter().map(entry).collect()
        }
    };
    Ok(entries)
}

fn as_io(error: ProcError) -> io::Error {
    match error {
        ProcError::Io(error, _) => error,
        ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        error => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::super::sock_diag;
    use super::*;

    /// What both ways must agree on.
    type Row = (String, String, TcpState, (u32, u32), u64);

    /// Of the sockets that have `address` at either end: others may have its port elsewhere.
    fn rows(entries: io::Result<Vec<Entry>>, address: &SocketAddr) -> Vec<Row> {
        let mut rows: Vec<Row> = entries
            .unwrap()
            .into_iter()
            .filter(|entry| entry.local == *address || entry.peer == *address)
            .filter(|entry| entry.state != TcpState::TimeWait)
            .map(|entry| {
                // Only netlink tells how many may wait to be accepted.
                let sent = if entry.is_listening() { 0 } else { entry.send_queue };
                let queues = (entry.recv_queue, sent);
                (entry.local.to_string(), entry.peer.to_string(), entry.state, queues, entry.inode)
            })
            .collect();
        rows.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        rows
    }

    #[test]
    fn does_proc_net_tell_the_same_where_netlink_is_closed() {
        for (host, protocol) in [("127.0.0.1", Protocol::Tcp4), ("::1", Protocol::Tcp6)] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"unread").unwrap();
            let (accepted, _) = listener.accept().unwrap();
            accepted.peek(&mut [0]).unwrap();
            // Acknowledgements may be late.
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..1000 {
                ours = rows(inet(protocol), &address.into());
                theirs = rows(sock_diag::inet(protocol), &address.into());
                if ours == theirs {
                    break;
                }
            }
            assert_eq!(ours, theirs);
            assert_eq!(ours.len(), 3);
            assert!(ours.iter().any(|row| row.3 == (6, 0)), "{ours:?}");
        }
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = SocketAddr::from(udp.local_addr().unwrap());
        let ours = rows(inet(Protocol::Udp4), &address);
        assert_eq!(ours, rows(sock_diag::inet(Protocol::Udp4), &address));
        assert_eq!(ours.len(), 1);
    }

    #[test]
    fn is_one_socket_found_by_its_ends() {
        // The last one: an IPv6 listener whose peer came over IPv4.
        for (host, to) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "127.0.0.1")] {
            let listener = TcpListener::bind(format!("{host}:0")).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect(format!("{to}:{port}")).unwrap();
            client.write_all(b"unread").unwrap();
            let (accepted, _) = listener.accept().unwrap();
            accepted.peek(&mut [0]).unwrap();
            let (theirs, ours) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
            let found = sock_diag::tcp_one(theirs, ours).unwrap().unwrap();
            assert_eq!((found.state, found.recv_queue), (TcpState::Established, 6), "{host}");
            let found = sock_diag::tcp_one(ours, theirs).unwrap().unwrap();
            assert_eq!((found.state, found.recv_queue), (TcpState::Established, 0), "{host}");
            drop((client, accepted, listener));
            // Nobody listens there any more, and what is left of the connection is no listener.
            let found = sock_diag::tcp_one(theirs, ours).unwrap();
            assert!(found.is_none_or(|entry| entry.state != TcpState::Listen), "{host}");
        }
    }

    #[test]
    fn is_a_socket_found_with_the_process_that_holds_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = SocketAddr::from(listener.local_addr().unwrap());
        let mut entries = inet(Protocol::Tcp4).unwrap();
        entries.retain(|entry| entry.local == address && entry.is_listening());
        add_owners(&mut entries);
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(entries[0].owners.iter().any(|owner| owner.pid == pid), "{entries:?}");
    }
}
