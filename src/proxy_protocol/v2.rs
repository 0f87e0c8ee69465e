//! Version 2: bytes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use myriapod_sys::{SocketAddr, UnixAddr};

use super::crc32c::crc32c;
use super::tlv::{self, kind};
use super::{Command, Header, Refusal, Tlvs};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The most bytes that a header of version 2 may announce behind its first 16: 4 KiB.
pub const MAX_LEN: usize = 4096;

/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;

/// Bytes of a Unix address.
const UNIX: usize = 108;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Refusal> {
    let Some(&[how, what, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else { return Ok(None) };
    let command = match how {
        0x20 => Command::Local,
        0x21 => Command::Proxy,
        _ => return Err(Refusal::Malformed),
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    if announced > MAX_LEN {
        return Err(Refusal::TooLong);
    }
    let len = FIXED + announced;
    let Some(whole) = bytes.get(..len) else { return Ok(None) };
    let block = whole.get(FIXED..).unwrap_or_default();
    let mut header = Header { version: 2, command, addresses: None, tlvs: Tlvs::NONE, len };
    if command == Command::Local {
        // All that follows is to be passed over, the family included.
        return Ok(Some(header));
    }
    let (family, transport) = (what >> 4, what & 0xf);
    let size = match family {
        _ if transport > 2 => return Err(Refusal::Malformed),
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 2 * UNIX,
        _ => return Err(Refusal::Malformed),
    };
    let (addresses, fields) = block.split_at_checked(size).ok_or(Refusal::Malformed)?;
    let tlvs = Tlvs::new(fields).ok_or(Refusal::BadTlv)?;
    check(whole, fields)?;
    header.tlvs = tlvs;
    // Without a transport the addresses say nothing.
    if transport != 0 {
        header.addresses = match family {
            1 => v4(addresses),
            2 => v6(addresses),
            3 => unix(addresses),
            _ => None,
        };
    }
    Ok(Some(header))
}

/// Checks the checksum where there is one: that of the whole header, with zeros in its own place.
fn check(whole: &[u8], fields: &[u8]) -> Result<(), Refusal> {
    let begin = whole.len() - fields.len();
    for (at, kind, value) in tlv::each(fields) {
        if kind != kind::CRC32C {
            continue;
        }
        let told: [u8; 4] = value.try_into().map_err(|_| Refusal::Checksum)?;
        let (before, rest) = whole.split_at_checked(begin + at).ok_or(Refusal::Checksum)?;
        let after = rest.get(4..).unwrap_or_default();
        if crc32c(&[before, &[0; 4], after]) != u32::from_be_bytes(told) {
            return Err(Refusal::Checksum);
        }
    }
    Ok(())
}

fn v4(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = bytes.split_first_chunk::<4>()?;
    let (destination, ports) = rest.split_first_chunk::<4>()?;
    let &[a, b, c, d] = ports else { return None };
    let address = |ip: &[u8; 4], port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(*ip), port));
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some((address(source, ports.0), address(destination, ports.1)))
}

fn v6(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let (destination, ports) = rest.split_first_chunk::<16>()?;
    let &[a, b, c, d] = ports else { return None };
    let address =
        |ip: &[u8; 16], port| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, 0));
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some((address(source, ports.0), address(destination, ports.1)))
}

fn unix(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination) = bytes.split_at_checked(UNIX)?;
    let address = |bytes| SocketAddr::Unix(UnixAddr::from_zero_padded(bytes));
    Some((address(source), address(destination)))
}

/// Appends a header of version 2 for a stream. With [`Command::Local`], and where the addresses are
/// not of one family, it names none. `tlvs` are kinds and values; a value of [`kind::CRC32C`] is
/// filled in with the checksum, whatever was given. Returns whether it fits; where it is too long, or
/// a Unix address is, nothing is appended.
///
/// ```
/// use myriapod::proxy_protocol::{Command, kind, parse, write_v2};
///
/// let mut out = Vec::new();
/// let (client, server) = ("[2001:db8::7]:56324".parse()?, "[2001:db8::1]:65432".parse()?);
/// let tlvs = [(kind::AUTHORITY, &b"example.com"[..]), (kind::CRC32C, &[])];
/// assert!(write_v2(&mut out, Command::Proxy, &client, &server, &tlvs));
/// let header = parse(&out)?.expect("it is whole");
/// assert_eq!(header.source(), Some(&client));
/// assert_eq!(header.tlvs().authority(), Some("example.com"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn write(
    out: &mut Vec<u8>,
    command: Command,
    source: &SocketAddr,
    destination: &SocketAddr,
    tlvs: &[(u8, &[u8])],
) -> bool {
    let begin = out.len();
    let is_written = try_write(out, command, source, destination, tlvs).is_some();
    if !is_written {
        out.truncate(begin);
    }
    is_written
}

fn try_write(
    out: &mut Vec<u8>,
    command: Command,
    source: &SocketAddr,
    destination: &SocketAddr,
    tlvs: &[(u8, &[u8])],
) -> Option<()> {
    let begin = out.len();
    out.extend_from_slice(SIGNATURE);
    out.push(if command == Command::Local { 0x20 } else { 0x21 });
    // Family, transport and length come last.
    out.extend_from_slice(&[0; 3]);
    let what = match (source, destination) {
        _ if command == Command::Local => 0,
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
            0x11
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
            0x21
        }
        (SocketAddr::Unix(source), SocketAddr::Unix(destination)) => {
            for address in [source, destination] {
                let at = out.len();
                match address {
                    UnixAddr::Unnamed => {}
                    UnixAddr::Path(path) => {
                        out.extend_from_slice(path.as_os_str().as_encoded_bytes());
                    }
                    UnixAddr::Abstract(name) => {
                        out.push(0);
                        out.extend_from_slice(name);
                    }
                }
                let padding = UNIX.checked_sub(out.len() - at)?;
                out.resize(out.len() + padding, 0);
            }
            0x31
        }
        _ => 0,
    };
    let mut sums = Vec::new();
    for (kind, value) in tlvs {
        let value = if *kind == kind::CRC32C { &[0; 4] } else { *value };
        out.push(*kind);
        out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
        sums.extend((*kind == kind::CRC32C).then_some(out.len()));
        out.extend_from_slice(value);
    }
    let announced = out.len() - begin - FIXED;
    let len = u16::try_from(announced).ok().filter(|_| announced <= MAX_LEN)?;
    let [high, low] = len.to_be_bytes();
    out.get_mut(begin + 13..begin + FIXED)?.copy_from_slice(&[what, high, low]);
    let sum = crc32c(&[out.get(begin..)?]);
    for at in sums {
        out.get_mut(at..at + 4)?.copy_from_slice(&sum.to_be_bytes());
    }
    Some(())
}
