//! Very many connections at once: in one server process where descriptors allow it, over many where
//! they do not. Opens them, exchanges a message on each, and says what that took.

use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use myriapod::sys::{self, AsFd as _, Connecting, Errno, Interest, Socket, SocketAddr};

use crate::Result;
use crate::fleet::Fleet;
use crate::load::request;
use crate::servers::resident_of;

/// Connections from one source address, at most.
const PER_SOURCE: u64 = 25_000;

/// Connections from one source address: well below half of the ports, since the kernel tries those of
/// one parity first, and searches long for one of the last.
fn per_source() -> Result<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    match (ends.next(), ends.next()) {
        (Some(Ok(low)), Some(Ok(high))) if low < high => {
            Ok(((high - low) * 2 / 5).clamp(1, PER_SOURCE))
        }
        _ => Err(format!("ip_local_port_range: {text:?}").into()),
    }
}

/// Messages that wait for their reply at the same time.
const WINDOW: usize = 256;

/// How long a connection or a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replies that do not come, before a process of clients gives up: each may take all its patience.
const MOST_LOST: u64 = 10;

/// How often it says how far it has come.
const EVERY: Duration = Duration::from_secs(1);

/// `hold`: what one process of clients does. It opens `count` connections to `port` from the source
/// addresses that follow the `first`, waits for a line, exchanges a message on each, and waits for
/// the end of its input.
pub(crate) fn hold(port: u16, count: u64, first: u64) -> Result<()> {
    sys::raise_descriptor_limit()?;
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    let per_source = per_source()?;
    let mut sockets = Vec::with_capacity(usize::try_from(count)?);
    let mut said = Instant::now();
    let mut say = |what: &str, done: u64| {
        if said.elapsed() >= EVERY || done == count {
            said = Instant::now();
            println!("{what} {done}");
        }
    };
    for nth in 0..count {
        sockets.push(connect(&target, &source(first + nth / per_source)?)?);
        say("opened", nth + 1);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;

    let request = request();
    let mut reply = vec![0; request.len()];
    let (mut done, mut wrong, mut lost) = (0, 0, 0);
    // Idle sockets are in no poller, which would cost the kernel some memory for each.
    for window in sockets.chunks(WINDOW) {
        for socket in window {
            if sys::send(socket, &request) != Ok(request.len()) {
                return Err("a request was not taken".into());
            }
        }
        for socket in window {
            match receive(socket, &mut reply) {
                Ok(()) => wrong += u64::from(reply != request),
                Err(error) if lost == MOST_LOST => return Err(error),
                Err(error) => {
                    eprintln!("{error}");
                    lost += 1;
                }
            }
            done += 1;
            say("answered", done);
        }
    }
    println!("wrong {wrong} {lost}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// 127.1.0.1 and those that follow.
fn source(nth: u64) -> Result<SocketAddr> {
    let nth = u16::try_from(nth)?;
    let [high, low] = nth.to_be_bytes();
    Ok(SocketAddr::from(([127, 1 + high, low, 1], 0)))
}

/// A connected socket that does not block.
fn connect(target: &SocketAddr, source: &SocketAddr) -> Result<Socket> {
    match Socket::connect_start(target, Some(source))? {
        Connecting::Done(socket) => Ok(socket),
        Connecting::InProgress(socket) => {
            wait(&socket, Interest::WRITABLE, "connection")?;
            sys::take_error(&socket).map_err(|errno| format!("connect from {source}: {errno}"))?;
            Ok(socket)
        }
    }
}

fn receive(socket: &Socket, reply: &mut [u8]) -> Result<()> {
    let mut have = 0;
    while let Some(rest) = reply.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match sys::recv(socket, rest) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(len) => have += len,
            Err(Errno::EAGAIN) => wait(socket, Interest::READABLE, "reply")?,
            Err(errno) => return Err(format!("recv: {errno}").into()),
        }
    }
    Ok(())
}

/// Waits for one socket.
fn wait(socket: &Socket, interest: Interest, what: &str) -> Result<()> {
    match sys::poll::wait_one(socket.as_fd(), interest, Some(PATIENCE))? {
        Some(_) => Ok(()),
        None => Err(format!("no {what} within {PATIENCE:?}").into()),
    }
}

/// What is free, in bytes, and what only caches files. `MemAvailable` would not do: it counts the
/// inodes and directory entries of open sockets as memory that can be had back.
fn free_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let bytes = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.ok_or_else(|| format!("no {name} in /proc/meminfo"))?.parse::<u64>()? * 1024)
    };
    Ok(bytes("MemFree")? + bytes("Buffers")? + bytes("Cached")?)
}

/// A process of clients.
#[derive(Debug)]
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    count: u64,
    opened: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    /// Wrong and lost replies, once it is through.
    reading: Option<JoinHandle<Option<(u64, u64)>>>,
}

impl Holder {
    fn start(port: u16, count: u64, first: u64) -> Result<Self> {
        let args = [port.to_string(), count.to_string(), first.to_string()];
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hold")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (opened, answered) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let counts = (Arc::clone(&opened), Arc::clone(&answered));
        let reading = Some(thread::spawn(move || follow(stdout, &counts.0, &counts.1)));
        Ok(Self { child, stdin, count, opened, answered, reading })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what a process of clients says until it is through.
fn follow(stdout: ChildStdout, opened: &AtomicU64, answered: &AtomicU64) -> Option<(u64, u64)> {
    for line in BufReader::new(stdout).lines() {
        let line = line.ok()?;
        let mut words = line.split(' ');
        let what = words.next()?;
        let mut number = || words.next()?.parse().ok();
        match what {
            "opened" => opened.store(number()?, Ordering::Relaxed),
            "answered" => answered.store(number()?, Ordering::Relaxed),
            _ => return Some((number()?, number()?)),
        }
    }
    None
}

/// Waits until the counts add up to `all`, and says how far they are.
fn until(
    holders: &mut [Holder],
    what: &str,
    all: u64,
    count: impl Fn(&Holder) -> &AtomicU64,
) -> Result<Duration> {
    let began = Instant::now();
    let live = std::io::stderr().is_terminal();
    // A line a second where it stays on the screen, else one in ten.
    let every = if live { EVERY } else { 10 * EVERY };
    let mut said = Instant::now();
    loop {
        let sum: u64 = holders.iter().map(|holder| count(holder).load(Ordering::Relaxed)).sum();
        let end = sum == all;
        if end || said.elapsed() >= every {
            said = Instant::now();
            let seconds = began.elapsed().as_secs_f64();
            let line = format!("{sum:>9} of {all} {what}, {seconds:.0} s");
            if live {
                eprint!("\r{line}{}", if end { "\n" } else { "" });
            } else {
                eprintln!("{line}");
            }
        }
        if end {
            return Ok(began.elapsed());
        }
        for holder in &mut *holders {
            if let Some(status) = holder.child.try_wait()? {
                return Err(format!("{sum} of {all} {what}, then clients ended: {status}").into());
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Opens `connections`, exchanges a message on each, and prints what that took.
pub(crate) fn run(connections: u64) -> Result<()> {
    let fleet = Fleet::start(connections)?;
    let resident = || -> Result<u64> {
        fleet.servers.iter().map(|(server, _)| server.resident()).sum::<Result<u64>>()
    };
    println!(
        "{connections} connections, {} server {} with one event loop {}",
        fleet.servers.len(),
        if fleet.servers.len() == 1 { "process" } else { "processes" },
        if fleet.servers.len() == 1 { "on one thread" } else { "each" },
    );
    let (before, free_before) = (resident()?, free_memory()?);
    let per_source = per_source()?;
    let mut holders = Vec::new();
    let mut first = 0;
    for (server, share) in &fleet.servers {
        holders.push(Holder::start(server.port, *share, first)?);
        first += share.div_ceil(per_source);
    }
    let took = until(&mut holders, "opened", connections, |holder| &holder.opened)?;
    let (after, free_after) = (resident()?, free_memory()?);
    let clients: u64 =
        holders.iter().map(|holder| resident_of(holder.child.id())).sum::<Result<u64>>()?;
    let user = after.saturating_sub(before);
    let per = |bytes: u64| bytes as f64 / connections as f64;
    println!(
        "opened in {:.1} s: {:.0} a second",
        took.as_secs_f64(),
        connections as f64 / took.as_secs_f64()
    );
    println!(
        "memory per connection: server {:.0} bytes of user memory; kernel {:.0} bytes for both ends of it; clients {:.0} bytes",
        per(user),
        per(free_before.saturating_sub(free_after).saturating_sub(user + clients)),
        per(clients)
    );

    let cpu_before = cpu_time(&fleet)?;
    for holder in &mut holders {
        if let Some(stdin) = &mut holder.stdin {
            writeln!(stdin)?;
        }
    }
    let took = until(&mut holders, "answered", connections, |holder| &holder.answered)?;
    let (mut wrong, mut lost) = (0, 0);
    for holder in &mut holders {
        let reading = holder.reading.take().ok_or("read twice")?;
        let said = reading.join().map_err(|_| "reading failed")?;
        let (more_wrong, more_lost) =
            said.ok_or_else(|| format!("{} clients did not end their round", holder.count))?;
        wrong += more_wrong;
        lost += more_lost;
    }
    let used = cpu_time(&fleet)?.saturating_sub(cpu_before);
    println!(
        "a message on each: {connections} sent, {} answered right, {wrong} wrong, {lost} lost, in {:.1} s; {:.2} us of the server's processor time for each",
        connections - wrong - lost,
        took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / connections as f64,
    );
    println!(
        "server after the round: {:.0} bytes of user memory per connection",
        per(resident()?.saturating_sub(before))
    );
    if wrong + lost > 0 {
        return Err(format!("{wrong} wrong replies, {lost} lost").into());
    }
    Ok(())
}

fn cpu_time(fleet: &Fleet) -> Result<Duration> {
    fleet.servers.iter().map(|(server, _)| server.cpu_time()).sum::<Result<Duration>>()
}
