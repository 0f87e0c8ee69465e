//! Does what is pushed arrive in order and whole, and does it cost others nothing?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use common::{
    PATIENCE, Peer, Running, Telling, binary, builder, number_of, numbered, on_every_backend,
};
use myriapod::{
    Backend, Cause, ConnectionId, GroupWatch, HandlerResult, Limits, Message, Outgoing, Overflow,
    Reply,
};

on_every_backend! {
    does_a_push_reach_its_connection_in_order,
    are_pushes_and_replies_both_whole_and_in_order,
    does_a_push_to_a_connection_that_is_gone_count_as_missed,
    does_a_broadcast_reach_the_members_of_its_group_only,
    do_broadcasts_keep_their_order,
    is_a_watch_told_of_groups_and_broadcasts,
    does_a_group_go_with_its_last_member,
    does_a_broadcast_go_on_while_members_come_and_go,
    is_another_connection_served_during_a_large_broadcast,
    does_dropping_the_newest_keep_the_oldest,
    does_dropping_the_oldest_keep_the_newest,
    does_a_push_that_cannot_fit_drop_no_other,
    does_a_connection_over_its_mark_for_too_long_close,
    are_replies_that_nobody_reads_no_matter_of_pushes,
    does_a_connection_that_reads_in_time_stay,
    is_the_limit_of_all_buffers_kept_by_pushes,
    do_pushes_arrive_while_an_answer_is_due,
    does_close_send_what_is_queued,
    does_a_view_give_a_handle_for_groups,
}

struct Pushing {
    server: Running,
    opened: Receiver<ConnectionId>,
}

impl Pushing {
    fn start(backend: Backend, limits: Limits) -> Self {
        let (tell, opened) = channel();
        let make = move || builder(backend).limits(limits).build(Telling(tell));
        Self { server: Running::start(make), opened }
    }

    fn connect(&self) -> (Peer<TcpStream>, ConnectionId) {
        let peer = self.server.connect();
        (peer, self.opened.recv_timeout(PATIENCE).unwrap())
    }

    fn push(&self, to: ConnectionId, number: u32, len: usize) {
        self.server.handle().send(to, outgoing(number, len)).unwrap();
    }

    /// The loop has done all that was asked of it so far.
    fn catch_up(&self) -> myriapod::Stats {
        let handle = self.server.handle();
        // A busy machine may take longer than it waits.
        let stats = (0..PATIENCE.as_secs()).find_map(|_| handle.stats().ok());
        stats.expect("the loop answers").remove(0)
    }
}

/// A number and bytes behind it, `len` in all.
fn outgoing(number: u32, len: usize) -> Outgoing {
    let mut content = number.to_be_bytes().to_vec();
    content.resize(len.max(4), 7);
    Outgoing::binary("test/push", content)
}

/// The number of a push, or `None` for a reply.
fn push_of(message: &myriapod::protocol::OwnedMessage) -> Option<u32> {
    let message = message.as_message();
    let number = u32::from_be_bytes(*message.content().first_chunk().unwrap());
    (message.content_type() == "test/push").then_some(number)
}

fn does_a_push_reach_its_connection_in_order(backend: Backend) {
    const PUSHES: u32 = 5_000;
    let pushing = Pushing::start(backend, Limits { high_water: 8 << 20, ..Limits::default() });
    let (mut peer, id) = pushing.connect();
    for number in 0..PUSHES {
        pushing.push(id, number, 100);
    }
    for number in 0..PUSHES {
        assert_eq!(push_of(&peer.reply()), Some(number));
    }
    drop(peer);
    let stats = pushing.server.stop();
    assert_eq!((stats.pushes, stats.dropped_pushes), (u64::from(PUSHES), 0), "{stats}");
    // Unless every single item found it asleep, which it cannot have.
    assert!(stats.wakeups < u64::from(PUSHES), "{stats}");
}

fn are_pushes_and_replies_both_whole_and_in_order(backend: Backend) {
    const EACH: u32 = 2_000;
    let pushing = Pushing::start(backend, Limits { high_water: 16 << 20, ..Limits::default() });
    let (mut peer, id) = pushing.connect();
    let mut sender = peer.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        (0..EACH).for_each(|number| sender.write_all(&numbered(number)).unwrap());
    });
    for number in 0..EACH {
        pushing.push(id, number, 3_000);
    }
    let (mut pushes, mut replies) = (0, 0);
    for _ in 0..2 * EACH {
        let message = peer.reply();
        if let Some(number) = push_of(&message) {
            assert_eq!(number, pushes);
            pushes += 1;
        } else {
            assert_eq!(number_of(&message), replies);
            replies += 1;
        }
    }
    sending.join().unwrap();
    drop(peer);
    assert_eq!(pushing.server.stop().dropped_pushes, 0);
}

fn does_a_push_to_a_connection_that_is_gone_count_as_missed(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let handle = pushing.server.handle();
    let (peer, gone) = pushing.connect();
    drop(peer);
    pushing.server.wait_for("the close", |stats| stats.open == 0);
    // In the same place.
    let (mut peer, _) = pushing.connect();
    pushing.push(gone, 1, 10);
    handle.close(gone).unwrap();
    handle.join(gone, "group").unwrap();
    handle.leave(gone, "group").unwrap();
    let stats = pushing.catch_up();
    assert_eq!((stats.missed, stats.pushes, stats.groups), (4, 0, 0), "{stats}");
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    drop(peer);
    pushing.server.stop();
}

fn does_a_broadcast_reach_the_members_of_its_group_only(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let handle = pushing.server.handle();
    let mut peers: Vec<_> = (0..6).map(|_| pushing.connect()).collect();
    for (at, (_, id)) in peers.iter().enumerate() {
        handle.join(*id, if at % 2 == 0 { "even" } else { "odd" }).unwrap();
        handle.join(*id, "all").unwrap();
        // Twice is once.
        handle.join(*id, "all").unwrap();
    }
    handle.leave(peers[4].1, "even").unwrap();
    assert_eq!(pushing.catch_up().groups, 3);
    for (number, group) in [(1, "even"), (2, "odd"), (3, "all"), (4, "nobody's")] {
        handle.broadcast(group, outgoing(number, 10)).unwrap();
    }
    handle.broadcast_all(outgoing(5, 10)).unwrap();
    let expected = [&[1, 3, 5][..], &[2, 3, 5], &[1, 3, 5], &[2, 3, 5], &[3, 5], &[2, 3, 5]];
    for ((peer, _), expected) in peers.iter_mut().zip(expected) {
        for number in expected {
            assert_eq!(push_of(&peer.reply()), Some(*number));
        }
        assert_eq!(number_of(&peer.ask(&numbered(9))), 9, "and nothing else came");
    }
    drop(peers);
    let stats = pushing.server.stop();
    assert_eq!((stats.pushes, stats.groups), (2 + 3 + 6 + 6, 0), "{stats}");
}

/// Writes down what a loop tells of groups.
#[derive(Debug)]
struct Watching(SyncSender<String>);

impl GroupWatch for Watching {
    fn first_in(&self, group: &str) {
        self.0.send(format!("+{group}")).unwrap();
        assert_ne!(group, "unlucky", "a panic of the watch ends nothing");
    }

    fn last_out(&self, group: &str) {
        self.0.send(format!("-{group}")).unwrap();
    }

    fn broadcast(&self, group: &str, outgoing: &Outgoing) {
        self.0.send(format!("{group}: {} bytes", outgoing.content().len())).unwrap();
    }
}

fn is_a_watch_told_of_groups_and_broadcasts(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let handle = pushing.server.handle();
    let (mut one, first) = pushing.connect();
    let (two, second) = pushing.connect();
    handle.join(first, "before").unwrap();
    let (tell, told) = sync_channel(100);
    assert!(handle.watch_groups(Arc::new(Watching(tell.clone()))).unwrap());
    assert!(!handle.watch_groups(Arc::new(Watching(tell))).unwrap(), "there is one");
    handle.join(second, "before").unwrap();
    handle.join(second, "after").unwrap();
    handle.leave(second, "after").unwrap();
    handle.join(second, "unlucky").unwrap();
    pushing.catch_up();
    let all: Vec<String> = told.try_iter().collect();
    assert_eq!(all, ["+before", "+after", "-after", "+unlucky"]);
    handle.broadcast("before", outgoing(1, 10)).unwrap();
    handle.broadcast_except("nobody", first, outgoing(2, 20)).unwrap();
    handle.broadcast_here("before", outgoing(3, 30)).unwrap();
    handle.broadcast_all(outgoing(4, 40)).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["before: 10 bytes", "nobody: 20 bytes"]);
    for number in [1, 3, 4] {
        assert_eq!(push_of(&one.reply()), Some(number));
    }
    drop(two);
    pushing.server.wait_for("the close", |stats| stats.open == 1);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "-unlucky");
    drop(one);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "-before");
    assert_eq!(pushing.server.stop().panics, 1);
}

fn do_broadcasts_keep_their_order(backend: Backend) {
    // More than are under way at once.
    const BROADCASTS: u32 = 300;
    let pushing = Pushing::start(backend, Limits::default());
    let handle = pushing.server.handle();
    let mut peers: Vec<_> = (0..20).map(|_| pushing.connect()).collect();
    for (_, id) in &peers {
        handle.join(*id, "group").unwrap();
    }
    for number in 0..BROADCASTS {
        match number % 2 {
            0 => handle.broadcast("group", outgoing(number, 10)).unwrap(),
            _ => handle.broadcast_all(outgoing(number, 10)).unwrap(),
        }
    }
    for (peer, _) in &mut peers {
        for number in 0..BROADCASTS {
            assert_eq!(push_of(&peer.reply()), Some(number));
        }
    }
    drop(peers);
    pushing.server.stop();
}

fn does_a_group_go_with_its_last_member(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let handle = pushing.server.handle();
    for leave in [true, false] {
        let (peer, id) = pushing.connect();
        let (mut last, last_id) = pushing.connect();
        for group in ["one", "two", "three"] {
            handle.join(id, group).unwrap();
        }
        handle.join(last_id, "one").unwrap();
        assert_eq!(pushing.catch_up().groups, 3);
        drop(peer);
        pushing.server.wait_for("the close", |stats| stats.open == 1);
        assert_eq!(pushing.catch_up().groups, 1);
        handle.broadcast("one", outgoing(1, 10)).unwrap();
        assert_eq!(push_of(&last.reply()), Some(1));
        if leave {
            handle.leave(last_id, "one").unwrap();
        } else {
            handle.close(last_id).unwrap();
            last.expect_end();
        }
        drop(last);
        pushing.server.wait_for("the close", |stats| stats.open == 0);
        assert_eq!(pushing.catch_up().groups, 0);
        handle.broadcast("one", outgoing(1, 10)).unwrap();
    }
    assert_eq!(pushing.server.stop().pushes, 2);
}

/// As many as fit below what `select` can watch, with both ends and another test in this process;
/// two broadcasts to them are more than one turn's share.
const MANY: usize = 150;

fn does_a_broadcast_go_on_while_members_come_and_go(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let handle = pushing.server.handle();
    let mut peers: Vec<_> = (0..MANY).map(|_| pushing.connect()).collect();
    for (_, id) in &peers {
        handle.join(*id, "group").unwrap();
    }
    // They take several turns, between which members are closed, leave and join again.
    for number in 0..8_u32 {
        handle.broadcast("group", outgoing(number, 10)).unwrap();
    }
    for (at, (_, id)) in peers.iter().enumerate() {
        match at % 5 {
            1 => handle.close(*id).unwrap(),
            2 => handle.leave(*id, "group").unwrap(),
            3 => {
                handle.leave(*id, "group").unwrap();
                handle.join(*id, "group").unwrap();
            }
            _ => {}
        }
    }
    handle.broadcast("group", outgoing(9, 10)).unwrap();
    for (at, (peer, _)) in peers.iter_mut().enumerate() {
        let mut got = Vec::new();
        if at % 5 == 2 {
            peer.finish();
        }
        while let Some(message) = peer.next() {
            let number = push_of(&message).unwrap();
            assert!(got.last().is_none_or(|last| *last < number), "in order, each once: {got:?}");
            got.push(number);
            if number == 9 {
                break;
            }
        }
        match at % 5 {
            0 | 4 => assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7, 9], "one that stays misses nothing"),
            3 => assert_eq!(got.last(), Some(&9)),
            _ => assert_ne!(got.last(), Some(&9)),
        }
    }
    drop(peers);
    let stats = pushing.server.stop();
    assert_eq!(stats.groups, 0);
}

fn is_another_connection_served_during_a_large_broadcast(backend: Backend) {
    const BROADCASTS: u32 = 200;
    let pushing = Pushing::start(backend, Limits { high_water: 8 << 20, ..Limits::default() });
    let handle = pushing.server.handle();
    let mut peers: Vec<_> = (0..MANY).map(|_| pushing.connect()).collect();
    for (_, id) in &peers {
        handle.join(*id, "group").unwrap();
    }
    let (mut other, _) = pushing.connect();
    let before = other.ask(&numbered(1));
    assert_eq!(number_of(&before), 1);
    for number in 0..BROADCASTS {
        handle.broadcast("group", outgoing(number, 10)).unwrap();
    }
    let all = u64::from(BROADCASTS) * MANY as u64;
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    let pushes = pushing.server.stats().pushes;
    assert!(pushes < all, "it had to wait for all of the {pushes} pushes");
    for (peer, _) in &mut peers {
        for number in 0..BROADCASTS {
            assert_eq!(push_of(&peer.reply()), Some(number));
        }
    }
    drop((peers, other));
    assert_eq!(pushing.server.stop().pushes, all);
}

/// Pushes numbered messages to a peer that does not read, among its own requests, until many have
/// been dropped. Returns how many were pushed, and how many requests were sent.
fn overflow(pushing: &Pushing, peer: &mut Peer<TcpStream>, id: ConnectionId) -> (u32, u32) {
    let (mut pushed, mut asked) = (0, 0);
    while pushing.catch_up().dropped_pushes < 500 {
        for _ in 0..50 {
            pushing.push(id, pushed, 20_000);
            pushed += 1;
        }
        if asked < 20 {
            peer.send(&numbered(asked));
            asked += 1;
        }
    }
    let stats = pushing.catch_up();
    assert!(stats.pool_bytes < 512 << 10, "{} bytes in the pool", stats.pool_bytes);
    (pushed, asked)
}

/// Reads everything, all replies included, until a last push, which must come. Returns the pushes.
fn read_all(
    pushing: &Pushing,
    peer: &mut Peer<TcpStream>,
    id: ConnectionId,
    (pushed, asked): (u32, u32),
) -> Vec<u32> {
    const LAST: u32 = u32::MAX;
    let kept = u64::from(pushed) - pushing.catch_up().dropped_pushes;
    let (mut pushes, mut replies) = (Vec::new(), 0);
    while (pushes.len() as u64) < kept || replies < asked {
        let message = peer.reply();
        if let Some(number) = push_of(&message) {
            pushes.push(number);
        } else {
            assert_eq!(number_of(&message), replies, "no reply is dropped");
            replies += 1;
        }
    }
    pushing.push(id, LAST, 4);
    assert_eq!(push_of(&peer.reply()), Some(LAST), "and nothing else comes");
    assert!(pushes.is_sorted_by(|a, b| a < b), "in order, each once");
    pushes
}

fn does_dropping_the_newest_keep_the_oldest(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let (mut peer, id) = pushing.connect();
    let counts = overflow(&pushing, &mut peer, id);
    let pushes = read_all(&pushing, &mut peer, id, counts);
    // All that the sockets and a queue took before the first was dropped.
    assert!((0..13).eq(pushes[..13].iter().copied()), "{pushes:?}");
    assert_ne!(pushes.last(), Some(&(counts.0 - 1)));
    drop(peer);
    pushing.server.stop();
}

fn does_dropping_the_oldest_keep_the_newest(backend: Backend) {
    let limits = Limits { overflow: Overflow::DropOldest, ..Limits::default() };
    let pushing = Pushing::start(backend, limits);
    let (mut peer, id) = pushing.connect();
    let counts = overflow(&pushing, &mut peer, id);
    let pushes = read_all(&pushing, &mut peer, id, counts);
    // What a queue holds at least.
    let newest = &pushes[pushes.len() - 10..];
    assert!((counts.0 - 10..counts.0).eq(newest.iter().copied()), "{pushes:?}");
    drop(peer);
    pushing.server.stop();
}

fn does_a_push_that_cannot_fit_drop_no_other(backend: Backend) {
    let limits = Limits { overflow: Overflow::DropOldest, ..Limits::default() };
    let pushing = Pushing::start(backend, limits);
    let (mut peer, id) = pushing.connect();
    let (pushed, asked) = overflow(&pushing, &mut peer, id);
    let before = pushing.catch_up().dropped_pushes;
    pushing.push(id, pushed, 300_000);
    assert_eq!(pushing.catch_up().dropped_pushes, before + 1);
    let pushes = read_all(&pushing, &mut peer, id, (pushed + 1, asked));
    assert_eq!(pushes.last(), Some(&(pushed - 1)));
    drop(peer);
    pushing.server.stop();
}

fn does_a_connection_over_its_mark_for_too_long_close(backend: Backend) {
    let overflow = Overflow::CloseAfter(Duration::from_millis(30));
    let pushing = Pushing::start(backend, Limits { overflow, ..Limits::default() });
    let (peer, id) = pushing.connect();
    let (mut other, _) = pushing.connect();
    for number in 0..40 {
        pushing.push(id, number, 1 << 20);
    }
    let closed = |stats: &myriapod::Stats| stats.closed_for(Cause::Overflow) == 1;
    let stats = pushing.server.wait_for("the close", closed);
    assert_eq!((stats.dropped_pushes, stats.pool_bytes), (0, 0), "{stats}");
    assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    drop((peer, other));
    pushing.server.stop();
}

fn are_replies_that_nobody_reads_no_matter_of_pushes(backend: Backend) {
    let limits = Limits {
        overflow: Overflow::CloseAfter(Duration::from_millis(30)),
        write_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Running::start(move || {
        builder(backend).limits(limits).answer(|_, reply| {
            reply.binary("x", &vec![0; 1 << 20])?;
            Ok(())
        })
    });
    let mut peer = server.connect();
    // More than the system's own buffers take.
    for number in 0..40 {
        peer.send(&numbered(number));
    }
    let stats = server.wait_for("the close", |stats| stats.closed.iter().sum::<u64>() == 1);
    assert_eq!(stats.closed_for(Cause::WriteTimeout), 1, "{stats}");
    drop(peer);
    server.stop();
}

fn does_a_connection_that_reads_in_time_stay(backend: Backend) {
    let overflow = Overflow::CloseAfter(PATIENCE);
    let pushing = Pushing::start(backend, Limits { overflow, ..Limits::default() });
    let (mut peer, id) = pushing.connect();
    for number in 0..40 {
        pushing.push(id, number, 1 << 20);
    }
    // A request that comes before the loop has looked at them all is answered before the rest.
    pushing.catch_up();
    peer.send(&numbered(7));
    for number in 0..40 {
        assert_eq!(push_of(&peer.reply()), Some(number));
    }
    assert_eq!(number_of(&peer.reply()), 7);
    drop(peer);
    let stats = pushing.server.stop();
    assert_eq!((stats.closed_for(Cause::Peer), stats.dropped_pushes), (1, 0), "{stats}");
}

fn is_the_limit_of_all_buffers_kept_by_pushes(backend: Backend) {
    let limits = Limits {
        max_content_len: 64 << 10,
        max_buffer_bytes: 2 << 20,
        // Never: only the limit of all buffers ends it.
        overflow: Overflow::CloseAfter(Duration::ZERO),
        ..Limits::default()
    };
    let pushing = Pushing::start(backend, limits);
    let (mut first, id) = pushing.connect();
    let mut pushed = 0;
    while pushing.catch_up().dropped_pushes < 100 {
        (pushed..pushed + 50).for_each(|number| pushing.push(id, number, 20_000));
        pushed += 50;
    }
    let (second, second_id) = pushing.connect();
    let before = pushing.catch_up();
    (0..1_000).for_each(|number| pushing.push(second_id, number, 20_000));
    let after = pushing.catch_up();
    assert!(after.pool_bytes <= 2 << 20, "{} bytes", after.pool_bytes);
    // Its first message that the socket took only a part of found no room for the rest.
    let dropped = after.dropped_pushes > before.dropped_pushes;
    assert!(after.closed_for(Cause::BufferLimit) == 1 || dropped, "{after}");
    drop(second);
    pushing.server.wait_for("the close", |stats| stats.open == 1);
    let kept = pushed - u32::try_from(before.dropped_pushes).unwrap();
    for number in 0..kept {
        assert_eq!(push_of(&first.reply()), Some(number));
    }
    assert_eq!(number_of(&first.ask(&numbered(3))), 3);
    drop(first);
    pushing.server.stop();
}

fn do_pushes_arrive_while_an_answer_is_due(backend: Backend) {
    let (tell, told) = channel();
    let server = Running::start(move || {
        let limits = Limits { high_water: 8 << 20, ..Limits::default() };
        builder(backend).limits(limits).answer(move |_, reply| {
            tell.send(reply.defer()?)?;
            Ok(())
        })
    });
    let mut peer = server.connect();
    peer.send(&numbered(1));
    let deferred = told.recv_timeout(PATIENCE).unwrap();
    let id = deferred.connection();
    for number in 0..3 {
        server.handle().send(id, outgoing(number, 10)).unwrap();
        assert_eq!(push_of(&peer.reply()), Some(number));
    }
    // What is pushed and answered from one thread keeps its order.
    for number in 3..40 {
        server.handle().send(id, outgoing(number, 20_000)).unwrap();
    }
    deferred.json(&"done").unwrap();
    for number in 3..40 {
        assert_eq!(push_of(&peer.reply()), Some(number));
    }
    assert_eq!(peer.reply().as_message().json().unwrap(), "done");
    drop(peer);
    server.stop();
}

fn does_close_send_what_is_queued(backend: Backend) {
    let pushing = Pushing::start(backend, Limits::default());
    let (mut peer, id) = pushing.connect();
    pushing.push(id, 1, 8 << 20);
    pushing.push(id, 2, 10);
    pushing.server.handle().close(id).unwrap();
    pushing.push(id, 3, 10);
    let stats = pushing.catch_up();
    assert_eq!((stats.pushes + stats.dropped_pushes, stats.missed), (2, 1), "{stats}");
    let mut got = vec![push_of(&peer.reply()).unwrap()];
    while let Some(message) = peer.next() {
        got.push(push_of(&message).unwrap());
    }
    assert_eq!(got.len() as u64, stats.pushes);
    drop(peer);
    assert_eq!(pushing.server.stop().closed_for(Cause::Handler), 1);
}

/// The first message puts its sender into a group, each later one goes to the others in it.
fn does_a_view_give_a_handle_for_groups(backend: Backend) {
    let answer = |message: Message<'_>, reply: &mut Reply<'_>| -> HandlerResult {
        let view = reply.view();
        if message.content() == b"join" {
            view.handle().join(view.id(), "room")?;
            reply.echo(&message)?;
        } else {
            view.handle().broadcast_except("room", view.id(), Outgoing::copy_of(&message)?)?;
        }
        Ok(())
    };
    let server = Running::start(move || builder(backend).answer(answer));
    let (mut one, mut other) = (server.connect(), server.connect());
    for peer in [&mut one, &mut other] {
        peer.ask(&binary(b"join"));
    }
    one.send(&numbered(7));
    assert_eq!(number_of(&other.reply()), 7);
    server.shutdown();
    one.expect_end();
    drop((one, other));
    server.stop();
}
