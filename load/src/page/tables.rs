//! The figures of one run, or of two beside each other.

use std::fmt::Write as _;

use myriapod_machine::figures::{bytes_of as size, duration_of as time, three_digits};

use super::number::count;
use super::words::Rows;
use super::{Run, escaped};
use crate::report::{Latency, Report};

/// Which of two figures is the better one.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Higher,
    Lower,
    Neither,
}

/// A figure that each run has, or has not.
struct Figure {
    name: &'static str,
    of: fn(&Report) -> Option<f64>,
    text: fn(f64) -> String,
    better: Better,
}

#[allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
const FIGURES: [Figure; 8] = [
    Figure {
        name: "messages per second",
        of: |report| Some(report.rate.achieved),
        text: count,
        better: Better::Higher,
    },
    Figure {
        name: "response p50",
        of: |report| answered(report, |latency| latency.p50 as f64),
        text: time,
        better: Better::Lower,
    },
    Figure {
        name: "response p99",
        of: |report| answered(report, |latency| latency.p99 as f64),
        text: time,
        better: Better::Lower,
    },
    Figure {
        name: "response p99.9",
        of: |report| answered(report, |latency| latency.p999 as f64),
        text: time,
        better: Better::Lower,
    },
    Figure {
        name: "connections",
        of: |report| Some(report.connected() as f64),
        text: count,
        better: Better::Neither,
    },
    Figure {
        name: "lost, wrong or late",
        of: |report| {
            let messages = report.messages;
            Some((messages.lost + messages.wrong + messages.late + messages.duplicate) as f64)
        },
        text: count,
        better: Better::Lower,
    },
    Figure {
        name: "server CPU per message",
        of: |report| report.server.as_ref()?.cpu_us_per_message,
        text: micros,
        better: Better::Lower,
    },
    Figure {
        name: "server memory per connection",
        of: |report| report.server.as_ref()?.rss_bytes_per_connection,
        text: size,
        better: Better::Lower,
    },
];

fn answered(report: &Report, of: fn(&Latency) -> f64) -> Option<f64> {
    let response = &report.latency_ns.response;
    (response.count > 0).then(|| of(response))
}

fn micros(us: f64) -> String {
    format!("{} µs", three_digits(us))
}

/// The figures that matter most, large.
pub(super) fn tiles(runs: &[Run<'_>]) -> String {
    let mut out = String::from("<dl class=\"tiles\">\n");
    for figure in &FIGURES {
        let values: Vec<_> = runs.iter().map(|run| (figure.of)(run.report)).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(out, "<div class=\"tile\"><dt>{}</dt>", figure.name);
        let texts = values.iter().map(|value| value.map_or("–".to_owned(), figure.text));
        match runs {
            [run] => {
                let texts: Vec<_> = texts.collect();
                let text = texts.concat();
                // The unit smaller than its number.
                let text = match text.split_once(' ') {
                    Some((number, unit)) => format!("{number} <small>{}</small>", escaped(unit)),
                    None => text,
                };
                let _ = write!(out, "<dd>{text}</dd>");
                if let Some(aside) = aside(figure.name, run.report) {
                    let _ = write!(out, "<p>{}</p>", escaped(&aside));
                }
            }
            _ => {
                for (run, text) in runs.iter().zip(texts) {
                    let (class, text) = (run.class, escaped(&text));
                    let _ =
                        write!(out, "<dd class=\"two\"><i class=\"key {class}\"></i>{text}</dd>");
                }
                if let [Some(one), Some(other)] = values[..] {
                    let _ = write!(out, "<p>{}</p>", change(one, other, figure.better));
                }
            }
        }
        out.push_str("</div>\n");
    }
    out.push_str("</dl>\n");
    out
}

/// How a figure of B differs from that of A.
fn change(one: f64, other: f64, better: Better) -> String {
    if one == other {
        return "the same".to_owned();
    }
    if one == 0.0 {
        return "none in A".to_owned();
    }
    let percent = (other / one - 1.0) * 100.0;
    let class = match (better, percent > 0.0) {
        (Better::Neither, _) => "",
        (Better::Higher, true) | (Better::Lower, false) => "better",
        _ => "worse",
    };
    let sign = if percent > 0.0 { "+" } else { "−" };
    format!("<span class=\"{class}\">B: {sign}{} %</span>", three_digits(percent.abs()))
}

/// What stands small below a figure.
fn aside(name: &str, report: &Report) -> Option<String> {
    match name {
        "messages per second" => match report.settings.rate {
            Some(rate) => Some(format!("of {} asked for", count(rate))),
            None => Some(format!("{} in flight on each connection", report.settings.in_flight)),
        },
        "response p99.9" => {
            let slowest = report.latency_ns.response.max;
            #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
            let slowest = time(slowest as f64);
            Some(format!("slowest {slowest}"))
        }
        "connections" => {
            let connections = &report.connections;
            match connections.requested {
                requested if report.settings.short => Some(format!(
                    "at most {} at once",
                    myriapod_machine::figures::grouped(requested)
                )),
                requested if requested == connections.established => {
                    Some("all asked for".to_owned())
                }
                requested => {
                    Some(format!("of {} asked for", myriapod_machine::figures::grouped(requested)))
                }
            }
        }
        "lost, wrong or late" => {
            Some(format!("of {} sent", myriapod_machine::figures::grouped(report.messages.sent)))
        }
        "server CPU per message" => {
            let server = report.server.as_ref()?;
            let (user, system) = (server.user_us_per_message?, server.system_us_per_message?);
            Some(format!("{} user, {} system", micros(user), micros(system)))
        }
        "server memory per connection" => Some("resident, the kernel's own left out".to_owned()),
        _ => None,
    }
}

/// All percentiles of both latencies, of each run.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn latencies(runs: &[Run<'_>]) -> String {
    let mut head = String::from("<tr><th></th>");
    let mut columns: Vec<&Latency> = Vec::new();
    for run in runs {
        let name = if runs.len() > 1 { format!("{} ", run.name) } else { String::new() };
        let _ = write!(head, "<th>{name}service</th><th>{name}response</th>");
        columns.extend([&run.report.latency_ns.service, &run.report.latency_ns.response]);
    }
    head.push_str("</tr>");
    type Row = (&'static str, fn(&Latency) -> f64);
    let rows: [Row; 8] = [
        ("least", |latency| latency.min as f64),
        ("mean", |latency| latency.mean),
        ("p50", |latency| latency.p50 as f64),
        ("p90", |latency| latency.p90 as f64),
        ("p99", |latency| latency.p99 as f64),
        ("p99.9", |latency| latency.p999 as f64),
        ("p99.99", |latency| latency.p9999 as f64),
        ("most", |latency| latency.max as f64),
    ];
    let mut body = String::new();
    for (name, value) in rows {
        let _ = write!(body, "<tr><th>{name}</th>");
        for latency in &columns {
            let text = if latency.count > 0 { time(value(latency)) } else { "–".to_owned() };
            let _ = write!(body, "<td>{text}</td>");
        }
        body.push_str("</tr>\n");
    }
    section(
        "Latency",
        "",
        &format!(
            "<div class=\"scroll\"><table class=\"figures\"><thead>{head}</thead>\n<tbody>{body}</tbody></table></div>"
        ),
    )
}

/// A card with a heading.
pub(super) fn section(title: &str, class: &str, content: &str) -> String {
    format!("<section class=\"card {class}\"><h2>{title}</h2>\n{content}</section>\n")
}

/// A table of what each run says by name; rows in which no run says anything are left out.
pub(super) fn pairs(title: &str, runs: &[Run<'_>], rows: fn(&Report) -> Rows) -> String {
    let columns: Vec<_> = runs.iter().map(|run| rows(run.report)).collect();
    let Some(first) = columns.first() else { return String::new() };
    let mut body = String::new();
    for (nth, (name, _)) in first.iter().enumerate() {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| column.get(nth).and_then(|(_, text)| text.as_ref()))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(body, "<tr><th>{name}</th>");
        for cell in cells {
            let _ = write!(body, "<td>{}</td>", cell.map_or("–".to_owned(), |text| escaped(text)));
        }
        body.push_str("</tr>\n");
    }
    let mut head = String::new();
    if runs.len() > 1 {
        head.push_str("<thead><tr><th></th>");
        for run in runs {
            let _ = write!(head, "<th><i class=\"key {}\"></i> {}</th>", run.class, run.name);
        }
        head.push_str("</tr></thead>");
    }
    section(title, "", &format!("<table class=\"pairs\">{head}<tbody>{body}</tbody></table>"))
}
