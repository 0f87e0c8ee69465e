//! [`Args`]: the command line of `bench`, and the [`Options`] that it means.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use myriapod::protocol::FramingSpec;
use myriapod_command::tls::ClientTls;
use myriapod_load::{Content, Options, Replay, RoomOptions, Service};

use super::units::{Latency, PerSecond, Ports, Sources};
use crate::failure::Failure;
use crate::live::LivePlace;
use crate::tls;
use crate::units::{Count, Place, ProxyFrom, Size, Threads, Timeout};

const EXAMPLES: &str = "\
Examples:
  myriapod bench                                a server of its own, 10 seconds
  myriapod bench 127.0.0.1 65432 -c 1000        another, with 1,000 connections
  myriapod bench --rate 20k --max-p99 2ms       open loop; status 3 if slower
  myriapod bench --find-rate --max-p99 2ms      the highest rate within 2 ms
  myriapod bench -c 19000 --hold 5s             what a connection costs in memory
  myriapod bench --short                        a connection for each request
  myriapod bench --tls --short                  the same over TLS 1.3: handshakes
  myriapod bench --service echo --framing lines       in another framing
  myriapod bench HOST PORT --service any --framing length:4be --content FILE
  myriapod bench HOST PORT --replay monday.pcap       what clients sent, again
  myriapod bench 127.0.0.1 --ports 7000-7010 -c 200000
  myriapod bench --json a.json; myriapod bench -i 16 --json b.json
  myriapod bench --compare a.json b.json        two results side by side

A closed loop (the default) sends on each connection when a reply has come: a
server that stalls is asked less, and hides its stall. With --rate, messages are
due whatever the server does, and response times count from the moment when each
was due.

Exit status: 0 all is well; 1 a reply was wrong, lost, late or duplicated, or a
connection was not established or not kept; 2 wrong usage; 3 a threshold missed;
130 or 143 ended by SIGINT or SIGTERM, and what was measured is reported. A second
signal ends at once.";

const LOAD: &str = "Load";
const PHASES: &str = "Phases";
const SCALE: &str = "Scale";
const RESULTS: &str = "Results";

/// Put a server under load, check every reply, and say what it took
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The server: a name, an IPv4 or IPv6 address, or unix:PATH [default: a
    /// server of bench's own]
    pub(crate) host: Option<String>,
    /// Its port
    #[arg(conflicts_with = "ports")]
    pub(crate) port: Option<u16>,

    /// Connections at work
    #[arg(short, long, value_name = "N", default_value_t = Count(50), help_heading = LOAD)]
    pub(crate) connections: Count,
    /// Messages outstanding on each
    #[arg(short, long, value_name = "N", default_value_t = Count(1), help_heading = LOAD)]
    pub(crate) in_flight: Count,
    /// How long the run lasts: 250ms, 30s, 5m
    #[arg(short, long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(10)),
        help_heading = LOAD)]
    pub(crate) duration: Timeout,
    /// End the run after so many messages instead
    #[arg(short, long, value_name = "N", conflicts_with = "duration", help_heading = LOAD)]
    pub(crate) messages: Option<Count>,
    /// What is asked: search or echo (JSON messages), raw (bytes that come back),
    /// padded (the tutorial's first program), any (whatever whole reply comes is
    /// right) or rooms (every delivery is checked)
    #[arg(short, long, value_name = "NAME", default_value = "search", hide_possible_values = true,
        value_parser = services(), help_heading = LOAD)]
    pub(crate) service: Asked,
    /// How messages are framed, with --service search, echo or any: json-header,
    /// length:4be, lines, json, padded:replies=padded … [default: json-header]
    #[arg(long, value_name = "SPEC", help_heading = LOAD)]
    pub(crate) framing: Option<FramingSpec>,
    /// With --service rooms: so many rooms
    #[arg(long, value_name = "N", default_value_t = Count(10), help_heading = LOAD)]
    pub(crate) rooms: Count,
    /// With --service rooms: members of each, spread over --ports
    #[arg(long, value_name = "N", default_value_t = Count(10), help_heading = LOAD)]
    pub(crate) members: Count,
    /// Bytes of each request's content, such as 64 or 16KiB, or a file that holds it
    #[arg(long, value_name = "BYTES|FILE", default_value = "64", help_heading = LOAD)]
    pub(crate) content: String,
    /// Open loop: so many messages a second, such as 5000 or 20k
    #[arg(short, long, value_name = "N", help_heading = LOAD)]
    pub(crate) rate: Option<PerSecond>,
    /// With --rate: as independent users arrive, not evenly
    #[arg(long, help_heading = LOAD)]
    pub(crate) poisson: bool,
    /// Send what was recorded, at its own times: a capture (pcap, pcapng) or lines of
    /// JSON; any whole reply is right
    #[arg(long, value_name = "FILE", help_heading = LOAD, conflicts_with_all = ["connections",
        "in_flight", "duration", "messages", "content", "rate", "poisson", "short", "slow", "warmup",
        "reconnect", "idle", "find_rate"])]
    pub(crate) replay: Option<PathBuf>,
    /// With --replay: so many times as fast, such as 2 or 0.5
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "replay", help_heading = LOAD)]
    pub(crate) speed: f64,
    /// With --replay: the server's port in a capture that has several
    #[arg(long, value_name = "PORT", requires = "replay", help_heading = LOAD)]
    pub(crate) replay_port: Option<u16>,
    /// A connection for each request
    #[arg(long, conflicts_with_all = ["in_flight", "idle", "hold", "ramp"], help_heading = LOAD)]
    pub(crate) short: bool,
    /// So many slow connections beside the others: half of them send a byte at a
    /// time, half ask much and read little
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "short", help_heading = LOAD)]
    pub(crate) slow: u32,
    /// A reply that comes later after its request is late
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(5)),
        help_heading = LOAD)]
    pub(crate) timeout: Timeout,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(10)),
        help_heading = LOAD)]
    pub(crate) connect_timeout: Timeout,

    /// Connections opened per second [default: as fast as the server takes them]
    #[arg(long, value_name = "N", help_heading = PHASES)]
    pub(crate) ramp: Option<PerSecond>,
    /// Hold all connections silent for so long before the run, to measure memory
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::ZERO), help_heading = PHASES)]
    pub(crate) hold: Timeout,
    /// Run for so long before anything is counted
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::ZERO), help_heading = PHASES)]
    pub(crate) warmup: Timeout,
    /// After the run, so often: close all connections, have them come back at once,
    /// and see when each has an answer again
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["short", "find_rate"],
        help_heading = PHASES)]
    pub(crate) reconnect: u32,
    /// Keep so many more connections open and silent
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = PHASES)]
    pub(crate) idle: u32,

    /// Threads of each process; auto leaves a processor to the server
    #[arg(long, value_name = "N|auto", default_value_t = Threads::Number(Count(1)), help_heading = SCALE)]
    pub(crate) threads: Threads,
    /// Processes [default: as many as descriptors make necessary]
    #[arg(long, value_name = "N", help_heading = SCALE)]
    pub(crate) processes: Option<Count>,
    /// Connect to these ports in turn: 7000-7010, or 41001,38007,7000-7010
    #[arg(long, value_name = "A,B,C-D", requires = "host", help_heading = SCALE)]
    pub(crate) ports: Option<Ports>,
    /// Connect from these addresses in turn [default: on loopback, as many of
    /// 127.0.0.0/8 as ports make necessary]
    #[arg(long, value_name = "A,B,C-D", help_heading = SCALE)]
    pub(crate) source: Option<Sources>,
    /// Behave as a proxy: begin each connection with a PROXY header that names
    /// this client
    #[arg(long, value_name = "ADDRESS[:PORT]", help_heading = SCALE)]
    pub(crate) proxy_from: Option<ProxyFrom>,
    #[command(flatten)]
    pub(crate) tls: ClientTls,
    /// With --short: resume the server's sessions, as returning clients do
    #[arg(long, requires_all = ["tls", "short"], help_heading = "TLS")]
    pub(crate) tls_resume: bool,
    /// Keep each thread on a processor of its own (Linux)
    #[arg(long, help_heading = SCALE)]
    pub(crate) pin: bool,
    /// The server's processes on this machine, to tell what they use
    #[arg(long, value_name = "PID,…", value_delimiter = ',', requires = "host", help_heading = SCALE)]
    pub(crate) server_pid: Vec<u32>,

    /// Write the result as JSON; - for standard output, and the table goes to
    /// standard error
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) json: Option<PathBuf>,
    /// Write it as a page that needs nothing else
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) html: Option<PathBuf>,
    /// Serve what is counted at http://HOST:PORT/metrics while it runs, for Prometheus
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "compare", help_heading = RESULTS)]
    pub(crate) metrics: Option<Place>,
    /// Serve a page with moving charts while it runs: HOST:PORT, or a port of
    /// 127.0.0.1
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "compare", help_heading = RESULTS)]
    pub(crate) live: Option<LivePlace>,
    /// Status 3 if the 99th percentile of response times is above: 500us, 2ms
    #[arg(long, value_name = "TIME", help_heading = RESULTS)]
    pub(crate) max_p99: Option<Latency>,
    /// Status 3 if fewer messages a second are answered rightly
    #[arg(long, value_name = "N", help_heading = RESULTS)]
    pub(crate) min_rate: Option<PerSecond>,
    /// Search the highest rate that keeps --max-p99 and that the server keeps up with
    #[arg(long, requires = "max_p99", conflicts_with_all = ["rate", "messages"], help_heading = RESULTS)]
    pub(crate) find_rate: bool,
    /// Print two results side by side; with --html, draw them too
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2, conflicts_with_all = ["host", "json"],
        help_heading = RESULTS)]
    pub(crate) compare: Vec<PathBuf>,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A reply to each request.
    Replies(Service),
    /// To hand on what is said.
    Rooms,
}

fn services() -> impl TypedValueParser<Value = Asked> {
    let names = Service::ALL.map(Service::name).into_iter().chain(["rooms"]);
    PossibleValuesParser::new(names).map(|name| {
        let named = Service::ALL.into_iter().find(|service| service.name() == name);
        // The parser before lets nothing else through.
        named.map_or(Asked::Rooms, Asked::Replies)
    })
}

impl Args {
    /// What they mean for rooms.
    ///
    /// # Errors
    ///
    /// No server, and a content that is a file.
    pub(crate) fn rooms(&self) -> Result<RoomOptions, Failure> {
        let Some(host) = &self.host else {
            return Err(Failure::usage("--service rooms needs a server")
                .with_next_step("`myriapod serve --service rooms`, and its host and port here"));
        };
        let Ok(Size(text)) = self.content.parse() else {
            return Err(Failure::usage("--service rooms takes --content as bytes, such as 64"));
        };
        let one = || vec![self.port.unwrap_or(0)];
        Ok(RoomOptions {
            host: host.clone(),
            ports: self.ports.as_ref().map_or_else(one, |ports| ports.0.clone()),
            rooms: self.rooms.0,
            members: self.members.0,
            rate: self.rate.map_or(100.0, |rate| rate.0),
            duration: self.duration.0,
            text,
            timeout: self.timeout.0,
        })
    }

    /// What these arguments mean.
    ///
    /// # Errors
    ///
    /// A content that cannot be read, and a host without a port.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let ports = match (&self.host, &self.ports, self.port) {
            (None, ..) => Vec::new(),
            (_, Some(ports), _) => ports.0.clone(),
            (_, None, Some(port)) => vec![port],
            (Some(host), None, None) if host.starts_with("unix:") => Vec::new(),
            (Some(host), None, None) => {
                return Err(Failure::usage(format_args!("which port of {host}?"))
                    .with_next_step("`myriapod bench HOST PORT`, or --ports A,B,C-D"));
            }
        };
        Ok(Options {
            host: self.host.clone(),
            ports,
            connections: self.connections.0 as u64,
            idle: self.idle,
            slow: self.slow,
            reconnect: self.reconnect,
            in_flight: u32::try_from(self.in_flight.0).unwrap_or(u32::MAX),
            duration: self.duration.0,
            messages: self.messages.map(|count| count.0 as u64),
            service: match self.service {
                Asked::Replies(Service::Search) if self.replay.is_some() => Service::Any,
                Asked::Replies(service) => service,
                Asked::Rooms => Service::Search,
            },
            framing: self.framing.clone(),
            content: self.content()?,
            rate: self.rate.map(|rate| rate.0),
            poisson: self.poisson,
            replay: self.replay.as_ref().map(|path| Replay {
                path: path.clone(),
                speed: self.speed,
                port: self.replay_port,
            }),
            short: self.short,
            proxy_from: self.proxy_from.map(|client| client.0),
            secure: tls::of_load(&self.tls, self.host.as_deref(), self.tls_resume)?,
            timeout: self.timeout.0,
            connect_timeout: self.connect_timeout.0,
            ramp: self.ramp.map(|ramp| ramp.0),
            hold: self.hold.0,
            warmup: self.warmup.0,
            threads: match self.threads {
                Threads::Number(count) => count.0,
                Threads::Auto => 0,
            },
            processes: self.processes.map(|count| count.0 as u64),
            sources: self.source.as_ref().map(|sources| sources.0.clone()),
            pin: self.pin,
            server_pids: self.server_pid.clone(),
            max_p99: self.max_p99.map(|limit| limit.0),
            min_rate: self.min_rate.map(|rate| rate.0),
            find_rate: self.find_rate,
            command: std::env::args().skip(1).collect(),
        })
    }

    fn content(&self) -> Result<Content, Failure> {
        if let Ok(Size(bytes)) = self.content.parse() {
            return Ok(Content::Bytes(bytes));
        }
        let read = std::fs::read(&self.content);
        read.map(Content::Given).map_err(|error| {
            Failure::io("read", &self.content, &error)
                .with_next_step("--content takes bytes, such as 64 or 16KiB, or a file")
        })
    }
}
