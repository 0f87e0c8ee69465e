//! Does a graceful stop answer what had come, lose nobody who waits, and end?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{
    Peer, Running, assert_settled, builder, echo, in_own_process, number_of, numbered,
    on_every_backend,
};
use myriapod::{Backend, Cause, Handler, Limits, Message, Reply, Server, Stats, sys};

on_every_backend! {
    is_a_request_that_nobody_has_read_yet_answered,
    are_many_requests_that_nobody_has_read_yet_answered,
    are_peers_in_the_backlog_answered,
    are_peers_in_the_backlog_of_a_full_server_answered,
    is_a_message_that_is_under_way_finished,
    are_queued_replies_delivered,
    are_requests_behind_a_pause_answered,
    does_the_drain_timeout_cut_off,
    is_a_peer_that_goes_on_sending_cut_off,
    are_idle_connections_closed,
    is_a_new_peer_refused_meanwhile,
    does_the_next_servers_unix_socket_survive_the_lasts_end,
    does_a_server_that_cannot_be_built_leave_no_file,
    does_a_second_shutdown_change_nothing,
    does_a_server_without_connections_end_at_once,
    does_a_shutdown_before_the_first_turn_count,
    does_cut_off_close_everything_at_once,
    does_a_finished_loop_stay_finished,
    does_starting_and_stopping_leak_no_descriptor,
    does_dropping_a_running_loop_leak_no_descriptor,
}

fn connect<H: Handler>(server: &Server<H>) -> Peer<TcpStream> {
    Peer::new(TcpStream::connect(server.addresses()[0].to_string()).unwrap())
}

fn run_until<H: Handler>(server: &mut Server<H>, condition: impl Fn(&Stats) -> bool) {
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

/// Runs a stopped server to its end, in which each peer gets its answer.
fn end_with_an_answer_for_each<H: Handler>(
    server: &mut Server<H>,
    peers: Vec<Peer<TcpStream>>,
) -> Stats {
    let reader = std::thread::spawn(move || {
        for (number, mut peer) in (0..).zip(peers) {
            assert_eq!(number_of(&peer.reply()), number);
            peer.expect_end();
        }
    });
    assert!(server.run().unwrap());
    reader.join().unwrap();
    let stats = server.stats();
    assert_settled(&stats);
    stats
}

fn is_a_request_that_nobody_has_read_yet_answered(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let mut peers: Vec<_> = (0..5).map(|_| connect(&server)).collect();
    run_until(&mut server, |stats| stats.accepted == 5);
    for (number, peer) in (0..).zip(&mut peers) {
        peer.send(&numbered(number));
    }
    server.handle().shutdown().unwrap();
    let stats = end_with_an_answer_for_each(&mut server, peers);
    assert_eq!((stats.messages, stats.closed_for(Cause::Drained)), (5, 5));
}

fn are_many_requests_that_nobody_has_read_yet_answered(backend: Backend) {
    // More than a receive takes and more than the budget of a turn.
    let limits = Limits { messages_per_event: 10, ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let mut peer = connect(&server);
    run_until(&mut server, |stats| stats.accepted == 1);
    let count = 1500;
    let wire: Vec<u8> = (0..count).flat_map(numbered).collect();
    assert!(wire.len() > 2 * (64 << 10));
    assert_eq!(peer.stuff(&wire), wire.len(), "the sockets hold all of it");
    server.handle().shutdown().unwrap();
    let reader = std::thread::spawn(move || {
        for number in 0..count {
            assert_eq!(number_of(&peer.reply()), number);
        }
        peer.expect_end();
    });
    assert!(server.run().unwrap());
    reader.join().unwrap();
    assert_settled(&server.stats());
}

fn are_peers_in_the_backlog_answered(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let mut peers: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        peer.send(&numbered(number));
    }
    server.handle().shutdown().unwrap();
    let stats = end_with_an_answer_for_each(&mut server, peers);
    assert_eq!(stats.accepted, 20);
}

fn are_peers_in_the_backlog_of_a_full_server_answered(backend: Backend) {
    let limits = Limits { max_connections: Some(2), ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let mut peers: Vec<_> = (0..6).map(|_| connect(&server)).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        peer.send(&numbered(number));
    }
    run_until(&mut server, |stats| stats.replies == 2);
    run_ready(&mut server, 3);
    server.handle().shutdown().unwrap();
    let stats = end_with_an_answer_for_each(&mut server, peers);
    assert_eq!(stats.accepted, 6);
}

fn is_a_message_that_is_under_way_finished(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let request = numbered(6);
    for cut in [1, 40, request.len() - 1] {
        let server = Running::echo(backend, Limits::default());
        let mut peer = server.connect();
        peer.send(&request[..cut]);
        server.wait_for("the beginning", |stats| stats.bytes_in == cut as u64);
        let mut idle = server.connect();
        server.wait_for("the other", |stats| stats.accepted == 2);
        server.shutdown();
        idle.expect_end();
        drop(idle);
        assert_eq!(number_of(&peer.ask(&request[cut..])), 6);
        peer.expect_end();
        drop(peer);
        let stats = server.join();
        assert_eq!(stats.closed_for(Cause::CutOff), 0, "{stats}");
        assert_eq!(stats.truncated, 0);
    }
    server.stop();
}

fn large(_: Message<'_>, reply: &mut Reply<'_>) -> myriapod::HandlerResult {
    Ok(reply.binary("test/large", &vec![1; 8 << 20])?)
}

fn are_queued_replies_delivered(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(large));
    let mut peer = server.connect();
    peer.send(&numbered(1));
    server.wait_for("a short write", |stats| stats.short_writes == 1);
    server.shutdown();
    assert_eq!(peer.reply().as_message().content().len(), 8 << 20);
    peer.expect_end();
    drop(peer);
    let stats = server.join();
    assert_eq!((stats.closed_for(Cause::Drained), stats.discarded_out), (1, 0), "{stats}");
}

fn are_requests_behind_a_pause_answered(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(large));
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2), numbered(3)].concat());
    server.wait_for("a pause", |stats| stats.paused_reads == 1);
    // These stay in the kernel until the pause is over.
    peer.send(&[numbered(4), numbered(5)].concat());
    server.shutdown();
    for _ in 0..5 {
        assert_eq!(peer.reply().as_message().content().len(), 8 << 20);
    }
    peer.expect_end();
    drop(peer);
    let stats = server.join();
    assert_eq!((stats.messages, stats.closed_for(Cause::Drained)), (5, 1), "{stats}");
}

const SHORT: Duration = Duration::from_millis(60);

fn does_the_drain_timeout_cut_off(backend: Backend) {
    let limits = Limits { drain_timeout: SHORT, ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let mut peer = connect(&server);
    peer.send(&numbered(1)[..50]);
    run_until(&mut server, |stats| stats.bytes_in == 50);
    let began = Instant::now();
    server.handle().shutdown().unwrap();
    assert!(!server.run().unwrap(), "something was cut off");
    assert!(began.elapsed() >= SHORT);
    peer.wait_for_end();
    let stats = server.stats();
    assert_settled(&stats);
    assert_eq!(stats.closed_for(Cause::CutOff), 1);
}

fn is_a_peer_that_goes_on_sending_cut_off(backend: Backend) {
    let limits = Limits { drain_timeout: SHORT, ..Limits::default() };
    let server = Running::start(move || builder(backend).limits(limits).answer(|_, _| Ok(())));
    let peer = server.connect();
    let mut stream = peer.stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let wire: Vec<u8> = (0..1000).flat_map(numbered).collect();
        while std::io::Write::write_all(&mut stream, &wire).is_ok() {}
    });
    server.wait_for("some messages", |stats| stats.messages > 1000);
    server.shutdown();
    let stats = server.join();
    thread.join().unwrap();
    assert_eq!(stats.closed.iter().sum::<u64>(), 1);
    drop(peer);
}

fn are_idle_connections_closed(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peers: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for peer in peers.iter_mut().take(5) {
        assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    }
    server.wait_for("all", |stats| stats.accepted == 10);
    server.shutdown();
    for mut peer in peers {
        peer.expect_end();
    }
    assert_eq!(server.join().closed_for(Cause::Drained), 10);
}

fn is_a_new_peer_refused_meanwhile(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&numbered(1)[..50]);
    server.wait_for("the beginning", |stats| stats.bytes_in == 50);
    let mut idle = server.connect();
    server.wait_for("both", |stats| stats.accepted == 2);
    server.shutdown();
    // Its end shows that the stop has begun.
    idle.expect_end();
    let refused = TcpStream::connect(server.address());
    assert!(refused.is_err(), "nobody listens any more");
    peer.finish();
    peer.expect_end();
    drop((peer, idle));
    server.join();
}

fn unix_path(backend: Backend, name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("myriapod-{name}-{}-{backend}", std::process::id()))
}

fn does_the_next_servers_unix_socket_survive_the_lasts_end(backend: Backend) {
    use std::os::unix::net::UnixStream;
    let path = unix_path(backend, "next");
    let host = format!("unix:{}", path.display());
    let start = || {
        let host = host.clone();
        Running::start(move || Server::builder().backend(backend).listen(&host, 0).answer(echo))
    };
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        Peer::over(stream)
    };
    let last = start();
    let request = numbered(1);
    let (mut peer, mut idle) = (connect(), connect());
    peer.send(&request[..50]);
    last.wait_for("both", |stats| stats.accepted == 2 && stats.bytes_in == 50);
    last.shutdown();
    // Its end shows that the stop has begun; the other connection holds it up.
    idle.expect_end();
    let next = start();
    assert_eq!(number_of(&peer.ask(&request[50..])), 1);
    drop((peer, idle));
    last.join();
    let mut peer = connect();
    assert_eq!(number_of(&peer.ask(&numbered(2))), 2);
    drop(peer);
    next.stop();
    assert!(!path.exists());
}

fn does_a_server_that_cannot_be_built_leave_no_file(backend: Backend) {
    let path = unix_path(backend, "unbuilt");
    let host = format!("unix:{}", path.display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let built = Server::builder().backend(backend).listen(&host, 0).listen("127.0.0.1", port);
    let error = built.answer(echo).map(drop).unwrap_err();
    assert!(error.to_string().contains("EADDRINUSE"), "{error}");
    assert!(!path.exists());
}

fn does_a_second_shutdown_change_nothing(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let request = numbered(8);
    let mut peer = server.connect();
    peer.send(&request[..50]);
    server.wait_for("the beginning", |stats| stats.bytes_in == 50);
    let wakeups = server.stats().wakeups;
    server.shutdown();
    server.wait_for("the wake-up", |stats| stats.wakeups > wakeups);
    server.shutdown();
    server.shutdown();
    assert_eq!(number_of(&peer.ask(&request[50..])), 8);
    peer.expect_end();
    drop(peer);
    server.join();
}

fn does_a_server_without_connections_end_at_once(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    server.handle().shutdown().unwrap();
    let turn = server.event_loop().run_once(None).unwrap();
    assert!(turn.finished);
    assert!(server.run().unwrap());
}

fn does_a_shutdown_before_the_first_turn_count(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let handle = server.handle();
    std::thread::spawn(move || handle.shutdown().unwrap()).join().unwrap();
    assert!(server.run().unwrap());
}

fn does_cut_off_close_everything_at_once(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let mut peers: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    peers[0].send(&numbered(1)[..50]);
    run_until(&mut server, |stats| stats.accepted == 3 && stats.bytes_in == 50);
    server.event_loop().cut_off();
    assert!(server.event_loop().is_finished());
    assert!(!server.run().unwrap());
    for peer in &mut peers {
        peer.wait_for_end();
    }
    assert_settled(&server.stats());
}

fn does_a_finished_loop_stay_finished(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    server.handle().shutdown().unwrap();
    assert!(server.run().unwrap());
    let stats = server.stats();
    for timeout in [Some(Duration::ZERO), None] {
        let turn = server.event_loop().run_once(timeout).unwrap();
        assert!(turn.finished && turn.events == 0);
    }
    server.handle().shutdown().unwrap();
    assert!(server.run().unwrap());
    assert_eq!(server.stats(), stats);
}

fn does_starting_and_stopping_leak_no_descriptor(backend: Backend) {
    if !in_own_process(&format!("{backend}::does_starting_and_stopping_leak_no_descriptor")) {
        return;
    }
    let mut before = None;
    for _ in 0..100 {
        let mut server = builder(backend).answer(echo).unwrap();
        let mut peer = connect(&server);
        peer.send(&numbered(1));
        run_until(&mut server, |stats| stats.replies == 1);
        drop(peer);
        server.handle().shutdown().unwrap();
        assert!(server.run().unwrap());
        drop(server);
        // The first round opens what a process opens once.
        let now = sys::open_descriptors();
        assert_eq!(now, *before.get_or_insert(now));
    }
}

fn does_dropping_a_running_loop_leak_no_descriptor(backend: Backend) {
    if !in_own_process(&format!("{backend}::does_dropping_a_running_loop_leak_no_descriptor")) {
        return;
    }
    let mut before = None;
    for _ in 0..100 {
        let mut server = builder(backend).answer(large).unwrap();
        let mut peers: Vec<_> = (0..4).map(|_| connect(&server)).collect();
        peers[0].send(&numbered(1)[..50]);
        peers[1].send(&numbered(1));
        peers[2].send(b"\xff\xff");
        run_until(&mut server, |stats| stats.accepted == 4 && stats.bytes_in > 160);
        drop(server);
        drop(peers);
        let now = sys::open_descriptors();
        assert_eq!(now, *before.get_or_insert(now));
    }
}
