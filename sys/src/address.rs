//! [`SocketAddr`]: where a socket is, in every family we know.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;

/// The address of a socket: IPv4, IPv6 or Unix.
///
/// ```
/// use myriapod_sys::SocketAddr;
///
/// let address = SocketAddr::from(([127, 0, 0, 1], 65432));
/// assert_eq!(address.to_string(), "127.0.0.1:65432");
/// assert_eq!(address.port(), Some(65432));
/// assert!(address.is_loopback() && !address.is_unix());
/// ```
///
/// Ordered by family, then as the standard library orders the addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketAddr {
    /// An IPv4 address and a port, see ip(7).
    V4(SocketAddrV4),
    /// An IPv6 address, a port, a flow label and a scope, see ipv6(7).
    V6(SocketAddrV6),
    /// A local address, see unix(7).
    Unix(UnixAddr),
}

/// A local address, see unix(7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnixAddr {
    /// A socket that was never bound, such as nearly every client's.
    Unnamed,
    /// A file. At most 107 bytes on Linux, 103 on the BSDs and macOS.
    Path(PathBuf),
    /// A name that is no file, without its leading zero byte (Linux only). At most 107 bytes.
    Abstract(Vec<u8>),
}

impl SocketAddr {
    /// The port, where the family has ports.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::V4(v4) => Some(v4.port()),
            Self::V6(v6) => Some(v6.port()),
            Self::Unix(_) => None,
        }
    }

    /// The IP address, where the family has one. IPv4 mapped into IPv6 stays as it is.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::V4(v4) => Some(IpAddr::V4(*v4.ip())),
            Self::V6(v6) => Some(IpAddr::V6(*v6.ip())),
            Self::Unix(_) => None,
        }
    }

    /// Whether this is 127.0.0.0/8, `::1`, or 127.0.0.0/8 mapped into IPv6. A Unix address is not:
    /// ask [`is_unix`](Self::is_unix).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::V4(v4) => v4.ip().is_loopback(),
            Self::V6(v6) => v6.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    /// Whether this is a local address.
    #[must_use]
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// The standard library's form, which has no Unix addresses.
    #[must_use]
    pub const fn to_std(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::V4(v4) => Some(std::net::SocketAddr::V4(*v4)),
            Self::V6(v6) => Some(std::net::SocketAddr::V6(*v6)),
            Self::Unix(_) => None,
        }
    }
}

/// `127.0.0.1:65432`, `[::1]:65432`, `unix:/tmp/x`, `unix:@name`, and `unix:` for an unnamed socket.
/// Bytes of an abstract name that are not printable ASCII are escaped.
impl fmt::Display for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(v4) => v4.fmt(f),
            Self::V6(v6) => v6.fmt(f),
            Self::Unix(unix) => unix.fmt(f),
        }
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("unix:"),
            Self::Path(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
        }
    }
}

impl From<std::net::SocketAddr> for SocketAddr {
    fn from(address: std::net::SocketAddr) -> Self {
        match address {
            std::net::SocketAddr::V4(v4) => Self::V4(v4),
            std::net::SocketAddr::V6(v6) => Self::V6(v6),
        }
    }
}

impl From<SocketAddrV4> for SocketAddr {
    fn from(address: SocketAddrV4) -> Self {
        Self::V4(address)
    }
}

impl From<SocketAddrV6> for SocketAddr {
    fn from(address: SocketAddrV6) -> Self {
        Self::V6(address)
    }
}

impl From<UnixAddr> for SocketAddr {
    fn from(address: UnixAddr) -> Self {
        Self::Unix(address)
    }
}

impl From<([u8; 4], u16)> for SocketAddr {
    fn from((octets, port): ([u8; 4], u16)) -> Self {
        Self::V4(SocketAddrV4::new(Ipv4Addr::from(octets), port))
    }
}
