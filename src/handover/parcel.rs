//! [`Parcel`]: what is to be known of one connection, besides its descriptor.

use myriapod_sys::SocketAddr;

use super::wire::{Malformed, Reader, Writer};

/// What is to be known of a connection that is handed over. Times are in ticks of the timing wheel,
/// up to the moment at which it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// Which it was: the loop and the key.
    pub(crate) name: (u16, u64),
    /// How it came about: the number of its listener, or one that stands for something else.
    pub(crate) origin: u16,
    /// Since when no byte went in either direction.
    pub(crate) idle: u32,
    /// Its peer, where a proxy said who that is.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) groups: Vec<Box<str>>,
    /// In how many ticks its handler's timer fires.
    pub(crate) timer: Option<u32>,
    pub(crate) unread: Option<Unread>,
    pub(crate) unsent: Option<Unsent>,
    /// What its handler has saved.
    pub(crate) state: Vec<u8>,
    /// It is no connection yet: the rest of its PROXY header is to come behind what is unread.
    pub(crate) is_arriving: bool,
}

/// The beginning of a message, and maybe whole ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) bytes: Vec<u8>,
    /// It is the content that is unfinished.
    pub(crate) in_content: bool,
    /// How much of its time is used up.
    pub(crate) used: u32,
}

/// What was to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) bytes: Vec<u8>,
    /// Since when the socket has taken nothing.
    pub(crate) stalled: u32,
}

const PEER: u8 = 1;
const GROUPS: u8 = 1 << 1;
const TIMER: u8 = 1 << 2;
const UNREAD: u8 = 1 << 3;
const UNSENT: u8 = 1 << 4;
const STATE: u8 = 1 << 5;
const ARRIVING: u8 = 1 << 6;

impl Parcel {
    /// The most bytes that are carried with one connection, unread and unsent ones together: 16 MiB.
    /// One with more is not handed over before it has less.
    pub(crate) const MAX_CARRIED: usize = 16 << 20;

    /// The most bytes that a handler may save of one connection: 1 MiB.
    pub(crate) const MAX_STATE: usize = 1 << 20;

    /// The most groups of one connection, and bytes of a group's name.
    pub(crate) const MAX_GROUPS: usize = 1 << 16;
    pub(crate) const MAX_GROUP_NAME: usize = 1 << 16;

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut to = Writer(out);
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        to.u16(self.name.0);
        to.u64(self.name.1);
        to.u16(self.origin);
        to.u32(self.idle);
        to.u8(flag(self.peer.is_some(), PEER)
            | flag(!self.groups.is_empty(), GROUPS)
            | flag(self.timer.is_some(), TIMER)
            | flag(self.unread.is_some(), UNREAD)
            | flag(self.unsent.is_some(), UNSENT)
            | flag(!self.state.is_empty(), STATE)
            | flag(self.is_arriving, ARRIVING));
        if let Some(peer) = &self.peer {
            to.address(peer);
        }
        if !self.groups.is_empty() {
            to.u32(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
            self.groups.iter().for_each(|group| to.bytes(group.as_bytes()));
        }
        if let Some(timer) = self.timer {
            to.u32(timer);
        }
        if let Some(Unread { bytes, in_content, used }) = &self.unread {
            to.u8(u8::from(*in_content));
            to.u32(*used);
            to.bytes(bytes);
        }
        if let Some(Unsent { bytes, stalled }) = &self.unsent {
            to.u32(*stalled);
            to.bytes(bytes);
        }
        if !self.state.is_empty() {
            to.bytes(&self.state);
        }
    }

    /// Reads all parcels that `bytes` are.
    pub(crate) fn read_all(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut from = Reader(bytes);
        let mut parcels = Vec::new();
        while !from.is_empty() {
            parcels.push(Self::read(&mut from)?);
        }
        Ok(parcels)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = (from.u16()?, from.u64()?);
        let (origin, idle, flags) = (from.u16()?, from.u32()?, from.u8()?);
        if flags >= ARRIVING << 1 {
            return Err(Malformed);
        }
        let has = |flag: u8| flags & flag != 0;
        let peer = if has(PEER) { Some(from.address()?) } else { None };
        let mut groups = Vec::new();
        if has(GROUPS) {
            let count = from.u32()? as usize;
            if count > Self::MAX_GROUPS {
                return Err(Malformed);
            }
            for _ in 0..count {
                groups.push(from.text(Self::MAX_GROUP_NAME)?.into());
            }
        }
        let timer = if has(TIMER) { Some(from.u32()?) } else { None };
        let unread = if has(UNREAD) {
            let (in_content, used) = (from.u8()? != 0, from.u32()?);
            Some(Unread { bytes: from.bytes(Self::MAX_CARRIED)?.to_vec(), in_content, used })
        } else {
            None
        };
        let unsent = if has(UNSENT) {
            let stalled = from.u32()?;
            Some(Unsent { bytes: from.bytes(Self::MAX_CARRIED)?.to_vec(), stalled })
        } else {
            None
        };
        let state = if has(STATE) { from.bytes(Self::MAX_STATE)?.to_vec() } else { Vec::new() };
        let is_arriving = has(ARRIVING);
        Ok(Self { name, origin, idle, peer, groups, timer, unread, unsent, state, is_arriving })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_rest() -> Parcel {
        Parcel {
            is_arriving: false,
            name: (3, 1 << 40),
            origin: 7,
            idle: 12,
            peer: None,
            groups: Vec::new(),
            timer: None,
            unread: None,
            unsent: None,
            state: Vec::new(),
        }
    }

    fn full() -> Parcel {
        Parcel {
            peer: Some(SocketAddr::from(([192, 0, 2, 1], 50_000))),
            groups: vec!["room".into(), "räume".into()],
            timer: Some(300),
            unread: Some(Unread { bytes: vec![0, 99, 1], in_content: true, used: 40 }),
            unsent: Some(Unsent { bytes: vec![5; 1000], stalled: 2 }),
            state: b"state".to_vec(),
            is_arriving: true,
            ..at_rest()
        }
    }

    #[test]
    fn does_a_connection_at_rest_take_17_bytes() {
        let mut bytes = Vec::new();
        at_rest().write(&mut bytes);
        assert_eq!(bytes.len(), 17);
        assert_eq!(Parcel::read_all(&bytes), Ok(vec![at_rest()]));
    }

    #[test]
    fn are_parcels_read_as_they_were_written() {
        let v6 =
            SocketAddr::V6(std::net::SocketAddrV6::new([1, 2, 3, 4, 5, 6, 7, 8].into(), 9, 1, 2));
        let mut bytes = Vec::new();
        let parcels = [full(), at_rest(), Parcel { peer: Some(v6), ..full() }];
        parcels.iter().for_each(|parcel| parcel.write(&mut bytes));
        assert_eq!(Parcel::read_all(&bytes).as_deref(), Ok(&parcels[..]));
    }

    #[test]
    fn is_a_parcel_that_is_cut_short_or_too_long_refused() {
        let mut bytes = Vec::new();
        full().write(&mut bytes);
        for len in 1..bytes.len() {
            assert_eq!(Parcel::read_all(&bytes[..len]), Err(Malformed), "{len}");
        }
        // Any byte may be wrong: it must neither panic nor reserve what is announced.
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0xff;
            let _ = Parcel::read_all(&wrong);
        }
    }
}
