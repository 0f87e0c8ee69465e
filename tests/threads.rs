//! Do several event loops serve as one?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use common::{Peer, builder, echo, json, number_of, numbered};
use myriapod::sys::Listener;
use myriapod::{
    Backend, Cause, ConnectionId, Error, Handle, Handler, HandlerResult, Limits, LogEvent, Message,
    Outgoing, Reply, Server, ServerBuilder, Servers, ServersStats, SocketAddr, View,
};

/// A server with several loops.
struct Running {
    addresses: Vec<SocketAddr>,
    handle: Handle,
    thread: Option<JoinHandle<(Result<bool, Error>, ServersStats)>>,
}

impl Running {
    fn start<H: Handler + 'static>(
        make: impl FnOnce() -> Result<Servers<H>, Error> + Send + 'static,
    ) -> Self {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut servers = make().expect("the server can be built");
            tell.send((servers.addresses().to_vec(), servers.handle())).unwrap();
            let graceful = servers.run();
            (graceful, servers.stats())
        });
        let (addresses, handle) = told.recv().expect("the server starts");
        Self { addresses, handle, thread: Some(thread) }
    }

    fn echo(builder: impl FnOnce() -> ServerBuilder + Send + 'static) -> Self {
        Self::start(move || builder().build_each(|| echo))
    }

    fn connect(&self) -> Peer<TcpStream> {
        let address: std::net::SocketAddr = self.addresses[0].to_string().parse().unwrap();
        Peer::new(TcpStream::connect(address).unwrap())
    }

    fn join(mut self) -> (Result<bool, Error>, ServersStats) {
        self.thread.take().unwrap().join().expect("the server does not panic")
    }

    /// Stops it, and checks that nothing is left.
    fn stop(self) -> ServersStats {
        self.handle.shutdown().unwrap();
        let (graceful, stats) = self.join();
        assert!(graceful.unwrap(), "{stats}");
        let sum = stats.sum();
        assert_eq!((sum.open, sum.pool_bytes), (0, 0), "{stats}");
        assert_eq!(sum.accepted, sum.closed.iter().sum::<u64>(), "{stats}");
        stats
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed must not hang.
        let _ = self.handle.shutdown();
    }
}

fn four(backend: Backend) -> ServerBuilder {
    builder(backend).threads(4)
}

fn do_all_loops_serve(backend: Backend) {
    let running = Running::echo(move || four(backend));
    // So many that a loop without any is out of the question: 4 * 0.75^256.
    let mut peers: Vec<_> = (0..256).map(|_| running.connect()).collect();
    for (peer, number) in peers.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    let loops = running.handle.stats().unwrap();
    assert_eq!(loops.len(), 4);
    assert!(loops.iter().all(|stats| stats.open > 0 && stats.messages == stats.open));
    assert_eq!(loops.iter().map(|stats| stats.open).sum::<u64>(), 256);
    drop(peers);
    let stats = running.stop();
    assert_eq!((stats.sum().messages, stats.loops().len()), (256, 4));
    assert!(stats.imbalance() > 1.0 || stats.loops().iter().all(|of| of.messages == 64));
    assert!(stats.to_string().contains(" loops=4 imbalance="), "{stats}");
}

/// Says which connection it is.
struct Who;

impl Handler for Who {
    type State = ConnectionId;

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) -> ConnectionId {
        view.id()
    }

    fn on_message(
        &mut self,
        state: &mut ConnectionId,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        assert_eq!(*state, reply.connection());
        if message.content() == b"\"later\"" {
            let deferred = reply.defer()?;
            let name = deferred.connection().to_string();
            std::thread::spawn(move || deferred.json(&name));
            return Ok(());
        }
        Ok(reply.json(&state.to_string())?)
    }
}

fn is_every_connection_reached_by_its_name(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let running = Running::start(move || {
        four(backend).build_each(move || {
            let tell = tell.clone();
            move |_: Message<'_>, reply: &mut Reply<'_>| {
                tell.send(reply.connection()).unwrap();
                Ok(reply.json("yes")?)
            }
        })
    });
    let mut peers: Vec<_> = (0..40).map(|_| running.connect()).collect();
    for (peer, number) in peers.iter_mut().zip(0..) {
        peer.ask(&json(&"who".into()));
        let id = told.recv().unwrap();
        let bytes = u32::to_be_bytes(number).to_vec();
        running.handle.send(id, Outgoing::binary("test/bytes", bytes)).unwrap();
    }
    for (peer, number) in peers.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.reply()), number);
    }
    running.handle.broadcast_all(Outgoing::binary("test/bytes", vec![0, 0, 0, 9])).unwrap();
    for peer in &mut peers {
        assert_eq!(number_of(&peer.reply()), 9);
    }
    drop(peers);
    running.stop();
}

fn has_every_connection_a_name_of_its_own_and_its_answers(backend: Backend) {
    let running = Running::start(move || four(backend).build_each(|| Who));
    let mut names = std::collections::BTreeSet::new();
    let mut peers: Vec<_> = (0..40).map(|_| running.connect()).collect();
    for peer in &mut peers {
        let name = peer.ask(&json(&"now".into())).as_message().json().unwrap();
        assert_eq!(peer.ask(&json(&"later".into())).as_message().json().unwrap(), name);
        assert!(names.insert(name.to_string()), "{name} twice");
    }
    drop(peers);
    running.stop();
}

fn does_a_listener_from_elsewhere_spread_over_all_loops(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::echo(move || {
        let listener = Listener::adopt(OwnedFd::from(listener)).unwrap();
        Server::builder().backend(backend).threads(3).listener(listener)
    });
    let mut peers: Vec<_> = (0..30).map(|_| running.connect()).collect();
    for (peer, number) in peers.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    let open: Vec<u64> = running.handle.stats().unwrap().iter().map(|stats| stats.open).collect();
    assert_eq!(open, [10, 10, 10]);
    drop(peers);
    let stats = running.stop();
    assert_eq!(stats.sum().handed_over, 20);
    assert!((stats.imbalance() - 1.0).abs() < 1e-9, "{stats}");
}

#[test]
fn does_a_unix_socket_spread_over_all_loops_and_go_at_the_end() {
    let path = std::env::temp_dir().join(format!("myriapod-threads-{}", std::process::id()));
    let host = format!("unix:{}", path.display());
    let running = Running::echo(move || Server::builder().threads(2).listen(&host, 0));
    let mut peers: Vec<_> =
        (0..10).map(|_| Peer::over(UnixStream::connect(&path).unwrap())).collect();
    for (peer, number) in peers.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    drop(peers);
    let stats = running.stop();
    assert_eq!(stats.loops().iter().map(|of| of.accepted).collect::<Vec<_>>(), [5, 5]);
    assert!(!path.exists());
}

fn may_all_loops_together_have_max_connections_and_no_more(backend: Backend) {
    let limits = Limits { max_connections: Some(5), ..Limits::default() };
    let running = Running::echo(move || four(backend).limits(limits));
    // The kernel sends them anywhere, and a full loop hands them over to the next.
    let mut served: Vec<_> = (0..5).map(|_| running.connect()).collect();
    for (peer, number) in served.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    let mut waiting = running.connect();
    waiting.send(&numbered(77));
    let open = || running.handle.stats().unwrap().iter().map(|stats| stats.open).sum::<u64>();
    assert_eq!(open(), 5);
    for _ in 0..20 {
        // Whichever loop has it in its backlog is told of the place that this leaves.
        drop(served.remove(0));
        assert_eq!(number_of(&waiting.reply()), 77);
        served.push(std::mem::replace(&mut waiting, running.connect()));
        waiting.send(&numbered(77));
    }
    assert_eq!(open(), 5);
    served.clear();
    assert_eq!(number_of(&waiting.reply()), 77);
    drop(waiting);
    running.stop();
}

/// The third of its kind cannot start.
struct Starting(Arc<AtomicUsize>);

impl Handler for Starting {
    type State = ();

    fn on_start(&mut self, _: &Handle) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < 2, "no third start");
    }

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        echo(message, reply)
    }
}

fn does_a_loop_that_cannot_go_on_stop_the_others(backend: Backend) {
    let started = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::spawn(move || {
        let make = move || Starting(Arc::clone(&started));
        four(backend).build_each(make).unwrap().run()
    });
    let panic = thread.join().unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"no third start"));
}

fn does_a_panic_of_the_log_not_stop_a_loop(backend: Backend) {
    let running = Running::start(move || {
        let log = |event: &LogEvent<'_>| {
            assert!(!matches!(event, LogEvent::Message { .. }), "the log is full");
        };
        four(backend).log_each(log).build_each(|| echo)
    });
    let mut peer = running.connect();
    for number in 0..3 {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    let panics: u64 = running.handle.stats().unwrap().iter().map(|stats| stats.panics).sum();
    assert_eq!(panics, 3);
    drop(peer);
    running.stop();
}

fn does_a_handler_factory_that_panics_stop_all(backend: Backend) {
    let made = AtomicUsize::new(0);
    let thread = std::thread::spawn(move || {
        let mut servers = four(backend)
            .build_each(move || {
                assert!(made.fetch_add(1, Ordering::SeqCst) < 2, "no third handler");
                echo
            })
            .unwrap();
        servers.run()
    });
    assert!(thread.join().is_err());
}

fn is_nobody_lost_who_connected_before_the_stop(backend: Backend) {
    let running = Running::echo(move || four(backend));
    let mut peers: Vec<_> = (0..100).map(|_| running.connect()).collect();
    for (peer, number) in peers.iter_mut().zip(0..) {
        peer.send(&numbered(number));
    }
    running.handle.shutdown().unwrap();
    for (peer, number) in peers.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.reply()), number);
        peer.expect_end();
    }
    drop(peers);
    let (graceful, stats) = running.join();
    assert!(graceful.unwrap());
    assert_eq!((stats.sum().messages, stats.sum().closed_for(Cause::Drained)), (100, 100));
}

fn is_nobody_lost_who_is_handed_over_while_stopping(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // All of them wait in the backlog when the loops begin, which are told to stop at once.
    let mut peers: Vec<_> =
        (0..100).map(|_| Peer::new(TcpStream::connect(address).unwrap())).collect();
    for (peer, number) in peers.iter_mut().zip(0..) {
        peer.send(&numbered(number));
    }
    let running = Running::start(move || {
        let listener = Listener::adopt(OwnedFd::from(listener)).unwrap();
        let builder = Server::builder().backend(backend).threads(3).listener(listener);
        let servers = builder.build_each(|| echo)?;
        servers.handle().shutdown().unwrap();
        Ok(servers)
    });
    for (peer, number) in peers.iter_mut().zip(0..) {
        assert_eq!(number_of(&peer.reply()), number);
    }
    drop(peers);
    let (graceful, stats) = running.join();
    assert!(graceful.unwrap());
    assert_eq!(stats.loops().iter().map(|of| of.messages).collect::<Vec<_>>(), [34, 33, 33]);
}

#[test]
fn is_a_server_dropped_without_a_trace() {
    if !common::in_own_process("is_a_server_dropped_without_a_trace") {
        return;
    }
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).map(Iterator::count);
    let before = (count("fd").ok(), count("task").ok());
    for nth in 0..20 {
        let mut servers = four(Backend::native()).build_each(|| echo).unwrap();
        if nth % 2 == 0 {
            servers.handle().shutdown().unwrap();
            assert!(servers.run().unwrap());
            assert!(servers.run().unwrap(), "again, which does nothing");
        }
    }
    assert_eq!((count("fd").ok(), count("task").ok()), before);
}

#[test]
fn is_a_shared_port_refused_unless_asked_for() {
    let running = Running::echo(|| four(Backend::native()));
    let port = running.addresses[0].port().unwrap();
    let again = || Server::builder().listen("127.0.0.1", port).threads(2);
    let error = again().build_each(|| echo).unwrap_err().to_string();
    assert!(error.starts_with(&format!("bind 127.0.0.1:{port}: EADDRINUSE")), "{error}");
    if myriapod::sys::REUSE_PORT_BALANCES {
        let options = myriapod::sys::ListenOptions { reuse_port: true, ..Default::default() };
        again().listen_options(options).build_each(|| echo).unwrap();
    }
    running.stop();
}

#[test]
fn are_threads_that_cannot_work_refused() {
    let refused = |builder: ServerBuilder| builder.build_each(|| echo).unwrap_err().to_string();
    assert_eq!(refused(Server::builder().threads(0)), "threads must be at least 1");
    assert_eq!(refused(Server::builder().threads(1025)), "threads (1025) must be at most 1024");
    let limits = Limits { max_buffer_bytes: 2 << 20, ..Limits::default() };
    let text = refused(Server::builder().threads(2).limits(limits));
    assert!(text.starts_with("max_buffer_bytes (2097152) must be at least 2105348: "), "{text}");
    let text = Server::builder().threads(2).answer(echo).unwrap_err().to_string();
    assert!(text.starts_with("threads (2) needs a handler for each"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn is_each_loop_pinned_and_the_caller_free_again() {
    use myriapod::sys::thread_cpus;

    let before = thread_cpus().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut servers = {
        let seen = Arc::clone(&seen);
        let make = move || {
            seen.lock().unwrap().push(thread_cpus().unwrap());
            echo
        };
        Server::builder().listen("127.0.0.1", 0).threads(3).pin(true).build_each(make).unwrap()
    };
    servers.handle().shutdown().unwrap();
    assert!(servers.run().unwrap());
    assert_eq!(thread_cpus().unwrap(), before);
    // The first is made before it is pinned, by the builder.
    let mut others = seen.lock().unwrap().split_off(1);
    others.sort();
    let mut expected: Vec<_> = (1..3).map(|nth| vec![before[nth % before.len()]]).collect();
    expected.sort();
    assert_eq!(others, expected);
}

common::on_every_backend!(
    do_all_loops_serve,
    is_every_connection_reached_by_its_name,
    has_every_connection_a_name_of_its_own_and_its_answers,
    does_a_listener_from_elsewhere_spread_over_all_loops,
    may_all_loops_together_have_max_connections_and_no_more,
    does_a_loop_that_cannot_go_on_stop_the_others,
    does_a_panic_of_the_log_not_stop_a_loop,
    does_a_handler_factory_that_panics_stop_all,
    is_nobody_lost_who_connected_before_the_stop,
    is_nobody_lost_who_is_handed_over_while_stopping,
);
