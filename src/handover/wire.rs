//! Numbers, bytes and texts as they stand in a message: little-endian, each length in front.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use myriapod_sys::{SocketAddr, UnixAddr};

/// Something is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Writes what [`Reader`] reads.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes behind their length. The caller has seen that it fits.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn address(&mut self, address: &SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.u8(4);
                self.u32(v4.ip().to_bits());
                self.u16(v4.port());
            }
            SocketAddr::V6(v6) => {
                self.u8(6);
                self.0.extend_from_slice(&v6.ip().octets());
                self.u16(v6.port());
                self.u32(v6.flowinfo());
                self.u32(v6.scope_id());
            }
            SocketAddr::Unix(UnixAddr::Abstract(name)) => {
                self.u8(1);
                self.bytes(name);
            }
            // A proxy cannot tell of a path; and nothing depends on it.
            SocketAddr::Unix(_) => self.u8(0),
        }
    }
}

/// Reads from the front of some bytes.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes behind their length, `most` at the most.
    pub(super) fn bytes(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        if len > most { Err(Malformed) } else { self.take(len) }
    }

    pub(super) fn text(&mut self, most: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(most)?).map_err(|_| Malformed)
    }

    pub(super) fn address(&mut self) -> Result<SocketAddr, Malformed> {
        Ok(match self.u8()? {
            4 => {
                let ip = Ipv4Addr::from_bits(self.u32()?);
                SocketAddr::V4(SocketAddrV4::new(ip, self.u16()?))
            }
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                SocketAddr::V6(SocketAddrV6::new(ip, self.u16()?, self.u32()?, self.u32()?))
            }
            1 => SocketAddr::Unix(UnixAddr::Abstract(self.bytes(1 << 10)?.to_vec())),
            0 => SocketAddr::Unix(UnixAddr::Unnamed),
            _ => return Err(Malformed),
        })
    }
}
