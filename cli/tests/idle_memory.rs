//! What does an idle connection cost? Asked of the kernel: the server's resident memory, at two
//! numbers of connections that each exchanged a message.
//!
//! ```text
//! $ cargo test --release -p myriapod-cli --test idle_memory -- --nocapture
//! ```
//!
//! prints the slopes, which docs/figures.md quotes.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use myriapod::sys;

use program::{is_optimized, program};

#[path = "common/program.rs"]
mod program;

const FEW: usize = 2_000;
const MANY: usize = 19_000;

/// The most that one connection may cost, in bytes.
const MOST: i64 = 64;

/// How long the server has to give back what large messages took; a wait of time, not for a
/// condition, since what it keeps is the question.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// A message with so much content; 146 bytes in all for 41.
fn message(len: usize) -> Vec<u8> {
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {len}}}"#
    );
    let mut bytes = u16::try_from(header.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.push(b'"');
    bytes.resize(bytes.len() + len - 2, b'x');
    bytes.push(b'"');
    bytes
}

/// A server that a failed test leaves behind ends with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start() -> (Self, u16) {
        let child = Command::new(program())
            .args(["serve", "--service", "echo", "127.0.0.1", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self(child);
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(", ").next().and_then(|end| end.strip_suffix(')'));
        (server, port.unwrap().parse().unwrap())
    }

    /// Resident bytes. `smaps_rollup` counts pages; the figures of `status` and `statm` are allowed
    /// to lag behind by some dozens for each processor.
    fn resident(&self) -> i64 {
        let path = format!("/proc/{}/smaps_rollup", self.0.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<i64>().unwrap() * 1024
    }
}

/// One message there and back.
fn exchange(peer: &mut TcpStream, request: &[u8], reply: &mut [u8]) {
    peer.write_all(request).unwrap();
    peer.read_exact(reply).unwrap();
    assert!(reply == request);
}

/// Connections up to so many, each with one message exchanged.
fn grow(peers: &mut Vec<TcpStream>, to: usize, port: u16) {
    let request = message(41);
    assert_eq!(request.len(), 146);
    let mut reply = vec![0; request.len()];
    while peers.len() < to {
        let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        exchange(&mut peer, &request, &mut reply);
        peers.push(peer);
    }
}

/// A message of 100 kB there and back on each connection, one after another.
fn exchange_large(peers: &mut [TcpStream]) {
    let request = message(100_000);
    let mut reply = vec![0; request.len()];
    for peer in peers {
        exchange(peer, &request, &mut reply);
    }
}

#[test]
fn does_an_idle_connection_cost_64_bytes_at_most() {
    if !is_optimized() {
        println!("skipped: it takes half a minute, and release builds are what is measured");
        return;
    }
    let limit = sys::raise_descriptor_limit().unwrap();
    // The server keeps 64 for itself; so do we.
    let many = MANY.min(usize::try_from(limit.soft).unwrap().saturating_sub(64));
    if many < 3 * FEW {
        println!("skipped: only {} descriptors are allowed", limit.soft);
        return;
    }
    let slope = |from: i64, to: i64| (to - from) / i64::try_from(many - FEW).unwrap();

    let (server, port) = Server::start();
    let mut peers = Vec::new();
    grow(&mut peers, FEW, port);
    let first = server.resident();
    exchange_large(&mut peers);
    std::thread::sleep(SETTLES_WITHIN);
    let few = server.resident();
    grow(&mut peers, many, port);
    let small = server.resident();
    exchange_large(&mut peers[FEW..]);
    let deadline = Instant::now() + SETTLES_WITHIN;
    let mut large = server.resident();
    while slope(first, large) > MOST && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        large = server.resident();
    }
    println!("RSS with {FEW} connections: {first}, {few} after 100 kB on each");
    println!("RSS with {many} connections: {small}, {large} after 100 kB on each");
    let (after_small, after_large) = (slope(few, small), slope(few, large));
    println!("bytes for each connection: {after_small}, {after_large} after 100 kB");
    println!(
        "the loop's own buffers, once: {} bytes; counted to the connections, {} for each in all",
        few - first,
        slope(first, large)
    );
    assert!(after_small <= MOST);
    assert!(after_large <= MOST);
}
