//! Limits that are reached all the time.

use myriapod::sys::sim::Rng;
use myriapod::{Limits, Overflow};

use super::millis;

/// Others, for a server that runs: timeouts are shorter or longer, marks higher or lower. What it has
/// decoded or begun to end by the ones before, it ends by those.
pub(super) fn others(rng: &mut Rng, before: &Limits) -> Limits {
    Limits {
        max_header_len: before.max_header_len,
        max_content_len: before.max_content_len,
        max_buffer_bytes: before.max_buffer_bytes,
        max_buffer_bytes_per_address: before.max_buffer_bytes_per_address,
        linger_timeout: before.linger_timeout,
        linger_bytes: before.linger_bytes,
        drain_timeout: before.drain_timeout,
        ..tight(rng)
    }
}

/// Some of them.
pub(super) fn tight(rng: &mut Rng) -> Limits {
    let high_water = rng.len(100, 6000);
    let max_header_len = rng.len(300, 1000);
    let max_content_len = rng.len(3000, 20_000);
    let message = 2 + max_header_len + max_content_len;
    let overflow = match rng.below(3) {
        0 => Overflow::DropNewest,
        1 => Overflow::DropOldest,
        _ => Overflow::CloseAfter(millis(rng, 50, 1000)),
    };
    let some = rng.below(4);
    let scarce = message + rng.len(0, 30_000);
    Limits {
        max_header_len,
        max_content_len,
        max_connections: Some(rng.len(1, 10)),
        shed_idle: (some == 0).then(|| millis(rng, 50, 1000)),
        max_connections_per_address: rng.chance(300).then(|| rng.len(1, 4)),
        messages_per_event: rng.len(1, 8),
        high_water,
        low_water: rng.len(1, high_water - 1),
        overflow,
        max_buffer_bytes: if rng.chance(300) { scarce } else { 8 << 20 },
        max_buffer_bytes_per_address: rng.chance(100).then_some(message + scarce / 2),
        arrival_timeout: millis(rng, 50, 2000),
        header_timeout: millis(rng, 50, 2000),
        content_timeout: millis(rng, 50, 2000),
        min_content_rate: if some > 1 { rng.len(1, 20_000) } else { 0 },
        min_read_rate: if some > 1 { rng.len(1, 20_000) } else { 0 },
        rate_window: millis(rng, 50, 1500),
        idle_timeout: millis(rng, 100, 3000),
        write_timeout: millis(rng, 50, 2000),
        linger_timeout: millis(rng, 20, 500),
        linger_bytes: u32::try_from(rng.len(1, 5000)).unwrap_or(1),
        drain_timeout: millis(rng, 100, 3000),
        accept_batch: rng.len(1, 8),
        // No listener is a secure one.
        ..Limits::default()
    }
}
