//! The server's side: [`Embedded`] servers of bench's own, and [`Watch`], what the processes of any
//! server use.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use myriapod::sys;
use myriapod_machine::ProcessUsage;

use crate::error::{Error, Result};
use crate::message::Service;
use crate::processors;
use crate::report::{MemoryPoint, ServerFigures};

/// Below so many connections, pages say nothing about one of them.
const LEAST_CONNECTIONS: u64 = 1000;

/// Fewer points make no line.
const LEAST_POINTS: usize = 4;

/// What its service is to be, and in which framing if not in its own.
type Asked<'a> = (Service, Option<&'a str>);

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
    pub(crate) fn start(
        count: u64,
        (service, framing): Asked<'_>,
        pin: bool,
        behind_proxy: bool,
        secure: bool,
    ) -> Result<Self> {
        let mut embedded = Self { children: Vec::new(), ports: Vec::new() };
        if !pin || count == 1 {
            (0..count)
                .try_for_each(|_| embedded.add((service, framing), pin, behind_proxy, secure))?;
            return Ok(embedded);
        }
        // A server takes the first processor that it may run on, so each is left another one.
        let cpus = sys::thread_cpus()?;
        for cpu in cpus.iter().cycle().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            sys::set_thread_cpus(&[*cpu])?;
            let added = embedded.add((service, framing), pin, behind_proxy, secure);
            sys::set_thread_cpus(&cpus)?;
            added?;
        }
        Ok(embedded)
    }

    fn add(
        &mut self,
        (service, framing): Asked<'_>,
        pin: bool,
        behind_proxy: bool,
        secure: bool,
    ) -> Result<()> {
        let failed = |error: std::io::Error| Error::io("start", "the embedded server", &error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        // Any reply will do.
        let service = if service == Service::Any { Service::Echo } else { service };
        command.args(["serve", "127.0.0.1", "0", "--service", service.name()]);
        if let Some(framing) = framing {
            command.args(["--framing", framing]);
        }
        // What is kept silent on purpose is not to be closed for it.
        command.args(["--idle-timeout", "0", "--max-content-len", "64MiB"]);
        if cfg!(target_os = "linux") {
            command.arg("--end-with-parent");
        }
        if pin {
            command.arg("--pin");
        }
        if behind_proxy {
            command.args(["--proxy-protocol", "127.0.0.0/8"]);
        }
        if secure {
            command.arg("--tls-self-signed");
        }
        // Ctrl-C is for bench, which ends its servers last.
        command.process_group(0);
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
            Error::new("the embedded server does not listen")
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
    hold: Option<MemoryPoint>,
    begun: ProcessUsage,
}

impl Watch {
    /// `None` where there is nothing to watch.
    ///
    /// # Errors
    ///
    /// A process that is not there, or a system that does not tell.
    pub(crate) fn start(pids: Vec<u32>) -> Result<Option<Self>> {
        if pids.is_empty() {
            return Ok(None);
        }
        let begun = usage(&pids).map_err(|error| {
            Error::from(error)
                .with_next_step("--server-pid takes the number of the server's process")
        })?;
        Ok(Some(Self { before: begun.rss_bytes, pids, hold: None, begun }))
    }

    /// Resident memory of all of them now; `None` where one has ended.
    pub(crate) fn rss(&self) -> Option<u64> {
        self.pids.iter().map(|&pid| myriapod_machine::process_rss_bytes(pid).ok()).sum()
    }

    /// What all of them have used; `None` where one has ended.
    pub(crate) fn usage(&self) -> Option<ProcessUsage> {
        usage(&self.pids).ok()
    }

    /// So many connections are held now, and nothing else happens.
    pub(crate) fn held(&mut self, connections: u64) {
        self.hold = self.rss().map(|rss| point(connections, rss));
    }

    fn cpus_allowed(&self) -> Option<String> {
        let all: Option<Vec<String>> =
            self.pids.iter().map(|&pid| myriapod_machine::process_cpus(pid).ok()).collect();
        all.map(|all| processors::list(&processors::parse(&all.join(","))))
    }

    /// The run begins.
    pub(crate) fn begin(&mut self) {
        self.begun = self.usage().unwrap_or(self.begun);
    }

    /// What it came to, over `seconds` and so many messages; `memory` is that of the ramp.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn figures(
        &self,
        ended: &ProcessUsage,
        seconds: f64,
        messages: u64,
        memory: &[MemoryPoint],
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
        let held = self.hold.unwrap_or_else(|| point(0, self.before));
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
            rss_bytes_hold: held.server_rss_bytes,
            rss_bytes_run: ended.rss_bytes,
            rss_bytes_per_connection: per_connection(memory, self.before, held),
            cpus_allowed: self.cpus_allowed(),
        }
    }
}

const fn point(connections: u64, server_rss_bytes: u64) -> MemoryPoint {
    MemoryPoint { connections, server_rss_bytes }
}

/// How memory grew from a fifth of the connections on: the slope of the line that fits best. Before,
/// a server touches for the first time what it needs for any number of them. Where connections came
/// too fast for a line, it is what was added since before the first, and that is part of it.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_connection(memory: &[MemoryPoint], before: u64, held: MemoryPoint) -> Option<f64> {
    let all = held.connections;
    if all < LEAST_CONNECTIONS {
        return None;
    }
    let settled = |point: &&MemoryPoint| (all / 5..=all).contains(&point.connections);
    let mut points: Vec<(f64, f64)> = memory
        .iter()
        .filter(settled)
        .chain([&held])
        .map(|point| (point.connections as f64, point.server_rss_bytes as f64))
        .collect();
    let least = points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min);
    if points.len() < LEAST_POINTS || least > all as f64 / 2.0 {
        points = vec![(0.0, before as f64), (all as f64, held.server_rss_bytes as f64)];
    }
    let mean =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let alone: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    Some(together / alone)
}

/// The sum over processes.
fn usage(pids: &[u32]) -> sys::Result<ProcessUsage> {
    let mut sum = ProcessUsage::default();
    for &pid in pids {
        let usage = myriapod_machine::process_usage(pid)?;
        sum.running += usage.running;
        sum.cpu.user += usage.cpu.user;
        sum.cpu.system += usage.cpu.system;
        sum.voluntary_switches += usage.voluntary_switches;
        sum.involuntary_switches += usage.involuntary_switches;
        sum.rss_bytes += usage.rss_bytes;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_a_server_needs_for_itself_left_out() {
        // 4 MB before the first, 300 kB touched with it, and 100 bytes for each.
        let rss =
            |connections: u64| 4_000_000 + 100 * connections + 300_000.min(connections * 3000);
        let at = |connections| point(connections, rss(connections));
        let memory: Vec<MemoryPoint> = (0..=20).map(|nth| at(nth * 100)).collect();
        let each = per_connection(&memory, rss(0), at(2000)).unwrap();
        assert!((each - 100.0).abs() < 0.01, "{each}");
        // Too few points, or none of the first half: what is known is both ends.
        for few in [&memory[..2], &memory[19..], &memory[12..19]] {
            assert_eq!(per_connection(few, rss(0), at(2000)), Some(250.0));
        }
        assert_eq!(per_connection(&memory, rss(0), at(999)), None);
    }
}
