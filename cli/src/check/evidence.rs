//! What this machine knows of both ends of a connection: queues, states, who listens.

use std::net::IpAddr;

use myriapod::SocketAddr;
use myriapod::sys::{self, TcpState};

use crate::sockets::{self, Entry};

/// The server's end of one of our connections, as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TheirEnd {
    pub(super) state: TcpState,
    /// Bytes that the server has not read.
    pub(super) unread: u64,
    /// Bytes that it has sent and we have not acknowledged.
    pub(super) unsent: u64,
}

/// A listener of this machine.
#[derive(Debug)]
pub(super) struct Listening {
    /// Connections that wait to be accepted.
    pub(super) waiting: u64,
    inode: u64,
}

/// The end that `theirs` names of a connection to `ours`; `None` where it is not on this machine,
/// or no longer there.
pub(super) fn their_end(ours: &SocketAddr, theirs: &SocketAddr) -> Option<TheirEnd> {
    let entries = sockets::tcp().ok()?;
    let end = entries.iter().find(|entry| same(&entry.local, theirs) && same(&entry.peer, ours))?;
    Some(TheirEnd {
        state: end.state,
        unread: end.recv_queue.into(),
        unsent: end.send_queue.into(),
    })
}

/// Who listens at an address of this machine.
pub(super) fn listening(address: &SocketAddr) -> Option<Listening> {
    let entries = sockets::tcp().ok()?;
    let at_port = |entry: &&Entry| entry.is_listening() && entry.local.port() == address.port();
    let all: Vec<&Entry> = entries.iter().filter(at_port).collect();
    let exact = all.iter().find(|entry| same(&entry.local, address));
    let any = all.iter().find(|entry| entry.local.ip().is_some_and(|ip| ip.is_unspecified()));
    let found = exact.or(any)?;
    Some(Listening { waiting: found.recv_queue.into(), inode: found.inode })
}

/// The processes that hold the listener of an address, as far as we may look into them.
pub(super) fn owners(address: &SocketAddr) -> Vec<u32> {
    let Some(listening) = listening(address) else { return Vec::new() };
    let Ok(mut entries) = sockets::tcp() else { return Vec::new() };
    entries.retain(|entry| entry.inode == listening.inode && entry.is_listening());
    sockets::add_owners(&mut entries);
    let owners = entries.iter().flat_map(|entry| &entry.owners);
    let mut pids: Vec<u32> = owners.filter_map(|owner| u32::try_from(owner.pid).ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Processor time that these processes have used, in seconds; `None` where one is gone.
pub(super) fn processor_time(pids: &[u32]) -> Option<f64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|&pid| Some(sys::process_usage(pid).ok()?.running.as_secs_f64())).sum()
}

/// Their resident memory.
pub(super) fn memory(pids: &[u32]) -> Option<u64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|&pid| sys::process_rss_bytes(pid).ok()).sum()
}

/// Whether two addresses are one: an IPv6 socket shows IPv4 peers as `::ffff:127.0.0.1`.
fn same(one: &SocketAddr, other: &SocketAddr) -> bool {
    let plain = |address: &SocketAddr| address.ip().map(|ip: IpAddr| ip.to_canonical());
    one.port() == other.port() && one.port().is_some() && plain(one) == plain(other)
}
