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
