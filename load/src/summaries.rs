//! What each phase came to, a line for people.

use crate::report::{MemoryPoint, Storm};
use crate::snapshot::Snapshot;
use myriapod_machine::figures::{bytes, duration, grouped};

pub(crate) fn ramp(ramped: &Snapshot, requested: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = if seconds > 0.0 { ramped.established as f64 / seconds } else { 0.0 };
    format!(
        "{} of {} connections, {rate:.0} per second",
        grouped(ramped.established),
        grouped(requested)
    )
}

pub(crate) fn hold(
    connections: u64,
    held: Option<&MemoryPoint>,
    before: Option<&MemoryPoint>,
) -> String {
    let open = format!("{} connections", grouped(connections));
    match (held, before) {
        (Some(held), Some(before)) => format!(
            "{open}; the server holds {}, {} more than without",
            bytes(held.server_rss_bytes),
            bytes(held.server_rss_bytes.saturating_sub(before.server_rss_bytes)),
        ),
        _ => open,
    }
}

pub(crate) fn run(after: &Snapshot, answered: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = if seconds > 0.0 { answered as f64 / seconds } else { 0.0 };
    let faults = match after.faults() {
        0 => "no error".to_owned(),
        faults => format!("{} errors", grouped(faults)),
    };
    format!("{} answers, {rate:.0} per second, {faults}", grouped(answered))
}

pub(crate) fn storm(nth: u32, storm: &Storm) -> String {
    let served = grouped(storm.served);
    let all = grouped(storm.connections);
    let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
    let half = time(storm.p50_ns);
    match storm.all_ns {
        Some(ns) => {
            format!("{nth}: all {all} served again after {}, half after {half}", duration(ns))
        }
        None => format!("{nth}: {served} of {all} served again, half of them after {half}"),
    }
}
