//! What can be counted, and is the same on every run: instructions and system calls.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::peers::Peer;
use crate::Result;
use crate::load::Clients;
use crate::servers::Running;

/// Connections that are at work.
const CONNECTIONS: u64 = 50;

/// Messages on each connection, in the two runs whose difference counts.
const MESSAGES: [u64; 2] = [16, 112];

/// Messages whose system calls are counted.
const TRACED: u64 = 5_000;

/// Whether a program is there.
pub(crate) fn installed(program: &str) -> bool {
    let status =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Instructions in user space for each message, by callgrind: two runs that differ only in the number
/// of messages. The server is halted while they are sent, so many on each connection at once, so that
/// one wait brings all.
pub(crate) fn instructions(peer: &Peer, in_flight: usize) -> Result<f64> {
    let [few, many] = MESSAGES;
    let of = |messages: u64| instructions_of(peer, messages / in_flight as u64, in_flight);
    let more = of(many)?.saturating_sub(of(few)?);
    Ok(more as f64 / ((many - few) * CONNECTIONS) as f64)
}

fn instructions_of(peer: &Peer, rounds: u64, in_flight: usize) -> Result<u64> {
    let log = std::env::temp_dir().join(format!(
        "myriapod-bench.{}.{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.display()));
    let server = Running::start_under(&mut valgrind, &peer.contender)?;
    let mut clients = Clients::none(server.port, &peer.request, peer.expect, in_flight)?;
    clients.grow(CONNECTIONS)?;
    for _ in 0..rounds {
        server.signal(Signal::SIGSTOP)?;
        clients.round(|| server.signal(Signal::SIGCONT))?;
    }
    server.end()?;
    let said = fs::read_to_string(&log)?;
    fs::remove_file(&log)?;
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    Ok(collected.ok_or("callgrind collected nothing")?.1.trim().parse()?)
}

/// System calls for each message, all together and by name, by strace.
pub(crate) fn system_calls(peer: &Peer, in_flight: usize) -> Result<(f64, String)> {
    let server = Running::start(&peer.contender)?;
    let mut clients = Clients::none(server.port, &peer.request, peer.expect, in_flight)?;
    clients.grow(CONNECTIONS)?;
    let log = std::env::temp_dir().join(format!("myriapod-bench.{}.strace", std::process::id()));
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&log)
        .args(["-p", &server.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = strace.stderr.take().ok_or("no standard error")?;
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said)?;
    let exchanged = if said.contains("attached") {
        clients.exchange(TRACED)
    } else {
        Err(format!("strace: {}", said.trim()).into())
    };
    nix::sys::signal::kill(Pid::from_raw(strace.id().cast_signed()), Signal::SIGINT)?;
    strace.wait()?;
    exchanged?;
    let table = fs::read_to_string(&log)?;
    fs::remove_file(&log)?;
    let mut calls: Vec<(f64, String)> = table.lines().filter_map(row).collect();
    calls.sort_by(|a, b| b.0.total_cmp(&a.0));
    let sum = calls.iter().map(|(count, _)| count).sum();
    let named = calls.iter().filter(|(count, _)| *count >= 0.005);
    let named: Vec<String> = named.map(|(count, name)| format!("{name} {count:.2}")).collect();
    Ok((sum, named.join(", ")))
}

/// A row of strace's table: percent, seconds, microseconds a call, calls, perhaps errors, the name.
fn row(line: &str) -> Option<(f64, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (calls, name) = (fields.get(3)?.parse::<f64>().ok()?, *fields.last()?);
    (name != "total").then(|| (calls / TRACED as f64, name.to_owned()))
}
