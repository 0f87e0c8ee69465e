//! Behind a proxy: is the peer the one that the PROXY header names, and who is refused?

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use myriapod::proxy_protocol::{Command, Refusal, kind, write_v1, write_v2};
use myriapod::{
    Backend, Cause, Handler, HandlerResult, Limits, Message, ProxyProtocol, Reply, SocketAddr, View,
};

use super::common::{
    PATIENCE, Peer, Running, binary, builder, number_of, numbered, on_every_backend,
};

on_every_backend! {
    is_the_peer_the_client_in_every_callback,
    does_a_header_in_pieces_lose_nothing,
    is_the_message_kept_that_came_with_the_header,
    is_what_breaks_the_rules_refused_by_cause,
    is_everybody_from_elsewhere_refused,
    is_a_late_header_refused,
    does_the_limit_by_address_count_clients,
    does_a_health_check_count_for_nobody,
    does_a_stop_wait_for_no_header,
    has_a_listener_proxies_of_its_own,
    does_a_client_of_the_same_place_have_its_own_address,
}

/// The peer in each callback, and what the proxy said of it.
#[derive(Debug, PartialEq)]
enum Told {
    Opened(Option<SocketAddr>, Option<(u8, Option<String>)>),
    Asked(Option<SocketAddr>, bool),
    Closed(Option<SocketAddr>, Cause),
}

struct Telling(Sender<Told>);

impl Handler for Telling {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) {
        assert_eq!(view.peer().as_ref(), Some(peer));
        let said = view
            .proxy()
            .map(|header| (header.version(), header.tlvs().authority().map(ToOwned::to_owned)));
        let _ = self.0.send(Told::Opened(view.peer(), said));
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let view = reply.view();
        let _ = self.0.send(Told::Asked(view.peer(), view.proxy().is_some()));
        Ok(reply.echo(&message)?)
    }

    fn on_close(&mut self, (): (), view: &mut View<'_>, cause: Cause) {
        let _ = self.0.send(Told::Closed(view.peer(), cause));
    }
}

struct Play {
    server: Running,
    told: Receiver<Told>,
}

impl Play {
    fn start(backend: Backend, limits: Limits) -> Self {
        Self::behind(backend, limits, "127.0.0.0/8")
    }

    fn behind(backend: Backend, limits: Limits, proxies: &str) -> Self {
        let (tell, told) = channel();
        let proxies: ProxyProtocol = proxies.parse().unwrap();
        let make =
            move || builder(backend).limits(limits).proxy_protocol(proxies).build(Telling(tell));
        Self { server: Running::start(make), told }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the handler is told something")
    }

    /// A connection that begins with these bytes.
    fn connect(&self, bytes: &[u8]) -> Peer<TcpStream> {
        let mut peer = self.server.connect();
        peer.send(bytes);
        peer
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn v1(client: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_v1(&mut out, &address(client), &address("192.0.2.1:80"));
    out
}

fn v2(command: Command, client: &str, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(write_v2(&mut out, command, &address(client), &address("192.0.2.1:80"), tlvs));
    out
}

fn is_the_peer_the_client_in_every_callback(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let authority = [(kind::AUTHORITY, &b"example.com"[..]), (kind::CRC32C, &[])];
    for (header, said) in [
        (v1("192.0.2.7:56324"), (1, None)),
        (v2(Command::Proxy, "192.0.2.7:56324", &authority), (2, Some("example.com".to_owned()))),
    ] {
        let client = Some(address("192.0.2.7:56324"));
        let mut peer = play.connect(&header);
        assert_eq!(play.next(), Told::Opened(client.clone(), Some(said)));
        assert_eq!(number_of(&peer.ask(&numbered(7))), 7);
        assert_eq!(play.next(), Told::Asked(client.clone(), false));
        peer.finish();
        peer.expect_end();
        assert_eq!(play.next(), Told::Closed(client, Cause::Peer));
    }
    let stats = play.server.stop();
    assert_eq!((stats.accepted, stats.discarded_in), (2, 0));
}

fn does_a_header_in_pieces_lose_nothing(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    for header in [v1("192.0.2.7:1"), v2(Command::Proxy, "192.0.2.7:1", &[(kind::CRC32C, &[])])] {
        let bytes = [header, numbered(3), numbered(4)].concat();
        let mut peer = play.server.connect();
        for byte in &bytes {
            peer.send(std::slice::from_ref(byte));
        }
        assert_eq!((number_of(&peer.reply()), number_of(&peer.reply())), (3, 4));
        assert!(matches!(play.next(), Told::Opened(Some(_), Some(_))));
        assert!(matches!((play.next(), play.next()), (Told::Asked(..), Told::Asked(..))));
        peer.finish();
        peer.expect_end();
        assert!(matches!(play.next(), Told::Closed(..)));
    }
    assert_eq!(play.server.stop().discarded_in, 0);
}

fn is_the_message_kept_that_came_with_the_header(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    // Whole messages, and the beginning of one that is longer than what is received at once.
    let large = binary(&vec![7; 300 << 10]);
    let mut peer = play.connect(&[v1("192.0.2.7:1"), numbered(1), large].concat());
    assert_eq!(number_of(&peer.reply()), 1);
    assert_eq!(peer.reply().as_message().content().len(), 300 << 10);
    // Behind a half-close too.
    let mut peer = play.connect(&[v1("192.0.2.7:1"), numbered(2)].concat());
    peer.finish();
    assert_eq!(number_of(&peer.reply()), 2);
    peer.expect_end();
}

fn is_what_breaks_the_rules_refused_by_cause(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut wrong_sum = v2(Command::Proxy, "192.0.2.7:1", &[(kind::CRC32C, &[])]);
    *wrong_sum.last_mut().unwrap() ^= 1;
    let mut over_the_end = v2(Command::Proxy, "192.0.2.7:1", &[(kind::NOOP, b"1")]);
    *over_the_end.iter_mut().rev().nth(1).unwrap() = 2;
    let mut too_long = v2(Command::Proxy, "192.0.2.7:1", &[]);
    too_long[14..16].copy_from_slice(&4097_u16.to_be_bytes());
    let cases = [
        (numbered(1), Refusal::Missing),
        (b"PROXY TCP4 1.2.3.4\r\n".to_vec(), Refusal::Malformed),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 93]].concat(), Refusal::TooLong),
        (too_long[..16].to_vec(), Refusal::TooLong),
        (over_the_end, Refusal::BadTlv),
        (wrong_sum, Refusal::Checksum),
    ];
    for (bytes, _) in &cases {
        play.connect(bytes).wait_for_end();
    }
    for bytes in [&b""[..], b"PROXY TCP4"] {
        let mut peer = play.connect(bytes);
        peer.finish();
        peer.wait_for_end();
    }
    let stats = play.server.stop();
    let expected = [
        (Refusal::Missing, 1),
        (Refusal::Malformed, 1),
        (Refusal::TooLong, 2),
        (Refusal::BadTlv, 1),
        (Refusal::Checksum, 1),
        (Refusal::Ended, 2),
    ];
    for (refusal, count) in expected {
        assert_eq!(stats.refused_by_proxy_for(refusal), count, "{refusal}");
    }
    assert_eq!((stats.accepted, stats.messages, stats.bytes_in), (0, 0, stats.discarded_in));
    assert!(play.told.try_recv().is_err(), "the handler never hears of it");
}

fn is_everybody_from_elsewhere_refused(backend: Backend) {
    let play = Play::behind(backend, Limits::default(), "10.0.0.0/8,unix");
    for bytes in [v1("192.0.2.7:1"), numbered(1), Vec::new()] {
        let mut peer = play.server.connect();
        // It may be refused before.
        let _ = peer.stream.write_all(&bytes);
        peer.wait_for_end();
    }
    let stats = play.server.stop();
    assert_eq!((stats.refused_by_proxy_for(Refusal::Untrusted), stats.accepted), (3, 0));
}

fn is_a_late_header_refused(backend: Backend) {
    let limits = Limits { arrival_timeout: Duration::from_millis(20), ..Limits::default() };
    let play = Play::start(backend, limits);
    let (mut silent, mut slow) = (play.connect(b""), play.connect(b"PROXY TCP4 192.0"));
    silent.wait_for_end();
    slow.wait_for_end();
    let stats = play.server.stop();
    assert_eq!((stats.refused_by_proxy_for(Refusal::Late), stats.accepted), (2, 0));
    assert_eq!((stats.discarded_in, stats.timers), (16, 0));
}

fn does_the_limit_by_address_count_clients(backend: Backend) {
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let play = Play::start(backend, limits);
    // Some that have not said who they are: the proxy is not counted.
    let _silent = [play.connect(b""), play.connect(b"PROXY "), play.connect(b"")];
    let mut first = play.connect(&v1("192.0.2.7:1"));
    let mut other = play.connect(&v1("192.0.2.8:1"));
    assert_eq!(number_of(&first.ask(&numbered(1))), 1);
    assert_eq!(number_of(&other.ask(&numbered(2))), 2);
    // Mapped is the same.
    let mut second = play.connect(&v1("192.0.2.7:2"));
    second.wait_for_end();
    first.finish();
    first.expect_end();
    play.server.wait_for("the place", |stats| stats.lingering == 0 && stats.open == 1);
    let mut third = play.connect(&v1("192.0.2.7:3"));
    assert_eq!(number_of(&third.ask(&numbered(3))), 3);
    // One of whom the proxy knows nothing is the proxy's own.
    let mut unknown = play.connect(b"PROXY UNKNOWN\r\n");
    assert_eq!(number_of(&unknown.ask(&numbered(4))), 4);
    play.connect(b"PROXY UNKNOWN\r\n").wait_for_end();
    drop((other, third, unknown));
    assert_eq!(play.server.stop().refused_by_address, 2);
}

fn does_a_health_check_count_for_nobody(backend: Backend) {
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let play = Play::start(backend, limits);
    let local = v2(Command::Local, "192.0.2.7:1", &[]);
    let mut checks = Vec::new();
    for number in 0..3 {
        let mut check = play.connect(&local);
        let own = SocketAddr::from(check.stream.local_addr().unwrap());
        assert_eq!(play.next(), Told::Opened(Some(own.clone()), Some((2, None))));
        assert_eq!(number_of(&check.ask(&numbered(number))), number);
        assert_eq!(play.next(), Told::Asked(Some(own), false));
        checks.push(check);
    }
    drop(checks);
    assert_eq!(play.server.stop().refused_by_address, 0);
}

fn does_a_stop_wait_for_no_header(backend: Backend) {
    let play = Play::start(backend, Limits::default());
    let mut silent = play.connect(b"PROXY TCP4");
    let mut served = play.connect(&v1("192.0.2.7:1"));
    assert_eq!(number_of(&served.ask(&numbered(1))), 1);
    play.server.shutdown();
    silent.wait_for_end();
    served.expect_end();
    drop(served);
    let stats = play.server.stop();
    assert_eq!((stats.refused_by_proxy_for(Refusal::Ended), stats.accepted), (1, 1));
}

fn has_a_listener_proxies_of_its_own(backend: Backend) {
    let (tell, told) = channel();
    let make = move || {
        builder(backend)
            .listen_behind("127.0.0.1", 0, "127.0.0.0/8".parse().unwrap())
            .build(Telling(tell))
    };
    let play = Play { server: Running::start(make), told };
    let mut plain = play.server.connect();
    assert_eq!(number_of(&plain.ask(&numbered(1))), 1);
    let own = SocketAddr::from(plain.stream.local_addr().unwrap());
    assert_eq!(play.next(), Told::Opened(Some(own.clone()), None));
    assert_eq!(play.next(), Told::Asked(Some(own), false));
    let behind = play.server.addresses()[1].to_string();
    let mut peer = Peer::new(TcpStream::connect(behind).unwrap());
    assert_eq!(number_of(&peer.ask(&[v1("192.0.2.7:1"), numbered(2)].concat())), 2);
    assert_eq!(play.next(), Told::Opened(Some(address("192.0.2.7:1")), Some((1, None))));
}

fn does_a_client_of_the_same_place_have_its_own_address(backend: Backend) {
    // One after the other they use the same entry of the loop's.
    let play = Play::start(backend, Limits::default());
    for header in [v1("192.0.2.7:1"), b"PROXY UNKNOWN\r\n".to_vec(), v1("192.0.2.8:1")] {
        let mut peer = play.connect(&header);
        let Told::Opened(Some(opened), _) = play.next() else { panic!("a connection") };
        let own = SocketAddr::from(peer.stream.local_addr().unwrap());
        assert_eq!(opened == own, header.starts_with(b"PROXY UNKNOWN"));
        peer.ask(&numbered(1));
        assert_eq!(play.next(), Told::Asked(Some(opened.clone()), false));
        peer.finish();
        peer.expect_end();
        assert_eq!(play.next(), Told::Closed(Some(opened), Cause::Peer));
    }
}
