//! The result for people: a table, and the units in it.

use std::fmt::Write as _;

use super::report::{Latency, Report};
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
    let requested = count(connections.requested);
    let mut text = if settings.short {
        format!("{} opened, at most {requested} at once", count(connections.opened))
    } else {
        format!("{} of {requested} established", count(connections.established))
    };
    for (number, what) in [(connections.failed, "failed"), (connections.lost, "lost")] {
        if number > 0 {
            let _ = write!(text, ", {} {what}", count(number));
        }
    }
    line("connections", text);
    let messages = &report.messages;
    line(
        "messages",
        format!(
            "{} sent, {} ok; lost {}, wrong {}, late {}, duplicate {}",
            count(messages.sent),
            count(messages.ok),
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
            format!("; {} ports of this machine in TIME_WAIT", count(waiting))
        });
        line(
            "closed first",
            format!(
                "by the server {}, by bench {}, reset {}{waiting}",
                count(short.closed_first_by_server),
                count(short.closed_first_by_client),
                count(short.reset)
            ),
        );
    }
    for error in &report.errors {
        let next = error.next_step.as_ref().map_or_else(String::new, |step| format!("; {step}"));
        line(
            "error",
            format!("{} {} {}: {}{next}", error.phase, error.call, error.errno, count(error.count)),
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
    let chars = |text: &str| text.chars().count();
    let Some((name, text)) = line.split_at_checked(INDENT).filter(|_| chars(line) > WIDTH) else {
        return format!("{line}\n");
    };
    let (mut out, mut width) = (name.to_owned(), INDENT);
    for (nth, word) in text.split(' ').enumerate() {
        if nth > 0 && width + 1 + chars(word) > WIDTH {
            let _ = write!(out, "\n{:INDENT$}", "");
            width = INDENT;
        } else if nth > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += chars(word);
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
    format!("{place}, {}{whose}", settings.service)
}

fn load(report: &Report) -> String {
    let settings = &report.settings;
    let mut text = format!("{} connections", count(settings.connections));
    if settings.idle > 0 {
        let _ = write!(text, " and {} idle", count(settings.idle));
    }
    if settings.short {
        text.push_str(" at once, a new one for each request");
    } else {
        let _ = write!(text, ", {} in flight on each", settings.in_flight);
    }
    let _ = write!(text, ", {} bytes per request", settings.request_bytes);
    match (settings.rate, &settings.arrivals) {
        (Some(rate), Some(arrivals)) => {
            let _ = write!(text, "; open loop, {rate:.0} per second, {arrivals}");
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

/// Nanoseconds with three digits and their unit.
pub(crate) fn duration(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    duration_of(ns as f64)
}

/// The same, of a number with a fraction.
pub(crate) fn duration_of(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// A number with commas between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with their unit.
pub(crate) fn bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = number as f64;
    match number {
        small if small < 1024.0 => format!("{small:.0} B"),
        kib if kib < 1024.0 * 1024.0 => format!("{:.0} KiB", kib / 1024.0),
        mib if mib < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", mib / (1024.0 * 1024.0)),
        gib => format!("{:.2} GiB", gib / (1024.0 * 1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn are_units_chosen_for_people() {
        for (ns, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (123_456, "123 µs"),
            (2_000_000, "2.00 ms"),
            (9_999_000_000, "10.0 s"),
        ] {
            assert_eq!(duration(ns), shown);
        }
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [bytes(10), bytes(2048), bytes(3 << 20), bytes(5 << 30)],
            ["10 B", "2 KiB", "3.0 MiB", "5.00 GiB"]
        );
    }

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
