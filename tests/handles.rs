//! Does a loop do what a handle asks of it: connects, timers, counts, room for new connections?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, Peer, Running, binary, builder, echo, error_kind, number_of, numbered,
    on_every_backend,
};
use myriapod::{
    Backend, Cause, ConnectionId, Deferred, HandleError, Handler, HandlerResult, Limits, LogEvent,
    Message, Outgoing, Reply, SocketAddr, View, sys,
};

on_every_backend! {
    does_a_connect_lead_to_a_connection_like_any_other,
    is_a_refused_connect_told,
    is_a_connect_that_takes_too_long_given_up,
    is_a_connect_given_up_by_a_graceful_stop,
    is_a_connect_told_that_a_loop_was_asked_for_as_it_ended,
    is_a_panic_about_a_new_connection_that_connection_s_end,
    do_timers_fire_in_order_and_not_early,
    is_a_timer_not_early_that_is_asked_for_late_in_a_turn,
    do_the_counts_add_up_from_another_thread,
    do_thousands_of_items_wake_the_loop_few_times,
    does_a_full_mailbox_refuse_and_recover,
    are_the_bytes_in_a_mailbox_bounded,
    are_answers_taken_by_a_full_mailbox,
    is_what_a_loop_took_bounded,
    is_a_loop_that_is_gone_told,
    is_a_loop_that_has_finished_told,
    is_the_longest_idle_connection_shed_for_a_new_one,
    is_nobody_shed_who_is_owed_anything,
    do_peers_wait_until_somebody_is_idle,
    is_somebody_shed_where_there_is_no_idle_timeout,
}

/// What a handler was told.
#[derive(Debug, PartialEq)]
enum Told {
    Opened(ConnectionId),
    Connected(u64, ConnectionId),
    Failed(u64, Option<sys::Errno>),
    Timer(u64, Instant),
    Message(u32),
    Closed(Cause),
}

/// Tells the test everything, and echoes what was accepted.
struct Telling(Sender<Told>);

impl Handler for Telling {
    /// Whether it was a connect of ours.
    type State = bool;

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) -> bool {
        self.0.send(Told::Opened(view.id())).unwrap();
        false
    }

    fn on_connect(&mut self, tag: u64, view: &mut View<'_>, _: &SocketAddr) -> bool {
        self.0.send(Told::Connected(tag, view.id())).unwrap();
        assert_ne!(tag, 13, "an unlucky number");
        true
    }

    fn on_connect_error(&mut self, tag: u64, error: &sys::SystemError) {
        self.0.send(Told::Failed(tag, error.errno())).unwrap();
    }

    fn on_timer(&mut self, tag: u64) {
        self.0.send(Told::Timer(tag, Instant::now())).unwrap();
    }

    fn on_message(
        &mut self,
        ours: &mut bool,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let number = u32::from_be_bytes(message.content().try_into()?);
        self.0.send(Told::Message(number)).unwrap();
        if *ours { Ok(()) } else { echo(message, reply) }
    }

    fn on_close(&mut self, _: bool, _: &mut View<'_>, cause: Cause) {
        self.0.send(Told::Closed(cause)).unwrap();
    }
}

struct Asked {
    server: Running,
    told: Receiver<Told>,
}

impl Asked {
    fn start(backend: Backend, limits: Limits) -> Self {
        let (tell, told) = channel();
        let make = move || builder(backend).limits(limits).build(Telling(tell));
        Self { server: Running::start(make), told }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the handler is told something")
    }

    fn connect(&self) -> (Peer<TcpStream>, ConnectionId) {
        let peer = self.server.connect();
        let Told::Opened(id) = self.next() else { panic!("somebody else") };
        (peer, id)
    }
}

fn outgoing(number: u32) -> Outgoing {
    Outgoing::binary("test/bytes", number.to_be_bytes().to_vec())
}

fn does_a_connect_lead_to_a_connection_like_any_other(backend: Backend) {
    let there = Asked::start(backend, Limits::default());
    let here = Asked::start(backend, Limits::default());
    let handle = here.server.handle();
    let address = there.server.addresses()[0].clone();
    handle.connect(address, 7, PATIENCE).unwrap();
    let Told::Connected(7, id) = here.next() else { panic!("the connect of tag 7") };
    let Told::Opened(of_there) = there.next() else { panic!("a connection") };
    for number in 0..20 {
        handle.send(id, outgoing(number)).unwrap();
        assert_eq!(there.next(), Told::Message(number));
        assert_eq!(here.next(), Told::Message(number), "the echo comes back");
    }
    there.server.handle().send(of_there, outgoing(99)).unwrap();
    assert_eq!(here.next(), Told::Message(99));
    handle.close(id).unwrap();
    assert_eq!(there.next(), Told::Closed(Cause::Peer));
    assert_eq!(here.next(), Told::Closed(Cause::Handler));
    let stats = here.server.stop();
    assert_eq!((stats.connected, stats.accepted), (1, 0), "{stats}");
    there.server.stop();
}

/// An address of which it is known that nobody listens there.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().into()
}

fn is_a_refused_connect_told(backend: Backend) {
    let asked = Asked::start(backend, Limits::default());
    let handle = asked.server.handle();
    for tag in 0..3 {
        handle.connect(nobody(), tag, PATIENCE).unwrap();
        assert_eq!(asked.next(), Told::Failed(tag, Some(sys::Errno::ECONNREFUSED)));
    }
    let stats = asked.server.stop();
    assert_eq!((stats.connected, stats.closed.iter().sum::<u64>()), (0, 0), "{stats}");
}

/// A listener whose backlog is full, so that a further connect hangs.
fn full_listener() -> (sys::Listener, SocketAddr, Vec<TcpStream>) {
    let options = sys::ListenOptions { backlog: 1, ..sys::ListenOptions::default() };
    let any = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into();
    let listener = sys::Listener::bind(&any, &options).unwrap();
    let address = listener.local_address().unwrap();
    let at: std::net::SocketAddr = address.to_string().parse().unwrap();
    let wait = Duration::from_millis(100);
    let connects = (0..50).map_while(|_| TcpStream::connect_timeout(&at, wait).ok());
    let waiting: Vec<_> = connects.collect();
    assert!(waiting.len() < 50, "the backlog is never full");
    (listener, address, waiting)
}

fn is_a_connect_that_takes_too_long_given_up(backend: Backend) {
    let (_listener, address, _waiting) = full_listener();
    let asked = Asked::start(backend, Limits::default());
    asked.server.handle().connect(address, 5, Duration::from_millis(30)).unwrap();
    assert_eq!(asked.next(), Told::Failed(5, Some(sys::Errno::ETIMEDOUT)));
    let (mut peer, _) = asked.connect();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    drop(peer);
    asked.server.stop();
}

fn is_a_connect_told_that_a_loop_was_asked_for_as_it_ended(backend: Backend) {
    let (tell, told) = channel();
    let mut server = builder(backend).build(Telling(tell)).unwrap();
    server.handle().connect(nobody(), 3, PATIENCE).unwrap();
    // Nothing else is there to do, so that the mailbox is not looked at any more.
    server.event_loop().begin_drain();
    assert!(server.event_loop().run_once(None).unwrap().finished);
    assert_eq!(told.try_recv(), Ok(Told::Failed(3, Some(sys::Errno::ECONNABORTED))));
}

fn is_a_connect_given_up_by_a_graceful_stop(backend: Backend) {
    let (_listener, address, _waiting) = full_listener();
    let asked = Asked::start(backend, Limits::default());
    let handle = asked.server.handle();
    handle.connect(address.clone(), 1, PATIENCE).unwrap();
    handle.connect(address, 2, PATIENCE).unwrap();
    let (mut peer, _) = asked.connect();
    peer.send(&numbered(1)[..9]);
    asked.server.wait_for("the beginning", |stats| stats.bytes_in == 9);
    handle.shutdown().unwrap();
    let aborted = Some(sys::Errno::ECONNABORTED);
    assert_eq!(asked.next(), Told::Failed(1, aborted));
    assert_eq!(asked.next(), Told::Failed(2, aborted));
    // While it stops, none is begun.
    handle.connect(nobody(), 3, PATIENCE).unwrap();
    assert_eq!(asked.next(), Told::Failed(3, aborted));
    peer.send(&numbered(1)[9..]);
    assert_eq!(number_of(&peer.reply()), 1);
    drop(peer);
    asked.server.join();
}

fn is_a_panic_about_a_new_connection_that_connection_s_end(backend: Backend) {
    let there = Asked::start(backend, Limits::default());
    let here = Asked::start(backend, Limits::default());
    let address = there.server.addresses()[0].clone();
    here.server.handle().connect(address.clone(), 13, PATIENCE).unwrap();
    assert!(matches!(here.next(), Told::Connected(13, _)));
    assert!(matches!(there.next(), Told::Opened(_)));
    assert_eq!(there.next(), Told::Closed(Cause::Peer));
    here.server.handle().connect(address, 14, PATIENCE).unwrap();
    assert!(matches!(here.next(), Told::Connected(14, _)));
    there.server.stop();
    here.server.stop();
}

fn do_timers_fire_in_order_and_not_early(backend: Backend) {
    let asked = Asked::start(backend, Limits::default());
    let handle = asked.server.handle();
    let start = Instant::now();
    // Far enough apart to have an order, asked for in another one; one of them far ahead.
    handle.timer(PATIENCE * 1000, 0).unwrap();
    for tag in [3_u64, 1, 4, 2, 5] {
        handle.timer(Duration::from_millis(30 * tag), tag).unwrap();
    }
    for expected in 1..=5 {
        let Told::Timer(tag, at) = asked.next() else { panic!("a timer") };
        assert_eq!(tag, expected);
        assert!(at - start >= Duration::from_millis(30 * tag), "timer {tag} is early");
    }
    handle.timer(Duration::ZERO, 6).unwrap();
    assert!(matches!(asked.next(), Told::Timer(6, _)));
    // The one far ahead keeps nobody from stopping.
    asked.server.stop();
}

fn is_a_timer_not_early_that_is_asked_for_late_in_a_turn(backend: Backend) {
    const AFTER: Duration = Duration::from_millis(50);
    let (block, blocked) = channel::<()>();
    let server = Blocking::start(backend, Limits::default(), blocked);
    let mut peer = server.block();
    // The turn has begun; what it does takes longer than the timer.
    std::thread::sleep(2 * AFTER);
    let asked_at = Instant::now();
    server.running.handle().timer(AFTER, 1).unwrap();
    block.send(()).unwrap();
    peer.reply();
    let at = server.timers.recv_timeout(PATIENCE).unwrap();
    assert!(at - asked_at >= AFTER, "early by {:?}", AFTER - (at - asked_at));
    drop(peer);
    server.running.stop();
}

/// A server whose handler waits for the test where a message says `block`, and defers where it
/// says `defer`.
struct Blocking {
    running: Running,
    blocks: Receiver<()>,
    deferred: Receiver<Deferred>,
    timers: Receiver<Instant>,
}

struct BlockingHandler {
    tell: Sender<()>,
    blocked: Receiver<()>,
    defer: Sender<Deferred>,
    timer: Sender<Instant>,
}

impl Handler for BlockingHandler {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_timer(&mut self, _: u64) {
        self.timer.send(Instant::now()).unwrap();
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        if message.content() == b"defer" {
            self.defer.send(reply.defer()?)?;
            return Ok(());
        }
        if message.content() == b"block" {
            self.tell.send(())?;
            self.blocked.recv_timeout(PATIENCE)?;
        }
        echo(message, reply)
    }
}

impl Blocking {
    fn start(backend: Backend, limits: Limits, blocked: Receiver<()>) -> Self {
        let ((tell, blocks), (defer, deferred)) = (channel(), channel());
        let (timer, timers) = channel();
        let make = move || {
            let handler = BlockingHandler { tell, blocked, defer, timer };
            builder(backend).limits(limits).build(handler)
        };
        Self { running: Running::start(make), blocks, deferred, timers }
    }

    /// Has the loop wait until the test says otherwise.
    fn block(&self) -> Peer<TcpStream> {
        let mut peer = self.running.connect();
        peer.send(&binary(b"block"));
        self.blocks.recv_timeout(PATIENCE).unwrap();
        peer
    }

    fn defer(&self) -> (Peer<TcpStream>, Deferred) {
        let mut peer = self.running.connect();
        peer.send(&binary(b"defer"));
        (peer, self.deferred.recv_timeout(PATIENCE).unwrap())
    }

    /// Fills the mailbox of a loop that is blocked with what does nothing; returns how much it took.
    fn fill(&self, id: ConnectionId) -> u64 {
        let handle = self.running.handle();
        for count in 0..100_000 {
            match handle.leave(id, "nothing") {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, HandleError::Full);
                    return count;
                }
            }
        }
        panic!("it is never full");
    }
}

fn do_the_counts_add_up_from_another_thread(backend: Backend) {
    let there = Asked::start(backend, Limits::default());
    let here = Asked::start(backend, Limits::default());
    let address = there.server.addresses()[0].clone();
    let mut peers = Vec::new();
    for tag in 0..20 {
        peers.push(here.server.connect());
        here.server.handle().connect(address.clone(), 100 + tag, PATIENCE).unwrap();
        if tag % 3 == 0 {
            peers.pop();
        }
        let stats = here.server.handle().stats().unwrap().remove(0);
        let closed: u64 = stats.closed.iter().sum();
        assert_eq!(stats.accepted + stats.connected, stats.open + closed, "{stats}");
    }
    let stats = here.server.wait_for("all", |stats| stats.connected == 20 && stats.accepted == 20);
    assert!(stats.open >= 33, "{stats}");
    drop(peers);
    there.server.stop();
    let stats = here.server.stop();
    assert_eq!(stats.closed_for(Cause::Peer) + stats.closed_for(Cause::Drained), 40, "{stats}");
}

fn do_thousands_of_items_wake_the_loop_few_times(backend: Backend) {
    let (block, blocked) = channel();
    let server = Blocking::start(backend, Limits::default(), blocked);
    let mut peer = server.block();
    let before = server.running.stats().wakeups;
    for tag in 0..10_000 {
        server.running.handle().timer(Duration::ZERO, tag).unwrap();
    }
    block.send(()).unwrap();
    peer.reply();
    for _ in 0..10_000 {
        server.timers.recv_timeout(PATIENCE).unwrap();
    }
    let wakeups = server.running.stats().wakeups - before;
    assert!(wakeups < 100, "{wakeups} wake-ups");
    drop(peer);
    server.running.stop();
}

fn does_a_full_mailbox_refuse_and_recover(backend: Backend) {
    let (block, blocked) = channel();
    let server = Blocking::start(backend, Limits::default(), blocked);
    let (mut waiting, deferred) = server.defer();
    for _ in 0..2 {
        let mut peer = server.block();
        assert_eq!(server.fill(deferred.connection()), 65_536);
        assert_eq!(server.running.handle().stats(), Err(HandleError::Full));
        block.send(()).unwrap();
        peer.reply();
        assert_eq!(peer.ask(&binary(b"echo")).as_message().content(), b"echo");
    }
    deferred.json(&"done").unwrap();
    assert_eq!(waiting.reply().as_message().json().unwrap(), "done");
    drop(waiting);
    server.running.stop();
}

fn are_the_bytes_in_a_mailbox_bounded(backend: Backend) {
    let (block, blocked) = channel();
    let server = Blocking::start(backend, Limits::default(), blocked);
    let (waiting, deferred) = server.defer();
    let (handle, gone) = (server.running.handle(), deferred.connection());
    drop((waiting, deferred));
    server.running.wait_for("the one to be gone", |stats| stats.open == 0);
    let push = |len| handle.send(gone, Outgoing::binary("test/push", vec![7; len]));
    for _ in 0..2 {
        let mut peer = server.block();
        for _ in 0..64 {
            push(1 << 20).unwrap();
        }
        assert_eq!(push(1), Err(HandleError::Full));
        handle.leave(gone, "what has no bytes is taken").unwrap();
        block.send(()).unwrap();
        peer.reply();
    }
    let mut peer = server.block();
    push(65 << 20).expect("one message may be of any size");
    assert_eq!(push(1), Err(HandleError::Full));
    block.send(()).unwrap();
    peer.reply();
    drop(peer);
    server.running.wait_for("all of them missed", |stats| stats.missed == 2 * 65 + 1);
    server.running.stop();
}

fn are_answers_taken_by_a_full_mailbox(backend: Backend) {
    let (block, blocked) = channel();
    let server = Blocking::start(backend, Limits::default(), blocked);
    let ((mut one, first), (mut other, second)) = (server.defer(), server.defer());
    let mut peer = server.block();
    server.fill(first.connection());
    first.json(&"done").unwrap();
    drop(second);
    server.running.shutdown();
    block.send(()).unwrap();
    assert_eq!(one.reply().as_message().json().unwrap(), "done");
    assert_eq!(error_kind(&other.reply()), "Abandoned");
    peer.reply();
    drop((one, other, peer));
    server.running.join();
}

fn is_what_a_loop_took_bounded(backend: Backend) {
    let (block, blocked) = channel();
    let server = Blocking::start(backend, Limits::default(), blocked);
    let (_waiting, deferred) = server.defer();
    let id = deferred.connection();
    let mut peer = server.block();
    let mut taken = server.fill(id);
    for _ in 0..4 {
        // A turn or two, in which it takes some, and then it is blocked again.
        peer.send(&binary(b"block"));
        block.send(()).unwrap();
        server.blocks.recv_timeout(PATIENCE).unwrap();
        taken += server.fill(id);
    }
    // What it is at, and what waits.
    assert_eq!(taken, 2 * 65_536);
    block.send(()).unwrap();
    deferred.json(&"done").unwrap();
    drop(peer);
    server.running.stop();
}

fn is_a_loop_that_is_gone_told(backend: Backend) {
    let server = builder(backend).answer(echo).unwrap();
    let (handle, copy) = (server.handle(), server.handle().clone());
    handle.timer(Duration::ZERO, 1).unwrap();
    drop(server);
    assert_eq!(handle.timer(Duration::ZERO, 1), Err(HandleError::Gone));
    assert_eq!(handle.broadcast_all(outgoing(1)), Err(HandleError::Gone));
    assert_eq!(copy.stats(), Err(HandleError::Gone));
    assert_eq!(copy.shutdown(), Err(HandleError::Gone));
}

fn is_a_loop_that_has_finished_told(backend: Backend) {
    let mut server = builder(backend).answer(echo).unwrap();
    let handle = server.handle();
    handle.shutdown().unwrap();
    assert!(server.run().unwrap());
    assert_eq!(handle.timer(Duration::ZERO, 1), Err(HandleError::Gone));
    assert_eq!(handle.stats(), Err(HandleError::Gone));
    assert_eq!(handle.shutdown(), Ok(()), "which is what was asked for");
}

const IDLE: Duration = Duration::from_millis(30);

fn shedding() -> Limits {
    Limits { max_connections: Some(3), shed_idle: Some(IDLE), ..Limits::default() }
}

fn is_the_longest_idle_connection_shed_for_a_new_one(backend: Backend) {
    let server = Running::echo(backend, shedding());
    let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (number, at) in [(1, 1), (2, 0), (3, 2)] {
        // In ticks of their own.
        std::thread::sleep(Duration::from_millis(25));
        assert_eq!(number_of(&peers[at].ask(&numbered(number))), number);
    }
    for (expected, newest) in [(1, 10), (0, 11)] {
        let mut new = server.connect();
        assert_eq!(number_of(&new.ask(&numbered(newest))), newest);
        peers[expected].wait_for_end();
        peers.push(new);
    }
    let stats = server.wait_for("the last turn", |stats| stats.accepted == 5);
    assert_eq!((stats.closed_for(Cause::Shed), stats.open), (2, 3), "{stats}");
    drop(peers);
    server.stop();
}

fn is_nobody_shed_who_is_owed_anything(backend: Backend) {
    let (_block, blocked) = channel();
    let limits = Limits { header_timeout: Duration::ZERO, ..shedding() };
    let server = Blocking::start(backend, limits, blocked);
    // One waits for an answer, one is in the middle of a message, and one is idle.
    let (mut waiting, deferred) = server.defer();
    let mut slow = server.running.connect();
    slow.send(&numbered(1)[..9]);
    let mut idle = server.running.connect();
    idle.ask(&numbered(1));
    for _ in 0..3 {
        let mut new = server.running.connect();
        assert_eq!(number_of(&new.ask(&numbered(5))), 5);
        idle.wait_for_end();
        idle = new;
    }
    deferred.json(&"done").unwrap();
    assert_eq!(waiting.reply().as_message().json().unwrap(), "done");
    slow.send(&numbered(1)[9..]);
    assert_eq!(number_of(&slow.reply()), 1);
    drop((waiting, slow, idle));
    assert_eq!(server.running.stop().closed_for(Cause::Shed), 3);
}

fn do_peers_wait_until_somebody_is_idle(backend: Backend) {
    let limits = Limits { shed_idle: Some(Duration::from_millis(500)), ..shedding() };
    let (tell, full) = channel();
    let server = Running::start(move || {
        let log = move |event: &LogEvent<'_>| {
            if matches!(event, LogEvent::AtLimit { .. }) {
                let _ = tell.send(());
            }
        };
        builder(backend).limits(limits).log(log).answer(echo)
    });
    let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.ask(&numbered(1));
    }
    let mut new = server.connect();
    new.send(&numbered(2));
    full.recv_timeout(PATIENCE).unwrap();
    assert_eq!(server.stats().closed_for(Cause::Shed), 0, "nobody is idle for long enough");
    // Nobody closes, nobody connects: time alone lets it in.
    assert_eq!(number_of(&new.reply()), 2);
    drop((peers, new));
    assert_eq!(server.stop().closed_for(Cause::Shed), 1);
}

fn is_somebody_shed_where_there_is_no_idle_timeout(backend: Backend) {
    let server = Running::echo(backend, Limits { idle_timeout: Duration::ZERO, ..shedding() });
    let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.ask(&numbered(1));
    }
    let mut new = server.connect();
    assert_eq!(number_of(&new.ask(&numbered(2))), 2);
    drop((peers, new));
    assert_eq!(server.stop().closed_for(Cause::Shed), 1);
}
