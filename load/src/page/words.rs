//! A report in words: headline, verdict, and what tables say.

use myriapod_machine::figures::{bytes, duration as ns, duration_of, grouped, three_digits};

use super::number::count;
use crate::report::{Report, Threshold};

/// Names, and what stands beside them.
pub(super) type Rows = Vec<(&'static str, Option<String>)>;

pub(super) fn headline(report: &Report) -> String {
    let response = &report.latency_ns.response;
    if response.count == 0 {
        return format!("{} connections, no message answered", grouped(report.connected()));
    }
    let rate = count(report.rate.achieved);
    format!("{rate} messages per second, 99 % within {}", ns(response.p99))
}

pub(super) fn difference(one: &Report, other: &Report) -> String {
    let (a, b) = (one.rate.achieved, other.rate.achieved);
    if a <= 0.0 || b <= 0.0 {
        return "Two runs, one of them without an answer".to_owned();
    }
    let ratio = |a: f64, b: f64| if b >= a { (b / a, "more") } else { (a / b, "less") };
    let (times, more) = ratio(a, b);
    let rate = match times {
        times if times < 1.005 => "B answers as many messages per second as A".to_owned(),
        times => format!(
            "B answers {} % {more} messages per second",
            three_digits(match more {
                "more" => (times - 1.0) * 100.0,
                _ => (1.0 - 1.0 / times) * 100.0,
            })
        ),
    };
    let p99 = |report: &Report| ns(report.latency_ns.response.p99);
    format!("{rate}; 99 % within {} (A: {})", p99(other), p99(one))
}

/// What was done, in a line.
pub(super) fn job(report: &Report) -> String {
    let settings = &report.settings;
    let place = match settings.ports[..] {
        [] => settings.host.clone(),
        [port] => format!("{} port {port}", settings.host),
        [first, ..] => {
            format!(
                "{} ports {first} to {}",
                settings.host,
                settings.ports[settings.ports.len() - 1]
            )
        }
    };
    let kind = if settings.loop_kind == "open" { "open loop" } else { "closed loop" };
    format!(
        "{} service on {place}, {kind}, {} connections, {} in flight, {} requests; {}",
        settings.service,
        grouped(settings.connections),
        settings.in_flight,
        bytes(settings.request_bytes),
        date(report.started_unix_s)
    )
}

fn connections(report: &Report) -> String {
    let (connected, requested) = (report.connected(), report.connections.requested);
    let (connected, requested) = (grouped(connected), grouped(requested));
    if report.settings.short {
        format!("{connected} opened, at most {requested} at once")
    } else {
        format!("{connected} of {requested}")
    }
}

/// What came of it: the class of a verdict, and its words.
pub(super) fn verdict(report: &Report) -> (&'static str, String) {
    let missed: Vec<_> =
        report.thresholds.iter().filter(|threshold| !threshold.met).map(threshold).collect();
    let messages = &report.messages;
    let connected = grouped(report.connected());
    match report.exit_status {
        0 => {
            let ok = grouped(messages.ok);
            let text = format!(
                "All {ok} messages on {connected} connections were answered rightly and in time."
            );
            let warned = if report.warnings.is_empty() { "good" } else { "fair" };
            let but = if report.warnings.is_empty() {
                ""
            } else {
                " Read the warnings before you believe the figures."
            };
            (warned, format!("{text}{but}"))
        }
        3 => ("fair", format!("A threshold was missed: {}.", missed.join("; "))),
        _ => {
            let fates = [
                (messages.lost, "lost"),
                (messages.wrong, "wrong"),
                (messages.late, "late"),
                (messages.duplicate, "duplicate"),
            ];
            let mut found: Vec<_> = fates
                .into_iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, fate)| format!("{} {fate}", grouped(number)))
                .collect();
            let connections = &report.connections;
            if report.settings.short && connections.failed > 0 {
                let failed = grouped(connections.failed);
                found.push(format!("{failed} attempts to connect failed"));
            } else if !report.settings.short && connections.established < connections.requested {
                let requested = grouped(connections.requested);
                found.push(format!("{connected} of {requested} connections established"));
            }
            let reason = match report.exit_reason.as_str() {
                "completed" => String::new(),
                reason => format!(" {reason}"),
            };
            let found = if found.is_empty() { "see below".to_owned() } else { found.join(", ") };
            ("bad", format!("Failed: {found}.{reason}"))
        }
    }
}

pub(super) fn threshold(threshold: &Threshold) -> String {
    let is_time = threshold.name.ends_with("_ns");
    let text = |value: f64| if is_time { duration_of(value) } else { count(value) };
    let (name, word) = match threshold.name.as_str() {
        "max_p99_ns" => ("p99", "at most"),
        "min_rate" => ("messages per second", "at least"),
        other => (other, "against"),
    };
    format!("{name} {}, {word} {} asked for", text(threshold.measured), text(threshold.limit))
}

pub(super) fn messages(report: &Report) -> Rows {
    let messages = &report.messages;
    let some = |number: u64| Some(grouped(number));
    let or_none = |number: u64| (number > 0).then(|| grouped(number));
    let rate = |rate: f64| Some(format!("{} per second", count(rate)));
    vec![
        ("sent", some(messages.sent)),
        ("answered rightly and in time", some(messages.ok)),
        ("lost", some(messages.lost)),
        ("wrong", some(messages.wrong)),
        ("late", some(messages.late)),
        ("duplicate", some(messages.duplicate)),
        ("due but not sent", or_none(messages.unsent)),
        ("offered", rate(report.rate.offered)),
        ("achieved", rate(report.rate.achieved)),
        (
            "bytes",
            Some(format!(
                "{} sent, {} received",
                bytes(report.bytes.sent),
                bytes(report.bytes.received)
            )),
        ),
        (
            "connections",
            Some(format!(
                "{}, {} failed, {} lost",
                connections(report),
                grouped(report.connections.failed),
                grouped(report.connections.lost)
            )),
        ),
        (
            "closed first",
            report.short.map(|short| {
                format!(
                    "by the server {}, by the client {}, by a reset {}; {} ports wait in TIME_WAIT",
                    grouped(short.closed_first_by_server),
                    grouped(short.closed_first_by_client),
                    grouped(short.reset),
                    short.time_wait.map_or("unknown".to_owned(), grouped)
                )
            }),
        ),
        (
            "handshakes of TLS",
            report.tls.as_ref().map(|tls| {
                format!(
                    "{} full, {} resumed; half within {}, 99 % within {}; {}",
                    grouped(tls.full),
                    grouped(tls.resumed),
                    ns(tls.handshake_ns.p50),
                    ns(tls.handshake_ns.p99),
                    tls.suite
                )
            }),
        ),
        ("checked", Some(report.settings.verification.clone())),
    ]
}

pub(super) fn phases(report: &Report) -> Rows {
    let names = ["ramp", "hold", "warmup", "run", "close"];
    let text = |name: &str| {
        let phase = report.phases.iter().find(|phase| phase.name == name)?;
        Some(format!("{:.1} s: {}", phase.seconds, phase.summary))
    };
    names.into_iter().map(|name| (name, text(name))).collect()
}

pub(super) fn server(report: &Report) -> Rows {
    let Some(server) = &report.server else {
        return vec![("what it used", None), ("pids", None)];
    };
    let micros = |us: Option<f64>| us.map(|us| format!("{} µs", three_digits(us)));
    let pids: Vec<_> = server.pids.iter().take(8).map(u32::to_string).collect();
    let switches = |number: Option<f64>| number.map(|number| format!("{number:.4} per message"));
    vec![
        ("processor time per message", micros(server.cpu_us_per_message)),
        ("in user space", micros(server.user_us_per_message)),
        ("in the kernel", micros(server.system_us_per_message)),
        ("processors kept busy", Some(format!("{:.2}", server.cpus))),
        ("waits (context switches)", switches(server.voluntary_switches_per_message)),
        ("preempted", switches(server.involuntary_switches_per_message)),
        ("memory before", Some(bytes(server.rss_bytes_before))),
        ("memory holding connections", Some(bytes(server.rss_bytes_hold))),
        ("memory at the end", Some(bytes(server.rss_bytes_run))),
        (
            "memory per connection",
            server.rss_bytes_per_connection.map(|bytes| format!("{bytes:.1} bytes")),
        ),
        ("may run on processors", server.cpus_allowed.clone()),
        ("pids", Some(pids.join(", "))),
    ]
}

pub(super) fn settings(report: &Report) -> Rows {
    let settings = &report.settings;
    let seconds = |seconds: f64| format!("{} s", trimmed(seconds));
    let whether = |on: bool| on.then(|| "yes".to_owned());
    let server = if settings.embedded { "started by bench" } else { "started by somebody else" };
    vec![
        ("host", Some(settings.host.clone())),
        ("server", Some(server.to_owned())),
        ("service", Some(settings.service.clone())),
        ("framing", Some(settings.framing.clone()).filter(|framing| !framing.is_empty())),
        ("connections", Some(grouped(settings.connections))),
        ("idle ones besides", (settings.idle > 0).then(|| grouped(settings.idle))),
        ("in flight on each", Some(settings.in_flight.to_string())),
        ("content", Some(bytes(settings.content_bytes))),
        ("request on the wire", Some(bytes(settings.request_bytes))),
        ("loop", Some(settings.loop_kind.clone())),
        (
            "rate asked for",
            settings.rate.map(|rate| {
                format!(
                    "{} per second, {}",
                    count(rate),
                    settings.arrivals.as_deref().unwrap_or("constant")
                )
            }),
        ),
        ("recording", settings.replay.clone()),
        ("times as fast", settings.speed.map(|speed| speed.to_string())),
        ("messages asked for", settings.messages.map(grouped)),
        ("duration", settings.duration_s.map(seconds)),
        ("warm-up, left out", Some(seconds(settings.warmup_s))),
        ("held idle for", Some(seconds(settings.hold_s))),
        (
            "ramp",
            Some(settings.ramp.map_or("as fast as accepted".to_owned(), |rate| {
                format!("{} per second", count(rate))
            })),
        ),
        ("late after", Some(seconds(settings.timeout_s))),
        ("a connection for each request", whether(settings.short)),
        ("threads, processes", Some(format!("{}, {}", settings.threads, settings.processes))),
        (
            "source addresses",
            (!settings.sources.is_empty()).then(|| {
                let shown = settings.sources.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
                match settings.sources.len() {
                    few if few <= 3 => shown,
                    many => format!("{shown} and {} more", many - 3),
                }
            }),
        ),
        ("threads pinned", whether(settings.pin)),
    ]
}

pub(super) fn machine(report: &Report) -> Rows {
    let (machine, noise) = (&report.machine, &report.noise);
    let percent = |percent: Option<f64>| percent.map(|percent| format!("{percent:.2} %"));
    vec![
        ("system", Some(machine.kernel.clone().unwrap_or_else(|| machine.os.clone()))),
        ("processor", machine.cpu_model.clone()),
        ("processors", Some(machine.cpus.to_string())),
        ("memory", machine.memory_bytes.map(bytes)),
        ("clock", machine.clock_source.clone()),
        ("clock's smallest step", Some(ns(noise.clock_step_ns))),
        ("processor time stolen by the host", percent(noise.steal_percent)),
        ("used by other programs", percent(noise.others_percent)),
        (
            "bench's busiest thread",
            Some(format!("{:.0} % of a processor", noise.busiest_thread * 100.0)),
        ),
        ("bench's own delay, p99", noise.send_delay_p99_ns.map(ns)),
        (
            "spread of the seconds' rates",
            noise.rate_deviation.map(|deviation| format!("{:.1} %", deviation * 100.0)),
        ),
    ]
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment in coordinated universal time: `2026-11-25 03:15 UTC`.
fn date(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant's way, from days since 1970 to a date of the civil calendar: years begin in
    // March, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + next;
    let (hour, minute) = (seconds / 3_600, seconds % 3_600 / 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn are_dates_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59 UTC"),
        ] {
            assert_eq!(date(unix_s), text);
        }
    }
}
