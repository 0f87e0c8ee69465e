//! Does a reply that is made later come as if it had been made at once?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::{
    PATIENCE, Random, Running, binary, builder, error_kind, number_of, numbered, on_every_backend,
};
use myriapod::{
    Backend, Cause, Deferred, DeferredError, HandleError, HandlerError, HandlerResult, Limits,
    Message, Outgoing, Reply, ReplyError, ServerBuilder,
};

on_every_backend! {
    do_deferred_and_immediate_replies_keep_their_order,
    do_answers_from_many_threads_reach_their_requests,
    does_a_deferred_reply_hold_up_its_own_connection_only,
    does_a_large_deferred_reply_arrive_whole,
    is_a_copy_of_a_message_the_message_byte_for_byte,
    is_a_dropped_answer_an_error_reply_and_a_close,
    is_an_answer_that_cannot_be_encoded_one_that_was_dropped,
    is_an_answer_to_a_connection_that_is_gone_counted,
    is_an_answer_to_a_peer_that_left_no_harm,
    does_an_error_after_defer_take_the_place_of_the_answer,
    is_a_second_reply_refused_whichever_is_deferred,
    does_a_peer_that_finished_sending_get_its_answers,
    does_the_idle_timeout_not_run_while_an_answer_is_due,
    does_the_deadline_behind_a_deferred_reply_stand_still,
    does_a_graceful_stop_wait_for_answers,
    does_a_graceful_stop_not_wait_for_ever,
    does_a_one_shot_server_close_after_the_answer,
    does_asking_to_close_close_after_the_answer,
    does_the_answerer_close_after_the_answer,
    does_a_panic_after_defer_close_that_connection_only,
    does_a_hang_up_while_an_answer_is_due_not_spin,
}

/// Odd numbers are answered later, by the thread that gets what is sent here; even ones at once.
fn deferring(
    tell: Sender<(u32, Deferred)>,
) -> impl FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult {
    move |message, reply| {
        let number = u32::from_be_bytes(message.content().try_into()?);
        if number % 2 == 1 {
            tell.send((number, reply.defer()?))?;
        } else {
            reply.echo(&message)?;
        }
        Ok(())
    }
}

type Dues = Receiver<(u32, Deferred)>;

fn start(backend: Backend, limits: Limits) -> (Running, Dues) {
    start_with(move || builder(backend).limits(limits))
}

fn start_with(builder: impl FnOnce() -> ServerBuilder + Send + 'static) -> (Running, Dues) {
    let (tell, told) = channel();
    (Running::start(move || builder().answer(deferring(tell))), told)
}

fn due(dues: &Dues) -> (u32, Deferred) {
    dues.recv_timeout(PATIENCE).expect("a reply is deferred")
}

fn answer((number, deferred): (u32, Deferred)) {
    deferred.binary("test/bytes", number.to_be_bytes().to_vec()).unwrap();
}

fn do_deferred_and_immediate_replies_keep_their_order(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    // Several budgets of messages, in one piece and then split anywhere.
    let mut random = Random(5);
    let numbers: Vec<u32> = (0..300).map(|_| u32::try_from(random.below(1000)).unwrap()).collect();
    let wire: Vec<u8> = numbers.iter().copied().flat_map(numbered).collect();
    let answering = std::thread::spawn(move || dues.iter().for_each(answer));
    peer.send(&wire);
    let replies: Vec<u32> = numbers.iter().map(|_| number_of(&peer.reply())).collect();
    assert_eq!(replies, numbers);
    let mut sender = peer.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(1 + random.below(400)));
            sender.write_all(piece).unwrap();
            rest = later;
        }
    });
    let replies: Vec<u32> = numbers.iter().map(|_| number_of(&peer.reply())).collect();
    assert_eq!(replies, numbers);
    sending.join().unwrap();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.messages, stats.replies, stats.missed), (600, 600, 0), "{stats}");
    answering.join().unwrap();
}

fn do_answers_from_many_threads_reach_their_requests(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for round in 0..5 {
        for (at, peer) in (0_u32..).zip(&mut peers) {
            peer.send(&numbered(round * 100 + 2 * at + 1));
        }
        let mut waiting: Vec<_> = peers.iter().map(|_| due(&dues)).collect();
        // Four threads, each with some of them, the last first.
        std::thread::scope(|scope| {
            while !waiting.is_empty() {
                let some = waiting.split_off(waiting.len() - 5);
                scope.spawn(move || some.into_iter().rev().for_each(answer));
            }
        });
        for (at, peer) in (0_u32..).zip(&mut peers) {
            assert_eq!(number_of(&peer.reply()), round * 100 + 2 * at + 1);
        }
    }
    drop(peers);
    assert_eq!(server.stop().missed, 0);
}

fn does_a_deferred_reply_hold_up_its_own_connection_only(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let (mut one, mut other) = (server.connect(), server.connect());
    one.send(&[numbered(1), numbered(2), numbered(4)].concat());
    let first = due(&dues);
    for number in [6, 8, 10] {
        assert_eq!(number_of(&other.ask(&numbered(number))), number);
    }
    // More for the one that waits does not help it.
    one.send(&numbered(12));
    for number in [14, 16] {
        assert_eq!(number_of(&other.ask(&numbered(number))), number);
    }
    // One of the first connection's, five of the other one's.
    let stats = server.wait_for("the last turn", |stats| stats.replies == 5);
    assert_eq!(stats.messages, 6, "{stats}");
    answer(first);
    for number in [1, 2, 4, 12] {
        assert_eq!(number_of(&one.reply()), number);
    }
    drop((one, other));
    server.stop();
}

fn does_a_large_deferred_reply_arrive_whole(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2)].concat());
    let (_, deferred) = due(&dues);
    let content = Random(3).bytes(8 << 20);
    let mut outgoing = Outgoing::binary("test/large", content.clone());
    outgoing.header("request-id", &7).unwrap();
    deferred.send(outgoing).unwrap();
    let reply = peer.reply();
    assert!(reply.as_message().content() == content);
    assert_eq!(reply.as_message().header("request-id"), Some(7.into()));
    assert_eq!(number_of(&peer.reply()), 2);
    drop(peer);
    server.stop();
}

fn is_a_copy_of_a_message_the_message_byte_for_byte(backend: Backend) {
    let copy = |message: Message<'_>, reply: &mut Reply<'_>| -> HandlerResult {
        let deferred = reply.defer()?;
        Ok(deferred.send(Outgoing::copy_of(&message)?)?)
    };
    let server = Running::start(move || builder(backend).answer(copy));
    let mut peer = server.connect();
    let further = br#"{"byteorder": "big", "content-type": "x/y", "content-encoding": "latin-1", "content-length": 2, "b": [1.50], "a": null}"#;
    let mut wire = u16::try_from(further.len()).unwrap().to_be_bytes().to_vec();
    wire.extend([&further[..], b"\xe9\0"].concat());
    for wire in [wire, binary(b""), common::json(&serde_json::json!({ "a": [1] }))] {
        let reply = peer.ask(&wire);
        assert_eq!(
            reply.as_message().bytes().escape_ascii().to_string(),
            wire.escape_ascii().to_string()
        );
    }
    drop(peer);
    server.stop();
}

fn is_a_dropped_answer_an_error_reply_and_a_close(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&[numbered(2), numbered(1), numbered(4)].concat());
    drop(due(&dues));
    assert_eq!(number_of(&peer.reply()), 2);
    assert_eq!(error_kind(&peer.reply()), "Abandoned");
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.closed_for(Cause::Handler), 1, "{stats}");
    assert_eq!(stats.discarded_in, numbered(4).len() as u64);
}

fn is_an_answer_that_cannot_be_encoded_one_that_was_dropped(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let error = due(&dues).1.json(&f64::NAN).unwrap_err();
    assert!(matches!(error, DeferredError::Encode(_)), "{error}");
    assert_eq!(error_kind(&peer.reply()), "Abandoned");
    peer.expect_end();
    // Only the loop sees that a header would be too long.
    let mut peer = server.connect();
    peer.send(&numbered(1));
    due(&dues).1.binary(&"x".repeat(70_000), Vec::new()).unwrap();
    assert_eq!(error_kind(&peer.reply()), "EncodeError");
    assert_eq!(number_of(&peer.ask(&numbered(2))), 2);
    drop(peer);
    server.stop();
}

fn is_an_answer_to_a_connection_that_is_gone_counted(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let first = due(&dues);
    server.handle().close(first.1.connection()).unwrap();
    peer.expect_end();
    drop(peer);
    server.wait_for("the close", |stats| stats.closed_for(Cause::Handler) == 1);
    // The next connection has the same place, and its own answer due.
    let mut next = server.connect();
    next.send(&numbered(3));
    let second = due(&dues);
    answer(first);
    server.wait_for("the count", |stats| stats.missed == 1);
    answer(second);
    assert_eq!(number_of(&next.reply()), 3);
    drop(next);
    server.stop();
}

fn is_an_answer_to_a_peer_that_left_no_harm(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    for number in [1, 3, 5] {
        let mut peer = server.connect();
        // With a reply unread, leaving is a reset.
        peer.send(&[numbered(2), numbered(number), numbered(4)].concat());
        let waiting = due(&dues);
        drop(peer);
        match number {
            1 => answer(waiting),
            3 => drop(waiting),
            _ => waiting.1.binary("test/large", vec![0; 4 << 20]).unwrap(),
        }
    }
    let stats = server.wait_for("all closes", |stats| stats.open == 0 && stats.accepted == 3);
    assert_eq!(stats.missed, 0);
    server.stop();
}

fn does_an_error_after_defer_take_the_place_of_the_answer(backend: Backend) {
    let (tell, told) = channel();
    let server = Running::start(move || {
        builder(backend).answer(move |message, reply| {
            let number = u32::from_be_bytes(message.content().try_into()?);
            tell.send((number, reply.defer()?))?;
            match number {
                1 => Err(HandlerError::new("Unlucky", "after all, no")),
                _ => Ok(()),
            }
        })
    });
    let mut peer = server.connect();
    for in_one_piece in [true, false] {
        let (one, two) = (numbered(1), numbered(2));
        if in_one_piece {
            peer.send(&[one, two].concat());
        } else {
            peer.send(&one);
        }
        assert_eq!(error_kind(&peer.reply()), "Unlucky");
        let late = due(&told);
        if !in_one_piece {
            peer.send(&numbered(2));
        }
        let second = due(&told);
        // It is not taken for the answer to the second.
        answer(late);
        answer(second);
        assert_eq!(number_of(&peer.reply()), 2);
    }
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.missed, stats.handler_errors, stats.replies), (2, 2, 4), "{stats}");
}

fn is_a_second_reply_refused_whichever_is_deferred(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            if message.content() == b"reply first" {
                reply.echo(&message)?;
                assert!(matches!(reply.defer(), Err(ReplyError::AlreadyReplied)));
                return Ok(());
            }
            let deferred = reply.defer()?;
            assert!(matches!(reply.defer(), Err(ReplyError::AlreadyReplied)));
            assert!(matches!(reply.json(&1), Err(ReplyError::AlreadyReplied)));
            assert!(matches!(reply.echo(&message), Err(ReplyError::AlreadyReplied)));
            assert!(matches!(reply.binary("a/b", b""), Err(ReplyError::AlreadyReplied)));
            assert!(reply.encoded().is_empty());
            deferred.json(&"the only one")?;
            Ok(())
        })
    });
    let mut peer = server.connect();
    for _ in 0..2 {
        let reply = peer.ask(&binary(b"defer first"));
        assert_eq!(reply.as_message().json().unwrap(), "the only one");
        assert_eq!(peer.ask(&binary(b"reply first")).as_message().content(), b"reply first");
    }
    drop(peer);
    assert_eq!(server.stop().replies, 4);
}

fn does_a_peer_that_finished_sending_get_its_answers(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2), numbered(3), numbered(4)].concat());
    peer.finish();
    answer(due(&dues));
    let last = due(&dues);
    assert_eq!(number_of(&peer.reply()), 1);
    assert_eq!(number_of(&peer.reply()), 2);
    answer(last);
    assert_eq!(number_of(&peer.reply()), 3);
    assert_eq!(number_of(&peer.reply()), 4);
    peer.expect_end();
    drop(peer);
    // With a part of another message behind it.
    let mut peer = server.connect();
    peer.send(&[&numbered(5)[..], &numbered(6)[..9]].concat());
    peer.finish();
    answer(due(&dues));
    assert_eq!(number_of(&peer.reply()), 5);
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Peer), stats.truncated), (2, 1), "{stats}");
}

fn does_the_idle_timeout_not_run_while_an_answer_is_due(backend: Backend) {
    let limits = Limits { idle_timeout: Duration::from_millis(40), ..Limits::default() };
    let (server, dues) = start(backend, limits);
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let waiting = due(&dues);
    // Two in a row, each of them idle for as long, end meanwhile.
    for _ in 0..2 {
        server.connect().expect_end();
    }
    let stats = server.wait_for("both", |stats| stats.closed_for(Cause::Idle) == 2);
    assert_eq!(stats.open, 1, "{stats}");
    answer(waiting);
    assert_eq!(number_of(&peer.reply()), 1);
    // From now on it runs.
    peer.expect_end();
    assert_eq!(server.stop().closed_for(Cause::Idle), 3);
}

fn does_the_deadline_behind_a_deferred_reply_stand_still(backend: Backend) {
    let limits = Limits { header_timeout: Duration::from_millis(40), ..Limits::default() };
    let (server, dues) = start(backend, limits);
    let (mut slow, mut fast) = (server.connect(), server.connect());
    let (begin, rest) = (&numbered(2)[..9], &numbered(2)[9..]);
    slow.send(&[&numbered(1), begin].concat());
    let of_slow = due(&dues);
    fast.send(&[&numbered(3), begin].concat());
    let of_fast = due(&dues);
    for _ in 0..2 {
        let mut witness = server.connect();
        witness.send(begin);
        witness.expect_end();
    }
    let stats = server.wait_for("both", |stats| stats.closed_for(Cause::HeaderTimeout) == 2);
    assert_eq!(stats.open, 2, "{stats}");
    fast.send(rest);
    answer(of_fast);
    assert_eq!(number_of(&fast.reply()), 3);
    assert_eq!(number_of(&fast.reply()), 2);
    answer(of_slow);
    assert_eq!(number_of(&slow.reply()), 1);
    // Now it is the peer that is late.
    slow.expect_end();
    drop((slow, fast));
    assert_eq!(server.stop().closed_for(Cause::HeaderTimeout), 3);
}

fn does_a_graceful_stop_wait_for_answers(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let (mut peer, mut idle) = (server.connect(), server.connect());
    peer.send(&[numbered(1), numbered(2)].concat());
    let waiting = due(&dues);
    idle.ask(&numbered(2));
    server.shutdown();
    idle.expect_end();
    drop(idle);
    server.wait_for("the idle one's close", |stats| stats.closed_for(Cause::Drained) == 1);
    answer(waiting);
    assert_eq!(number_of(&peer.reply()), 1);
    assert_eq!(number_of(&peer.reply()), 2);
    peer.expect_end();
    drop(peer);
    let stats = server.join();
    assert_eq!(stats.closed_for(Cause::Drained), 2, "{stats}");
}

fn does_a_graceful_stop_not_wait_for_ever(backend: Backend) {
    let limits = Limits { drain_timeout: Duration::from_millis(30), ..Limits::default() };
    let (server, dues) = start(backend, limits);
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let (_, waiting) = due(&dues);
    server.shutdown();
    peer.wait_for_end();
    let stats = server.join();
    assert_eq!(stats.closed_for(Cause::CutOff), 1, "{stats}");
    let error = waiting.json(&1).unwrap_err();
    assert!(matches!(error, DeferredError::Handle(HandleError::Gone)), "{error}");
}

fn does_a_one_shot_server_close_after_the_answer(backend: Backend) {
    let (server, dues) = start_with(move || builder(backend).one_shot(true));
    for wire in [numbered(1), [numbered(1), numbered(2)].concat()] {
        let mut peer = server.connect();
        peer.send(&wire);
        answer(due(&dues));
        assert_eq!(number_of(&peer.reply()), 1);
        peer.expect_end();
    }
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Handler), stats.replies), (2, 2), "{stats}");
}

fn does_asking_to_close_close_after_the_answer(backend: Backend) {
    let (tell, told) = channel();
    let server = Running::start(move || {
        let mut defer = deferring(tell);
        builder(backend).answer(move |message, reply| {
            if message.content() == 1_u32.to_be_bytes() {
                reply.close();
            }
            defer(message, reply)
        })
    });
    let mut other = server.connect();
    for wire in [numbered(1), [numbered(2), numbered(1), numbered(4)].concat()] {
        let mut peer = server.connect();
        peer.send(&wire);
        let waiting = due(&told);
        // It is nobody else's deferral.
        assert_eq!(number_of(&other.ask(&numbered(6))), 6);
        other.send(&numbered(3));
        answer(due(&told));
        assert_eq!(number_of(&other.reply()), 3);
        answer(waiting);
        if wire.len() > numbered(1).len() {
            assert_eq!(number_of(&peer.reply()), 2);
        }
        assert_eq!(number_of(&peer.reply()), 1);
        peer.expect_end();
    }
    drop(other);
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Handler), stats.missed), (2, 0), "{stats}");
}

fn does_the_answerer_close_after_the_answer(backend: Backend) {
    let (server, dues) = start(backend, Limits::default());
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2)].concat());
    let (number, mut deferred) = due(&dues);
    deferred.close();
    answer((number, deferred));
    assert_eq!(number_of(&peer.reply()), 1);
    peer.expect_end();
    drop(peer);
    assert_eq!(server.stop().closed_for(Cause::Handler), 1);
}

fn does_a_panic_after_defer_close_that_connection_only(backend: Backend) {
    let (tell, told) = channel();
    let server = Running::start(move || {
        let mut defer = deferring(tell);
        builder(backend).answer(move |message, reply| {
            defer(message, reply)?;
            assert_ne!(message.content(), 1_u32.to_be_bytes(), "this one panics");
            Ok(())
        })
    });
    let (mut peer, mut other) = (server.connect(), server.connect());
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    peer.send(&numbered(1));
    peer.expect_end();
    drop(peer);
    let late = due(&told);
    other.send(&numbered(3));
    let waiting = due(&told);
    answer(late);
    answer(waiting);
    assert_eq!(number_of(&other.reply()), 3);
    drop(other);
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Panic), stats.missed), (1, 1), "{stats}");
}

fn does_a_hang_up_while_an_answer_is_due_not_spin(backend: Backend) {
    const REQUESTS: u32 = 200;
    let (server, dues) = start(backend, Limits::default());
    let mut waiting = Vec::new();
    for with_unread in [false, true] {
        let mut peer = server.connect();
        let before = if with_unread { numbered(2) } else { Vec::new() };
        peer.send(&[before, numbered(1)].concat());
        waiting.push(due(&dues));
        drop(peer);
    }
    let mut other = server.connect();
    other.ask(&numbered(2));
    let before = server.stats().wakeups;
    for number in 0..REQUESTS {
        other.ask(&numbered(2 * number));
    }
    let wakeups = server.stats().wakeups - before;
    assert!(wakeups < 2 * u64::from(REQUESTS), "{wakeups} wake-ups for {REQUESTS} requests");
    waiting.into_iter().for_each(answer);
    drop(other);
    server.wait_for("all closes", |stats| stats.open == 0);
    server.stop();
}
