//! [`Server`]: the server under test. It runs already, or it is a child of ours, started anew for
//! each rung.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::{self, ListenOptions, Listener, Signal};

use super::evidence;
use super::peer::until;
use crate::failure::Failure;
use crate::terminal::OneLine;

/// A server needs no longer until it listens.
const START: Duration = Duration::from_secs(15);

/// What is kept of a line of the server's standard error.
const MAX_LINE: usize = 300;

/// Ports that no system of note gives to clients, so that no connection of ours has one of them.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The child that runs now, for the thread that a signal ends us by. It is locked while a child is
/// being started, so that none is missed.
static RUNNING: Mutex<Option<u32>> = Mutex::new(None);

/// Ends the child that runs now, if there is one; no other is started from now on.
pub(super) fn end_child() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = *running {
        // It may have ended already.
        let _ = sys::kill_group(pid);
    }
    std::mem::forget(running);
}

#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    run: Option<String>,
    child: Option<Running>,
    next_port: u16,
    /// Descriptors that a child may open, as it was before we raised our own limit.
    descriptors: u64,
}

impl Server {
    pub(super) fn new(address: SocketAddr, run: Option<String>, descriptors: u64) -> Self {
        // Several of us at once begin at different places.
        let room = u32::from(PORTS.end - PORTS.start);
        let from = u16::try_from(sys::pid().wrapping_mul(97) % room).unwrap_or(0);
        Self { address, run, child: None, next_port: PORTS.start + from, descriptors }
    }

    pub(super) fn address(&self) -> &SocketAddr {
        &self.address
    }

    pub(super) const fn is_child(&self) -> bool {
        self.run.is_some()
    }

    /// Starts a fresh process, which may open so many descriptors, and waits until it listens.
    ///
    /// # Errors
    ///
    /// A command that cannot be run, or ends, or does not listen.
    pub(super) fn start(&mut self, descriptors: Option<u64>) -> Result<(), Failure> {
        if self.run.is_none() {
            return Ok(());
        }
        let mut failure = None;
        // Somebody else may take the port in the moment before the server does.
        for _ in 0..2 {
            self.child = None;
            self.choose_port()?;
            match self.start_here(descriptors.unwrap_or(self.descriptors)) {
                Ok(()) => return Ok(()),
                Err(failed) => failure = Some(failed),
            }
        }
        Err(failure.unwrap_or_else(|| Failure::new("the server cannot be started")))
    }

    /// Starts a process on the port that the last one had.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub(super) fn start_again(&mut self) -> Result<(), Failure> {
        self.child = None;
        self.start_here(self.descriptors)
    }

    fn start_here(&mut self, descriptors: u64) -> Result<(), Failure> {
        let Some(run) = &self.run else { return Ok(()) };
        let port = self.address.port().unwrap_or(0);
        let command = run.replace("{port}", &port.to_string());
        let child = self.child.insert(Running::start(&command, descriptors)?);
        let address = &self.address;
        let mut ended = None;
        until(START, || {
            ended = child.ended();
            ended.is_some() || evidence::is_listening(address)
        });
        if let Some(ended) = ended {
            return Err(Failure::new(format_args!("{command}: ended before it listened, {ended}"))
                .with_next_step("run it by hand first"));
        }
        if !evidence::is_listening(address) {
            let waited = START.as_secs();
            return Err(Failure::new(format_args!(
                "{command}: nobody listens on {address} after {waited} s"
            ))
            .with_next_step("does it use the port that {port} in --run stands for?"));
        }
        Ok(())
    }

    /// A port of the address that is free.
    fn choose_port(&mut self) -> Result<(), Failure> {
        let strict = ListenOptions { reuse_address: false, ..ListenOptions::default() };
        let mut last = None;
        for _ in 0..100 {
            let port = self.next_port;
            self.next_port = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
            self.address = with_port(&self.address, port);
            match Listener::probe(&self.address, &strict) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| Failure::new("no port is free"), Failure::from))
    }

    /// How the child ended, if it does within `wait`; of another server of this machine, that nobody
    /// listens any more.
    pub(super) fn ended(&mut self, wait: Duration, same_machine: bool) -> Option<String> {
        let mut ended = None;
        let address = &self.address;
        match &mut self.child {
            Some(child) => until(wait, || {
                ended = child.ended();
                ended.is_some()
            }),
            None if same_machine => until(wait, || {
                let gone = !evidence::is_listening(address);
                ended = gone.then(|| "nobody listens any more".to_owned());
                gone
            }),
            None => false,
        };
        ended
    }

    /// The processes that listen.
    pub(super) fn pids(&self) -> Vec<u32> {
        let owners = evidence::owners(&self.address);
        match (&self.child, owners.is_empty()) {
            (Some(child), true) => vec![child.process.id()],
            _ => owners,
        }
    }

    /// Tells the child to stop; says how it ended, once nobody listens any more either. A shell may
    /// end before the server that it started.
    pub(super) fn stop(&mut self, wait: Duration) -> Option<String> {
        self.tell_to_stop();
        let ended = self.ended(wait, true)?;
        until(wait, || !evidence::is_listening(&self.address)).then_some(ended)
    }

    /// Sends SIGTERM to those who listen, and does not wait.
    pub(super) fn tell_to_stop(&self) {
        if let Some(child) = &self.child {
            // Each once: to a server that stops in good order, a second signal means at once.
            let mut pids = self.pids();
            if !pids.contains(&child.process.id()) {
                pids.push(child.process.id());
            }
            for pid in pids {
                // One of them may have ended with the other.
                let _ = sys::send_signal(pid, Signal::Terminate);
            }
        }
    }

    /// Ends the child.
    pub(super) fn end(&mut self) {
        self.child = None;
    }
}

fn with_port(address: &SocketAddr, port: u16) -> SocketAddr {
    match address.to_std() {
        Some(mut std) => {
            std.set_port(port);
            std.into()
        }
        None => address.clone(),
    }
}

/// A child of ours, with all that it started. Dropping it ends them.
#[derive(Debug)]
struct Running {
    process: Child,
    last: Arc<Mutex<Last>>,
    reader: Option<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

/// Of standard error: the last line, and the last that speaks of an error.
#[derive(Debug, Default)]
struct Last {
    line: String,
    error: String,
}

impl Running {
    fn start(command: &str, descriptors: u64) -> Result<Self, Failure> {
        // One simple command takes the place of the shell, so that signals reach it.
        let simple = !command.contains(['|', '&', ';', '<', '>', '(', ')', '\n', '`', '=']);
        let exec = if simple { "exec " } else { "" };
        let script = format!("ulimit -S -n {descriptors} 2>/dev/null; {exec}{command}");
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::io("start", "/bin/sh", &error))?;
        *running = Some(process.id());
        drop(running);
        let last = Arc::new(Mutex::new(Last::default()));
        let stderr = process.stderr.take();
        let reader = stderr.map(|stderr| {
            let last = Arc::clone(&last);
            std::thread::spawn(move || read(stderr, &last))
        });
        Ok(Self { process, last, reader, status: None })
    }

    /// How it ended, if it has: `status 1: ConnectionResetError: …`.
    fn ended(&mut self) -> Option<String> {
        if self.status.is_none() {
            let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            self.status = self.process.try_wait().ok()?;
            if self.status.is_some() {
                // What it left behind ends now: later its number may be another's.
                let _ = sys::kill_group(self.process.id());
                *running = None;
            }
        }
        let status = self.status?;
        // What it said last may still be on its way; a process that it left behind says nothing.
        if let Some(reader) = &self.reader {
            until(Duration::from_millis(500), || reader.is_finished());
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let said = if last.error.is_empty() { &last.line } else { &last.error };
        let how = match (status.code(), status.signal()) {
            (Some(code), _) if code > 128 && said.is_empty() => signal_name(code - 128)
                .map_or_else(|| format!("status {code}"), |name| format!("killed by {name}")),
            (Some(code), _) => format!("status {code}"),
            (None, Some(number)) => match signal_name(number) {
                Some(name) => format!("killed by {name}"),
                None => format!("killed by signal {number}"),
            },
            (None, None) => "ended".to_owned(),
        };
        // One that ended well may have said anything.
        Some(if said.is_empty() || status.success() {
            how
        } else {
            format!("{how}: {}", OneLine(said))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = sys::kill_group(self.process.id());
        let _ = self.process.wait();
        *running = None;
    }
}

/// Reads to the end and keeps what matters, in bounded memory.
fn read(stderr: ChildStderr, last: &Mutex<Last>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without end is taken in pieces.
        match (&mut stderr).take(64 << 10).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim().chars().take(MAX_LINE).collect();
        if text.is_empty() {
            continue;
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        // Where a language prints more behind the error, the error is what matters.
        let is_error = text.contains("Error: ") || text.contains("rror:");
        if is_error && !text.starts_with("During handling") {
            last.error.clone_from(&text);
        }
        last.line = text;
    }
}

/// The names of those that end servers.
const fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}
