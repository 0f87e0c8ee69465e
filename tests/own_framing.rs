//! Does a framing that does little for the server cost it little, and keep within its limits?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::{PATIENCE, Peer, Running, binary, builder, echo, error_kind, on_every_backend};
use myriapod::protocol::{
    DecodeLimits, Decoded, EncodeError, Fault, Frame, Framing, Head, Input, JsonHeader, Mark,
    Padded, ProtocolError, encode, encode_padded,
};
use myriapod::{Backend, Cause, Handler, HandlerResult, Limits, Message, Reply, Server, Stats};

on_every_backend! {
    does_a_framing_that_asks_for_one_byte_more_cost_few_receives,
    does_a_long_message_of_such_a_framing_cost_few_receives,
    does_a_framing_that_asks_for_nothing_not_spin,
    is_a_message_that_never_ends_refused,
    are_the_limits_of_the_server_those_of_its_framing,
    are_limits_kept_that_a_framing_forgets,
    are_limits_kept_that_a_framing_forgets_to_predict_by,
    is_what_a_framing_finds_told_to_the_handler,
    is_what_a_framing_keeps_of_a_connection_its_own,
    does_a_framing_answer_and_end_by_itself,
    is_the_rest_at_the_end_of_a_stream_a_message,
    is_each_byte_of_a_line_looked_at_once,
    is_a_framing_that_claims_what_is_not_there_stopped,
    does_a_fault_have_the_name_that_the_framing_gives,
}

/// What a framing says of a message that is not whole, in place of how much is missing.
#[derive(Clone, Copy)]
enum Asks {
    OneMore,
    Nothing,
    LessThanIsThere,
}

/// Messages with a JSON header, by a framing that says little of them and knows no limits.
struct Plain {
    inner: JsonHeader,
    asks: Asks,
    predicts: bool,
}

impl Plain {
    fn new(asks: Asks, predicts: bool) -> Self {
        let limits = DecodeLimits { max_header_len: 65_535, max_content_len: 1 << 30 };
        Self { inner: JsonHeader::new(limits), asks, predicts }
    }
}

impl Framing for Plain {
    type Stream = ();

    fn decode(
        &mut self,
        stream: &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let len = input.bytes.len();
        Ok(match self.inner.decode(stream, input, frame)? {
            Decoded::Incomplete { .. } => {
                let needed = match self.asks {
                    Asks::OneMore => len + 1,
                    Asks::Nothing => 0,
                    Asks::LessThanIsThere => len / 2,
                };
                Decoded::Incomplete { needed, in_content: false }
            }
            whole => whole,
        })
    }

    fn predict(&mut self, stream: &(), input: &[u8], frame: &mut Frame) -> bool {
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
        self.inner.finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        self.inner.error_reply(out, kind, text)
    }
}

/// A message of so many bytes in all.
fn of_length(len: usize) -> Vec<u8> {
    let shorter = binary(&vec![7; len - 200]).len();
    let message = binary(&vec![7; len - 200 + len - shorter]);
    assert_eq!(message.len(), len);
    message
}

fn connect<H: Handler, F: Framing>(server: &Server<H, F>) -> Peer<TcpStream> {
    Peer::new(TcpStream::connect(server.addresses()[0].to_string()).unwrap())
}

fn run_until<H: Handler, F: Framing>(
    server: &mut Server<H, F>,
    condition: impl Fn(&Stats) -> bool,
) {
    while !condition(&server.stats()) {
        server.event_loop().run_once(Some(PATIENCE)).unwrap();
    }
}

/// Sends the pieces of one message, each when the last has been received. Returns how many events
/// that took: there is one for each receive.
fn events_for(backend: Backend, asks: Asks, pieces: &[&[u8]]) -> u64 {
    let limits = Limits { max_content_len: 4 << 20, ..Limits::default() };
    let framing = Plain::new(asks, false);
    let mut server = builder(backend).limits(limits).build_with(framing, echo).unwrap();
    let mut peer = connect(&server);
    run_until(&mut server, |stats| stats.open == 1);
    let before = server.stats().events;
    let mut sent = 0;
    for piece in pieces {
        peer.send(piece);
        sent += piece.len() as u64;
        run_until(&mut server, |stats| stats.bytes_in == sent);
    }
    run_until(&mut server, |stats| stats.messages == 1);
    let events = server.stats().events - before;
    assert_eq!(peer.reply().as_message().bytes(), pieces.concat());
    events
}

fn does_a_framing_that_asks_for_one_byte_more_cost_few_receives(backend: Backend) {
    let message = of_length(437);
    for cut in [1, 2, 28, 200, 436] {
        let events = events_for(backend, Asks::OneMore, &[&message[..cut], &message[cut..]]);
        assert!(events <= 3, "{events} receives for two pieces, cut at {cut}");
    }
    let pieces: Vec<&[u8]> = message.chunks(100).collect();
    let events = events_for(backend, Asks::OneMore, &pieces);
    assert!(events <= 6, "{events} receives for five pieces");
}

fn does_a_long_message_of_such_a_framing_cost_few_receives(backend: Backend) {
    // It cannot all be in the socket at once, so pieces of it are.
    let message = of_length(200_000);
    let pieces: Vec<&[u8]> = message.chunks(20_000).collect();
    let events = events_for(backend, Asks::OneMore, &pieces);
    assert!(events <= 30, "{events} receives for ten pieces");
}

fn does_a_framing_that_asks_for_nothing_not_spin(backend: Backend) {
    let message = of_length(437);
    for asks in [Asks::Nothing, Asks::LessThanIsThere] {
        let events = events_for(backend, asks, &[&message[..300], &message[300..]]);
        assert!(events <= 3, "{events} receives for two pieces");
        // While it waits, nothing makes the loop turn.
        let framing = Plain::new(asks, false);
        let mut server = builder(backend).build_with(framing, echo).unwrap();
        let mut peer = connect(&server);
        peer.send(&message[..300]);
        run_until(&mut server, |stats| stats.bytes_in == 300);
        for _ in 0..20 {
            let turn = server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
            assert_eq!(turn.events, 0);
            assert_ne!(server.event_loop().timeout(), Some(Duration::ZERO));
        }
    }
}

/// A header of 4,096 bytes at most and 100 bytes of content.
fn small() -> Limits {
    Limits { max_content_len: 100, ..Limits::default() }
}

fn is_a_message_that_never_ends_refused(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).limits(small()).build_with(Plain::new(Asks::OneMore, false), echo)
    });
    let mut peer = server.connect();
    // The header says that there is more to come.
    let message = of_length(20_000);
    peer.stuff(&message[..19_000]);
    assert_eq!(error_kind(&peer.reply()), "ContentTooLong");
    peer.wait_for_end();
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_eq!(stats.closed_for(Cause::Fault), 1, "{stats}");
    assert_eq!(stats.faults_of(Fault::ContentTooLong), 1, "{stats}");
    server.stop();
}

fn are_the_limits_of_the_server_those_of_its_framing(backend: Backend) {
    let padded = |len: usize| {
        let mut wire = Vec::new();
        encode_padded(&mut wire, &"x".repeat(len)).unwrap();
        wire
    };
    let server = Running::start(move || {
        builder(backend).limits(small()).build_with(Padded::default(), echo)
    });
    for (len, is_taken) in [(100, true), (101, false), (5_000, false)] {
        let mut peer = server.connect();
        peer.send(&padded(len));
        peer.finish();
        let mut reply = Vec::new();
        // What is behind the fault may have come too late to be read.
        let _ = std::io::Read::read_to_end(&mut peer.stream, &mut reply);
        assert_eq!(reply == vec![b'x'; len], is_taken, "{len} bytes");
        assert_eq!(reply.starts_with(b"Error: "), !is_taken, "{len} bytes");
    }
    assert_eq!(server.stop().faults_of(Fault::TextTooLong), 2);
    // The same the other way round: what the framing was made with does not bind the server.
    let framing = JsonHeader::new(DecodeLimits { max_header_len: 200, max_content_len: 10 });
    let server = Running::start(move || builder(backend).build_with(framing, echo));
    let mut peer = server.connect();
    let message = of_length(5_000);
    assert_eq!(peer.ask(&message).as_message().bytes(), message);
    drop(peer);
    server.stop();
}

fn are_limits_kept_that_a_framing_forgets(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).limits(small()).build_with(Plain::new(Asks::OneMore, false), echo)
    });
    for (len, is_taken) in [(100, true), (101, false), (5_000, false)] {
        let mut message = Vec::new();
        encode(&mut message, &Head::binary("test/bytes"), &vec![7; len]).unwrap();
        let mut peer = server.connect();
        let reply = peer.ask(&message);
        if is_taken {
            assert_eq!(reply.as_message().bytes(), message);
        } else {
            assert_eq!(error_kind(&reply), "ContentTooLong", "{len} bytes");
            peer.wait_for_end();
        }
    }
    let stats = server.stop();
    assert_eq!(stats.faults_of(Fault::ContentTooLong), 2, "{stats}");
}

fn are_limits_kept_that_a_framing_forgets_to_predict_by(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).limits(small()).build_with(Plain::new(Asks::OneMore, true), echo)
    });
    let mut peer = server.connect();
    // One in front, so that the second is no message that came alone.
    let fine = binary(&[7; 100]);
    peer.send(&[&fine[..], &of_length(5_000)].concat());
    assert_eq!(peer.reply().as_message().bytes(), fine);
    assert_eq!(error_kind(&peer.reply()), "ContentTooLong");
    peer.wait_for_end();
    drop(peer);
    server.stop();
}

/// Lines of words. It counts those of each connection, and some are for it alone.
#[derive(Default)]
struct Words {
    /// The bytes that it has looked at.
    looked: Arc<AtomicUsize>,
}

impl Framing for Words {
    type Stream = u32;

    fn decode(
        &mut self,
        lines: &mut u32,
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let Input { bytes, scanned, is_last, answer, .. } = input;
        self.looked.fetch_add(bytes.len() - scanned, Relaxed);
        let (end, len) = match bytes[scanned..].iter().position(|byte| *byte == b'\n') {
            Some(at) => (scanned + at, scanned + at + 1),
            None if is_last => (bytes.len(), bytes.len()),
            None => return Ok(Decoded::More { scanned: bytes.len(), in_content: false }),
        };
        *lines += 1;
        let line = &mut bytes[..end];
        match &*line {
            b"PING" => {
                answer.extend_from_slice(b"PONG\n");
                return Ok(Decoded::Skip(len));
            }
            b"BYE" => {
                answer.extend_from_slice(b"bye\n");
                return Ok(Decoded::End(len));
            }
            b"MORE" => {
                frame.set(0..end, len + 1);
                return Ok(Decoded::Message);
            }
            b"NONE" => {
                frame.set(0..0, 0);
                return Ok(Decoded::Message);
            }
            b"STAY" => return Ok(Decoded::Skip(0)),
            b"WRONG" => return Err(ProtocolError::named("NoWord", "a word is expected")),
            _ => {}
        }
        if let [b'~', masked @ ..] = line {
            masked.iter_mut().for_each(|byte| *byte ^= 1);
        }
        frame.set(0..end, len);
        frame.set_tag(*lines);
        frame.set_content_encoding("utf-8");
        let mut start = 0;
        for word in bytes[..end].split(|byte| *byte == b' ') {
            frame.push_part(start..start + word.len());
            start += word.len() + 1;
        }
        Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::with_headroom(out, 1))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        let header = format!("{}:", mark.content_len(out)?);
        mark.write_header(out, header.as_bytes())?;
        out.push(b'\n');
        Ok(())
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(format!("! {kind}: {text}\n").as_bytes());
        Ok(())
    }
}

/// Answers with the number of the line, and its words.
fn spell(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    let words: Vec<_> = message.parts().map(String::from_utf8_lossy).collect();
    assert_eq!(words.join(" "), message.text()?);
    let text = format!("{} {}", message.tag(), words.join("|"));
    reply.binary("text/plain", text.as_bytes())?;
    Ok(())
}

/// What a server of words answers to `sent`, when that is all.
fn answers(backend: Backend, sent: &[u8]) -> (String, Stats) {
    let server = Running::start(move || builder(backend).build_with(Words::default(), spell));
    let mut peer = server.connect();
    peer.send(sent);
    peer.finish();
    let mut answers = String::new();
    peer.stream.read_to_string(&mut answers).unwrap();
    (answers, server.stop())
}

fn is_what_a_framing_finds_told_to_the_handler(backend: Backend) {
    let (said, stats) = answers(backend, b"one two\n~unmasked\na word of more than nine\n");
    assert_eq!(said, "9:1 one|two\n11:2 ~tol\u{60}rjde\n26:3 a|word|of|more|than|nine\n");
    assert_eq!(stats.messages, 3);
}

fn is_what_a_framing_keeps_of_a_connection_its_own(backend: Backend) {
    let server = Running::start(move || builder(backend).build_with(Words::default(), spell));
    let mut peers = [server.connect(), server.connect()];
    for nth in 1..=3 {
        for peer in &mut peers {
            peer.send(b"x\n");
            let mut answer = [0; 6];
            peer.stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *format!("3:{nth} x\n").as_bytes());
        }
    }
    drop(peers);
    server.stop();
}

fn does_a_framing_answer_and_end_by_itself(backend: Backend) {
    let (said, stats) = answers(backend, b"a\nPING\nb\nBYE\nPING\nc\n");
    assert_eq!(said, "3:1 a\nPONG\n3:3 b\nbye\n");
    assert_eq!((stats.messages, stats.closed_for(Cause::Peer)), (2, 1), "{stats}");
    // A peer that pings without end gets no more than its share of a turn.
    let (said, stats) = answers(backend, &b"PING\n".repeat(5_000));
    assert_eq!(said, "PONG\n".repeat(5_000));
    assert_eq!((stats.messages, stats.discarded_in), (0, 0));
}

fn is_the_rest_at_the_end_of_a_stream_a_message(backend: Backend) {
    let (said, stats) = answers(backend, b"whole\nthe rest");
    assert_eq!(said, "7:1 whole\n10:2 the|rest\n");
    assert_eq!((stats.truncated, stats.discarded_in), (0, 0), "{stats}");
}

fn is_each_byte_of_a_line_looked_at_once(backend: Backend) {
    let framing = Words::default();
    let looked = Arc::clone(&framing.looked);
    let mut server = builder(backend).build_with(framing, spell).unwrap();
    let mut peer = connect(&server);
    run_until(&mut server, |stats| stats.open == 1);
    let line = [&vec![b'x'; 700][..], b"\n"].concat();
    for (nth, byte) in line.iter().enumerate() {
        peer.send(&[*byte]);
        run_until(&mut server, |stats| stats.bytes_in == nth as u64 + 1);
    }
    run_until(&mut server, |stats| stats.messages == 1);
    assert_eq!(looked.load(Relaxed), line.len());
}

fn is_a_framing_that_claims_what_is_not_there_stopped(backend: Backend) {
    for lie in ["MORE", "NONE", "STAY"] {
        let (said, stats) = answers(backend, format!("{lie}\n").as_bytes());
        assert!(said.starts_with("! FramingBroken: "), "{lie}: {said}");
        assert_eq!((stats.messages, stats.closed_for(Cause::Fault)), (0, 1), "{lie}: {stats}");
    }
}

fn does_a_fault_have_the_name_that_the_framing_gives(backend: Backend) {
    let (said, stats) = answers(backend, b"fine\nWRONG\n");
    assert_eq!(said, "6:1 fine\n! NoWord: a word is expected\n");
    assert_eq!(stats.faults_of(Fault::Named), 1, "{stats}");
}
