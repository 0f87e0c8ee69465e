//! A message decoded and encoded, beside `serde_json` alone for the same header.
//!
//! Each figure is of one message; the loop of the framing has seen one like it before, unless its
//! name says otherwise.

use std::hint::black_box;

use iai_callgrind::{library_benchmark, library_benchmark_group, main};
use myriapod::protocol::{
    Decoded, ExtraHeaders, Frame, Framing, Head, Input as Bytes, JsonHeader, Message, encode,
};
use myriapod_micro::{CONTENT, KEYS, MORE_KEYS, UNICODE, long, message};
use serde::{Deserialize, Serialize};

/// A framing, what it has seen, and what it is to look at now.
struct Input {
    /// Boxed, so that returning it to whoever drops it costs nothing.
    framing: Box<JsonHeader>,
    bytes: Vec<u8>,
    answer: Vec<u8>,
}

fn seen(keys: &str, content: &str) -> Input {
    let mut framing = Box::<JsonHeader>::default();
    // Another length of as many digits, as messages of one peer have.
    let len = if content.len() % 10 == 9 { content.len() - 1 } else { content.len() + 1 };
    let _ = framing.find(&message(keys, &" ".repeat(len)));
    Input { framing, bytes: message(keys, content), answer: Vec::new() }
}

fn unseen(keys: &str, content: &str) -> Input {
    Input { framing: Box::default(), bytes: message(keys, content), answer: Vec::new() }
}

/// A header as we write it, with an id.
fn with_id(id: usize) -> Vec<u8> {
    let head = format!("{KEYS}, \"content-length\": {}, \"id\": {id}", CONTENT.len());
    let mut bytes = u16::try_from(head.len() + 2).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(format!("{{{head}}}{CONTENT}").as_bytes());
    bytes
}

/// An id that counts up, so that no two headers are the same.
fn counting() -> Input {
    let mut framing = Box::<JsonHeader>::default();
    for id in 1000..1999 {
        let _ = framing.find(&with_id(id));
    }
    Input { framing, bytes: with_id(1999), answer: Vec::new() }
}

/// A header that repeats, each time behind a hundred of another peer that are all different.
fn beside_different() -> Input {
    let mut input = seen(KEYS, CONTENT);
    for id in 1000..9999 {
        let _ = input.framing.find(&with_id(id));
        if id % 100 == 0 {
            let _ = input.framing.find(&input.bytes);
        }
    }
    input
}

/// By a loop that has seen a long header, but none like this one.
fn never_seen(bytes: Vec<u8>) -> Input {
    let mut framing = Box::<JsonHeader>::default();
    let _ = framing.find(&long(100, |nth| format!("\"other {nth}\":0")));
    Input { framing, bytes, answer: Vec::new() }
}

/// A header of 4 KiB with 400 further keys.
fn keys_400(between: &str) -> Input {
    never_seen(long(400, |nth| format!("\"{nth:x}\":{between}{}", nth % 10)))
}

fn frame(input: &mut Input) -> Frame {
    let mut frame = Frame::new();
    let bytes = Bytes::new(&mut input.bytes, &mut input.answer);
    match input.framing.decode(&mut (), bytes, &mut frame) {
        Ok(Decoded::Message) => frame,
        other => unreachable!("{other:?}"),
    }
}

#[library_benchmark]
#[bench::hit(seen(KEYS, CONTENT))]
#[bench::hit_unicode(seen(KEYS, UNICODE))]
#[bench::hit_extra_headers(seen(MORE_KEYS, CONTENT))]
#[bench::miss(unseen(KEYS, CONTENT))]
#[bench::miss_extra_headers(unseen(MORE_KEYS, CONTENT))]
#[bench::counting_id(counting())]
#[bench::hit_beside_different(beside_different())]
fn decode(mut input: Input) -> (Input, Frame) {
    let frame = frame(black_box(&mut input));
    (input, frame)
}

// Headers of 4 KiB, whose figures are to be divided by their length: first an ordinary one, then
// what a peer could choose to make it dear.
#[library_benchmark]
#[bench::ordinary(keys_400(" "))]
#[bench::compact(keys_400(""))]
#[bench::shortest_keys(never_seen(long(999, |nth| format!("\"{nth:x}\":0"))))]
#[bench::one_string(never_seen(long(1, |_| format!("\"a\":\"{}\"", "x".repeat(3900)))))]
#[bench::unicode(never_seen(long(999, |nth| format!("\"é{nth}\":\"なぞなぞ\""))))]
#[bench::escaped_keys(never_seen(long(999, |nth| format!("\"\\u00e9{nth:x}\":0"))))]
#[bench::escapes(never_seen(long(1, |_| format!("\"a\":\"{}\"", "\\n".repeat(1900)))))]
#[bench::brackets(never_seen(long(1, |_| format!("\"a\":[[]{}]", ",[]".repeat(1300)))))]
#[bench::digits(never_seen(long(1, |_| format!("\"a\":[0{}]", ",1".repeat(1900)))))]
#[bench::near_overflow(never_seen(long(1, |_| format!("\"a\":[0{}]", ",1e308".repeat(650)))))]
#[bench::space(never_seen(long(1, |_| format!("\"a\":{}0", " ".repeat(3900)))))]
#[bench::one_hash_for_two_keys(never_seen(long(999, |nth| match nth {
    0 => "\"bbbbbbbbcccccccc\":0".to_owned(),
    1 => "\"hbaaaaaassL.s<4<\":0".to_owned(),
    _ => format!("\"{nth:x}\":0"),
})))]
fn decode_4_kib(mut input: Input) -> (Input, Frame) {
    let frame = frame(black_box(&mut input));
    (input, frame)
}

#[library_benchmark]
#[bench::key_twice(never_seen(long(999, |nth| format!("\"{:x}\":0", nth % 450))))]
#[bench::no_json(never_seen(long(999, |nth| format!("\"{nth:x}\":{}", if nth == 450 { "x" } else { "0" }))))]
fn refuse_4_kib(mut input: Input) -> (Input, bool) {
    let Input { framing, bytes, answer } = &mut input;
    let mut frame = Frame::new();
    let refused =
        framing.decode(&mut (), Bytes::new(black_box(bytes), answer), &mut frame).is_err();
    (input, refused)
}

#[library_benchmark]
#[bench::plain(seen(KEYS, CONTENT))]
#[bench::unicode(seen(KEYS, UNICODE))]
fn decode_and_parse_content(mut input: Input) -> (Input, Option<serde_json::Value>) {
    let frame = frame(black_box(&mut input));
    let value = Message::new(&input.bytes, &frame).json().ok();
    (input, value)
}

/// The header as `serde_json` alone reads and writes it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Header<'a> {
    byteorder: &'a str,
    content_type: &'a str,
    content_encoding: &'a str,
    content_length: usize,
}

#[library_benchmark]
#[bench::header(message(KEYS, CONTENT))]
#[bench::extra_headers(message(MORE_KEYS, CONTENT))]
fn yardstick_decode_serde_json(bytes: Vec<u8>) -> (Vec<u8>, usize) {
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let header: Header<'_> = serde_json::from_slice(black_box(&bytes[2..2 + len])).unwrap();
    let checked =
        header.byteorder.len() + header.content_type.len() + header.content_encoding.len();
    let end = black_box(checked) - checked + 2 + len + header.content_length;
    (bytes, end)
}

fn room() -> Vec<u8> {
    Vec::with_capacity(4096)
}

fn extra() -> ExtraHeaders {
    let mut extra = ExtraHeaders::new();
    extra.push("request-id", &4711).unwrap();
    extra.push("user", "trinity").unwrap();
    extra
}

#[library_benchmark]
#[bench::plain(room(), ExtraHeaders::new(), CONTENT)]
#[bench::unicode(room(), ExtraHeaders::new(), UNICODE)]
#[bench::extra_headers(room(), extra(), CONTENT)]
fn encode_message(mut out: Vec<u8>, extra: ExtraHeaders, content: &str) -> Vec<u8> {
    let head = Head { extra: &extra, ..Head::json() };
    encode(black_box(&mut out), &head, content.as_bytes()).unwrap();
    out
}

/// A framing that has written such a header before, and room for what it writes now.
fn written(content: &str) -> (JsonHeader, Vec<u8>) {
    let (mut framing, mut out) = (JsonHeader::default(), room());
    framing.encode(&mut out, &Head::json(), content.as_bytes()).unwrap();
    out.clear();
    (framing, out)
}

#[library_benchmark]
#[bench::plain(written(CONTENT), CONTENT)]
#[bench::unicode(written(UNICODE), UNICODE)]
fn encode_from_template(
    (mut framing, mut out): (JsonHeader, Vec<u8>),
    content: &str,
) -> (JsonHeader, Vec<u8>) {
    framing.encode(black_box(&mut out), &Head::json(), content.as_bytes()).unwrap();
    (framing, out)
}

#[library_benchmark]
#[bench::plain(room(), CONTENT)]
fn yardstick_encode_serde_json(mut out: Vec<u8>, content: &str) -> Vec<u8> {
    let header = Header {
        byteorder: "little",
        content_type: "text/json",
        content_encoding: "utf-8",
        content_length: content.len(),
    };
    out.extend_from_slice(&[0, 0]);
    serde_json::to_writer(black_box(&mut out), &header).unwrap();
    let len = u16::try_from(out.len() - 2).unwrap_or_default().to_be_bytes();
    out[..2].copy_from_slice(&len);
    out.extend_from_slice(content.as_bytes());
    out
}

library_benchmark_group!(
    name = messages;
    benchmarks = decode, decode_4_kib, refuse_4_kib, decode_and_parse_content, yardstick_decode_serde_json, encode_from_template, encode_message, yardstick_encode_serde_json
);

main!(library_benchmark_groups = messages);
