//! A server under strace, and what becomes of it.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::dual_stack;
use crate::peers::{Broken, PEERS, Peer, Place};
use crate::table::{Case, Expected};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the server is started as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Scenario {
    /// On a Unix socket.
    Serving,
    /// The same, after one accept that finds no descriptor free.
    Exhausted,
    /// The same, asked by a signal to say what has happened.
    Reporting,
    /// The same where a server has left the socket's file behind.
    Stale,
    /// The same with two event loops, each kept on a processor. The first hands connections over.
    Threads,
    /// With the socket as standard input and as descriptor 3.
    Inherited,
    /// With the socket as standard input, and metrics on TCP, by a thread of their own.
    Metrics,
    /// On TCP.
    Starting,
    /// The same with two event loops, each of which accepts.
    Spread,
    /// On TCP, on a kernel that does not know `epoll_pwait2`.
    Older,
    /// On TCP, with a socket that takes IPv4 and IPv6.
    DualStack,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::Serving,
        Self::Exhausted,
        Self::Reporting,
        Self::Stale,
        Self::Threads,
        Self::Inherited,
        Self::Metrics,
        Self::Starting,
        Self::Spread,
        Self::Older,
        Self::DualStack,
    ];

    /// The call that fails besides the one in question, how, and when.
    fn fails_besides(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Exhausted => Some(("accept4", "error=EMFILE:when=2")),
            Self::Older => Some(("epoll_pwait2", "error=ENOSYS:when=1")),
            _ => None,
        }
    }

    /// How many peers are there before the others. With two event loops, the first, which hands over
    /// to the one with the fewest connections, has two of them; so the second gets the others.
    pub(crate) fn bystanders(self) -> usize {
        if self == Self::Threads { 3 } else { 1 }
    }

    /// Why it cannot be tried here.
    pub(crate) fn is_impossible(self) -> Option<&'static str> {
        (self == Self::DualStack && !dual_stack::is_possible()).then_some("there is no IPv6")
    }

    /// The program and its arguments; `path` is where the Unix socket is to be.
    fn command(self, path: &Path) -> Vec<String> {
        let unix = format!("unix:{}", path.display());
        let arguments: &[&str] = match self {
            Self::Serving | Self::Exhausted | Self::Reporting | Self::Stale => &[&unix],
            Self::Threads => &[&unix, "--threads", "2", "--pin"],
            Self::Inherited => &["--listen-fd", "0", "--listen-fd", "3"],
            Self::Metrics => &["--listen-fd", "0", "--metrics", "127.0.0.1:0"],
            Self::Starting | Self::Older => &["127.0.0.1", "0"],
            Self::Spread => &["127.0.0.1", "0", "--threads", "2"],
            Self::DualStack => return dual_stack::command(),
        };
        let program = [env!("CARGO_BIN_EXE_myriapod"), "serve", "--service", "echo"];
        program.iter().chain(arguments).map(|&word| word.to_owned()).collect()
    }
}

/// How a server went.
#[derive(Debug)]
pub(crate) struct Run {
    /// It said where it listens.
    pub(crate) started: bool,
    pub(crate) status: Option<i32>,
    pub(crate) stderr: Vec<String>,
    /// The names of the peers whose connections ended early, and of those when all came again.
    pub(crate) cut_off: [Vec<&'static str>; 2],
    /// What may never be.
    pub(crate) wrong: Option<String>,
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

/// Runs the scenario with the case's call failing once, which has that name and is made for the
/// `when`th time; without a case, with all calls traced.
pub(crate) fn run(
    scenario: Scenario,
    case: Option<(&Case, &(String, usize))>,
) -> Result<Run, String> {
    let files = Files::new();
    let mut running = Running(strace(scenario, case, &files).spawn().unwrap());
    let stdout = lines_of(running.0.stdout.take().unwrap());
    let stderr = lines_of(running.0.stderr.take().unwrap());
    let listening = loop {
        match next_line(&stdout, "its standard output")? {
            Some(line) => {
                if let Some(place) = line.strip_prefix("listening on ") {
                    break Some(Place::parse(place).ok_or(line)?);
                }
            }
            None => break None,
        }
    };
    let started = listening.is_some();
    let (mut cut_off, mut wrong, mut said) = ([Vec::new(), Vec::new()], None, Vec::new());
    if let Some(place) = listening {
        let conversed = converse(scenario, &place, &mut running, &mut cut_off);
        let pid = Pid::from_raw(running.0.id().try_into().unwrap());
        if scenario == Scenario::Reporting {
            let _ = signal::kill(pid, Signal::SIGUSR1);
            said.extend(next_line(&stderr, "a report")?);
        }
        // What ends by itself is told nothing.
        if case.is_none_or(|(case, _)| case.expected != Expected::Ends) {
            let _ = signal::kill(pid, Signal::SIGTERM);
        }
        wrong = conversed.and_then(bid_farewell).err();
    }
    let status = wait(&mut running, PATIENCE)?;
    while let Some(line) = next_line(&stderr, "the end of its standard error")? {
        said.push(line);
    }
    let calls = trace(&files.trace, running.0.id())?;
    Ok(Run { started, status, stderr: said, cut_off, wrong, calls })
}

/// The command that starts the server under strace.
fn strace(scenario: Scenario, case: Option<(&Case, &(String, usize))>, files: &Files) -> Command {
    // Standard input as descriptor 3 too; a program that needs neither does not care.
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0; exec strace \"$@\"", "sh"]);
    // -D: the server is our child, and strace its. -y: descriptors are shown with what they are.
    command.args(["-D", "-f", "-q", "-y", "-o"]).arg(&files.trace);
    let besides = scenario.fails_besides();
    if let Some((case, (name, when))) = case {
        let mut filter = format!("trace={name}");
        if let Some((other, _)) = besides.filter(|(other, _)| other != name) {
            filter.push_str(&format!(",{other}"));
        }
        command.arg("-e").arg(format!("inject={name}:error={}:when={when}", case.errno));
        // The other calls are not even slowed down.
        command.args(["--seccomp-bpf", "-e", &filter]);
    }
    if let Some((other, how)) = besides {
        command.arg("-e").arg(format!("inject={other}:{how}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // Nobody removes its file.
    let listener = || UnixListener::bind(&files.socket).unwrap();
    match scenario {
        Scenario::Stale => drop(listener()),
        Scenario::Inherited | Scenario::Metrics => drop(command.stdin(OwnedFd::from(listener()))),
        _ => {}
    }
    command.args(scenario.command(&files.socket));
    command
}

/// The lines of a pipe, read by a thread so that they can be waited for with patience.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        lines.map(|line| to.send(line)).all(|sent| sent.is_ok())
    });
    lines
}

/// `None` at the end.
fn next_line(lines: &Receiver<String>, what: &str) -> Result<Option<String>, String> {
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => Ok(Some(line)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => Err(format!("in vain waited for {what}")),
    }
}

fn went<T>(who: &str, went: Result<T, Broken>) -> Result<T, String> {
    went.map_err(|broken| match broken {
        Broken::CutOff => format!("{who} was cut off"),
        Broken::Wrong(why) => format!("{who}: {why}"),
    })
}

/// The peers: bystanders who were there before, those that meet the fault, and all of them again.
/// Notes those that were cut off in the middle; returns the bystanders, unless the server ended by
/// itself, of which it is not asked here whether it may.
fn converse(
    scenario: Scenario,
    place: &Place,
    running: &mut Running,
    cut_off: &mut [Vec<&'static str>; 2],
) -> Result<Vec<Peer>, String> {
    let mut bystanders = Vec::new();
    for _ in 0..scenario.bystanders() {
        let mut peer = went("a bystander", Peer::new(place))?;
        went("a bystander, before", peer.exchange(b"before"))?;
        bystanders.push(peer);
    }
    for cut_off in cut_off {
        for (name, converse) in PEERS {
            match converse(place) {
                Ok(()) => {}
                Err(Broken::CutOff) => cut_off.push(name),
                Err(Broken::Wrong(why)) => return Err(format!("{name}: {why}")),
            }
            if let Some(second) = bystanders.get_mut(1) {
                // Its loop has then seen the end of the last one: after the first answer it may
                // still have had the bytes before that end.
                for _ in 0..2 {
                    went("a bystander, between", second.exchange(b"between"))?;
                }
            }
        }
        let after = bystanders.iter_mut().try_for_each(|peer| peer.exchange(b"afterwards"));
        if after.is_err() && wait(running, Duration::from_secs(2)).is_ok() {
            return Ok(Vec::new());
        }
        went("a bystander, afterwards", after)?;
    }
    Ok(bystanders)
}

/// A server that stops lets peers go of whom nothing is in flight.
fn bid_farewell(mut bystanders: Vec<Peer>) -> Result<(), String> {
    bystanders.iter_mut().try_for_each(|peer| went("a bystander, when we stop", peer.end()))
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

/// strace is not our child: its file is whole when it says that the server's first thread, which
/// has the number of the process, has exited.
fn trace(path: &Path, process: u32) -> Result<Vec<String>, String> {
    let deadline = Instant::now() + PATIENCE;
    let process = process.to_string();
    let is_end = |line: &str| line.split(' ').next() == Some(&process) && line.contains("+++ ");
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().any(is_end) {
            return Ok(text.lines().map(str::to_owned).collect());
        }
        if Instant::now() > deadline {
            return Err(format!("strace wrote no trace: {text}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
