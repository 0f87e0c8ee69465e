//! How many instructions does a message cost in user space? Asked of callgrind: two runs of the real
//! server that differ only in the number of messages, so that start-up and shutdown cancel out.
//!
//! ```text
//! $ cargo test --release -p myriapod-cli --test instructions -- --nocapture
//! ```
//!
//! prints the figures, which docs/figures.md quotes. Needs valgrind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use program::{is_optimized, program};

#[path = "common/program.rs"]
mod program;

const CONNECTIONS: usize = 50;
const SHORT: usize = 200;
const LONG: usize = 600;

/// 146 bytes; with an id, some more.
fn request(id: Option<usize>) -> Vec<u8> {
    let content = br#"{"action": "search", "value": "morpheus"}"#;
    let id = id.map(|id| format!(", \"id\": {id}")).unwrap_or_default();
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {}{id}}}"#,
        content.len()
    );
    let len = u16::try_from(header.len()).unwrap().to_be_bytes();
    [&len, header.as_bytes(), content].concat()
}

/// A server that a failed test leaves behind ends with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(server: &Server, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(server.0.id().cast_signed()), signal).unwrap();
}

/// One reply, of whatever length.
fn read_reply(peer: &mut TcpStream, reply: &mut [u8]) {
    // A reply is sent whole, and is smaller than a segment of the loopback.
    assert!(peer.read(reply).unwrap() > 2);
}

/// Instructions of a server that answers `rounds` messages on each connection: to all connections
/// while it is halted (`one_by_one` false), or each answered before the next is sent. Where ids count
/// up, no two headers are the same.
fn instructions(service: &str, ids: bool, rounds: usize, one_by_one: bool) -> u64 {
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program())
        .args(["serve", "--service", service, "127.0.0.1", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(", ").next().and_then(|end| end.strip_suffix(')')).unwrap();
    let port: u16 = port.parse().unwrap();
    let mut requests = (0..).map(|id| request(ids.then_some(id)));
    let mut send = |peer: &mut TcpStream| peer.write_all(&requests.next().unwrap()).unwrap();
    let mut reply = [0; 4096];
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut peers: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    for _ in 0..rounds {
        if one_by_one {
            for peer in &mut peers {
                send(peer);
                read_reply(peer, &mut reply);
            }
            continue;
        }
        // Halted meanwhile, so that it is one wait for all of them however the system schedules.
        signal(&server, Signal::SIGSTOP);
        for peer in &mut peers {
            send(peer);
        }
        signal(&server, Signal::SIGCONT);
        for peer in &mut peers {
            read_reply(peer, &mut reply);
        }
    }
    drop(peers);
    // Valgrind hands the signal on, and the process keeps its number.
    signal(&server, Signal::SIGTERM);
    let mut said = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(server.0.wait().unwrap().success(), "{said}");
    assert!(said.contains(&format!(" replies={} ", rounds * CONNECTIONS)), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.unwrap_or_else(|| panic!("{said}")).1.trim().parse().unwrap()
}

#[test]
fn does_a_message_cost_few_instructions() {
    if !is_optimized() {
        println!("skipped: instructions of an unoptimized program mean nothing");
        return;
    }
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        println!("skipped: valgrind is not installed");
        return;
    }
    for (service, ids, most) in [
        ("raw", false, 300.0),
        ("echo", false, 350.0),
        ("echo", true, 1_700.0),
        ("search", false, 1_200.0),
    ] {
        let per_message = |one_by_one| {
            let run = |rounds| instructions(service, ids, rounds, one_by_one);
            let (short, long) = (run(SHORT), run(LONG));
            (long - short) as f64 / ((LONG - SHORT) * CONNECTIONS) as f64
        };
        let (together, alone) = (per_message(false), per_message(true));
        println!(
            "{service}{}: {together:.1} instructions per message over {CONNECTIONS} connections; {alone:.1} where each has a wait of its own",
            if ids { ", each with another id in its header" } else { "" }
        );
        assert!(together <= most, "{service}: {together}");
    }
}
