//! Do ten thousand connections that went idle hold any buffer?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use common::{Running, numbered};
use myriapod::{Backend, Limits, sys};

const CONNECTIONS: usize = 10_000;

/// Where the clients' process finds the server, and how many it is to open.
const SERVER: &str = "MYRIAPOD_TEST_SERVER";

/// The clients, in a process of their own: a connection takes a descriptor at both ends.
#[test]
#[ignore = "started by the test below"]
fn clients() {
    let Ok(place) = std::env::var(SERVER) else { return };
    let (address, count) = place.split_once(' ').unwrap();
    sys::raise_descriptor_limit().unwrap();
    let mut peers = Vec::new();
    for nth in 0..count.parse().unwrap() {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_nodelay(true).unwrap();
        // Every other message comes in two parts, so that its start has to be kept.
        let request = numbered(nth);
        let (start, rest) = request.split_at(if nth % 2 == 0 { 0 } else { 30 });
        peer.write_all(start).unwrap();
        peer.write_all(rest).unwrap();
        let mut reply = vec![0; request.len()];
        peer.read_exact(&mut reply).unwrap();
        assert_eq!(reply, request);
        peers.push(peer);
    }
    println!("exchanged");
    // Until our parent has seen enough.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn do_ten_thousand_idle_connections_hold_no_pooled_buffer() {
    let limit = sys::raise_descriptor_limit().unwrap();
    let room = usize::try_from(limit.soft).unwrap().saturating_sub(100);
    let connections = CONNECTIONS.min(room);
    if connections < CONNECTIONS {
        println!("{connections} only: the system allows {} descriptors", limit.soft);
    }
    let server = Running::echo(Backend::native(), Limits::default());
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "clients", "--ignored", "--nocapture"])
        .env(SERVER, format!("{} {connections}", server.address()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let count = connections as u64;
    let stats = server.wait_for("a reply on each", |stats| stats.replies == count);
    assert_eq!(stats.open, count);
    assert_eq!((stats.pool_buffers, stats.pool_bytes), (0, 0), "{stats}");
    assert_eq!(stats.timers, count, "each has its deadline");
    drop(clients.stdin.take());
    assert!(clients.wait().unwrap().success());
    server.wait_for("all of them gone", |stats| (stats.open, stats.timers) == (0, 0));
    server.stop();
}
