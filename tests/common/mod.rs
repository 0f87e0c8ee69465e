//! A server on a thread of the test's process, and peers that the test writes byte by byte.
#![allow(dead_code, unused_macros, unused_imports, reason = "not every file uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod random;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use myriapod::protocol::{
    Decoder, ExtraHeaders, Framing, Head, JsonHeader, Message, OwnedMessage, encode, encode_json,
};
use myriapod::{
    Backend, Cause, ConnectionId, Error, Handle, Handler, HandlerResult, Limits, Reply, Server,
    ServerBuilder, Stats, View,
};

pub(crate) use random::Random;

/// How long a test waits for what must come. Nothing is asserted about how soon it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a test of each function for each backend that the system has: `epoll::does_it_work`.
macro_rules! on_every_backend {
    ($($question:ident),* $(,)?) => {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        mod epoll {
            $(#[test] fn $question() { super::$question(myriapod::Backend::Epoll); })*
        }
        #[cfg(any(
            myriapod_libkqueue,
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "netbsd",
        ))]
        mod kqueue {
            $(#[test] fn $question() { super::$question(myriapod::Backend::Kqueue); })*
        }
        mod poll {
            $(#[test] fn $question() { super::$question(myriapod::Backend::Poll); })*
        }
        mod select {
            $(#[test] fn $question() { super::$question(myriapod::Backend::Select); })*
        }
        #[cfg(feature = "portable")]
        mod portable {
            $(#[test] fn $question() { super::$question(myriapod::Backend::Portable); })*
        }
    };
}
pub(crate) use on_every_backend;

/// A builder for this backend that listens on a port of its own.
pub(crate) fn builder(backend: Backend) -> ServerBuilder {
    Server::builder().backend(backend).listen("127.0.0.1", 0)
}

/// Sends each message back as it came.
pub(crate) fn echo(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    reply.echo(&message)?;
    Ok(())
}

/// Sends each message back, and tells the test who connects.
pub(crate) struct Telling(pub(crate) mpsc::Sender<ConnectionId>);

impl Handler for Telling {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, _: &myriapod::SocketAddr) {
        self.0.send(view.id()).unwrap();
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        echo(message, reply)
    }
}

/// What a running server says after each turn.
#[derive(Default)]
struct Watch {
    stats: Mutex<Stats>,
    changed: Condvar,
}

/// A server that runs on a thread.
pub(crate) struct Running {
    addresses: Vec<myriapod::SocketAddr>,
    handle: Handle,
    watch: Arc<Watch>,
    thread: Option<JoinHandle<Stats>>,
}

impl Running {
    /// Builds a server on a thread of its own and runs it there.
    pub(crate) fn start<H: Handler, F: Framing>(
        make: impl FnOnce() -> Result<Server<H, F>, Error> + Send + 'static,
    ) -> Self {
        let watch = Arc::new(Watch::default());
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn({
            let watch = Arc::clone(&watch);
            move || {
                let mut server = make().expect("the server can be built");
                tell.send((server.addresses().to_vec(), server.handle())).unwrap();
                loop {
                    let turn = server.event_loop().run_once(None).expect("waiting works");
                    *watch.stats.lock().unwrap() = server.stats();
                    watch.changed.notify_all();
                    if turn.finished {
                        return server.stats();
                    }
                }
            }
        });
        let (addresses, handle) = told.recv().expect("the server starts");
        Self { addresses, handle, watch, thread: Some(thread) }
    }

    /// An echo server with these limits.
    pub(crate) fn echo(backend: Backend, limits: Limits) -> Self {
        Self::start(move || builder(backend).limits(limits).answer(echo))
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(crate) fn addresses(&self) -> &[myriapod::SocketAddr] {
        &self.addresses
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let address = &self.addresses[0];
        address.to_string().parse().unwrap_or_else(|_| panic!("{address} is no IP address"))
    }

    pub(crate) fn connect(&self) -> Peer<TcpStream> {
        Peer::new(TcpStream::connect(self.address()).unwrap())
    }

    /// What happened up to the last turn.
    pub(crate) fn stats(&self) -> Stats {
        self.watch.stats.lock().unwrap().clone()
    }

    /// Waits until the counts are as they should be, and returns them.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Stats) -> bool) -> Stats {
        let stats = self.watch.stats.lock().unwrap();
        let (stats, late) = self
            .watch
            .changed
            .wait_timeout_while(stats, PATIENCE, |stats| !condition(stats))
            .unwrap();
        assert!(!late.timed_out(), "in vain waited for {what}: {}", *stats);
        stats.clone()
    }

    /// The loop has done all that was asked of it so far; what it has done in all.
    pub(crate) fn catch_up(&self) -> Stats {
        // A busy machine may take longer than the handle waits.
        let stats = (0..PATIENCE.as_secs()).find_map(|_| self.handle.stats().ok());
        stats.expect("the loop answers").remove(0)
    }

    /// Asks for a graceful stop.
    pub(crate) fn shutdown(&self) {
        self.handle.shutdown().unwrap();
    }

    /// Stops the server, and checks that nothing is left of any connection.
    pub(crate) fn stop(mut self) -> Stats {
        self.shutdown();
        let stats = self.thread.take().unwrap().join().expect("the server does not panic");
        assert_settled(&stats);
        stats
    }

    /// Waits for a server that ends by itself.
    pub(crate) fn join(mut self) -> Stats {
        let stats = self.thread.take().unwrap().join().expect("the server does not panic");
        assert_settled(&stats);
        stats
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed must not hang.
        let _ = self.handle.shutdown();
    }
}

/// All connections are gone, and so is all that they held.
pub(crate) fn assert_settled(stats: &Stats) {
    assert_eq!((stats.open, stats.lingering), (0, 0), "{stats}");
    let begun = stats.accepted + stats.connected + stats.taken_over;
    assert_eq!(begun, stats.closed.iter().sum::<u64>(), "{stats}");
    assert_eq!((stats.pool_bytes, stats.pool_buffers), (0, 0), "{stats}");
}

/// A peer of the server.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    decoder: Decoder,
}

impl Peer<TcpStream> {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// No more will be sent.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends as much as fits without anybody reading; returns how much that was.
    pub(crate) fn stuff(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = self.stream.write(&bytes[sent..]) {
            sent += count;
            if sent == bytes.len() {
                break;
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        sent
    }
}

impl<S: Read + Write> Peer<S> {
    pub(crate) fn over(stream: S) -> Self {
        let limits =
            myriapod::protocol::DecodeLimits { max_header_len: 65_535, max_content_len: 1 << 30 };
        Self { stream, decoder: Decoder::new(JsonHeader::new(limits)) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a message and waits for the answer.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> OwnedMessage {
        self.send(bytes);
        self.reply()
    }

    /// The next reply, which must come.
    pub(crate) fn reply(&mut self) -> OwnedMessage {
        self.next().expect("a reply, not the end of the stream")
    }

    /// The next reply, or `None` where the server has closed its side in good order.
    pub(crate) fn next(&mut self) -> Option<OwnedMessage> {
        let mut piece = [0; 16 << 10];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message.to_owned());
            }
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    assert_eq!(self.decoder.rest(), 0, "the stream ends within a reply");
                    return None;
                }
                Ok(count) => self.decoder.feed(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("read: {error}"),
            }
        }
    }

    /// Nothing more comes, and the stream ends in good order.
    pub(crate) fn expect_end(&mut self) {
        if let Some(message) = self.next() {
            panic!("another reply: {:?}", message.as_message());
        }
    }

    /// The stream ends, in whatever way.
    pub(crate) fn wait_for_end(&mut self) {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no end: {error}"),
                Err(_) => return,
            }
        }
    }
}

/// A binary message.
pub(crate) fn binary(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    encode(&mut wire, &Head::binary("test/bytes"), content).unwrap();
    wire
}

/// A JSON message.
pub(crate) fn json(value: &serde_json::Value) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_json(&mut wire, &Head::json(), value).unwrap();
    wire
}

/// A message whose content is a number, so that replies can be told apart.
pub(crate) fn numbered(number: u32) -> Vec<u8> {
    binary(&number.to_be_bytes())
}

pub(crate) fn number_of(message: &OwnedMessage) -> u32 {
    u32::from_be_bytes(message.as_message().content().try_into().unwrap())
}

/// The kind of fault that an error reply tells of.
pub(crate) fn error_kind(reply: &OwnedMessage) -> String {
    let reply = reply.as_message();
    assert_eq!(reply.header("status"), Some("error".into()), "{reply:?}");
    assert_eq!(reply.content_type(), "text/json");
    let content = reply.json().unwrap();
    assert!(content["result"].as_str().unwrap().starts_with("Error: "), "{content}");
    reply.header("error").unwrap().as_str().unwrap().to_owned()
}

/// Runs the rest of the test in a process of its own, for what concerns the process as a whole:
/// its memory, its descriptors. Returns whether this *is* that process.
///
/// `test` is the test's whole name, such as `epoll::is_memory_bounded`.
pub(crate) fn in_own_process(test: &str) -> bool {
    const MARK: &str = "MYRIAPOD_TEST_IN_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("1 passed"), "no such test: {test}\n{said}");
    false
}
