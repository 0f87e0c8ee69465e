//! Does the event loop live inside another program's, and cost nothing while nothing happens?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{
    PATIENCE, Peer, Running, assert_settled, builder, echo, number_of, numbered, on_every_backend,
};
use myriapod::sys::{AsFd, Events, Interest, Mode, Poller, SystemError, Token};
use myriapod::{
    Backend, Cause, ConnectionId, Handler, HandlerResult, Limits, Message, Reply, Server,
    SocketAddr, View,
};

on_every_backend! {
    does_a_turn_with_a_zero_timeout_return_at_once,
    does_a_turn_after_a_pause_keep_its_deadlines,
    is_the_descriptor_readable_when_there_is_something_to_do,
    does_a_descriptor_of_its_own_tell_what_the_loops_own_does,
    is_the_loop_told_that_messages_wait_in_its_buffers,
    does_an_outer_loop_serve_by_descriptor_and_timeout_alone,
    does_an_idle_server_sleep,
    does_a_server_with_idle_connections_sleep,
    do_half_open_peers_not_wake_the_server,
    does_a_peer_that_closes_while_paused_not_spin,
    does_a_half_closed_peer_while_paused_not_spin,
    does_a_lingering_peer_not_spin,
    does_a_peer_that_takes_no_replies_not_spin,
    are_connections_closed_in_one_batch_each_closed_once,
    does_a_connection_in_a_reused_place_get_only_its_events,
    does_the_handler_see_every_connection_open_and_close_once,
    is_the_handler_reachable_between_turns,
}

fn connect<H: Handler>(server: &Server<H>) -> Peer<TcpStream> {
    Peer::new(TcpStream::connect(server.addresses()[0].to_string()).unwrap())
}

fn run_until<H: Handler>(server: &mut Server<H>, condition: impl Fn(&myriapod::Stats) -> bool) {
    while !condition(&server.stats()) {
        server.event_loop().run_once(Some(PATIENCE)).unwrap();
    }
}

/// Runs turns without waiting until none of a few in a row has an event.
fn settle<H: Handler>(server: &mut Server<H>) {
    let mut quiet = 0;
    while quiet < 3 {
        let turn = server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
        quiet = if turn.events == 0 { quiet + 1 } else { 0 };
    }
}

/// That nothing makes the loop turn: no event, and nothing due but what may be far ahead.
fn assert_asleep<H: Handler>(server: &mut Server<H>) {
    for _ in 0..20 {
        let turn = server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(turn.events, 0);
        let due = server.event_loop().timeout();
        assert!(due.is_none_or(|due| !due.is_zero()), "{due:?}");
    }
}

fn does_a_turn_after_a_pause_keep_its_deadlines(backend: Backend) {
    let idle_timeout = Duration::from_secs(2);
    let limits = Limits { idle_timeout, ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let _peer = connect(&server);
    run_until(&mut server, |stats| stats.accepted == 1);
    settle(&mut server);
    // The other loop waits, and comes back when this one is due.
    while let Some(due) = server.event_loop().timeout().filter(|due| !due.is_zero()) {
        std::thread::sleep(due);
    }
    let begun = Instant::now();
    while server.stats().closed_for(Cause::Idle) == 0 {
        server.event_loop().run_once(None).unwrap();
    }
    // It waited for as long as the pause had been: two seconds.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

fn does_a_turn_with_a_zero_timeout_return_at_once(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    // Were one of these to wait, nothing would ever end it.
    for _ in 0..3 {
        let turn = server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!((turn.events, turn.finished), (0, false));
    }
    let mut peer = connect(&server);
    settle(&mut server);
    peer.send(&numbered(1));
    settle(&mut server);
    assert_eq!(number_of(&peer.reply()), 1);
}

/// Waits on another poller until the loop's descriptor is readable.
struct Outer(Poller);

impl Outer {
    fn over<H: Handler>(server: &mut Server<H>) -> Option<Self> {
        let mut poller = Poller::new(Backend::native()).unwrap();
        let descriptor = server.event_loop().as_fd()?;
        poller.add(descriptor, Token(1), Interest::READABLE, Mode::LEVEL).unwrap();
        Some(Self(poller))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.0.wait(&mut Events::with_capacity(1), timeout).unwrap() == 1
    }
}

fn is_the_descriptor_readable_when_there_is_something_to_do(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let Some(mut outer) = Outer::over(&mut server) else {
        assert!(matches!(backend, Backend::Poll | Backend::Select), "{backend} has none");
        return;
    };
    assert!(!outer.wait(Some(Duration::ZERO)), "nothing is to be done");
    let mut peer = connect(&server);
    assert!(outer.wait(Some(PATIENCE)), "somebody wants to be accepted");
    settle(&mut server);
    assert!(!outer.wait(Some(Duration::ZERO)));
    peer.send(&numbered(1));
    assert!(outer.wait(Some(PATIENCE)), "a message has come");
    settle(&mut server);
    assert!(!outer.wait(Some(Duration::ZERO)));
    assert_eq!(number_of(&peer.reply()), 1);
    server.handle().shutdown().unwrap();
    assert!(outer.wait(Some(PATIENCE)), "a stop was asked for");
}

fn does_a_descriptor_of_its_own_tell_what_the_loops_own_does(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let watched = match server.event_loop().descriptor() {
        Ok(watched) => watched,
        Err(error) => {
            assert!(matches!(error, SystemError::Unsupported { .. }), "{error}");
            return assert!(server.event_loop().as_fd().is_none());
        }
    };
    let mut poller = Poller::new(Backend::native()).unwrap();
    poller.add(watched.as_fd(), Token(1), Interest::READABLE, Mode::LEVEL).unwrap();
    let mut outer = Outer(poller);
    assert!(!outer.wait(Some(Duration::ZERO)), "nothing is to be done");
    let mut peer = connect(&server);
    assert!(outer.wait(Some(PATIENCE)), "somebody wants to be accepted");
    settle(&mut server);
    assert!(!outer.wait(Some(Duration::ZERO)));
    peer.send(&numbered(1));
    assert!(outer.wait(Some(PATIENCE)), "a message has come");
    // Whatever becomes of the server, what is left of it is silent.
    drop(server);
    assert!(!outer.wait(Some(Duration::ZERO)));
}

fn is_the_loop_told_that_messages_wait_in_its_buffers(backend: Backend) {
    let limits = Limits { messages_per_event: 10, ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let mut peer = connect(&server);
    run_until(&mut server, |stats| stats.accepted == 1);
    peer.send(&(0..25).flat_map(numbered).collect::<Vec<u8>>());
    for answered in [10, 20] {
        run_until(&mut server, |stats| stats.messages >= answered);
        assert_eq!(server.stats().messages, answered);
        // The kernel has nothing left to tell.
        assert_eq!(server.event_loop().timeout(), Some(Duration::ZERO));
    }
    run_until(&mut server, |stats| stats.messages == 25);
    assert_ne!(server.event_loop().timeout(), Some(Duration::ZERO));
    for number in 0..25 {
        assert_eq!(number_of(&peer.reply()), number);
    }
}

fn does_an_outer_loop_serve_by_descriptor_and_timeout_alone(backend: Backend) {
    // A peer with pipelined messages, one that times out, one that stops the server.
    let limits = Limits {
        messages_per_event: 3,
        header_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let address = server.addresses()[0].to_string();
    let handle = server.handle();
    let peers = std::thread::spawn(move || {
        let connect = || Peer::new(TcpStream::connect(&address).unwrap());
        let (mut busy, mut late) = (connect(), connect());
        late.send(&numbered(1)[..20]);
        busy.send(&(0..100).flat_map(numbered).collect::<Vec<u8>>());
        for number in 0..100 {
            assert_eq!(number_of(&busy.reply()), number);
        }
        late.wait_for_end();
        busy.send(&numbered(1)[..40]);
        handle.shutdown().unwrap();
        busy.send(&numbered(1)[40..]);
        assert_eq!(number_of(&busy.reply()), 1);
        busy.expect_end();
    });
    let mut outer = Outer::over(&mut server);
    loop {
        let timeout = server.event_loop().timeout();
        let wait = match &mut outer {
            Some(outer) => {
                outer.wait(Some(timeout.unwrap_or(PATIENCE)));
                Some(Duration::ZERO)
            }
            // Without a descriptor the loop has to wait itself.
            None => timeout,
        };
        if server.event_loop().run_once(wait).unwrap().finished {
            break;
        }
    }
    peers.join().unwrap();
    assert_settled(&server.stats());
}

fn does_an_idle_server_sleep(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    settle(&mut server);
    assert_eq!(server.event_loop().timeout(), None, "nothing will ever be due");
    assert_asleep(&mut server);
}

fn does_a_server_with_idle_connections_sleep(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let mut peers: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        peer.send(&numbered(number));
    }
    run_until(&mut server, |stats| stats.replies == 20);
    settle(&mut server);
    assert_asleep(&mut server);
    // The idle timeout is five minutes; the wheel may ask for a few turns before.
    let due = server.event_loop().timeout().unwrap();
    assert!(due > Duration::from_secs(10), "{due:?}");
}

fn do_half_open_peers_not_wake_the_server(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let mut peer = connect(&server);
    peer.send(&numbered(1)[..30]);
    run_until(&mut server, |stats| stats.bytes_in == 30);
    settle(&mut server);
    assert_asleep(&mut server);
}

/// A server whose replies no socket holds, with a peer that has asked thrice and read nothing.
fn paused(backend: Backend) -> (Server<impl Handler>, Peer<TcpStream>) {
    let mut server = builder(backend)
        .answer(|_, reply: &mut Reply<'_>| Ok(reply.binary("test/large", &vec![1; 8 << 20])?))
        .unwrap();
    let mut peer = connect(&server);
    peer.send(&[numbered(1), numbered(2), numbered(3)].concat());
    run_until(&mut server, |stats| stats.paused_reads == 1);
    settle(&mut server);
    (server, peer)
}

fn does_a_peer_that_closes_while_paused_not_spin(backend: Backend) {
    let (mut server, peer) = paused(backend);
    assert_asleep(&mut server);
    drop(peer);
    run_until(&mut server, |stats| stats.open == 0);
    settle(&mut server);
    assert_asleep(&mut server);
    assert_settled(&server.stats());
}

fn does_a_half_closed_peer_while_paused_not_spin(backend: Backend) {
    let (mut server, mut peer) = paused(backend);
    peer.send(&numbered(4));
    peer.finish();
    settle(&mut server);
    assert_asleep(&mut server);
    let reader = std::thread::spawn(move || {
        for _ in 0..4 {
            assert_eq!(peer.reply().as_message().content().len(), 8 << 20);
        }
        peer.expect_end();
    });
    run_until(&mut server, |stats| stats.open == 0);
    reader.join().unwrap();
    assert_eq!(server.stats().discarded_out, 0);
}

fn does_a_lingering_peer_not_spin(backend: Backend) {
    let limits = Limits { linger_timeout: Duration::from_secs(3600), ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let mut peer = connect(&server);
    peer.send(b"\xff\xff");
    run_until(&mut server, |stats| stats.replies == 1);
    peer.send(b"more");
    run_until(&mut server, |stats| stats.bytes_in == 6);
    settle(&mut server);
    assert_asleep(&mut server);
    drop(peer);
    run_until(&mut server, |stats| stats.open == 0);
}

fn does_a_peer_that_takes_no_replies_not_spin(backend: Backend) {
    use std::io::Write;
    let name = format!("myriapod-deaf-{}-{backend}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let host = format!("unix:{}", path.display());
    let mut server = Server::builder().backend(backend).listen(&host, 0).answer(echo).unwrap();
    // Sending to it fails, while it can go on sending.
    let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
    peer.shutdown(std::net::Shutdown::Read).unwrap();
    for number in 1..=3 {
        peer.write_all(&numbered(0)).unwrap();
        run_until(&mut server, |stats| stats.messages == number);
        settle(&mut server);
        assert_asleep(&mut server);
    }
    assert_eq!((server.stats().open, server.stats().bytes_out), (1, 0));
    drop(peer);
    run_until(&mut server, |stats| stats.open == 0);
}

fn are_connections_closed_in_one_batch_each_closed_once(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    for round in 1..=3 {
        let peers: Vec<_> = (0..30).map(|_| connect(&server)).collect();
        run_until(&mut server, |stats| stats.open == 30);
        drop(peers);
        // All their events come in one wait.
        run_until(&mut server, |stats| stats.open == 0);
        let stats = server.stats();
        assert_settled(&stats);
        assert_eq!(stats.accepted, 30 * round);
        assert_eq!(stats.stale_events, 0, "an event for each, and none twice");
    }
}

fn does_a_connection_in_a_reused_place_get_only_its_events(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let mut old = connect(&server);
    run_until(&mut server, |stats| stats.open == 1);
    for number in 0..50 {
        // One leaves with bytes on their way, and the next takes its place and descriptor.
        old.send(&numbered(1000 + number)[..40]);
        drop(old);
        let mut new = connect(&server);
        run_until(&mut server, |stats| stats.accepted == u64::from(number) + 2);
        run_until(&mut server, |stats| stats.open == 1);
        new.send(&numbered(number));
        run_until(&mut server, |stats| stats.replies == u64::from(number) + 1);
        assert_eq!(number_of(&new.reply()), number);
        old = new;
    }
    assert_eq!(server.stats().messages, 50);
}

/// Notes what it is called for.
#[derive(Default)]
struct Diary {
    opened: Vec<ConnectionId>,
    closed: Rc<RefCell<Vec<(ConnectionId, Cause)>>>,
}

impl Handler for Diary {
    type State = ConnectionId;

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) -> ConnectionId {
        assert!(peer.is_loopback());
        self.opened.push(view.id());
        view.id()
    }

    fn on_message(
        &mut self,
        state: &mut ConnectionId,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        assert_eq!(*state, reply.connection());
        echo(message, reply)
    }

    fn on_close(&mut self, state: ConnectionId, _: &mut View<'_>, cause: Cause) {
        self.closed.borrow_mut().push((state, cause));
    }
}

fn does_the_handler_see_every_connection_open_and_close_once(backend: Backend) {
    let closed = Rc::default();
    let diary = Diary { opened: Vec::new(), closed: Rc::clone(&closed) };
    let mut server = builder(backend).build(diary).unwrap();
    let mut peers: Vec<_> = (0..10).map(|_| connect(&server)).collect();
    for peer in &mut peers {
        peer.send(&numbered(1));
    }
    peers[3].send(b"\xff\xff");
    run_until(&mut server, |stats| stats.replies == 11);
    drop(peers.remove(0));
    run_until(&mut server, |stats| stats.open <= 9);
    server.handle().shutdown().unwrap();
    drop(peers);
    server.run().unwrap();
    let opened = std::mem::take(&mut server.event_loop().handler_mut().opened);
    assert_eq!(opened.len(), 10);
    for id in &opened {
        assert_eq!(closed.borrow().iter().filter(|(closed, _)| closed == id).count(), 1);
    }
    assert_eq!(closed.borrow().len(), 10);
    let stats = server.stats();
    for cause in Cause::ALL {
        let count = closed.borrow().iter().filter(|(_, why)| *why == cause).count();
        assert_eq!(stats.closed_for(cause), count as u64, "{cause}");
    }
}

fn is_the_handler_reachable_between_turns(backend: Backend) {
    let mut server = builder(backend).build(Diary::default()).unwrap();
    let peer = connect(&server);
    run_until(&mut server, |stats| stats.open == 1);
    assert_eq!(server.event_loop().handler_mut().opened.len(), 1);
    drop(peer);
}

/// The same from outside: the count of turns stands still while nothing happens.
#[test]
fn does_a_running_server_make_no_turns_while_idle() {
    for backend in Backend::available() {
        let server = Running::echo(*backend, Limits::default());
        let mut peers: Vec<_> = (0..5).map(|_| server.connect()).collect();
        for peer in &mut peers {
            assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
        }
        let before = server.wait_for("five replies", |stats| stats.replies == 5).wakeups;
        std::thread::sleep(Duration::from_millis(300));
        // A spinning loop makes thousands; the wheel may ask for one or two.
        let turns = server.stats().wakeups - before;
        assert!(turns <= 2, "{backend}: {turns} turns");
        drop(peers);
        server.stop();
    }
}

/// An idle connection costs 56 bytes at most; this file does not compile where it is more.
const _: () = {
    type Echo = fn(Message<'_>, &mut Reply<'_>) -> HandlerResult;
    assert!(myriapod::EventLoop::<Echo>::BYTES_PER_CONNECTION <= 56);
};
