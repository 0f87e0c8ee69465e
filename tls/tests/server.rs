//! Does a server on an event loop serve TLS as it serves plain connections?

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

#[path = "server/callers.rs"]
mod callers;
#[path = "server/streams.rs"]
mod streams;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use myriapod::protocol::Raw;
use myriapod::{Handle, HandlerResult, Limits, Message, Reply, Server, Stats};
use myriapod_tls::rustls::pki_types::{PrivateKeyDer, ServerName};
use myriapod_tls::rustls::{self, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use myriapod_tls::{Acceptor, server_config};

struct Pki {
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rcgen::KeyPair,
    client: Arc<ClientConfig>,
}

fn pki() -> Pki {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(myriapod_tls::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Pki { chain: vec![cert.der().clone()], key: signing_key, client: Arc::new(client) }
}

impl Pki {
    fn acceptor(&self) -> Acceptor {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        Acceptor::new(server_config(self.chain.clone(), key).unwrap()).unwrap()
    }

    fn connect(&self, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        StreamOwned::new(connection, socket)
    }
}

struct Running {
    port: u16,
    handle: Handle,
    thread: thread::JoinHandle<Stats>,
}

impl Running {
    fn stop(self) -> Stats {
        self.handle.shutdown().unwrap();
        self.thread.join().unwrap()
    }
}

fn echo(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    reply.echo(&message)?;
    Ok(())
}

fn serve(acceptor: Acceptor, limits: Limits) -> Running {
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(acceptor)
        .limits(limits)
        .answer_with(Raw, echo as fn(Message<'_>, &mut Reply<'_>) -> HandlerResult)
        .unwrap();
    let (port, handle) = (server.addresses()[0].port().unwrap(), server.handle());
    let thread = thread::spawn(move || {
        server.run().unwrap();
        server.stats()
    });
    Running { port, handle, thread }
}

#[test]
fn are_bytes_echoed_over_tls() {
    for places in [0, 1, 64] {
        let pki = pki();
        let server = serve(pki.acceptor().awake(places), Limits::default());
        let mut streams: Vec<_> = (0..4).map(|_| pki.connect(server.port)).collect();
        for round in 0..5 {
            for stream in &mut streams {
                let sent: Vec<u8> =
                    (0..1 + round * 9001).map(|n| u8::try_from(n % 251).unwrap()).collect();
                stream.write_all(&sent).unwrap();
                stream.flush().unwrap();
                let mut got = vec![0; sent.len()];
                stream.read_exact(&mut got).unwrap();
                assert!(got == sent);
            }
        }
        for stream in &mut streams {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            // The server says close_notify too: an end without it would be an error here.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        let stats = server.stop();
        assert_eq!((stats.handshakes, stats.closed_for(myriapod::Cause::Peer)), (4, 4), "{stats}");
        assert_eq!(stats.link_faults.sum() + stats.handshake_faults.sum(), 0, "{stats}");
        assert_eq!(stats.bytes_in, stats.bytes_out);
    }
}

/// One turn after the other on this thread, until `is_done`.
fn turn_until<H: myriapod::Handler, F: myriapod::protocol::Framing, L: myriapod::link::Link>(
    server: &mut Server<H, F, L>,
    mut is_done: impl FnMut(&Stats) -> bool,
) {
    while !is_done(&server.stats()) {
        server.event_loop().run_once(Some(Duration::from_millis(100))).unwrap();
    }
}

/// A socket that has shaken hands, and what its client knows.
fn shaken(pki: &Pki, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
    let mut stream = pki.connect(port);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// What a client would send for these bytes.
fn sealed(stream: &mut StreamOwned<ClientConnection, TcpStream>, plain: &[u8]) -> Vec<u8> {
    stream.conn.writer().write_all(plain).unwrap();
    let mut out = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut out).unwrap();
    }
    out
}

fn received(stream: &mut StreamOwned<ClientConnection, TcpStream>, len: usize) -> Vec<u8> {
    let mut got = vec![0; len];
    stream.read_exact(&mut got).unwrap();
    got
}

#[test]
fn do_records_come_through_in_any_pieces() {
    let pki = pki();
    let server = serve(pki.acceptor(), Limits::default());
    let mut stream = shaken(&pki, server.port);
    stream.sock.set_nodelay(true).unwrap();
    let plain: Vec<u8> = (0..40_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let bytes = [sealed(&mut stream, b"first"), sealed(&mut stream, &plain)].concat();
    for (number, piece) in bytes.chunks(1371).enumerate() {
        // Some byte by byte.
        let step = if number == 3 { 1 } else { piece.len() };
        for part in piece.chunks(step) {
            stream.sock.write_all(part).unwrap();
        }
    }
    assert_eq!(received(&mut stream, 5), b"first");
    assert!(received(&mut stream, plain.len()) == plain);
    let stats = server.stop();
    assert_eq!(stats.link_faults.sum(), 0, "{stats}");
    assert_eq!(stats.bytes_in, 40_005);
}

#[test]
fn does_more_than_a_socket_holds_arrive_whole() {
    // Plain bytes wait behind the rest of a record.
    struct Talker;
    impl myriapod::Handler for Talker {
        type State = ();
        fn on_open(&mut self, _: &mut myriapod::View<'_>, _: &myriapod::SocketAddr) {}
        fn on_message(
            &mut self,
            (): &mut (),
            message: Message<'_>,
            reply: &mut Reply<'_>,
        ) -> HandlerResult {
            reply.binary("application/octet-stream", &vec![message.content()[0]; 16 << 20])?;
            Ok(())
        }
    }
    let pki = pki();
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .limits(Limits { high_water: 64 << 20, ..Limits::default() })
        .build_with(Raw, Talker)
        .unwrap();
    let port = server.addresses()[0].port().unwrap();
    let (full, is_full) = std::sync::mpsc::channel();
    let client = thread::spawn(move || {
        let mut stream = shaken(&pki, port);
        for byte in 1..4_u8 {
            stream.write_all(&[byte]).unwrap();
            stream.flush().unwrap();
            // It reads only once the socket holds what it can.
            is_full.recv().unwrap();
            let got = received(&mut stream, 16 << 20);
            assert!(got.iter().all(|had| *had == byte));
        }
    });
    for count in 1..4 {
        turn_until(&mut server, |stats| stats.short_writes == count);
        full.send(()).unwrap();
    }
    turn_until(&mut server, |stats| stats.accepted == 1 && stats.open == 0);
    client.join().unwrap();
    assert_eq!(server.stats().bytes_out, 48 << 20);
}

#[test]
fn is_a_fault_told_behind_the_good_records() {
    let pki = pki();
    let server = serve(pki.acceptor(), Limits::default());
    let mut stream = shaken(&pki, server.port);
    let mut bytes = sealed(&mut stream, b"good");
    let mut bad = sealed(&mut stream, b"bad");
    bad[9] ^= 1;
    bytes.extend(bad);
    stream.sock.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    stream.sock.read_to_end(&mut got).unwrap();
    // The tickets, the answer to the good one, the alert: each is one record.
    let (alert_len, mut rest) = (5 + 2 + 1 + 16, got.as_slice());
    let mut before = rest.split_off(..rest.len() - alert_len).unwrap();
    while !before.is_empty() {
        stream.conn.read_tls(&mut before).unwrap();
        stream.conn.process_new_packets().unwrap();
    }
    assert_eq!(received(&mut stream, 4), b"good");
    stream.conn.read_tls(&mut rest).unwrap();
    let error = stream.conn.process_new_packets().unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    let stats = server.stop();
    assert_eq!(stats.link_faults.of("BadRecordMac"), 1, "{stats}");
    assert_eq!(stats.closed_for(myriapod::Cause::LinkFault), 1, "{stats}");
}

#[test]
fn is_an_end_without_close_notify_told() {
    let pki = pki();
    let server = serve(pki.acceptor(), Limits::default());
    let mut stream = shaken(&pki, server.port);
    let bytes = sealed(&mut stream, b"answered all the same");
    stream.sock.write_all(&bytes).unwrap();
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(received(&mut stream, 21), b"answered all the same");
    // The server says close_notify in any case.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let stats = server.stop();
    assert_eq!(stats.link_faults.of("Truncated"), 1, "{stats}");
    assert_eq!(stats.closed_for(myriapod::Cause::Truncated), 1, "{stats}");
}

#[test]
fn does_a_client_hear_the_alert_of_a_failed_handshake() {
    let pki = pki();
    let server = serve(pki.acceptor(), Limits::default());
    for (sent, alert) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], &[21, 3, 3, 0, 2, 2, 10][..]),
        // What follows is unread when the server closes: a reset would destroy the alert.
        (&[22, 3, 1, 0, 4, 1, 0, 0, 0, 7, 7, 7, 7], &[21, 3, 3, 0, 2, 2, 50]),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.write_all(sent).unwrap();
        let mut got = Vec::new();
        socket.read_to_end(&mut got).unwrap();
        assert_eq!(got, alert);
    }
    let stats = server.stop();
    assert_eq!(stats.handshake_faults.of("NotARecord"), 1, "{stats}");
    assert_eq!(stats.handshake_faults.sum(), 2, "{stats}");
    assert_eq!(stats.accepted, 0);
}

#[test]
fn do_handshakes_have_a_limit_and_a_deadline() {
    let pki = pki();
    let limits = Limits {
        max_handshakes: 2,
        arrival_timeout: Duration::from_millis(300),
        linger_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .limits(limits)
        .answer_with(Raw, echo as fn(Message<'_>, &mut Reply<'_>) -> HandlerResult)
        .unwrap();
    let port = server.addresses()[0].port().unwrap();
    let sockets: Vec<_> =
        (0..5).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    turn_until(&mut server, |stats| stats.handshake_faults.of("TooManyHandshakes") == 3);
    turn_until(&mut server, |stats| stats.handshake_faults.of("HandshakeTimeout") == 2);
    turn_until(&mut server, |stats| stats.lingering == 0);
    let audit = server.event_loop().audit();
    assert_eq!((audit.connections, audit.alarms), (0, 0), "{audit:?}");
    drop(sockets);
}

#[test]
fn does_a_handler_see_what_the_handshake_found() {
    #[derive(Default)]
    struct Asks(Arc<std::sync::Mutex<Vec<String>>>);
    impl myriapod::Handler for Asks {
        type State = ();
        fn on_open(&mut self, view: &mut myriapod::View<'_>, _: &myriapod::SocketAddr) {
            let tls = view.tls().unwrap();
            let mut key = [0; 8];
            assert!(tls.export(b"EXPORTER-test", b"", &mut key));
            let facts = [tls.protocol(), tls.suite(), tls.server_name().unwrap_or("none")];
            let count = tls.certificates().count();
            self.0.lock().unwrap().push(format!("{} {count} {key:?}", facts.join(" ")));
            // Who is not welcome is refused here.
            view.close();
        }
        fn on_message(
            &mut self,
            (): &mut (),
            _: Message<'_>,
            reply: &mut Reply<'_>,
        ) -> HandlerResult {
            assert!(reply.view().tls().is_none(), "nothing of it is kept");
            Ok(())
        }
    }
    let pki = pki();
    let seen = Arc::default();
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .build_with(Raw, Asks(Arc::clone(&seen)))
        .unwrap();
    let port = server.addresses()[0].port().unwrap();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run().unwrap());
    let mut stream = shaken(&pki, port);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed with close_notify");
    let key = stream.conn.export_keying_material([0; 8], b"EXPORTER-test", Some(b"")).unwrap();
    let told = seen.lock().unwrap().join("");
    assert_eq!(told, format!("TLSv1.3 TLS_AES_128_GCM_SHA256 localhost 0 {key:?}"));
    handle.shutdown().unwrap();
    thread.join().unwrap();
}

#[test]
fn may_a_server_have_plain_and_secure_listeners() {
    let pki = pki();
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .listen("127.0.0.1", 0)
        .answer_with(Raw, echo as fn(Message<'_>, &mut Reply<'_>) -> HandlerResult)
        .unwrap();
    let ports: Vec<_> = server.addresses().iter().map(|address| address.port().unwrap()).collect();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run().unwrap());
    let mut secure = shaken(&pki, ports[0]);
    let mut plain = TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
    for stream in [&mut secure as &mut dyn ReadWrite, &mut plain] {
        stream.write_all(b"hello").unwrap();
        stream.flush().unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }
    handle.shutdown().unwrap();
    assert!(thread.join().unwrap());
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn does_the_blocking_client_speak_tls() {
    let pki = pki();
    let mut servers = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .threads(2)
        .answer_each(|| {
            |message: Message<'_>, reply: &mut Reply<'_>| {
                reply.echo(&message)?;
                Ok(())
            }
        })
        .unwrap();
    let port = servers.addresses()[0].port().unwrap();
    let handle = servers.handle();
    let thread = thread::spawn(move || {
        servers.run().unwrap();
        servers.stats().sum()
    });
    let connector = myriapod_tls::Connector::<32>::new((*pki.client).clone()).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let options = myriapod::ClientOptions::default();
    let mut client =
        myriapod::Client::connect_secure("127.0.0.1", port, options, connector.to(name)).unwrap();
    for len in [1, 100, 100_000, 1_000_000] {
        let text = "x".repeat(len);
        let reply = client.request_json(&text).unwrap();
        assert!(reply.json().unwrap() == text);
    }
    assert_eq!(client.connections(), 1, "tickets are no reason to connect again");
    drop(client);
    handle.shutdown().unwrap();
    let stats = thread.join().unwrap();
    assert_eq!(stats.link_faults.sum(), 0, "{stats}");
}

/// A message, once ciphers are awake and buffers have grown, costs no allocation.
#[test]
fn is_an_echo_over_tls_free_of_allocations() {
    let pki = pki();
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .answer_with(Raw, echo as fn(Message<'_>, &mut Reply<'_>) -> HandlerResult)
        .unwrap();
    let port = server.addresses()[0].port().unwrap();
    // The client works on another thread: what it allocates is not counted.
    let client = thread::spawn({
        let pki = Arc::new(pki);
        move || {
            let mut stream = shaken(&pki, port);
            for _ in 0..60 {
                stream.write_all(&[7; 146]).unwrap();
                stream.flush().unwrap();
                let mut got = [0; 146];
                stream.read_exact(&mut got).unwrap();
            }
        }
    });
    turn_until(&mut server, |stats| stats.messages >= 10);
    let counted = allocation_counter::measure(|| {
        turn_until(&mut server, |stats| stats.messages >= 50);
    });
    turn_until(&mut server, |stats| stats.messages >= 60 && stats.open == 0);
    client.join().unwrap();
    // The counts are copied at each look, with the lists of faults in them: both are empty.
    assert_eq!(counted.count_total, 0);
}
