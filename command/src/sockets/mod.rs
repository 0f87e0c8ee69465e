//! The sockets of this machine, and who holds them.

mod entry;
#[cfg(target_os = "linux")]
mod proc;
#[cfg(target_os = "linux")]
mod sock_diag;

use myriapod::SocketAddr;

pub use self::entry::{Entry, Owner, Protocol, shown};
use crate::failure::Failure;

/// The TCP socket of this machine with these ends.
pub fn tcp_one(local: std::net::SocketAddr, peer: std::net::SocketAddr) -> Option<Entry> {
    #[cfg(target_os = "linux")]
    if let Ok(found) = sock_diag::tcp_one(local, peer) {
        return found;
    }
    let (local, peer) = (SocketAddr::from(local), SocketAddr::from(peer));
    let mut entries = every(Protocol::Tcp4).unwrap_or_default();
    entries.extend(every(Protocol::Tcp6).unwrap_or_default());
    entries.into_iter().find(|entry| entry.local == local && entry.peer == peer)
}

/// The TCP listeners of this machine, without the processes that hold them.
pub fn tcp_listeners() -> Vec<Entry> {
    let mut entries = Vec::new();
    for protocol in [Protocol::Tcp4, Protocol::Tcp6] {
        #[cfg(target_os = "linux")]
        if let Ok(found) = sock_diag::listeners(protocol) {
            entries.extend(found);
            continue;
        }
        entries.extend(every(protocol).unwrap_or_default());
    }
    entries.retain(Entry::is_listening);
    entries
}

/// Adds to each entry the processes that hold it, as far as we may look into them.
pub fn add_owners(entries: &mut [Entry]) {
    #[cfg(target_os = "linux")]
    proc::add_owners(entries);
    #[cfg(not(target_os = "linux"))]
    let _ = entries;
}

/// All sockets of a protocol: through netlink, which tells most; a kernel or container without
/// that still has `/proc/net`.
#[cfg(target_os = "linux")]
pub fn every(protocol: Protocol) -> Result<Vec<Entry>, Failure> {
    if protocol == Protocol::Unix {
        return sock_diag::unix().map_err(|error| Failure::io("sock_diag", "AF_UNIX", &error));
    }
    sock_diag::inet(protocol).or_else(|refused| {
        proc::inet(protocol).map_err(|_| Failure::io("sock_diag", protocol.name(), &refused))
    })
}

#[cfg(not(target_os = "linux"))]
pub fn every(_: Protocol) -> Result<Vec<Entry>, Failure> {
    let system = std::env::consts::OS;
    Err(Failure::new(format_args!("sockets: not supported here ({system}), only on Linux"))
        .with_next_step("`netstat -an` and `lsof -i -n` tell the same"))
}
