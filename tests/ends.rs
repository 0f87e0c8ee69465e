//! Does every conversation end once, at the right time, wherever the server runs?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::{
    PATIENCE, Peer, Running, binary, builder, echo, number_of, numbered, on_every_backend,
};
use myriapod::{
    Backend, Cause, ConnectionId, Deferred, Handle, Handler, HandlerResult, Limits, LogEvent,
    Message, Outgoing, Reply, Server, Servers, SocketAddr, Stats, View,
};

on_every_backend! {
    can_a_server_be_built_here_and_run_on_another_thread,
    does_a_stop_wait_for_replies_that_wait_for_an_upstream,
    does_a_stop_wait_for_replies_of_several_upstreams,
    does_an_idle_upstream_not_hold_up_a_stop,
    does_a_stop_go_on_when_its_last_peer_leaves_in_it,
    does_the_drain_timeout_cut_off_upstreams_too,
    is_the_end_told_when_lingering_begins,
    is_each_end_told_once,
    is_the_end_told_when_the_server_is_dropped,
    is_a_connect_told_that_a_dropped_server_never_made,
}

/// This file does not compile where a server that does not run yet cannot go to another thread.
const _: () = {
    type Echo = fn(Message<'_>, &mut Reply<'_>) -> HandlerResult;
    const fn is_send<T: Send>() {}
    is_send::<Server<Echo>>();
    is_send::<Servers<Echo>>();
    is_send::<myriapod::ServerBuilder>();
    is_send::<Handle>();
};

fn can_a_server_be_built_here_and_run_on_another_thread(backend: Backend) {
    let log = |_: &LogEvent<'_>| {};
    let mut server = builder(backend).log(log).answer(echo).unwrap();
    let (address, handle) = (server.addresses()[0].to_string(), server.handle());
    let thread = std::thread::spawn(move || server.run());
    let mut peer = Peer::new(TcpStream::connect(address).unwrap());
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    handle.shutdown().unwrap();
    peer.expect_end();
    drop(peer);
    assert!(thread.join().unwrap().unwrap());
}

/// Asks an upstream what it is asked, and answers with what that says.
struct Forwarding {
    tell: Sender<ConnectionId>,
    handle: Option<Handle>,
    upstreams: Vec<ConnectionId>,
    waiting: VecDeque<Deferred>,
}

impl Handler for Forwarding {
    type State = ();

    fn on_start(&mut self, handle: &Handle) {
        self.handle = Some(handle.clone());
    }

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) {
        self.tell.send(view.id()).unwrap();
    }

    fn on_connect(&mut self, _: u64, view: &mut View<'_>, _: &SocketAddr) {
        assert!(view.is_outgoing());
        self.upstreams.push(view.id());
        self.tell.send(view.id()).unwrap();
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let content = message.content().to_vec();
        if reply.view().is_outgoing() {
            if let Some(deferred) = self.waiting.pop_front() {
                deferred.binary("test/bytes", content)?;
            }
            return Ok(());
        }
        self.waiting.push_back(reply.defer()?);
        let upstream = self.upstreams[self.waiting.len() % self.upstreams.len()];
        self.handle.as_ref().unwrap().send(upstream, Outgoing::binary("test/bytes", content))?;
        Ok(())
    }
}

struct Gate {
    server: Running,
    told: Receiver<ConnectionId>,
    drains: Receiver<()>,
}

impl Gate {
    fn start(backend: Backend, limits: Limits) -> Self {
        let ((tell, told), (begin, drains)) = (channel(), channel());
        let log = move |event: &LogEvent<'_>| {
            if matches!(event, LogEvent::Draining { .. }) {
                let _ = begin.send(());
            }
        };
        let make = move || {
            let (handle, upstreams, waiting) = (None, Vec::new(), VecDeque::new());
            let handler = Forwarding { tell, handle, upstreams, waiting };
            builder(backend).limits(limits).log(log).build(handler)
        };
        Self { server: Running::start(make), told, drains }
    }

    /// An upstream, which is the test itself.
    fn upstream(&self) -> Peer<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        self.server.handle().connect(address, 1, PATIENCE).unwrap();
        let peer = Peer::new(listener.accept().unwrap().0);
        self.told.recv_timeout(PATIENCE).unwrap();
        peer
    }

    fn connect(&self) -> Peer<TcpStream> {
        let peer = self.server.connect();
        self.told.recv_timeout(PATIENCE).unwrap();
        peer
    }

    /// Asks for a stop, and waits until it has begun.
    fn stop(&self) {
        self.server.shutdown();
        self.drains.recv_timeout(PATIENCE).unwrap();
        // What was idle at that moment has been looked at.
        self.server.catch_up();
    }
}

fn does_a_stop_wait_for_replies_that_wait_for_an_upstream(backend: Backend) {
    let gate = Gate::start(backend, Limits::default());
    let mut upstream = gate.upstream();
    let mut peer = gate.connect();
    let idle = gate.connect();
    peer.send(&numbered(1));
    assert_eq!(number_of(&upstream.reply()), 1, "it is asked");
    gate.stop();
    gate.server.wait_for("the end of the idle one", |stats| stats.closed_for(Cause::Drained) == 1);
    upstream.send(&numbered(7));
    assert_eq!(number_of(&peer.reply()), 7);
    peer.expect_end();
    upstream.expect_end();
    drop((peer, idle, upstream));
    let stats = gate.server.join();
    assert_eq!(stats.closed_for(Cause::Drained), 3, "{stats}");
    assert_eq!((stats.missed, stats.closed_for(Cause::CutOff)), (0, 0), "{stats}");
}

fn does_a_stop_wait_for_replies_of_several_upstreams(backend: Backend) {
    let gate = Gate::start(backend, Limits::default());
    let mut upstreams = [gate.upstream(), gate.upstream()];
    let mut peers = [gate.connect(), gate.connect(), gate.connect()];
    for peer in &mut peers {
        peer.send(&numbered(1));
    }
    // The second of them is asked first, and twice.
    for upstream in [1, 0, 1] {
        upstreams[upstream].reply();
    }
    gate.stop();
    // One that finishes is no reason to end the others.
    for (number, upstream) in [(1, 0), (2, 1), (3, 0)] {
        upstreams[upstream].send(&numbered(number));
        let at = number as usize - 1;
        // Which of them was first, the order of arrival says.
        let answered = vec![number_of(&peers[at].reply())];
        assert_eq!(answered, [number]);
        peers[at].expect_end();
    }
    for upstream in &mut upstreams {
        upstream.expect_end();
    }
    drop((peers, upstreams));
    let stats = gate.server.join();
    assert_eq!(stats.closed_for(Cause::Drained), 5, "{stats}");
}

fn does_an_idle_upstream_not_hold_up_a_stop(backend: Backend) {
    let limits = Limits { drain_timeout: Duration::ZERO, ..Limits::default() };
    let gate = Gate::start(backend, limits);
    let mut upstream = gate.upstream();
    gate.server.shutdown();
    upstream.expect_end();
    drop(upstream);
    let stats = gate.server.join();
    assert_eq!(stats.closed_for(Cause::Drained), 1, "{stats}");
}

/// Gives each reply away, to be sent by others.
struct Later {
    give: Sender<Deferred>,
}

impl Handler for Later {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(&mut self, (): &mut (), _: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        self.give.send(reply.defer()?).unwrap();
        Ok(())
    }
}

/// Nothing else makes another turn necessary: no timeout, and no other peer.
fn does_a_stop_go_on_when_its_last_peer_leaves_in_it(backend: Backend) {
    let limits = Limits {
        drain_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        linger_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let (give, given) = channel();
    let server = Running::start(move || builder(backend).limits(limits).build(Later { give }));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    server.handle().connect(listener.local_addr().unwrap().into(), 1, PATIENCE).unwrap();
    let mut upstream = Peer::new(listener.accept().unwrap().0);
    server.wait_for("the connection", |stats| stats.connected == 1);
    let mut peer = server.connect();
    peer.send(&numbered(1));
    peer.finish();
    let deferred = given.recv_timeout(PATIENCE).unwrap();
    server.shutdown();
    server.catch_up();
    deferred.binary("test/bytes", numbered(2)).unwrap();
    peer.reply();
    peer.expect_end();
    upstream.expect_end();
    drop((peer, upstream));
    let stats = server.join();
    assert_eq!(stats.closed_for(Cause::CutOff), 0, "{stats}");
}

fn does_the_drain_timeout_cut_off_upstreams_too(backend: Backend) {
    let limits = Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() };
    let gate = Gate::start(backend, limits);
    let mut upstream = gate.upstream();
    let mut peer = gate.connect();
    peer.send(&numbered(1));
    assert_eq!(number_of(&upstream.reply()), 1);
    gate.server.shutdown();
    peer.wait_for_end();
    upstream.wait_for_end();
    let stats = gate.server.join();
    assert_eq!(stats.closed_for(Cause::CutOff), 2, "{stats}");
}

/// Notes each end. Closes where the content of a message says so.
struct Diary {
    tell: Sender<Cause>,
    opened: Rc<RefCell<u32>>,
}

impl Handler for Diary {
    type State = Option<Deferred>;

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) -> Option<Deferred> {
        *self.opened.borrow_mut() += 1;
        None
    }

    fn on_message(
        &mut self,
        kept: &mut Option<Deferred>,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        match message.content() {
            b"close" => reply.close(),
            b"large" => reply.binary("test/large", &vec![0; 8 << 20])?,
            b"large and close" => {
                reply.binary("test/large", &vec![0; 8 << 20])?;
                reply.close();
            }
            b"defer" => *kept = Some(reply.defer()?),
            _ => echo(message, reply)?,
        }
        Ok(())
    }

    fn on_close(&mut self, _: Option<Deferred>, _: &mut View<'_>, cause: Cause) {
        self.tell.send(cause).unwrap();
    }
}

/// A lingering connection stays for an hour, or until its peer leaves.
fn lasting() -> Limits {
    Limits { linger_timeout: Duration::from_secs(3600), ..Limits::default() }
}

fn is_the_end_told_when_lingering_begins(backend: Backend) {
    let (tell, told) = channel();
    let server = Running::start(move || {
        builder(backend).limits(lasting()).build(Diary { tell, opened: Rc::default() })
    });
    let mut peer = server.connect();
    peer.send(&binary(b"close"));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Cause::Handler));
    let stats = server.wait_for("lingering", |stats| stats.lingering == 1);
    assert_eq!((stats.open, stats.closed_for(Cause::Handler)), (0, 1), "{stats}");
    // What still comes is read and dropped, and nobody hears of it.
    peer.send(&numbered(1));
    let dropped = numbered(1).len() as u64;
    server.wait_for("the rest", |stats| stats.discarded_in == dropped);
    peer.expect_end();
    drop(peer);
    server.wait_for("the peer's end", |stats| stats.lingering == 0);
    let stats = server.stop();
    assert_eq!(stats.messages, 1, "{stats}");
    assert!(told.try_recv().is_err(), "told twice");
}

fn is_each_end_told_once(backend: Backend) {
    let (tell, told) = channel();
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Running::start(move || {
        builder(backend).limits(limits).build(Diary { tell, opened: Rc::default() })
    });
    let next = || told.recv_timeout(PATIENCE).unwrap();
    // By the peer, with and without a reset; by a fault; by the handler; by a deadline.
    let peer = server.connect();
    peer.finish();
    assert_eq!(next(), Cause::Peer);
    let mut peer = server.connect();
    peer.send(b"\xff\xff");
    assert_eq!(next(), Cause::Fault);
    let mut peer = server.connect();
    peer.send(&binary(b"close"));
    assert_eq!(next(), Cause::Handler);
    let mut peer = server.connect();
    peer.send(&numbered(1)[..9]);
    assert_eq!(next(), Cause::HeaderTimeout);
    // Closing takes a while: the cause is the first.
    let mut peer = server.connect();
    peer.send(&binary(b"large and close"));
    server.wait_for("a queue", |stats| stats.short_writes == 1);
    assert!(told.try_recv().is_err(), "it is not over");
    assert_eq!(peer.reply().as_message().content().len(), 8 << 20);
    assert_eq!(next(), Cause::Handler);
    // By the stop.
    let idle = server.connect();
    server.wait_for("the last", |stats| stats.accepted == 6);
    server.shutdown();
    assert_eq!(next(), Cause::Drained);
    drop((peer, idle));
    let stats = server.join();
    assert_eq!(stats.closed.iter().sum::<u64>(), 6, "{stats}");
    assert!(told.try_recv().is_err(), "one was told twice");
}

fn run_until<H: Handler>(server: &mut Server<H>, condition: impl Fn(&Stats) -> bool) {
    while !condition(&server.stats()) {
        server.event_loop().run_once(Some(PATIENCE)).unwrap();
    }
}

fn is_the_end_told_when_the_server_is_dropped(backend: Backend) {
    let ((tell, told), opened) = (channel(), Rc::default());
    let diary = Diary { tell, opened: Rc::clone(&opened) };
    let mut server = builder(backend).limits(lasting()).build(diary).unwrap();
    let address = server.addresses()[0].to_string();
    let mut peers: Vec<_> =
        (0..6).map(|_| Peer::new(TcpStream::connect(&address).unwrap())).collect();
    // One idles, and the others: half a message, an answer that is due, a queue, the same before a
    // close, and one that lingers.
    peers[1].send(&numbered(1)[..30]);
    peers[2].send(&binary(b"defer"));
    peers[3].send(&binary(b"large"));
    peers[4].send(&binary(b"large and close"));
    peers[5].send(&binary(b"close"));
    run_until(&mut server, |stats| {
        let is_under_way = stats.short_writes == 2 && stats.messages == 4 && stats.accepted == 6;
        is_under_way && stats.lingering == 1 && stats.pool_buffers == 3
    });
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Cause::Handler]);
    drop(server);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Cause::Dropped; 5]);
    assert_eq!(*opened.borrow(), 6);
    for peer in &mut peers {
        peer.wait_for_end();
    }
    // A server that never ran has nothing to tell.
    let (tell, told) = channel();
    drop(builder(backend).build(Diary { tell, opened: Rc::default() }).unwrap());
    assert!(told.try_recv().is_err());
}

/// The whole of what a peer that only reads gets is the same as ever.
#[test]
fn does_a_peer_that_waits_for_the_end_get_it_at_once() {
    for backend in Backend::available() {
        let server = Running::echo(*backend, lasting());
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"\xff\xff").unwrap();
        let mut reply = Vec::new();
        // The end comes though the server reads on for an hour.
        stream.read_to_end(&mut reply).unwrap();
        assert!(!reply.is_empty());
        drop(stream);
        server.stop();
    }
}

/// Tells the tags of connects that came to nothing.
struct Failing(Sender<u64>);

impl Handler for Failing {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        echo(message, reply)
    }

    fn on_connect_error(&mut self, tag: u64, _: &myriapod::sys::SystemError) {
        self.0.send(tag).unwrap();
    }
}

fn is_a_connect_told_that_a_dropped_server_never_made(backend: Backend) {
    let (tell, told) = channel();
    let server = builder(backend).build(Failing(tell)).unwrap();
    let address = server.addresses()[0].clone();
    server.handle().connect(address, 7, PATIENCE).unwrap();
    drop(server);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [7]);
}
