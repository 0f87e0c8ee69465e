//! What can be counted, whatever else runs: instructions and system calls.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::SETTINGS;
use super::peers::Peer;
use crate::Result;
use crate::load::Clients;
use crate::servers::Running;

/// How often each figure is taken.
const SAMPLES: usize = 3;

/// Messages at least in each sample.
const MESSAGES: u64 = 1_600;

/// What one server came to at each setting, sample by sample.
pub(crate) type Counts = BTreeMap<usize, Vec<f64>>;

/// Whether a program is there.
pub(crate) fn installed(program: &str) -> bool {
    let status =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Instructions in user space for each message, by callgrind. The server is halted while messages are
/// sent to it, so that one wait brings all.
pub(crate) fn instructions(peer: &Peer) -> Result<Counts> {
    let profile = temporary("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--instr-atstart=no", "--log-file=/dev/null"])
        .arg(format!("--callgrind-out-file={}", profile.display()));
    let server = Running::start_under(&mut valgrind, &peer.contender)?;
    let mut dumps = 0;
    let mut since_last = || -> Result<u64> {
        vgdb(&server, &["dump"])?;
        dumps += 1;
        let dump = format!("{}.{dumps}", profile.display());
        let said = fs::read_to_string(&dump)?;
        fs::remove_file(&dump)?;
        let sum = said.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(sum.ok_or("callgrind counted nothing")?.trim().parse()?)
    };
    let counts = at_each_setting(peer, &server, |clients, rounds| {
        vgdb(&server, &["instrumentation", "on"])?;
        since_last()?;
        for _ in 0..rounds {
            server.signal(Signal::SIGSTOP)?;
            clients.round(|| server.signal(Signal::SIGCONT))?;
        }
        let sum = since_last()?;
        vgdb(&server, &["instrumentation", "off"])?;
        Ok(sum as f64)
    });
    server.end()?;
    let _ = fs::remove_file(&profile);
    counts
}

/// Tells callgrind something.
fn vgdb(server: &Running, command: &[&str]) -> Result<()> {
    let mut vgdb = Command::new("vgdb");
    let output = vgdb.arg(format!("--pid={}", server.pid())).args(command).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("vgdb: {}", said.trim().replace('\n', "; ")).into())
}

/// System calls for each message, by strace; and by their names at the first setting.
pub(crate) fn system_calls(peer: &Peer) -> Result<(Counts, String)> {
    let server = Running::start(&peer.contender)?;
    let mut first: Option<String> = None;
    let counts = at_each_setting(peer, &server, |clients, rounds| {
        let messages = rounds * clients.at_once();
        let calls = traced(&server, || clients.exchange(messages))?;
        first.get_or_insert_with(|| {
            let each = calls.iter().map(|(calls, name)| (calls / messages as f64, name));
            let seen = each.filter(|(calls, _)| *calls >= 0.005);
            let named: Vec<_> = seen.map(|(calls, name)| format!("{name} {calls:.2}")).collect();
            named.join(", ")
        });
        Ok(calls.iter().map(|(calls, _)| calls).sum())
    })?;
    Ok((counts, first.unwrap_or_default()))
}

/// Takes samples at each setting that the server can hold, all on the same server. A sample is given
/// the connections and how often each shall send all that it may have in flight, and tells a sum.
fn at_each_setting(
    peer: &Peer,
    server: &Running,
    mut sample: impl FnMut(&mut Clients, u64) -> Result<f64>,
) -> Result<Counts> {
    let mut clients = Clients::none(server.port, &peer.request, peer.expect, 1)?;
    let mut settings: Vec<_> = SETTINGS.into_iter().enumerate().collect();
    // Connections are only ever added.
    settings.sort_by_key(|(_, (connections, _))| *connections);
    let mut counts = Counts::new();
    for (setting, (connections, in_flight)) in settings {
        if connections > peer.most {
            continue;
        }
        clients.set_in_flight(in_flight)?;
        clients.grow(connections)?;
        let rounds = MESSAGES.div_ceil(clients.at_once());
        for _ in 0..SAMPLES {
            let each = sample(&mut clients, rounds)? / (rounds * clients.at_once()) as f64;
            counts.entry(setting).or_default().push(each);
        }
    }
    Ok(counts)
}

/// The server's system calls while something is done, by name, the most frequent first.
fn traced(server: &Running, done: impl FnOnce() -> Result<()>) -> Result<Vec<(f64, String)>> {
    let log = temporary("strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&log)
        .args(["-p", &server.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = strace.stderr.take().ok_or("no standard error")?;
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said)?;
    let attached = said.contains("attached");
    let done = if attached { done() } else { Err(format!("strace: {}", said.trim()).into()) };
    nix::sys::signal::kill(Pid::from_raw(strace.id().cast_signed()), Signal::SIGINT)?;
    strace.wait()?;
    done?;
    let table = fs::read_to_string(&log)?;
    fs::remove_file(&log)?;
    let mut calls: Vec<(f64, String)> = table.lines().filter_map(row).collect();
    calls.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(calls)
}

/// A row of strace's table: percent, seconds, microseconds a call, calls, perhaps errors, the name.
fn row(line: &str) -> Option<(f64, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (calls, name) = (fields.get(3)?.parse::<f64>().ok()?, *fields.last()?);
    (name != "total").then(|| (calls, name.to_owned()))
}

fn temporary(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("myriapod-bench.{}.{what}", std::process::id()))
}
