//! Does a panic in anything that a user gave the server end one connection at the most?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::{
    PATIENCE, Peer, Running, binary, builder, echo, number_of, numbered, on_every_backend,
};
use myriapod::protocol::{
    Decoded, EncodeError, Frame, Framing, Head, Input, JsonHeader, Mark, ProtocolError,
};
use myriapod::{
    Backend, Cause, ConnectionId, Handler, HandlerResult, LogEvent, Message, Outgoing, Reply,
    SocketAddr, View,
};

on_every_backend! {
    does_a_panic_in_decode_close_that_connection_alone,
    does_a_panic_in_predict_close_that_connection_alone,
    does_a_panic_in_encoding_a_push_close_nobody,
    does_a_panic_in_encoding_a_push_close_that_connection,
    does_a_panic_in_error_reply_close_that_connection_alone,
    does_a_panic_in_the_log_close_nobody,
    is_a_panic_of_a_timer_told_without_a_connection,
    does_a_panic_in_every_callback_close_that_connection_alone,
    does_a_panic_in_on_close_leave_the_server_serving,
}

/// Messages with a JSON header; panics where the content, or what is written, says so.
struct Touchy {
    inner: JsonHeader,
    predicts: bool,
}

impl Touchy {
    fn new(predicts: bool) -> Self {
        Self { inner: JsonHeader::default(), predicts }
    }
}

fn says(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

impl Framing for Touchy {
    type Stream = ();

    fn decode(
        &mut self,
        stream: &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let Input { bytes, answer, .. } = input;
        let decoded = self.inner.decode(stream, Input::new(bytes, answer), frame)?;
        if decoded == Decoded::Message {
            assert!(!says(&bytes[..frame.len()], b"panic in decode"), "asked to");
        }
        Ok(decoded)
    }

    fn predict(&mut self, stream: &(), input: &[u8], frame: &mut Frame) -> bool {
        assert!(!says(input, b"panic in predict"), "asked to");
        self.predicts && self.inner.predict(stream, input, frame)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        self.inner.begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        assert!(head.content_type != "panic/encode", "asked to");
        self.inner.finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        // In the middle of it.
        out.extend_from_slice(b"half an error reply");
        assert!(!text.contains("panic in error_reply"), "asked to");
        out.truncate(out.len() - 19);
        self.inner.error_reply(out, kind, text)
    }
}

/// The connection that a panic was about, and in which function it was.
type Panicked = (Option<ConnectionId>, &'static str);

/// Echoes, and panics where the content says so.
struct Panicking(Sender<ConnectionId>);

impl Handler for Panicking {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) {
        self.0.send(view.id()).unwrap();
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        match message.content() {
            b"panic" => panic!("asked to"),
            b"fail" => Err("panic in error_reply".into()),
            b"encode" => {
                reply.view().push(&Outgoing::binary("test/bytes", 1_u32.to_be_bytes().to_vec()))?;
                reply.view().push(&Outgoing::binary("panic/encode", Vec::new()))?;
                echo(message, reply)
            }
            b"timer" => {
                reply.view().set_timer(Duration::ZERO);
                Ok(())
            }
            b"large" => {
                reply.view().push(&Outgoing::binary("test/bytes", vec![0; 8 << 20]))?;
                Ok(())
            }
            b"close" => {
                reply.close();
                Ok(())
            }
            _ => echo(message, reply),
        }
    }

    fn on_timer(&mut self, tag: u64) {
        assert_ne!(tag, 13, "an unlucky number");
    }

    fn on_connection_timer(&mut self, (): &mut (), view: &mut View<'_>) {
        view.push(&Outgoing::binary("test/bytes", 2_u32.to_be_bytes().to_vec())).unwrap();
        panic!("always");
    }

    fn on_drained(&mut self, (): &mut (), _: &mut View<'_>) {
        panic!("always");
    }

    fn on_close(&mut self, (): (), _: &mut View<'_>, cause: Cause) {
        assert_ne!(cause, Cause::Handler, "asked to");
    }
}

struct Stage {
    server: Running,
    opened: Receiver<ConnectionId>,
    panics: Receiver<Panicked>,
}

impl Stage {
    fn start(backend: Backend, predicts: bool) -> Self {
        let ((open, opened), (tell, panics)) = (channel(), channel());
        let log = move |event: &LogEvent<'_>| {
            if let LogEvent::HandlerPanic { id, callback } = event {
                let _ = tell.send((*id, *callback));
            }
        };
        let make =
            move || builder(backend).log(log).build_with(Touchy::new(predicts), Panicking(open));
        Self { server: Running::start(make), opened, panics }
    }

    fn connect(&self) -> (Peer<TcpStream>, ConnectionId) {
        let peer = self.server.connect();
        (peer, self.opened.recv_timeout(PATIENCE).unwrap())
    }

    /// What the log was told of the next panic.
    fn panicked(&self) -> Panicked {
        self.panics.recv_timeout(PATIENCE).unwrap()
    }

    /// Stops the server, and checks how many panics there were.
    fn stop(self, panics: u64, closed: u64) {
        let stats = self.server.stop();
        assert_eq!((stats.panics, stats.closed_for(Cause::Panic)), (panics, closed), "{stats}");
        assert!(self.panics.try_recv().is_err(), "one more was told");
    }
}

fn does_a_panic_in_decode_close_that_connection_alone(backend: Backend) {
    let stage = Stage::start(backend, false);
    let (mut other, _) = stage.connect();
    // Alone, behind another in one segment, and in pieces.
    let message = binary(b"panic in decode");
    for before in [0, 1] {
        let (mut peer, id) = stage.connect();
        let wire = [numbered(7).repeat(before), message.clone()].concat();
        peer.send(&wire);
        for _ in 0..before {
            assert_eq!(number_of(&peer.reply()), 7);
        }
        peer.expect_end();
        assert_eq!(stage.panicked(), (Some(id), "decode"));
        assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    }
    let (mut peer, id) = stage.connect();
    peer.send(&message[..20]);
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    peer.send(&message[20..]);
    peer.expect_end();
    assert_eq!(stage.panicked(), (Some(id), "decode"));
    drop((peer, other));
    stage.stop(3, 3);
}

fn does_a_panic_in_predict_close_that_connection_alone(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut other, _) = stage.connect();
    let (mut peer, id) = stage.connect();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    peer.send(&binary(b"panic in predict"));
    peer.expect_end();
    assert_eq!(stage.panicked(), (Some(id), "predict"));
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    drop((peer, other));
    stage.stop(1, 1);
}

fn does_a_panic_in_encoding_a_push_close_nobody(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut peer, id) = stage.connect();
    let handle = stage.server.handle();
    handle.send(id, Outgoing::binary("panic/encode", Vec::new())).unwrap();
    assert_eq!(stage.panicked(), (None, "encode"), "it is encoded for nobody in particular");
    handle.send(id, Outgoing::binary("test/bytes", 5_u32.to_be_bytes().to_vec())).unwrap();
    assert_eq!(number_of(&peer.reply()), 5, "and no byte of the other");
    handle.broadcast_all(Outgoing::binary("panic/encode", Vec::new())).unwrap();
    assert_eq!(stage.panicked(), (None, "encode"));
    assert_eq!(number_of(&peer.ask(&numbered(6))), 6);
    drop(peer);
    let stats = stage.server.wait_for("the end", |stats| stats.open == 0);
    assert_eq!((stats.pushes, stats.dropped_pushes), (1, 2), "{stats}");
    stage.stop(2, 0);
}

fn does_a_panic_in_encoding_a_push_close_that_connection(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut other, _) = stage.connect();
    let (mut peer, id) = stage.connect();
    peer.send(&[numbered(9), binary(b"encode")].concat());
    assert_eq!(number_of(&peer.reply()), 9);
    assert_eq!(number_of(&peer.reply()), 1, "what was pushed before is sent");
    peer.expect_end();
    assert_eq!(stage.panicked(), (Some(id), "on_message"));
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    drop((peer, other));
    stage.stop(1, 1);
}

fn does_a_panic_in_error_reply_close_that_connection_alone(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut other, _) = stage.connect();
    let (mut peer, _) = stage.connect();
    peer.send(&[numbered(9), binary(b"fail"), numbered(10)].concat());
    assert_eq!(number_of(&peer.reply()), 9);
    peer.expect_end();
    assert_eq!(stage.panicked().1, "Framing::error_reply");
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    drop((peer, other));
    stage.stop(1, 1);
}

fn does_a_panic_in_the_log_close_nobody(backend: Backend) {
    let server = Running::start(move || builder(backend).log(|_| panic!("always")).answer(echo));
    let mut peer = server.connect();
    for number in 0..10 {
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
    }
    // In pieces and pipelined too.
    peer.send(&[numbered(1), numbered(2)].concat()[..150]);
    assert_eq!(number_of(&peer.reply()), 1);
    peer.send(&[numbered(1), numbered(2)].concat()[150..]);
    assert_eq!(number_of(&peer.reply()), 2);
    drop(peer);
    let stats = server.stop();
    // One line for the opening, twelve for messages, one for the end, one for the stop.
    assert_eq!((stats.panics, stats.closed_for(Cause::Panic)), (15, 0), "{stats}");
}

fn is_a_panic_of_a_timer_told_without_a_connection(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut peer, _) = stage.connect();
    stage.server.handle().timer(Duration::ZERO, 13).unwrap();
    let (id, callback) = stage.panicked();
    assert_eq!((id, callback), (None, "on_timer"));
    assert_eq!(LogEvent::HandlerPanic { id, callback }.to_string(), "on_timer panicked");
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    drop(peer);
    stage.stop(1, 0);
}

fn does_a_panic_in_every_callback_close_that_connection_alone(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut other, _) = stage.connect();
    for (script, callback, pushed) in [
        (&b"panic"[..], "on_message", false),
        (b"timer", "on_connection_timer", true),
        (b"large", "on_drained", true),
    ] {
        let (mut peer, id) = stage.connect();
        peer.send(&binary(script));
        assert_eq!(peer.next().is_some(), pushed, "{callback}");
        if pushed {
            peer.expect_end();
        }
        assert_eq!(stage.panicked(), (Some(id), callback));
        assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    }
    drop(other);
    stage.stop(3, 3);
}

fn does_a_panic_in_on_close_leave_the_server_serving(backend: Backend) {
    let stage = Stage::start(backend, true);
    let (mut other, _) = stage.connect();
    let (mut peer, id) = stage.connect();
    peer.send(&binary(b"close"));
    peer.expect_end();
    assert_eq!(stage.panicked(), (Some(id), "on_close"));
    assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    drop((peer, other));
    // The cause is the one that it was closed for.
    stage.stop(1, 0);
}
