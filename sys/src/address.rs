//! [`SocketAddr`]: where a socket is, in every family we know.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Result, SystemError};

/// The address of a socket: IPv4, IPv6 or Unix.
///
/// ```
/// use myriapod_sys::SocketAddr;
///
/// let address = SocketAddr::from(([127, 0, 0, 1], 65432));
/// assert_eq!(address.to_string(), "127.0.0.1:65432");
/// assert_eq!(address.port(), Some(65432));
/// assert!(address.is_loopback() && !address.is_unix());
/// assert_eq!("127.0.0.1:65432".parse(), Ok(address));
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

impl UnixAddr {
    /// The address in a field of fixed size with zeros behind it, as `sun_path` of `sockaddr_un` is
    /// and the addresses of the PROXY protocol are: a path, or an abstract name behind a zero, whose
    /// own zeros at the end are lost. Zeros alone are [`UnixAddr::Unnamed`].
    #[must_use]
    pub fn from_zero_padded(bytes: &[u8]) -> Self {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        match bytes.get(..end).unwrap_or_default() {
            [] => Self::Unnamed,
            [0, name @ ..] => Self::Abstract(name.to_vec()),
            path => {
                let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
                Self::Path(PathBuf::from(OsStr::from_bytes(path)))
            }
        }
    }
}

/// Whether there are addresses that begin with `@` and are no files.
const ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));

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
/// Bytes of an abstract name that are not printable ASCII are escaped. A path that begins with `@` is
/// written `unix:./@name`, where there are abstract names.
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
            Self::Path(path)
                if ABSTRACT_NAMES && path.as_os_str().as_encoded_bytes().starts_with(b"@") =>
            {
                write!(f, "unix:./{}", path.display())
            }
            Self::Path(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
        }
    }
}

/// Reads what `Display` writes: `127.0.0.1:65432`, `[::1]:65432`, `[fe80::1%2]:65432`, also with the
/// name of an interface behind `%`, `unix:/tmp/x`, `unix:@name` and `unix:`.
///
/// Nobody is asked for a name: that is [`resolve`](crate::resolve). What `Display` does not say does
/// not come back: the flow label of IPv6, and bytes of a path that are not UTF-8.
///
/// ```
/// use myriapod_sys::{SystemError, SocketAddr};
///
/// let address: SocketAddr = "[fe80::1%2]:80".parse()?;
/// assert_eq!((address.port(), address.to_string().as_str()), (Some(80), "[fe80::1%2]:80"));
/// assert!("unix:@abstract".parse::<SocketAddr>()?.is_unix());
///
/// let refused = "localhost:80".parse::<SocketAddr>();
/// assert!(matches!(refused, Err(SystemError::InvalidAddress { reason, .. }) if reason.contains("name")));
/// # Ok::<(), SystemError>(())
/// ```
impl FromStr for SocketAddr {
    type Err = SystemError;

    /// # Errors
    ///
    /// [`SystemError::InvalidAddress`], which says what is wrong. Whether the kernel has room for a Unix
    /// path is asked when it is used.
    fn from_str(text: &str) -> Result<Self> {
        let address = match text.strip_prefix("unix:") {
            Some(name) => unix(name).map(Self::Unix),
            None if text.starts_with('[') => v6(text).map(Self::V6),
            None => v4(text).map(Self::V4),
        };
        address.map_err(|reason| SystemError::InvalidAddress { given: text.into(), reason })
    }
}

/// As [`SocketAddr`], of which it takes `unix:` alone.
impl FromStr for UnixAddr {
    type Err = SystemError;

    /// # Errors
    ///
    /// [`SystemError::InvalidAddress`], which says what is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let name = text.strip_prefix("unix:").ok_or("a Unix address begins with unix:");
        let address = name.and_then(unix);
        address.map_err(|reason| SystemError::InvalidAddress { given: text.into(), reason })
    }
}

fn v4(text: &str) -> Result<SocketAddrV4, &'static str> {
    let (ip, number) = text.rsplit_once(':').ok_or("no port: ADDRESS:PORT is wanted")?;
    if let Ok(ip) = ip.parse::<Ipv4Addr>() {
        return Ok(SocketAddrV4::new(ip, port(number)?));
    }
    Err(if text.parse::<Ipv6Addr>().is_ok() || ip.contains(':') {
        "an IPv6 address stands in brackets before its port, as in [::1]:80"
    } else {
        "no numeric IPv4 address before the port, and names are not looked up here"
    })
}

fn v6(text: &str) -> Result<SocketAddrV6, &'static str> {
    let (host, number) = text
        .strip_prefix('[')
        .and_then(|rest| rest.rsplit_once("]:"))
        .ok_or("no port: [ADDRESS]:PORT is wanted")?;
    let (ip, scope) = match host.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (host, None),
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| "no IPv6 address in the brackets")?;
    let port = port(number)?;
    let scope = match scope {
        None => 0,
        Some(scope) => match decimal(scope) {
            Some(number) => number,
            // It is numeric but for the interface, so that no name server is asked.
            None => match crate::resolve(host, port).as_deref() {
                Ok([SocketAddr::V6(v6)]) => v6.scope_id(),
                _ => return Err("no network interface has the name behind %"),
            },
        },
    };
    Ok(SocketAddrV6::new(ip, port, 0, scope))
}

fn port(text: &str) -> Result<u16, &'static str> {
    decimal(text).ok_or("no port between 0 and 65535 behind the last colon")
}

/// A number of digits alone: `parse` takes a plus sign too.
fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

fn unix(name: &str) -> Result<UnixAddr, &'static str> {
    match name.strip_prefix('@') {
        _ if name.is_empty() => Ok(UnixAddr::Unnamed),
        Some(name) if ABSTRACT_NAMES => unescape(name).map(UnixAddr::Abstract),
        _ if name.contains('\0') => Err("a path cannot hold a zero byte"),
        _ => Ok(UnixAddr::Path(PathBuf::from(name))),
    }
}

/// The bytes that `escape_ascii` has written as `text`. What is not ASCII stands for itself.
fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(same @ (b'\\' | b'\'' | b'"')) => same,
                Some(b'x') => hex(rest.next(), rest.next())?,
                _ => return Err(BAD_ESCAPE),
            },
            other => other,
        });
    }
    Ok(bytes)
}

const BAD_ESCAPE: &str = r"a backslash is written \\ there, any byte \x00 to \xff";

fn hex(high: Option<u8>, low: Option<u8>) -> Result<u8, &'static str> {
    let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
    let (high, low) = (digit(high).ok_or(BAD_ESCAPE)?, digit(low).ok_or(BAD_ESCAPE)?);
    u8::try_from(16 * high + low).map_err(|_| BAD_ESCAPE)
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
