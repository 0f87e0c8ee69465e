//! [`AddressTable`]: how many connections each peer's address has open.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use myriapod_sys::SocketAddr;

use crate::config::DEFAULT_PER_ADDRESS;
use crate::slab::{Key, Slab};

/// No entry in the table of addresses: the peer is exempt.
pub(crate) const EXEMPT: u32 = u32::MAX;

/// How many connections each peer's address has open.
///
/// A tree and not a hash table: peers choose their addresses, and a hash without a random seed
/// would let them choose collisions.
#[derive(Debug)]
pub(crate) struct AddressTable {
    limit: Option<usize>,
    by_network: BTreeMap<IpAddr, Key>,
    entries: Slab<(IpAddr, usize)>,
}

impl AddressTable {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self { limit, by_network: BTreeMap::new(), entries: Slab::new() }
    }

    /// Another limit from now on. Connections that are there stay, also those above it; peers that
    /// were exempt when they came are not counted.
    pub(crate) fn set_limit(&mut self, limit: Option<usize>) {
        self.limit = limit;
    }

    /// The number of connections that one address may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_PER_ADDRESS)
    }

    /// Counts one more connection of `peer`. Returns its entry, [`EXEMPT`] where there is none, or
    /// `None` where the peer has as many connections as it may.
    pub(crate) fn enter(&mut self, peer: &SocketAddr) -> Option<u32> {
        if self.limit.is_none() && (peer.is_loopback() || peer.is_unix()) {
            return Some(EXEMPT);
        }
        let limit = self.limit();
        // All peers of Unix sockets are one: they have no address of their own.
        let network = network(peer.ip().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let key = match self.by_network.get(&network) {
            Some(key) => *key,
            None => {
                let key = self.entries.insert((network, 0)).ok()?;
                self.by_network.insert(network, key);
                key
            }
        };
        let (_, count) = self.entries.get_mut(key)?;
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(key.index())
    }

    /// How many addresses have connections.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts one connection less for an entry.
    pub(crate) fn leave(&mut self, entry: u32) {
        let Some((key, (network, count))) = self.entries.at_mut(entry) else { return };
        *count -= 1;
        if *count == 0 {
            self.by_network.remove(network);
            self.entries.remove(key);
        }
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

    #[test]
    fn does_an_address_get_its_number_of_connections_and_no_more() {
        let mut table = AddressTable::new(Some(2));
        let first = table.enter(&peer("192.0.2.1:1")).unwrap();
        assert_eq!(table.enter(&peer("192.0.2.1:2")), Some(first));
        assert_eq!(table.enter(&peer("192.0.2.1:3")), None);
        assert!(table.enter(&peer("192.0.2.2:3")).is_some());
        table.leave(first);
        assert_eq!(table.enter(&peer("[::ffff:192.0.2.1]:4")), Some(first), "mapped is the same");
        table.leave(first);
        table.leave(first);
        assert_eq!(table.by_network.len(), 1, "an address without connections is forgotten");
    }

    #[test]
    fn is_an_ipv6_network_one_address() {
        let mut table = AddressTable::new(Some(1));
        assert!(table.enter(&peer("[2001:db8::1]:1")).is_some());
        assert_eq!(table.enter(&peer("[2001:db8::2]:1")), None);
        assert!(table.enter(&peer("[2001:db8:0:1::1]:1")).is_some());
    }

    #[test]
    fn may_an_address_have_1024_connections_where_nothing_is_set() {
        let mut table = AddressTable::new(Limits::default().max_connections_per_address);
        for port in 1..=1024 {
            assert!(table.enter(&peer(&format!("192.0.2.1:{port}"))).is_some());
        }
        assert_eq!(table.enter(&peer("192.0.2.1:1025")), None);
    }

    #[test]
    fn are_loopback_and_unix_exempt_unless_a_limit_is_set() {
        let unix = SocketAddr::Unix(myriapod_sys::UnixAddr::Unnamed);
        let mut table = AddressTable::new(None);
        assert_eq!(table.enter(&unix), Some(EXEMPT));
        assert_eq!(table.enter(&peer("127.0.0.1:1")), Some(EXEMPT));
        assert_eq!(table.enter(&peer("[::1]:1")), Some(EXEMPT));
        let mut table = AddressTable::new(Some(1));
        assert!(table.enter(&peer("127.0.0.1:1")).is_some());
        assert_eq!(table.enter(&peer("127.0.0.1:2")), None);
    }
}
