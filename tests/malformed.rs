//! Does a peer that breaks the framing get one error reply and an orderly close, and nobody else
//! notice?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::Write;

use common::{
    Peer, Running, binary, builder, echo, error_kind, number_of, numbered, on_every_backend,
};
use myriapod::protocol::{Fault, Head, encode};
use myriapod::{Backend, Cause, Limits};
use serde_json::Value;

on_every_backend! {
    is_every_faulty_vector_answered_with_its_fault,
    is_every_faulty_vector_answered_byte_by_byte,
    is_an_http_request_answered_with_an_error,
    is_a_tls_hello_answered_with_an_error,
    are_good_messages_before_a_fault_answered_first,
    is_a_fault_behind_half_a_message_found,
    is_the_error_reply_never_lost_to_a_reset,
    is_the_error_reply_read_though_the_linger_bound_is_passed,
    is_a_peer_that_never_stops_sending_let_go,
    does_a_fault_wait_behind_unread_replies,
    are_other_connections_unaffected,
    is_an_unfinished_header_no_fault,
    does_a_peer_that_finishes_at_a_fault_get_its_reply,
    does_a_peer_that_resets_while_we_linger_count_as_a_fault,
    is_content_nested_without_end_an_error_of_its_message_alone,
}

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("vectors/messages.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn limits_of(vector: &Value) -> Limits {
    let mut limits = Limits::default();
    let number = |key: &str| vector["limits"][key].as_u64().map(|n| usize::try_from(n).unwrap());
    if let Some(len) = number("max_header_len") {
        limits.max_header_len = len;
    }
    if let Some(len) = number("max_content_len") {
        limits.max_content_len = len;
    }
    limits
}

/// Answers JSON with its value and anything else with itself, so that faults of a content show.
fn strict(
    message: myriapod::Message<'_>,
    reply: &mut myriapod::Reply<'_>,
) -> myriapod::HandlerResult {
    if message.is_json() {
        reply.json(&message.json()?)?;
        return Ok(());
    }
    echo(message, reply)
}

/// Sends the wire of each faulty vector and reads what comes back.
fn ask_all_faulty_vectors(backend: Backend, send: impl Fn(&mut Peer<std::net::TcpStream>, &[u8])) {
    let ordinary = Running::start(move || builder(backend).answer(strict));
    let mut count = 0;
    let mut framing = 0;
    for vector in vectors() {
        let Some(kind) = vector["error"]["kind"].as_str() else { continue };
        let name = vector["name"].as_str().unwrap();
        count += 1;
        let limits = limits_of(&vector);
        let special = (limits != Limits::default())
            .then(|| Running::start(move || builder(backend).limits(limits).answer(strict)));
        let server = special.as_ref().unwrap_or(&ordinary);
        let fault = Fault::ALL.into_iter().find(|fault| fault.name() == kind).unwrap();
        let mut peer = server.connect();
        send(&mut peer, &unhex(vector["wire"].as_str().unwrap()));
        let mut messages = vector["messages"].as_array().unwrap().len();
        if fault.ends_connection() {
            framing += 1;
            for _ in 0..messages {
                assert_eq!(peer.reply().as_message().header("status"), None, "{name}");
            }
            assert_eq!(error_kind(&peer.reply()), kind, "{name}");
            peer.expect_end();
        } else {
            // The first of its messages is the faulty one; then the connection goes on.
            assert_eq!(error_kind(&peer.reply()), kind, "{name}");
            messages -= 1;
            for _ in 0..messages {
                assert_eq!(peer.reply().as_message().header("status"), None, "{name}");
            }
            assert_eq!(number_of(&peer.ask(&numbered(1))), 1, "{name}");
            peer.finish();
            peer.expect_end();
        }
        drop(peer);
        if let Some(server) = special {
            let stats = server.stop();
            assert_eq!(stats.faults_of(fault), 1, "{name}");
        }
    }
    assert!(count > 50 && framing > 35, "{count} faulty vectors, {framing} of the framing");
    let stats = ordinary.stop();
    assert_eq!(stats.faults.iter().sum::<u64>(), count - 2, "two have limits of their own");
    assert_eq!(stats.closed_for(Cause::Fault), framing - 2);
    assert_eq!(stats.discarded_out, 0);
}

fn is_every_faulty_vector_answered_with_its_fault(backend: Backend) {
    ask_all_faulty_vectors(backend, Peer::send);
}

fn is_every_faulty_vector_answered_byte_by_byte(backend: Backend) {
    ask_all_faulty_vectors(backend, |peer, wire| {
        // The server may have closed before the last byte, and then no longer listens.
        for byte in wire {
            if peer.stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
}

/// One error reply of this kind, then the end.
fn assert_refused(server: &Running, wire: &[u8], kind: &str) {
    let mut peer = server.connect();
    assert_eq!(error_kind(&peer.ask(wire)), kind);
    peer.expect_end();
}

fn is_an_http_request_answered_with_an_error(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    // "GE" is a header of 18245 bytes.
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\n\r\n";
    assert_refused(&server, request, "HeaderTooLong");
    assert_refused(&server, &request[..2], "HeaderTooLong");
    assert_eq!(server.stop().closed_for(Cause::Fault), 2);
}

fn is_a_tls_hello_answered_with_an_error(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.resize(517, 0xa5);
    assert_refused(&server, &hello, "HeaderTooLong");
    server.stop();
}

fn are_good_messages_before_a_fault_answered_first(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    // More than the budget of one event, so that the fault is found on the ready list.
    let mut wire: Vec<u8> = (0..200).flat_map(numbered).collect();
    wire.extend(b"\x00\x02[]");
    wire.extend(numbered(999));
    peer.send(&wire);
    for number in 0..200 {
        assert_eq!(number_of(&peer.reply()), number);
    }
    assert_eq!(error_kind(&peer.reply()), "HeaderNotObject");
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.messages, stats.replies), (200, 201));
    assert_eq!(stats.bytes_in, wire.len() as u64);
    let faulty = (4 + numbered(999).len()) as u64;
    assert_eq!(stats.discarded_in, faulty, "the faulty message and what stands behind it");
}

fn is_a_fault_behind_half_a_message_found(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    let large = binary(&vec![1; 200_000]);
    let (first, second) = large.split_at(100_000);
    peer.send(first);
    peer.send(&[second, b"\x00\x04null"].concat());
    assert_eq!(peer.reply().as_message().content().len(), 200_000);
    assert_eq!(error_kind(&peer.reply()), "HeaderNotObject");
    peer.expect_end();
    drop(peer);
    assert_eq!(server.stop().closed_for(Cause::Fault), 1);
}

fn is_the_error_reply_never_lost_to_a_reset(backend: Backend) {
    // Megabytes behind the fault, all within the bound of the linger.
    let limits = Limits { linger_bytes: 16 << 20, ..Limits::default() };
    let server = Running::echo(backend, limits);
    let behind = vec![b'x'; 4 << 20];
    for _ in 0..3 {
        let mut peer = server.connect();
        peer.send(b"\x00\x02[]");
        // All of it is written before anything is read; a reset would fail this.
        peer.send(&behind);
        peer.finish();
        assert_eq!(error_kind(&peer.reply()), "HeaderNotObject");
        peer.expect_end();
    }
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Fault), stats.closed_for(Cause::Error)), (3, 0));
    assert_eq!(stats.discarded_in, 3 * ((4 << 20) + 4), "read and dropped, all of it");
}

fn is_the_error_reply_read_though_the_linger_bound_is_passed(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    let mut sender = peer.stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        // Goes wrong as soon as the server has closed.
        let _ = sender.write_all(b"\x00\x02[]");
        let _ = sender.write_all(&vec![b'x'; 16 << 20]);
    });
    assert_eq!(error_kind(&peer.reply()), "HeaderNotObject");
    thread.join().unwrap();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Fault), stats.closed_for(Cause::Error)), (1, 0));
}

fn is_a_peer_that_never_stops_sending_let_go(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(b"\x00\x02[]");
    let piece = vec![b'x'; 64 << 10];
    while peer.stream.write_all(&piece).is_ok() {}
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_eq!(stats.closed_for(Cause::Fault), 1);
    // One receive with the fault in it, and the bound, in receives of up to 64 KiB.
    assert!(stats.discarded_in <= 3 * (64 << 10), "{} bytes", stats.discarded_in);
    server.stop();
}

fn does_a_fault_wait_behind_unread_replies(backend: Backend) {
    // The replies do not fit into the socket; the error reply comes behind all of them.
    let server = Running::start(move || {
        builder(backend).answer(|_, reply| Ok(reply.binary("test/large", &vec![3; 4 << 20])?))
    });
    let mut peer = server.connect();
    peer.send(&[&numbered(1)[..], b"\x00\x02[]"].concat());
    server.wait_for("a short write", |stats| stats.short_writes > 0);
    assert_eq!(peer.reply().as_message().content().len(), 4 << 20);
    assert_eq!(error_kind(&peer.reply()), "HeaderNotObject");
    peer.expect_end();
    drop(peer);
    server.stop();
}

fn are_other_connections_unaffected(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut others: Vec<_> = (0..5).map(|_| server.connect()).collect();
    let request = numbered(77);
    let (first, second) = request.split_at(60);
    for other in &mut others {
        other.send(first);
    }
    for wire in [&b"\x00\x00"[..], b"\x00\x02[]", b"\x00\x02\xff\xff", b"\xff\xff"] {
        let mut peer = server.connect();
        let _ = peer.ask(wire);
        peer.expect_end();
    }
    for other in &mut others {
        assert_eq!(number_of(&other.ask(second)), 77);
    }
    drop(others);
    server.stop();
}

fn is_an_unfinished_header_no_fault(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(b"\x00\x64{\"byteorder\": \"big\"");
    peer.finish();
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.truncated, stats.faults.iter().sum::<u64>()), (1, 0));
}

fn does_a_peer_that_finishes_at_a_fault_get_its_reply(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&[&numbered(3)[..], b"\x00\x02[]"].concat());
    peer.finish();
    assert_eq!(number_of(&peer.reply()), 3);
    assert_eq!(error_kind(&peer.reply()), "HeaderNotObject");
    peer.expect_end();
    drop(peer);
    assert_eq!(server.stop().closed_for(Cause::Fault), 1);
}

fn does_a_peer_that_resets_while_we_linger_count_as_a_fault(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(b"\x00\x02[]");
    // Closing with the reply unread makes the kernel send a reset.
    peer.stream.peek(&mut [0]).unwrap();
    drop(peer);
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    assert_eq!((stats.closed_for(Cause::Fault), stats.closed_for(Cause::Error)), (1, 0));
    server.stop();
}

fn is_content_nested_without_end_an_error_of_its_message_alone(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(strict));
    let mut peer = server.connect();
    let mut wire = Vec::new();
    for content in ["[".repeat(1 << 19), "{\"a\":".repeat(100_000)] {
        wire.clear();
        encode(&mut wire, &Head::json(), content.as_bytes()).unwrap();
        assert_eq!(error_kind(&peer.ask(&wire)), "ContentNotJson");
    }
    // A fault of the content alone: the connection goes on.
    wire.clear();
    encode(&mut wire, &Head::json(), b"[[1]]").unwrap();
    assert_eq!(peer.ask(&wire).as_message().content(), b"[[1]]");
    drop(peer);
    assert_eq!(server.stop().faults_of(Fault::ContentNotJson), 2);
}
