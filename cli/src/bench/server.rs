//! The server's side: [`Embedded`] servers of bench's own, and [`Watch`], what the processes of any
//! server use.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use myriapod::sys::{self, ProcessUsage};

use super::message::Service;
use super::report::ServerFigures;
use crate::failure::Failure;

/// Below so many connections, pages say nothing about one of them.
const LEAST_CONNECTIONS: u64 = 1000;

/// `myriapod serve` in processes of its own, so that processor time and memory are its own too.
/// They end when this goes.
#[derive(Debug)]
pub(crate) struct Embedded {
    children: Vec<Child>,
    pub(crate) ports: Vec<u16>,
}

impl Embedded {
    /// Starts so many servers on free ports of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// A process that cannot be started, or does not listen.
    pub(crate) fn start(count: u64, service: Service, pin: bool) -> Result<Self, Failure> {
        let mut embedded = Self { children: Vec::new(), ports: Vec::new() };
        for _ in 0..count {
            embedded.add(service, pin)?;
        }
        Ok(embedded)
    }

    fn add(&mut self, service: Service, pin: bool) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io("start", "the embedded server", &error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["serve", "127.0.0.1", "0", "--service", service.name()]);
        // What is kept silent on purpose is not to be closed for it.
        command.args(["--idle-timeout", "0", "--max-content-len", "64MiB"]);
        if cfg!(target_os = "linux") {
            command.arg("--end-with-parent");
        }
        if pin {
            command.arg("--pin");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        self.children.push(child);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let port = line.trim().rsplit_once(", ").and_then(|(_, port)| port.strip_suffix(')'));
        let port = port.and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| {
            Failure::new("the embedded server does not listen")
                .with_next_step("`myriapod serve 127.0.0.1 0` says why")
        })?;
        self.ports.push(port);
        Ok(())
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processes of a server, watched.
#[derive(Debug)]
pub(crate) struct Watch {
    pids: Vec<u32>,
    before: u64,
    hold: Option<(u64, u64)>,
    begun: ProcessUsage,
}

impl Watch {
    /// `None` where there is nothing to watch.
    ///
    /// # Errors
    ///
    /// A process that is not there, or a system that does not tell.
    pub(crate) fn start(pids: Vec<u32>) -> Result<Option<Self>, Failure> {
        if pids.is_empty() {
            return Ok(None);
        }
        let begun = usage(&pids).map_err(|error| {
            Failure::from(error)
                .with_next_step("--server-pid takes the number of the server's process")
        })?;
        Ok(Some(Self { before: begun.rss_bytes, pids, hold: None, begun }))
    }

    /// Resident memory of all of them now; `None` where one has ended.
    pub(crate) fn rss(&self) -> Option<u64> {
        self.pids.iter().map(|&pid| sys::process_rss_bytes(pid).ok()).sum()
    }

    /// What all of them have used; `None` where one has ended.
    pub(crate) fn usage(&self) -> Option<ProcessUsage> {
        usage(&self.pids).ok()
    }

    /// So many connections are held now, and nothing else happens.
    pub(crate) fn held(&mut self, connections: u64) {
        self.hold = self.rss().map(|rss| (rss, connections));
    }

    /// The run begins.
    pub(crate) fn begin(&mut self) {
        self.begun = self.usage().unwrap_or(self.begun);
    }

    /// What it came to, over `seconds` and so many messages.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn figures(
        &self,
        ended: &ProcessUsage,
        seconds: f64,
        messages: u64,
    ) -> ServerFigures {
        let begun = &self.begun;
        let each = |value: f64| (messages > 0).then(|| value / messages as f64);
        let running = ended.running.saturating_sub(begun.running).as_secs_f64();
        let user = ended.cpu.user.saturating_sub(begun.cpu.user).as_secs_f64();
        let system = ended.cpu.system.saturating_sub(begun.cpu.system).as_secs_f64();
        // Ticks say how it is divided, and the nanoseconds how much it is.
        let ticks = user + system;
        let part = |part: f64| {
            if ticks > 0.0 { each(running * 1e6 * part / ticks) } else { None }
        };
        let (hold, held) = self.hold.unwrap_or((self.before, 0));
        let grown = hold as f64 - self.before as f64;
        ServerFigures {
            pids: self.pids.clone(),
            cpu_us_per_message: each(running * 1e6),
            user_us_per_message: part(user),
            system_us_per_message: part(system),
            cpus: if seconds > 0.0 { running / seconds } else { 0.0 },
            voluntary_switches_per_message: each(
                ended.voluntary_switches.saturating_sub(begun.voluntary_switches) as f64,
            ),
            involuntary_switches_per_message: each(
                ended.involuntary_switches.saturating_sub(begun.involuntary_switches) as f64,
            ),
            rss_bytes_before: self.before,
            rss_bytes_hold: hold,
            rss_bytes_run: ended.rss_bytes,
            rss_bytes_per_connection: (held >= LEAST_CONNECTIONS).then(|| grown / held as f64),
            cpus_allowed: self.pids.first().and_then(|&pid| sys::process_cpus(pid).ok()),
        }
    }
}

/// The sum over processes.
fn usage(pids: &[u32]) -> sys::Result<ProcessUsage> {
    let mut sum = ProcessUsage::default();
    for &pid in pids {
        let usage = sys::process_usage(pid)?;
        sum.running += usage.running;
        sum.cpu.user += usage.cpu.user;
        sum.cpu.system += usage.cpu.system;
        sum.voluntary_switches += usage.voluntary_switches;
        sum.involuntary_switches += usage.involuntary_switches;
        sum.rss_bytes += usage.rss_bytes;
    }
    Ok(sum)
}
