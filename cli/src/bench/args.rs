//! [`Args`]: the command line of `bench`, and the [`Plan`] that it becomes.

use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use myriapod::sys::{self, SocketAddr};

use super::job::Job;
use super::message::{Content, Messages, Service};
use super::units::{Latency, PerSecond, Ports, Sources};
use crate::doctor;
use crate::failure::Failure;
use crate::units::{Count, ProxyFrom, Size, Threads, Timeout};

const EXAMPLES: &str = "\
Examples:
  myriapod bench                                a server of its own, 10 seconds
  myriapod bench 127.0.0.1 65432 -c 1000        another, with 1,000 connections
  myriapod bench --rate 20k --max-p99 2ms       open loop; status 3 if slower
  myriapod bench --find-rate --max-p99 2ms      the highest rate within 2 ms
  myriapod bench -c 19000 --hold 5s             what a connection costs in memory
  myriapod bench --short                        a connection for each request
  myriapod bench 127.0.0.1 --ports 7000-7010 -c 200000
  myriapod bench --json a.json; myriapod bench -i 16 --json b.json
  myriapod bench --compare a.json b.json        two results side by side

A closed loop (the default) sends on each connection when a reply has come: a
server that stalls is asked less, and hides its stall. With --rate, messages are
due whatever the server does, and response times count from the moment when each
was due.

Exit status: 0 all is well; 1 a reply was wrong, lost, late or duplicated, or a
connection was not established or not kept; 2 wrong usage; 3 a threshold missed.";

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
    /// What is asked: search or echo (JSON messages), raw (bytes that come back)
    /// or padded (the tutorial's first program)
    #[arg(short, long, value_name = "NAME", default_value = "search", hide_possible_values = true,
        help_heading = LOAD)]
    pub(crate) service: Service,
    /// Bytes of each request's content, such as 64 or 16KiB, or a file that holds it
    #[arg(long, value_name = "BYTES|FILE", default_value = "64", help_heading = LOAD)]
    pub(crate) content: String,
    /// Open loop: so many messages a second, such as 5000 or 20k
    #[arg(short, long, value_name = "N", help_heading = LOAD)]
    pub(crate) rate: Option<PerSecond>,
    /// With --rate: as independent users arrive, not evenly
    #[arg(long, help_heading = LOAD)]
    pub(crate) poisson: bool,
    /// A connection for each request
    #[arg(long, conflicts_with_all = ["in_flight", "idle", "hold", "ramp"], help_heading = LOAD)]
    pub(crate) short: bool,
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
    /// Keep each thread on a processor of its own (Linux)
    #[arg(long, help_heading = SCALE)]
    pub(crate) pin: bool,
    /// The server's processes on this machine, to tell what they use
    #[arg(long, value_name = "PID,…", value_delimiter = ',', requires = "host", help_heading = SCALE)]
    pub(crate) server_pid: Vec<u32>,

    /// Write the result as JSON
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) json: Option<PathBuf>,
    /// Write it as a page that needs nothing else
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) html: Option<PathBuf>,
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

/// Descriptors that a process needs besides its connections.
const RESERVE: u64 = 64;

/// What is going to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) job: Job,
    pub(crate) processes: u32,
    pub(crate) host: String,
    /// Servers to start; 0 where there is one already.
    pub(crate) embedded: u64,
    pub(crate) content_len: usize,
    pub(crate) request_len: usize,
    pub(crate) verification: String,
}

impl Plan {
    /// What of it this machine will reach.
    pub(crate) fn foretell(&self) -> doctor::Verdict {
        let targets = &self.job.targets;
        let here = targets.iter().all(|(host, _)| {
            host.parse::<IpAddr>().map_or(host.starts_with("unix:"), |ip| ip.is_loopback())
        });
        doctor::foretell(&doctor::Plan {
            side: if here { doctor::Side::Both } else { doctor::Side::Client },
            connections: Some(u64::from(self.job.connections) + u64::from(self.job.idle)),
            processes: self.processes.into(),
            sources: (self.job.sources.len() as u64).max(1),
            ports: (targets.len() as u64).max(self.embedded).max(1),
            ..doctor::Plan::default()
        })
    }
}

impl Args {
    /// What these arguments come to on this machine.
    ///
    /// # Errors
    ///
    /// Arguments that cannot work together or here.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        let content = self.content()?;
        let messages = Messages::new(self.service, &content)
            .map_err(|why| Failure::usage(format_args!("--content {}: {why}", self.content)))?;
        let connections = u32::try_from(self.connections.0)
            .ok()
            .filter(|connections| connections.checked_add(self.idle).is_some())
            .ok_or_else(|| Failure::usage("more connections than 32 bits count"))?;
        let in_flight = u32::try_from(self.in_flight.0)
            .ok()
            .filter(|&in_flight| in_flight <= 65_536)
            .ok_or_else(|| Failure::usage("--in-flight must be at most 65536"))?;
        if self.timeout.0.is_zero() || self.connect_timeout.0.is_zero() {
            return Err(Failure::usage("--timeout and --connect-timeout must be above 0"));
        }
        if self.messages.is_none() && self.duration.0.is_zero() {
            return Err(Failure::usage("--duration must be above 0"));
        }
        let all = u64::from(connections) + u64::from(self.idle);
        let limit = sys::raise_descriptor_limit()?.soft;
        let room = limit.saturating_sub(RESERVE).max(1);
        let needed = all.div_ceil(room);
        let processes = self.processes.map_or(needed, |count| count.0 as u64);
        if processes < needed {
            return Err(Failure::usage(format_args!(
                "{all} connections need {needed} processes: RLIMIT_NOFILE lets each hold {limit} \
                 descriptors"
            ))
            .with_next_step("leave --processes out, or raise the limit with `ulimit -n`"));
        }
        let processes = u32::try_from(processes)
            .ok()
            .filter(|&processes| u64::from(processes) <= all)
            .ok_or_else(|| Failure::usage("more processes than connections"))?;
        // The server's own limit leaves it as much room.
        let embedded = if self.host.is_some() { 0 } else { needed };
        let targets = self.targets()?;
        let sources = self.sources(all, &targets, embedded)?;
        let threads = match self.threads {
            Threads::Number(count) => count.0,
            Threads::Auto => sys::available_cpus().saturating_sub(1).max(1),
        };
        let threads = threads.min((connections / processes).max(1) as usize);
        let threads = u32::try_from(threads).unwrap_or(1);
        let cpus = if self.pin {
            // From the last on: servers begin with the first.
            let mut cpus = sys::thread_cpus()?;
            cpus.reverse();
            (0..threads as usize * processes as usize)
                .filter_map(|nth| cpus.get(nth % cpus.len()).copied())
                .collect()
        } else {
            Vec::new()
        };
        Ok(Plan {
            job: Job {
                targets: targets.iter().map(|(host, port)| (host.clone(), *port)).collect(),
                sources: sources.iter().map(ToString::to_string).collect(),
                first: 0,
                connections,
                all: connections,
                idle: self.idle,
                in_flight,
                service: self.service,
                content,
                messages: self.messages.map(|count| count.0 as u64),
                rate: self.rate.map(|rate| rate.0),
                poisson: self.poisson,
                ramp: self.ramp.map(|ramp| ramp.0),
                timeout: self.timeout.0,
                connect_timeout: self.connect_timeout.0,
                short: self.short,
                proxy_from: self.proxy_from.map(|client| client.0),
                threads,
                cpus,
            },
            processes,
            host: self.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
            embedded,
            content_len: messages.content_len(),
            request_len: messages.request_len(),
            verification: messages.verification(),
        })
    }

    fn content(&self) -> Result<Content, Failure> {
        if let Ok(Size(bytes)) = self.content.parse() {
            if bytes > 64 << 20 {
                return Err(Failure::usage("--content must be at most 64MiB"));
            }
            return Ok(Content::Bytes(bytes));
        }
        let read = std::fs::read(&self.content);
        read.map(Content::Given).map_err(|error| {
            Failure::io("read", &self.content, &error)
                .with_next_step("--content takes bytes, such as 64 or 16KiB, or a file")
        })
    }

    /// Host and port of each target, resolved once for all; none for the embedded server.
    fn targets(&self) -> Result<Vec<(String, u16)>, Failure> {
        let Some(host) = &self.host else { return Ok(Vec::new()) };
        let ports = match (&self.ports, self.port) {
            (Some(ports), _) => ports.0.clone(),
            (None, Some(port)) => vec![port],
            (None, None) if host.starts_with("unix:") => vec![0],
            (None, None) => {
                return Err(Failure::usage(format_args!("which port of {host}?"))
                    .with_next_step("`myriapod bench HOST PORT`, or --ports A,B,C-D"));
            }
        };
        let first = ports.first().copied().unwrap_or_default();
        let addresses = sys::resolve(host, first)?;
        let answers = |address: &&SocketAddr| {
            let std = address.to_std();
            std.is_some_and(|std| TcpStream::connect_timeout(&std, self.connect_timeout.0).is_ok())
        };
        // Of several addresses of a name, the first that answers.
        let address = match &addresses[..] {
            [only] => Some(only),
            several => several.iter().find(answers).or(several.first()),
        };
        let resolved = match address.and_then(SocketAddr::ip) {
            Some(ip) => ip.to_string(),
            None => host.clone(),
        };
        Ok(ports.into_iter().map(|port| (resolved.clone(), port)).collect())
    }

    /// The addresses connected from: those asked for, or what so many connections need.
    fn sources(
        &self,
        all: u64,
        targets: &[(String, u16)],
        embedded: u64,
    ) -> Result<Vec<IpAddr>, Failure> {
        // Linux gives ports of one parity first, and then looks long for each of the others.
        let range =
            myriapod_machine::Machine::read().local_ports.map_or(28_232, |ports| ports.count());
        let per_source = (range / 2).clamp(1, 25_000);
        let ports = if embedded > 0 { embedded } else { targets.len() as u64 };
        let needed = all.div_ceil(per_source * ports.max(1));
        let target = targets.first().and_then(|(host, _)| host.parse::<IpAddr>().ok());
        if let Some(Sources(sources)) = &self.source {
            if let Some(target) = target
                && let Some(other) = sources.iter().find(|ip| ip.is_ipv4() != target.is_ipv4())
            {
                return Err(Failure::usage(format_args!(
                    "--source {other} is of another family than the server's {target}"
                )));
            }
            return Ok(sources.clone());
        }
        let loopback = match target {
            None => embedded > 0,
            Some(IpAddr::V4(ip)) => ip.is_loopback(),
            Some(IpAddr::V6(_)) => false,
        };
        if needed <= 1 || !loopback {
            return Ok(Vec::new());
        }
        // 127.0.0.1 is left to others.
        let first = u32::from(std::net::Ipv4Addr::new(127, 0, 1, 1));
        let count = u32::try_from(needed).unwrap_or(u32::MAX).min(65_536);
        Ok((first..first + count).map(|ip| IpAddr::V4(ip.into())).collect())
    }
}
