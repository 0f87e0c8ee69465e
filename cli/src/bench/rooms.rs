//! `myriapod bench --service rooms`: every delivery to every member is checked.

use std::fmt::Write as _;
use std::process::ExitCode;

use myriapod_load::{RoomReport, measure_rooms};
use myriapod_machine::figures::duration;

use super::output::Output;
use super::stop::Stop;
use super::{Args, failed, print};
use crate::failure::{FAILED, Failure};

/// Runs, prints, and writes the file asked for.
pub(super) fn run(args: &Args, json: Option<Output>) -> Result<ExitCode, Failure> {
    let options = args.rooms()?;
    let stop = Stop::catch()?;
    let report = measure_rooms(&options, || stop.interruption().is_some());
    let report = report.map_err(|error| failed(&error))?;
    let to_stdout = json.as_ref().is_some_and(Output::is_stdout);
    if let Some(json) = json {
        let text = serde_json::to_vec(&report).map_err(Failure::new)?;
        json.write(&[&text[..], b"\n"].concat())?;
    }
    if !to_stdout {
        print(&table(&report))?;
    }
    let status = stop.interruption().map_or(0, |interruption| interruption.status);
    Ok(ExitCode::from(if report.is_right() { status } else { FAILED }))
}

fn table(report: &RoomReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let RoomReport { rooms, members, said, refused, expected, .. } = report;
    line("rooms", format!("{rooms}, of {members} members each"));
    line("said", format!("{said}, and {refused} refused"));
    line("deliveries", format!("{} of {expected}", report.delivered));
    line("", format!("{:.0} a second, in {:.1} s", report.deliveries_per_second, report.seconds));
    let latency = report.latency_ns;
    let quantiles = [("p50", latency.p50), ("p99", latency.p99), ("p99.9", latency.p999)];
    let each = quantiles.map(|(name, nanos)| format!("{name} {}", duration(nanos)));
    line("latency", format!("{}, max {}", each.join(", "), duration(latency.max)));
    line("dropped", format!("{}, and told", report.dropped));
    line("lost", report.lost.to_string());
    line("twice", report.duplicated.to_string());
    line("out of order", report.disordered.to_string());
    line("closed", report.closed.to_string());
    if report.refused > 0 {
        line("advice", "serve --request-rate N lets each member speak more often".to_owned());
    }
    text
}
