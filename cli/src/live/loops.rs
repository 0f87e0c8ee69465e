//! The page of a server: `serve --live`.

use std::time::Duration;

use myriapod::protocol::Fault;
use myriapod::sys::{self, Time};
use myriapod::{Cause, Handle, ServersStats, Stats};

use super::{Chart, Live, LivePlace, Point, Teller, Unit};
use crate::failure::Failure;

const CHARTS: [Chart; 6] = [
    Chart { title: "Connections", unit: Unit::Count, lines: &["open", "lingering"] },
    Chart { title: "Messages a second", unit: Unit::Count, lines: &["received", "answered"] },
    Chart { title: "Bytes a second", unit: Unit::Bytes, lines: &["received", "sent"] },
    Chart { title: "Coming and going a second", unit: Unit::Count, lines: &["accepted", "closed"] },
    Chart { title: "Memory", unit: Unit::Bytes, lines: &["of the process", "of buffers"] },
    Chart { title: "Processors", unit: Unit::Processors, lines: &["of the process"] },
];

/// How often the loops are asked.
const EVERY: Duration = Duration::from_secs(1);

/// Serves the page of the loops behind `of`, and asks them every second until they end.
///
/// # Errors
///
/// A place where nobody can listen.
pub(crate) fn watch(place: &LivePlace, title: String, of: Handle) -> Result<Live, Failure> {
    let live = Live::start(place, title, &CHARTS)?;
    let teller = live.teller.clone();
    // It is not waited for: it ends with the loops, or with the page.
    sys::spawn("live-ask", move || ask(&of, &teller))?;
    Ok(live)
}

/// What was true at some moment.
struct Reading {
    at: Time,
    sum: Stats,
    running: Duration,
}

impl Reading {
    fn take(of: &Handle) -> Option<Self> {
        let sum = ServersStats::from(of.stats().ok()?).sum();
        let usage = myriapod_machine::process_usage(std::process::id()).ok();
        let running = usage.map_or(Duration::ZERO, |usage| usage.running);
        Some(Self { at: sys::now(), sum, running })
    }
}

fn ask(of: &Handle, teller: &Teller) {
    let Some(mut before) = Reading::take(of) else { return };
    let began = before.at;
    loop {
        std::thread::sleep(EVERY);
        let Some(now) = Reading::take(of) else { return };
        if !teller.point(point(began, &before, &now)) {
            return;
        }
        before = now;
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn point(began: Time, before: &Reading, now: &Reading) -> Point {
    let seconds = now.at.saturating_since(before.at).as_secs_f64().max(0.001);
    let (sum, was) = (&now.sum, &before.sum);
    let rate = |of: fn(&Stats) -> u64| Some(of(sum).saturating_sub(of(was)) as f64 / seconds);
    let closed = |stats: &Stats| stats.closed.iter().sum::<u64>();
    let resident = myriapod_machine::process_rss_bytes(std::process::id()).ok();
    let causes = Cause::ALL.iter().zip(sum.closed);
    let causes = causes.map(|(cause, count)| (format!("closed: {}", cause.name()), count));
    let faults = Fault::ALL.iter().zip(sum.faults);
    let faults = faults.map(|(fault, count)| (format!("fault: {}", fault.name()), count));
    let others = [
        ("handler errors", sum.handler_errors),
        ("refused by the limit of an address", sum.refused_by_address),
        ("turned away", sum.turned_away),
        ("pushes dropped", sum.dropped_pushes),
    ];
    let others = others.into_iter().map(|(name, count)| (name.to_owned(), count));
    Point {
        at_s: now.at.saturating_since(began).as_secs_f64(),
        phase: String::new(),
        values: vec![
            vec![Some(sum.open as f64), Some(sum.lingering as f64)],
            vec![rate(|stats| stats.messages), rate(|stats| stats.replies)],
            vec![rate(|stats| stats.bytes_in), rate(|stats| stats.bytes_out)],
            vec![
                rate(|stats| stats.accepted),
                Some((closed(sum).saturating_sub(closed(was))) as f64 / seconds),
            ],
            vec![resident.map(|bytes| bytes as f64), Some(sum.pool_bytes as f64)],
            vec![Some(now.running.saturating_sub(before.running).as_secs_f64() / seconds)],
        ],
        counts: causes.chain(faults).chain(others).filter(|(_, count)| *count > 0).collect(),
    }
}
