//! Does a server that is started and stopped leave anything behind?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::TcpStream;
use std::time::Instant;

use common::{PATIENCE, Peer, builder, echo, in_own_process, number_of, numbered};
use myriapod::{Backend, Server, sys};

const TIMES: u32 = 1000;

/// Threads of this process: the lines of `/proc/self/task` (Linux), or none.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Builds a server, runs it on a thread, has a message answered, and stops it.
fn live_once(number: u32) {
    let mut server = builder(Backend::native()).answer(echo).unwrap();
    let (address, handle) = (server.addresses()[0].to_string(), server.handle());
    let thread = std::thread::spawn(move || (server.run().unwrap(), server.stats()));
    let mut peer = Peer::new(TcpStream::connect(address).unwrap());
    assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    drop(peer);
    handle.shutdown().unwrap();
    let (graceful, stats) = thread.join().unwrap();
    assert!(graceful, "{stats}");
    common::assert_settled(&stats);
    assert!(handle.shutdown().is_ok(), "that it has stopped is no error");
}

/// Two loops, with threads of their own.
fn live_once_on_two_threads(number: u32) {
    let mut servers =
        Server::builder().listen("127.0.0.1", 0).threads(2).answer_each(|| echo).unwrap();
    let (address, handle) = (servers.addresses()[0].to_string(), servers.handle());
    let thread = std::thread::spawn(move || servers.run().unwrap());
    let mut peer = Peer::new(TcpStream::connect(address).unwrap());
    assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    drop(peer);
    handle.shutdown().unwrap();
    assert!(thread.join().unwrap());
}

/// What a first life leaves (the runtime's own) is there before counting begins.
fn leaves_nothing(times: u32, live: impl Fn(u32)) {
    live(0);
    let before = (sys::open_descriptors(), threads());
    for number in 1..=times {
        live(number);
    }
    // A thread that was joined is in the list for a moment longer.
    let begun = Instant::now();
    while (sys::open_descriptors(), threads()) != before && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!((sys::open_descriptors(), threads()), before, "descriptors and threads");
}

#[test]
fn does_a_server_leave_nothing_after_a_thousand_lives() {
    if in_own_process("does_a_server_leave_nothing_after_a_thousand_lives") {
        leaves_nothing(TIMES, live_once);
    }
}

#[test]
fn do_servers_leave_nothing_after_a_hundred_lives() {
    if in_own_process("do_servers_leave_nothing_after_a_hundred_lives") {
        leaves_nothing(TIMES / 10, live_once_on_two_threads);
    }
}

#[test]
fn does_a_server_that_never_runs_leave_nothing() {
    if in_own_process("does_a_server_that_never_runs_leave_nothing") {
        leaves_nothing(TIMES, |_| drop(builder(Backend::native()).answer(echo).unwrap()));
    }
}
