//! [`RoomService`]: the rooms of a server, for those who start, count and end it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use myriapod::{ConnectionId, Handle, ServersStats};
use myriapod_cluster::NodeStats;

use super::afar::Shared;
use super::args::RoomArgs;
use super::hall::{Hall, RoomStats};
use super::service::Rooms;
use myriapod_command::failure::Failure;

/// The rooms of a server, and the way to other servers.
#[derive(Debug)]
pub struct RoomService {
    hall: Arc<Hall<ConnectionId>>,
    shared: OnceLock<Shared>,
}

impl RoomService {
    /// Rooms within these bounds.
    #[must_use]
    pub fn new(args: &RoomArgs) -> Self {
        Self { hall: Arc::new(Hall::new(args)), shared: OnceLock::new() }
    }

    /// The handler of one event loop.
    #[must_use]
    pub fn handler(&self) -> Rooms {
        Rooms::new(Arc::clone(&self.hall))
    }

    /// Shares the rooms with other servers, if a broker is named.
    ///
    /// # Errors
    ///
    /// Flags that cannot work, and a thread that the system refuses.
    pub fn begin(&self, args: &RoomArgs, handle: Handle) -> Result<(), Failure> {
        if let Some(shared) = Shared::begin(args, &self.hall, handle)? {
            let _ = self.shared.set(shared);
        }
        Ok(())
    }

    /// Sends to the other servers what is on its way, and leaves them.
    pub fn end(&self) {
        if let Some(shared) = self.shared.get() {
            shared.close();
        }
    }

    /// The counts as metrics.
    #[must_use]
    pub fn exposition(&self) -> String {
        let families = self.named().into_iter().map(|(name, kind, help, value)| {
            let total = if kind == "counter" { "_total" } else { "" };
            let name = format!("myriapod_{name}{total}");
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        });
        families.collect()
    }

    /// Each count with its name, its kind in metrics, and what it means.
    fn named(&self) -> Vec<Named> {
        let mut named = of_rooms(&self.hall.stats()).to_vec();
        named.extend(self.shared.get().into_iter().flat_map(|shared| of_node(&shared.stats())));
        named
    }
}

type Named = (&'static str, &'static str, &'static str, u64);

fn of_rooms(rooms: &RoomStats) -> [Named; 6] {
    [
        ("rooms", "gauge", "Rooms that have members here.", rooms.rooms),
        ("room_members", "gauge", "Memberships of rooms here.", rooms.members),
        ("room_history_bytes", "gauge", "Bytes of all histories.", rooms.history_bytes),
        ("said", "counter", "Messages said to rooms here.", rooms.said),
        ("told", "counter", "Messages told to one member here.", rooms.told),
        ("room_unposted", "counter", "Pushes that a busy loop did not take.", rooms.unposted),
    ]
}

fn of_node(node: &NodeStats) -> [Named; 8] {
    let broker = &node.broker;
    [
        ("broker_up", "gauge", "Whether the broker can be reached.", u64::from(broker.is_up)),
        ("broker_channels", "gauge", "Rooms that are subscribed.", broker.channels),
        ("broker_waiting", "gauge", "Messages sent and not confirmed.", broker.waiting),
        ("broker_published", "counter", "Messages that the broker has.", broker.published),
        ("broker_received", "counter", "Messages of other servers.", node.received),
        ("broker_lost", "counter", "Messages that others may not have got.", node.lost),
        ("broker_undelivered", "counter", "Messages of others not used.", node.undelivered),
        ("broker_failures", "counter", "Connections lost or not made.", broker.failures),
    ]
}

/// The line of a server's counts, with those of its rooms behind them.
#[derive(Debug)]
pub struct Summary<'a> {
    /// Those of its event loops.
    pub stats: &'a ServersStats,
    /// Its rooms, if it has any.
    pub rooms: Option<&'a RoomService>,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats.fmt(f)?;
        let named = self.rooms.map(RoomService::named).unwrap_or_default();
        let shown = named.iter().filter(|(.., value)| *value > 0);
        shown.into_iter().try_for_each(|(name, _, _, value)| write!(f, " {name}={value}"))
    }
}
