//! Does the engine serve bytes and text without its features? This file is compiled with and without.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use myriapod::protocol::{Decoder, Fault, Padded, Raw, encode_padded};
use myriapod::{
    Backend, ConnectionId, Handle, Handler, HandlerError, HandlerResult, Message, Outgoing, Reply,
    Server, SocketAddr, View,
};

/// How long a test waits for what must come. Nothing is asserted about how soon it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs on a thread of its own until the test is over.
struct Running {
    port: u16,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            // A server that panicked has failed the test's own asserts too.
            let _ = thread.join();
        }
    }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Runs a server that a closure builds on the thread that runs it.
macro_rules! run {
    ($build:expr) => {{
        let (told, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut server = $build.unwrap();
            told.send((server.addresses()[0].port().unwrap(), server.handle())).unwrap();
            server.run().unwrap();
        });
        let (port, handle) = ready.recv_timeout(PATIENCE).unwrap();
        Running { port, handle, thread: Some(thread) }
    }};
}

fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut read = vec![0; len];
    stream.read_exact(&mut read).unwrap();
    read
}

fn padded(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_padded(&mut wire, text).unwrap();
    wire
}

fn echo(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    Ok(reply.echo(&message)?)
}

#[test]
fn are_bytes_echoed_on_every_backend() {
    for &backend in Backend::available() {
        let server =
            run!(Server::builder().backend(backend).listen("127.0.0.1", 0).answer_with(Raw, echo));
        let mut stream = server.connect();
        stream.write_all(b"\0\x02[]").unwrap();
        assert_eq!(read(&mut stream, 4), b"\0\x02[]", "{backend}");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{backend}");
    }
}

#[test]
fn are_bytes_echoed_by_several_event_loops() {
    let server =
        run!(Server::builder().listen("127.0.0.1", 0).threads(2).answer_each_with(|| Raw, || echo));
    for _ in 0..8 {
        let mut stream = server.connect();
        stream.write_all(b"abc").unwrap();
        assert_eq!(read(&mut stream, 3), b"abc");
    }
}

#[test]
fn is_padded_text_answered_and_a_fault_told() {
    let answer = |message: Message<'_>, reply: &mut Reply<'_>| match &*message.text()? {
        "no" => Err(HandlerError::new("Refused", "not that")),
        "later" => {
            let deferred = reply.defer()?;
            std::thread::spawn(move || deferred.binary("text/plain", b"now".to_vec()));
            Ok(())
        }
        text => Ok(reply.binary("text/plain", text.as_bytes())?),
    };
    let server =
        run!(Server::builder().listen("127.0.0.1", 0).answer_with(Padded::default(), answer));
    let mut stream = server.connect();
    stream.write_all(&[padded("café"), padded("later"), padded("no")].concat()).unwrap();
    assert_eq!(read(&mut stream, 5 + 3), "cafénow".as_bytes());
    assert_eq!(read(&mut stream, 15), b"Error: not that");

    stream.write_all(&[b'x'; Padded::HEADER_LEN]).unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("Error: the length is not a decimal number"), "{told}");
}

/// Greets, and tells the test who came.
struct Greeting(mpsc::Sender<ConnectionId>);

impl Handler for Greeting {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) {
        view.push(&Outgoing::binary("x", b"hello".to_vec())).unwrap();
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

#[test]
fn are_bytes_pushed_from_a_handler_and_from_a_handle() {
    let (tell, who) = mpsc::channel();
    let server = run!(Server::builder().listen("127.0.0.1", 0).build_with(Raw, Greeting(tell)));
    let mut stream = server.connect();
    assert_eq!(read(&mut stream, 5), b"hello");
    let id = who.recv_timeout(PATIENCE).unwrap();
    server.handle.send(id, Outgoing::binary("x", b"news".to_vec())).unwrap();
    assert_eq!(read(&mut stream, 4), b"news");
}

#[test]
fn is_text_decoded_without_a_socket() {
    let mut decoder = Decoder::new(Padded::default());
    decoder.feed(&padded("naïve"));
    assert_eq!(decoder.next_message().unwrap().unwrap().text().unwrap(), "naïve");
    assert!(decoder.next_message().unwrap().is_none());

    // Bytes are no text in any encoding.
    let mut decoder = Decoder::new(Raw);
    decoder.feed(b"abc");
    let message = decoder.next_message().unwrap().unwrap();
    assert_eq!(message.text().unwrap_err().kind(), Fault::UnknownEncoding);
}
