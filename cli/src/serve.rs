//! `myriapod serve`: one of the [services](crate::services) on the sockets asked for.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use myriapod::protocol::{AnyFraming, Framing, FramingSpec, JsonHeader, Padded, Raw};
use myriapod::sys::{self, Backend, ListenOptions, Listener, Signal};
use myriapod::{Cause, Handle, LogEvent, Server, ServersStats, SocketAddr};

use crate::doctor::{self, Plan};
use crate::failure::Failure;
use crate::limits::LimitArgs;
use crate::log_writer::LOG;
use crate::metrics::Metrics;
use crate::services::Service;
use crate::terminal::{ONE_PIECE, OneLine, PythonStr, has_room, print_text, tell};
use crate::units::{Count, Mode, Place, Threads};

/// Where the tutorial's server listens.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 65432;

const EXAMPLES: &str = "\
Examples:
  myriapod serve                      127.0.0.1 65432, for searches
  myriapod serve '' 0                 all IPv4 interfaces, any free port
  myriapod serve ::1 --service echo   IPv6
  myriapod serve localhost            all addresses of a name
  myriapod serve unix:/tmp/search     a Unix socket
  myriapod serve --threads auto       an event loop for each processor
  myriapod serve --framing lines --service echo   nc can talk to it
  myriapod serve --framing length:4be             searches as JSON behind a length

SIGINT and SIGTERM finish what is in flight; a second one ends at once.
SIGUSR1 prints on stderr what has happened so far.
Where nobody reads stderr, lines are dropped and counted; peers never wait for it.
A loop whose handler is busy keeps its own clients waiting, also new ones.
Listeners that a service manager hands over (LISTEN_FDS) are served too.";

/// Serve messages
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name with all its addresses, an IPv4 or IPv6 address, '' for all IPv4
    /// interfaces, or unix:PATH [default: 127.0.0.1]
    host: Option<String>,
    /// A port; 0 for any that is free [default: 65432]
    port: Option<u16>,
    /// How messages are answered: search, echo, raw (bytes come back) or padded
    /// (the tutorial's first program)
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Service::Search,
        hide_possible_values = true)]
    service: Service,
    /// How messages are framed: json-header, padded, length:4be, lines, delimited:\r\n, json
    /// or raw; a name that is none lists all [default: that of the service]
    #[arg(long, value_name = "SPEC")]
    framing: Option<FramingSpec>,
    /// Close after one reply, as the tutorial does
    #[arg(long)]
    one_shot: bool,
    /// epoll, kqueue, poll, select or portable
    #[arg(long, value_name = "NAME", default_value_t = Backend::native())]
    backend: Backend,
    /// Event loops, each on a thread of its own; auto for one per processor
    #[arg(long, value_name = "N|auto", default_value_t = Threads::Number(Count(1)))]
    threads: Threads,
    /// Keep each event loop on one processor (Linux)
    #[arg(long)]
    pin: bool,
    /// Look for events for this long before blocking: quicker answers for a
    /// processor that never rests; 0 for not at all
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    spin: u64,
    /// Serve what is counted at http://HOST:PORT/metrics, for Prometheus
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<Place>,
    /// Permissions of the file of a Unix socket, in octal, such as 0660
    /// [default: what umask allows]
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<Mode>,
    /// Serve an inherited listening socket; may be repeated
    #[arg(long, value_name = "N")]
    listen_fd: Vec<i32>,
    /// A line per connection and message on stderr
    #[arg(short, long)]
    verbose: bool,
    /// Stop when whoever started this is gone
    #[arg(long, hide = true)]
    end_with_parent: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Serves until a signal says to stop.
///
/// # Errors
///
/// Arguments that cannot work, whatever the system refuses, and a stop that cut something off.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let limits = args.limits.to_limits()?.decode();
    let service = args.service;
    let spec = match &args.framing {
        Some(spec) if *spec != FramingSpec::DEFAULT => spec.clone(),
        _ => return serve_usual(args),
    };
    let refused = |why| Err(Failure::usage(format_args!("--framing {spec}: {why}")));
    let service = match (service, &spec) {
        (Service::Search, FramingSpec::Raw) => {
            return refused("--service search needs messages that end; --service echo does not");
        }
        (Service::Search, spec) if !spec.has_header() => Service::SearchText,
        (Service::Raw, _) => return refused("--service raw has none; --service echo has"),
        (Service::Padded, spec) if !matches!(spec, FramingSpec::Padded { .. }) => {
            return refused("--service padded needs --framing padded, or a variant of that");
        }
        (service, _) => service,
    };
    let framing = move || AnyFraming::new(&spec, limits);
    match service {
        Service::SearchText => {
            serve(args, service, move || framing().carrying("text/json", "utf-8"))
        }
        service => serve(args, service, framing),
    }
}

/// Serves in the framing that the service has by itself.
fn serve_usual(args: &Args) -> Result<ExitCode, Failure> {
    let limits = args.limits.to_limits()?.decode();
    let service = args.service;
    match service {
        _ if args.framing.is_some() && matches!(service, Service::Raw | Service::Padded) => {
            Err(Failure::usage("--framing json-header needs --service search or echo"))
        }
        Service::Search | Service::SearchText | Service::Echo => {
            serve(args, service, move || JsonHeader::new(limits))
        }
        Service::Raw => serve(args, service, || Raw),
        Service::Padded => serve(args, service, move || Padded::new(limits)),
    }
}

fn serve<F, N>(args: &Args, service: Service, framing: N) -> Result<ExitCode, Failure>
where
    F: Framing + 'static,
    N: Fn() -> F + Send + Sync + 'static,
{
    let verbose = args.verbose;
    let loops: Arc<OnceLock<Handle>> = Arc::default();
    let asked = Arc::clone(&loops);
    let reason = foresee(args);
    let mut builder = Server::builder()
        .threads(args.threads.number())
        .pin(args.pin)
        .spin(Duration::from_micros(args.spin))
        .limits(args.limits.to_limits()?)
        .one_shot(args.one_shot)
        .backend(args.backend)
        .signals(&[Signal::Interrupt, Signal::Terminate, Signal::User1])
        .log_messages(verbose)
        .log_each(move |event| match event {
            LogEvent::Report => report(asked.get()),
            LogEvent::LimitLowered { asked, lowered, because } => {
                let because = reason.as_deref().unwrap_or(because);
                tell(format_args!("max_connections lowered from {asked} to {lowered}: {because}"));
            }
            event if verbose || !event.is_routine() => tell(event),
            _ => {}
        });
    let inherited = inherited(&args.listen_fd)?;
    // Handed sockets, we take the default place only if we are told to.
    let given = match &args.host {
        Some(host) => Some(host.as_str()),
        None if inherited.is_empty() => Some(DEFAULT_HOST),
        None => None,
    };
    if args.socket_mode.is_some() && !given.is_some_and(|host| host.starts_with("unix:")) {
        return Err(Failure::usage("--socket-mode needs a host unix:PATH"));
    }
    builder = builder.listen_options(ListenOptions {
        unix_mode: args.socket_mode.map(|mode| mode.0),
        ..ListenOptions::default()
    });
    let inherited_count = inherited.len();
    if let Some(host) = given {
        builder = builder.listen(host, args.port.unwrap_or(DEFAULT_PORT));
    }
    for listener in inherited {
        builder = builder.listener(listener);
    }
    if args.end_with_parent {
        myriapod_machine::end_with_parent()?;
    }
    let mut servers = builder.build_each_with(framing, move || service)?;
    // The signals are caught from here on, so nothing may block for ever.
    LOG.begin();
    let _ = loops.set(servers.handle());
    let metrics = match &args.metrics {
        Some(Place { host, port }) => Some(Metrics::start(host, *port, servers.handle())?),
        None => None,
    };
    let addresses = servers.addresses();
    announce(given, addresses, addresses.len().saturating_sub(inherited_count))?;
    for address in metrics.iter().flat_map(|metrics| &metrics.addresses) {
        tell(format_args!("metrics at http://{address}/metrics"));
    }
    let graceful = servers.run();
    let stats = servers.stats();
    tell(&stats);
    if let Some(metrics) = metrics {
        metrics.stop()?;
    }
    if graceful? { Ok(ExitCode::SUCCESS) } else { Err(cut_short(&stats)) }
}

/// Says beforehand that fewer connections will be reached than descriptors allow. Where descriptors
/// are what allows fewer than asked for, the reason is returned: the engine will say so.
fn foresee(args: &Args) -> Option<String> {
    let plan = Plan {
        connections: args.limits.max_connections(),
        threads: args.threads.number(),
        backend: args.backend,
        ..Plan::default()
    };
    let mut verdict = doctor::foretell(&plan);
    if verdict.ceiling == verdict.process_ceiling() {
        return verdict.reason();
    }
    // Asked for nothing, it takes as many as it has descriptors for.
    verdict.asked = match (verdict.asked, verdict.process_ceiling()) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    };
    if let Some(warning) = verdict.warning() {
        tell(warning);
    }
    None
}

/// Says what has happened so far. The loops are asked, so they cannot wait for the answer
/// themselves: a thread does. It is made only now, since the C library's calls cost more in a
/// process that has ever had two.
fn report(loops: Option<&Handle>) {
    let Some(handle) = loops.cloned() else { return };
    let said = sys::spawn("report", move || match handle.stats() {
        Ok(loops) => tell(ServersStats::from(loops)),
        Err(error) => tell(format_args!("no report: {error}")),
    });
    if let Err(error) = said {
        tell(format_args!("no report: {error}"));
    }
}

/// Why a stop was not graceful.
fn cut_short(stats: &ServersStats) -> Failure {
    match stats.sum().closed_for(Cause::CutOff) {
        0 => Failure::new("stopped at once by a second signal"),
        cut_off => Failure::new(format_args!("stopped; connections cut off: {cut_off}"))
            .with_next_step("--drain-timeout says how long to wait for them"),
    }
}

/// The listening sockets that this process was started with: those that were named, else those of
/// the service manager.
fn inherited(numbers: &[i32]) -> Result<Vec<Listener>, Failure> {
    let descriptors = if numbers.is_empty() {
        sys::inherited_listeners()?
    } else {
        numbers.iter().map(|&number| sys::adopt_descriptor(number)).collect::<Result<_, _>>()?
    };
    Ok(descriptors.into_iter().map(Listener::adopt).collect::<Result<_, _>>()?)
}

/// Says on standard output where it listens: `given` first, as it was given, then the rest. The
/// first `count` addresses are those of `given`; where it has several, each has a line too.
fn announce(given: Option<&str>, addresses: &[SocketAddr], count: usize) -> Result<(), Failure> {
    let mut text = String::new();
    let mut add = |host, address| {
        let place = Listening { host, address };
        text.push_str(&format!("listening on {}\n", OneLine(place)));
    };
    if let (Some(host), Some(address)) = (given, addresses.first()) {
        add(Some(host), address);
    }
    let told = if count == 1 { 1 } else { 0 };
    addresses.iter().skip(told).for_each(|address| add(None, address));
    if text.len() > ONE_PIECE || !has_room() {
        // There are peers to serve, and a signal to be heard, while nobody reads.
        sys::spawn("announce", move || print_text(&text))?;
        return Ok(());
    }
    match print_text(&text) {
        // Whoever started us has read enough; there are peers to serve.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Failure::output(&error)),
    }
}

/// A place in the notation of Python's sockets, with the host as it was given.
struct Listening<'a> {
    host: Option<&'a str>,
    address: &'a SocketAddr,
}

impl fmt::Display for Listening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((ip, port)) = self.address.ip().zip(self.address.port()) else {
            return match self.host {
                Some(host) => f.write_str(host),
                None => self.address.fmt(f),
            };
        };
        match self.host {
            Some(host) => write!(f, "({}, {port})", PythonStr(host)),
            None => write!(f, "({}, {port})", PythonStr(&ip.to_string())),
        }
    }
}
