//! Version 1: a line of text.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use myriapod_sys::SocketAddr;

use super::{Command, Header, Refusal, Tlvs};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest header of version 1 in bytes, its end of line included.
pub const MAX_LEN: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Refusal> {
    let within = bytes.get(..MAX_LEN).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| *byte == b'\r' || *byte == b'\n') else {
        return if within.len() == MAX_LEN { Err(Refusal::TooLong) } else { Ok(None) };
    };
    match within.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        // The last byte that there may be is no end of line.
        Some([b'\r']) if within.len() == MAX_LEN => return Err(Refusal::TooLong),
        Some([b'\r']) => return Ok(None),
        _ => return Err(Refusal::Malformed),
    }
    let line = within.get(SIGNATURE.len()..end).unwrap_or_default();
    let addresses = addresses(line).ok_or(Refusal::Malformed)?;
    let (command, tlvs) = (Command::Proxy, Tlvs::NONE);
    Ok(Some(Header { version: 1, command, addresses, tlvs, len: end + 2 }))
}

/// What stands behind the signature. The outer `None`: nothing that the rules allow.
fn addresses(line: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is to be passed over.
        return Some(None);
    }
    let fields = [words.next()?, words.next()?, words.next()?, words.next()?];
    if words.next().is_some() {
        return None;
    }
    match family {
        "TCP4" => pair::<Ipv4Addr>(fields).map(Some),
        "TCP6" => pair::<Ipv6Addr>(fields).map(Some),
        _ => None,
    }
}

fn pair<A: FromStr + Into<IpAddr>>(fields: [&str; 4]) -> Option<(SocketAddr, SocketAddr)> {
    let [source, destination, source_port, destination_port] = fields;
    Some((address::<A>(source, source_port)?, address::<A>(destination, destination_port)?))
}

fn address<A: FromStr + Into<IpAddr>>(ip: &str, port: &str) -> Option<SocketAddr> {
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || (port.len() > 1 && port.starts_with('0')) {
        return None;
    }
    let ip: IpAddr = ip.parse::<A>().ok()?.into();
    Some(std::net::SocketAddr::new(ip, port.parse().ok()?).into())
}

/// Appends a header of version 1. Two addresses that are not of the same family of IP are `UNKNOWN`.
///
/// ```
/// let mut out = Vec::new();
/// let (client, server) = ("192.0.2.7:56324".parse()?, "192.0.2.1:65432".parse()?);
/// myriapod::proxy_protocol::write_v1(&mut out, &client, &server);
/// assert_eq!(out, b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 65432\r\n");
/// # Ok::<(), myriapod::sys::SystemError>(())
/// ```
pub fn write(out: &mut Vec<u8>, source: &SocketAddr, destination: &SocketAddr) {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => write!(
            line,
            "TCP4 {} {} {} {}",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => write!(
            line,
            "TCP6 {} {} {} {}",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
        _ => write!(line, "UNKNOWN"),
    };
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}
