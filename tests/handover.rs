//! Does a connection go on in another server as if nothing had happened? Both servers are in this
//! process; `cli/tests/serve/handover.rs` asks the same of two processes.

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, Running, binary, builder, number_of, numbered};
use myriapod::{
    Backend, Cause, Deferred, Handler, HandlerResult, Handover, Message, Outgoing, Reply,
    ServerBuilder, SocketAddr, View,
};

/// A path that no other test has.
fn path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("myriapod-handover-{}-{number}", std::process::id()))
}

/// A server there, and what its log says.
fn at(path: &Path) -> (ServerBuilder, Receiver<String>) {
    let (tell, told) = channel();
    let patient = Handover::at(path).timeout(PATIENCE);
    let builder = builder(Backend::native()).handover(patient).log(move |event| {
        if !event.is_routine() {
            let _ = tell.send(event.to_string());
        }
    });
    (builder, told)
}

fn said(told: &Receiver<String>, what: &str) -> String {
    loop {
        let line = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what:?} was not said"));
        if line.contains(what) {
            return line;
        }
    }
}

/// What happened to connections, in the words of their handlers.
type Heard = Arc<Mutex<Vec<String>>>;

/// Counts the messages of each connection, and puts each into a group at its first.
struct Counting {
    name: &'static str,
    heard: Heard,
}

impl Counting {
    fn hear(&self, what: &str) {
        self.heard.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

impl Handler for Counting {
    type State = u32;

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) -> u32 {
        self.hear("opens");
        view.handle().join(view.id(), "all").unwrap();
        0
    }

    fn on_message(
        &mut self,
        count: &mut u32,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        *count += 1;
        if message.content() == b"later" {
            reply.view().set_timer(Duration::from_millis(200));
        }
        reply.binary("test/bytes", &count.to_be_bytes())?;
        Ok(())
    }

    fn on_connection_timer(&mut self, count: &mut u32, view: &mut View<'_>) {
        let bytes = (*count + 1000).to_be_bytes().to_vec();
        view.push(&Outgoing::binary("test/bytes", bytes)).unwrap();
    }

    fn hands_over(&self) -> bool {
        true
    }

    fn save(&mut self, count: &u32, saved: &mut Vec<u8>) -> bool {
        saved.extend_from_slice(&count.to_be_bytes());
        // One that has had seven messages does not go.
        *count != 7
    }

    fn restore(&mut self, saved: &[u8], view: &mut View<'_>, peer: &SocketAddr) -> Option<u32> {
        self.hear("restores");
        assert_eq!(view.peer().as_ref(), Some(peer));
        saved.try_into().ok().map(u32::from_be_bytes)
    }

    fn on_close(&mut self, count: u32, _: &mut View<'_>, cause: Cause) {
        self.hear(&format!("closes {count} {cause}"));
    }
}

#[test]
fn do_state_groups_and_timers_go_along() {
    let (path, heard) = (path(), Heard::default());
    let start = |name| {
        let ((builder, told), heard) = (at(&path), Arc::clone(&heard));
        (Running::start(move || builder.build(Counting { name, heard })), told)
    };
    let (first, first_told) = start("first");
    let (mut one, mut seven) = (first.connect(), first.connect());
    for nth in 1..=3 {
        one.send(&binary(b"x"));
        assert_eq!(number_of(&one.reply()), nth);
    }
    for _ in 0..7 {
        seven.send(&binary(b"x"));
        seven.reply();
    }
    one.send(&binary(b"later"));
    assert_eq!(number_of(&one.reply()), 4);
    let (second, second_told) = start("second");
    said(&second_told, "took over 1 connections");
    said(&first_told, "handed over 1 connections");
    // The one that cannot go is finished.
    seven.expect_end();
    let stats = first.join();
    assert_eq!((stats.closed_for(Cause::HandedOver), stats.closed_for(Cause::Drained)), (1, 1));
    // Its timer fires where it is now.
    assert_eq!(number_of(&one.reply()), 1004);
    let push = Outgoing::binary("test/bytes", 9_u32.to_be_bytes().to_vec());
    second.handle().broadcast("all", push).unwrap();
    assert_eq!(number_of(&one.reply()), 9);
    one.send(&binary(b"x"));
    assert_eq!(number_of(&one.reply()), 5);
    drop(one);
    second.wait_for("the end", |stats| stats.open == 0);
    let stats = second.stop();
    assert_eq!((stats.taken_over, stats.accepted), (1, 0));
    let heard = heard.lock().unwrap();
    let count = |what: &str| heard.iter().filter(|heard| heard.starts_with(what)).count();
    assert_eq!((count("first opens"), count("second opens")), (2, 0), "{heard:?}");
    assert_eq!((count("first restores"), count("second restores")), (0, 1), "{heard:?}");
    assert_eq!(count("first closes 4 handed_over"), 1, "{heard:?}");
    assert_eq!(count("first closes 7 drained"), 1, "{heard:?}");
    assert_eq!(count("second closes 5 peer"), 1, "{heard:?}");
    assert!(!path.exists());
}

#[test]
fn does_a_connection_go_when_its_deferred_reply_is_out() {
    let path = path();
    let start = || {
        let ((builder, told), (defer, deferred)) = (at(&path), channel::<Deferred>());
        let answer = move |message: Message<'_>, reply: &mut Reply<'_>| -> HandlerResult {
            if message.content() == b"later" {
                defer.send(reply.defer()?)?;
            } else {
                reply.echo(&message)?;
            }
            Ok(())
        };
        (Running::start(move || builder.answer(answer)), told, deferred)
    };
    let (first, first_told, deferred) = start();
    let mut peers: Vec<_> = (0..3).map(|_| first.connect()).collect();
    for peer in &mut peers {
        // Another request waits behind the one that is answered later.
        peer.send(&[binary(b"later"), numbered(7)].concat());
    }
    let dues: Vec<Deferred> =
        peers.iter().map(|_| deferred.recv_timeout(PATIENCE).unwrap()).collect();
    let (second, second_told, _) = start();
    said(&second_told, "took over 0 connections");
    said(&first_told, "handed over 0 connections");
    for due in dues {
        due.binary("test/bytes", 5_u32.to_be_bytes().to_vec()).unwrap();
    }
    let stats = first.join();
    assert_eq!((stats.closed_for(Cause::HandedOver), stats.messages), (3, 3));
    for peer in &mut peers {
        assert_eq!(number_of(&peer.reply()), 5);
        assert_eq!(number_of(&peer.reply()), 7);
        peer.send(&numbered(8));
        assert_eq!(number_of(&peer.reply()), 8);
    }
    drop(peers);
    second.wait_for("the end", |stats| stats.open == 0);
    assert_eq!(second.stop().taken_over, 3);
}

/// A handler that cannot save.
struct Mute;

impl Handler for Mute {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(&mut self, (): &mut (), m: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        Ok(reply.echo(&m)?)
    }
}

#[test]
fn is_it_said_that_a_handler_cannot_save_and_its_peers_drained() {
    let path = path();
    let start = || {
        let (builder, told) = at(&path);
        (Running::start(move || builder.build(Mute)), told)
    };
    let (first, told) = start();
    said(&told, "connections of a handler without save and restore: finished here");
    let mut peer = first.connect();
    peer.send(&numbered(1));
    peer.reply();
    let (second, told) = start();
    said(&told, "took over 0 connections");
    peer.expect_end();
    drop(peer);
    assert_eq!(first.join().closed_for(Cause::Drained), 1);
    let mut peer = second.connect();
    peer.send(&numbered(2));
    assert_eq!(number_of(&peer.reply()), 2);
    drop(peer);
    second.stop();
}
