//! A server under strace, and what becomes of it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::peers::{Broken, PEERS, Peer};
use crate::table::Case;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the server is started as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Scenario {
    /// On a Unix socket, with the peers.
    Serving,
    /// The same, after one accept that finds no descriptor free.
    Exhausted,
    /// On TCP, with nobody.
    Starting,
    /// The same with two event loops, each kept on a processor.
    Threads,
    /// On TCP, with nobody, on a kernel that does not know `epoll_pwait2`.
    Older,
    /// On a Unix socket whose file a server has left behind, with nobody.
    Stale,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] =
        [Self::Serving, Self::Exhausted, Self::Starting, Self::Threads, Self::Older, Self::Stale];

    /// The call that fails besides the one in question, how, and when.
    fn fails_besides(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Exhausted => Some(("accept4", "error=EMFILE:when=2")),
            Self::Older => Some(("epoll_pwait2", "error=ENOSYS:when=1")),
            _ => None,
        }
    }

    pub(crate) fn has_peers(self) -> bool {
        matches!(self, Self::Serving | Self::Exhausted)
    }

    fn arguments(self, path: &Path) -> Vec<String> {
        let place = match self {
            Self::Serving | Self::Exhausted | Self::Stale => {
                vec![format!("unix:{}", path.display())]
            }
            Self::Starting | Self::Older => vec!["127.0.0.1".to_owned(), "0".to_owned()],
            Self::Threads => {
                ["127.0.0.1", "0", "--threads", "2", "--pin"].map(str::to_owned).into()
            }
        };
        let mut arguments = vec!["serve".to_owned(), "--service".to_owned(), "echo".to_owned()];
        arguments.extend(place);
        arguments
    }
}

/// How a server went.
#[derive(Debug)]
pub(crate) struct Run {
    /// It said where it listens.
    pub(crate) started: bool,
    pub(crate) status: Option<i32>,
    pub(crate) stderr: Vec<String>,
    /// The names of the peers whose connections ended early.
    pub(crate) cut_off: Vec<&'static str>,
    /// What may never be.
    pub(crate) wrong: Option<String>,
    pub(crate) was_injected: bool,
    /// Every call that was traced.
    pub(crate) calls: Vec<String>,
}

impl Run {
    /// One of the counts of the summary, which leaves some out that are 0. Without a summary no
    /// count is right.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let summary = self.stderr.iter().rfind(|line| line.starts_with("accepted="));
        let Some(summary) = summary else { return u64::MAX };
        let mut pairs = summary.split(' ');
        let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.map_or(0, |count| count.parse().unwrap())
    }
}

/// Whether strace is there and may trace.
pub(crate) fn is_possible() -> Result<(), String> {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    match traced {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "strace may not trace here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("strace is not installed: {error}")),
    }
}

/// A server that a failed case leaves behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Files {
    socket: PathBuf,
    trace: PathBuf,
}

impl Files {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end| {
            let name = format!("myriapod-faults-{}-{number}.{end}", std::process::id());
            std::env::temp_dir().join(name)
        };
        Self { socket: name("socket"), trace: name("trace") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.trace);
    }
}

/// Runs the scenario with the case's call failing once, the `when`th time that it is made; without
/// a case, with all calls traced.
pub(crate) fn run(scenario: Scenario, case: Option<(&Case, usize)>) -> Result<Run, String> {
    let files = Files::new();
    let mut command = Command::new("strace");
    // -D: the server is our child, and strace its.
    command.args(["-D", "-f", "-q", "-o"]).arg(&files.trace);
    let besides = scenario.fails_besides();
    if let Some((case, when)) = case {
        let name = case.call.name();
        let mut filter = format!("trace={name}");
        if let Some((other, _)) = besides.filter(|(other, _)| *other != name) {
            filter.push_str(&format!(",{other}"));
        }
        command.arg("-e").arg(format!("inject={name}:error={}:when={when}", case.errno));
        // The other calls are not even slowed down.
        command.args(["--seccomp-bpf", "-e", &filter]);
    }
    if let Some((other, how)) = besides {
        command.arg("-e").arg(format!("inject={other}:{how}"));
    }
    if scenario == Scenario::Stale {
        // Nobody removes it.
        drop(std::os::unix::net::UnixListener::bind(&files.socket).unwrap());
    }
    command.arg(env!("CARGO_BIN_EXE_myriapod")).args(scenario.arguments(&files.socket));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut running = Running(command.spawn().unwrap());
    let stderr = BufReader::new(running.0.stderr.take().unwrap());
    let lines = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect());
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    let mut listening = String::new();
    let _ = stdout.read_line(&mut listening);
    let started = listening.starts_with("listening on ");
    let (mut cut_off, mut wrong) = (Vec::new(), None);
    if started {
        if scenario.has_peers() {
            match converse(&files.socket, &mut running) {
                Ok(peers) => cut_off = peers,
                Err(why) => wrong = Some(why),
            }
        }
        let pid = Pid::from_raw(running.0.id().try_into().unwrap());
        let _ = signal::kill(pid, Signal::SIGTERM);
    }
    let status = wait(&mut running, PATIENCE)?;
    let mut rest = String::new();
    let _ = stdout.read_to_string(&mut rest);
    let stderr: Vec<String> = lines.join().unwrap();
    let calls = trace(&files.trace)?;
    let was_injected = match case {
        Some((case, _)) => {
            let call = format!(" {}(", case.call.name());
            calls.iter().any(|line| {
                line.contains("(INJECTED)") && line.contains(&call) && line.contains(case.errno)
            })
        }
        None => true,
    };
    Ok(Run { started, status, stderr, cut_off, wrong, was_injected, calls })
}

/// The peers: a bystander who was there before, those that meet the fault, and all of them again,
/// when nothing may be missing. Returns those that were cut off in the middle.
fn converse(path: &Path, running: &mut Running) -> Result<Vec<&'static str>, String> {
    fn went<T>(who: &str, went: Result<T, Broken>) -> Result<T, String> {
        went.map_err(|broken| match broken {
            Broken::CutOff => format!("{who} was cut off"),
            Broken::Wrong(why) => format!("{who}: {why}"),
        })
    }
    let mut bystander = went("the bystander", Peer::new(path))?;
    went("the bystander, before", bystander.exchange(b"before"))?;
    let mut cut_off = Vec::new();
    for (name, converse) in PEERS {
        match converse(path) {
            Ok(()) => {}
            Err(Broken::CutOff) => cut_off.push(name),
            Err(Broken::Wrong(why)) => return Err(format!("{name}: {why}")),
        }
    }
    let after = went("the bystander, after", bystander.exchange(b"after"));
    if after.is_err() && wait(running, Duration::from_secs(2)).is_ok() {
        // It ended by itself; whether it may is not asked here.
        return Ok(cut_off);
    }
    after?;
    for (name, converse) in PEERS {
        went(name, converse(path)).map_err(|why| format!("{why} when all was well again"))?;
    }
    went("the bystander, at the end", bystander.exchange(b"end"))?;
    Ok(cut_off)
}

fn wait(running: &mut Running, patience: Duration) -> Result<Option<i32>, String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            return Ok(status.code());
        }
        if Instant::now() > deadline {
            return Err("does not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// strace is not our child: its file is whole when it says that the server has exited.
fn trace(path: &Path) -> Result<Vec<String>, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().any(|line| line.contains("+++ exited with") || line.contains("+++ killed"))
        {
            return Ok(text.lines().map(str::to_owned).collect());
        }
        if Instant::now() > deadline {
            return Err(format!("strace wrote no trace: {text}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
