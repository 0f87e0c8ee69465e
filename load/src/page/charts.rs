//! The charts of one run, or of two over one another.

use super::Run;
use super::chart::{Axis, Band, Chart, Line, thinned};
use myriapod_machine::figures::{bytes_of as size, duration_of as time};

use super::number::{percentile, short};
use super::scale::Scale;
use crate::report::{CurvePoint, Report, Second};

/// Those for which there are figures.
pub(super) fn charts(runs: &[Run<'_>]) -> Vec<Chart> {
    let all = [percentiles(runs), latency(runs), throughput(runs), connections(runs)];
    all.into_iter().chain([memory(runs), processors(runs)]).flatten().collect()
}

/// The largest of all values of all lines.
fn most(lines: &[Line]) -> f64 {
    let values = lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y);
    values.fold(0.0, f64::max)
}

fn least(lines: &[Line]) -> f64 {
    let values = lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y);
    values.filter(|&y| y > 0.0).fold(f64::MAX, f64::min)
}

/// A name for a line, with the run's where there are two.
fn named(run: &Run<'_>, runs: &[Run<'_>], name: &str) -> String {
    if runs.len() == 1 { name.to_owned() } else { format!("{} {name}", run.name) }
}

fn percentiles(runs: &[Run<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for run in runs {
        let curve = &run.report.curve;
        // In a closed loop a message is due when it is sent.
        if run.report.settings.loop_kind == "open" && !curve.service.is_empty() {
            lines.push(curve_line(named(run, runs, "service"), run.soft_class, &curve.service));
        }
        if !curve.response.is_empty() {
            let name = named(run, runs, "response");
            lines.push(curve_line(name, run.class, &curve.response));
        }
    }
    if lines.is_empty() {
        return None;
    }
    let quantiles = lines.iter().flat_map(|line| &line.points).map(|&(x, _)| x);
    let deepest = quantiles.filter(|&quantile| quantile < 1.0).fold(0.9, f64::max);
    let nines = (-(1.0 - deepest).log10()).ceil().clamp(2.0, 7.0);
    let open = runs.iter().any(|run| run.report.settings.loop_kind == "open");
    let caption = if open {
        "Response time counts from the moment a message was due, service time from its sending: \
         where they part, messages had to wait to be sent."
    } else {
        "So large a share of the replies took no longer. Each step to the right leaves a tenth of \
         the messages: the far right is what the unluckiest see."
    };
    Some(Chart {
        id: "percentiles",
        title: "Latency by percentile",
        x: Axis { name: "percentile", scale: Scale::Nines { to: nines }, text: percentile },
        y: Axis { name: "latency", scale: Scale::log(least(&lines), most(&lines)), text: time },
        lines,
        bands: Vec::new(),
        caption: caption.to_owned(),
    })
}

#[allow(clippy::cast_precision_loss, reason = "a picture needs no more than 52 bits")]
fn curve_line(name: String, class: &'static str, points: &[CurvePoint]) -> Line {
    let points = points.iter().map(|point| (point.quantile, point.ns as f64));
    Line { name, class, points: points.collect(), filled: false, stepped: true }
}

/// A chart over time, of what `value` finds in a second.
fn over_time(
    runs: &[Run<'_>],
    lines: Vec<Line>,
    id: &'static str,
    title: &'static str,
    text: fn(f64) -> String,
    caption: String,
) -> Option<Chart> {
    let end = |report: &Report| {
        let phases = report.phases.iter().map(|phase| phase.start_s + phase.seconds);
        phases.chain(report.series.iter().map(|second| second.at_s)).fold(0.0, f64::max)
    };
    let end = runs.iter().map(|run| end(run.report)).fold(0.0, f64::max);
    if end <= 0.0 || lines.iter().all(|line| line.points.is_empty()) {
        return None;
    }
    // Two runs' phases would lie over each other.
    let bands = match runs {
        [run] => run
            .report
            .phases
            .iter()
            .map(|phase| Band {
                name: phase.name.clone(),
                from: phase.start_s,
                to: phase.start_s + phase.seconds,
            })
            .collect(),
        _ => Vec::new(),
    };
    Some(Chart {
        id,
        title,
        x: Axis {
            name: "seconds since the start",
            scale: Scale::Linear { from: 0.0, to: end },
            text: short,
        },
        y: Axis { name: "", scale: Scale::up_to(most(&lines)), text },
        lines,
        bands,
        caption,
    })
}

fn series(
    run: &Run<'_>,
    name: String,
    class: &'static str,
    value: impl Fn(&Second) -> Option<f64>,
) -> Line {
    let points = run.report.series.iter();
    let points = points.filter_map(|second| Some((second.at_s, value(second)?))).collect();
    Line { name, class, points: thinned(points), filled: false, stepped: false }
}

#[allow(clippy::cast_precision_loss, reason = "a picture needs no more than 52 bits")]
fn latency(runs: &[Run<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for run in runs {
        let p50 = |second: &Second| second.p50_ns.map(|ns| ns as f64);
        let p99 = |second: &Second| second.p99_ns.map(|ns| ns as f64);
        lines.push(series(run, named(run, runs, "p50"), run.soft_class, p50));
        lines.push(series(run, named(run, runs, "p99"), run.class, p99));
    }
    let scale = Scale::log(least(&lines), most(&lines));
    let caption = "Response times of each second's replies. One high second can be noise of the \
                   machine; a rising line is a queue that grows.";
    let title = "Latency over time";
    let chart = over_time(runs, lines, "latency", title, time, caption.to_owned())?;
    Some(Chart { y: Axis { scale, ..chart.y }, ..chart })
}

fn throughput(runs: &[Run<'_>]) -> Option<Chart> {
    let of_run = |second: &Second| ["run", "warmup"].contains(&second.phase.as_str());
    let answering = |second: &Second| of_run(second) || second.phase == "drain";
    let mut lines = Vec::new();
    for run in runs {
        let rate = |second: &Second| answering(second).then_some(second.rate);
        let mut line = series(run, named(run, runs, "answered per second"), run.class, rate);
        line.filled = runs.len() == 1;
        lines.push(line);
        if let (Some(offered), 1) = (run.report.settings.rate, runs.len()) {
            let rate = |second: &Second| of_run(second).then_some(offered);
            lines.push(series(run, "asked for".to_owned(), run.soft_class, rate));
        }
    }
    let caption = "Messages answered rightly, per second.".to_owned();
    over_time(runs, lines, "throughput", "Throughput over time", short, caption)
}

#[allow(clippy::cast_precision_loss, reason = "a picture needs no more than 52 bits")]
fn connections(runs: &[Run<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for run in runs {
        let open = |second: &Second| Some(second.connections as f64);
        let mut line = series(run, named(run, runs, "open"), run.class, open);
        line.filled = runs.len() == 1;
        // Nothing is open before the ramp.
        if run.report.series.first().is_some_and(|second| second.at_s > 0.0) {
            line.points.insert(0, (0.0, 0.0));
        }
        lines.push(line);
    }
    let caption = "Open at the end of each second, idle ones included.".to_owned();
    over_time(runs, lines, "connections", "Connections over time", short, caption)
}

#[allow(clippy::cast_precision_loss, reason = "a picture needs no more than 52 bits")]
fn memory(runs: &[Run<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for run in runs.iter().filter(|run| run.report.memory.len() > 1) {
        let points = run.report.memory.iter();
        let points =
            points.map(|point| (point.connections as f64, point.server_rss_bytes as f64)).collect();
        lines.push(Line {
            name: named(run, runs, "resident memory"),
            class: run.class,
            points: thinned(points),
            filled: runs.len() == 1,
            stepped: false,
        });
    }
    if lines.is_empty() {
        return None;
    }
    let x_most = lines.iter().flat_map(|line| &line.points).map(|&(x, _)| x).fold(0.0, f64::max);
    let each = runs.iter().filter_map(|run| {
        let bytes = run.report.server.as_ref()?.rss_bytes_per_connection?;
        Some(format!(
            "{}{bytes:.0} bytes",
            if runs.len() > 1 { format!("{}: ", run.name) } else { String::new() }
        ))
    });
    let each: Vec<_> = each.collect();
    let slope = match each.is_empty() {
        true => String::new(),
        false => format!(" For each connection: {}.", each.join(", ")),
    };
    Some(Chart {
        id: "memory",
        title: "Server memory over connections",
        x: Axis {
            name: "connections",
            scale: Scale::Linear { from: 0.0, to: x_most },
            text: short,
        },
        y: Axis { name: "resident", scale: memory_scale(most(&lines)), text: size },
        lines,
        bands: Vec::new(),
        caption: format!(
            "The server's resident memory while connections were opened and held; the kernel's \
             own is not in it.{slope}"
        ),
    })
}

/// Bytes have round numbers of their own: steps of a power of two.
fn memory_scale(most: f64) -> Scale {
    let mut step = 1024.0;
    while step * 5.0 < most {
        step *= 2.0;
    }
    Scale::Steps { step, to: (most / step).ceil().max(1.0) * step }
}

fn processors(runs: &[Run<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for run in runs {
        lines.push(series(run, named(run, runs, "bench"), run.soft_class, |s| Some(s.bench_cpus)));
        let server = series(run, named(run, runs, "server"), run.class, |s| s.server_cpus);
        if !server.points.is_empty() {
            lines.push(server);
        }
    }
    let caption = "Processors kept busy; 1 is one whole. Where bench's own threads are full, the \
                   figures say more about bench than about the server.";
    over_time(runs, lines, "processors", "Processors over time", short, caption.to_owned())
}
