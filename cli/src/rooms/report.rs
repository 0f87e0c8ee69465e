//! What the rooms hold and have done, in the summary and in metrics.

use std::fmt;

use myriapod::ServersStats;

use super::hall::RoomStats;

/// The line of a server's counts, with those of its rooms behind them.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) stats: &'a ServersStats,
    pub(crate) rooms: Option<RoomStats>,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats.fmt(f)?;
        let Some(rooms) = &self.rooms else { return Ok(()) };
        let shown = rooms.named().into_iter().filter(|(.., value)| *value > 0);
        shown.into_iter().try_for_each(|(name, _, _, value)| write!(f, " {name}={value}"))
    }
}

impl RoomStats {
    /// Each with its name, its kind in metrics, and what it means.
    fn named(&self) -> [(&'static str, &'static str, &'static str, u64); 6] {
        [
            ("rooms", "gauge", "Rooms that have members here.", self.rooms),
            ("room_members", "gauge", "Memberships of rooms here.", self.members),
            ("room_history_bytes", "gauge", "Bytes of all histories.", self.history_bytes),
            ("said", "counter", "Messages said to rooms here.", self.said),
            ("told", "counter", "Messages told to one member here.", self.told),
            ("room_unposted", "counter", "Pushes that a busy loop did not take.", self.unposted),
        ]
    }

    /// As metrics.
    pub(crate) fn exposition(&self) -> String {
        let families = self.named().map(|(name, kind, help, value)| {
            let total = if kind == "counter" { "_total" } else { "" };
            let name = format!("myriapod_{name}{total}");
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        });
        families.concat()
    }
}
