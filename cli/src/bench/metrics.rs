//! `bench --metrics`: what is counted, while it runs.
//!
//! Format: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use myriapod_load::{Now, Snapshot};

use crate::failure::Failure;
use crate::http::{Answer, Site};
use crate::metrics::not_found;
use crate::terminal::tell;
use crate::units::Place;

/// A site with the counts of the last second.
pub(super) struct Metrics {
    site: Site,
    text: Arc<Mutex<String>>,
}

impl Metrics {
    /// # Errors
    ///
    /// A place where nobody can listen.
    pub(super) fn start(place: &Place) -> Result<Self, Failure> {
        let text = Arc::new(Mutex::new(END.to_owned()));
        let shown = Arc::clone(&text);
        let pages = move |path: &str| match path {
            "/metrics" => {
                let text = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Answer::Whole("200 OK", "application/openmetrics-text; version=1.0.0", text)
            }
            _ => not_found("see /metrics\n"),
        };
        let site = Site::start("metrics", Some(place.clone()), None, Box::new(pages))?;
        for address in &site.addresses {
            tell(format_args!("metrics at http://{address}/metrics"));
        }
        Ok(Self { site, text })
    }

    /// A second is over.
    pub(super) fn second(&self, now: &Now<'_>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = exposition(now);
    }

    /// # Errors
    ///
    /// A thread that has failed.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.site.stop()
    }
}

const END: &str = "# EOF\n";

/// A count under its name.
type Series = (&'static str, &'static str, fn(&Snapshot) -> u64);

const COUNTERS: [Series; 12] = [
    ("messages_sent", "Requests handed to the kernel.", |now| now.messages.sent),
    ("messages_ok", "Requests answered rightly and in time.", |now| now.messages.ok),
    ("messages_lost", "Requests never answered.", |now| now.messages.lost),
    ("messages_wrong", "Wrong replies.", |now| now.messages.wrong),
    ("messages_late", "Right replies after the timeout.", |now| now.messages.late),
    ("messages_duplicate", "Replies that nobody asked for.", |now| now.messages.duplicate),
    ("connections_opened", "Connections ever made.", |now| now.opened),
    ("connections_failed", "Attempts to connect that failed.", |now| now.failed),
    ("connections_lost", "Connections that ended too early.", |now| now.lost),
    ("slow_connections_closed", "Slow ones closed by the server.", |now| now.slow_closed),
    ("sent_bytes", "Bytes sent.", |now| now.bytes.sent),
    ("received_bytes", "Bytes received.", |now| now.bytes.received),
];

const GAUGES: [Series; 3] = [
    ("connections_open", "Connections open now.", |now| now.open),
    ("connections_opening", "Connections being opened.", |now| now.connecting),
    ("messages_outstanding", "Requests that wait for their answer.", |now| now.waiting),
];

fn exposition(now: &Now<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (name, help, of) in COUNTERS {
        let name = format!("myriapod_bench_{name}");
        let _ = writeln!(text, "# TYPE {name} counter\n# HELP {name} {help}");
        let _ = writeln!(text, "{name}_total {}", of(now.snapshot));
    }
    for (name, help, of) in GAUGES {
        let name = format!("myriapod_bench_{name}");
        let _ = writeln!(text, "# TYPE {name} gauge\n# HELP {name} {help}");
        let _ = writeln!(text, "{name} {}", of(now.snapshot));
    }
    let name = "myriapod_bench_rate";
    let _ = writeln!(text, "# TYPE {name} gauge\n# HELP {name} Right answers in the last second.");
    let _ = writeln!(text, "{name} {:.3}", now.point.rate);
    let name = "myriapod_bench_response_seconds";
    let _ = writeln!(text, "# TYPE {name} gauge\n# UNIT {name} seconds");
    let _ = writeln!(text, "# HELP {name} Response times in the last second.");
    for (quantile, ns) in [("0.5", now.point.p50_ns), ("0.99", now.point.p99_ns)] {
        if let Some(ns) = ns {
            #[expect(clippy::cast_precision_loss, reason = "a time")]
            let seconds = ns as f64 / 1e9;
            let _ = writeln!(text, "{name}{{quantile=\"{quantile}\"}} {seconds:.9}");
        }
    }
    let name = "myriapod_bench_errors";
    let _ = writeln!(text, "# TYPE {name} counter\n# HELP {name} Errors by phase and call.");
    for (phase, call, errno, count) in now.snapshot.errors() {
        let errno: String =
            errno.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
        let _ = writeln!(
            text,
            "{name}_total{{phase=\"{phase}\",call=\"{call}\",errno=\"{errno}\"}} {count}"
        );
    }
    text.push_str(END);
    text
}
