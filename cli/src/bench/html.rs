//! The result as a page: one file that needs nothing else.

use std::fmt::Write as _;

use super::report::Report;

/// What a run came to.
pub(crate) fn page(report: &Report) -> String {
    document(&[("run", report)])
}

/// Two runs side by side.
pub(crate) fn comparison(one: &Report, other: &Report) -> String {
    document(&[("A", one), ("B", other)])
}

fn document(runs: &[(&str, &Report)]) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: &dyn Fn(&Report) -> String| {
        let _ = write!(rows, "<tr><th>{name}</th>");
        for (_, run) in runs {
            let _ = write!(rows, "<td>{}</td>", escaped(&value(run)));
        }
        rows.push_str("</tr>\n");
    };
    row("messages per second", &|run| format!("{:.0}", run.rate.achieved));
    row("response p99, ns", &|run| run.latency_ns.response.p99.to_string());
    row("ended", &|run| run.exit_reason.clone());
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>myriapod bench</title>\n\
         <table>\n{rows}</table>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
