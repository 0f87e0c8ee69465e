//! The result as a page: one file that needs nothing else, neither network nor fonts.
//!
//! The page's own parts are `page.html`, `page.css` and `page.js` beside this; charts are drawn
//! here, so that they are there without any script.

mod chart;
mod charts;
mod number;
mod scale;
mod tables;
mod words;

use std::fmt::Write as _;

use self::tables::section;
use crate::report::Report;

/// A run on a page.
struct Run<'a> {
    /// `A` or `B`, where there are two.
    name: &'static str,
    report: &'a Report,
    /// The class of its lines.
    class: &'static str,
    /// That of its lesser lines.
    soft_class: &'static str,
}

/// The style of the page, which others of ours share.
pub const STYLE: &str = include_str!("page.css");

/// What a run came to.
#[must_use]
pub fn page(report: &Report) -> String {
    let runs = [Run { name: "", report, class: "a", soft_class: "a2" }];
    document("myriapod bench", &words::headline(report), &runs)
}

/// Two runs side by side.
#[must_use]
pub fn comparison(one: &Report, other: &Report) -> String {
    let runs = [
        Run { name: "A", report: one, class: "a", soft_class: "a2" },
        Run { name: "B", report: other, class: "b", soft_class: "b2" },
    ];
    document("myriapod bench, two runs", &words::difference(one, other), &runs)
}

fn document(title: &str, headline: &str, runs: &[Run<'_>]) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ =
        write!(body, "<header><p class=\"brand\">{title}</p>\n<h1>{}</h1>\n", escaped(headline));
    for run in runs {
        let name = if runs.len() > 1 { key(run) } else { String::new() };
        let _ = writeln!(body, "<p class=\"sub\">{name}{}</p>", escaped(&words::job(run.report)));
    }
    for run in runs {
        let name = if runs.len() > 1 { key(run) } else { String::new() };
        let (class, text) = words::verdict(run.report);
        let _ = writeln!(body, "<p class=\"verdict {class}\">{name}{}</p>", escaped(&text));
    }
    for run in runs {
        let command = escaped(&run.report.command.join(" "));
        let _ = writeln!(body, "<code class=\"command\">$ myriapod {command}</code>");
    }
    body.push_str("</header>\n");
    body.push_str(&tables::tiles(runs));
    for run in runs {
        body.push_str(&trouble(run, runs.len() > 1));
    }
    body.push_str("<div class=\"grid\">\n");
    for chart in charts::charts(runs) {
        body.push_str(&chart.figure());
    }
    body.push_str("</div>\n<div class=\"grid\">\n");
    body.push_str(&tables::latencies(runs));
    body.push_str(&tables::pairs("Messages", runs, words::messages));
    body.push_str(&tables::pairs("Phases", runs, words::phases));
    body.push_str(&tables::pairs("Server", runs, words::server));
    body.push_str(&tables::pairs("Settings", runs, words::settings));
    body.push_str(&tables::pairs("Machine and noise", runs, words::machine));
    for run in runs {
        body.push_str(&rates_tried(run));
    }
    body.push_str("</div>\n");
    let versions: Vec<_> = runs.iter().map(|run| run.report.version.as_str()).collect();
    let _ = writeln!(
        body,
        "<footer>myriapod {}. This page is one file: it loads nothing and tells nobody.</footer>",
        escaped(&versions.join(" and "))
    );
    include_str!("page.html")
        .replace("{{title}}", &escaped(&format!("{headline} – {title}")))
        .replace("{{style}}", STYLE)
        .replace("{{script}}", include_str!("page.js"))
        // Last, since what it holds comes from elsewhere.
        .replacen("{{body}}", &body, 1)
}

fn key(run: &Run<'_>) -> String {
    format!("<i class=\"key {}\"></i> {}: ", run.class, run.name)
}

/// Warnings, errors and thresholds, where there are any.
fn trouble(run: &Run<'_>, named: bool) -> String {
    let of = |what: &str| if named { format!("{what} of {}", run.name) } else { what.to_owned() };
    let report = run.report;
    let mut out = String::new();
    if !report.warnings.is_empty() {
        let items = report.warnings.iter().map(|text| format!("<li>{}</li>\n", escaped(text)));
        let list = format!("<ul class=\"plain\">{}</ul>", items.collect::<String>());
        out.push_str(&section(&of("Warnings"), "wide warnings", &list));
    }
    if !report.errors.is_empty() {
        let items = report.errors.iter().map(|error| {
            let times = myriapod_machine::figures::grouped(error.count);
            let what = escaped(&format!("{} {}", error.call, error.errno));
            let next_step = error.next_step.as_deref().unwrap_or_default();
            let next_step = if next_step.is_empty() {
                String::new()
            } else {
                format!("<br>{}", escaped(next_step))
            };
            let phase = escaped(&error.phase);
            format!("<li><b>{times} × {what}</b> in the {phase} phase{next_step}</li>\n")
        });
        let list = format!("<ul class=\"plain\">{}</ul>", items.collect::<String>());
        out.push_str(&section(&of("Errors"), "wide errors", &list));
    }
    if !report.thresholds.is_empty() {
        let mut items = String::new();
        for threshold in &report.thresholds {
            let class = if threshold.met { "better" } else { "worse" };
            let text = escaped(&words::threshold(threshold));
            let _ = writeln!(items, "<li class=\"{class}\">{text}</li>");
        }
        let list = format!("<ul class=\"plain\">{items}</ul>");
        out.push_str(&section(&of("Thresholds"), "wide", &list));
    }
    out
}

/// What a search for the highest rate tried.
fn rates_tried(run: &Run<'_>) -> String {
    if run.report.find_rate.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for tried in &run.report.find_rate {
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let p99 = myriapod_machine::figures::duration_of(tried.p99_ns as f64);
        let (class, met) = if tried.met { ("better", "met") } else { ("worse", "missed") };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{p99}</td><td class=\"{class}\">{met}</td></tr>",
            number::count(tried.offered),
            number::count(tried.achieved)
        );
    }
    let table = format!(
        "<div class=\"scroll\"><table><thead><tr><th>asked for</th><th>achieved</th><th>p99</th>\
         <th></th></tr></thead><tbody>{rows}</tbody></table></div>"
    );
    section(&format!("Rates tried {}", run.name), "", &table)
}

/// Text of others, so that it stays text between tags and within quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests;
