//! `myriapod sockets`: every socket of this machine, and what waits in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use myriapod::sys;
use serde::Serialize;

use myriapod_command::sockets::{Entry, Protocol, add_owners, every, shown};

use crate::columns::{Column, Columns, Squeeze};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::json::json_line;
use crate::terminal::{OneLine, print_text, size};
use crate::units::Timeout;

const EXAMPLES: &str = "\
Examples:
  myriapod sockets                     TCP over IPv4 and IPv6, listeners first
  myriapod sockets --port 65432        either end has this port
  myriapod sockets --port 65432 -w     look again every second until Ctrl-C
  myriapod sockets --listening --udp --unix
  myriapod sockets --json | jq -r 'select(.recv_queue > 0).local'

Recv-Q is what has arrived and the program has not read: it is busy or stuck. \
Send-Q is what the peer has not acknowledged: it does not read, or the network \
is slow. Of a listener, Recv-Q is how many connections wait to be accepted, and \
Send-Q how many may. Of a Unix socket, both count the kernel's memory.

Rtt is the round-trip time as TCP has measured it, Retr how many segments had \
to be sent again. Processes of other users are shown only to root.

Linux only; elsewhere, ask `netstat -an` and `lsof -i -n`.
Exit status: 0 success, 1 failure, 2 wrong usage.";

/// List the sockets of this machine: addresses, state, queues, process
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only those of which either end has this port
    #[arg(short, long, value_name = "N", conflicts_with = "unix")]
    port: Option<u16>,

    /// Only those that listen
    #[arg(short, long)]
    listening: bool,

    /// Datagram sockets too
    #[arg(short, long)]
    udp: bool,

    /// Unix sockets too
    #[arg(short = 'x', long)]
    unix: bool,

    /// Look again and again until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    /// From one look to the next
    #[arg(short, long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(1)), requires = "watch")]
    interval: Timeout,

    /// Print one line of JSON for each socket
    #[arg(long, conflicts_with = "watch")]
    json: bool,
}

/// One socket as a line of JSON. What the system does not tell is `null`.
#[derive(Serialize)]
struct Line<'a> {
    protocol: &'a str,
    state: String,
    recv_queue: u32,
    send_queue: u32,
    local: String,
    peer: String,
    rtt_us: Option<u128>,
    retransmits: Option<u32>,
    uid: Option<u32>,
    inode: u64,
    processes: Vec<LineOwner<'a>>,
}

#[derive(Serialize)]
struct LineOwner<'a> {
    name: &'a str,
    pid: i32,
    fd: i32,
}

const COLUMNS: [Column; 9] = [
    Column::new("Proto", Squeeze::Keep),
    Column::number("Recv-Q", Squeeze::Keep),
    Column::number("Send-Q", Squeeze::Keep),
    Column::new("Local", Squeeze::CutStart),
    Column::new("Peer", Squeeze::CutStart),
    Column::new("State", Squeeze::Keep),
    Column::number("Rtt", Squeeze::Drop),
    Column::number("Retr", Squeeze::Drop),
    Column::new("Process", Squeeze::CutEnd),
];

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.watch {
        return watch(args);
    }
    let entries = look(args)?;
    let mut text = String::new();
    if args.json {
        for entry in &entries {
            text += &json_line(&line(entry))?;
        }
    } else {
        for line in table(&entries).lines(size().map(|(width, _)| width)) {
            let _ = writeln!(text, "{line}");
        }
    }
    print_text(&text).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the table again and again: in place on a terminal, else one below the other.
fn watch(args: &Args) -> Result<ExitCode, Failure> {
    let mut interrupt = Interrupt::catch()?;
    let mut next = sys::now();
    let mut first = true;
    loop {
        next += args.interval.0;
        let entries = look(args)?;
        let frame = match size() {
            Some((width, height)) => {
                let head =
                    format!("{} sockets, every {} until Ctrl-C", entries.len(), args.interval);
                frame(&head, &entries, width, height, first)
            }
            None => table(&entries).lines(None).join("\n") + "\n\n",
        };
        first = false;
        print_text(&frame).map_err(|error| Failure::output(&error))?;
        if interrupt.by(next)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// One frame for a terminal: what is there is written over, so that nothing flickers.
fn frame(head: &str, entries: &[Entry], width: usize, height: usize, first: bool) -> String {
    // Besides entries: the head, the names of the columns, what did not fit, the cursor's row.
    let room = height.saturating_sub(4).max(1);
    let shown = entries.get(..room).unwrap_or(entries);
    let mut lines = vec![head.to_owned()];
    lines.extend(table(shown).lines(Some(width)));
    if shown.len() < entries.len() {
        lines.push(format!("… and {} more", entries.len() - shown.len()));
    }
    // Cleared once; then only from home. `\x1b[K` clears the rest of a line, `\x1b[J` what is below.
    let mut frame = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    for line in lines {
        frame.extend(line.chars().take(width));
        frame.push_str("\x1b[K\r\n");
    }
    frame.push_str("\x1b[J");
    frame
}

fn table(entries: &[Entry]) -> Columns<'static> {
    let row = |entry: &Entry| {
        vec![
            entry.protocol.name().to_owned(),
            entry.recv_queue.to_string(),
            entry.send_queue.to_string(),
            OneLine(shown(&entry.local)).to_string(),
            OneLine(shown(&entry.peer)).to_string(),
            entry.state_name(),
            entry.rtt.map(|rtt| format!("{:.3}ms", rtt.as_secs_f64() * 1000.0)).unwrap_or_default(),
            entry.retransmits.map(|number| number.to_string()).unwrap_or_default(),
            owners(entry),
        ]
    };
    Columns { columns: &COLUMNS, rows: entries.iter().map(row).collect() }
}

/// `4711/python3`, as netstat has it, and how many more processes hold it.
fn owners(entry: &Entry) -> String {
    let Some(first) = entry.owners.first() else { return String::new() };
    let shown = format!("{}/{}", first.pid, OneLine(&first.name));
    let pids: BTreeSet<_> = entry.owners.iter().map(|owner| owner.pid).collect();
    match pids.len() {
        1 => shown,
        count => format!("{shown} +{}", count - 1),
    }
}

fn line(entry: &Entry) -> Line<'_> {
    Line {
        protocol: entry.protocol.name(),
        state: entry.state_name(),
        recv_queue: entry.recv_queue,
        send_queue: entry.send_queue,
        local: entry.local.to_string(),
        peer: entry.peer.to_string(),
        rtt_us: entry.rtt.map(|rtt| rtt.as_micros()),
        retransmits: entry.retransmits,
        uid: entry.uid,
        inode: entry.inode,
        processes: entry
            .owners
            .iter()
            .map(|owner| LineOwner { name: &owner.name, pid: owner.pid, fd: owner.fd })
            .collect(),
    }
}

/// The sockets that are asked for: listeners first, those that only wait for their end last; then by
/// protocol and address.
fn look(args: &Args) -> Result<Vec<Entry>, Failure> {
    let mut protocols = vec![Protocol::Tcp4, Protocol::Tcp6];
    if args.udp {
        protocols.extend([Protocol::Udp4, Protocol::Udp6]);
    }
    if args.unix {
        protocols.push(Protocol::Unix);
    }
    let mut entries = Vec::new();
    for protocol in protocols {
        entries.extend(every(protocol)?);
    }
    entries.retain(|entry| {
        args.port.is_none_or(|port| entry.has_port(port))
            && (!args.listening || entry.is_listening())
    });
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| (entry.rank(), entry.protocol);
        key(one)
            .cmp(&key(other))
            .then_with(|| one.local.cmp(&other.local).then_with(|| one.peer.cmp(&other.peer)))
    });
    add_owners(&mut entries);
    Ok(entries)
}
