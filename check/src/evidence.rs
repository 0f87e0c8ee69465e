//! What this machine knows of both ends of a connection: queues, states, who listens.

use std::net::IpAddr;
use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::TcpState;

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

/// The end that `theirs` names of a connection to `ours`; `None` where it is not on this machine,
/// or no longer there.
pub(super) fn their_end(ours: &SocketAddr, theirs: &SocketAddr) -> Option<TheirEnd> {
    let end = sockets::tcp_one(theirs.to_std()?, ours.to_std()?)?;
    // Where there is no such connection, the listener of that port is found.
    (end.state != TcpState::Listen).then(|| TheirEnd {
        state: end.state,
        unread: end.recv_queue.into(),
        unsent: end.send_queue.into(),
    })
}

/// Connections that wait to be accepted at an address of this machine; `None` where nobody listens.
pub(super) fn waiting(address: &SocketAddr) -> Option<u64> {
    let mut found: Vec<Entry> = sockets::tcp_listeners();
    found.retain(|entry| accepts(entry, address));
    (!found.is_empty()).then(|| found.iter().map(|entry| u64::from(entry.recv_queue)).sum())
}

/// Whether somebody listens there.
pub(super) fn is_listening(address: &SocketAddr) -> bool {
    waiting(address).is_some()
}

/// The processes that hold the listeners of an address, as far as we may look into them.
pub(super) fn owners(address: &SocketAddr) -> Vec<u32> {
    let mut found = sockets::tcp_listeners();
    found.retain(|entry| accepts(entry, address));
    sockets::add_owners(&mut found);
    let owners = found.iter().flat_map(|entry| &entry.owners);
    let mut pids: Vec<u32> = owners.filter_map(|owner| u32::try_from(owner.pid).ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Whether a listener takes connections to an address. An IPv6 listener shows IPv4 as
/// `::ffff:127.0.0.1`.
fn accepts(listener: &Entry, address: &SocketAddr) -> bool {
    let plain = |address: &SocketAddr| address.ip().map(|ip: IpAddr| ip.to_canonical());
    let any = listener.local.ip().is_some_and(|ip| ip.is_unspecified());
    listener.local.port() == address.port() && (any || plain(&listener.local) == plain(address))
}

/// Time that the threads of these processes were running or waiting to run, in seconds; `None` where
/// a process is gone. One that has nothing to do does neither, however busy the machine is.
///
/// Source: the kernel's Documentation/scheduler/sched-stats.rst.
pub(super) fn busy_time(pids: &[u32]) -> Option<f64> {
    if pids.is_empty() {
        return None;
    }
    let mut nanos = 0_u64;
    for pid in pids {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // A thread that has ended meanwhile is none.
            let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let both = text.split_ascii_whitespace().take(2);
            nanos += both.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>();
        }
    }
    Some(Duration::from_nanos(nanos).as_secs_f64())
}

/// Their resident memory.
pub(super) fn memory(pids: &[u32]) -> Option<u64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|&pid| myriapod_machine::process_rss_bytes(pid).ok()).sum()
}
