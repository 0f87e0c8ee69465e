//! What clients sent, out of a capture of packets.
//!
//! Format: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), as tcpdump, dumpcap
//! and Wireshark write them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::stream::Stream;
use crate::error::Error;
use myriapod_machine::figures::grouped;

/// What a file begins with that is a capture: pcap of either byte order, with microseconds or
/// nanoseconds, and pcapng.
const BEGINNINGS: [[u8; 4]; 5] = [
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

/// Memory for the largest packet: loopback has packets of 64 KiB and more.
const BUFFER: usize = 1 << 20;

/// Linux' cooked headers, which stand in front of the packets of `tcpdump -i any`.
const COOKED_LEN: usize = 16;
const COOKED_2_LEN: usize = 20;

/// Why there are no streams.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file ends or goes on as none does.
    Damaged(String),
    /// Servers on several ports, and the connections of each.
    Ports(BTreeMap<u16, u64>),
}

impl Fault {
    /// In words, about this file.
    pub(super) fn of(&self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Damaged(why) => Error::usage(format_args!("{path} is a damaged capture: {why}")),
            Self::Ports(ports) => {
                let mut list = String::new();
                for (port, connections) in ports {
                    let comma = if list.is_empty() { "" } else { ", " };
                    let _ = write!(list, "{comma}{port} ({})", grouped(*connections));
                }
                Error::usage(format_args!("{path} has connections to several ports: {list}"))
                    .with_next_step("--replay-port chooses one")
            }
        }
    }
}

/// Whether a file that begins so is a capture.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| bytes.starts_with(beginning))
}

/// A packet with a time in nanoseconds. Bytes that were not captured are counted.
struct Packet<'a> {
    at: u64,
    link: Linktype,
    data: &'a [u8],
    is_short: bool,
}

/// What is found on the way.
#[derive(Default)]
struct Finds {
    /// Each connection's client and server, and what the client sent; with the number of the
    /// connection, since a port is used again.
    streams: Vec<(SocketAddr, SocketAddr, Stream)>,
    /// The last of them.
    last: BTreeMap<(SocketAddr, SocketAddr), usize>,
    /// Segments of connections whose beginning is not there.
    midway: u64,
    short: u64,
    unread: u64,
}

/// What the clients of each connection sent, in the order in which these began.
///
/// # Errors
///
/// A capture that is damaged at its front, and one of several servers without a port.
pub(super) fn streams(
    bytes: &[u8],
    port: Option<u16>,
    left_out: &mut Vec<String>,
) -> Result<Vec<Stream>, Fault> {
    let mut finds = Finds::default();
    let ended = each_packet(bytes, |packet| finds.add(&packet));
    if let Err(why) = ended {
        if finds.streams.is_empty() {
            return Err(Fault::Damaged(why));
        }
        left_out.push(format!(
            "the capture is damaged, and what stands behind that is left out: {why}"
        ));
    }
    let mut ports = BTreeMap::new();
    for (_, server, _) in &finds.streams {
        *ports.entry(server.port()).or_insert(0_u64) += 1;
    }
    if ports.len() > 1 && port.is_none() {
        return Err(Fault::Ports(ports));
    }
    let wanted = |server: &SocketAddr| port.is_none_or(|port| server.port() == port);
    let streams = finds.streams.into_iter().filter(|(_, server, _)| wanted(server));
    let streams: Vec<Stream> = streams.map(|(_, _, stream)| stream).collect();
    let gaps = streams.iter().filter(|stream| stream.has_gap()).count();
    for (number, what) in [
        (finds.midway, "segments belong to connections that began before the capture"),
        (finds.short, "packets were cut short by the capture (tcpdump -s 0 keeps all of them)"),
        (finds.unread, "packets are no TCP over IP that can be read"),
        (gaps as u64, "connections have a gap, and what stands behind it is left out"),
    ] {
        if number > 0 {
            left_out.push(format!("{} {what}", grouped(number)));
        }
    }
    Ok(streams)
}

impl Finds {
    fn add(&mut self, packet: &Packet<'_>) {
        let Some((from, to, segment)) = segment(packet) else {
            self.unread += 1;
            return;
        };
        if segment.syn() {
            if !segment.ack() {
                self.begin(from, to, segment.sequence_number());
            }
            return;
        }
        if segment.payload().is_empty() {
            return;
        }
        if let Some(&nth) = self.last.get(&(from, to)) {
            if packet.is_short {
                self.short += 1;
            } else if let Some((_, _, stream)) = self.streams.get_mut(nth) {
                stream.add(segment.sequence_number(), packet.at, segment.payload());
            }
        } else if !self.last.contains_key(&(to, from)) {
            self.midway += 1;
        }
    }

    /// A connection begins, unless its SYN only comes again.
    fn begin(&mut self, client: SocketAddr, server: SocketAddr, syn: u32) {
        let known = self.last.get(&(client, server)).and_then(|&nth| self.streams.get(nth));
        if known.is_some_and(|(_, _, stream)| stream.syn() == syn) {
            return;
        }
        self.last.insert((client, server), self.streams.len());
        self.streams.push((client, server, Stream::new(syn)));
    }
}

/// The TCP segment in a packet, and between whom it went.
fn segment<'a>(packet: &Packet<'a>) -> Option<(SocketAddr, SocketAddr, TcpSlice<'a>)> {
    let data = packet.data;
    let sliced = match packet.link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok()?,
        Linktype::NULL | Linktype::LOOP => LaxSlicedPacket::from_ip(data.get(4..)?).ok()?,
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => LaxSlicedPacket::from_ip(data).ok()?,
        Linktype::LINUX_SLL => LaxSlicedPacket::from_ip(data.get(COOKED_LEN..)?).ok()?,
        Linktype::LINUX_SLL2 => LaxSlicedPacket::from_ip(data.get(COOKED_2_LEN..)?).ok()?,
        _ => return None,
    };
    let (from, to): (IpAddr, IpAddr) = match sliced.net? {
        LaxNetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        LaxNetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return None };
    let (from, to) = ((from, tcp.source_port()), (to, tcp.destination_port()));
    Some((from.into(), to.into(), tcp))
}

/// Calls `each` with every packet of a capture.
///
/// # Errors
///
/// What is wrong where it cannot be read any further.
fn each_packet(bytes: &[u8], mut each: impl FnMut(Packet<'_>)) -> Result<(), String> {
    let mut reader =
        create_reader(BUFFER.min(bytes.len()), bytes).map_err(|error| error.to_string())?;
    let (mut link, mut nanoseconds) = (Linktype::NULL, false);
    // Of each interface in a pcapng: link type, units a second, and the seconds that its times lack.
    let mut interfaces: Vec<(Linktype, u64, i64)> = Vec::new();
    loop {
        match reader.next() {
            Ok((len, block)) => {
                match &block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        link = header.network;
                        nanoseconds = header.is_nanosecond_precision();
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        let part = u64::from(packet.ts_usec) * if nanoseconds { 1 } else { 1000 };
                        each(Packet {
                            at: u64::from(packet.ts_sec) * 1_000_000_000 + part,
                            link,
                            data: packet.data,
                            is_short: packet.caplen < packet.origlen,
                        });
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        let units = interface.ts_resolution().unwrap_or(1_000_000);
                        interfaces.push((interface.linktype, units.max(1), interface.ts_offset()));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        let nth = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
                        let Some(&(link, units, offset)) = interfaces.get(nth) else {
                            return Err(format!("a packet of interface {nth}, which is not there"));
                        };
                        let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                        each(Packet {
                            at: nanos(time, units, offset),
                            link,
                            data: packet.data.get(..packet.caplen as usize).unwrap_or(packet.data),
                            is_short: packet.caplen < packet.origlen,
                        });
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(len);
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| error.to_string())?;
            }
            Err(PcapError::UnexpectedEof) => return Err("it ends within a packet".to_owned()),
            Err(PcapError::BufferTooSmall) => {
                return Err("a block is larger than 1 MiB".to_owned());
            }
            Err(_) => return Err("a block cannot be read".to_owned()),
        }
    }
}

/// A time in so many units a second, with seconds that are to be added.
fn nanos(time: u64, units: u64, offset: i64) -> u64 {
    let whole = u128::from(time) * 1_000_000_000 / u128::from(units);
    let offset = i128::from(offset) * 1_000_000_000;
    let sum = i128::try_from(whole).unwrap_or(i128::MAX).saturating_add(offset).max(0);
    u64::try_from(sum).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of a client's port to a server's: flags, sequence number and payload.
    fn packet(from: u16, to: u16, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(40 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend(from.to_be_bytes());
        packet.extend(to.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        packet.extend(payload);
        packet
    }

    const SYN: u8 = 2;
    const DATA: u8 = 0x18;
    const SYN_ACK: u8 = 0x12;

    /// A second apart each.
    fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0];
        file.extend([0, 0, 0, 101]);
        for (nth, packet) in packets.iter().enumerate() {
            let len = u32::try_from(packet.len()).unwrap().to_be_bytes();
            file.extend(u32::try_from(nth).unwrap().to_be_bytes());
            file.extend([[0, 0, 0, 7], len, len].concat());
            file.extend(packet);
        }
        file
    }

    /// The same in milliseconds, as a pcapng that was written on a machine of the other byte order.
    fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let len = u32::try_from(12 + body.len()).unwrap().to_le_bytes();
            [&kind.to_le_bytes()[..], &len, body, &len].concat()
        };
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let mut file = block(0x0a0d_0d0a, &section);
        // Link type 101, and the option if_tsresol: thousandths.
        file.extend(block(1, &[101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0]));
        for (nth, packet) in packets.iter().enumerate() {
            let len = u32::try_from(packet.len()).unwrap().to_le_bytes();
            let time = u32::try_from(nth * 1000).unwrap().to_le_bytes();
            let padding = vec![0; packet.len().next_multiple_of(4) - packet.len()];
            let body = [&[0; 8][..], &time, &len, &len, packet, &padding].concat();
            file.extend(block(6, &body));
        }
        file
    }

    fn read(bytes: &[u8], port: Option<u16>) -> (Vec<Stream>, Vec<String>) {
        let mut left_out = Vec::new();
        assert!(is_one(bytes));
        let streams = streams(bytes, port, &mut left_out).unwrap();
        (streams, left_out)
    }

    #[test]
    fn is_what_clients_sent_found_in_both_formats() {
        let packets = [
            packet(1000, 80, SYN, 5, b""),
            packet(80, 1000, SYN_ACK, 900, b""),
            packet(1000, 80, DATA, 6, b"one"),
            packet(80, 1000, DATA, 901, b"reply"),
            packet(2000, 80, SYN, 70, b""),
            packet(1000, 80, DATA, 9, b"two"),
            // The same port again, after the SYN came twice.
            packet(2000, 80, SYN, 70, b""),
            packet(2000, 80, DATA, 71, b"other"),
            packet(1000, 80, SYN, 600, b""),
            packet(1000, 80, DATA, 601, b"again"),
            // This one began before the capture.
            packet(3000, 80, DATA, 1, b"half"),
        ];
        for (file, part) in [(pcap(&packets), 7000), (pcapng(&packets), 0)] {
            let (streams, left_out) = read(&file, None);
            let found: Vec<_> = streams.iter().map(|stream| stream.bytes.as_slice()).collect();
            assert_eq!(found, [&b"onetwo"[..], b"other", b"again"]);
            assert_eq!(streams[0].at(0), 2_000_000_000 + part);
            assert_eq!(streams[0].at(3), 5_000_000_000 + part);
            assert_eq!(left_out.len(), 1, "{left_out:?}");
            assert!(left_out[0].starts_with("1 segments belong to connections"), "{left_out:?}");
        }
    }

    #[test]
    fn is_one_of_several_servers_chosen_by_its_port() {
        let packets = [
            packet(1000, 80, SYN, 5, b""),
            packet(1001, 90, SYN, 5, b""),
            packet(1001, 90, DATA, 6, b"ninety"),
        ];
        let file = pcap(&packets);
        let fault = streams(&file, None, &mut Vec::new()).unwrap_err().of(Path::new("a.pcap"));
        let said = fault.to_string();
        let wanted = "a.pcap has connections to several ports: 80 (1), 90 (1); --replay-port";
        assert!(said.starts_with(wanted), "{said}");
        let (streams, _) = read(&file, Some(90));
        assert_eq!(streams.len(), 1);
        assert_eq!(streams[0].bytes, b"ninety");
    }

    #[test]
    fn is_every_cut_of_a_capture_read_to_where_it_ends() {
        let packets = [packet(1000, 80, SYN, 5, b""), packet(1000, 80, DATA, 6, b"one")];
        for file in [pcap(&packets), pcapng(&packets)] {
            for len in 4..file.len() {
                let cut = file.get(..len).unwrap();
                match streams(cut, None, &mut Vec::new()) {
                    Ok(streams) => assert!(streams.iter().all(|stream| stream.bytes.is_empty())),
                    Err(Fault::Damaged(_)) => {}
                    Err(fault) => panic!("{fault:?}"),
                }
            }
        }
    }
}
