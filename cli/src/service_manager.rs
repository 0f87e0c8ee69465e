//! What a service manager is told: ready, reloading, stopping, still alive, and how many are served.
//!
//! systemd names a datagram socket in `NOTIFY_SOCKET`; without it, nothing here happens. Source:
//! `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use myriapod::sys;
use myriapod::{Handle, ServersStats};

use crate::failure::Failure;
use crate::terminal::tell;

/// How often the status is told where nobody watches over us.
const STATUS_PERIOD: Duration = Duration::from_secs(30);

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// In which time it wants to hear of us.
    watchdog: Option<Duration>,
}

/// Tells the service manager that every loop turns, until this goes.
#[derive(Debug)]
pub(crate) struct Watch {
    _end: Sender<()>,
}

impl ServiceManager {
    /// The one that started this process.
    ///
    /// # Errors
    ///
    /// A socket that cannot be reached, or a time that is no number: a service manager that waits
    /// for us would end us later, and nobody would know why.
    pub(crate) fn find() -> Result<Self, Failure> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let is_ours = match env::var("WATCHDOG_PID") {
            Ok(owner) => owner == std::process::id().to_string(),
            Err(_) => true,
        };
        let watchdog = match env::var("WATCHDOG_USEC") {
            Ok(micros) if is_ours => {
                let micros = micros.parse::<u64>().ok().filter(|micros| *micros > 0);
                let micros = micros.ok_or_else(|| {
                    Failure::new("WATCHDOG_USEC: not a number of microseconds above 0")
                })?;
                Some(Duration::from_micros(micros))
            }
            _ => None,
        };
        let reached = reach(&name);
        let shown = name.to_string_lossy();
        let socket = reached.map_err(|error| {
            Failure::io("connect", format_args!("NOTIFY_SOCKET {shown}"), &error)
                .with_next_step("unset NOTIFY_SOCKET where no service manager listens")
        })?;
        Ok(Self { socket: Some(socket), watchdog })
    }

    /// Says something: lines of `NAME=VALUE`. It never waits.
    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tell(Failure::io("send", "NOTIFY_SOCKET", &error));
        }
    }

    /// We serve, or serve on.
    pub(crate) fn ready(&self, served: &str) {
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS={served}", std::process::id()));
    }

    /// The configuration is being read again.
    pub(crate) fn reloading(&self) {
        // The kernel's clock that only goes on, which the service manager compares.
        let micros = sys::now().as_nanos() / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// We were told to stop.
    pub(crate) fn stopping(&self, open: u64) {
        self.say(&format!("STOPPING=1\nSTATUS=stopping; connections open: {open}"));
    }

    /// Another process serves all from now on: it is the one to watch over.
    pub(crate) fn replaced_by(&self, process: u32) {
        self.say(&format!("MAINPID={process}\nSTATUS=replaced by process {process}"));
    }

    /// Begins to tell that every loop turns, and how many are served.
    ///
    /// # Errors
    ///
    /// A thread that cannot be made.
    pub(crate) fn watch(self: &Arc<Self>, handle: Handle) -> Result<Option<Watch>, Failure> {
        if self.socket.is_none() {
            return Ok(None);
        }
        let (end, ended) = channel();
        let manager = Arc::clone(self);
        // Twice in its time, so that one that comes late is no harm.
        let period = self.watchdog.map_or(STATUS_PERIOD, |time| time / 2);
        sys::spawn("watchdog", move || {
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                // Each loop answers for itself, or has not turned for a second.
                let Ok(loops) = handle.stats() else { continue };
                let alive = if manager.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
                manager.say(&format!("{alive}STATUS={}", served(&loops.into())));
            }
        })?;
        Ok(Some(Watch { _end: end }))
    }
}

/// What is served, in a few words.
pub(crate) fn served(stats: &ServersStats) -> String {
    let sum = stats.sum();
    format!("connections open: {}; messages: {}", sum.open, sum.messages)
}

/// A socket connected to a path, or to an abstract name behind `@`.
fn reach(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.connect_addr(&address)?;
        }
        _ => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use myriapod::{Client, HandlerResult, Message, Reply, Server};

    #[test]
    fn does_the_watchdog_stop_while_a_handler_blocks_a_loop() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let watchdog = Some(Duration::from_millis(20));
        let manager = Arc::new(ServiceManager { socket: Some(ours), watchdog });
        let (entered, wait_for_entry) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let answer = move |_: Message<'_>, reply: &mut Reply<'_>| -> HandlerResult {
            entered.send(()).unwrap();
            released.recv().unwrap();
            Ok(reply.json(&1)?)
        };
        let mut server = Server::builder().listen("127.0.0.1", 0).answer(answer).unwrap();
        let (port, handle) = (server.addresses()[0].port().unwrap(), server.handle());
        let _watch = manager.watch(handle.clone()).unwrap().unwrap();
        let serving = std::thread::spawn(move || server.run().unwrap());
        let mut buffer = [0; 256];
        let mut next = || {
            let len = theirs.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
        };
        let alive = next().unwrap();
        assert!(alive.starts_with("WATCHDOG=1\nSTATUS=connections open: "), "{alive}");
        let client = std::thread::spawn(move || {
            Client::connect("127.0.0.1", port).unwrap().request_json(&1).map(|_| ()).unwrap();
        });
        wait_for_entry.recv().unwrap();
        // Those that were under way may come, no more than the socket holds; then none does.
        theirs.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let after = std::iter::from_fn(&mut next).take(1000).count();
        assert!(after < 1000, "{after} since the loop stands still");
        theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        release.send(()).unwrap();
        assert!(next().unwrap().starts_with("WATCHDOG=1\n"), "it turns again");
        client.join().unwrap();
        handle.shutdown().unwrap();
        assert!(serving.join().unwrap());
    }
}
