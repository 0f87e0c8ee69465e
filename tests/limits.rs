//! Does the server stop at its limits and the system's, lose nobody there, and never spin?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    Peer, Running, assert_settled, builder, echo, in_own_process, number_of, numbered,
    on_every_backend,
};
use myriapod::{Backend, Cause, ConfigError, Error, Handler, Limits, LogEvent, Server, sys};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

on_every_backend! {
    do_peers_over_the_limit_wait_in_the_backlog,
    does_a_full_server_not_spin,
    is_a_peer_refused_whose_address_has_its_number,
    does_an_address_get_its_place_back,
    does_a_lack_of_descriptors_pause_accepting_and_not_spin,
    does_a_close_end_the_pause_at_once,
    is_no_more_accepted_in_one_turn_than_the_batch,
    does_the_batch_grow_while_peers_wait,
    does_a_rush_at_one_listener_not_keep_another_waiting,
    does_one_lack_of_descriptors_pause_two_listeners_once,
    is_a_limit_beyond_the_system_lowered_and_told,
}

/// Connects and sends a request before anybody has accepted.
fn waiting_peer<H: Handler>(server: &Server<H>, number: u32) -> Peer<TcpStream> {
    let mut peer = Peer::new(TcpStream::connect(server.addresses()[0].to_string()).unwrap());
    peer.send(&numbered(number));
    peer
}

/// Runs turns until `condition` holds; each waits as long as it likes.
fn run_until<H: Handler>(server: &mut Server<H>, condition: impl Fn(&myriapod::Stats) -> bool) {
    while !condition(&server.stats()) {
        server.event_loop().run_once(Some(common::PATIENCE)).unwrap();
    }
}

/// Runs turns for what is there already, without waiting for anything.
fn run_ready<H: Handler>(server: &mut Server<H>, turns: usize) {
    for _ in 0..turns {
        server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
    }
}

fn stop<H: Handler>(server: &mut Server<H>) {
    server.handle().shutdown().unwrap();
    server.run().unwrap();
    assert_settled(&server.stats());
}

fn do_peers_over_the_limit_wait_in_the_backlog(backend: Backend) {
    let limits = Limits { max_connections: Some(3), ..Limits::default() };
    let server = Running::echo(backend, limits);
    let mut peers: Vec<_> = (0..8)
        .map(|number| {
            let mut peer = server.connect();
            peer.send(&numbered(number));
            peer
        })
        .collect();
    for (number, peer) in (0..).zip(peers.iter_mut().take(3)) {
        assert_eq!(number_of(&peer.reply()), number);
    }
    let stats = server.wait_for("three replies", |stats| stats.replies == 3);
    assert_eq!((stats.accepted, stats.open), (3, 3));
    // Each that leaves lets the next one in.
    for number in 3..8 {
        drop(peers.remove(0));
        assert_eq!(number_of(&peers[2].reply()), number);
        assert!(server.stats().open <= 3);
    }
    drop(peers);
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.accept_errors, stats.turned_away), (8, 0, 0));
}

fn does_a_full_server_not_spin(backend: Backend) {
    let limits =
        Limits { max_connections: Some(2), idle_timeout: Duration::ZERO, ..Limits::default() };
    let told = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&told);
    let mut server = builder(backend)
        .limits(limits)
        .log(move |event| {
            if matches!(event, LogEvent::AtLimit { max_connections: 2 }) {
                counted.fetch_add(1, Relaxed);
            }
        })
        .answer(echo)
        .unwrap();
    let mut peers: Vec<_> = (0..4).map(|number| waiting_peer(&server, number)).collect();
    run_until(&mut server, |stats| stats.replies == 2);
    run_ready(&mut server, 5);
    assert_eq!(server.event_loop().timeout(), None, "nothing is due");
    for _ in 0..20 {
        let turn = server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(turn.events, 0, "peers in the backlog make no events");
    }
    assert_eq!(told.load(Relaxed), 1);
    drop(peers.drain(..2));
    run_until(&mut server, |stats| stats.replies == 4);
    drop(peers);
    stop(&mut server);
}

fn is_a_peer_refused_whose_address_has_its_number(backend: Backend) {
    let limits = Limits { max_connections_per_address: Some(2), ..Limits::default() };
    let server = Running::echo(backend, limits);
    let mut peers: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for peer in &mut peers {
        assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    }
    for round in 1..=3 {
        server.connect().wait_for_end();
        server.wait_for("the refusal", |stats| stats.refused_by_address == round);
    }
    for peer in &mut peers {
        assert_eq!(number_of(&peer.ask(&numbered(2))), 2);
    }
    drop(peers);
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.closed_for(Cause::Peer)), (2, 2));
}

fn does_an_address_get_its_place_back(backend: Backend) {
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let server = Running::echo(backend, limits);
    for round in 1..=3 {
        let mut peer = server.connect();
        assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
        server.connect().wait_for_end();
        drop(peer);
        server.wait_for("the close", |stats| stats.accepted == round && stats.open == 0);
    }
    assert_eq!(server.stop().refused_by_address, 3);
}

/// Leaves room for so many descriptors beyond those that are open.
fn leave_descriptors(count: usize) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The limit is on the number, and the lowest free ones are taken.
    let limit = u64::try_from(sys::open_descriptors() + count).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
}

fn restore_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

fn does_a_lack_of_descriptors_pause_accepting_and_not_spin(backend: Backend) {
    let name = "does_a_lack_of_descriptors_pause_accepting_and_not_spin";
    if !in_own_process(&format!("{backend}::{name}")) {
        return;
    }
    let lines = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lines);
    let mut server = builder(backend)
        .log(move |event| {
            if let LogEvent::AcceptPaused { errno, .. } = event {
                assert_eq!(errno.to_string(), "EMFILE (Too many open files)");
                counted.fetch_add(1, Relaxed);
            }
        })
        .answer(echo)
        .unwrap();
    let mut peers: Vec<_> = (0..20).map(|number| waiting_peer(&server, number)).collect();
    leave_descriptors(4);
    run_until(&mut server, |stats| stats.accept_pauses == 4);
    let stats = server.stats();
    assert!((1..=8).contains(&stats.accepted), "{stats}");
    assert!((1..=stats.accept_pauses).contains(&stats.turned_away), "{stats}");
    // A turn for each accept, and for each pause a turn or two to begin and to end it.
    assert!(stats.wakeups <= 20 + 3 * stats.accept_pauses, "{stats}");
    let lines = lines.load(Relaxed);
    assert!((1..=2).contains(&lines), "{lines} lines in less than a second or two");

    restore_descriptors();
    let turned_away = stats.turned_away;
    run_until(&mut server, |stats| stats.replies + turned_away == 20);
    let answered = |peer: &mut Peer<TcpStream>| {
        let mut first = [0];
        matches!(std::io::Read::read(&mut peer.stream, &mut first), Ok(1))
    };
    let answered = peers.iter_mut().filter_map(|peer| answered(peer).then_some(())).count();
    assert_eq!(answered as u64 + turned_away, 20, "all others were served in the end");
    drop(peers);
    stop(&mut server);
}

fn does_a_close_end_the_pause_at_once(backend: Backend) {
    if !in_own_process(&format!("{backend}::does_a_close_end_the_pause_at_once")) {
        return;
    }
    let mut server = builder(backend).answer(echo).unwrap();
    let mut peers: Vec<_> = (0..20).map(|number| waiting_peer(&server, number)).collect();
    leave_descriptors(4);
    run_until(&mut server, |stats| stats.accept_pauses == 1);
    let before = server.stats().accepted;
    assert_eq!(number_of(&peers[0].reply()), 0);
    drop(peers.remove(0));
    // Far less time than the pause would last.
    run_ready(&mut server, 4);
    let stats = server.stats();
    assert!(stats.accepted > before, "{stats}");
    restore_descriptors();
    drop(peers);
    stop(&mut server);
}

fn is_no_more_accepted_in_one_turn_than_the_batch(backend: Backend) {
    let mut server = builder(backend)
        .limits(Limits { accept_batch: 4, ..Limits::default() })
        .answer(echo)
        .unwrap();
    let peers: Vec<_> = (0..30).map(|number| waiting_peer(&server, number)).collect();
    let mut accepted = 0;
    while accepted < 30 {
        server.event_loop().run_once(Some(common::PATIENCE)).unwrap();
        let now = server.stats().accepted;
        assert!(now - accepted <= 4, "{} in one turn", now - accepted);
        accepted = now;
    }
    drop(peers);
    stop(&mut server);
}

fn does_the_batch_grow_while_peers_wait(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let peers: Vec<_> = (0..63).map(|number| waiting_peer(&server, number)).collect();
    run_until(&mut server, |stats| stats.accepted == 63);
    let turns = server.stats().wakeups;
    assert!(turns <= 6, "1 + 2 + 4 + 8 + 16 + 32 in {turns} turns");
    drop(peers);
    stop(&mut server);
}

fn does_a_rush_at_one_listener_not_keep_another_waiting(backend: Backend) {
    for (rushed, calm) in [(0, 1), (1, 0)] {
        let limits = Limits { accept_batch: 2, ..Limits::default() };
        let mut server =
            builder(backend).listen("127.0.0.1", 0).limits(limits).answer(echo).unwrap();
        let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
        let rush: Vec<_> =
            (0..40).map(|_| TcpStream::connect(&addresses[rushed]).unwrap()).collect();
        let mut single = Peer::new(TcpStream::connect(&addresses[calm]).unwrap());
        single.send(&numbered(1));
        run_until(&mut server, |stats| stats.replies == 1);
        let accepted = server.stats().accepted;
        assert!(accepted <= 10, "{accepted} others came first");
        drop((rush, single));
        stop(&mut server);
    }
}

fn does_one_lack_of_descriptors_pause_two_listeners_once(backend: Backend) {
    let name = "does_one_lack_of_descriptors_pause_two_listeners_once";
    if !in_own_process(&format!("{backend}::{name}")) {
        return;
    }
    let mut server = builder(backend).listen("127.0.0.1", 0).answer(echo).unwrap();
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    let peers: Vec<_> = (0..20).map(|at| TcpStream::connect(&addresses[at % 2]).unwrap()).collect();
    leave_descriptors(2);
    while server.stats().accept_pauses == 0 {
        server.event_loop().run_once(Some(common::PATIENCE)).unwrap();
    }
    let stats = server.stats();
    assert_eq!((stats.accept_pauses, stats.turned_away), (1, 1), "{stats}");
    restore_descriptors();
    drop(peers);
    stop(&mut server);
}

fn is_a_limit_beyond_the_system_lowered_and_told(backend: Backend) {
    let told = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&told);
    let limits = Limits { max_connections: Some(usize::MAX), ..Limits::default() };
    builder(backend)
        .limits(limits)
        .log(move |event| {
            if let LogEvent::LimitLowered { asked, lowered, because } = event {
                assert_eq!(*asked, usize::MAX);
                *kept.lock().unwrap() = Some((*lowered, because.contains("select")));
            }
        })
        .answer(echo)
        .unwrap();
    let (lowered, is_select) = told.lock().unwrap().expect("it is told");
    assert!(lowered >= 1);
    assert_eq!(is_select, backend == Backend::Select);
    if is_select {
        assert_eq!(lowered, 1024 - 64);
    }
}

#[test]
fn are_limits_that_cannot_work_refused() {
    let change = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        match Server::builder().limits(limits).answer(echo) {
            Err(Error::Config(error)) => error,
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("accepted"),
        }
    };
    let zero = |name| ConfigError::Zero { name };
    assert_eq!(change(|limits| limits.max_header_len = 0), zero("max_header_len"));
    assert_eq!(change(|limits| limits.max_content_len = 0), zero("max_content_len"));
    assert_eq!(change(|limits| limits.max_connections = Some(0)), zero("max_connections"));
    let per_address = "max_connections_per_address";
    assert_eq!(change(|limits| limits.max_connections_per_address = Some(0)), zero(per_address));
    assert_eq!(change(|limits| limits.messages_per_event = 0), zero("messages_per_event"));
    assert_eq!(change(|limits| limits.high_water = 0), zero("high_water"));
    assert_eq!(change(|limits| limits.low_water = 0), zero("low_water"));
    assert_eq!(change(|limits| limits.max_buffer_bytes = 0), zero("max_buffer_bytes"));
    assert_eq!(change(|limits| limits.linger_bytes = 0), zero("linger_bytes"));
    assert_eq!(change(|limits| limits.accept_batch = 0), zero("accept_batch"));
    let large = change(|limits| limits.max_header_len = 65_536);
    assert_eq!(large.to_string(), "max_header_len (65536) must be at most 65535");
    assert!(matches!(
        change(|limits| limits.low_water = limits.high_water),
        ConfigError::WaterMarks { .. }
    ));
    let small = change(|limits| limits.max_buffer_bytes = 1 << 20);
    assert_eq!(
        small,
        ConfigError::BuffersTooSmall { buffers: 1 << 20, message: 2 + 4096 + (1 << 20) }
    );
}

#[test]
fn are_timeouts_of_zero_taken() {
    let limits = Limits {
        header_timeout: Duration::ZERO,
        content_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        linger_timeout: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        ..Limits::default()
    };
    assert_eq!(limits.validate(), Ok(()));
}
