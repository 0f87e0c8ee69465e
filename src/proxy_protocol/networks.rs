//! [`ProxyProtocol`]: from which networks a server takes PROXY headers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use myriapod_sys::SocketAddr;

/// Where the proxies of a server are. From these networks a PROXY header is required; a connection
/// from anywhere else is refused, with or without one.
///
/// ```
/// use myriapod::{Network, ProxyProtocol};
///
/// let proxies: ProxyProtocol = "127.0.0.0/8,10.0.0.0/8,unix".parse()?;
/// assert!(proxies.trusts(&"10.1.2.3:4".parse()?));
/// assert!(!proxies.trusts(&"192.0.2.1:4".parse()?));
/// assert_eq!(proxies, ProxyProtocol::from(["127.0.0.0/8".parse()?, "10.0.0.0/8".parse()?, Network::Unix]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    networks: Vec<Network>,
}

/// A network of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// The addresses whose first `prefix` bits are those of `address`: 32 of IPv4 at most, 128 of
    /// IPv6. IPv4 mapped into IPv6 is IPv4.
    Ip {
        /// One of them.
        address: IpAddr,
        /// How many bits count.
        prefix: u8,
    },
    /// All Unix sockets.
    Unix,
}

/// Text that names no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError {
    text: Box<str>,
}

impl ProxyProtocol {
    /// Whether a peer at this address is one of the proxies.
    #[must_use]
    pub fn trusts(&self, peer: &SocketAddr) -> bool {
        self.networks.iter().any(|network| network.contains(peer))
    }
}

impl<N: Into<Vec<Network>>> From<N> for ProxyProtocol {
    fn from(networks: N) -> Self {
        Self { networks: networks.into() }
    }
}

/// Networks with commas between them.
impl FromStr for ProxyProtocol {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let networks = text.split(',').map(str::parse).collect::<Result<Vec<Network>, _>>()?;
        Ok(Self { networks })
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, network) in self.networks.iter().enumerate() {
            write!(f, "{}{network}", if nth > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl Network {
    /// Whether a peer at this address is in the network.
    #[must_use]
    pub fn contains(&self, peer: &SocketAddr) -> bool {
        match (self, peer.ip().map(|ip| ip.to_canonical())) {
            (Self::Unix, _) => peer.is_unix(),
            (Self::Ip { address: IpAddr::V4(network), prefix }, Some(IpAddr::V4(ip))) => {
                let differ = u32::from(*network) ^ u32::from(ip);
                differ.leading_zeros() >= u32::from(*prefix)
            }
            (Self::Ip { address: IpAddr::V6(network), prefix }, Some(IpAddr::V6(ip))) => {
                let differ = u128::from(*network) ^ u128::from(ip);
                differ.leading_zeros() >= u32::from(*prefix)
            }
            _ => false,
        }
    }
}

/// `10.0.0.0/8`, `2001:db8::/32`, one address, or `unix`. Bits behind the prefix must be zero.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let network = || {
            let (ip, bits) = match text.split_once('/') {
                Some((ip, bits)) => (ip, Some(bits)),
                None => (text, None),
            };
            let address: IpAddr = ip.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match bits {
                None => most,
                Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    bits.parse().ok()?
                }
                Some(_) => return None,
            };
            let zeros = match address {
                IpAddr::V4(ip) => u32::from(ip).trailing_zeros(),
                IpAddr::V6(ip) => u128::from(ip).trailing_zeros(),
            };
            let fits = prefix <= most && u32::from(most - prefix) <= zeros;
            // Mapped, it would be compared as IPv4, which its prefix does not fit.
            (fits && address == address.to_canonical()).then_some(Self::Ip { address, prefix })
        };
        network().ok_or_else(|| NetworkError { text: text.into() })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip { address, prefix } => write!(f, "{address}/{prefix}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no network: 10.0.0.0/8 (with zeros behind the prefix), 2001:db8::/32, an \
             address or unix are",
            self.text
        )
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(peer: &str, network: &str) -> bool {
        network.parse::<Network>().unwrap().contains(&peer.parse().unwrap())
    }

    #[test]
    fn are_addresses_in_the_networks_that_hold_them() {
        assert!(is_in("127.9.9.9:1", "127.0.0.0/8"));
        assert!(is_in("[::ffff:127.0.0.1]:1", "127.0.0.0/8"), "mapped is the same");
        assert!(!is_in("128.0.0.1:1", "127.0.0.0/8"));
        assert!(is_in("192.0.2.1:1", "192.0.2.1"));
        assert!(!is_in("192.0.2.2:1", "192.0.2.1/32"));
        assert!(is_in("192.0.2.2:1", "0.0.0.0/0"));
        assert!(!is_in("[::1]:1", "0.0.0.0/0"));
        assert!(is_in("[2001:db8:1::1]:1", "2001:db8::/32"));
        assert!(!is_in("[2001:db9::1]:1", "2001:db8::/32"));
        assert!(is_in("[2001:db9::1]:1", "::/0"));
        assert!(is_in("unix:", "unix") && is_in("unix:/tmp/x", "unix"));
        assert!(!is_in("unix:", "0.0.0.0/0") && !is_in("127.0.0.1:1", "unix"));
    }

    #[test]
    fn is_text_that_names_no_network_refused() {
        for text in [
            "",
            "127.0.0.0/33",
            "127.0.0.1/8",
            "::1/64",
            "::/129",
            "127.0.0.0/",
            "127.0.0.0/+8",
            "127.0.0/8",
            "localhost",
            "unix:",
            "::ffff:127.0.0.0/104",
            "127.0.0.0/8,",
            " ::1",
        ] {
            assert!(text.parse::<ProxyProtocol>().is_err(), "{text}");
        }
        let text = "127.0.0.0/8,::1/128,unix";
        assert_eq!(text.parse::<ProxyProtocol>().unwrap().to_string(), text);
    }
}
