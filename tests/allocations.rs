//! Does a message that arrives whole cost no allocation, once the buffers have grown?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{binary, builder, echo, json, numbered, on_every_backend};
use myriapod::protocol::{ExtraHeaders, Head, encode};
use myriapod::{Backend, HandlerResult, Message, Reply};

on_every_backend! {
    is_an_echo_free_of_allocations,
    is_an_echo_with_further_headers_free_of_allocations,
    is_a_json_reply_free_of_allocations,
    is_reading_json_without_copies_free_of_allocations,
    are_pipelined_messages_free_of_allocations,
    are_varying_lengths_free_of_allocations,
}

/// Runs server and peer on this thread, and counts the allocations of both: the peer makes none.
fn allocations(
    backend: Backend,
    answer: fn(Message<'_>, &mut Reply<'_>) -> HandlerResult,
    requests: &[Vec<u8>],
    replies_to_each: u64,
) -> u64 {
    let mut server = builder(backend).answer(answer).unwrap();
    let mut peers: Vec<_> =
        (0..3).map(|_| TcpStream::connect(server.addresses()[0].to_string()).unwrap()).collect();
    let mut reply = vec![0; 256 << 10];
    let mut replies = 0;
    let mut sent = server.stats().bytes_out;
    let mut one_round = |round: usize| {
        for (peer, request) in peers.iter_mut().zip(requests.iter().cycle().skip(round)) {
            peer.write_all(request).unwrap();
        }
        replies += replies_to_each * 3;
        while server.stats().replies < replies {
            server.event_loop().run_once(Some(Duration::from_secs(60))).unwrap();
        }
        let now = server.stats().bytes_out;
        let mut outstanding = usize::try_from(now - sent).unwrap();
        sent = now;
        for peer in &mut peers {
            let len = peer.read(&mut reply).unwrap();
            outstanding -= len;
        }
        while outstanding > 0 {
            // A segment more, from whichever peer has one.
            for peer in &mut peers {
                peer.set_nonblocking(true).unwrap();
                outstanding -= peer.read(&mut reply).unwrap_or(0);
                peer.set_nonblocking(false).unwrap();
            }
        }
    };
    // The buffers grow first.
    (0..200).for_each(&mut one_round);
    let made = allocation_counter::measure(|| (200..600).for_each(&mut one_round)).count_total;
    assert_eq!(server.stats().handler_errors, 0);
    made
}

fn is_an_echo_free_of_allocations(backend: Backend) {
    assert_eq!(allocations(backend, echo, &[binary(&[7; 100])], 1), 0);
}

fn is_an_echo_with_further_headers_free_of_allocations(backend: Backend) {
    let mut extra = ExtraHeaders::new();
    extra.push("request-id", &12345).unwrap();
    let mut wire = Vec::new();
    encode(&mut wire, &Head { extra: &extra, ..Head::json() }, b"[1]").unwrap();
    assert_eq!(allocations(backend, echo, &[wire], 1), 0);
}

fn is_a_json_reply_free_of_allocations(backend: Backend) {
    fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        reply.header("request-id", &7)?;
        reply.json(&("Follow the white rabbit. 🐰", message.content().len()))?;
        Ok(())
    }
    let request = json(&serde_json::json!({"action": "search", "value": "morpheus"}));
    assert_eq!(allocations(backend, answer, &[request], 1), 0);
}

fn is_reading_json_without_copies_free_of_allocations(backend: Backend) {
    fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        let mut buffer = String::new();
        let (action, value): (&str, &str) = message.json_borrowed(&mut buffer)?;
        assert_eq!((action, value), ("search", "ring"));
        reply.json(value)?;
        Ok(())
    }
    let request = json(&serde_json::json!(["search", "ring"]));
    assert_eq!(allocations(backend, answer, &[request], 1), 0);
}

fn are_pipelined_messages_free_of_allocations(backend: Backend) {
    let requests: Vec<u8> = (0..30).flat_map(numbered).collect();
    assert_eq!(allocations(backend, echo, &[requests], 30), 0);
}

fn are_varying_lengths_free_of_allocations(backend: Backend) {
    // Other digits in the header each time, and two types.
    let requests: Vec<Vec<u8>> = [1, 10, 100, 1000, 2000]
        .into_iter()
        .flat_map(|len| [binary(&vec![1; len]), json(&"x".repeat(len).into())])
        .collect();
    assert_eq!(allocations(backend, echo, &requests, 1), 0);
}

#[test]
fn does_the_counter_count() {
    let made = allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert_eq!(made.count_total, 1);
}
