//! [`Packet`]: what was on the simulated wire, for those who want to look at it.

use super::end::EndId;
use super::kernel::Kernel;
use crate::{SocketAddr, Time};

/// Packets of one world that are kept; what comes later is not.
const MOST_PACKETS: usize = 1 << 20;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Nothing: a connection is there from now on.
    Opened,
    /// Bytes.
    Bytes(Vec<u8>),
    /// The end of what this side has to say.
    Ended,
    /// A reset.
    Reset,
}

/// Something that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it arrived.
    pub at: Time,
    /// Who has sent it.
    pub from: SocketAddr,
    /// Whom it has reached.
    pub to: SocketAddr,
    /// What it carries.
    pub carried: Carried,
}

impl Kernel {
    /// Notes what went from this end to the other, if that is wanted.
    pub(super) fn carry(&mut self, end: EndId, carried: impl FnOnce() -> Carried) {
        let at = Time::from_nanos(self.now);
        let (Some(wire), Some(end)) = (&mut self.wire, self.ends.get(&end)) else { return };
        if wire.len() < MOST_PACKETS {
            let (from, to) = (end.local.clone(), end.peer.clone());
            wire.push(Packet { at, from, to, carried: carried() });
        }
    }
}
