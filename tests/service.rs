//! Is every request answered, once and in order, however its bytes arrive?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod common;

use std::os::unix::net::UnixStream;

use common::{
    PATIENCE, Peer, Random, Running, binary, builder, echo, error_kind, json, number_of, numbered,
    on_every_backend,
};
use myriapod::protocol::{ExtraHeaders, Framing, Head, Raw, encode};
use myriapod::{Backend, Cause, HandlerError, Limits, Message};
use serde_json::json as value;

on_every_backend! {
    are_300_pipelined_requests_in_pieces_answered_in_order,
    are_messages_of_many_sizes_in_pieces_answered_in_order,
    is_a_message_that_comes_byte_by_byte_answered,
    are_many_messages_in_one_segment_answered,
    is_content_of_the_limit_taken_and_a_byte_more_refused,
    are_sizes_around_the_buffers_answered,
    does_a_large_message_between_small_ones_keep_the_order,
    is_empty_content_answered,
    does_a_message_without_reply_leave_the_connection_in_step,
    does_echo_return_further_headers_and_the_byteorder,
    is_an_echo_written_in_the_servers_own_framing,
    does_a_reply_that_closes_end_the_connection_behind_it,
    does_one_shot_close_after_the_first_reply,
    does_one_shot_wait_for_a_reply,
    does_a_handler_error_become_a_reply_and_the_connection_go_on,
    does_a_half_made_reply_vanish_when_the_handler_fails,
    does_a_panic_close_that_connection_alone,
    are_replies_before_a_panic_delivered,
    does_a_panic_of_other_callbacks_close_that_connection_alone,
    is_a_content_fault_answered_and_the_connection_goes_on,
    does_a_half_closed_peer_get_all_its_replies,
    does_a_half_closed_peer_that_reads_late_get_all_its_replies,
    is_a_message_cut_short_by_the_end_counted,
    does_a_peer_that_resets_harm_nobody,
    are_one_way_messages_of_a_peer_that_left_handled,
    are_messages_of_a_peer_that_left_without_waiting_handled,
    is_a_unix_socket_served_and_its_file_removed,
    is_ipv6_served,
    are_two_listeners_served,
}

/// Sends in pieces of random size from another thread, so that neither side waits for the other.
fn send_in_pieces(peer: &Peer<std::net::TcpStream>, bytes: Vec<u8>, seed: u64) {
    let mut stream = peer.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut random = Random(seed);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let largest = [3, 40, 700, 9000][random.below(4)];
            let (piece, later) = rest.split_at((1 + random.below(largest)).min(rest.len()));
            std::io::Write::write_all(&mut stream, piece).unwrap();
            rest = later;
            if random.below(4) == 0 {
                std::thread::yield_now();
            }
        }
    });
}

fn are_300_pipelined_requests_in_pieces_answered_in_order(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    for seed in 0..3 {
        let mut peer = server.connect();
        let requests = (0..300).flat_map(numbered).collect();
        send_in_pieces(&peer, requests, seed);
        for number in 0..300 {
            assert_eq!(number_of(&peer.reply()), number, "seed {seed}");
        }
    }
    let stats = server.stop();
    assert_eq!((stats.messages, stats.replies), (900, 900));
    assert_eq!((stats.truncated, stats.discarded_in, stats.discarded_out), (0, 0, 0));
}

fn are_messages_of_many_sizes_in_pieces_answered_in_order(backend: Backend) {
    // Small marks and a small budget, so that pauses and turns on the ready list mix with all else.
    let limits =
        Limits { high_water: 20_000, low_water: 5_000, messages_per_event: 3, ..Limits::default() };
    let server = Running::echo(backend, limits);
    for seed in 10..13 {
        let mut random = Random(seed);
        let contents: Vec<Vec<u8>> = (0..120)
            .map(|_| {
                let largest = [2, 200, 5_000, 100_000][random.below(4)];
                let len = random.below(largest);
                random.bytes(len)
            })
            .collect();
        let mut peer = server.connect();
        send_in_pieces(&peer, contents.iter().flat_map(|content| binary(content)).collect(), seed);
        for (at, content) in contents.iter().enumerate() {
            assert!(peer.reply().as_message().content() == content, "seed {seed}, message {at}");
        }
    }
    let stats = server.stop();
    assert_eq!((stats.messages, stats.discarded_in, stats.discarded_out), (360, 0, 0));
}

fn is_a_message_that_comes_byte_by_byte_answered(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    for number in [7, 8] {
        for byte in numbered(number) {
            peer.send(&[byte]);
            std::thread::yield_now();
        }
        assert_eq!(number_of(&peer.reply()), number);
    }
    drop(peer);
    assert_eq!(server.stop().messages, 2);
}

fn are_many_messages_in_one_segment_answered(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    let requests: Vec<u8> = (0..400).flat_map(numbered).collect();
    assert!(requests.len() < 64 << 10, "one receive can take it");
    peer.send(&requests);
    for number in 0..400 {
        assert_eq!(number_of(&peer.reply()), number);
    }
    drop(peer);
    server.stop();
}

fn is_content_of_the_limit_taken_and_a_byte_more_refused(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let content = Random(1).bytes(1 << 20);
    let mut peer = server.connect();
    for _ in 0..2 {
        let mut sender = Peer::new(peer.stream.try_clone().unwrap());
        let wire = binary(&content);
        let thread = std::thread::spawn(move || sender.send(&wire));
        assert!(peer.reply().as_message().content() == content);
        thread.join().unwrap();
    }
    let too_much = binary(&vec![0; (1 << 20) + 1]);
    let header = too_much.len() - ((1 << 20) + 1);
    assert_eq!(error_kind(&peer.ask(&too_much[..header])), "ContentTooLong");
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.messages, 2);
    assert_eq!(stats.closed_for(Cause::Fault), 1);
}

fn are_sizes_around_the_buffers_answered(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    let header = binary(&vec![0; 65_536]).len() - 65_536;
    for boundary in [16 << 10, 32 << 10, 64 << 10, 128 << 10] {
        for len in [boundary - header - 1, boundary - header, boundary - header + 1, boundary] {
            for len in [len - 1, len, len + 1] {
                let content = Random(len as u64).bytes(len);
                let wire = binary(&content);
                // The last byte comes alone, and with it the beginning of the next message.
                let next = numbered(5);
                peer.send(&wire[..wire.len() - 1]);
                peer.send(&[&wire[wire.len() - 1..], &next[..1]].concat());
                assert!(peer.reply().as_message().content() == content, "{len} bytes");
                peer.send(&next[1..]);
                assert_eq!(number_of(&peer.reply()), 5);
            }
        }
    }
    drop(peer);
    server.stop();
}

fn does_a_large_message_between_small_ones_keep_the_order(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    let large = Random(3).bytes(300_000);
    let mut wire: Vec<u8> = (0..100).flat_map(numbered).collect();
    wire.extend(binary(&large));
    wire.extend((100..200).flat_map(numbered));
    send_in_pieces(&peer, wire, 99);
    for number in 0..100 {
        assert_eq!(number_of(&peer.reply()), number);
    }
    assert!(peer.reply().as_message().content() == large);
    for number in 100..200 {
        assert_eq!(number_of(&peer.reply()), number);
    }
    drop(peer);
    server.stop();
}

fn is_empty_content_answered(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    let wire = [binary(b""), binary(b""), binary(b"x"), binary(b"")].concat();
    peer.send(&wire);
    for expected in [&b""[..], b"", b"x", b""] {
        assert_eq!(peer.reply().as_message().content(), expected);
    }
    drop(peer);
    server.stop();
}

fn does_a_message_without_reply_leave_the_connection_in_step(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            if message.content() != b"one-way" {
                reply.echo(&message)?;
            }
            Ok(())
        })
    });
    let mut peer = server.connect();
    peer.send(&[binary(b"one-way"), numbered(1), binary(b"one-way"), numbered(2)].concat());
    assert_eq!(number_of(&peer.reply()), 1);
    assert_eq!(number_of(&peer.reply()), 2);
    peer.send(&binary(b"one-way"));
    peer.finish();
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.messages, stats.replies), (5, 2));
}

fn does_echo_return_further_headers_and_the_byteorder(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    for byteorder in [myriapod::protocol::ByteOrder::Big, myriapod::protocol::ByteOrder::Little] {
        let mut extra = ExtraHeaders::new();
        extra.push("request-id", &value!([1, "zwei", null])).unwrap();
        extra.push("käse", &value!({"a": 1.5})).unwrap();
        let head = Head { byteorder, extra: &extra, ..Head::binary("test/x") };
        let mut wire = Vec::new();
        encode(&mut wire, &head, b"abc").unwrap();
        let reply = peer.ask(&wire);
        assert_eq!(reply.as_message().bytes(), wire);
    }
    // A reply behind one with further headers has none.
    assert_eq!(peer.ask(&binary(b"x")).as_message().bytes(), binary(b"x"));
    drop(peer);
    server.stop();
}

fn is_an_echo_written_in_the_servers_own_framing(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            let content = message.content();
            let Ok(Some(frame)) = Raw.find(content) else { panic!("no content") };
            reply.echo(&Message::new(content, &frame))?;
            Ok(())
        })
    });
    let mut peer = server.connect();
    let reply = peer.ask(&json(&value!("knock")));
    let reply = reply.as_message();
    assert_eq!(reply.content_type(), "application/octet-stream");
    assert_eq!(reply.content(), br#""knock""#);
    drop(peer);
    server.stop();
}

fn does_a_reply_that_closes_end_the_connection_behind_it(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            reply.echo(&message)?;
            if message.content() == 1_u32.to_be_bytes() {
                reply.close();
            }
            Ok(())
        })
    });
    let mut peer = server.connect();
    peer.send(&(0..5).flat_map(numbered).collect::<Vec<u8>>());
    assert_eq!(number_of(&peer.reply()), 0);
    assert_eq!(number_of(&peer.reply()), 1);
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.closed_for(Cause::Handler), 1);
    assert_eq!(stats.messages, 2, "what stands behind is not handled");
    assert_eq!(stats.discarded_in, (2..5).map(|n| numbered(n).len() as u64).sum::<u64>());
}

fn does_one_shot_close_after_the_first_reply(backend: Backend) {
    let server = Running::start(move || builder(backend).one_shot(true).answer(echo));
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2)].concat());
    assert_eq!(number_of(&peer.reply()), 1);
    peer.expect_end();
    drop(peer);
    assert_eq!(server.stop().closed_for(Cause::Handler), 1);
}

fn does_one_shot_wait_for_a_reply(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).one_shot(true).answer(|message, reply| match message.content() {
            b"one-way" => Ok(()),
            _ => echo(message, reply),
        })
    });
    let mut peer = server.connect();
    peer.send(&[binary(b"one-way"), numbered(2)].concat());
    assert_eq!(number_of(&peer.reply()), 2);
    peer.expect_end();
    drop(peer);
    server.stop();
}

fn does_a_handler_error_become_a_reply_and_the_connection_go_on(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| match message.content() {
            b"bad" => Err(HandlerError::new("NotFound", "no such thing: \"🐰\"\n")),
            b"io" => Err(std::io::Error::other("disk"))?,
            _ => echo(message, reply),
        })
    });
    let mut peer = server.connect();
    let wire = [binary(b"bad"), numbered(1), binary(b"io"), numbered(2)].concat();
    peer.send(&wire);
    let reply = peer.reply();
    assert_eq!(error_kind(&reply), "NotFound");
    let content = reply.as_message().json().unwrap();
    assert_eq!(content, value!({"result": "Error: no such thing: \"🐰\"\n"}));
    assert_eq!(number_of(&peer.reply()), 1);
    assert_eq!(error_kind(&peer.reply()), "HandlerError");
    assert_eq!(number_of(&peer.reply()), 2);
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.handler_errors, stats.replies, stats.messages), (2, 4, 4));
}

fn does_a_half_made_reply_vanish_when_the_handler_fails(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            reply.header("x-number", &7)?;
            reply.echo(&message)?;
            match message.content() {
                b"fail" => Err(HandlerError::new("Late", "after the reply was made")),
                b"twice" => Ok(reply.json(&1)?),
                b"nan" => Ok(reply.json(&f64::NAN)?),
                _ => Ok(()),
            }
        })
    });
    let mut peer = server.connect();
    peer.send(&[binary(b"fail"), numbered(1), binary(b"twice"), numbered(2)].concat());
    assert_eq!(error_kind(&peer.reply()), "Late");
    assert_eq!(number_of(&peer.reply()), 1);
    let twice = peer.reply();
    assert_eq!(error_kind(&twice), "HandlerError");
    assert_eq!(twice.as_message().header("x-number"), None);
    assert_eq!(number_of(&peer.reply()), 2);
    drop(peer);
    server.stop();
}

/// Panics where the content says so; the default hook would print each.
fn panicking(
    message: myriapod::Message<'_>,
    reply: &mut myriapod::Reply<'_>,
) -> myriapod::HandlerResult {
    if message.content() == b"panic" {
        reply.echo(&message)?;
        std::panic::resume_unwind(Box::new("the handler panics"));
    }
    echo(message, reply)
}

fn does_a_panic_close_that_connection_alone(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(panicking));
    let mut other = server.connect();
    assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    let mut peer = server.connect();
    peer.send(&[binary(b"panic"), numbered(9)].concat());
    peer.expect_end();
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    drop(peer);
    drop(other);
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Panic), stats.replies), (1, 2));
}

fn are_replies_before_a_panic_delivered(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(panicking));
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2), binary(b"panic"), numbered(9)].concat());
    assert_eq!(number_of(&peer.reply()), 1);
    assert_eq!(number_of(&peer.reply()), 2);
    peer.expect_end();
    drop(peer);
    server.stop();
}

/// Panics in the callbacks that no message asks for.
struct Touchy {
    opened: u32,
}

impl myriapod::Handler for Touchy {
    type State = u32;

    fn on_open(&mut self, _: &mut myriapod::View<'_>, _: &myriapod::SocketAddr) -> u32 {
        self.opened += 1;
        if self.opened == 1 {
            std::panic::resume_unwind(Box::new("on_open panics"));
        }
        self.opened
    }

    fn on_message(
        &mut self,
        _: &mut u32,
        message: myriapod::Message<'_>,
        reply: &mut myriapod::Reply<'_>,
    ) -> myriapod::HandlerResult {
        echo(message, reply)
    }

    fn on_close(&mut self, state: u32, _: &mut myriapod::View<'_>, _: Cause) {
        if state == 2 {
            std::panic::resume_unwind(Box::new("on_close panics"));
        }
    }
}

fn does_a_panic_of_other_callbacks_close_that_connection_alone(backend: Backend) {
    let server = Running::start(move || builder(backend).build(Touchy { opened: 0 }));
    let mut first = server.connect();
    first.wait_for_end();
    let mut second = server.connect();
    assert_eq!(number_of(&second.ask(&numbered(2))), 2);
    second.finish();
    second.expect_end();
    let mut third = server.connect();
    assert_eq!(number_of(&third.ask(&numbered(3))), 3);
    drop(third);
    let stats = server.wait_for("all to be closed", |stats| stats.accepted == 3 && stats.open == 0);
    assert_eq!(stats.closed_for(Cause::Panic), 1);
    drop(first);
    drop(second);
    server.stop();
}

fn is_a_content_fault_answered_and_the_connection_goes_on(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            reply.json(&message.json()?)?;
            Ok(())
        })
    });
    let mut peer = server.connect();
    let mut wire = Vec::new();
    let unknown = Head { content_encoding: "klingon", ..Head::json() };
    encode(&mut wire, &Head::json(), b"{\"a\": ").unwrap();
    encode(&mut wire, &Head::json(), b"\"\xff\"").unwrap();
    encode(&mut wire, &unknown, b"1").unwrap();
    wire.extend(json(&value!({"a": 1})));
    peer.send(&wire);
    for kind in ["ContentNotJson", "ContentNotText", "UnknownEncoding"] {
        assert_eq!(error_kind(&peer.reply()), kind);
    }
    assert_eq!(peer.reply().as_message().json().unwrap(), value!({"a": 1}));
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.faults.iter().sum::<u64>(), 3);
    assert_eq!((stats.handler_errors, stats.replies, stats.messages), (0, 4, 4));
}

fn does_a_half_closed_peer_get_all_its_replies(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    // More messages than the budget of one event: some wait on the ready list at the end.
    peer.send(&(0..1000).flat_map(numbered).collect::<Vec<u8>>());
    peer.finish();
    for number in 0..1000 {
        assert_eq!(number_of(&peer.reply()), number);
    }
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.closed_for(Cause::Peer), 1);
    assert_eq!((stats.truncated, stats.discarded_in, stats.discarded_out), (0, 0, 0));
}

fn does_a_half_closed_peer_that_reads_late_get_all_its_replies(backend: Backend) {
    let limits = Limits { high_water: 100_000, low_water: 10_000, ..Limits::default() };
    let server = Running::start(move || {
        builder(backend).limits(limits).answer(|message, reply| {
            let mut content = message.content().to_vec();
            content.resize(50_000, 7);
            Ok(reply.binary("test/large", &content)?)
        })
    });
    let mut peer = server.connect();
    peer.send(&(0..300).flat_map(numbered).collect::<Vec<u8>>());
    peer.finish();
    server.wait_for("a pause", |stats| stats.paused_reads > 0);
    for number in 0..300_u32 {
        let reply = peer.reply();
        let content = reply.as_message().content();
        assert_eq!(content.len(), 50_000);
        assert_eq!(content[..4], number.to_be_bytes());
    }
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.closed_for(Cause::Peer), 1);
    assert_eq!((stats.messages, stats.discarded_out), (300, 0));
}

fn is_a_message_cut_short_by_the_end_counted(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let wire = numbered(1);
    for cut in [1, 2, 50, wire.len() - 1] {
        let mut peer = server.connect();
        peer.send(&[&numbered(0)[..], &wire[..cut]].concat());
        peer.finish();
        assert_eq!(number_of(&peer.reply()), 0);
        peer.expect_end();
    }
    let stats = server.stop();
    assert_eq!((stats.truncated, stats.closed_for(Cause::Peer)), (4, 4));
    assert_eq!(stats.discarded_in, (1 + 2 + 50 + wire.len() - 1) as u64);
}

fn does_a_peer_that_resets_harm_nobody(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let mut other = server.connect();
    for _ in 0..10 {
        let mut peer = server.connect();
        peer.send(&numbered(1));
        // The reply is there and unread when the socket closes: the kernel sends a reset.
        peer.stream.peek(&mut [0]).unwrap();
        peer.send(&numbered(2)[..30]);
        drop(peer);
        assert_eq!(number_of(&other.ask(&numbered(3))), 3);
    }
    drop(other);
    server.wait_for("all to be closed", |stats| stats.accepted == 11 && stats.open == 0);
    server.stop();
}

fn are_one_way_messages_of_a_peer_that_left_handled(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(|_, _| Ok(())));
    let mut peer = server.connect();
    peer.send(&(0..2000).flat_map(numbered).collect::<Vec<u8>>());
    drop(peer);
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    assert_eq!((stats.messages, stats.closed_for(Cause::Peer)), (2000, 1));
    server.stop();
}

fn are_messages_of_a_peer_that_left_without_waiting_handled(backend: Backend) {
    // Its answers find nobody; what it asked for is done all the same.
    let server = Running::echo(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&(0..500).flat_map(numbered).collect::<Vec<u8>>());
    drop(peer);
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    assert_eq!((stats.messages, stats.replies), (500, 500));
    assert_eq!(stats.bytes_out + stats.discarded_out, 500 * numbered(0).len() as u64);
    server.stop();
}

fn is_a_unix_socket_served_and_its_file_removed(backend: Backend) {
    let dir = std::env::temp_dir();
    let path = dir.join(format!("myriapod-service-{}-{backend}", std::process::id()));
    let host = format!("unix:{}", path.display());
    let server = Running::start(move || {
        myriapod::Server::builder().backend(backend).listen(&host, 0).answer(echo)
    });
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peer = Peer::over(stream);
    // Larger than the socket's buffers, so that both sides come to wait.
    let content = Random(1).bytes(700_000);
    let mut sender = peer.stream.try_clone().unwrap();
    let wire = binary(&content);
    let thread = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &wire).unwrap());
    assert!(peer.reply().as_message().content() == content);
    thread.join().unwrap();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
    peer.expect_end();
    drop(peer);
    server.stop();
    assert!(!path.exists(), "the file goes with the server");
}

#[test]
fn is_the_socket_file_of_a_successor_left_alone() {
    let path = std::env::temp_dir().join(format!("myriapod-successor-{}", std::process::id()));
    let host = format!("unix:{}", path.display());
    let start = |host: String| {
        Running::start(move || myriapod::Server::builder().listen(&host, 0).answer(echo))
    };
    let first = start(host.clone());
    std::fs::remove_file(&path).unwrap();
    let second = start(host);
    first.stop();
    assert!(path.exists(), "it is the second one's");
    let mut peer = Peer::over(UnixStream::connect(&path).unwrap());
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    drop(peer);
    second.stop();
    assert!(!path.exists());
}

fn is_ipv6_served(backend: Backend) {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let server = Running::start(move || {
        myriapod::Server::builder().backend(backend).listen("::1", 0).answer(echo)
    });
    let mut peer = server.connect();
    assert_eq!(number_of(&peer.ask(&numbered(6))), 6);
    drop(peer);
    server.stop();
}

fn are_two_listeners_served(backend: Backend) {
    let server = Running::start(move || builder(backend).listen("127.0.0.1", 0).answer(echo));
    let [first, second] = server.addresses() else { panic!("two addresses") };
    assert_ne!(first, second);
    for address in [second, first, second] {
        let stream = std::net::TcpStream::connect(address.to_string()).unwrap();
        assert_eq!(number_of(&Peer::new(stream).ask(&numbered(2))), 2);
    }
    server.stop();
}
