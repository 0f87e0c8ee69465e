//! [`ConnectionId`]: the name of a connection.

use std::fmt;

use crate::slab::Key;

/// Names one connection for as long as it is open, and no other afterwards.
///
/// Opaque: which event loop, which place, which generation. The order is that of these, which is
/// none of time: it serves sorted lists and maps.
///
/// ```
/// use std::collections::BTreeMap;
/// use myriapod::ConnectionId;
///
/// /// Who is in the room, and under which name.
/// type Room = BTreeMap<ConnectionId, String>;
/// # let _ = Room::new();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) event_loop: u16,
    pub(crate) key: Key,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}.{:?}", self.event_loop, self.key)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
