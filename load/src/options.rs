//! [`Options`]: what is asked for, and the [`Plan`] that it becomes on this machine.

use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use myriapod::protocol::FramingSpec;
use myriapod::sys::{self, SocketAddr};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::message::{Content, Messages, Service};
use crate::replay::{Recording, Replay};
use crate::secure::Secure;

/// Descriptors that a process needs besides its connections.
const RESERVE: u64 = 64;

/// Messages that may be outstanding on one connection.
const MOST_IN_FLIGHT: u32 = 65_536;

/// Connections of all kinds together.
const MOST: u64 = u32::MAX as u64;

/// Bytes of a request's content.
const MOST_CONTENT: usize = 64 << 20;

/// A load as somebody asks for it. The default is a closed loop of 50 connections for ten seconds,
/// against a server of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The server: a name, an address or `unix:PATH`. `None` starts a server.
    pub host: Option<String>,
    /// Its ports, which connections take in turn; none for a Unix socket.
    pub ports: Vec<u16>,
    /// Connections at work; at least 1.
    pub connections: u64,
    /// Connections that are kept open and silent besides.
    pub idle: u32,
    /// Connections that are slow on purpose besides: every other one sends a byte at a time, the rest
    /// ask much and read little.
    pub slow: u32,
    /// How often, after the run, all connections are closed and come back at once.
    pub reconnect: u32,
    /// Messages outstanding on each connection: 1 to 65,536.
    pub in_flight: u32,
    /// How long the run lasts, where no number of messages ends it; above 0.
    pub duration: Duration,
    /// End the run after so many messages instead.
    pub messages: Option<u64>,
    /// What is asked of the server.
    pub service: Service,
    /// How messages are framed; `None` for the service's own way.
    pub framing: Option<FramingSpec>,
    /// The requests' content; at most 64 MiB.
    pub content: Content,
    /// An open loop of so many messages a second; `None` for a closed one.
    pub rate: Option<f64>,
    /// With `rate`: as independent users arrive, not evenly.
    pub poisson: bool,
    /// Send what was recorded, each request at its own time on its own connection. Connections, rate
    /// and messages are those of the recording then; [`Service::Any`] is what it is checked as.
    pub replay: Option<Replay>,
    /// A connection for each request.
    pub short: bool,
    /// The client that a PROXY header in front of each connection names; port 0 for each connection's
    /// own.
    pub proxy_from: Option<std::net::SocketAddr>,
    /// TLS on each connection; `None` for none.
    pub secure: Option<Secure>,
    /// A reply that comes later after its request is late; above 0.
    pub timeout: Duration,
    /// How long connecting may take; above 0.
    pub connect_timeout: Duration,
    /// Connections opened per second; `None` for as fast as the server takes them.
    pub ramp: Option<f64>,
    /// How long all connections are held silent before the run.
    pub hold: Duration,
    /// How long the load runs before anything is counted.
    pub warmup: Duration,
    /// Threads of each process; 0 for one for each processor but one.
    pub threads: usize,
    /// Processes; `None` for as many as descriptors make necessary.
    pub processes: Option<u64>,
    /// The addresses connected from, in turn; `None` for what so many connections need.
    pub sources: Option<Vec<IpAddr>>,
    /// Keep each thread on a processor of its own (Linux).
    pub pin: bool,
    /// The server's processes on this machine, to tell what they use.
    pub server_pids: Vec<u32>,
    /// Miss a threshold if the 99th percentile of response times is above, in nanoseconds.
    pub max_p99: Option<u64>,
    /// Miss a threshold if fewer messages a second are answered rightly.
    pub min_rate: Option<f64>,
    /// Search the highest rate that keeps `max_p99` and that the server keeps up with.
    pub find_rate: bool,
    /// How this was typed, for the report.
    pub command: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: None,
            ports: Vec::new(),
            connections: 50,
            idle: 0,
            slow: 0,
            reconnect: 0,
            in_flight: 1,
            duration: Duration::from_secs(10),
            messages: None,
            service: Service::Search,
            framing: None,
            content: Content::Bytes(64),
            rate: None,
            poisson: false,
            replay: None,
            short: false,
            proxy_from: None,
            secure: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            ramp: None,
            hold: Duration::ZERO,
            warmup: Duration::ZERO,
            threads: 1,
            processes: None,
            sources: None,
            pin: false,
            server_pids: Vec::new(),
            max_p99: None,
            min_rate: None,
            find_rate: false,
            command: Vec::new(),
        }
    }
}

/// What is going to be done: [`Options`] with everything filled in.
#[derive(Debug)]
pub struct Plan {
    pub(crate) options: Options,
    pub(crate) job: Job,
    pub(crate) host: String,
    pub(crate) processes: u32,
    pub(crate) embedded: u64,
    pub(crate) content_len: usize,
    pub(crate) request_len: usize,
    pub(crate) verification: String,
    /// What of a recording is not replayed, a sentence each.
    pub(crate) left_out: Vec<String>,
}

impl Plan {
    /// Connections, idle ones included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.job.slots() as u64
    }

    /// Processes that the load is divided among.
    #[must_use]
    pub const fn processes(&self) -> u32 {
        self.processes
    }

    /// The addresses connected from, at least 1.
    #[must_use]
    pub fn sources(&self) -> u64 {
        (self.job.sources.len() as u64).max(1)
    }

    /// The server's ports, at least 1.
    #[must_use]
    pub fn ports(&self) -> u64 {
        (self.job.targets.len() as u64).max(self.embedded).max(1)
    }

    /// Whether the server is on this machine too.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.job.targets.iter().all(|(host, _)| {
            host.parse::<IpAddr>().map_or(host.starts_with("unix:"), |ip| ip.is_loopback())
        })
    }
}

impl Options {
    /// What these options come to on this machine. Raises the process's limit of descriptors.
    ///
    /// # Errors
    ///
    /// Options that cannot work together or here, and a name that has no address.
    pub fn plan(&self) -> Result<Plan> {
        let Some(replay) = &self.replay else { return self.plan_load() };
        self.check_replay(replay)?;
        let framing = match &self.framing {
            Some(framing) => framing.clone(),
            None => self.service.framing().parse().map_err(Error::usage)?,
        };
        let recording = Recording::read(replay, &framing)?;
        let messages = recording.requests.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
        let seconds = (recording.span() as f64 / 1e9 / replay.speed).max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
        let rate = messages as f64 / seconds;
        let recorded = Self {
            connections: recording.connections.into(),
            messages: Some(messages),
            rate: Some(rate),
            ..self.clone()
        };
        let mut plan = recorded.plan_load()?;
        plan.content_len = recording.mean_len();
        plan.request_len = recording.mean_len();
        plan.left_out = recording.left_out;
        Ok(plan)
    }

    /// What cannot be asked for with a recording, which says itself who sends what, and when.
    fn check_replay(&self, replay: &Replay) -> Result<()> {
        if !(replay.speed > 0.0 && replay.speed.is_finite()) {
            return Err(Error::usage("`speed` must be above 0"));
        }
        if self.service != Service::Any {
            return Err(Error::usage("a replay is checked as service any"));
        }
        for (asked, what) in [
            (self.rate.is_some() || self.poisson, "rate"),
            (self.messages.is_some(), "messages"),
            (self.find_rate, "find_rate"),
            (self.short, "short"),
            (self.reconnect > 0, "reconnect"),
            (self.idle > 0, "idle"),
            (self.slow > 0, "slow"),
            (!self.warmup.is_zero(), "warmup"),
        ] {
            if asked {
                return Err(Error::usage(format_args!(
                    "`{what}` cannot be asked for with `replay`, which says itself who sends, and when"
                )));
            }
        }
        Ok(())
    }

    fn plan_load(&self) -> Result<Plan> {
        if matches!(self.content, Content::Bytes(bytes) if bytes > MOST_CONTENT) {
            return Err(Error::usage("`content` must be at most 64MiB"));
        }
        if let Some(secure) = &self.secure {
            secure.config()?;
        }
        let messages = Messages::new(self.service, self.framing.as_ref(), &self.content)
            .map_err(|why| Error::usage(format_args!("`content`: {why}")))?;
        let connections = u32::try_from(self.connections)
            .ok()
            .filter(|connections| {
                *connections > 0 && u64::from(*connections) + self.others() <= MOST
            })
            .ok_or_else(|| Error::usage("connections must be at least 1, and fit 32 bits"))?;
        if self.in_flight == 0 || self.in_flight > MOST_IN_FLIGHT {
            return Err(Error::usage("`in_flight` must be at least 1 and at most 65536"));
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(Error::usage("`timeout` and `connect_timeout` must be above 0"));
        }
        if self.messages.is_none() && self.duration.is_zero() {
            return Err(Error::usage("`duration` must be above 0"));
        }
        let all = u64::from(connections) + self.others();
        let limit = sys::raise_descriptor_limit()?.soft;
        let room = limit.saturating_sub(RESERVE).max(1);
        let needed = all.div_ceil(room);
        let processes = self.processes.unwrap_or(needed);
        if processes < needed {
            return Err(Error::usage(format_args!(
                "{all} connections need {needed} processes: RLIMIT_NOFILE lets each hold {limit} \
                 descriptors"
            ))
            .with_next_step("leave `processes` out, or raise the limit with `ulimit -n`"));
        }
        let processes = u32::try_from(processes)
            .ok()
            .filter(|&processes| u64::from(processes) <= all)
            .ok_or_else(|| Error::usage("more processes than connections"))?;
        // The server's own limit leaves it as much room.
        let embedded = if self.host.is_some() { 0 } else { needed };
        let targets = self.targets()?;
        let sources = self.sources(all, &targets, embedded)?;
        let threads = match self.threads {
            0 => sys::available_cpus().saturating_sub(1).max(1),
            threads => threads,
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
                targets,
                sources: sources.iter().map(ToString::to_string).collect(),
                first: 0,
                connections,
                all: connections,
                idle: self.idle,
                slow: self.slow,
                in_flight: self.in_flight,
                service: self.service,
                framing: self.framing.as_ref().map(ToString::to_string),
                content: self.content.clone(),
                messages: self.messages,
                rate: self.rate,
                poisson: self.poisson,
                replay: self.replay.clone(),
                ramp: self.ramp,
                timeout: self.timeout,
                connect_timeout: self.connect_timeout,
                short: self.short,
                proxy_from: self.proxy_from,
                secure: self.secure.clone(),
                threads,
                cpus,
            },
            processes,
            host: self.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
            embedded,
            content_len: messages.content_len(),
            request_len: messages.request_len(),
            verification: messages.verification(),
            left_out: Vec::new(),
            options: self.clone(),
        })
    }

    /// Connections that are not at work.
    fn others(&self) -> u64 {
        u64::from(self.idle) + u64::from(self.slow)
    }

    /// Host and port of each target, resolved once for all; none for the embedded server.
    fn targets(&self) -> Result<Vec<(String, u16)>> {
        let Some(host) = &self.host else { return Ok(Vec::new()) };
        let ports = match &self.ports[..] {
            [] if host.starts_with("unix:") => vec![0],
            [] => return Err(Error::usage(format_args!("which port of {host}?"))),
            ports => ports.to_vec(),
        };
        let first = ports.first().copied().unwrap_or_default();
        let addresses = sys::resolve(host, first)?;
        let answers = |address: &&SocketAddr| {
            let std = address.to_std();
            std.is_some_and(|std| TcpStream::connect_timeout(&std, self.connect_timeout).is_ok())
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
    fn sources(&self, all: u64, targets: &[(String, u16)], embedded: u64) -> Result<Vec<IpAddr>> {
        // Linux gives ports of one parity first, and then looks long for each of the others.
        let range =
            myriapod_machine::Machine::read().local_ports.map_or(28_232, |ports| ports.count());
        let per_source = (range / 2).clamp(1, 25_000);
        let ports = if embedded > 0 { embedded } else { targets.len() as u64 };
        let needed = all.div_ceil(per_source * ports.max(1));
        let target = targets.first().and_then(|(host, _)| host.parse::<IpAddr>().ok());
        if let Some(sources) = &self.sources {
            if let Some(target) = target
                && let Some(other) = sources.iter().find(|ip| ip.is_ipv4() != target.is_ipv4())
            {
                return Err(Error::usage(format_args!(
                    "`source` {other} is of another family than the server's {target}"
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
