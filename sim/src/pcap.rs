//! What was on the simulated wire as a capture file, to be opened in Wireshark.
//!
//! Format: the classic one of libpcap with nanoseconds, link type `LINKTYPE_RAW`: IPv4 packets with TCP
//! segments. Sources: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>, RFC 791, 9293.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use myriapod::SocketAddr;
use myriapod::sys::sim::{Carried, Packet};

/// Nanosecond time stamps, in the byte order of the writer.
const MAGIC: u32 = 0xa1b2_3c4d;

/// `LINKTYPE_RAW`: a packet begins with its IP header.
const LINKTYPE_RAW: u32 = 101;

/// Bytes of a segment, so that its length fits the header of IPv4.
const MOST_BYTES: usize = 60_000;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Writes a capture file. What is not between IPv4 addresses is left out.
///
/// # Errors
///
/// Those of writing.
pub fn write(packets: &[Packet], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&MAGIC.to_ne_bytes())?;
    out.write_all(&2_u16.to_ne_bytes())?;
    out.write_all(&4_u16.to_ne_bytes())?;
    out.write_all(&[0; 8])?;
    out.write_all(&0x0004_0000_u32.to_ne_bytes())?;
    out.write_all(&LINKTYPE_RAW.to_ne_bytes())?;
    let mut sequences = BTreeMap::<(Place, Place), u32>::new();
    for packet in packets {
        let (Some(from), Some(to)) = (place(&packet.from), place(&packet.to)) else { continue };
        let at = packet.at.as_nanos();
        let mut segment = |from: Place, to: Place, flags: u8, bytes: &[u8]| {
            let acknowledged = sequences.get(&(to, from)).copied().unwrap_or(0);
            let sequence = sequences.entry((from, to)).or_default();
            let text = tcp(from, to, (*sequence, acknowledged), flags, bytes);
            let ends = u32::from(flags & (SYN | FIN) != 0);
            *sequence = sequence.wrapping_add(u32::try_from(bytes.len()).unwrap_or(0) + ends);
            text
        };
        match &packet.carried {
            Carried::Opened => {
                for (from, to, flags) in [(from, to, SYN), (to, from, SYN | ACK), (from, to, ACK)] {
                    record(out, at, &segment(from, to, flags, &[]))?;
                }
            }
            Carried::Bytes(bytes) => {
                for part in bytes.chunks(MOST_BYTES) {
                    record(out, at, &segment(from, to, PSH | ACK, part))?;
                }
            }
            Carried::Ended => record(out, at, &segment(from, to, FIN | ACK, &[]))?,
            Carried::Reset => record(out, at, &segment(from, to, RST | ACK, &[]))?,
        }
    }
    out.flush()
}

type Place = (Ipv4Addr, u16);

fn place(address: &SocketAddr) -> Option<Place> {
    match address.ip()? {
        std::net::IpAddr::V4(ip) => Some((ip, address.port()?)),
        std::net::IpAddr::V6(_) => None,
    }
}

/// One packet with its time.
fn record(out: &mut dyn Write, at: u64, packet: &[u8]) -> io::Result<()> {
    let part = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes();
    out.write_all(&part(at / 1_000_000_000))?;
    out.write_all(&part(at % 1_000_000_000))?;
    let len = part(packet.len() as u64);
    out.write_all(&len)?;
    out.write_all(&len)?;
    out.write_all(packet)
}

/// An IPv4 packet with a TCP segment; `numbers` are the sequence number and what is acknowledged.
fn tcp(from: Place, to: Place, numbers: (u32, u32), flags: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(40 + bytes.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    // No identification, not to be fragmented, 64 hops, TCP; the checksum comes later.
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let sum = checksum(&packet);
    if let Some(place) = packet.get_mut(10..12) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let acknowledged = if flags & ACK == 0 { 0 } else { numbers.1 };
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    // Five words of header, a window of 65,535, a checksum that comes later, nothing urgent.
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(bytes);
    let mut checked = [from.0.octets(), to.0.octets()].concat();
    checked.extend([0, 6]);
    checked.extend((len - 20).to_be_bytes());
    checked.extend_from_slice(&segment);
    let sum = checksum(&checked);
    if let Some(place) = segment.get_mut(16..18) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(segment);
    packet
}

/// Source: RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use myriapod::sys::Time;

    use super::*;

    #[test]
    fn is_a_capture_what_wireshark_reads() {
        let (peer, server) = (([10, 0, 1, 1], 40_000), ([10, 0, 0, 1], 7));
        let packet = |from, to, carried| Packet {
            at: Time::from_nanos(1_500_000_000),
            from: SocketAddr::from(from),
            to: SocketAddr::from(to),
            carried,
        };
        let packets = [
            packet(peer, server, Carried::Opened),
            packet(peer, server, Carried::Bytes(b"hello".to_vec())),
            packet(server, peer, Carried::Ended),
        ];
        let mut file = Vec::new();
        write(&packets, &mut file).unwrap();
        // A header of the file, five packets with 16 bytes each before them, and the bytes.
        assert_eq!(file.len(), 24 + 5 * (16 + 40) + 5);
        let fourth = &file[24 + 3 * 56..];
        assert_eq!(fourth[..8], [1_u32.to_ne_bytes(), 500_000_000_u32.to_ne_bytes()].concat());
        let ip = &fourth[16..61];
        assert_eq!(checksum(&ip[..20]), 0, "its own checksum is in it");
        assert_eq!(&ip[24..28], 1_u32.to_be_bytes(), "behind the SYN");
        assert_eq!(&ip[40..], b"hello");
    }
}
