//! [`Report`]: the result of a run, which is what `--json` writes. `docs/bench-json.md` says it in
//! prose; a test holds the two against each other.
//!
//! Units are in the names: `_ns` nanoseconds, `_s` seconds, `_us` microseconds, `_bytes` bytes.
//! Rates are messages per second. What could not be had is `null`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What [`Report::schema`] says. It grows by one when a reader of the old would misread the new.
pub(crate) const SCHEMA: &str = "myriapod-bench/1";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// The version of this program.
    pub(crate) version: String,
    /// When it began, in seconds since 1970.
    pub(crate) started_unix_s: u64,
    /// The arguments, as they were typed.
    pub(crate) command: Vec<String>,
    /// What was asked for, with every default filled in.
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    /// The process's own: 0 to 3.
    pub(crate) exit_status: u8,
    /// Why the run ended: `completed`, or what stopped it and the next step.
    pub(crate) exit_reason: String,
    pub(crate) connections: Connections,
    pub(crate) messages: Messages,
    pub(crate) bytes: Bytes,
    pub(crate) rate: Rate,
    pub(crate) latency_ns: Latencies,
    /// The percentile curve of each latency.
    pub(crate) curve: Curves,
    /// In the order in which they ran.
    pub(crate) phases: Vec<Phase>,
    /// One point a second, over all phases.
    pub(crate) series: Vec<Second>,
    /// The server's memory while connections were opened and held; empty without a known server.
    pub(crate) memory: Vec<MemoryPoint>,
    /// Every error, by phase, call and errno.
    pub(crate) errors: Vec<ErrorCount>,
    /// What the server's process used; `null` where it is not known.
    pub(crate) server: Option<ServerFigures>,
    /// With `--short`.
    pub(crate) short: Option<Short>,
    pub(crate) noise: Noise,
    /// What a reader should know before believing the figures; a sentence each.
    pub(crate) warnings: Vec<String>,
    /// The thresholds asked for.
    pub(crate) thresholds: Vec<Threshold>,
    /// With `--find-rate`: the rates tried, in order; the figures above are those of the best.
    pub(crate) find_rate: Vec<RateTried>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The host as typed, or `127.0.0.1` for the embedded server.
    pub(crate) host: String,
    /// The target's ports.
    pub(crate) ports: Vec<u16>,
    /// Whether bench started the server itself.
    pub(crate) embedded: bool,
    /// `search`, `echo`, `raw` or `padded`.
    pub(crate) service: String,
    pub(crate) connections: u64,
    /// Connections that are kept open and silent besides.
    pub(crate) idle: u64,
    /// Messages outstanding on each connection.
    pub(crate) in_flight: u64,
    /// Bytes of content in each request.
    pub(crate) content_bytes: u64,
    /// Bytes of a whole request on the wire.
    pub(crate) request_bytes: u64,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub(crate) loop_kind: String,
    /// Messages per second asked for; `null` in a closed loop.
    pub(crate) rate: Option<f64>,
    /// `constant` or `poisson`; `null` in a closed loop.
    pub(crate) arrivals: Option<String>,
    /// Messages after which the run ends; `null` where time ends it.
    pub(crate) messages: Option<u64>,
    /// How long the run lasts; `null` where messages end it.
    pub(crate) duration_s: Option<f64>,
    pub(crate) warmup_s: f64,
    pub(crate) hold_s: f64,
    /// Connections opened per second; `null` for as fast as the server takes them.
    pub(crate) ramp: Option<f64>,
    /// A reply that comes later is late.
    pub(crate) timeout_s: f64,
    /// A connection for each request.
    pub(crate) short: bool,
    /// Of each process.
    pub(crate) threads: u64,
    pub(crate) processes: u64,
    /// The addresses connected from; empty for the system's choice.
    pub(crate) sources: Vec<String>,
    pub(crate) pin: bool,
    /// With `pin`: the processor of each thread, of one process after the other.
    #[serde(default)]
    pub(crate) cpus: Vec<usize>,
    /// What the replies can be checked for with this service and content, in words.
    pub(crate) verification: String,
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Such as `linux`.
    pub(crate) os: String,
    pub(crate) kernel: Option<String>,
    pub(crate) cpu_model: Option<String>,
    /// Processors that this process may use.
    pub(crate) cpus: u64,
    pub(crate) memory_bytes: Option<u64>,
    /// Such as `tsc`.
    pub(crate) clock_source: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connections {
    /// Active and idle together; with `--short`, those open at once.
    pub(crate) requested: u64,
    /// Connected when the ramp ended; with `--short`, places of those requested that were used.
    pub(crate) established: u64,
    /// Idle ones among them.
    pub(crate) idle: u64,
    /// Attempts that failed.
    pub(crate) failed: u64,
    /// Established ones that ended before we closed them.
    pub(crate) lost: u64,
    /// All that were ever connected; more than `established` with `--short`.
    pub(crate) opened: u64,
}

/// Every message sent has one fate: `sent = ok + lost + wrong + late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Messages {
    /// Handed to the kernel, the warm-up left out like everywhere here.
    pub(crate) sent: u64,
    /// Answered rightly and in time.
    pub(crate) ok: u64,
    /// The answer never came, or was cut short.
    pub(crate) lost: u64,
    /// The answer's content is wrong, or it came in another's place.
    pub(crate) wrong: u64,
    /// Answered rightly after the timeout.
    pub(crate) late: u64,
    /// Answers that nobody had asked for, or that came again; not part of `sent`.
    pub(crate) duplicate: u64,
    /// Due in an open loop, and not sent before its end. Not part of `sent`; their waits, as long
    /// as they had become, are part of the response times.
    pub(crate) unsent: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bytes {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// Messages per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    /// Open loop: those due. Closed loop: those sent. Over the time in which they were.
    pub(crate) offered: f64,
    /// Those answered rightly and in time, from the begin of the run to the last reply.
    pub(crate) achieved: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    /// From handing a request to the kernel to its reply's last byte.
    pub(crate) service: Latency,
    /// From the moment when the request was due. In a closed loop that is when it is sent.
    pub(crate) response: Latency,
}

/// Nanoseconds, to three digits; all 0 where nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) min: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) p9999: u64,
    pub(crate) max: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curves {
    pub(crate) service: Vec<CurvePoint>,
    pub(crate) response: Vec<CurvePoint>,
}

/// So large a share of the messages took no longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CurvePoint {
    /// 0 to 1, ascending; five points for each halving of what is left, the last point is 1.
    pub(crate) quantile: f64,
    pub(crate) ns: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// `ramp`, `hold`, `warmup`, `run` or `close`.
    pub(crate) name: String,
    /// Counted from the start of the first.
    pub(crate) start_s: f64,
    pub(crate) seconds: f64,
    /// What it came to, a line for people.
    pub(crate) summary: String,
}

/// What happened in one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// The end of this second, counted from the start of the first phase.
    pub(crate) at_s: f64,
    pub(crate) phase: String,
    /// Open then, idle ones included.
    pub(crate) connections: u64,
    /// Messages answered rightly per second.
    pub(crate) rate: f64,
    /// Of the response times within this second; `null` where nothing was answered.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    /// Errors and bad replies so far.
    pub(crate) errors: u64,
    pub(crate) server_rss_bytes: Option<u64>,
    /// Processors that the server kept busy; 1.0 is one whole.
    pub(crate) server_cpus: Option<f64>,
    /// Processors that bench kept busy.
    pub(crate) bench_cpus: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPoint {
    pub(crate) connections: u64,
    pub(crate) server_rss_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorCount {
    /// The phase's name.
    pub(crate) phase: String,
    /// The system call, such as `connect`.
    pub(crate) call: String,
    /// Such as `ECONNREFUSED`; `EOF` where the server closed in good order, but too early.
    pub(crate) errno: String,
    pub(crate) count: u64,
    /// What its user can do about it, where that is known.
    pub(crate) next_step: Option<String>,
}

/// What the server's processes used, from `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerFigures {
    /// More than one where bench had to start several.
    pub(crate) pids: Vec<u32>,
    /// Processor time for each message of the run, user and system together.
    pub(crate) cpu_us_per_message: Option<f64>,
    pub(crate) user_us_per_message: Option<f64>,
    pub(crate) system_us_per_message: Option<f64>,
    /// Processors kept busy during the run; 1.0 is one whole.
    pub(crate) cpus: f64,
    /// Context switches for each message: waiting, and preempted.
    pub(crate) voluntary_switches_per_message: Option<f64>,
    pub(crate) involuntary_switches_per_message: Option<f64>,
    /// Resident memory before the first connection, in the hold phase, and at the end of the run.
    pub(crate) rss_bytes_before: u64,
    pub(crate) rss_bytes_hold: u64,
    pub(crate) rss_bytes_run: u64,
    /// The slope from a fifth of the connections on to the hold phase. `null` below 1,000
    /// connections, where pages say nothing about one of them.
    pub(crate) rss_bytes_per_connection: Option<f64>,
    /// The processors that they may run on, such as `0-1`.
    pub(crate) cpus_allowed: Option<String>,
}

/// How short connections ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Short {
    /// Connections that the server closed first: their ports wait on its side.
    pub(crate) closed_first_by_server: u64,
    /// Those that we closed first: the ports wait on ours.
    pub(crate) closed_first_by_client: u64,
    /// Those that ended by a reset.
    pub(crate) reset: u64,
    /// Sockets of this machine in `TIME_WAIT` when the run ended; `null` where the system does not
    /// tell.
    pub(crate) time_wait: Option<u64>,
}

/// What disturbed the measuring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Processor time that the host gave to others during the run, in per cent of all processors.
    pub(crate) steal_percent: Option<f64>,
    /// Processor time that programs other than bench and the server used, likewise.
    pub(crate) others_percent: Option<f64>,
    /// The busiest thread of bench during the run; 1.0 is a whole processor.
    pub(crate) busiest_thread: f64,
    /// The smallest step of the clock that was seen.
    pub(crate) clock_step_ns: u64,
    /// How late bench itself sent what was due, though a connection was free: 99th percentile.
    /// `null` in a closed loop.
    pub(crate) send_delay_p99_ns: Option<u64>,
    /// Relative standard deviation of the seconds' rates.
    pub(crate) rate_deviation: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Threshold {
    /// `max_p99_ns` (of the response time) or `min_rate`.
    pub(crate) name: String,
    pub(crate) limit: f64,
    pub(crate) measured: f64,
    pub(crate) met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateTried {
    /// Messages per second asked for.
    pub(crate) offered: f64,
    pub(crate) achieved: f64,
    /// Of the response time.
    pub(crate) p99_ns: u64,
    pub(crate) met: bool,
}

impl Report {
    /// How many connections there were: with `--short`, one after the other.
    pub(crate) const fn connected(&self) -> u64 {
        if self.settings.short { self.connections.opened } else { self.connections.established }
    }

    /// Reads what `--json` wrote.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is not one of ours.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let text = fs::read(path).map_err(|error| Failure::io("read", name, &error))?;
        let advice = "it takes files that `myriapod bench --json FILE` has written";
        let found: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(format_args!("{}: {error}", path.display())).with_next_step(advice)
        })?;
        let schema = found.get("schema").and_then(serde_json::Value::as_str).unwrap_or_default();
        if schema != SCHEMA {
            let problem = format!("{}: schema {schema:?} is not {SCHEMA:?}", path.display());
            return Err(Failure::new(problem).with_next_step(advice));
        }
        serde_json::from_value(found).map_err(|error| {
            Failure::new(format_args!("{}: {error}", path.display())).with_next_step(advice)
        })
    }

    /// Writes it as JSON, a field on a line.
    ///
    /// # Errors
    ///
    /// Those of writing the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self).map_err(Failure::new)?;
        text.push(b'\n');
        fs::write(path, text).map_err(|error| Failure::io("write", path.display(), &error))
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
                connections: 50,
                idle: 0,
                in_flight: 1,
                content_bytes: 64,
                request_bytes: 169,
                loop_kind: "open".to_owned(),
                rate: Some(1000.0),
                arrivals: Some("poisson".to_owned()),
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
            let in_row = (parent.ends_with("[]") || parent.starts_with("latency_ns."))
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
