//! Does each deadline close the connection that it is for, not before its time, and no other?
//!
//! Nothing is asserted about how soon a deadline fires: a loaded machine may be late. That a
//! connection is *not* closed is shown by a second one, opened later, that is.

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{
    Peer, Running, binary, builder, echo, error_kind, number_of, numbered, on_every_backend,
};
use myriapod::protocol::{Head, encode};
use myriapod::{
    Backend, Cause, Handler, HandlerResult, Limits, Message, Outgoing, Reply, Server, SocketAddr,
    Stats, View,
};

on_every_backend! {
    does_an_unfinished_header_time_out,
    does_a_dribbling_peer_time_out,
    does_unfinished_content_time_out,
    does_the_header_deadline_end_with_the_header,
    does_each_message_have_a_header_deadline_of_its_own,
    does_an_idle_connection_time_out,
    does_activity_push_the_idle_deadline_back,
    is_a_slow_upload_not_idle,
    does_a_connection_idle_after_a_long_message_time_out,
    does_a_connection_idle_after_slow_reading_time_out,
    does_a_connection_idle_after_many_messages_time_out,
    does_content_that_comes_too_slowly_end_its_connection,
    does_a_peer_that_reads_too_slowly_end,
    does_a_peer_that_does_not_read_time_out,
    does_a_peer_that_does_not_read_the_last_reply_time_out,
    does_a_deadline_stand_still_while_we_pause,
    does_lingering_end,
    is_no_deadline_pending_where_all_are_off,
    is_every_deadline_announced_to_an_outer_loop,
    does_a_loop_that_stood_still_read_before_it_judges,
    does_a_late_loop_still_close_who_is_late,
    is_a_timer_that_a_slow_handler_sets_not_early,
}

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(3600);

/// No deadline but those that a test sets.
fn off() -> Limits {
    Limits {
        header_timeout: Duration::ZERO,
        content_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        rate_window: Duration::ZERO,
        ..Limits::default()
    }
}

/// Waits for the end of a peer's stream; it must have taken this long since `began`.
fn assert_ends_after(peer: &mut Peer<std::net::TcpStream>, began: Instant, limit: Duration) {
    peer.wait_for_end();
    assert!(began.elapsed() >= limit, "closed after {:?}", began.elapsed());
}

/// All closed connections were closed for this.
fn assert_all_closed_for(stats: &Stats, cause: Cause, count: u64) {
    assert_eq!(stats.closed_for(cause), count, "{stats}");
    assert_eq!(stats.closed.iter().sum::<u64>(), count, "{stats}");
}

fn does_an_unfinished_header_time_out(backend: Backend) {
    let server = Running::echo(backend, Limits { header_timeout: SHORT, ..off() });
    for part in [1, 2, 30] {
        let began = Instant::now();
        let mut peer = server.connect();
        peer.send(&numbered(1)[..part]);
        assert_ends_after(&mut peer, began, SHORT);
    }
    let stats = server.wait_for("the closes", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::HeaderTimeout, 3);
    assert_eq!(stats.discarded_in, 33);
    server.stop();
}

fn does_a_dribbling_peer_time_out(backend: Backend) {
    let server = Running::echo(backend, Limits { header_timeout: SHORT, ..off() });
    let began = Instant::now();
    let mut peer = server.connect();
    peer.send(&[0x0f, 0xff]);
    // Each byte is progress, and none of it counts.
    let mut stream = peer.stream.try_clone().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            while !ended.load(Ordering::Relaxed) && stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    assert_ends_after(&mut peer, began, SHORT);
    ended.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::HeaderTimeout, 1);
    server.stop();
}

fn does_unfinished_content_time_out(backend: Backend) {
    let limits = Limits { header_timeout: LONG, content_timeout: SHORT, ..off() };
    let server = Running::echo(backend, limits);
    let wire = binary(&[0; 1000]);
    for missing in [1, 500, 1000] {
        let began = Instant::now();
        let mut peer = server.connect();
        peer.send(&wire[..wire.len() - missing]);
        assert_ends_after(&mut peer, began, SHORT);
    }
    let stats = server.wait_for("the closes", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::ContentTimeout, 3);
    server.stop();
}

fn does_the_header_deadline_end_with_the_header(backend: Backend) {
    let limits = Limits { header_timeout: SHORT, content_timeout: LONG, ..off() };
    let server = Running::echo(backend, limits);
    let wire = numbered(4);
    let mut uploading = server.connect();
    uploading.send(&wire[..wire.len() - 1]);
    let mut late = server.connect();
    for _ in 0..2 {
        late.send(&wire[..20]);
        late.wait_for_end();
        late = server.connect();
    }
    assert_eq!(number_of(&uploading.ask(&wire[wire.len() - 1..])), 4);
    drop((uploading, late));
    server.stop();
}

fn does_each_message_have_a_header_deadline_of_its_own(backend: Backend) {
    // The beginning of a second message comes in one segment with the end of the first.
    let limits = Limits { header_timeout: SHORT, content_timeout: LONG, ..off() };
    let server = Running::echo(backend, limits);
    let wire = binary(&[6; 100_000]);
    let mut peer = server.connect();
    peer.send(&wire[..60_000]);
    let mut late = server.connect();
    late.send(&wire[..20]);
    late.wait_for_end();
    let began = Instant::now();
    peer.send(&[&wire[60_000..], &wire[..20]].concat());
    assert_eq!(peer.reply().as_message().content().len(), 100_000);
    assert_ends_after(&mut peer, began, SHORT);
    let stats = server.wait_for("the closes", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::HeaderTimeout, 2);
    server.stop();
}

fn does_an_idle_connection_time_out(backend: Backend) {
    let limits = Limits {
        idle_timeout: SHORT,
        header_timeout: LONG,
        content_timeout: LONG,
        write_timeout: LONG,
        ..Limits::default()
    };
    let server = Running::echo(backend, limits);
    let began = Instant::now();
    let mut silent = server.connect();
    let mut peer = server.connect();
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    assert_ends_after(&mut silent, began, SHORT);
    assert_ends_after(&mut peer, began, SHORT);
    let stats = server.wait_for("the closes", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::Idle, 2);
    server.stop();
}

fn does_activity_push_the_idle_deadline_back(backend: Backend) {
    // Longer than a loaded machine holds up a thread.
    let idle = Duration::from_secs(1);
    let server = Running::echo(backend, Limits { idle_timeout: idle, ..off() });
    let mut active = server.connect();
    let mut number = 0;
    let began = Instant::now();
    while began.elapsed() < idle * 5 / 4 {
        assert_eq!(number_of(&active.ask(&numbered(number))), number);
        number += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let last = Instant::now();
    assert_eq!(number_of(&active.ask(&numbered(number))), number);
    assert_ends_after(&mut active, last, idle);
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::Idle, 1);
    server.stop();
}

fn is_a_slow_upload_not_idle(backend: Backend) {
    // Longer than a loaded machine holds up a thread.
    let idle = Duration::from_secs(1);
    let server = Running::echo(backend, Limits { idle_timeout: idle, ..off() });
    let mut peer = server.connect();
    let wire = binary(&[7; 100_000]);
    let (last, upload) = wire.split_last().unwrap();
    let began = Instant::now();
    for piece in upload.chunks(300) {
        peer.send(piece);
        std::thread::sleep(idle * 5 / 4 / 334);
    }
    assert!(began.elapsed() > idle);
    assert_eq!(peer.ask(&[*last]).as_message().content().len(), 100_000);
    drop(peer);
    server.stop();
}

fn does_a_connection_idle_after_a_long_message_time_out(backend: Backend) {
    for timeout in [LONG, Duration::ZERO] {
        let limits = Limits {
            idle_timeout: SHORT,
            header_timeout: timeout,
            content_timeout: timeout,
            write_timeout: timeout,
            rate_window: Duration::ZERO,
            ..Limits::default()
        };
        let server = Running::echo(backend, limits);
        let wire = numbered(1);
        let mut peer = server.connect();
        peer.send(&wire[..wire.len() - 1]);
        if timeout.is_zero() {
            // Nothing else would ever end it.
            peer.wait_for_end();
        } else {
            for _ in 0..2 {
                server.connect().wait_for_end();
            }
            // Its timer stands at the content's deadline by now.
            assert_eq!(number_of(&peer.ask(&wire[wire.len() - 1..])), 1);
            peer.wait_for_end();
        }
        let stats = server.wait_for("the closes", |stats| stats.open == 0);
        assert_eq!(stats.closed_for(Cause::Idle), stats.accepted, "{stats}");
        server.stop();
    }
}

fn does_a_connection_idle_after_slow_reading_time_out(backend: Backend) {
    let limits = Limits {
        idle_timeout: SHORT,
        header_timeout: LONG,
        content_timeout: LONG,
        write_timeout: LONG,
        ..Limits::default()
    };
    let server = Running::start(move || {
        builder(backend)
            .limits(limits)
            .answer(|_, reply| Ok(reply.binary("test/large", &vec![1; 8 << 20])?))
    });
    let mut peer = server.connect();
    peer.send(&numbered(1));
    server.wait_for("a short write", |stats| stats.short_writes == 1);
    for _ in 0..2 {
        server.connect().wait_for_end();
    }
    assert_eq!(peer.reply().as_message().content().len(), 8 << 20);
    peer.wait_for_end();
    let stats = server.wait_for("the closes", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::Idle, 3);
    server.stop();
}

fn does_a_connection_idle_after_many_messages_time_out(backend: Backend) {
    // Whenever the timer fires the connection may be on the ready list.
    let limits = Limits { idle_timeout: SHORT, messages_per_event: 1, ..off() };
    let server = Running::echo(backend, limits);
    let mut peer = server.connect();
    let requests: Vec<u8> = (0..300).flat_map(numbered).collect();
    let began = Instant::now();
    while began.elapsed() < SHORT * 3 {
        peer.send(&requests);
        for number in 0..300 {
            assert_eq!(number_of(&peer.reply()), number);
        }
    }
    peer.wait_for_end();
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::Idle, 1);
    server.stop();
}

fn does_content_that_comes_too_slowly_end_its_connection(backend: Backend) {
    let limits = Limits { min_content_rate: 1 << 20, rate_window: SHORT, ..off() };
    let server = Running::echo(backend, limits);
    let began = Instant::now();
    let mut peer = server.connect();
    let message = common::binary(&vec![1; 200_000]);
    // Enough for the rate, were it measured from the message's beginning.
    peer.send(&message[..150_000]);
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    assert!(began.elapsed() >= SHORT);
    assert_all_closed_for(&stats, Cause::ContentRate, 1);
    peer.wait_for_end();
    server.stop();
}

fn does_a_peer_that_reads_too_slowly_end(backend: Backend) {
    let limits = Limits { min_read_rate: 1 << 20, rate_window: SHORT, ..off() };
    let server = Running::start(move || {
        builder(backend)
            .limits(limits)
            .answer(|_, reply| Ok(reply.binary("test/large", &vec![1; 16 << 20])?))
    });
    let began = Instant::now();
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    // What the system held when the first window began is not known, so that is not judged.
    assert!(began.elapsed() >= SHORT * 2);
    assert_all_closed_for(&stats, Cause::ReadRate, 1);
    assert!(stats.discarded_out > 0);
    peer.wait_for_end();
    server.stop();
}

fn does_a_peer_that_does_not_read_time_out(backend: Backend) {
    let limits = Limits { write_timeout: SHORT, header_timeout: LONG, idle_timeout: LONG, ..off() };
    let server = Running::start(move || {
        builder(backend)
            .limits(limits)
            .answer(|_, reply| Ok(reply.binary("test/large", &vec![1; 16 << 20])?))
    });
    let began = Instant::now();
    let mut peer = server.connect();
    peer.send(&[&numbered(1)[..], &numbered(2), &numbered(3)[..20]].concat());
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    assert!(began.elapsed() >= SHORT);
    assert_all_closed_for(&stats, Cause::WriteTimeout, 1);
    assert!(stats.discarded_out > 0);
    peer.wait_for_end();
    server.stop();
}

fn does_a_peer_that_does_not_read_the_last_reply_time_out(backend: Backend) {
    // The connection is closing already; its cause is known, and only the reply is in the way.
    let server = Running::start(move || {
        builder(backend).limits(Limits { write_timeout: SHORT, ..off() }).answer(|_, reply| {
            reply.close();
            Ok(reply.binary("test/large", &vec![1; 16 << 20])?)
        })
    });
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let stats = server.wait_for("the close", |stats| stats.accepted == 1 && stats.open == 0);
    assert_all_closed_for(&stats, Cause::WriteTimeout, 1);
    peer.wait_for_end();
    server.stop();
}

fn does_a_deadline_stand_still_while_we_pause(backend: Backend) {
    let limit = Duration::from_millis(300);
    let limits = Limits { header_timeout: limit, high_water: 1000, low_water: 500, ..off() };
    let server = Running::start(move || {
        builder(backend)
            .limits(limits)
            .answer(|_, reply| Ok(reply.binary("test/large", &vec![1; 8 << 20])?))
    });
    let mut paused = server.connect();
    let request = numbered(1);
    // Half a message that we hold, and half a message that we have not read.
    paused.send(&[&request[..], &request, &request[..20]].concat());
    server.wait_for("a pause", |stats| stats.paused_reads == 1);
    for _ in 0..2 {
        let mut late = server.connect();
        late.send(&request[..20]);
        late.wait_for_end();
    }
    let stats = server.wait_for("two closes", |stats| stats.open == 1);
    assert_all_closed_for(&stats, Cause::HeaderTimeout, 2);
    let mut wire = Vec::new();
    encode(&mut wire, &Head::binary("test/large"), &vec![1; 8 << 20]).unwrap();
    let mut replies = wire.repeat(2);
    let began = Instant::now();
    // In one go, so that little time is used up by reading.
    paused.stream.read_exact(&mut replies).unwrap();
    assert!(replies == wire.repeat(2));
    // Now it runs again, all of it: none was used up before the pause.
    assert_ends_after(&mut paused, began, limit);
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_all_closed_for(&stats, Cause::HeaderTimeout, 3);
    server.stop();
}

fn does_lingering_end(backend: Backend) {
    let server = Running::echo(backend, Limits { linger_timeout: SHORT, ..off() });
    let began = Instant::now();
    let mut peer = server.connect();
    assert_eq!(error_kind(&peer.ask(b"\x00\x02[]")), "HeaderNotObject");
    peer.expect_end();
    // The peer keeps its side open, and sends now and then.
    peer.send(b"more");
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    // The handler's part is over; the socket is read from until the time is up.
    assert_eq!(stats.lingering, 1);
    let stats = server.wait_for("the end", |stats| stats.lingering == 0);
    assert!(began.elapsed() >= SHORT);
    assert_all_closed_for(&stats, Cause::Fault, 1);
    server.stop();
}

fn is_no_deadline_pending_where_all_are_off(backend: Backend) {
    let mut server = builder(backend).limits(off()).answer(echo).unwrap();
    let address = server.addresses()[0].to_string();
    let connect = || Peer::new(std::net::TcpStream::connect(&address).unwrap());
    let (idle, mut in_header, mut in_content) = (connect(), connect(), connect());
    in_header.send(&numbered(1)[..20]);
    in_content.send(&numbered(1)[..numbered(1).len() - 1]);
    while server.stats().accepted < 3 || server.stats().pool_buffers < 2 {
        server.event_loop().run_once(None).unwrap();
    }
    assert_eq!(server.event_loop().timeout(), None);
    drop((idle, in_header, in_content));
}

fn is_every_deadline_announced_to_an_outer_loop(backend: Backend) {
    let own = |change: fn(&mut Limits, Duration)| {
        let mut limits = off();
        change(&mut limits, LONG);
        limits
    };
    let request = numbered(1);
    let cases: [(Limits, usize); 3] = [
        (own(|limits, long| limits.idle_timeout = long), 0),
        (own(|limits, long| limits.header_timeout = long), 20),
        (own(|limits, long| limits.content_timeout = long), request.len() - 1),
    ];
    for (limits, sent) in cases {
        let mut server = builder(backend).limits(limits).answer(echo).unwrap();
        let address = server.addresses()[0].to_string();
        let mut peer = Peer::new(std::net::TcpStream::connect(&address).unwrap());
        peer.send(&request[..sent]);
        while server.stats().accepted < 1 || server.stats().bytes_in < sent as u64 {
            server.event_loop().run_once(None).unwrap();
        }
        let due = server.event_loop().timeout().expect("a deadline is pending");
        assert!(!due.is_zero() && due <= LONG + Duration::from_millis(20), "{due:?}");
    }
}

/// A server whose only deadline is that of headers, with a peer of whom the first byte is received.
fn with_a_byte(backend: Backend) -> (Server<impl Handler>, Peer<std::net::TcpStream>, Instant) {
    let limits = Limits { header_timeout: SHORT, ..off() };
    let mut server = builder(backend).limits(limits).answer(echo).unwrap();
    let address = server.addresses()[0].to_string();
    let mut peer = Peer::new(std::net::TcpStream::connect(&address).unwrap());
    peer.send(&numbered(1)[..1]);
    let began = Instant::now();
    while server.stats().bytes_in < 1 {
        server.event_loop().run_once(None).unwrap();
    }
    (server, peer, began)
}

/// As if its process were stopped, the loop does not run until this long after `began`.
fn stand_still_until(began: Instant, after: Duration) {
    while began.elapsed() < after {
        std::thread::yield_now();
    }
}

fn does_a_loop_that_stood_still_read_before_it_judges(backend: Backend) {
    let (mut server, mut peer, began) = with_a_byte(backend);
    // After one byte the next receive brings one more: the rest takes several.
    peer.send(&numbered(1)[1..]);
    stand_still_until(began, SHORT + Duration::from_millis(400));
    while server.stats().replies < 1 {
        server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(server.stats().closed_for(Cause::HeaderTimeout), 0, "its message is there");
    }
    assert_eq!(number_of(&peer.reply()), 1);
}

fn does_a_late_loop_still_close_who_is_late(backend: Backend) {
    let (mut server, mut late, began) = with_a_byte(backend);
    stand_still_until(began, SHORT + Duration::from_millis(400));
    while server.stats().open > 0 {
        // A turn is due at once, so this does not wait.
        server.event_loop().run_once(None).unwrap();
    }
    assert_all_closed_for(&server.stats(), Cause::HeaderTimeout, 1);
    late.wait_for_end();
}

/// Works for a while, sets its connection's timer then, and replies when it fires.
struct Slow {
    set: Option<Instant>,
}

impl Handler for Slow {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(&mut self, (): &mut (), _: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        stand_still_until(Instant::now(), SHORT);
        reply.view().set_timer(SHORT);
        self.set = Some(Instant::now());
        Ok(())
    }

    fn on_connection_timer(&mut self, (): &mut (), view: &mut View<'_>) {
        let passed = self.set.take().map(|set| set.elapsed()).unwrap_or_default();
        let passed = u32::try_from(passed.as_millis()).unwrap_or(u32::MAX);
        let push = Outgoing::binary("test", passed.to_be_bytes().to_vec());
        view.push(&push).unwrap();
    }
}

fn is_a_timer_that_a_slow_handler_sets_not_early(backend: Backend) {
    let mut server = builder(backend).limits(off()).build(Slow { set: None }).unwrap();
    let address = server.addresses()[0].to_string();
    let mut peer = Peer::new(std::net::TcpStream::connect(&address).unwrap());
    peer.send(&numbered(1));
    while server.stats().pushes < 1 {
        server.event_loop().run_once(None).unwrap();
    }
    let passed = number_of(&peer.reply());
    assert!(u128::from(passed) >= SHORT.as_millis(), "it fired after {passed} ms");
}
