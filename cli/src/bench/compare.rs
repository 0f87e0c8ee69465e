//! Two results side by side.

use std::fmt::Write as _;

use myriapod_load::report::Report;
use myriapod_machine::figures::{bytes, duration, grouped};

/// A figure of a result, and how it is shown.
type Figure = (&'static str, fn(&Report) -> Option<f64>, fn(f64) -> String);

fn rate(value: f64) -> String {
    format!("{value:.0}")
}

fn micros(value: f64) -> String {
    format!("{value:.2} µs")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
fn whole(value: f64) -> String {
    grouped(value as u64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "nanoseconds")]
fn latency(value: f64) -> String {
    duration(value as u64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
fn memory(value: f64) -> String {
    bytes(value as u64)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
const FIGURES: [Figure; 18] = [
    ("connections", |run| Some(run.connected() as f64), whole),
    ("messages ok", |run| Some(run.messages.ok as f64), whole),
    ("lost", |run| Some(run.messages.lost as f64), whole),
    ("wrong", |run| Some(run.messages.wrong as f64), whole),
    ("late", |run| Some(run.messages.late as f64), whole),
    ("duplicate", |run| Some(run.messages.duplicate as f64), whole),
    ("offered per second", |run| Some(run.rate.offered), rate),
    ("achieved per second", |run| Some(run.rate.achieved), rate),
    ("service p50", |run| Some(run.latency_ns.service.p50 as f64), latency),
    ("service p99", |run| Some(run.latency_ns.service.p99 as f64), latency),
    ("response p50", |run| Some(run.latency_ns.response.p50 as f64), latency),
    ("response p99", |run| Some(run.latency_ns.response.p99 as f64), latency),
    ("response p99.9", |run| Some(run.latency_ns.response.p999 as f64), latency),
    ("response max", |run| Some(run.latency_ns.response.max as f64), latency),
    ("server time per message", |run| run.server.as_ref()?.cpu_us_per_message, micros),
    ("server memory held", |run| Some(run.server.as_ref()?.rss_bytes_hold as f64), memory),
    ("server bytes per connection", |run| run.server.as_ref()?.rss_bytes_per_connection, rate),
    ("stolen, %", |run| run.noise.steal_percent, |value| format!("{value:.1}")),
];

/// Both, with the ratio of the second to the first. Settings stand there only where they differ.
pub(crate) fn table(one: &Report, other: &Report) -> String {
    let mut out = String::new();
    let mut row = |name: &str, one: &str, other: &str, ratio: &str| {
        let line = format!("{name:<28} {one:>14} {other:>14} {ratio:>7}");
        let _ = writeln!(out, "{}", line.trim_end());
    };
    row("", "A", "B", "B / A");
    for (name, of_one, of_other) in differing(one, other) {
        row(&name, &of_one, &of_other, "");
    }
    for (name, figure, show) in FIGURES {
        let (of_one, of_other) = (figure(one), figure(other));
        if of_one.is_none() && of_other.is_none() {
            continue;
        }
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), show);
        let ratio = match (of_one, of_other) {
            (Some(one), Some(other)) if one > 0.0 => format!("{:.2}", other / one),
            _ => String::new(),
        };
        row(name, &shown(of_one), &shown(of_other), &ratio);
    }
    if one.machine != other.machine {
        out.push_str("the machines differ: ratios say nothing about the servers alone\n");
    }
    out
}

/// The settings that are not the same, as they stand in the JSON.
fn differing(one: &Report, other: &Report) -> Vec<(String, String, String)> {
    let values = |run: &Report| serde_json::to_value(&run.settings).unwrap_or_default();
    let (one, other) = (values(one), values(other));
    let Some(keys) = one.as_object() else { return Vec::new() };
    let shown = |value: Option<&serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    keys.iter()
        .filter(|(key, _)| !["ports", "verification", "sources"].contains(&key.as_str()))
        .filter(|(key, value)| other.get(key.as_str()) != Some(value))
        .map(|(key, value)| (key.clone(), shown(Some(value)), shown(other.get(key.as_str()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn do_two_results_stand_side_by_side() {
        let one = sample();
        let mut other = sample();
        other.settings.connections = 100;
        other.latency_ns.service.p50 = 2 * one.latency_ns.service.p50;
        let table = table(&one, &other);
        let line = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().rev().take(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("service p50"), "2.00");
        assert_eq!(line("response p50"), "1.00");
        assert_eq!(line("connections"), "100", "{table}");
        assert!(!table.contains("machines"), "{table}");
        assert!(!table.contains("in_flight"), "{table}");
    }
}
