//! Does a peer that does not read hold up or cost anybody but itself, and does it lose anything?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;
#[path = "backpressure/streams.rs"]
mod streams;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{
    Peer, Random, Running, assert_settled, binary, builder, echo, error_kind, in_own_process,
    numbered, on_every_backend,
};
use myriapod::{
    Backend, Cause, ConnectionId, Handler, HandlerResult, Limits, Message, Reply, SocketAddr, View,
    sys,
};

on_every_backend! {
    is_memory_bounded_when_a_peer_never_reads,
    does_a_pause_end_when_the_replies_are_read,
    does_a_pause_end_at_the_low_water_mark_and_not_later,
    are_messages_left_in_the_buffer_at_a_pause_answered_after_it,
    does_a_peer_that_reads_slowly_get_every_reply_in_order,
    is_a_large_reply_delivered_in_short_writes,
    is_a_large_reply_delivered_before_its_connection_closes,
    does_a_peer_that_leaves_with_replies_unread_free_them,
    does_the_oldest_give_way_when_all_buffers_are_full,
    is_the_oldest_refused_where_it_needs_more,
    are_messages_answered_beside_many_that_never_end,
    does_an_announced_length_cost_no_more_than_has_come,
    does_a_reply_over_the_limit_of_buffers_close_one_connection,
    does_a_reply_over_the_limit_leak_nothing,
    does_a_busy_peer_not_delay_another_ones_request,
    does_a_busy_peer_with_a_full_socket_not_delay_another,
    are_one_way_messages_handled_after_replies_fail,
}

/// Each reply is the number of its request and then this many bytes.
fn padded_reply(padding: usize) -> impl FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult {
    let padding = vec![7; padding];
    move |message, reply| {
        reply.binary_with("test/padded", |out| {
            out.append(message.content());
            out.append(&padding);
        })?;
        Ok(())
    }
}

fn number_of_padded(reply: &myriapod::protocol::OwnedMessage) -> u32 {
    u32::from_be_bytes(*reply.as_message().content().first_chunk().unwrap())
}

fn is_memory_bounded_when_a_peer_never_reads(backend: Backend) {
    if !in_own_process(&format!("{backend}::is_memory_bounded_when_a_peer_never_reads")) {
        return;
    }
    // Each request costs little to send, and its reply a thousand times as much to keep.
    const REQUESTS: u32 = 5_000;
    let server = Running::start(move || builder(backend).answer(padded_reply(20_000)));
    let mut peer = server.connect();
    let mut other = server.connect();
    assert_eq!(number_of_padded(&other.ask(&numbered(0))), 0);
    let wire: Vec<u8> = (0..REQUESTS).flat_map(numbered).collect();
    let before = sys::rss_bytes().unwrap();

    let mut sent = peer.stuff(&wire);
    // With the sockets' buffers full the server pauses, whatever their size is.
    let stats = server.wait_for("a pause", |stats| stats.paused_reads > 0);
    assert!(stats.messages < u64::from(REQUESTS));
    for number in 0..100 {
        sent += peer.stuff(&wire[sent..]);
        assert_eq!(number_of_padded(&other.ask(&numbered(number))), number);
    }
    let stats = server.stats();
    // The high-water mark and one reply more, what a receive brought, and the spare capacity.
    assert!(stats.pool_bytes < 1 << 20, "{} bytes in the pool", stats.pool_bytes);
    assert!(stats.pool_buffers <= 3, "{} buffers", stats.pool_buffers);
    let grown = sys::rss_bytes().unwrap().saturating_sub(before);
    assert!(grown < 24 << 20, "grown by {grown} bytes");

    let mut sender = peer.stream.try_clone().unwrap();
    let rest = wire[sent..].to_vec();
    let thread = std::thread::spawn(move || {
        sender.write_all(&rest).unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    for number in 0..REQUESTS {
        assert_eq!(number_of_padded(&peer.reply()), number);
    }
    thread.join().unwrap();
    peer.expect_end();
    drop((peer, other));
    let stats = server.stop();
    assert_eq!((stats.discarded_in, stats.discarded_out), (0, 0));
    assert_eq!(stats.messages, u64::from(REQUESTS) + 101);
}

/// Counts the calls of `on_drained`.
struct Counting<C> {
    answer: C,
    drained: Arc<AtomicU64>,
}

impl<C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult> Handler for Counting<C> {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        (self.answer)(message, reply)
    }

    fn on_drained(&mut self, (): &mut (), _: &mut View<'_>) {
        self.drained.fetch_add(1, Ordering::Relaxed);
    }
}

fn does_a_pause_end_when_the_replies_are_read(backend: Backend) {
    let drained = Arc::new(AtomicU64::new(0));
    let handler_drained = Arc::clone(&drained);
    let limits = Limits { high_water: 10_000, low_water: 2_000, ..Limits::default() };
    let server = Running::start(move || {
        let handler = Counting { answer: padded_reply(300_000), drained: handler_drained };
        builder(backend).limits(limits).build(handler)
    });
    let mut peer = server.connect();
    let mut asked = 0;
    // As many requests as it takes to fill the sockets' buffers, however large they are.
    while server.stats().paused_reads == 0 {
        peer.send(&numbered(asked));
        asked += 1;
        let known = u64::from(asked);
        server.wait_for("the message or a pause", |stats| {
            stats.messages >= known || stats.paused_reads > 0
        });
    }
    // These wait in the kernel until the peer reads.
    let answered = server.stats().messages;
    peer.send(&(asked..asked + 20).flat_map(numbered).collect::<Vec<u8>>());
    asked += 20;
    assert_eq!(server.stats().messages, answered);
    let drained_before = drained.load(Ordering::Relaxed);
    for number in 0..asked {
        assert_eq!(number_of_padded(&peer.reply()), number);
    }
    server.wait_for("the queue to be empty", |stats| stats.pool_buffers == 0);
    assert!(drained.load(Ordering::Relaxed) > drained_before);
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.messages, u64::from(asked));
    assert_eq!((stats.discarded_in, stats.discarded_out), (0, 0));
}

fn does_a_pause_end_at_the_low_water_mark_and_not_later(backend: Backend) {
    // Far apart, and far from nothing, measured by what a socket takes at once.
    let limits = Limits { high_water: 24 << 20, low_water: 16 << 20, ..Limits::default() };
    let mut server = builder(backend).limits(limits).answer(padded_reply(100_000)).unwrap();
    let mut peer =
        Peer::new(std::net::TcpStream::connect(server.addresses()[0].to_string()).unwrap());
    peer.send(&(0..1000).flat_map(numbered).collect::<Vec<u8>>());
    while server.stats().paused_reads == 0 {
        server.event_loop().run_once(None).unwrap();
    }
    let before = server.stats();
    assert!((24 << 20..26 << 20).contains(&before.pool_bytes), "{before}");
    let mut piece = vec![0; 256 << 10];
    let mut queued = before.pool_bytes;
    while server.stats().messages == before.messages {
        queued = server.stats().pool_bytes;
        peer.stream.read_exact(&mut piece).unwrap();
        for _ in 0..3 {
            server.event_loop().run_once(Some(std::time::Duration::ZERO)).unwrap();
        }
    }
    // Half a socket's buffer more or less is what one turn changes.
    assert!((8 << 20..24 << 20).contains(&queued), "resumed at {queued} bytes");
}

fn are_messages_left_in_the_buffer_at_a_pause_answered_after_it(backend: Backend) {
    let limits = Limits { high_water: 1000, low_water: 500, ..Limits::default() };
    let server =
        Running::start(move || builder(backend).limits(limits).answer(padded_reply(8 << 20)));
    let mut peer = server.connect();
    // One receive takes all of them and half of another; the first reply alone makes a pause.
    let last = numbered(3);
    let (first, second) = last.split_at(70);
    peer.send(&[numbered(0), numbered(1), numbered(2), first.to_vec()].concat());
    server.wait_for("a pause", |stats| stats.paused_reads == 1);
    for number in 0..3 {
        let reply = peer.reply();
        assert_eq!(number_of_padded(&reply), number);
        assert_eq!(reply.as_message().content().len(), 4 + (8 << 20));
    }
    peer.send(second);
    assert_eq!(number_of_padded(&peer.reply()), 3);
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.messages, stats.discarded_in, stats.truncated), (4, 0, 0));
}

fn does_a_peer_that_reads_slowly_get_every_reply_in_order(backend: Backend) {
    let limits = Limits { high_water: 30_000, low_water: 10_000, ..Limits::default() };
    let server = Running::start(move || builder(backend).limits(limits).answer(echo));
    let mut peer = server.connect();
    let mut sender = peer.stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let mut random = Random(5);
        for number in 0..600_u32 {
            let mut content = number.to_be_bytes().to_vec();
            content.resize(4 + random.below(20_000), 9);
            sender.write_all(&binary(&content)).unwrap();
        }
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    // Few bytes at a time, so that the server never has much room.
    let mut decoder = myriapod::protocol::Decoder::<myriapod::protocol::JsonHeader>::default();
    let mut random = Random(6);
    let mut next = 0;
    let mut piece = vec![0; 4_000];
    loop {
        let len = 1 + random.below(piece.len());
        let count = peer.stream.read(&mut piece[..len]).unwrap();
        if count == 0 {
            break;
        }
        decoder.feed(&piece[..count]);
        while let Some(message) = decoder.next_message().unwrap() {
            assert_eq!(number_of_padded(&message.to_owned()), next);
            next += 1;
        }
    }
    assert_eq!(next, 600);
    thread.join().unwrap();
    drop(peer);
    server.stop();
}

fn is_a_large_reply_delivered_in_short_writes(backend: Backend) {
    let content = Random(8).bytes(10 << 20);
    let reply_content = content.clone();
    let server = Running::start(move || {
        builder(backend).answer(move |_, reply| Ok(reply.binary("test/large", &reply_content)?))
    });
    let mut peer = server.connect();
    peer.send(&[numbered(1), numbered(2)].concat());
    server.wait_for("a short write", |stats| stats.short_writes > 0);
    for _ in 0..2 {
        assert!(peer.reply().as_message().content() == content);
    }
    drop(peer);
    let stats = server.stop();
    assert_eq!(stats.discarded_out, 0);
}

fn is_a_large_reply_delivered_before_its_connection_closes(backend: Backend) {
    let server = Running::start(move || {
        builder(backend).answer(|message, reply| {
            reply.close();
            padded_reply(10 << 20)(message, reply)
        })
    });
    let mut peer = server.connect();
    // The second request is never handled, and unread input must not cost the reply.
    peer.send(&[numbered(4), numbered(5)].concat());
    server.wait_for("a short write", |stats| stats.short_writes > 0);
    peer.send(&vec![0; 30_000]);
    assert_eq!(peer.reply().as_message().content().len(), 4 + (10 << 20));
    peer.expect_end();
    drop(peer);
    let stats = server.stop();
    assert_eq!((stats.closed_for(Cause::Handler), stats.discarded_out), (1, 0));
}

fn does_a_peer_that_leaves_with_replies_unread_free_them(backend: Backend) {
    let server = Running::start(move || builder(backend).answer(padded_reply(5 << 20)));
    let size = {
        let mut peer = server.connect();
        peer.ask(&numbered(0)).as_message().bytes().len() as u64
    };
    for round in 1..=3 {
        let mut peer = server.connect();
        let before = server.stats().paused_reads;
        peer.send(&(0..4).flat_map(numbered).collect::<Vec<u8>>());
        server.wait_for("a pause", |stats| stats.paused_reads > before);
        drop(peer);
        server.wait_for("the close", |stats| stats.accepted == round + 1 && stats.open == 0);
    }
    let stats = server.stop();
    let encoded = stats.replies * size;
    assert_eq!(stats.bytes_out + stats.discarded_out, encoded, "every byte is accounted for");
}

/// All buffers together hold one message of the largest size, and not two.
fn tight() -> Limits {
    Limits { max_content_len: 200_000, max_buffer_bytes: 250_000, ..Limits::default() }
}

fn does_the_oldest_give_way_when_all_buffers_are_full(backend: Backend) {
    let server = Running::echo(backend, tight());
    let large = binary(&vec![5; 200_000]);
    for round in 1..=3 {
        let (mut first, mut second) = (server.connect(), server.connect());
        let (start, rest) = large.split_at(120_000);
        first.send(start);
        server.wait_for("the first to hold its part", |stats| stats.pool_bytes >= 120_000);
        second.send(&large);
        assert_eq!(second.reply().as_message().content().len(), 200_000);
        assert_eq!(error_kind(&first.reply()), "BufferLimit");
        // What comes for it still is read and dropped.
        first.send(rest);
        first.expect_end();
        drop((first, second));
        let stats = server.wait_for("the close", |stats| stats.open == 0);
        assert_eq!(stats.closed_for(Cause::BufferLimit), round);
        assert_eq!((stats.gave_way, stats.refused_messages), (round, round));
        assert_eq!((stats.pool_bytes, stats.pool_buffers), (0, 0));
    }
    server.stop();
}

fn is_the_oldest_refused_where_it_needs_more(backend: Backend) {
    let server = Running::echo(backend, tight());
    let large = binary(&vec![5; 200_000]);
    for round in 1..=3 {
        let (mut first, mut second) = (server.connect(), server.connect());
        first.send(&large[..100_000]);
        server.wait_for("the first part", |stats| stats.pool_bytes >= 100_000);
        second.send(&large[..60_000]);
        server.wait_for("the second part", |stats| stats.pool_buffers == 2);
        first.send(&large[100_000..190_000]);
        assert_eq!(error_kind(&first.reply()), "BufferLimit");
        first.expect_end();
        second.send(&large[60_000..]);
        assert_eq!(second.reply().as_message().content().len(), 200_000);
        drop((first, second));
        let stats = server.wait_for("the close", |stats| stats.open == 0);
        assert_eq!(stats.closed_for(Cause::BufferLimit), round);
        assert_eq!((stats.gave_way, stats.refused_messages), (0, round));
        assert_eq!((stats.pool_bytes, stats.pool_buffers), (0, 0));
    }
    server.stop();
}

fn are_messages_answered_beside_many_that_never_end(backend: Backend) {
    // Each of those has announced 1 MiB, sent 40 kB, and stopped.
    let limits = Limits { max_buffer_bytes: 4 << 20, ..Limits::default() };
    let server = Running::echo(backend, limits);
    let (whole, large) = (binary(&vec![5; 1 << 20]), binary(&vec![6; 300_000]));
    let mut honest = server.connect();
    let mut unfinished = Vec::new();
    for number in 0..200 {
        let mut peer = server.connect();
        peer.send(&whole[..40_000]);
        unfinished.push(peer);
        if number % 20 == 19 {
            // In two pieces, so that it needs a buffer.
            honest.send(&large[..100]);
            honest.send(&large[100..]);
            assert_eq!(honest.reply().as_message().bytes(), large);
        }
    }
    let stats = server.catch_up();
    assert!(stats.gave_way > 50, "{stats}");
    assert!(stats.pool_bytes <= 4 << 20, "{stats}");
    drop((honest, unfinished));
    server.stop();
}

fn does_an_announced_length_cost_no_more_than_has_come(backend: Backend) {
    let server = Running::echo(backend, Limits::default());
    let whole = binary(&vec![5; 1 << 20]);
    let mut peers: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(&whole[..120]);
    }
    let stats = server.wait_for("their beginnings", |stats| stats.pool_buffers == 50);
    assert!(stats.pool_bytes <= 50 * 4096, "{stats:?}");
    drop(peers);
    server.stop();
}

fn does_a_reply_over_the_limit_of_buffers_close_one_connection(backend: Backend) {
    let server =
        Running::start(move || builder(backend).limits(tight()).answer(padded_reply(60_000)));
    let mut other = server.connect();
    let size = other.ask(&numbered(0)).as_message().bytes().len() as u64;
    for round in 1..=2 {
        // One peer alone stays below the limit: it is paused at the high-water mark.
        let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
        let requests: Vec<u8> = (0..200).flat_map(numbered).collect();
        for peer in &mut peers {
            peer.send(&requests);
        }
        let closed =
            server.wait_for("a close", |stats| stats.closed_for(Cause::BufferLimit) >= round);
        assert!(closed.open >= 1);
        assert_eq!(number_of_padded(&other.ask(&numbered(1))), 1);
        drop(peers);
        server.wait_for("the others to leave", |stats| stats.open == 1);
    }
    drop(other);
    let stats = server.stop();
    assert_eq!(stats.bytes_out + stats.discarded_out, stats.replies * size);
}

fn does_a_reply_over_the_limit_leak_nothing(backend: Backend) {
    let server =
        Running::start(move || builder(backend).limits(tight()).answer(padded_reply(16 << 20)));
    for round in 1..=5 {
        let mut peer = server.connect();
        let request = numbered(1);
        let (first, second) = request.split_at(40);
        peer.send(first);
        server.wait_for("the first part", |stats| stats.pool_buffers == 1);
        // Nobody reads meanwhile: a peer that reads fast enough may get all of it with one send.
        peer.send(&[second, &numbered(2), &first[..30]].concat());
        let stats = server.wait_for("the close", |stats| stats.open == 0);
        peer.wait_for_end();
        drop(peer);
        assert_eq!((stats.pool_bytes, stats.pool_buffers), (0, 0), "round {round}");
        assert_eq!(stats.closed_for(Cause::BufferLimit), round);
        let handled = stats.messages * request.len() as u64;
        assert_eq!(stats.bytes_in, handled + stats.discarded_in);
    }
    server.stop();
}

/// Which connection each message came from, in the order in which they were handled.
type Order = Rc<RefCell<Vec<ConnectionId>>>;

fn fairness(backend: Backend, request: &[u8], count: usize) {
    let order: Order = Rc::default();
    let noted = Rc::clone(&order);
    let limits = Limits { messages_per_event: 10, ..Limits::default() };
    let mut server = builder(backend)
        .limits(limits)
        .answer(move |_, reply| {
            noted.borrow_mut().push(reply.connection());
            Ok(())
        })
        .unwrap();
    let address = server.addresses()[0].to_string();
    let mut busy = Peer::new(std::net::TcpStream::connect(&address).unwrap());
    let mut single = Peer::new(std::net::TcpStream::connect(&address).unwrap());
    busy.stuff(&request.repeat(count));
    while server.stats().accepted < 2 {
        server.event_loop().run_once(None).unwrap();
    }
    while order.borrow().len() < 20 {
        server.event_loop().run_once(None).unwrap();
    }
    let busy_id = order.borrow()[0];
    single.send(&numbered(1));
    // On loopback what has been sent has arrived: the next turn sees it.
    let before = order.borrow().len();
    server.event_loop().run_once(None).unwrap();
    server.event_loop().run_once(None).unwrap();
    let place = order.borrow().iter().position(|id| *id != busy_id);
    let place = place.expect("it is served within two turns") - before;
    assert!(place <= 20, "{place} messages of the busy peer came first");
    drop((busy, single));
    server.handle().shutdown().unwrap();
    server.run().unwrap();
    assert_settled(&server.stats());
}

fn does_a_busy_peer_not_delay_another_ones_request(backend: Backend) {
    // All of them fit into one receive, and then wait in the connection's buffer.
    fairness(backend, &numbered(0), 500);
}

fn does_a_busy_peer_with_a_full_socket_not_delay_another(backend: Backend) {
    fairness(backend, &binary(&vec![1; 5_000]), 1000);
}

fn are_one_way_messages_handled_after_replies_fail(backend: Backend) {
    // Over a Unix socket the peer can end the other direction so that sending fails.
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("myriapod-back-{}-{backend}", std::process::id()));
    let host = format!("unix:{}", path.display());
    let server = Running::start(move || {
        myriapod::Server::builder().backend(backend).listen(&host, 0).answer(echo)
    });
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.shutdown(std::net::Shutdown::Read).unwrap();
    for number in 0..50 {
        peer.write_all(&numbered(number)).unwrap();
        server.wait_for("the message", |stats| stats.messages == u64::from(number) + 1);
    }
    drop(peer);
    let stats = server.wait_for("the close", |stats| stats.open == 0);
    assert_eq!(stats.messages, 50);
    assert_eq!(stats.discarded_out, 50 * numbered(0).len() as u64);
    server.stop();
}
