//! Do ten thousand subscribers all get what is broadcast, and does nobody else have to wait for that?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use common::{Running, Telling, binary, builder, number_of, numbered};
use myriapod::{Backend, Limits, Outgoing, sys};

const SUBSCRIBERS: usize = 10_000;
const BROADCASTS: u8 = 10;

/// Where the subscribers' process finds the server, and how many they are.
const SERVER: &str = "MYRIAPOD_TEST_SERVER";

/// The subscribers, in a process of their own: a connection takes a descriptor at both ends.
#[test]
#[ignore = "started by the test below"]
fn subscribers() {
    let Ok(place) = std::env::var(SERVER) else { return };
    let (address, count) = place.split_once(' ').unwrap();
    sys::raise_descriptor_limit().unwrap();
    let connect = |_| TcpStream::connect(address).unwrap();
    let peers: Vec<_> = (0..count.parse::<usize>().unwrap()).map(connect).collect();
    let mut news = binary(&[0; 16]);
    for mut peer in peers {
        for number in 0..BROADCASTS {
            peer.read_exact(&mut news).unwrap();
            assert_eq!(news.last(), Some(&number));
        }
    }
}

#[test]
fn do_ten_thousand_subscribers_get_every_broadcast() {
    let limit = sys::raise_descriptor_limit().unwrap();
    let room = usize::try_from(limit.soft).unwrap().saturating_sub(100);
    let count = SUBSCRIBERS.min(room);
    if count < SUBSCRIBERS {
        println!("{count} only: the system allows {} descriptors", limit.soft);
    }
    let (tell, opened) = channel();
    let make = move || builder(Backend::native()).limits(Limits::default()).build(Telling(tell));
    let server = Running::start(make);
    let mut other = server.connect();
    opened.recv().unwrap();
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "subscribers", "--ignored", "--nocapture"])
        .env(SERVER, format!("{} {count}", server.address()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let handle = server.handle();
    for _ in 0..count {
        handle.join(opened.recv().unwrap(), "news").unwrap();
    }
    for number in 0..BROADCASTS {
        let mut content = vec![0; 15];
        content.push(number);
        handle.broadcast("news", Outgoing::binary("test/bytes", content)).unwrap();
    }
    let all = count as u64 * u64::from(BROADCASTS);
    assert_eq!(number_of(&other.ask(&numbered(7))), 7);
    let pushes = server.stats().pushes;
    assert!(pushes < all, "the other one had to wait for all of {pushes} pushes");
    assert!(clients.wait().unwrap().success());
    let stats = server.wait_for("all of them gone", |stats| stats.open == 1);
    assert_eq!((stats.pushes, stats.dropped_pushes, stats.missed), (all, 0, 0), "{stats}");
    drop(other);
    server.stop();
}
