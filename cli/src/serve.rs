//! `myriapod serve`: one of the [services](crate::services) on the sockets asked for.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use clap::ValueEnum as _;
use myriapod::link::Link;
use myriapod::protocol::{AnyFraming, DecodeLimits, Framing, FramingSpec, JsonHeader, Padded, Raw};
use myriapod::sys::{self, Backend, ListenOptions, Listener, Signal};
use myriapod::{
    Cause, Handle, Handler, LogEvent, ProxyProtocol, Server, ServerBuilder, ServersStats,
    SocketAddr,
};

use crate::config_file::{self, Settings};
use crate::failure::Failure;
use crate::json_log;
use crate::limits::LimitArgs;
use crate::live::{self, LivePlace};
use crate::log_writer::LOG;
use crate::metrics;
use crate::reload::Reload;
use crate::replacement::{Besides, HandoverArgs};
use crate::service_manager::ServiceManager;
use crate::services::Service;
use crate::terminal::{self, ONE_PIECE, OneLine, PythonStr, has_room, print_text, tell, tell_line};
use crate::tls::{self, ServeTls};
use crate::units::{Count, Mode, Place, Rate, Size, Threads};
use myriapod_doctor::{self as doctor, Plan};
use myriapod_rooms::{RoomArgs, RoomService, Summary};

/// Where the tutorial's server listens.
pub(crate) const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 65432;

const EXAMPLES: &str = "\
Examples:
  myriapod serve                      127.0.0.1 65432, for searches
  myriapod serve '' 0                 all IPv4 interfaces, any free port
  myriapod serve ::1 --service echo   IPv6
  myriapod serve localhost            all addresses of a name
  myriapod serve unix:/tmp/search     a Unix socket
  myriapod serve --threads auto       an event loop for each processor
  myriapod serve --proxy-protocol 127.0.0.0/8,10.0.0.0/8
                                      behind HAProxy or nginx
  myriapod serve --framing lines --service echo   nc can talk to it
  myriapod serve --framing length:4be             searches as JSON behind a length
  myriapod serve --service rooms                  for myriapod chat
  myriapod serve --handover /run/search/handover  the same again replaces it:
                                      no connection is lost

SIGINT and SIGTERM finish what is in flight; a second one ends at once.
SIGUSR1 prints on stderr what has happened so far; SIGHUP reads --config again:
limits and --verbose change while it serves.
Where nobody reads stderr, lines are dropped and counted; peers never wait for it.
A loop whose handler is busy keeps its own clients waiting, also new ones.
Listeners that a service manager hands over (LISTEN_FDS) are served too; one
that is named metrics (LISTEN_FDNAMES) serves --metrics. systemd is told when it
is ready, reloading, stopping and, with a watchdog, that every loop turns.";

/// Serve messages
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name with all its addresses, an IPv4 or IPv6 address, '' for all IPv4
    /// interfaces, or unix:PATH [default: 127.0.0.1]
    host: Option<String>,
    /// A port; 0 for any that is free [default: 65432]
    port: Option<u16>,
    /// How messages are answered: search, echo, raw (bytes come back), padded
    /// (the tutorial's first program) or rooms (whose members hear each other)
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
    /// Read settings from a file of TOML, whose keys are these flags without their
    /// dashes, host and port; flags given here win, and SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
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
    /// Serve a page with moving charts of it: HOST:PORT, or a port of 127.0.0.1
    #[arg(long, value_name = "HOST:PORT")]
    live: Option<LivePlace>,
    /// Behind proxies in these networks, with commas between them; unix for Unix
    /// sockets: their connections begin with a PROXY header (version 1 or 2),
    /// and all others are refused
    #[arg(long, value_name = "NETWORKS")]
    proxy_protocol: Option<ProxyProtocol>,
    /// Permissions of the file of a Unix socket, in octal, such as 0660
    /// [default: what umask allows]
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<Mode>,
    /// Bytes that the kernel may hold for a connection before it has sent them;
    /// 0 for as many as it likes
    #[arg(long, value_name = "SIZE", default_value_t = Rate(256 << 10))]
    kernel_unsent: Rate,
    /// Bytes that it may hold until they are read [default: it
    /// decides]
    #[arg(long, value_name = "SIZE")]
    kernel_receive_buffer: Option<Size>,
    /// Bytes that it may hold until they have arrived [default: it
    /// decides]
    #[arg(long, value_name = "SIZE")]
    kernel_send_buffer: Option<Size>,
    /// Serve an inherited listening socket; may be repeated
    #[arg(long, value_name = "N")]
    listen_fd: Vec<i32>,
    /// A line per connection and message on stderr
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How stderr is written: text, or json for one object a line
    #[arg(long, value_enum, value_name = "FORM", default_value_t = LogForm::Text,
        hide_possible_values = true)]
    log: LogForm,
    #[command(flatten)]
    handover: HandoverArgs,
    /// Stop when the process that started this is gone
    #[arg(long, hide = true)]
    end_with_parent: bool,
    #[command(flatten)]
    rooms: RoomArgs,
    #[command(flatten)]
    pub(crate) tls: ServeTls,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

impl Args {
    /// What a server and its successor must have in common, besides where they listen.
    fn served(&self) -> String {
        let service = self.service.to_possible_value();
        let service = service.as_ref().map_or("", |service| service.get_name());
        match &self.framing {
            Some(framing) => format!("--service {service} --framing {framing}"),
            None => format!("--service {service}"),
        }
    }

    /// Whether a flag is one of the limits, which can change while peers are served.
    pub(crate) fn is_limit(&self, name: &str) -> bool {
        LimitArgs::is_one(name)
    }
}

/// How standard error is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LogForm {
    Text,
    Json,
}

/// Serves until a signal says to stop.
///
/// # Errors
///
/// Arguments that cannot work, whatever the system refuses, and a stop that cut something off.
pub(crate) fn run(config: Option<&Path>) -> Result<ExitCode, Failure> {
    let given = config_file::given();
    let settings = Settings::read(&given, config)?;
    let args = &settings.args.clone();
    if args.log == LogForm::Json {
        terminal::begin_json();
    }
    let limits = args.limits.to_limits().decode();
    let reload = Arc::new(Reload {
        given,
        path: config.map(Path::to_owned),
        verbose: Arc::new(AtomicBool::new(args.verbose)),
        settings: Mutex::new(settings),
        manager: Arc::new(ServiceManager::find()?),
    });
    let service = args.service;
    if let (Some(flag), true) = (args.rooms.given(), service != Service::Rooms) {
        return Err(Failure::usage(format_args!("{flag} needs --service rooms")));
    }
    let spec = match &args.framing {
        Some(spec) if *spec != FramingSpec::DEFAULT => spec.clone(),
        _ => return serve_usual(args, reload, limits),
    };
    let refused = |why| Err(Failure::usage(format_args!("--framing {spec}: {why}")));
    let service = match (service, &spec) {
        (Service::Search, FramingSpec::Raw) => {
            return refused("--service search needs messages that end; --service echo does not");
        }
        (Service::Rooms, FramingSpec::Raw) => {
            return refused("--service rooms needs messages that end");
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
            let carrying = move || framing().carrying("text/json", "utf-8");
            serve(args, reload, move || service, &None, carrying)
        }
        Service::Rooms => {
            serve_rooms(args, reload, move || framing().carrying("text/json", "utf-8"))
        }
        service => serve(args, reload, move || service, &None, framing),
    }
}

/// Serves in the framing that the service has by itself.
fn serve_usual(
    args: &Args,
    reload: Arc<Reload>,
    limits: DecodeLimits,
) -> Result<ExitCode, Failure> {
    let service = args.service;
    match service {
        _ if args.framing.is_some() && matches!(service, Service::Raw | Service::Padded) => {
            Err(Failure::usage("--framing json-header needs --service search, echo or rooms"))
        }
        Service::Search | Service::SearchText | Service::Echo => {
            serve(args, reload, move || service, &None, move || JsonHeader::new(limits))
        }
        Service::Raw => serve(args, reload, move || service, &None, || Raw),
        Service::Padded => serve(args, reload, move || service, &None, move || Padded::new(limits)),
        Service::Rooms => serve_rooms(args, reload, move || JsonHeader::new(limits)),
    }
}

/// Serves rooms, in any framing.
fn serve_rooms<F, N>(args: &Args, reload: Arc<Reload>, framing: N) -> Result<ExitCode, Failure>
where
    F: Framing + 'static,
    N: Fn() -> F + Send + Sync + 'static,
{
    let rooms = Arc::new(RoomService::new(&args.rooms));
    let shared = Arc::clone(&rooms);
    serve(args, reload, move || shared.handler(), &Some(rooms), framing)
}

/// The rooms of a server that has any.
type Hosted = Option<Arc<RoomService>>;

fn serve<H, M, F, N>(
    args: &Args,
    reload: Arc<Reload>,
    handler: M,
    rooms: &Hosted,
    framing: N,
) -> Result<ExitCode, Failure>
where
    H: Handler + 'static,
    M: Fn() -> H + Send + Sync + 'static,
    F: Framing + 'static,
    N: Fn() -> F + Send + Sync + 'static,
{
    let (manager, verbose) = (Arc::clone(&reload.manager), Arc::clone(&reload.verbose));
    let told = Arc::clone(&manager);
    let loops: Arc<OnceLock<Handle>> = Arc::default();
    let asked = Arc::clone(&loops);
    let reported = rooms.clone();
    let reason = foresee(args);
    let took_over: Arc<AtomicBool> = Arc::default();
    let told_of_it = Arc::clone(&took_over);
    let mut builder = Server::builder()
        .threads(args.threads.number())
        .pin(args.pin)
        .spin(Duration::from_micros(args.spin))
        .limits(args.limits.to_limits())
        .one_shot(args.one_shot)
        .backend(args.backend)
        .signals(&[Signal::Interrupt, Signal::Terminate, Signal::User1, Signal::Hangup])
        .log_messages(args.verbose)
        .log_each(move |event| match event {
            LogEvent::Report => report(asked.get(), reported.clone()),
            LogEvent::Reload => begin_reload(&reload, asked.get()),
            LogEvent::LimitLowered { asked, lowered, because } => {
                let because = reason.as_deref().unwrap_or(because);
                tell_event(&LogEvent::LimitLowered { asked: *asked, lowered: *lowered, because });
            }
            event => {
                match event {
                    LogEvent::Draining { open } => told.stopping(*open),
                    LogEvent::HandedOver { process, .. } => told.replaced_by(*process),
                    LogEvent::TookOver { .. } => told_of_it.store(true, Relaxed),
                    _ => {}
                }
                if !event.is_routine() || verbose.load(Relaxed) {
                    tell_event(event);
                }
            }
        });
    let (inherited, for_metrics) = inherited(&args.listen_fd)?;
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
        max_unsent: u32::try_from(args.kernel_unsent.0).ok().filter(|bytes| *bytes > 0),
        receive_buffer: args.kernel_receive_buffer.map(|size| size.0),
        send_buffer: args.kernel_send_buffer.map(|size| size.0),
        ..ListenOptions::default()
    });
    if let Some(proxies) = &args.proxy_protocol {
        builder = builder.proxy_protocol(proxies.clone());
    }
    if let Some(handover) = args.handover.to_handover(&args.served())? {
        builder = builder.handover(handover);
    }
    let inherited_count = inherited.len();
    if let Some(host) = given {
        builder = builder.listen(host, args.port.unwrap_or(DEFAULT_PORT));
    }
    for listener in inherited {
        builder = builder.listener(listener);
    }
    let start = Start {
        args,
        given,
        inherited_count,
        for_metrics,
        loops,
        manager,
        handler,
        rooms,
        framing,
        took_over,
    };
    match args.tls.certificates(given)? {
        None => start.run(builder, None),
        Some(certificates) => {
            let secured = builder.secure_all(&certificates.acceptor);
            let made = certificates.made.clone();
            // What SIGHUP reads again.
            let _ = tls::SERVED.set(certificates);
            start.run(secured, made.as_deref())
        }
    }
}

/// A server that is about to start.
struct Start<'a, M, N> {
    args: &'a Args,
    given: Option<&'a str>,
    inherited_count: usize,
    for_metrics: Option<Listener>,
    loops: Arc<OnceLock<Handle>>,
    manager: Arc<ServiceManager>,
    handler: M,
    rooms: &'a Hosted,
    framing: N,
    /// There are connections already: they are served, whatever else fails.
    took_over: Arc<AtomicBool>,
}

impl<M, N> Start<'_, M, N> {
    /// Serves; `made` is the SHA-256 of a certificate that was made for this.
    fn run<H, F, L>(
        self,
        builder: ServerBuilder<L>,
        made: Option<&str>,
    ) -> Result<ExitCode, Failure>
    where
        H: Handler + 'static,
        M: Fn() -> H + Send + Sync + 'static,
        F: Framing + 'static,
        L: Link,
        N: Fn() -> F + Send + Sync + 'static,
    {
        let Self { args, given, inherited_count, loops, manager, handler, rooms, framing, .. } =
            self;
        if args.end_with_parent {
            myriapod_machine::end_with_parent()?;
        }
        let mut servers = builder.build_each_with(framing, handler)?;
        // The signals are caught from here on, so nothing may block for ever.
        LOG.begin();
        let _ = loops.set(servers.handle());
        if let Some(rooms) = rooms {
            rooms.begin(&args.rooms, servers.handle())?;
        }
        let more = |rooms: &Hosted| {
            let rooms = rooms.clone();
            move || rooms.as_ref().map_or_else(String::new, |rooms| rooms.exposition())
        };
        let took_over = self.took_over.load(Relaxed);
        let metrics = match (&args.metrics, self.for_metrics) {
            (None, None) => None,
            // What came from the service manager has no place that another may have.
            (place, Some(listener)) => {
                let (place, handle) = (place.clone(), servers.handle());
                Some(Besides::Now(metrics::serve(place, Some(listener), handle, more(rooms))?))
            }
            (place, None) => {
                let (place, handle, rooms) = (place.clone(), servers.handle(), rooms.clone());
                let start =
                    move || metrics::serve(place.clone(), None, handle.clone(), more(&rooms));
                Some(Besides::start(took_over, "metrics", start)?)
            }
        };
        let live = match &args.live {
            Some(place) => {
                let service = args.service.to_possible_value();
                let service = service.as_ref().map_or("", |service| service.get_name());
                let title = format!("serve {}, {service}", place_of(servers.addresses()));
                let (place, handle) = (place.clone(), servers.handle());
                let start = move || live::watch(&place, title.clone(), handle.clone());
                Some(Besides::start(took_over, "live", start)?)
            }
            None => None,
        };
        let addresses = servers.addresses();
        announce(given, addresses, addresses.len().saturating_sub(inherited_count))?;
        if let Some(made) = made {
            announce_certificate(made)?;
        }
        if let Some(Besides::Now(metrics)) = &metrics {
            for address in &metrics.addresses {
                tell(format_args!("metrics at http://{address}/metrics"));
            }
        }
        let loops = servers.handle();
        manager.ready("serving");
        let watch = manager.watch(loops)?;
        let graceful = servers.run();
        drop(watch);
        if let Some(rooms) = rooms {
            rooms.end();
        }
        let stats = servers.stats();
        tell_summary(&stats, rooms);
        if let Some(metrics) = metrics.and_then(Besides::started) {
            metrics.stop()?;
        }
        if let Some(live) = live.and_then(Besides::started) {
            live.end("the server has ended")?;
        }
        if graceful? { Ok(ExitCode::SUCCESS) } else { Err(cut_short(&stats)) }
    }
}

/// Where it listens, for a title.
fn place_of(addresses: &[SocketAddr]) -> String {
    addresses.first().map_or_else(String::new, ToString::to_string)
}

/// Says in advance that fewer connections will be reached than descriptors allow. Where descriptors
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
fn report(loops: Option<&Handle>, rooms: Hosted) {
    let Some(handle) = loops.cloned() else { return };
    let said = sys::spawn("report", move || match handle.stats() {
        Ok(loops) => tell_summary(&ServersStats::from(loops), &rooms),
        Err(error) => tell(format_args!("no report: {error}")),
    });
    if let Err(error) = said {
        tell(format_args!("no report: {error}"));
    }
}

/// Reads the configuration again, on a thread of its own for the same reason.
fn begin_reload(reload: &Arc<Reload>, loops: Option<&Handle>) {
    let Some(handle) = loops.cloned() else { return };
    let reload = Arc::clone(reload);
    if let Err(error) = sys::spawn("reload", move || reload.run(&handle)) {
        tell(format_args!("SIGHUP: {error}; all settings stay as they are"));
    }
}

fn tell_event(event: &LogEvent<'_>) {
    if json_log::is_on() { tell_line(json_log::event(event)) } else { tell(event) }
}

fn tell_summary(stats: &ServersStats, rooms: &Hosted) {
    let summary = Summary { stats, rooms: rooms.as_deref() };
    if json_log::is_on() { tell_line(json_log::summary(&summary)) } else { tell(&summary) }
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
/// the service manager. The one that it calls metrics comes apart.
fn inherited(numbers: &[i32]) -> Result<(Vec<Listener>, Option<Listener>), Failure> {
    let (descriptors, names) = if numbers.is_empty() {
        (sys::inherited_listeners()?, sys::inherited_listener_names())
    } else {
        let named = numbers.iter().map(|&number| sys::adopt_descriptor(number));
        (named.collect::<Result<_, _>>()?, Vec::new())
    };
    let (mut listeners, mut for_metrics) = (Vec::new(), None);
    for (nth, descriptor) in descriptors.into_iter().enumerate() {
        let listener = Listener::adopt(descriptor)?;
        let is_for_metrics = names.get(nth).is_some_and(|name| name == "metrics");
        if is_for_metrics && for_metrics.is_none() {
            for_metrics = Some(listener);
        } else {
            listeners.push(listener);
        }
    }
    Ok((listeners, for_metrics))
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
        // Our parent has read enough; there are peers to serve.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Failure::output(&error)),
    }
}

/// Says which certificate was made, so that a client can name it.
fn announce_certificate(sha256: &str) -> Result<(), Failure> {
    match print_text(&format!("certificate sha256 {sha256}\n")) {
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
