//! What each phase came to, a line for people.

use crate::bench::job::Snapshot;
use crate::bench::report::MemoryPoint;
use crate::bench::table::{bytes, count};

pub(crate) fn ramp_summary(ramped: &Snapshot, requested: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = if seconds > 0.0 { ramped.established as f64 / seconds } else { 0.0 };
    format!(
        "{} of {} connections, {rate:.0} per second",
        count(ramped.established),
        count(requested)
    )
}

pub(crate) fn hold_summary(
    connections: u64,
    held: Option<&MemoryPoint>,
    before: Option<&MemoryPoint>,
) -> String {
    let open = format!("{} connections", count(connections));
    match (held, before) {
        (Some(held), Some(before)) => format!(
            "{open}; the server holds {}, {} more than without",
            bytes(held.server_rss_bytes),
            bytes(held.server_rss_bytes.saturating_sub(before.server_rss_bytes)),
        ),
        _ => open,
    }
}

pub(crate) fn run_summary(after: &Snapshot, answered: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = if seconds > 0.0 { answered as f64 / seconds } else { 0.0 };
    let faults = match after.faults() {
        0 => "no error".to_owned(),
        faults => format!("{} errors", count(faults)),
    };
    format!("{} answers, {rate:.0} per second, {faults}", count(answered))
}
