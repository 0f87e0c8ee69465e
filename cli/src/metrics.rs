//! `serve --metrics`: the counts of all event loops over HTTP, in Prometheus' text format.
//!
//! A server of our own with another framing. Format:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use myriapod::protocol::{
    Decoded, EncodeError, Fault, Frame, Framing, Head, Input, Mark, Message, ProtocolError, Raw,
};
use myriapod::proxy_protocol::Refusal;
use myriapod::sys::{self, JoinHandle, Listener};
use myriapod::{
    Cause, Error, Handle, HandlerResult, Limits, LogEvent, Reply, Server, ServersStats, SocketAddr,
    Stats,
};

use crate::failure::Failure;
use crate::terminal::tell;
use crate::units::Place;

/// Bytes of a request; whatever is longer is refused.
const MAX_REQUEST: usize = 8 << 10;

/// How long a peer may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server of metrics on a thread of its own.
pub(crate) struct Metrics {
    /// Where it listens: a name may have several addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    handle: Handle,
    thread: JoinHandle<Result<(), Error>>,
}

impl Metrics {
    /// Serves what `of` says at these places and with this listener.
    pub(crate) fn start(
        place: Option<Place>,
        listener: Option<Listener>,
        of: Handle,
    ) -> Result<Self, Failure> {
        let (started, told) = mpsc::channel();
        let thread = sys::spawn("metrics", move || {
            let limits = Limits {
                max_connections: Some(32),
                max_header_len: MAX_REQUEST,
                max_content_len: MAX_REQUEST,
                // A peer that sends nothing gives way to one that asks, at the latest when its
                // time is over.
                shed_idle: Some(Duration::from_secs(1)),
                header_timeout: PATIENCE,
                idle_timeout: PATIENCE,
                write_timeout: PATIENCE,
                // Nobody who asks for metrics keeps a stop waiting.
                drain_timeout: Duration::from_secs(1),
                ..Limits::default()
            };
            let mut builder = Server::builder();
            if let Some(Place { host, port }) = &place {
                builder = builder.listen(host, *port);
            }
            if let Some(listener) = listener {
                builder = builder.listener(listener);
            }
            let builder = builder.limits(limits).log(|event| {
                if matches!(event, LogEvent::NotListening { .. }) {
                    tell(format_args!("metrics: {event}"));
                }
            });
            let answer =
                move |request: Message<'_>, reply: &mut Reply<'_>| answer(&of, &request, reply);
            let mut server = match builder.build_with(Http, answer) {
                Ok(server) => server,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return Ok(());
                }
            };
            let _ = started.send(Ok((server.addresses().to_vec(), server.handle())));
            server.run().map(drop)
        })?;
        match told.recv() {
            Ok(Ok((addresses, handle))) => Ok(Self { addresses, handle, thread }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::new("the thread for metrics did not start")),
        }
    }

    /// Stops, and waits until the thread has ended.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        let _ = self.handle.shutdown();
        Ok(self.thread.join()?)
    }
}

/// As much of HTTP/1.1 as a request without content needs: it ends with an empty line. Replies are
/// written as they are.
struct Http;

impl Framing for Http {
    type Stream = ();

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let len = input.bytes.len();
        // What was looked at may hold the first three bytes of the empty line.
        let from = input.scanned.saturating_sub(3);
        let unseen = input.bytes.get(from..).unwrap_or_default();
        let end = unseen.windows(4).position(|window| window == b"\r\n\r\n");
        let end = match end {
            Some(at) if from + at + 4 <= MAX_REQUEST => from + at + 4,
            // Too long: the handler says so. It gets no more than the limit of a content.
            _ if len >= MAX_REQUEST => MAX_REQUEST,
            _ => return Ok(Decoded::More { scanned: len, in_content: false }),
        };
        frame.set(0..end, end);
        Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        Raw.begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        Raw.finish(out, mark, head)
    }

    fn error_reply(&mut self, _: &mut Vec<u8>, _: &str, _: &str) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// Answers one request, and closes.
fn answer(of: &Handle, request: &Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    reply.close();
    let head = request.content();
    let (status, kind, body) = match target(head) {
        _ if !head.ends_with(b"\r\n\r\n") => {
            ("431 Request Header Fields Too Large", "text/plain", "too long\n".to_owned())
        }
        None => ("400 Bad Request", "text/plain", "no request of HTTP/1\n".to_owned()),
        Some(("GET" | "HEAD", "/metrics")) => match of.stats() {
            Ok(loops) => ("200 OK", "text/plain; version=0.0.4", exposition(&loops.into())),
            Err(error) => ("503 Service Unavailable", "text/plain", format!("{error}\n")),
        },
        Some(("GET" | "HEAD", _)) => ("404 Not Found", "text/plain", "see /metrics\n".to_owned()),
        Some(_) => ("405 Method Not Allowed", "text/plain", "GET /metrics\n".to_owned()),
    };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         {allow}Connection: close\r\n\r\n",
        body.len()
    );
    if !head.starts_with(b"HEAD ") {
        response.push_str(&body);
    }
    reply.binary("", response.as_bytes())?;
    Ok(())
}

/// Method and path of a request line.
fn target(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    Some((method, target.split_once('?').map_or(target, |(path, _)| path)))
}

/// A count of one loop under its name.
type Series = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTERS: [Series; 25] = [
    ("accepted", "Connections accepted and served.", |stats| stats.accepted),
    ("connected", "Connections made from here.", |stats| stats.connected),
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
    ("accept_pauses", "Times that accepting paused for want of descriptors or memory.", |stats| {
        stats.accept_pauses
    }),
    ("turned_away", "Peers closed at once for want of descriptors.", |stats| stats.turned_away),
    ("refused_messages", "Messages refused, since all buffers were full.", |stats| {
        stats.refused_messages
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
