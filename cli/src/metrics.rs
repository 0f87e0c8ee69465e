//! The counts of event loops, and of a load, in Prometheus' text format.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;

use myriapod::protocol::Fault;
use myriapod::proxy_protocol::Refusal;
use myriapod::sys::Listener;
use myriapod::{Cause, Handle, ServersStats, Stats};

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

/// A count of one loop under its name.
type Series = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTERS: [Series; 30] = [
    ("accepted", "Connections accepted and served.", |stats| stats.accepted),
    ("connected", "Connections made from here.", |stats| stats.connected),
    ("taken_over", "Connections taken over from another process.", |stats| stats.taken_over),
    ("messages", "Whole messages received.", |stats| stats.messages),
    ("replies", "Replies encoded, error replies included.", |stats| stats.replies),
    ("received_bytes", "Bytes received.", |stats| stats.bytes_in),
    ("sent_bytes", "Bytes handed to the system for sending.", |stats| stats.bytes_out),
    ("handler_errors", "Messages that the handler could not answer.", |stats| stats.handler_errors),
    ("truncated", "Messages cut short by the end of their connection.", |stats| stats.truncated),
    ("discarded_received_bytes", "Bytes received and dropped.", |stats| stats.discarded_in),
    ("discarded_sent_bytes", "Bytes of replies not delivered.", |stats| stats.discarded_out),
    ("short_writes", "Sends of which the system took a part.", |stats| stats.short_writes),
    ("paused_reads", "Times that reading paused at the high-water mark.", |stats| {
        stats.paused_reads
    }),
    ("stale_events", "Events for connections that were gone.", |stats| stats.stale_events),
    ("wakeups", "Waits that returned.", |stats| stats.wakeups),
    ("events", "Events that waits returned.", |stats| stats.events),
    ("accept_errors", "Passing errors of accept.", |stats| stats.accept_errors),
    (
        "accept_pauses",
        "Times that accepting paused because descriptors or memory ran out.",
        |stats| stats.accept_pauses,
    ),
    ("turned_away", "Peers closed at once because no descriptor was free.", |stats| {
        stats.turned_away
    }),
    ("refused_messages", "Messages refused, since all buffers were full.", |stats| {
        stats.refused_messages
    }),
    ("streams_in", "Contents received in pieces.", |stats| stats.streams_in),
    ("streams_out", "Contents read when there was room.", |stats| stats.streams_out),
    ("refused_streams", "Contents not streamed: too long, or too many.", |stats| {
        stats.refused_streams
    }),
    ("broken_streams", "Streamed contents that ended before their length.", |stats| {
        stats.broken_streams
    }),
    ("gave_way", "Connections whose buffers were taken away for others.", |stats| stats.gave_way),
    ("refused_by_address", "Peers refused by the limit of their address.", |stats| {
        stats.refused_by_address
    }),
    ("handed_over", "Peers accepted here and served by another loop.", |stats| stats.handed_over),
    ("pushes", "Messages pushed to connections.", |stats| stats.pushes),
    ("dropped_pushes", "Pushed messages that were dropped.", |stats| stats.dropped_pushes),
    ("missed", "Requests about connections that were gone.", |stats| stats.missed),
];

const GAUGES: [Series; 5] = [
    ("open_connections", "Connections open now.", |stats| stats.open),
    ("groups", "Groups that have members now.", |stats| stats.groups),
    ("pool_bytes", "Capacity of the buffers that connections hold now.", |stats| stats.pool_bytes),
    ("pool_buffers", "Buffers that connections hold now.", |stats| stats.pool_buffers),
    ("timers", "Timers that are running now.", |stats| stats.timers),
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
    let each = |count: fn(&Stats) -> u64| -> Vec<(String, String)> {
        let loops = all.loops().iter().enumerate();
        loops
            .map(|(nth, stats)| (format!("{{loop=\"{nth}\"}}"), count(stats).to_string()))
            .collect()
    };
    for (name, help, count) in COUNTERS {
        family(&format!("myriapod_{name}_total"), "counter", help, &each(count));
    }
    for (name, help, gauge) in GAUGES {
        family(&format!("myriapod_{name}"), "gauge", help, &each(gauge));
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
    let imbalance = [(String::new(), all.imbalance().to_string())];
    let help = "Most messages of one loop by their mean over all loops.";
    family("myriapod_imbalance_ratio", "gauge", help, &imbalance);
    text
}
