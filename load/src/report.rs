//! [`Report`]: the result of a run, which is what `--json` writes. `docs/bench-json.md` says it in
//! prose; a test holds the two against each other.
//!
//! Units are in the names: `_ns` nanoseconds, `_s` seconds, `_us` microseconds, `_bytes` bytes.
//! Rates are messages per second. What could not be had is `null`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What [`Report::schema`] says. It grows by one when a reader of the old would misread the new.
pub const SCHEMA: &str = "myriapod-bench/1";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of this program.
    pub version: String,
    /// When it began, in seconds since 1970.
    pub started_unix_s: u64,
    /// The arguments, as they were typed.
    pub command: Vec<String>,
    /// What was asked for, with every default filled in.
    pub settings: Settings,
    /// Where it ran.
    pub machine: Machine,
    /// The process's own: 0 to 3.
    pub exit_status: u8,
    /// Why the run ended: `completed`, or what stopped it and the next step.
    pub exit_reason: String,
    /// How many there were.
    pub connections: Connections,
    /// What became of the requests.
    pub messages: Messages,
    /// What went over the wire.
    pub bytes: Bytes,
    /// How many messages a second.
    pub rate: Rate,
    /// How long answers took.
    pub latency_ns: Latencies,
    /// The percentile curve of each latency.
    pub curve: Curves,
    /// In the order in which they ran.
    pub phases: Vec<Phase>,
    /// One point a second, over all phases.
    pub series: Vec<Second>,
    /// The server's memory while connections were opened and held; empty without a known server.
    pub memory: Vec<MemoryPoint>,
    /// Every error, by phase, call and errno.
    pub errors: Vec<ErrorCount>,
    /// What the server's process used; `null` where it is not known.
    pub server: Option<ServerFigures>,
    /// With `--short`.
    pub short: Option<Short>,
    /// What TLS took; `null` without it.
    pub tls: Option<Tls>,
    /// With `--reconnect`: each storm, in order.
    #[serde(default)]
    pub storms: Vec<Storm>,
    /// What disturbed the measuring.
    pub noise: Noise,
    /// What a reader should know before believing the figures; a sentence each.
    pub warnings: Vec<String>,
    /// The thresholds asked for.
    pub thresholds: Vec<Threshold>,
    /// With `--find-rate`: the rates tried, in order; the figures above are those of the best.
    pub find_rate: Vec<RateTried>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The host as typed, or `127.0.0.1` for the embedded server.
    pub host: String,
    /// The target's ports.
    pub ports: Vec<u16>,
    /// Whether bench started the server itself.
    pub embedded: bool,
    /// `search`, `echo`, `raw`, `padded` or `any`.
    pub service: String,
    /// How messages are framed, as `--framing` names it; empty in a report of before there was that.
    #[serde(default)]
    pub framing: String,
    /// Connections at work.
    pub connections: u64,
    /// Connections that are kept open and silent besides.
    pub idle: u64,
    /// Connections that are slow on purpose besides.
    #[serde(default)]
    pub slow: u64,
    /// Storms after the run.
    #[serde(default)]
    pub reconnect: u64,
    /// Messages outstanding on each connection.
    pub in_flight: u64,
    /// Bytes of content in each request.
    pub content_bytes: u64,
    /// Bytes of a whole request on the wire.
    pub request_bytes: u64,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub loop_kind: String,
    /// Messages per second asked for; `null` in a closed loop.
    pub rate: Option<f64>,
    /// `constant` or `poisson`; `null` in a closed loop.
    pub arrivals: Option<String>,
    /// The file whose requests were sent; `null` where they were made up.
    #[serde(default)]
    pub replay: Option<String>,
    /// With `replay`: how much faster than recorded.
    #[serde(default)]
    pub speed: Option<f64>,
    /// Messages after which the run ends; `null` where time ends it.
    pub messages: Option<u64>,
    /// How long the run lasts; `null` where messages end it.
    pub duration_s: Option<f64>,
    /// How long the load ran before anything was counted.
    pub warmup_s: f64,
    /// How long all connections were held silent.
    pub hold_s: f64,
    /// Connections opened per second; `null` for as fast as the server takes them.
    pub ramp: Option<f64>,
    /// A reply that comes later is late.
    pub timeout_s: f64,
    /// A connection for each request.
    pub short: bool,
    /// Of each process.
    pub threads: u64,
    /// Processes that made the load.
    pub processes: u64,
    /// The addresses connected from; empty for the system's choice.
    pub sources: Vec<String>,
    /// Whether each thread was kept on a processor of its own.
    pub pin: bool,
    /// With `pin`: the processor of each thread, of one process after the other.
    #[serde(default)]
    pub cpus: Vec<usize>,
    /// What the replies can be checked for with this service and content, in words.
    pub verification: String,
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Such as `linux`.
    pub os: String,
    /// Its release.
    pub kernel: Option<String>,
    /// As the processor calls itself.
    pub cpu_model: Option<String>,
    /// Processors that this process may use.
    pub cpus: u64,
    /// All of it.
    pub memory_bytes: Option<u64>,
    /// Such as `tsc`.
    pub clock_source: Option<String>,
}

/// Connections of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Active and idle together; with `--short`, those open at once.
    pub requested: u64,
    /// Connected when the ramp ended; with `--short`, places of those requested that were used.
    pub established: u64,
    /// Idle ones among them.
    pub idle: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Established ones that ended before we closed them.
    pub lost: u64,
    /// Slow ones that the server closed, which is its right; they come back.
    #[serde(default)]
    pub slow_closed: u64,
    /// All that were ever connected; more than `established` with `--short`.
    pub opened: u64,
}

/// Every message sent has one fate: `sent = ok + lost + wrong + late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Handed to the kernel, the warm-up left out like everywhere here.
    pub sent: u64,
    /// Answered rightly and in time.
    pub ok: u64,
    /// The answer never came, or was cut short.
    pub lost: u64,
    /// The answer's content is wrong, or it came in another's place.
    pub wrong: u64,
    /// Answered rightly after the timeout.
    pub late: u64,
    /// Answers that nobody had asked for, or that came again; not part of `sent`.
    pub duplicate: u64,
    /// Due in an open loop, and not sent before its end. Not part of `sent`; their waits, as long
    /// as they had become, are part of the response times.
    pub unsent: u64,
}

/// Bytes of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Handed to the kernel.
    pub sent: u64,
    /// Taken from it.
    pub received: u64,
}

/// Messages per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Open loop: those due. Closed loop: those sent. Over the time in which they were.
    pub offered: f64,
    /// Those answered rightly and in time, from the begin of the run to the last reply.
    pub achieved: f64,
}

/// How long answers took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From handing a request to the kernel to its reply's last byte.
    pub service: Latency,
    /// From the moment when the request was due. In a closed loop that is when it is sent.
    pub response: Latency,
}

/// Nanoseconds, to three digits; all 0 where nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The quickest.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// Half took no longer.
    pub p50: u64,
    /// 90 of 100 took no longer.
    pub p90: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// 999 of 1,000 took no longer.
    pub p999: u64,
    /// 9,999 of 10,000 took no longer.
    pub p9999: u64,
    /// The slowest.
    pub max: u64,
}

/// The percentile curve of each latency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Of the service time.
    pub service: Vec<CurvePoint>,
    /// Of the response time.
    pub response: Vec<CurvePoint>,
}

/// So large a share of the messages took no longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// 0 to 1, ascending; five points for each halving of what is left, the last point is 1.
    pub quantile: f64,
    /// Nanoseconds.
    pub ns: u64,
}

/// A phase that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `ramp`, `hold`, `warmup`, `run` or `close`.
    pub name: String,
    /// Counted from the start of the first.
    pub start_s: f64,
    /// How long it lasted.
    pub seconds: f64,
    /// What it came to, a line for people.
    pub summary: String,
}

/// What happened in one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// The end of this second, counted from the start of the first phase.
    pub at_s: f64,
    /// The name of the phase.
    pub phase: String,
    /// Open then, idle ones included.
    pub connections: u64,
    /// Messages answered rightly per second.
    pub rate: f64,
    /// Of the response times within this second; `null` where nothing was answered.
    pub p50_ns: Option<u64>,
    /// 99 of 100 took no longer.
    pub p99_ns: Option<u64>,
    /// Errors and bad replies so far.
    pub errors: u64,
    /// Resident memory of the server; `null` where it is not known.
    pub server_rss_bytes: Option<u64>,
    /// Processors that the server kept busy; 1.0 is one whole.
    pub server_cpus: Option<f64>,
    /// Processors that bench kept busy.
    pub bench_cpus: f64,
}

/// The server's memory at a number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// Open then.
    pub connections: u64,
    /// Resident memory of all its processes.
    pub server_rss_bytes: u64,
}

/// A kind of error, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// The phase's name.
    pub phase: String,
    /// The system call, such as `connect`.
    pub call: String,
    /// Such as `ECONNREFUSED`; `EOF` where the server closed in good order, but too early.
    pub errno: String,
    /// How often.
    pub count: u64,
    /// What its user can do about it, where that is known.
    pub next_step: Option<String>,
}

/// What the server's processes used, from `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerFigures {
    /// More than one where bench had to start several.
    pub pids: Vec<u32>,
    /// Processor time for each message of the run, user and system together.
    pub cpu_us_per_message: Option<f64>,
    /// User time of it.
    pub user_us_per_message: Option<f64>,
    /// System time of it.
    pub system_us_per_message: Option<f64>,
    /// Processors kept busy during the run; 1.0 is one whole.
    pub cpus: f64,
    /// Context switches for each message: waiting, and preempted.
    pub voluntary_switches_per_message: Option<f64>,
    /// Those where it was preempted.
    pub involuntary_switches_per_message: Option<f64>,
    /// Resident memory before the first connection, in the hold phase, and at the end of the run.
    pub rss_bytes_before: u64,
    /// In the hold phase.
    pub rss_bytes_hold: u64,
    /// At the end of the run.
    pub rss_bytes_run: u64,
    /// The slope from a fifth of the connections on to the hold phase. `null` below 1,000
    /// connections, where pages say nothing about one of them.
    pub rss_bytes_per_connection: Option<f64>,
    /// The processors that they may run on, such as `0-1`.
    pub cpus_allowed: Option<String>,
}

/// Handshakes of TLS, those of the ramp included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    /// `TLSv1.3`.
    pub protocol: String,
    /// The cipher suite of the first connection, by its name in RFC 8446; empty where there was none.
    pub suite: String,
    /// Handshakes in full, with certificates.
    pub full: u64,
    /// Those that resumed a session.
    pub resumed: u64,
    /// From a connected socket to the end of the handshake.
    pub handshake_ns: Latency,
}

/// All connections were closed at once and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// How many came back.
    pub connections: u64,
    /// Those of them that had an answer.
    pub served: u64,
    /// When half of those had it, and 99 of 100, from the begin; `null` where none had.
    pub p50_ns: Option<u64>,
    /// When 99 of 100 had it.
    pub p99_ns: Option<u64>,
    /// When all had it; `null` where some never had.
    pub all_ns: Option<u64>,
}

/// How short connections ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Short {
    /// Connections that the server closed first: their ports wait on its side.
    pub closed_first_by_server: u64,
    /// Those that we closed first: the ports wait on ours.
    pub closed_first_by_client: u64,
    /// Those that ended by a reset.
    pub reset: u64,
    /// Sockets of this machine in `TIME_WAIT` when the run ended; `null` where the system does not
    /// tell.
    pub time_wait: Option<u64>,
}

/// What disturbed the measuring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Processor time that the host gave to others during the run, in per cent of all processors.
    pub steal_percent: Option<f64>,
    /// Processor time that programs other than bench and the server used, likewise.
    pub others_percent: Option<f64>,
    /// The busiest thread of bench during the run; 1.0 is a whole processor.
    pub busiest_thread: f64,
    /// The smallest step of the clock that was seen.
    pub clock_step_ns: u64,
    /// How late bench itself sent what was due, though a connection was free: 99th percentile.
    /// `null` in a closed loop.
    pub send_delay_p99_ns: Option<u64>,
    /// Relative standard deviation of the seconds' rates.
    pub rate_deviation: Option<f64>,
}

/// A limit that was asked for, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// `max_p99_ns` (of the response time) or `min_rate`.
    pub name: String,
    /// What was asked for.
    pub limit: f64,
    /// What was found.
    pub measured: f64,
    /// Whether it was kept.
    pub met: bool,
}

/// A rate that a search tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateTried {
    /// Messages per second asked for.
    pub offered: f64,
    /// Messages per second that were answered rightly.
    pub achieved: f64,
    /// Of the response time.
    pub p99_ns: u64,
    /// Whether the limit was kept, and the server kept up.
    pub met: bool,
}

impl Report {
    /// How many connections there were: with `--short`, one after the other.
    pub const fn connected(&self) -> u64 {
        if self.settings.short { self.connections.opened } else { self.connections.established }
    }

    /// Reads what `--json` wrote.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is not one of ours.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read(path).map_err(|error| Error::io("read", name, &error))?;
        let advice = "it takes files that `myriapod bench --json FILE` has written";
        let found: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
            Error::new(format_args!("{}: {error}", path.display())).with_next_step(advice)
        })?;
        let schema = found.get("schema").and_then(serde_json::Value::as_str).unwrap_or_default();
        if schema != SCHEMA {
            let problem = format!("{}: schema {schema:?} is not {SCHEMA:?}", path.display());
            return Err(Error::new(problem).with_next_step(advice));
        }
        serde_json::from_value(found).map_err(|error| {
            Error::new(format_args!("{}: {error}", path.display())).with_next_step(advice)
        })
    }

    /// It as JSON, a field on a line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail to be written.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;

    /// A report with something in every list and every option.
    pub(crate) fn sample() -> Report {
        let point = CurvePoint { quantile: 0.5, ns: 21_000 };
        let latency = Latency { count: 2, min: 1, p50: 2, max: 3, ..Latency::default() };
        Report {
            schema: SCHEMA.to_owned(),
            version: "0.1.0".to_owned(),
            started_unix_s: 1,
            command: vec!["bench".to_owned()],
            settings: Settings {
                host: "127.0.0.1".to_owned(),
                ports: vec![65432],
                embedded: true,
                service: "search".to_owned(),
                framing: "json-header".to_owned(),
                connections: 50,
                idle: 0,
                slow: 0,
                reconnect: 0,
                in_flight: 1,
                content_bytes: 64,
                request_bytes: 169,
                loop_kind: "open".to_owned(),
                rate: Some(1000.0),
                arrivals: Some("poisson".to_owned()),
                replay: None,
                speed: None,
                messages: None,
                duration_s: Some(10.0),
                warmup_s: 0.0,
                hold_s: 0.2,
                ramp: None,
                timeout_s: 5.0,
                short: false,
                threads: 1,
                processes: 1,
                sources: vec!["127.0.0.1".to_owned()],
                pin: true,
                cpus: vec![1],
                verification: "everything".to_owned(),
            },
            machine: Machine {
                os: "linux".to_owned(),
                kernel: None,
                cpu_model: None,
                cpus: 2,
                memory_bytes: None,
                clock_source: None,
            },
            exit_status: 0,
            exit_reason: "completed".to_owned(),
            connections: Connections::default(),
            messages: Messages::default(),
            bytes: Bytes::default(),
            rate: Rate::default(),
            latency_ns: Latencies { service: latency, response: latency },
            curve: Curves { service: vec![point], response: vec![point] },
            phases: vec![Phase {
                name: "run".to_owned(),
                start_s: 0.5,
                seconds: 10.0,
                summary: "20 messages".to_owned(),
            }],
            series: vec![Second {
                at_s: 1.0,
                phase: "run".to_owned(),
                connections: 50,
                rate: 2.0,
                p50_ns: None,
                p99_ns: None,
                errors: 0,
                server_rss_bytes: None,
                server_cpus: None,
                bench_cpus: 0.5,
            }],
            memory: vec![MemoryPoint { connections: 1, server_rss_bytes: 2 }],
            errors: vec![ErrorCount {
                phase: "ramp".to_owned(),
                call: "connect".to_owned(),
                errno: "ECONNREFUSED".to_owned(),
                count: 1,
                next_step: None,
            }],
            server: Some(ServerFigures {
                pids: vec![1],
                cpu_us_per_message: None,
                user_us_per_message: None,
                system_us_per_message: None,
                cpus: 1.0,
                voluntary_switches_per_message: None,
                involuntary_switches_per_message: None,
                rss_bytes_before: 1,
                rss_bytes_hold: 2,
                rss_bytes_run: 3,
                rss_bytes_per_connection: None,
                cpus_allowed: None,
            }),
            short: Some(Short::default()),
            tls: Some(Tls {
                protocol: "TLSv1.3".to_owned(),
                suite: "TLS_AES_128_GCM_SHA256".to_owned(),
                full: 50,
                resumed: 1,
                handshake_ns: latency,
            }),
            storms: vec![Storm::default()],
            noise: Noise::default(),
            warnings: vec!["the clock is coarse".to_owned()],
            thresholds: vec![Threshold {
                name: "min_rate".to_owned(),
                limit: 1.0,
                measured: 2.0,
                met: true,
            }],
            find_rate: vec![RateTried { offered: 1.0, achieved: 1.0, p99_ns: 1, met: true }],
        }
    }

    /// The names of all keys, with those that they stand below.
    fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    paths(value, &path, found);
                }
            }
            Value::Array(items) => {
                for item in items {
                    paths(item, &format!("{path}[]"), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }

    #[test]
    fn does_the_page_about_the_json_name_every_key() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bench-json.md");
        let page = fs::read_to_string(page).unwrap();
        let mut found = Vec::new();
        paths(&serde_json::to_value(sample()).unwrap(), "", &mut found);
        assert!(found.len() > 90, "{}", found.len());
        for path in found {
            let named = |name: &str| page.contains(&format!("`{name}`"));
            // A key of a list's items or of a latency stands beside the others in one row.
            let (parent, last) = path.rsplit_once('.').unwrap_or(("", &path));
            let in_row = (parent.ends_with("[]")
                || parent.starts_with("latency_ns.")
                || parent.ends_with("handshake_ns"))
                && named(parent)
                && named(last);
            assert!(named(&path) || in_row, "docs/bench-json.md does not name {path}");
        }
    }

    #[test]
    fn does_a_report_come_back_as_it_was_written() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), sample());
    }
}
