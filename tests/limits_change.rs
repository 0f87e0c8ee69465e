//! Do other limits hold from the moment on in which a running server is given them?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::time::Duration;

use common::{Running, binary, builder, echo, error_kind, number_of, numbered, on_every_backend};
use myriapod::protocol::{Fault, Padded, encode_padded};
use myriapod::{
    Backend, Cause, ConfigError, Error, Handler, HandlerResult, Limits, Message, Outgoing,
    PushError, Reply, SocketAddr, View,
};

on_every_backend! {
    does_a_shorter_idle_timeout_reach_a_connection_that_idles,
    does_an_idle_timeout_reach_a_connection_that_had_none,
    does_a_longer_idle_timeout_spare_a_connection_that_idles,
    does_a_shorter_header_timeout_reach_half_a_message,
    do_more_connections_let_those_in_that_wait,
    do_fewer_connections_keep_new_ones_out_and_old_ones_in,
    does_no_number_of_connections_leave_the_limit_as_it_is,
    does_a_shorter_content_reach_the_framing,
    does_a_shorter_header_reach_headers_that_were_seen,
    does_a_shorter_content_reach_a_framing_that_is_given,
    does_another_mark_reach_the_pushes_of_a_handler,
    does_a_smaller_pool_take_from_nobody_without_need,
    are_limits_refused_that_cannot_work,
    do_other_limits_reach_every_loop,
}

fn set(server: &Running, limits: &Limits) {
    server.handle().set_limits(limits).unwrap();
    server.catch_up();
}

fn idle(milliseconds: u64) -> Limits {
    Limits { idle_timeout: Duration::from_millis(milliseconds), ..Limits::default() }
}

fn does_a_shorter_idle_timeout_reach_a_connection_that_idles(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    // More than one turn looks at.
    let mut peers: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for peer in &mut peers {
        assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    }
    set(&server, &idle(50));
    for peer in &mut peers {
        peer.expect_end();
    }
    drop(peers);
    assert_eq!(server.stop().closed_for(Cause::Idle), 30);
}

fn does_an_idle_timeout_reach_a_connection_that_had_none(backend: Backend) {
    let server = Running::echo(backend, idle(0));
    let mut peer = server.connect();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    assert_eq!(server.catch_up().timers, 0);
    set(&server, &idle(50));
    peer.expect_end();
    drop(peer);
    assert_eq!(server.stop().closed_for(Cause::Idle), 1);
}

fn does_a_longer_idle_timeout_spare_a_connection_that_idles(backend: Backend) {
    let server = Running::echo(backend, idle(60_000));
    let mut peer = server.connect();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    set(&server, &idle(0));
    // A timer that was armed before finds no deadline; another connection shows that time passes.
    let handle = server.handle();
    set(&server, &idle(200));
    set(&server, &idle(0));
    let mut other = server.connect();
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    let header_timeout = Duration::from_millis(400);
    handle.set_limits(&Limits { header_timeout, ..idle(0) }).unwrap();
    other.send(&numbered(3)[..9]);
    other.expect_end();
    assert_eq!(number_of(&peer.ask(&numbered(4))), 4);
    drop((peer, other));
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Idle), stats.closed_for(Cause::HeaderTimeout)), (0, 1));
}

fn does_a_shorter_header_timeout_reach_half_a_message(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&numbered(1)[..9]);
    server.wait_for("the beginning", |stats| stats.bytes_in == 9);
    let header_timeout = Duration::from_millis(50);
    set(&server, &Limits { header_timeout, ..Limits::default() });
    peer.expect_end();
    drop(peer);
    assert_eq!(server.stop().closed_for(Cause::HeaderTimeout), 1);
}

fn at_most(connections: usize) -> Limits {
    Limits { max_connections: Some(connections), ..Limits::default() }
}

fn do_more_connections_let_those_in_that_wait(backend: Backend) {
    let server = Running::echo(backend, at_most(2));
    let mut peers: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        peer.send(&numbered(number));
    }
    assert_eq!(number_of(&peers[0].reply()), 0);
    assert_eq!(number_of(&peers[1].reply()), 1);
    assert_eq!(server.catch_up().accepted, 2);
    for more in [3, 4] {
        set(&server, &at_most(more));
        assert_eq!(number_of(&peers[more - 1].reply()) as usize, more - 1);
        assert_eq!(server.catch_up().accepted, more as u64);
    }
    drop(peers);
    server.stop();
}

fn do_fewer_connections_keep_new_ones_out_and_old_ones_in(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    set(&server, &at_most(2));
    let mut waiting = server.connect();
    waiting.send(&numbered(9));
    for (number, peer) in (0..).zip(&mut peers) {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number, "it stays");
    }
    // One below the limit is not one place yet.
    drop(peers.pop());
    server.wait_for("the first end", |stats| stats.open + stats.lingering == 2);
    assert_eq!(number_of(&peers[0].ask(&numbered(5))), 5);
    assert_eq!(server.catch_up().accepted, 3);
    drop(peers.pop());
    assert_eq!(number_of(&waiting.reply()), 9);
    drop((peers, waiting));
    server.stop();
}

fn does_no_number_of_connections_leave_the_limit_as_it_is(backend: Backend) {
    let server = Running::echo(backend, at_most(1));
    let mut peer = server.connect();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    set(&server, &Limits::default());
    let mut waiting = server.connect();
    waiting.send(&numbered(2));
    for number in 0..20 {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    assert_eq!(server.catch_up().accepted, 1);
    drop(peer);
    assert_eq!(number_of(&waiting.reply()), 2);
    drop(waiting);
    server.stop();
}

fn content(max_content_len: usize) -> Limits {
    Limits { max_content_len, ..Limits::default() }
}

fn does_a_shorter_content_reach_the_framing(backend: Backend) {
    let server = Running::echo(backend, content(1_000));
    let message = |len: usize| binary(&vec![7; len]);
    let mut peer = server.connect();
    assert_eq!(peer.ask(&message(1_000)).as_message().bytes(), message(1_000));
    set(&server, &content(10_000));
    assert_eq!(peer.ask(&message(10_000)).as_message().bytes(), message(10_000));
    set(&server, &content(100));
    assert_eq!(peer.ask(&message(100)).as_message().bytes(), message(100));
    // As long as one that was taken before, so that it is predicted.
    for len in [101, 1_000, 10_000] {
        let mut peer = server.connect();
        assert_eq!(error_kind(&peer.ask(&message(len))), "ContentTooLong");
        peer.wait_for_end();
    }
    drop(peer);
    assert_eq!(server.stop().faults_of(Fault::ContentTooLong), 3);
}

fn does_a_shorter_header_reach_headers_that_were_seen(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    for number in 0..3 {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    set(&server, &Limits { max_header_len: 50, ..Limits::default() });
    assert_eq!(error_kind(&peer.ask(&numbered(4))), "HeaderTooLong");
    peer.wait_for_end();
    set(&server, &Limits::default());
    let mut peer = server.connect();
    assert_eq!(number_of(&peer.ask(&numbered(5))), 5);
    drop(peer);
    server.stop();
}

fn does_a_shorter_content_reach_a_framing_that_is_given(backend: Backend) {
    let padded = |len: usize| {
        let mut wire = Vec::new();
        encode_padded(&mut wire, &"x".repeat(len)).unwrap();
        wire
    };
    let server = Running::start(move || builder(backend).build_with(Padded::default(), echo));
    let ask = |len: usize| {
        let mut peer = server.connect();
        peer.send(&padded(len));
        peer.finish();
        let mut reply = Vec::new();
        // What is behind a fault may have come too late to be read.
        let _ = std::io::Read::read_to_end(&mut peer.stream, &mut reply);
        reply
    };
    assert_eq!(ask(5_000), [b'x'; 5_000]);
    set(&server, &content(100));
    assert!(ask(5_000).starts_with(b"Error: "));
    assert_eq!(ask(100), [b'x'; 100]);
    server.stop();
}

/// Pushes ten messages of 1,000 bytes, and replies with how many found room.
struct Pushing;

impl Handler for Pushing {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(&mut self, (): &mut (), _: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        let push = Outgoing::binary("test/push", vec![7; 1_000]);
        let pushed = (0..10).filter(|_| match reply.view().push(&push) {
            Ok(()) => true,
            Err(PushError::Full) => false,
            Err(error) => panic!("{error}"),
        });
        let pushed = u32::try_from(pushed.count()).unwrap();
        Ok(reply.binary("test/bytes", &pushed.to_be_bytes())?)
    }
}

fn does_another_mark_reach_the_pushes_of_a_handler(backend: Backend) {
    let server = Running::start(move || builder(backend).build(Pushing));
    let mut peer = server.connect();
    for (high_water, expected) in [(256 << 10, 10), (5_000, 4), (500, 1), (256 << 10, 10)] {
        set(&server, &Limits { high_water, low_water: 100, ..Limits::default() });
        peer.send(&numbered(0));
        for _ in 0..expected {
            assert_eq!(peer.reply().as_message().content().len(), 1_000);
        }
        assert_eq!(number_of(&peer.reply()), expected);
    }
    drop(peer);
    server.stop();
}

fn does_a_smaller_pool_take_from_nobody_without_need(backend: Backend) {
    let small = Limits { max_content_len: 60_000, max_buffer_bytes: 70_000, ..Limits::default() };
    let server = Running::echo(backend, Limits { max_content_len: 60_000, ..Limits::default() });
    let message = binary(&vec![7; 60_000]);
    let mut old = [server.connect(), server.connect()];
    for (held, peer) in (1..).zip(&mut old) {
        peer.send(&message[..50_000]);
        server.wait_for("its beginning", |stats| stats.pool_bytes >= held * 50_000);
    }
    set(&server, &small);
    // What they hold stays theirs until somebody needs room: then the oldest gives way.
    assert!(server.catch_up().pool_bytes > 70_000);
    let mut new = server.connect();
    new.send(&message[..5_000]);
    let [first, second] = &mut old;
    assert_eq!(error_kind(&first.reply()), "BufferLimit");
    first.expect_end();
    second.send(&message[50_000..]);
    assert_eq!(second.reply().as_message().bytes(), message);
    new.send(&message[5_000..]);
    assert_eq!(new.reply().as_message().bytes(), message);
    let stats = server.catch_up();
    assert_eq!((stats.closed_for(Cause::BufferLimit), stats.gave_way), (1, 1));
    drop((old, new));
    server.stop();
}

fn are_limits_refused_that_cannot_work(backend: Backend) {
    let server = Running::echo(backend, content(1_000));
    let handle = server.handle();
    let refused = handle.set_limits(&Limits { accept_batch: 0, ..content(10) });
    assert!(matches!(refused, Err(Error::Config(ConfigError::Zero { name: "accept_batch" }))));
    let refused = handle.set_limits(&Limits { low_water: 9, high_water: 9, ..content(10) });
    assert!(matches!(refused, Err(Error::Config(ConfigError::WaterMarks { .. }))));
    server.catch_up();
    let message = binary(&[7; 1_000]);
    let mut peer = server.connect();
    assert_eq!(peer.ask(&message).as_message().bytes(), message, "nothing has changed");
    drop(peer);
    server.stop();
}

fn do_other_limits_reach_every_loop(backend: Backend) {
    let mut servers = myriapod::Server::builder()
        .backend(backend)
        .listen("127.0.0.1", 0)
        .threads(3)
        .build_each(|| echo)
        .unwrap();
    let (address, handle) = (servers.addresses()[0].to_string(), servers.handle());
    let running = std::thread::spawn(move || servers.run());
    let connect = || common::Peer::new(std::net::TcpStream::connect(&address).unwrap());
    let mut peers: Vec<_> = (0..9).map(|_| connect()).collect();
    for peer in &mut peers {
        assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    }
    // A share of it for each loop would hold no message.
    let tight = Limits { max_buffer_bytes: 2 << 20, ..Limits::default() };
    let refused = handle.set_limits(&tight);
    assert!(matches!(refused, Err(Error::Config(ConfigError::ShareTooSmall { .. }))));
    handle.set_limits(&idle(50)).unwrap();
    for peer in &mut peers {
        peer.expect_end();
    }
    drop(peers);
    handle.shutdown().unwrap();
    assert!(running.join().unwrap().unwrap());
}
