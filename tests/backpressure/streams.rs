//! Contents that are not held in memory: do all of them arrive whole, in order, at the pace of the
//! slower side, and do those that break say so?

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use myriapod::protocol::{ExtraHeaders, Framing, Head, JsonHeader, encode};
use myriapod::{
    Backend, Cause, ConnectionId, Flow, Handler, HandlerError, HandlerResult, Intake, Limits,
    Message, MessageHead, Outgoing, Reply, SocketAddr, View,
};
use serde_json::{Value, json};

use crate::common::{PATIENCE, Peer, Running, builder, error_kind, on_every_backend};

on_every_backend! {
    is_a_content_streamed_however_it_arrives,
    does_a_handler_that_waits_hold_its_peer_back,
    is_a_refused_content_dropped_and_the_next_message_answered,
    does_a_refused_content_that_is_long_close_its_connection,
    is_a_content_that_is_too_long_to_stream_refused,
    is_one_stream_too_many_refused_and_counted,
    does_a_stream_that_comes_too_slowly_end,
    does_a_stream_outlast_the_time_of_a_held_content,
    is_a_stream_that_its_peer_cuts_short_counted,
    does_a_piece_that_panics_close_that_connection_alone,
    is_a_piece_of_a_file_a_reply_in_its_turn,
    does_a_file_that_shrinks_never_look_whole,
    does_a_source_that_waits_cost_nothing_until_it_goes_on,
    is_a_source_that_breaks_never_taken_for_whole,
    does_a_reader_that_stops_stop_its_source,
    does_a_push_wait_for_the_content_before_it,
}

/// What the handler tells the test.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Waits(ConnectionId),
    Rang,
    Closed(Cause, u64),
}

/// Does what the key `do` of each header says.
struct Streamer {
    tell: Sender<Told>,
    file: PathBuf,
    /// More of a content than one piece can have.
    cycles: Vec<u8>,
}

/// What has come of a content.
#[derive(Default)]
struct Came {
    what: String,
    /// How often the handler was asked about this message.
    asked: u32,
    len: u64,
    /// Pieces that have other bytes than a [`content`] there.
    wrong: u64,
}

/// The bytes that contents are made of, again and again.
const CYCLE: usize = 251;

fn text(message: &Message<'_>, key: &str) -> String {
    message.header(key).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn number(message: &Message<'_>, key: &str) -> u64 {
    message.header(key).and_then(|value| value.as_u64()).unwrap_or_default()
}

/// Gives these pieces, one for each time that it is asked; an empty one is `WouldBlock`.
struct Script(Vec<&'static [u8]>, Option<(Sender<Told>, ConnectionId)>);

impl Read for Script {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let piece = self.0.remove(0);
        if piece.is_empty() {
            if let Some((tell, id)) = &self.1 {
                tell.send(Told::Waits(*id)).unwrap();
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        assert_ne!(piece, b"panic");
        room[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

impl Handler for Streamer {
    type State = Came;
    const STREAMS: bool = true;

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) -> Came {
        Came::default()
    }

    fn on_head(&mut self, came: &mut Came, head: &MessageHead<'_>, view: &mut View<'_>) -> Intake {
        *came = Came { what: text(head, "do"), asked: came.asked + 1, ..Came::default() };
        match came.what.as_str() {
            "stream" | "wait" | "fail" | "panic" => Intake::Stream,
            "outlast" => {
                view.set_timer(Duration::from_millis(150));
                Intake::Stream
            }
            "refuse" => {
                came.asked = 0;
                Intake::Refuse(HandlerError::new("No", "not this"))
            }
            _ => Intake::Hold,
        }
    }

    fn on_piece(
        &mut self,
        came: &mut Came,
        piece: &[u8],
        view: &mut View<'_>,
    ) -> Result<Flow, HandlerError> {
        let start = usize::try_from(came.len).unwrap() % CYCLE;
        came.wrong += u64::from(self.cycles[start..start + piece.len()] != *piece);
        came.len += piece.len() as u64;
        match came.what.as_str() {
            "fail" => {
                came.asked = 0;
                Err(HandlerError::new("No", "no more of this"))
            }
            "panic" => panic!("a bug"),
            "wait" => {
                self.tell.send(Told::Waits(view.id())).unwrap();
                Ok(Flow::Wait)
            }
            _ => Ok(Flow::Go),
        }
    }

    fn on_end(&mut self, came: &mut Came, reply: &mut Reply<'_>) -> HandlerResult {
        let came = std::mem::take(came);
        assert_eq!(came.asked, 1);
        Ok(reply.json(&json!({ "len": came.len, "wrong": came.wrong }))?)
    }

    fn on_message(
        &mut self,
        came: &mut Came,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let came = std::mem::take(came);
        assert!(came.asked == 1 || came.what != "hold", "asked {} times", came.asked);
        let (len, id) = (number(&message, "len"), reply.connection());
        match text(&message, "do").as_str() {
            "file" => {
                let range = number(&message, "from")..number(&message, "to");
                reply.file("test/bytes", File::open(&self.file)?, range)?;
            }
            "endless" => reply.stream("test/bytes", 1 << 40, io::repeat(7))?,
            "patient" => {
                let script = Script(vec![b"", b"a", b"", b"", b"b"], Some((self.tell.clone(), id)));
                reply.stream("test/bytes", 2, script)?;
            }
            "short" => reply.stream("test/bytes", 5, Script(vec![b"abc"], None))?,
            "broken" => reply.stream("test/bytes", 5, Script(vec![b"abc", b"panic"], None))?,
            "pushed" => {
                reply.stream("test/bytes", len, io::repeat(7))?;
                let handle = reply.view().handle().clone();
                handle.send(id, Outgoing::binary("test/pushed", b"pushed".to_vec()))?;
            }
            _ => reply.json(&json!({ "held": message.content().len() }))?,
        }
        Ok(())
    }

    fn on_connection_timer(&mut self, _: &mut Came, _: &mut View<'_>) {
        self.tell.send(Told::Rang).unwrap();
    }

    fn on_close(&mut self, came: Came, _: &mut View<'_>, cause: Cause) {
        let _gone = self.tell.send(Told::Closed(cause, came.len));
    }
}

struct Play {
    server: Running,
    told: Receiver<Told>,
    file: Temporary,
}

/// A file that is gone afterwards.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _none = std::fs::remove_file(&self.0);
    }
}

impl Play {
    fn start(backend: Backend, limits: Limits) -> Self {
        let (tell, told) = channel();
        let name = format!("myriapod-{}-{:?}", std::process::id(), std::thread::current().id());
        let file = std::env::temp_dir().join(name);
        let handler = Streamer { tell, file: file.clone(), cycles: content(CYCLE + (64 << 10)) };
        let make = move || builder(backend).limits(limits).build(handler);
        Self { server: Running::start(make), told, file: Temporary(file) }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the handler tells")
    }
}

/// A message with these header keys.
fn message(keys: &[(&str, Value)], content: &[u8]) -> Vec<u8> {
    let (mut extra, mut wire) = (ExtraHeaders::new(), Vec::new());
    for (key, value) in keys {
        extra.push(key, value).unwrap();
    }
    encode(&mut wire, &Head { extra: &extra, ..Head::binary("test/bytes") }, content).unwrap();
    wire
}

fn order(what: &str, content: &[u8]) -> Vec<u8> {
    message(&[("do", what.into())], content)
}

/// The head of a message whose content has so many bytes.
fn head(what: &str, len: u64) -> Vec<u8> {
    let (mut extra, mut wire) = (ExtraHeaders::new(), Vec::new());
    extra.push("do", what).unwrap();
    let head = Head { extra: &extra, ..Head::binary("test/bytes") };
    JsonHeader::default().write_head(&mut wire, &head, len).unwrap();
    wire
}

fn content(len: usize) -> Vec<u8> {
    let cycle: Vec<u8> = (0..=250).collect();
    let mut content = cycle.repeat(len / CYCLE + 1);
    content.truncate(len);
    content
}

fn answer(peer: &mut Peer<std::net::TcpStream>) -> Value {
    let reply = peer.reply();
    assert_eq!(reply.as_message().header("status"), None, "{reply:?}");
    reply.as_message().json().unwrap()
}

fn came(bytes: &[u8]) -> Value {
    json!({ "len": bytes.len(), "wrong": 0 })
}

fn is_a_content_streamed_however_it_arrives(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let contents = [content(200_000), content(0), content(1), content(70_000)];
    let mut wire = Vec::new();
    for content in &contents {
        wire.extend(order("stream", content));
        wire.extend(order("hold", &content[..content.len().min(9_000)]));
    }
    for piece in [77, 4_099, 65_536, wire.len()] {
        let mut peer = play.server.connect();
        std::thread::scope(|scope| {
            let mut sender = peer.stream.try_clone().unwrap();
            let wire = &wire;
            scope.spawn(move || wire.chunks(piece).for_each(|one| sender.write_all(one).unwrap()));
            for content in &contents {
                assert_eq!(answer(&mut peer), came(content), "in pieces of {piece}");
                assert_eq!(answer(&mut peer), json!({ "held": content.len().min(9_000) }));
            }
        });
    }
    let stats = play.server.stop();
    assert_eq!((stats.messages, stats.streams_in, stats.broken_streams), (32, 16, 0), "{stats}");
}

fn does_a_handler_that_waits_hold_its_peer_back(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.server.connect();
    let whole = content(16 << 20);
    let wire = [head("wait", whole.len() as u64), whole.clone(), order("hold", b"next")].concat();
    let sent = peer.stuff(&wire);
    assert!(sent < wire.len(), "what is not taken must not disappear in buffers");
    let Told::Waits(id) = play.next() else { panic!("the first piece") };
    let stats = play.server.catch_up();
    assert!(stats.bytes_in <= 128 << 10, "nothing is received meanwhile: {stats}");
    assert!(stats.pool_bytes <= 64 << 10, "{stats}");
    let handle = play.server.handle();
    std::thread::scope(|scope| {
        let mut sender = peer.stream.try_clone().unwrap();
        scope.spawn(move || sender.write_all(&wire[sent..]).unwrap());
        let expected = came(&whole);
        scope.spawn(move || {
            assert_eq!(answer(&mut peer), expected);
            assert_eq!(answer(&mut peer), json!({ "held": 4 }));
        });
        handle.resume(id).unwrap();
        while let Told::Waits(id) = play.next() {
            handle.resume(id).unwrap();
        }
    });
    play.server.stop();
}

fn is_a_refused_content_dropped_and_the_next_message_answered(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.server.connect();
    for what in ["refuse", "fail"] {
        let wire = [order(what, &content(300_000)), order("stream", &content(4))].concat();
        peer.send(&wire);
        assert_eq!(error_kind(&peer.reply()), "No", "{what}");
        assert_eq!(answer(&mut peer), came(&content(4)));
    }
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.messages, stats.handler_errors, stats.streams_in), (4, 2, 3), "{stats}");
    assert_eq!(stats.broken_streams, 1, "{stats}");
}

fn does_a_refused_content_that_is_long_close_its_connection(backend: Backend) {
    let play = Play::start(backend, Limits { max_content_len: 1_000, ..Limits::default() });
    for what in ["refuse", "fail"] {
        let mut peer = play.server.connect();
        peer.send(&[head(what, 2_000), vec![0; 10]].concat());
        assert_eq!(error_kind(&peer.reply()), "No");
        peer.expect_end();
        assert!(matches!(play.next(), Told::Closed(Cause::Handler, _)));
    }
    play.server.stop();
}

fn is_a_content_that_is_too_long_to_stream_refused(backend: Backend) {
    let play = Play::start(backend, Limits { max_stream_len: 2_000, ..Limits::default() });
    let mut peer = play.server.connect();
    assert_eq!(answer_to(&mut peer, &content(2_000)), came(&content(2_000)));
    peer.send(&head("stream", 2_001));
    assert_eq!(error_kind(&peer.reply()), "ContentTooLong");
    peer.expect_end();
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.refused_streams, stats.closed_for(Cause::Fault)), (1, 1), "{stats}");
}

fn answer_to(peer: &mut Peer<std::net::TcpStream>, content: &[u8]) -> Value {
    peer.send(&order("stream", content));
    answer(peer)
}

fn is_one_stream_too_many_refused_and_counted(backend: Backend) {
    let play = Play::start(backend, Limits { max_streams: 1, ..Limits::default() });
    let (mut first, mut second) = (play.server.connect(), play.server.connect());
    first.send(&[head("stream", 10), content(4)].concat());
    play.server.wait_for("the first stream", |stats| stats.streams_in == 1);
    second.send(&[order("stream", b"one"), order("endless", b"two")].concat());
    assert_eq!(error_kind(&second.reply()), "TooManyStreams");
    assert_eq!(error_kind(&second.reply()), "HandlerError");
    first.send(&content(10)[4..]);
    assert_eq!(answer(&mut first), came(&content(10)));
    // Its place is free again.
    assert_eq!(answer_to(&mut second, &content(5)), came(&content(5)));
    drop((first, second));
    let stats = play.server.stop();
    assert_eq!((stats.refused_streams, stats.streams_in), (1, 2), "{stats}");
}

fn does_a_stream_that_comes_too_slowly_end(backend: Backend) {
    let limits = Limits {
        min_content_rate: 1 << 20,
        rate_window: Duration::from_millis(100),
        ..Limits::default()
    };
    let play = Play::start(backend, limits);
    let mut peer = play.server.connect();
    peer.send(&[head("stream", 1 << 30), content(10)].concat());
    assert_eq!(play.next(), Told::Closed(Cause::ContentRate, 10));
    peer.wait_for_end();
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.broken_streams, stats.closed_for(Cause::ContentRate)), (1, 1), "{stats}");
}

fn does_a_stream_outlast_the_time_of_a_held_content(backend: Backend) {
    let limits = Limits { content_timeout: Duration::from_millis(20), ..Limits::default() };
    let play = Play::start(backend, limits);
    let mut peer = play.server.connect();
    peer.send(&[head("outlast", 100), content(10)].concat());
    assert_eq!(play.next(), Told::Rang);
    peer.send(&content(100)[10..]);
    assert_eq!(answer(&mut peer), came(&content(100)));
    drop(peer);
    play.server.stop();
}

fn is_a_stream_that_its_peer_cuts_short_counted(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.server.connect();
    peer.send(&[head("stream", 1_000), content(600)].concat());
    peer.finish();
    peer.expect_end();
    assert_eq!(play.next(), Told::Closed(Cause::Peer, 600));
    let stats = play.server.stop();
    assert_eq!((stats.truncated, stats.broken_streams, stats.messages), (1, 1, 0), "{stats}");
}

fn does_a_piece_that_panics_close_that_connection_alone(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let (mut one, mut other) = (play.server.connect(), play.server.connect());
    one.send(&order("panic", b"a piece"));
    one.wait_for_end();
    drop(one);
    assert_eq!(play.next(), Told::Closed(Cause::Panic, 7));
    assert_eq!(answer_to(&mut other, &content(5)), came(&content(5)));
    drop(other);
    assert_eq!(play.server.stop().panics, 1);
}

fn is_a_piece_of_a_file_a_reply_in_its_turn(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let whole = content(3 << 20);
    std::fs::write(&play.file.0, &whole).unwrap();
    let mut peer = play.server.connect();
    let ranges = [(0, whole.len()), (5, 5), (9, 3), (1_000_000, 1_000_001), (70_000, 2 << 20)];
    let mut wire = Vec::new();
    for (from, to) in ranges {
        let keys = [("do", "file".into()), ("from", from.into()), ("to", to.into())];
        wire.extend(message(&keys, b""));
        wire.extend(order("hold", b"x"));
    }
    peer.send(&wire);
    for (from, to) in ranges {
        let reply = peer.reply();
        assert!(reply.as_message().content() == &whole[from..to.max(from)], "{from}..{to}");
        assert_eq!(answer(&mut peer), json!({ "held": 1 }));
    }
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.streams_out, stats.broken_streams, stats.replies), (3, 0, 10), "{stats}");
}

/// Reads until the end; returns how much came.
fn read_all(peer: &mut Peer<std::net::TcpStream>) -> usize {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _read = peer.stream.read_to_end(&mut rest);
    rest.len()
}

fn does_a_file_that_shrinks_never_look_whole(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let len = 16 << 20;
    let file = File::create(&play.file.0).unwrap();
    file.set_len(len).unwrap();
    let mut peer = play.server.connect();
    let keys = [("do", "file".into()), ("from", 0.into()), ("to", len.into())];
    peer.send(&message(&keys, b""));
    play.server.wait_for("the first of it", |stats| stats.bytes_out > 1_000);
    file.set_len(1_000).unwrap();
    assert!(read_all(&mut peer) < 16 << 20);
    assert_eq!(play.next(), Told::Closed(Cause::StreamBroken, 0));
    let stats = play.server.stop();
    assert_eq!((stats.streams_out, stats.broken_streams), (1, 1), "{stats}");
}

fn does_a_source_that_waits_cost_nothing_until_it_goes_on(backend: Backend) {
    let limits = Limits { write_timeout: Duration::from_millis(20), ..Limits::default() };
    let play = Play::start(backend, limits);
    let mut peer = play.server.connect();
    peer.send(&[order("patient", b""), order("hold", b"next")].concat());
    let handle = play.server.handle();
    for _ in 0..3 {
        let Told::Waits(id) = play.next() else { panic!("the source waits") };
        // Nothing wakes the loop but this question.
        let before = play.server.catch_up().wakeups;
        assert!(play.server.catch_up().wakeups <= before + 2);
        handle.resume(id).unwrap();
    }
    assert_eq!(peer.reply().as_message().content(), b"ab");
    assert_eq!(answer(&mut peer), json!({ "held": 4 }));
    drop(peer);
    assert_eq!(play.server.stop().broken_streams, 0);
}

fn is_a_source_that_breaks_never_taken_for_whole(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    for what in ["short", "broken"] {
        let mut peer = play.server.connect();
        peer.send(&order(what, b""));
        let mut all = Vec::new();
        let _read = peer.stream.read_to_end(&mut all);
        assert!(all.ends_with(b"}abc"), "{what}: the head, and a part of the content");
        assert_eq!(play.next(), Told::Closed(Cause::StreamBroken, 0));
    }
    let stats = play.server.stop();
    assert_eq!((stats.streams_out, stats.broken_streams, stats.panics), (2, 2, 1), "{stats}");
}

fn does_a_reader_that_stops_stop_its_source(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.server.connect();
    peer.send(&order("endless", b""));
    let mut some = vec![0; 4 << 20];
    peer.stream.read_exact(&mut some).unwrap();
    let mut before = 0;
    // The system's buffers are full at some time, and then nothing goes any more.
    let stats = loop {
        let stats = play.server.catch_up();
        if stats.bytes_out == before && stats.wakeups > 0 {
            break stats;
        }
        before = stats.bytes_out;
    };
    assert!(stats.pool_bytes <= 256 << 10, "{stats}");
    drop(peer);
    let Told::Closed(..) = play.next() else { panic!("it has left") };
    let stats = play.server.stop();
    assert_eq!((stats.streams_out, stats.broken_streams), (1, 1), "{stats}");
}

fn does_a_push_wait_for_the_content_before_it(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.server.connect();
    peer.send(&message(&[("do", "pushed".into()), ("len", (5 << 20).into())], b""));
    assert_eq!(peer.reply().as_message().content().len(), 5 << 20);
    assert_eq!(peer.reply().as_message().content(), b"pushed");
    drop(peer);
    play.server.stop();
}
