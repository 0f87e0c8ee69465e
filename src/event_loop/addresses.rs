//! [`AddressTable`]: how many connections each peer's address has open.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use myriapod_sys::SocketAddr;

use crate::config::DEFAULT_PER_ADDRESS;
use crate::slab::{Key, Slab};
use crate::usage::{Usage, Usages};

/// No entry in the table of addresses: we connected to the peer.
pub(crate) const NO_ENTRY: u32 = u32::MAX;

/// How many connections each peer's address has open, in this loop and in all together.
///
/// A tree and not a hash table: peers choose their addresses, and a hash without a random seed
/// would let them choose collisions.
#[derive(Debug)]
pub(crate) struct AddressTable {
    limit: Option<usize>,
    by_network: BTreeMap<IpAddr, Key>,
    entries: Slab<Entry>,
    /// Of all loops.
    usages: Arc<Usages>,
}

/// An address that has connections in this loop.
#[derive(Debug)]
struct Entry {
    network: IpAddr,
    /// So many.
    count: usize,
    usage: Arc<Usage>,
}

/// A connection was counted.
#[derive(Debug)]
pub(crate) struct Entered {
    /// Its entry.
    pub(crate) address: u32,
    /// Where it is the first of its address: what that address has in all loops, and whether it is
    /// on this machine.
    pub(crate) first: Option<(Arc<Usage>, bool)>,
}

impl AddressTable {
    pub(crate) fn new(limit: Option<usize>, usages: Arc<Usages>) -> Self {
        Self { limit, by_network: BTreeMap::new(), entries: Slab::new(), usages }
    }

    /// Another limit from now on. Connections that are there stay, also those above it.
    pub(crate) fn set_limit(&mut self, limit: Option<usize>) {
        self.limit = limit;
    }

    /// The number of connections that one address may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_PER_ADDRESS)
    }

    /// Counts one more connection of `peer`; `None` where its address has as many as it may.
    pub(crate) fn enter(&mut self, peer: &SocketAddr) -> Option<Entered> {
        let is_near = peer.is_loopback() || peer.is_unix();
        let limit = if self.limit.is_none() && is_near { usize::MAX } else { self.limit() };
        self.enter_within(peer, limit)
    }

    /// Counts one that was there before, however many its address has.
    pub(crate) fn enter_anyway(&mut self, peer: &SocketAddr) -> Option<Entered> {
        self.enter_within(peer, usize::MAX)
    }

    fn enter_within(&mut self, peer: &SocketAddr, limit: usize) -> Option<Entered> {
        let is_near = peer.is_loopback() || peer.is_unix();
        // All peers of Unix sockets are one: they have no address of their own.
        let network = network(peer.ip().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        if let Some(key) = self.by_network.get(&network) {
            let entry = self.entries.get_mut(*key)?;
            let address = key.index();
            return entry.usage.enter(limit).then(|| {
                entry.count += 1;
                Entered { address, first: None }
            });
        }
        let usage = self.usages.enter(network, limit)?;
        let entry = Entry { network, count: 1, usage: Arc::clone(&usage) };
        match self.entries.insert(entry) {
            Ok(key) => {
                self.by_network.insert(network, key);
                Some(Entered { address: key.index(), first: Some((usage, is_near)) })
            }
            Err(_) => {
                self.usages.leave(network, &usage);
                None
            }
        }
    }

    /// How many addresses have connections.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts one connection less for an entry.
    pub(crate) fn leave(&mut self, entry: u32) {
        let Some((key, Entry { network, count, usage })) = self.entries.at_mut(entry) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return usage.leave();
        }
        self.usages.leave(*network, usage);
        self.by_network.remove(network);
        self.entries.remove(key);
    }
}

/// What counts as one address: an IPv4 address, mapped or not, or an IPv6 /64 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn peer(text: &str) -> SocketAddr {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    fn table(limit: Option<usize>) -> AddressTable {
        AddressTable::new(limit, Arc::new(Usages::new()))
    }

    fn enter(table: &mut AddressTable, text: &str) -> Option<u32> {
        table.enter(&peer(text)).map(|entered| entered.address)
    }

    #[test]
    fn does_an_address_get_its_number_of_connections_and_no_more() {
        let mut table = table(Some(2));
        let first = enter(&mut table, "192.0.2.1:1").unwrap();
        assert_eq!(enter(&mut table, "192.0.2.1:2"), Some(first));
        assert_eq!(enter(&mut table, "192.0.2.1:3"), None);
        assert!(enter(&mut table, "192.0.2.2:3").is_some());
        table.leave(first);
        assert_eq!(enter(&mut table, "[::ffff:192.0.2.1]:4"), Some(first), "mapped is the same");
        table.leave(first);
        table.leave(first);
        assert_eq!(table.by_network.len(), 1, "an address without connections is forgotten");
    }

    #[test]
    fn is_the_number_of_an_address_counted_over_all_loops() {
        let usages = Arc::new(Usages::new());
        let mut loops = [1, 2].map(|_| AddressTable::new(Some(3), Arc::clone(&usages)));
        let address = "192.0.2.1:1";
        let first = enter(&mut loops[0], address).unwrap();
        assert!(enter(&mut loops[0], address).is_some());
        let other = enter(&mut loops[1], address).unwrap();
        assert_eq!(enter(&mut loops[1], address), None);
        loops[0].leave(first);
        assert_eq!(enter(&mut loops[1], address), Some(other));
        assert_eq!(enter(&mut loops[0], address), None);
        loops[0].leave(first);
        loops[1].leave(other);
        loops[1].leave(other);
        assert_eq!((loops[0].len(), loops[1].len(), usages.len()), (0, 0, 0));
        assert_eq!(enter(&mut loops[0], address), Some(0), "nothing is left of it");
    }

    #[test]
    fn is_an_ipv6_network_one_address() {
        let mut table = table(Some(1));
        assert!(enter(&mut table, "[2001:db8::1]:1").is_some());
        assert_eq!(enter(&mut table, "[2001:db8::2]:1"), None);
        assert!(enter(&mut table, "[2001:db8:0:1::1]:1").is_some());
    }

    #[test]
    fn may_an_address_have_1024_connections_where_nothing_is_set() {
        let mut table = table(Limits::default().max_connections_per_address);
        for port in 1..=1024 {
            assert!(enter(&mut table, &format!("192.0.2.1:{port}")).is_some());
        }
        assert_eq!(enter(&mut table, "192.0.2.1:1025"), None);
    }

    #[test]
    fn are_loopback_and_unix_exempt_unless_a_limit_is_set() {
        let unix = SocketAddr::Unix(myriapod_sys::UnixAddr::Unnamed);
        let mut free = table(None);
        for _ in 0..2_000 {
            assert!(free.enter(&unix).is_some());
            assert!(enter(&mut free, "127.0.0.1:1").is_some());
            assert!(enter(&mut free, "[::1]:1").is_some());
        }
        let mut table = table(Some(1));
        assert!(enter(&mut table, "127.0.0.1:1").is_some());
        assert_eq!(enter(&mut table, "127.0.0.1:2"), None);
    }
}
