//! The result for people: a table, and the units in it.

use std::fmt::Write as _;

use myriapod_command::terminal::columns;
use myriapod_load::report::{Latency, Report};
use myriapod_machine::figures::{bytes, duration, duration_of, grouped};

use crate::terminal::OneLine;

/// Characters of a line, and of the names at its left.
const WIDTH: usize = 96;
const INDENT: usize = 14;

/// The table that a run ends with.
pub(crate) fn table(report: &Report) -> String {
    let mut out = String::from("\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<13} {}", OneLine(value));
    };
    let settings = &report.settings;
    line("target", target(report));
    line("load", load(report));
    let connections = &report.connections;
    let requested = grouped(connections.requested);
    let mut text = if settings.short {
        format!("{} opened, at most {requested} at once", grouped(connections.opened))
    } else {
        format!("{} of {requested} established", grouped(connections.established))
    };
    let ended = [
        (connections.failed, "failed"),
        (connections.lost, "lost"),
        (connections.slow_closed, "slow ones closed by the server"),
    ];
    for (number, what) in ended {
        if number > 0 {
            let _ = write!(text, ", {} {what}", grouped(number));
        }
    }
    line("connections", text);
    let messages = &report.messages;
    line(
        "messages",
        format!(
            "{} sent, {} ok; lost {}, wrong {}, late {}, duplicate {}",
            grouped(messages.sent),
            grouped(messages.ok),
            messages.lost,
            messages.wrong,
            messages.late,
            messages.duplicate
        ),
    );
    let achieved = format!("{:.0} per second", report.rate.achieved);
    line(
        "rate",
        match settings.rate {
            Some(_) => format!("{achieved} of {:.0} offered", report.rate.offered),
            None => achieved,
        },
    );
    latencies(&mut out, report);
    server(&mut out, report);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<13} {}", OneLine(value));
    };
    if let Some(short) = &report.short {
        let waiting = short.time_wait.map_or_else(String::new, |waiting| {
            format!("; {} ports of this machine in TIME_WAIT", grouped(waiting))
        });
        line(
            "closed first",
            format!(
                "by the server {}, by bench {}, reset {}{waiting}",
                grouped(short.closed_first_by_server),
                grouped(short.closed_first_by_client),
                grouped(short.reset)
            ),
        );
    }
    if let Some(tls) = &report.tls {
        let Latency { p50, p99, .. } = tls.handshake_ns;
        let each = format!("half within {}, 99 % within {}", duration(p50), duration(p99));
        let counted = format!("{} full, {} resumed", grouped(tls.full), grouped(tls.resumed));
        line("handshakes", format!("{counted}; {each}; {} {}", tls.protocol, tls.suite));
    }
    for (nth, storm) in report.storms.iter().enumerate() {
        let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
        line(
            "storm",
            format!(
                "{}: {} of {} served again; half after {}, 99 % after {}, all after {}",
                nth + 1,
                grouped(storm.served),
                grouped(storm.connections),
                time(storm.p50_ns),
                time(storm.p99_ns),
                time(storm.all_ns)
            ),
        );
    }
    for error in &report.errors {
        let next = error.next_step.as_ref().map_or_else(String::new, |step| format!("; {step}"));
        line(
            "error",
            format!(
                "{} {} {}: {}{next}",
                error.phase,
                error.call,
                error.errno,
                grouped(error.count)
            ),
        );
    }
    line("noise", noise(report));
    for tried in &report.find_rate {
        line(
            "tried",
            format!(
                "{:.0} per second: {:.0} answered, p99 {}, {}",
                tried.offered,
                tried.achieved,
                duration(tried.p99_ns),
                if tried.met { "met" } else { "missed" }
            ),
        );
    }
    for threshold in &report.thresholds {
        let show = |value: f64| match threshold.name.as_str() {
            "max_p99_ns" => duration_of(value),
            _ => format!("{value:.0}"),
        };
        line(
            "threshold",
            format!(
                "{} {}: {}, {}",
                threshold.name.trim_end_matches("_ns").replace('_', "-"),
                show(threshold.limit),
                show(threshold.measured),
                if threshold.met { "met" } else { "missed" }
            ),
        );
    }
    line("checked", settings.verification.clone());
    for warning in &report.warnings {
        line("warning", warning.clone());
    }
    line("ended", report.exit_reason.clone());
    out.lines().map(wrapped).collect()
}

/// A line, broken between words where it is long; what follows stands below what it belongs to.
fn wrapped(line: &str) -> String {
    let Some((name, text)) = line.split_at_checked(INDENT).filter(|_| columns(line) > WIDTH) else {
        return format!("{line}\n");
    };
    let (mut out, mut width) = (name.to_owned(), INDENT);
    for (nth, word) in text.split(' ').enumerate() {
        if nth > 0 && width + 1 + columns(word) > WIDTH {
            let _ = write!(out, "\n{:INDENT$}", "");
            width = INDENT;
        } else if nth > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += columns(word);
    }
    out.push('\n');
    out
}

fn target(report: &Report) -> String {
    let settings = &report.settings;
    let place = match settings.ports[..] {
        _ if settings.host.starts_with("unix:") => settings.host.clone(),
        [port] => format!("{} {port}", settings.host),
        [first, .., last] => {
            format!("{}, {} ports from {first} to {last}", settings.host, settings.ports.len())
        }
        [] => settings.host.clone(),
    };
    let whose = if settings.embedded { " (started by bench)" } else { "" };
    let framing = match settings.framing.as_str() {
        "" | "json-header" | "raw" | "padded" => String::new(),
        framing => format!(" in {framing}"),
    };
    format!("{place}, {}{framing}{whose}", settings.service)
}

fn load(report: &Report) -> String {
    let settings = &report.settings;
    let mut text = format!("{} connections", grouped(settings.connections));
    if settings.idle > 0 {
        let _ = write!(text, " and {} idle", grouped(settings.idle));
    }
    if settings.slow > 0 {
        let _ = write!(text, " and {} slow", grouped(settings.slow));
    }
    if settings.short {
        text.push_str(" at once, a new one for each request");
    } else if let Some(file) = &settings.replay {
        let _ = write!(text, ", {} requests of {file}", grouped(settings.messages.unwrap_or(0)));
    } else {
        let _ = write!(text, ", {} in flight on each", settings.in_flight);
    }
    let _ = write!(text, ", {} bytes per request", settings.request_bytes);
    match (settings.rate, &settings.arrivals) {
        (Some(rate), Some(arrivals)) => {
            let _ = write!(text, "; open loop, {rate:.0} per second, {arrivals}");
            if let Some(speed) = settings.speed.filter(|speed| speed.to_bits() != 1.0_f64.to_bits())
            {
                let _ = write!(text, " and {speed} times as fast");
            }
        }
        _ => text.push_str("; closed loop"),
    }
    if settings.threads * settings.processes > 1 {
        let _ = write!(text, "; {} processes of {} threads", settings.processes, settings.threads);
    }
    text
}

fn latencies(out: &mut String, report: &Report) {
    let row = |name: &str, latency: &Latency| {
        let mut row = format!("{name:<13}");
        let Latency { p50, p90, p99, p999, p9999, max, .. } = *latency;
        for value in [p50, p90, p99, p999, p9999, max] {
            let shown = if latency.count > 0 { duration(value) } else { "-".to_owned() };
            let _ = write!(row, " {shown:>9}");
        }
        row
    };
    let heads = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let _ = write!(out, "{:<13}", "latency");
    for head in heads {
        let _ = write!(out, " {head:>9}");
    }
    out.push('\n');
    let _ = writeln!(out, "{}", row("  service", &report.latency_ns.service));
    let _ = writeln!(out, "{}", row("  response", &report.latency_ns.response));
}

fn server(out: &mut String, report: &Report) {
    let Some(server) = &report.server else { return };
    let us = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.2}"));
    let _ = writeln!(
        out,
        "server        {} µs of processor time per message (user {}, system {}); {:.2} processors",
        us(server.cpu_us_per_message),
        us(server.user_us_per_message),
        us(server.system_us_per_message),
        server.cpus
    );
    let _ = writeln!(
        out,
        "              context switches per message: {} waiting, {} preempted",
        us(server.voluntary_switches_per_message),
        us(server.involuntary_switches_per_message),
    );
    let each = server
        .rss_bytes_per_connection
        .map_or_else(String::new, |each| format!(", {each:.0} bytes per connection"));
    let _ = writeln!(
        out,
        "              memory {} before, {} held, {} at the end{each}",
        bytes(server.rss_bytes_before),
        bytes(server.rss_bytes_hold),
        bytes(server.rss_bytes_run),
    );
    if let (true, Some(cpus)) = (report.settings.pin, &server.cpus_allowed) {
        let _ = writeln!(out, "              may run on processors {cpus}");
    }
}

fn noise(report: &Report) -> String {
    let noise = &report.noise;
    let percent =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} %"));
    let mut text = format!(
        "stolen {}, other programs {}, bench's busiest thread {:.0} %, clock step {}",
        percent(noise.steal_percent),
        percent(noise.others_percent),
        noise.busiest_thread * 100.0,
        duration(noise.clock_step_ns),
    );
    if let Some(deviation) = noise.rate_deviation {
        let _ = write!(text, ", rate ±{:.0} %", deviation * 100.0);
    }
    if let Some(delay) = noise.send_delay_p99_ns {
        let _ = write!(text, ", sent late by {} (p99)", duration(delay));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn are_long_lines_broken_between_words() {
        assert_eq!(wrapped("short"), "short\n");
        let words = vec!["wörter"; 60].join(" ");
        let text = wrapped(&format!("warning       {words}"));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with(&" ".repeat(INDENT))), "{text}");
        let back: Vec<&str> = text.split_whitespace().skip(1).collect();
        assert_eq!(back.join(" "), words);
        let long = format!("ended         {}", "x".repeat(200));
        assert_eq!(wrapped(&long), format!("{long}\n"));
    }

    #[test]
    fn does_the_table_say_what_matters() {
        let table = table(&sample());
        for said in [
            "connections",
            "lost 0, wrong 0, late 0, duplicate 0",
            "p99.99",
            "ended         completed",
        ] {
            assert!(table.contains(said), "{said}: {table}");
        }
    }
}
