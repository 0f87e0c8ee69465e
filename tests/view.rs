//! What does a handler see of a connection, and does what it asks for there happen?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;
#[path = "view/proxies.rs"]
mod proxies;

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, Running, binary, builder, number_of, on_every_backend};
use myriapod::protocol::OwnedMessage;
use myriapod::{
    Backend, Cause, ConnectionId, Handler, HandlerResult, Limits, Message, Outgoing, Overflow,
    PushError, Reply, SocketAddr, View,
};

on_every_backend! {
    do_pushes_go_before_the_reply_wherever_they_are_made,
    do_pushes_go_before_the_reply_of_each_pipelined_message,
    do_pushes_stay_when_the_handler_fails,
    is_a_push_over_the_mark_refused_and_counted,
    is_the_first_push_taken_however_large,
    does_queued_count_what_waits,
    does_the_view_know_its_listener_and_both_addresses,
    does_a_timer_fire_once_and_not_early,
    does_setting_a_timer_again_move_it,
    does_a_cancelled_timer_not_fire,
    does_a_timer_go_with_its_connection,
    does_a_timer_that_fires_find_its_connection_waiting,
    does_close_send_what_was_pushed_and_replied,
    does_close_now_drop_what_was_pushed_and_replied,
    does_a_reset_reach_the_peer_as_one,
    is_the_socket_there_for_options,
    are_pushes_of_every_callback_sent,
    is_on_drained_called_only_where_bytes_had_to_wait,
    is_a_push_refused_when_the_conversation_is_over,
    is_a_push_refused_once_a_close_was_asked_for,
    is_the_handler_told_of_new_pushes_that_are_dropped,
    is_the_handler_told_of_old_pushes_that_are_dropped,
    does_a_push_of_the_handler_s_own_run_the_overflow_clock,
}

/// What the handler was told, or saw.
#[derive(Debug, PartialEq)]
enum Told {
    Opened(Seen),
    Timer(Instant),
    Drained,
    Dropped(u64),
    Closed(Cause),
    Saw(Seen),
    Queued(usize),
    Pushed(&'static str),
    NoDelay(bool),
}

/// What a view says of its connection.
#[derive(Debug, PartialEq)]
struct Seen {
    id: ConnectionId,
    listener: Option<usize>,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    is_outgoing: bool,
}

impl Seen {
    fn of(view: &View<'_>) -> Self {
        Self {
            id: view.id(),
            listener: view.listener(),
            peer: view.peer(),
            local: view.local(),
            is_outgoing: view.is_outgoing(),
        }
    }
}

/// What a callback does besides telling the test.
type Act = fn(&mut View<'_>) -> Option<PushError>;

/// Does what the words of each message say, in their order: `push:1`, `reply:2`, `close` …
struct Scripted {
    tell: Sender<Told>,
    open: Act,
    timer: Act,
    drained: Act,
    close: Act,
}

fn nothing(_: &mut View<'_>) -> Option<PushError> {
    None
}

impl Scripted {
    fn new(tell: Sender<Told>) -> Self {
        Self { tell, open: nothing, timer: nothing, drained: nothing, close: nothing }
    }

    fn tell(&self, told: Told) {
        // The test may be over.
        let _ = self.tell.send(told);
    }

    fn tell_of(&self, error: Option<&PushError>) {
        match error {
            Some(PushError::Full) => self.tell(Told::Pushed("full")),
            Some(PushError::Closed) => self.tell(Told::Pushed("closed")),
            Some(error) => panic!("{error}"),
            None => {}
        }
    }
}

impl Handler for Scripted {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) {
        assert_eq!(view.peer().as_ref(), Some(peer));
        self.tell(Told::Opened(Seen::of(view)));
        self.tell_of((self.open)(view).as_ref());
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        for word in std::str::from_utf8(message.content())?.split(' ') {
            let (verb, number) = word.split_once(':').unwrap_or((word, "0"));
            let number: u32 = number.parse()?;
            let view = reply.view();
            match verb {
                "push" => {
                    let pushed = view.push(&outgoing(number, 4));
                    self.tell_of(pushed.err().as_ref());
                }
                "large" => {
                    let pushed = view.push(&outgoing(number, number as usize));
                    self.tell_of(pushed.err().as_ref());
                }
                "reply" => reply.binary("test/reply", &number.to_be_bytes())?,
                "fail" => return Err("asked to fail".into()),
                "queued" => self.tell(Told::Queued(view.queued())),
                "see" => self.tell(Told::Saw(Seen::of(view))),
                "timer" => view.set_timer(Duration::from_millis(number.into())),
                "cancel" => view.cancel_timer(),
                "close" => view.close(),
                "close_now" => view.close_now(),
                "reset" => view.reset(),
                "nodelay" => {
                    let socket = TcpStream::from(view.as_fd().try_clone_to_owned()?);
                    self.tell(Told::NoDelay(socket.nodelay()?));
                }
                word => panic!("no such word: {word}"),
            }
        }
        Ok(())
    }

    fn on_connection_timer(&mut self, (): &mut (), view: &mut View<'_>) {
        self.tell(Told::Timer(Instant::now()));
        self.tell_of((self.timer)(view).as_ref());
    }

    fn on_drained(&mut self, (): &mut (), view: &mut View<'_>) {
        self.tell(Told::Drained);
        self.tell_of((self.drained)(view).as_ref());
    }

    fn on_push_dropped(&mut self, (): &mut (), _: &mut View<'_>, count: u64) {
        self.tell(Told::Dropped(count));
    }

    fn on_close(&mut self, (): (), view: &mut View<'_>, cause: Cause) {
        self.tell_of((self.close)(view).as_ref());
        self.tell(Told::Closed(cause));
    }
}

/// A number and bytes behind it, `len` in all.
fn outgoing(number: u32, len: usize) -> Outgoing {
    let mut content = number.to_be_bytes().to_vec();
    content.resize(len.max(4), 7);
    Outgoing::binary("test/push", content)
}

/// Bytes that no socket takes at once.
const LARGE: u32 = 8 << 20;

struct Play {
    server: Running,
    told: Receiver<Told>,
}

impl Play {
    fn start(backend: Backend, limits: Limits) -> Self {
        Self::start_with(backend, limits, |_| {})
    }

    fn start_with(backend: Backend, limits: Limits, set: fn(&mut Scripted)) -> Self {
        let (tell, told) = channel();
        let make = move || {
            let mut handler = Scripted::new(tell);
            set(&mut handler);
            builder(backend).limits(limits).build(handler)
        };
        Self { server: Running::start(make), told }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the handler is told something")
    }

    fn connect(&self) -> Peer<TcpStream> {
        self.connect_as().0
    }

    fn connect_as(&self) -> (Peer<TcpStream>, ConnectionId) {
        let peer = self.server.connect();
        let Told::Opened(seen) = self.next() else { panic!("somebody else") };
        (peer, seen.id)
    }
}

/// A push or a reply: its number, as the peer reads it.
fn number(message: &OwnedMessage) -> (String, u32) {
    (message.as_message().content_type().to_owned(), number_of(message))
}

fn push(of: u32) -> (String, u32) {
    ("test/push".to_owned(), of)
}

fn reply(of: u32) -> (String, u32) {
    ("test/reply".to_owned(), of)
}

fn do_pushes_go_before_the_reply_wherever_they_are_made(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    for (script, expected) in [
        ("push:1 reply:2 push:3", vec![push(1), push(3), reply(2)]),
        ("reply:1 push:2 push:3", vec![push(2), push(3), reply(1)]),
        ("push:1 push:2", vec![push(1), push(2)]),
        ("reply:5", vec![reply(5)]),
    ] {
        peer.send(&binary(script.as_bytes()));
        for expected in expected {
            assert_eq!(number(&peer.reply()), expected, "{script}");
        }
    }
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.pushes, stats.replies, stats.dropped_pushes), (6, 3, 0), "{stats}");
}

fn do_pushes_go_before_the_reply_of_each_pipelined_message(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    let scripts = ["reply:1", "reply:2 push:3", "push:4", "push:5 reply:6 push:7"];
    peer.send(&scripts.map(|script| binary(script.as_bytes())).concat());
    let expected = [reply(1), push(3), reply(2), push(4), push(5), push(7), reply(6)];
    for expected in expected {
        assert_eq!(number(&peer.reply()), expected);
    }
    drop(peer);
    play.server.stop();
}

fn do_pushes_stay_when_the_handler_fails(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    peer.send(&binary(b"push:1 reply:2 push:3 fail"));
    assert_eq!(number(&peer.reply()), push(1));
    assert_eq!(number(&peer.reply()), push(3));
    assert_eq!(common::error_kind(&peer.reply()), "HandlerError");
    drop(peer);
    play.server.stop();
}

/// Room for two pushes of 800 bytes.
fn tight() -> Limits {
    Limits { high_water: 2_000, low_water: 500, ..Limits::default() }
}

fn is_a_push_over_the_mark_refused_and_counted(backend: Backend) {
    let play = Play::start(backend, tight());
    let mut peer = play.connect();
    peer.send(&binary(b"large:800 large:800 large:800 reply:1"));
    assert_eq!(play.next(), Told::Pushed("full"));
    for _ in 0..2 {
        assert_eq!(peer.reply().as_message().content().len(), 800);
    }
    assert_eq!(number(&peer.reply()), reply(1));
    // Now that they are sent, there is room again.
    peer.send(&binary(b"large:800 reply:2"));
    assert_eq!(peer.reply().as_message().content().len(), 800);
    assert_eq!(number(&peer.reply()), reply(2));
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.pushes, stats.dropped_pushes), (3, 1), "{stats}");
}

fn is_the_first_push_taken_however_large(backend: Backend) {
    let play = Play::start(backend, tight());
    let mut peer = play.connect();
    peer.send(&binary(b"large:100000 push:1 reply:2"));
    assert_eq!(play.next(), Told::Pushed("full"));
    assert_eq!(peer.reply().as_message().content().len(), 100_000);
    assert_eq!(number(&peer.reply()), reply(2));
    drop(peer);
    play.server.stop();
}

fn does_queued_count_what_waits(backend: Backend) {
    let limits = Limits { high_water: 3 * LARGE as usize, ..Limits::default() };
    let play = Play::start(backend, limits);
    let mut peer = play.connect();
    peer.send(&binary(b"queued push:1 queued"));
    assert_eq!(play.next(), Told::Queued(0));
    let Told::Queued(one) = play.next() else { panic!("the count of what waits") };
    assert!(one > 4, "{one}");
    assert_eq!(number(&peer.reply()), push(1));
    peer.send(&binary(format!("large:{LARGE}").as_bytes()));
    play.server.wait_for("a queue", |stats| stats.short_writes == 1);
    peer.send(&binary(b"queued push:2 queued reply:3"));
    let Told::Queued(before) = play.next() else { panic!("the count of what waits") };
    assert!(before > 0 && before < LARGE as usize + 1000, "{before}");
    assert_eq!(play.next(), Told::Queued(before + one));
    assert_eq!(peer.reply().as_message().content().len(), LARGE as usize);
    assert_eq!(number(&peer.reply()), push(2));
    assert_eq!(number(&peer.reply()), reply(3));
    assert_eq!(play.next(), Told::Drained);
    drop(peer);
    play.server.stop();
}

fn does_the_view_know_its_listener_and_both_addresses(backend: Backend) {
    let (tell, told) = channel();
    let make = move || builder(backend).listen("127.0.0.1", 0).build(Scripted::new(tell));
    let play = Play { server: Running::start(make), told };
    let mut peers = Vec::new();
    for (place, address) in play.server.addresses().iter().enumerate() {
        let mut peer = Peer::new(TcpStream::connect(address.to_string()).unwrap());
        let Told::Opened(opened) = play.next() else { panic!("a connection") };
        assert_eq!(opened.listener, Some(place));
        assert_eq!(opened.local.as_ref(), Some(address));
        assert_eq!(opened.peer, Some(peer.stream.local_addr().unwrap().into()));
        assert!(!opened.is_outgoing);
        peer.send(&binary(b"see"));
        assert_eq!(play.next(), Told::Saw(opened), "the same later");
        peers.push(peer);
    }
    drop(peers);
    play.server.stop();
}

fn does_a_timer_fire_once_and_not_early(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    for milliseconds in [50, 0, 30] {
        let asked_at = Instant::now();
        peer.send(&binary(format!("timer:{milliseconds}").as_bytes()));
        let Told::Timer(at) = play.next() else { panic!("the timer") };
        assert!(at - asked_at >= Duration::from_millis(milliseconds), "early");
    }
    drop(peer);
    // Had one fired again, it would stand before this.
    assert_eq!(play.next(), Told::Closed(Cause::Peer));
    play.server.stop();
}

fn does_setting_a_timer_again_move_it(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    // Nearer, in a message of its own.
    peer.send(&binary(b"timer:3600000"));
    play.server.wait_for("the timer", |stats| stats.timers == 2);
    peer.send(&binary(b"timer:20"));
    assert!(matches!(play.next(), Told::Timer(_)));
    play.server.wait_for("no timer but the deadline's", |stats| stats.timers == 1);
    // Farther, in the same message.
    let asked_at = Instant::now();
    peer.send(&binary(b"timer:0 timer:120"));
    let Told::Timer(at) = play.next() else { panic!("the timer") };
    assert!(at - asked_at >= Duration::from_millis(120), "early");
    drop(peer);
    assert_eq!(play.next(), Told::Closed(Cause::Peer));
    play.server.stop();
}

fn does_a_cancelled_timer_not_fire(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    peer.send(&binary(b"timer:0 cancel"));
    peer.send(&binary(b"timer:3600000"));
    play.server.wait_for("the timer", |stats| stats.timers == 2);
    peer.send(&binary(b"cancel"));
    play.server.wait_for("no timer but the deadline's", |stats| stats.timers == 1);
    // Cancelling what is not set is fine.
    peer.send(&binary(b"cancel timer:30"));
    assert!(matches!(play.next(), Told::Timer(_)));
    drop(peer);
    assert_eq!(play.next(), Told::Closed(Cause::Peer));
    play.server.stop();
}

fn does_a_timer_go_with_its_connection(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let (mut first, mut second) = (play.connect(), play.connect());
    first.send(&binary(b"timer:100 close"));
    second.send(&binary(b"timer:150"));
    first.expect_end();
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    // The one of the first would have come before.
    assert!(matches!(play.next(), Told::Timer(_)));
    drop((first, second));
    let stats = play.server.stop();
    assert_eq!(stats.timers, 0, "{stats}");
}

fn does_a_timer_that_fires_find_its_connection_waiting(backend: Backend) {
    // Nothing is received while the queue is high; the timer fires all the same.
    let play = Play::start_with(backend, Limits::default(), |handler| {
        handler.timer = |view| {
            assert!(view.queued() > 0);
            view.close_now();
            None
        };
    });
    let mut peer = play.connect();
    peer.send(&binary(format!("large:{LARGE} timer:30").as_bytes()));
    assert!(matches!(play.next(), Told::Timer(_)));
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    peer.wait_for_end();
    let stats = play.server.stop();
    assert!(stats.discarded_out > 0, "{stats}");
}

fn does_close_send_what_was_pushed_and_replied(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    peer.send(&[binary(b"close push:1 reply:2 push:3"), binary(b"reply:4")].concat());
    for expected in [push(1), push(3), reply(2)] {
        assert_eq!(number(&peer.reply()), expected);
    }
    peer.expect_end();
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.messages, stats.discarded_out), (1, 0), "{stats}");
}

fn does_close_now_drop_what_was_pushed_and_replied(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    peer.send(&binary(b"push:1 reply:2 close_now"));
    peer.expect_end();
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    let stats = play.server.stop();
    assert!(stats.discarded_out > 8, "{stats}");
    assert_eq!((stats.bytes_out, stats.lingering), (0, 0), "{stats}");
}

fn does_a_reset_reach_the_peer_as_one(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    peer.send(&binary(b"push:1 reset"));
    let error = peer.stream.read(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    // Others go on.
    let mut other = play.connect();
    other.send(&binary(b"reply:1"));
    assert_eq!(number(&other.reply()), reply(1));
    drop(other);
    play.server.stop();
}

fn is_the_socket_there_for_options(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut peer = play.connect();
    peer.send(&binary(b"nodelay reply:1"));
    assert_eq!(play.next(), Told::NoDelay(true));
    assert_eq!(number(&peer.reply()), reply(1), "the duplicate's end is not the socket's");
    drop(peer);
    play.server.stop();
}

fn are_pushes_of_every_callback_sent(backend: Backend) {
    let play = Play::start_with(backend, Limits::default(), |handler| {
        handler.open = |view| view.push(&outgoing(1, 4)).err();
        handler.timer = |view| view.push(&outgoing(2, LARGE as usize)).err();
        handler.drained = |view| view.push(&outgoing(3, 4)).err();
    });
    let mut peer = play.connect();
    assert_eq!(number(&peer.reply()), push(1));
    peer.send(&binary(b"timer:10"));
    assert!(matches!(play.next(), Told::Timer(_)));
    assert_eq!(peer.reply().as_message().content().len(), LARGE as usize);
    assert_eq!(play.next(), Told::Drained);
    assert_eq!(number(&peer.reply()), push(3));
    drop(peer);
    let stats = play.server.stop();
    assert_eq!(stats.pushes, 3, "{stats}");
}

fn is_on_drained_called_only_where_bytes_had_to_wait(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let (mut peer, id) = play.connect_as();
    let handle = play.server.handle();
    for number in 0..3 {
        handle.send(id, outgoing(number, 4)).unwrap();
        assert_eq!(number_of(&peer.reply()), number);
    }
    handle.send(id, outgoing(3, LARGE as usize)).unwrap();
    // A peer that reads meanwhile may take all of it in one send.
    play.server.wait_for("a short write", |stats| stats.short_writes > 0);
    assert_eq!(peer.reply().as_message().content().len(), LARGE as usize);
    assert_eq!(play.next(), Told::Drained);
    handle.send(id, outgoing(4, 4)).unwrap();
    assert_eq!(number_of(&peer.reply()), 4);
    drop(peer);
    assert_eq!(play.next(), Told::Closed(Cause::Peer));
    play.server.stop();
}

fn is_a_push_refused_when_the_conversation_is_over(backend: Backend) {
    let play = Play::start_with(backend, Limits::default(), |handler| {
        handler.close = |view| {
            // What is asked for besides is asked in vain.
            view.set_timer(Duration::ZERO);
            view.close();
            assert_eq!(view.queued(), 0);
            view.push(&outgoing(1, 4)).err()
        };
    });
    let mut peer = play.connect();
    peer.send(&binary(b"reply:1 close"));
    assert_eq!(number(&peer.reply()), reply(1));
    peer.expect_end();
    assert_eq!(play.next(), Told::Pushed("closed"));
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    drop(peer);
    let stats = play.server.stop();
    assert_eq!((stats.pushes, stats.dropped_pushes, stats.timers), (0, 0, 0), "{stats}");
}

fn is_a_push_refused_once_a_close_was_asked_for(backend: Backend) {
    // Somebody who sends one piece after the other.
    let play = Play::start_with(backend, Limits::default(), |handler| {
        handler.open = |view| view.push(&outgoing(1, LARGE as usize)).err();
        handler.drained = |view| view.push(&outgoing(1, LARGE as usize)).err();
    });
    let (mut peer, id) = play.connect_as();
    play.server.wait_for("a queue", |stats| stats.short_writes == 1);
    play.server.handle().close(id).unwrap();
    play.server.catch_up();
    assert_eq!(peer.reply().as_message().content().len(), LARGE as usize);
    // It would never end.
    assert!(peer.next().is_none(), "another piece");
    assert_eq!(play.next(), Told::Drained);
    assert_eq!(play.next(), Told::Pushed("closed"));
    assert_eq!(play.next(), Told::Closed(Cause::Handler));
    drop(peer);
    play.server.stop();
}

/// Pushes that find a full queue; the sum of what the handler is told about those dropped.
fn dropped(play: &Play, to: ConnectionId, count: u32, len: usize) -> u64 {
    let handle = play.server.handle();
    for number in 1..=count {
        handle.send(to, outgoing(number, len)).unwrap();
    }
    play.server.catch_up();
    let told = play.told.try_iter().map(|told| match told {
        Told::Dropped(count) => count,
        told => panic!("{told:?}"),
    });
    told.sum()
}

fn is_the_handler_told_of_new_pushes_that_are_dropped(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let (mut peer, id) = play.connect_as();
    peer.send(&binary(format!("large:{LARGE}").as_bytes()));
    play.server.wait_for("a queue", |stats| stats.short_writes == 1);
    assert_eq!(dropped(&play, id, 5, 4), 5);
    assert_eq!(peer.reply().as_message().content().len(), LARGE as usize);
    assert_eq!(play.next(), Told::Drained);
    peer.send(&binary(b"reply:6"));
    assert_eq!(number(&peer.reply()), reply(6), "none of the others comes");
    drop(peer);
    assert_eq!(play.server.stop().dropped_pushes, 5);
}

fn is_the_handler_told_of_old_pushes_that_are_dropped(backend: Backend) {
    const COUNT: u32 = 12;
    let limits = Limits {
        high_water: 3 * LARGE as usize,
        overflow: Overflow::DropOldest,
        ..Limits::default()
    };
    let play = Play::start(backend, limits);
    let (mut peer, id) = play.connect_as();
    peer.send(&binary(format!("large:{LARGE}").as_bytes()));
    play.server.wait_for("a queue", |stats| stats.short_writes == 1);
    let told = dropped(&play, id, COUNT, LARGE as usize / 2);
    assert!(told >= u64::from(COUNT) - 6, "{told}");
    let stats = play.server.catch_up();
    assert_eq!(stats.dropped_pushes, told, "{stats}");
    assert_eq!(peer.reply().as_message().content().len(), LARGE as usize);
    let mut last = 0;
    for _ in 0..u64::from(COUNT) - told {
        let message = peer.reply();
        let number = u32::from_be_bytes(*message.as_message().content().first_chunk().unwrap());
        assert!(number > last, "{number} behind {last}");
        last = number;
    }
    assert_eq!(last, COUNT, "the newest stays");
    drop(peer);
    play.server.stop();
}

fn does_a_push_of_the_handler_s_own_run_the_overflow_clock(backend: Backend) {
    let overflow = Overflow::CloseAfter(Duration::from_millis(50));
    let play = Play::start(backend, Limits { overflow, ..Limits::default() });
    let mut peer = play.connect();
    peer.send(&binary(format!("large:{LARGE}").as_bytes()));
    assert_eq!(play.next(), Told::Closed(Cause::Overflow));
    peer.wait_for_end();
    play.server.stop();
}
