//! Starting servers, each on the same processor, and asking the kernel what they used.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use myriapod::sys;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::Result;

/// The processors that servers and clients run on. The first two that this program may run on are
/// theirs, one each; where there is one only, or none can be chosen, they share what there is.
#[derive(Clone, Debug)]
pub(crate) struct Processors(Vec<usize>);

impl Processors {
    pub(crate) fn get() -> &'static Self {
        // Looked at once: later this program is kept to the clients' own.
        static FOUND: OnceLock<Processors> = OnceLock::new();
        FOUND.get_or_init(|| Self(sys::thread_cpus().unwrap_or_default()))
    }

    /// The servers' and the clients', where each have their own.
    fn apart(&self) -> Option<(usize, usize)> {
        Some((*self.0.first()?, *self.0.get(1)?))
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.apart(), self.0.first()) {
            (Some((servers, clients)), _) => {
                write!(f, "Servers run on processor {servers}, clients on processor {clients}")
            }
            (None, Some(shared)) => write!(f, "Servers and clients share processor {shared}"),
            (None, None) => write!(f, "Servers and clients run where the system lets them"),
        }
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Contender {
    /// `myriapod serve --service echo`, with further arguments.
    pub(crate) fn myriapod(further: &[&str]) -> Result<Self> {
        Self::myriapod_service("echo", further)
    }

    /// `myriapod serve --service NAME`, with further arguments.
    pub(crate) fn myriapod_service(service: &str, further: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("myriapod");
        if !program.exists() {
            return Err("no myriapod beside this program: cargo build --release".into());
        }
        let args = ["serve", "--service", service, "127.0.0.1", "0"];
        let args = args.iter().chain(further).map(|arg| (*arg).to_owned()).collect();
        Ok(Self { program, args })
    }

    /// A program of the folder `c`, compiled beside this one: a raw epoll loop.
    pub(crate) fn compiled(name: &str) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(name).with_extension("c");
        let compiled =
            Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source).status()?;
        if !compiled.success() {
            return Err(format!("cc cannot compile {name}.c").into());
        }
        Ok(Self { program, args: Vec::new() })
    }
}

/// A server that runs until this goes.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
}

impl Running {
    pub(crate) fn start(contender: &Contender) -> Result<Self> {
        let mut command = if let Some((servers, _)) = Processors::get().apart() {
            let mut command = Command::new("taskset");
            command.args(["-c", &servers.to_string()]).arg(&contender.program);
            command
        } else {
            Command::new(&contender.program)
        };
        Self::spawn(&mut command, contender)
    }

    /// Starts it where the scheduler likes.
    pub(crate) fn start_anywhere(contender: &Contender) -> Result<Self> {
        Self::spawn(&mut Command::new(&contender.program), contender)
    }

    /// Starts it under another program, such as valgrind.
    pub(crate) fn start_under(command: &mut Command, contender: &Contender) -> Result<Self> {
        Self::spawn(command.arg(&contender.program), contender)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    fn spawn(command: &mut Command, contender: &Contender) -> Result<Self> {
        command.args(&contender.args).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut running = Self { child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().rsplit(", ").next().and_then(|end| end.strip_suffix(')'));
        running.port = port.ok_or_else(|| format!("where does it listen? {line:?}"))?.parse()?;
        Ok(running)
    }

    /// Processor time of all its threads so far, to the nanosecond.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        resident_of(self.child.id())
    }
}

/// The resident memory of a process, in bytes. `smaps_rollup` counts pages; the figures of `status` and
/// `statm` are allowed to lag behind.
pub(crate) fn resident_of(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
    Ok(kib.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this thread, and those that it starts, which are the clients, off the servers' processor.
pub(crate) fn pin_clients() -> Result<()> {
    let processors = Processors::get();
    match processors.apart() {
        Some((_, clients)) => sys::set_thread_cpus(&[clients])?,
        None => println!("{processors}."),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn do_servers_and_clients_run_on_two_processors() {
        let said = |numbers: &[usize]| Processors(numbers.to_vec()).to_string();
        assert_eq!(said(&[0, 1, 2]), "Servers run on processor 0, clients on processor 1");
        assert_eq!(said(&[3, 7]), "Servers run on processor 3, clients on processor 7");
        assert_eq!(said(&[5]), "Servers and clients share processor 5");
        assert_eq!(said(&[]), "Servers and clients run where the system lets them");
    }
}
