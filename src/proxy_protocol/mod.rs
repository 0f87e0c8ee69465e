//! The PROXY protocol, versions 1 and 2: who a proxy's client is. Bytes in, a header out; no sockets.
//!
//! A proxy in front of a server (HAProxy, nginx, a load balancer) connects in its clients' place, so
//! the server sees the proxy's address. With this protocol the proxy says first, once for each
//! connection, whom it speaks for.
//!
//! [`ProxyProtocol`] says from which networks a server takes that. [`parse`] reads a header,
//! [`write_v1`] and [`write_v2`] write one. A handler sees the header in
//! [`View::proxy`](crate::View::proxy).
//!
//! ```
//! use myriapod::proxy_protocol::{Command, parse};
//!
//! let bytes = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 65432\r\nhello";
//! let header = parse(bytes)?.expect("it is whole");
//! assert_eq!((header.version(), header.command()), (1, Command::Proxy));
//! assert_eq!(header.source().map(ToString::to_string).as_deref(), Some("192.0.2.7:56324"));
//! assert_eq!(&bytes[header.len()..], b"hello");
//! assert!(parse(&bytes[..20])?.is_none(), "the rest is still to come");
//! assert!(parse(b"hello").is_err());
//! # Ok::<(), myriapod::proxy_protocol::Refusal>(())
//! ```
//!
//! Source: the specification of the PROXY protocol, `doc/proxy-protocol.txt` of HAProxy.

mod crc32c;
mod networks;
mod tlv;
mod v1;
mod v2;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use myriapod_sys::SocketAddr;

pub use self::networks::{Network, NetworkError, ProxyProtocol};
pub use self::tlv::{Ssl, Tlvs, kind};
pub use self::v1::{MAX_LEN as MAX_V1_LEN, write as write_v1};
pub use self::v2::{MAX_LEN as MAX_V2_LEN, write as write_v2};

/// What a proxy says of a connection, borrowed from the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    version: u8,
    command: Command,
    /// Source and destination.
    addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: Tlvs<'a>,
    len: usize,
}

/// For whom a proxy has opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// For itself: to see whether the server is well.
    Local,
    /// For a client.
    Proxy,
}

impl<'a> Header<'a> {
    /// 1 or 2.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// For whom the connection was opened. Version 1 knows [`Command::Proxy`] alone.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The client's address. `None` where the proxy does not know it (`UNKNOWN`, `UNSPEC`), and for
    /// [`Command::Local`]: then the socket's own counts.
    #[must_use]
    pub fn source(&self) -> Option<&SocketAddr> {
        self.addresses.as_ref().map(|(source, _)| source)
    }

    /// The address that the client connected to: the proxy's own, as a rule. `None` where
    /// [`source`](Self::source) is.
    #[must_use]
    pub fn destination(&self) -> Option<&SocketAddr> {
        self.addresses.as_ref().map(|(_, destination)| destination)
    }

    /// What else it says; version 2 alone has this.
    #[must_use]
    pub const fn tlvs(&self) -> Tlvs<'a> {
        self.tlvs
    }

    /// How many bytes it takes. The connection's own begin behind it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no header is empty")]
    pub const fn len(&self) -> usize {
        self.len
    }
}

/// Why a connection from a proxy, or beside it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Refusal {
    /// It came from no network that is trusted.
    Untrusted,
    /// Its first bytes begin no header.
    Missing,
    /// Its header breaks the rules.
    Malformed,
    /// Its header is longer than [`MAX_V1_LEN`], or announced longer than [`MAX_V2_LEN`].
    TooLong,
    /// A field of its header runs over the end.
    BadTlv,
    /// The checksum in its header is wrong.
    Checksum,
    /// Its header was not whole in time (`arrival_timeout`).
    Late,
    /// It ended, or the server stopped, before its header was whole.
    Ended,
}

impl Refusal {
    /// All of them, in the order of their counts in [`Stats`](crate::Stats).
    pub const ALL: [Self; 8] = [
        Self::Untrusted,
        Self::Missing,
        Self::Malformed,
        Self::TooLong,
        Self::BadTlv,
        Self::Checksum,
        Self::Late,
        Self::Ended,
    ];

    /// The name in counters: `untrusted`, `missing`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::BadTlv => "bad_tlv",
            Self::Checksum => "checksum",
            Self::Late => "late",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "it is in no network that proxies are trusted in",
            Self::Missing => "it did not begin with a PROXY header",
            Self::Malformed => "its PROXY header is malformed",
            Self::TooLong => "its PROXY header is too long",
            Self::BadTlv => "a field of its PROXY header runs over the end",
            Self::Checksum => "the checksum of its PROXY header is wrong",
            Self::Late => "its PROXY header was not whole in time",
            Self::Ended => "it ended before its PROXY header was whole",
        })
    }
}

impl std::error::Error for Refusal {}

/// Reads the header that `bytes` begin with. `None`: it is not whole yet.
///
/// No more bytes can be missing than [`MAX_V1_LEN`] or [`MAX_V2_LEN`] allow: a header that would be
/// longer is refused once that is known.
///
/// # Errors
///
/// [`Refusal::Missing`], [`Refusal::Malformed`], [`Refusal::TooLong`], [`Refusal::BadTlv`] and
/// [`Refusal::Checksum`].
pub fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Refusal> {
    if may_begin(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else if may_begin(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else {
        Err(Refusal::Missing)
    }
}

/// The header of version 2 that a proxy would write for this client of `server`. Where the two are
/// not of one family, the server's address is unspecified.
///
/// ```
/// use myriapod::proxy_protocol::{header_for, parse};
///
/// let header = header_for("192.0.2.7:56324".parse()?, &"[::1]:65432".parse()?);
/// let header = parse(&header)?.expect("it is whole");
/// assert_eq!(header.source(), Some(&"192.0.2.7:56324".parse()?));
/// assert_eq!(header.destination(), Some(&"0.0.0.0:65432".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn header_for(client: std::net::SocketAddr, server: &SocketAddr) -> Vec<u8> {
    let server = match (client.is_ipv4(), server) {
        (true, SocketAddr::V4(_)) | (false, SocketAddr::V6(_)) => server.clone(),
        (is_ipv4, _) => {
            let any: IpAddr =
                if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            std::net::SocketAddr::new(any, server.port().unwrap_or(0)).into()
        }
    };
    let mut out = Vec::new();
    // Addresses of IP always fit.
    let _fits = write_v2(&mut out, Command::Proxy, &client.into(), &server, &[]);
    out
}

/// Whether `bytes` begin with `signature`, as far as they are there.
fn may_begin(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests;
