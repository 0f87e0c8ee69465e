//! Does each framing by its name find its messages, however their bytes arrive?

#![cfg(all(feature = "json", feature = "encoding"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::Read;
use std::net::TcpStream;

use common::{PATIENCE, Peer, Running, builder, echo};
use myriapod::protocol::{AnyFraming, DecodeLimits, Decoder, Framing, FramingSpec, Head};
use myriapod::{Backend, Limits, Server, Stats};

/// A framing, what comes, the contents in it, and the fault behind them with its place.
type Vector = (&'static str, &'static [u8], &'static [&'static [u8]], Option<(&'static str, u64)>);

const VECTORS: &[Vector] = &[
    ("length:1", b"\x01a\x00\x02bc", &[b"a", b"", b"bc"], None),
    ("length:2be", b"\x00\x02hi\x00\x01", &[b"hi"], None),
    ("length:2le", b"\x02\x00hi\x00\x00", &[b"hi", b""], None),
    ("length:4be", b"\0\0\0\x03abc\0\0\0\x01d", &[b"abc", b"d"], None),
    ("length:4le", b"\x03\0\0\0abc\x65\0\0\0", &[b"abc"], Some(("ContentTooLong", 7))),
    ("length:8be", b"\0\0\0\0\0\0\0\x01a", &[b"a"], None),
    ("length:8le", b"\x01\0\0\0\0\0\0\0a\0\0\0\0\0\0\0\x80", &[b"a"], Some(("ContentTooLong", 9))),
    ("length:4be,inclusive", b"\0\0\0\x07abc\0\0\0\x04", &[b"abc", b""], None),
    ("length:4be,inclusive", b"\0\0\0\x05a\0\0\0\x03", &[b"a"], Some(("LengthTooShort", 5))),
    ("length:2be", b"\x00\x64", &[], None),
    ("length:2be", b"\x00\x65", &[], Some(("ContentTooLong", 0))),
    ("lines", b"one\r\n\ntwo\nthree", &[b"one", b"", b"two", b"three"], None),
    ("lines", b"a\rb\r\r\n\r", &[b"a\rb\r", b"\r"], None),
    ("lines", b"\xff\n", &[b"\xff"], None),
    ("delimited:\\n", b"a\r\nb", &[b"a\r", b"b"], None),
    ("delimited:\\r\\n\\r\\n", b"a\r\n\r\n\r\n\r\nb\r\n\r", &[b"a", b"", b"b\r\n\r"], None),
    ("delimited:aab", b"aaab_aab", &[b"a", b"_"], None),
    (
        "json",
        b"{\"a\": \"}\\\"\"}[1, [2]]\n \"x\"\r\n17 true\tnull",
        &[b"{\"a\": \"}\\\"\"}", b"[1, [2]]", b"\"x\"", b"17", b"true", b"null"],
        None,
    ),
    ("json", b" \n\t\r ", &[], None),
    ("json", b"{}{}\r{}", &[b"{}", b"{}", b"{}"], None),
    ("json", b"\"\\\\\"\"\\u0041\"-1.5e+3", &[b"\"\\\\\"", b"\"\\u0041\"", b"-1.5e+3"], None),
    ("json", b"[1] }", &[b"[1]"], Some(("NotJson", 4))),
    ("json", b"[1] 2,3", &[b"[1]"], Some(("NotJson", 4))),
    ("json", b"{\"open\": [", &[], None),
    ("raw", b"anything", &[b"anything"], None),
    ("padded:width=4", b"5   hello0   ", &[b"hello", b""], None),
    ("padded:width=4", b"0005hello", &[], Some(("LengthNotDecimal", 0))),
    ("padded:width=4", b"101 ", &[], Some(("TextTooLong", 0))),
    ("padded:width=4", b"1   \xff", &[], Some(("TextNotUtf8", 0))),
    ("padded:width=4,bytes", b"1   \xff", &[b"\xff"], None),
    (
        "padded:width=4,lenient",
        b"0005hello   2hi+1  a2\n  hi1\t  b 2  cd",
        &[b"hello", b"hi", b"a", b"hi", b"b", b"cd"],
        None,
    ),
    ("padded:width=4,lenient", b"-1  ", &[], Some(("LengthNotDecimal", 0))),
    ("padded:width=10,replies=padded", b"2         hi", &[b"hi"], None),
    (
        "json-header:lenient",
        b"\0\x14{\"content-length\":2}hi\0\x14{\"Content_Length\":1}!",
        &[b"hi", b"!"],
        None,
    ),
    ("json-header:lenient", b"\0\x02{}", &[], Some(("MissingHeader", 0))),
    (
        "json-header:lenient",
        b"\0\x27{\"content-length\":1,\"Content_Length\":1}",
        &[],
        Some(("DuplicateHeader", 0)),
    ),
    ("json-header:lenient", b"\0\x16{\"content-length\":\"2\"}", &[], Some(("InvalidHeader", 0))),
    ("json-header:lenient,prefix=4be", b"\0\0\0\x14{\"CONTENT-LENGTH\":2}hi", &[b"hi"], None),
    ("json-header:lenient,prefix=2le", b"\x14\0{\"content-length\":0}", &[b""], None),
    (
        "json-header:prefix=4be",
        b"\0\0\0\x14{\"content-length\":2}",
        &[],
        Some(("MissingHeader", 0)),
    ),
    ("json-header:prefix=4le", b"\xff\xff\0\0", &[], Some(("HeaderTooLong", 0))),
];

const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 4096, max_content_len: 100 };

fn framing(spec: &str) -> AnyFraming {
    AnyFraming::new(&spec.parse().unwrap(), LIMITS)
}

#[derive(PartialEq, Debug, Default)]
struct Found {
    contents: Vec<Vec<u8>>,
    fault: Option<(&'static str, u64)>,
}

fn decode<'a>(spec: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
    let mut decoder = Decoder::new(framing(spec));
    let mut found = Found::default();
    let mut look = |decoder: &mut Decoder<AnyFraming>| loop {
        match decoder.next_message() {
            Ok(Some(message)) => found.contents.push(message.content().to_vec()),
            Ok(None) => break,
            Err(error) => {
                found.fault = Some((error.name(), error.offset()));
                break;
            }
        }
    };
    for piece in pieces {
        decoder.feed(piece);
        look(&mut decoder);
    }
    decoder.finish();
    look(&mut decoder);
    if spec == "raw" {
        found.contents = vec![found.contents.concat()];
    }
    found
}

#[test]
fn does_every_split_of_a_vector_give_the_same_messages() {
    for &(spec, wire, contents, fault) in VECTORS {
        let contents = contents.iter().map(|content| content.to_vec()).collect();
        let expected = Found { contents, fault };
        assert_eq!(decode(spec, [wire]), expected, "{spec}: {wire:?}");
        assert_eq!(decode(spec, wire.chunks(1)), expected, "{spec}: {wire:?}, byte by byte");
        for at in 1..wire.len() {
            let (one, two) = wire.split_at(at);
            assert_eq!(decode(spec, [one, two]), expected, "{spec}: {wire:?}, cut at {at}");
        }
    }
}

#[test]
fn does_what_each_framing_writes_come_back() {
    let contents = [&b"[1, 2]"[..], b"{}", b"\"text\""];
    for spec in FramingSpec::ALL {
        let mut wire = Vec::new();
        let mut writer = framing(spec).for_client();
        for content in contents {
            writer.encode(&mut wire, &Head::json(), content).unwrap();
        }
        let found = decode(spec, [&wire[..]]);
        assert_eq!(found.fault, None, "{spec}");
        assert_eq!(found.contents.concat(), contents.concat(), "{spec}");
    }
}

fn run_until(
    server: &mut Server<impl myriapod::Handler, AnyFraming>,
    is_so: impl Fn(&Stats) -> bool,
) {
    while !is_so(&server.stats()) {
        server.event_loop().run_once(Some(PATIENCE)).unwrap();
    }
}

#[test]
fn does_a_server_find_the_same_messages_in_every_split() {
    for &(spec, wire, contents, _) in VECTORS.iter().filter(|(_, _, _, fault)| fault.is_none()) {
        let mut expected = Vec::new();
        for content in contents {
            framing(spec).encode(&mut expected, &Head::binary("x"), content).unwrap();
        }
        if spec.starts_with("json-header") {
            // An echo keeps the type of its message.
            continue;
        }
        let limits = Limits { max_content_len: 100, ..Limits::default() };
        let builder = builder(Backend::native()).limits(limits);
        let mut server = builder.build_with(framing(spec), echo).unwrap();
        for at in [1, wire.len() / 2, wire.len() - 1] {
            let before = server.stats();
            let stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
            let mut peer = Peer::new(stream.try_clone().unwrap());
            for (piece, len) in [(&wire[..at], at), (&wire[at..], wire.len())] {
                peer.send(piece);
                run_until(&mut server, |stats| stats.bytes_in == before.bytes_in + len as u64);
            }
            peer.finish();
            run_until(&mut server, |stats| stats.accepted > before.accepted && stats.open == 0);
            let mut received = Vec::new();
            (&stream).read_to_end(&mut received).unwrap();
            assert_eq!(received, expected, "{spec}: {wire:?}, cut at {at}");
        }
    }
}

#[test]
fn does_each_framing_tell_its_peer_of_a_fault() {
    for (spec, wire, reply) in [
        ("length:1", &b"\xff"[..], &br#"{"status": "error", "error": "ContentTooLong", "#[..]),
        (
            "length:4be,inclusive",
            b"\0\0\0\0",
            br#"{"status": "error", "error": "LengthTooShort", "#,
        ),
        ("json", b"oops", br#"{"status": "error", "error": "NotJson", "#),
        ("lines", &[b'x'; 200], br#"{"status": "error", "error": "ContentTooLong", "#),
        ("padded:width=4,replies=padded", b"oops", b"Error: the length is not a decimal"),
        (
            "json-header:lenient",
            b"\0\x02[]",
            br#"{"status": "error", "error": "HeaderNotObject", "#,
        ),
    ] {
        let limits = Limits { max_content_len: 100, ..Limits::default() };
        let server = Running::start(move || {
            builder(Backend::native()).limits(limits).build_with(framing(spec), echo)
        });
        let stream = TcpStream::connect(server.address()).unwrap();
        let mut peer = Peer::new(stream.try_clone().unwrap());
        peer.send(wire);
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received).unwrap();
        let limits = DecodeLimits::default();
        let mut decoder =
            Decoder::new(AnyFraming::new(&spec.parse().unwrap(), limits).for_client());
        decoder.feed(&received);
        // The server need not wait for this side to close.
        drop((peer, stream));
        let message = decoder.next_message().unwrap().unwrap();
        assert!(message.content().starts_with(reply), "{spec}: {received:?}");
        server.stop();
    }
}

#[test]
fn does_a_message_byte_by_byte_cost_no_more_than_its_length() {
    // Looked through anew with each byte, these would take minutes.
    let text = "x".repeat(60_000);
    for (spec, wire) in [
        ("lines", format!("{text}\n")),
        ("delimited:\\r\\n", format!("{text}\r\n")),
        ("json", format!("[{}]", "[],".repeat(20_000))),
        ("json", format!("\"{text}\"")),
        ("json", format!("[\"{}\"]", "\\\\".repeat(30_000))),
    ] {
        let mut decoder = Decoder::new(spec.parse::<AnyFraming>().unwrap());
        let mut count = 0;
        for byte in wire.as_bytes().chunks(1) {
            decoder.feed(byte);
            count += u32::from(decoder.next_message().unwrap().is_some());
        }
        assert_eq!((count, decoder.rest()), (1, 0), "{spec}");
    }
}

#[test]
fn is_a_json_value_nested_too_deep_refused() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let found = |depth| {
        let mut decoder = Decoder::new("json".parse::<AnyFraming>().unwrap());
        decoder.feed(deep(depth).as_bytes());
        decoder.next_message().map(|message| message.is_some()).map_err(|error| error.name())
    };
    assert_eq!((found(127), found(128)), (Ok(true), Err("NestedTooDeep")));
    let mut decoder = Decoder::new("json".parse::<AnyFraming>().unwrap());
    decoder.feed(deep(127).as_bytes());
    assert!(decoder.next_message().unwrap().unwrap().json().is_ok());
}
