//! The counts of event loops, and of a load, in Prometheus' text format.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;

use myriapod::protocol::Fault;
use myriapod::proxy_protocol::Refusal;
use myriapod::sys::Listener;
use myriapod::{Cause, CountKind, Handle, NamedCounts, ServersStats, Stats};

use crate::failure::Failure;
use crate::http::{Answer, Site};
use crate::units::Place;

/// Serves what `of` says at this place and with this listener; `more` has further metrics.
///
/// # Errors
///
/// A place where nobody can listen.
pub(crate) fn serve(
    place: Option<Place>,
    listener: Option<Listener>,
    of: Handle,
    more: impl Fn() -> String + Send + 'static,
) -> Result<Site, Failure> {
    let pages = move |path: &str| match path {
        "/metrics" => match of.stats() {
            Ok(loops) => metrics(exposition(&loops.into()) + &more()),
            Err(error) => {
                Answer::Whole("503 Service Unavailable", "text/plain", format!("{error}\n"))
            }
        },
        _ => not_found("see /metrics\n"),
    };
    Site::start("metrics", place, listener, Box::new(pages))
}

/// A text of metrics.
pub(crate) const fn metrics(text: String) -> Answer {
    Answer::Whole("200 OK", "text/plain; version=0.0.4", text)
}

/// Nothing is there.
pub(crate) fn not_found(text: &str) -> Answer {
    Answer::Whole("404 Not Found", "text/plain", text.to_owned())
}

/// Counts whose names are those of faults.
type Named = (&'static str, &'static str, fn(&Stats) -> &NamedCounts);

const NAMED: [Named; 2] = [
    ("handshake_faults", "Handshakes that failed, by fault.", |stats| &stats.handshake_faults),
    ("link_faults", "Faults of secure connections, by name.", |stats| &stats.link_faults),
];

/// The counts of all loops as text.
fn exposition(all: &ServersStats) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    for count in Stats::COUNTS {
        let loops = all.loops().iter().enumerate();
        let samples =
            loops.map(|(nth, stats)| (format!("{{loop=\"{nth}\"}}"), count.of(stats).to_string()));
        let (kind, ending) = match count.kind {
            CountKind::Counter => ("counter", "_total"),
            _ => ("gauge", ""),
        };
        let name = format!("myriapod_{}{ending}", count.metric);
        family(&name, kind, count.help(), &samples.collect::<Vec<_>>());
    }
    let labelled = |label: &str, names: &[&str], count: &dyn Fn(&Stats, usize) -> u64| {
        let mut samples = Vec::new();
        for (nth, stats) in all.loops().iter().enumerate() {
            for (at, name) in names.iter().enumerate() {
                let labels = format!("{{loop=\"{nth}\",{label}=\"{name}\"}}");
                samples.push((labels, count(stats, at).to_string()));
            }
        }
        samples
    };
    let causes = Cause::ALL.map(Cause::name);
    let closed =
        labelled("cause", &causes, &|stats, at| stats.closed.get(at).copied().unwrap_or(0));
    family("myriapod_closed_total", "counter", "Connections closed, by cause.", &closed);
    let refusals = Refusal::ALL.map(Refusal::name);
    let refused = labelled("cause", &refusals, &|stats, at| {
        stats.refused_by_proxy.get(at).copied().unwrap_or(0)
    });
    let help = "Sockets refused for their PROXY headers, or the lack of one, by cause.";
    family("myriapod_refused_by_proxy_total", "counter", help, &refused);
    let faults: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    let faults =
        labelled("fault", &faults, &|stats, at| stats.faults.get(at).copied().unwrap_or(0));
    family("myriapod_faults_total", "counter", "Faults in what peers sent, by kind.", &faults);
    for (name, help, of) in NAMED {
        let mut samples = Vec::new();
        for (nth, stats) in all.loops().iter().enumerate() {
            let sample = |(fault, count): (&str, u64)| {
                (format!("{{loop=\"{nth}\",fault=\"{fault}\"}}"), count.to_string())
            };
            samples.extend(of(stats).iter().map(sample));
        }
        if !samples.is_empty() {
            family(&format!("myriapod_{name}_total"), "counter", help, &samples);
        }
    }
    let imbalance = [(String::new(), all.imbalance().to_string())];
    let help = "Most messages of one loop by their mean over all loops.";
    family("myriapod_imbalance_ratio", "gauge", help, &imbalance);
    text
}
