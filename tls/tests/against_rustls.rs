//! Do our records and handshakes agree with rustls, byte for byte and fault for fault?

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

use std::io::{Read, Write};
use std::sync::Arc;

use myriapod_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use myriapod_tls::rustls::{
    self, CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    ServerConnection,
};
use myriapod_tls::{
    Acceptor, Asleep, Ciphers, ConfigError, Connector, End, Failure, Fault, Handshake, Session,
    Step, Suite, provider, provider_with_aes_256, server_config,
};

const SUITES: [(Suite, CipherSuite); 3] = [
    (Suite::Aes128Gcm, CipherSuite::TLS13_AES_128_GCM_SHA256),
    (Suite::ChaCha20Poly1305, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (Suite::Aes256Gcm, CipherSuite::TLS13_AES_256_GCM_SHA384),
];

struct Pki {
    chain: Vec<CertificateDer<'static>>,
    key: rcgen::KeyPair,
    roots: Arc<RootCertStore>,
}

impl Pki {
    fn new() -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        Self { chain: vec![cert.der().clone()], key: signing_key, roots: Arc::new(roots) }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    fn server(&self) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(provider_with_aes_256()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key())
            .unwrap()
    }

    fn client(&self, suite: CipherSuite) -> ClientConfig {
        let mut provider = provider_with_aes_256();
        provider.cipher_suites.retain(|offered| offered.suite() == suite);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"myriapod".to_vec()];
        config
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn output(connection: &mut rustls::Connection) -> Vec<u8> {
    let mut out = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut out).unwrap();
    }
    out
}

fn input(connection: &mut rustls::Connection, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes.by_ref()).unwrap();
        connection.process_new_packets()?;
    }
    Ok(())
}

fn read(connection: &mut rustls::Connection) -> Vec<u8> {
    let mut plain = vec![0; 1 << 20];
    let mut len = 0;
    while let Ok(read @ 1..) = connection.reader().read(&mut plain[len..]) {
        len += read;
    }
    plain.truncate(len);
    plain
}

/// Carries out a handshake against rustls, with our input in pieces of this size. Returns what rustls
/// had sent behind it.
fn shake(
    ours: &mut Handshake,
    theirs: &mut rustls::Connection,
    size: usize,
) -> Result<Vec<u8>, Failure> {
    let (mut sent, mut buffer) = (Vec::new(), Vec::new());
    ours.begin(&mut sent);
    let mut is_done = false;
    for _ in 0..10 {
        input(theirs, &sent).unwrap();
        sent.clear();
        let got = output(theirs);
        for piece in got.chunks(size) {
            buffer.extend_from_slice(piece);
            if is_done {
                continue;
            }
            match ours.advance(&buffer, &mut sent)? {
                Step::More { consumed, needed } => {
                    buffer.drain(..consumed);
                    assert!(buffer.len() < needed);
                }
                Step::Done { consumed } => {
                    buffer.drain(..consumed);
                    is_done = true;
                }
            }
        }
        if is_done && sent.is_empty() && !theirs.is_handshaking() {
            return Ok(buffer);
        }
    }
    panic!("the handshake does not end");
}

struct Pair {
    ours: Asleep<48>,
    session: Session,
    theirs: rustls::Connection,
    ciphers: Ciphers,
    left: Vec<u8>,
}

impl Pair {
    fn new(mut ours: Handshake, mut theirs: rustls::Connection, size: usize) -> Self {
        let left = shake(&mut ours, &mut theirs, size).unwrap();
        let (ours, session) = ours.finish::<48>().unwrap();
        Self { ours, session, theirs, ciphers: Ciphers::new(4).unwrap(), left }
    }

    /// We are the server.
    fn server(pki: &Pki, suite: CipherSuite, size: usize) -> Self {
        let mut config = pki.server();
        config.alpn_protocols = vec![b"myriapod".to_vec()];
        let ours = Acceptor::<48>::new(config).unwrap().begin().unwrap();
        let client = ClientConnection::new(Arc::new(pki.client(suite)), name()).unwrap();
        Self::new(ours, client.into(), size)
    }

    /// We are the client.
    fn client(pki: &Pki, suite: CipherSuite, size: usize) -> Self {
        let ours = Connector::<48>::new(pki.client(suite)).unwrap().begin(name()).unwrap();
        let server = ServerConnection::new(Arc::new(pki.server())).unwrap();
        Self::new(ours, server.into(), size)
    }

    fn send(&mut self, plain: &[u8]) {
        let mut out = Vec::new();
        self.ours.seal(&mut self.ciphers, 7, plain, &mut out).unwrap();
        let mut got = Vec::new();
        for piece in out.chunks(10_000) {
            input(&mut self.theirs, piece).unwrap();
            got.extend(read(&mut self.theirs));
        }
        assert!(got == plain);
    }

    fn receive(&mut self, plain: &[u8]) {
        self.theirs.writer().write_all(plain).unwrap();
        let sent = output(&mut self.theirs);
        self.left.extend_from_slice(&sent);
        let opened = self.ours.open(&mut self.ciphers, 7, &mut self.left);
        assert_eq!((opened.consumed, opened.end), (self.left.len(), None));
        assert!(self.left[..opened.plain] == *plain);
        self.left.clear();
    }
}

fn pki() -> &'static Pki {
    static PKI: std::sync::OnceLock<Pki> = std::sync::OnceLock::new();
    PKI.get_or_init(Pki::new)
}

#[test]
fn do_both_roles_talk_to_rustls_in_every_suite() {
    for (suite, id) in SUITES {
        for size in [1, 7, 100_000] {
            for mut pair in [Pair::server(pki(), id, size), Pair::client(pki(), id, size)] {
                assert_eq!(pair.ours.suite(), Some(suite));
                for len in [1, 146, 16_384, 16_385, 50_000] {
                    let plain: Vec<u8> =
                        (0..len).map(|n: u32| u8::try_from(n % 251).unwrap()).collect();
                    pair.send(&plain);
                    pair.receive(&plain);
                }
            }
        }
    }
}

#[test]
fn do_key_updates_from_both_sides_agree_with_rustls() {
    for (_, id) in SUITES {
        for mut pair in [Pair::server(pki(), id, 9999), Pair::client(pki(), id, 9999)] {
            for round in 0..8_u8 {
                pair.theirs.refresh_traffic_keys().unwrap();
                pair.receive(&[round]);
                pair.send(b"answered first");
                pair.ours.renew(round % 2 == 0);
                pair.send(b"renewed");
                pair.receive(b"and theirs");
            }
            assert!(pair.ciphers.counts().updates_in >= 8);
        }
    }
}

#[test]
fn does_close_notify_go_both_ways() {
    for mut pair in [Pair::server(pki(), SUITES[0].1, 9999), Pair::client(pki(), SUITES[0].1, 1)] {
        pair.theirs.writer().write_all(b"last").unwrap();
        pair.theirs.send_close_notify();
        let sent = output(&mut pair.theirs);
        pair.left.extend_from_slice(&sent);
        let opened = pair.ours.open(&mut pair.ciphers, 7, &mut pair.left);
        assert_eq!(&pair.left[..opened.plain], b"last");
        assert_eq!(opened.end, Some(End::Closed));
        assert!(pair.ours.is_closed() && !pair.ours.note_end());
        // We may still answer.
        pair.send(b"answer");
        let mut out = Vec::new();
        pair.ours.finish(&mut pair.ciphers, 7, &mut out).unwrap();
        pair.theirs.read_tls(&mut out.as_slice()).unwrap();
        assert!(pair.theirs.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn does_the_session_say_what_rustls_says() {
    let pair = Pair::server(pki(), SUITES[0].1, 9999);
    assert_eq!(pair.session.server_name(), Some("localhost"));
    assert_eq!(pair.session.alpn(), Some(&b"myriapod"[..]));
    assert_eq!(pair.session.certificates().len(), 0);
    assert!(!pair.session.is_resumed());
    let rustls::Connection::Client(client) = &pair.theirs else { panic!("we are the server") };
    for (label, context) in [(&b"EXPORTER-Channel-Binding"[..], &b""[..]), (b"x", b"context")] {
        let theirs = client.export_keying_material([0; 77], label, Some(context)).unwrap();
        let mut ours = [0; 77];
        assert!(pair.session.export(label, context, &mut ours));
        assert_eq!(ours, theirs);
    }
    let pair = Pair::client(pki(), SUITES[2].1, 9999);
    assert_eq!(pair.session.certificates(), pki().chain);
    let rustls::Connection::Server(server) = &pair.theirs else { panic!("we are the client") };
    let theirs = server.export_keying_material([0; 48], b"EXPORTER-y", Some(b"")).unwrap();
    let mut ours = [0; 48];
    assert!(pair.session.export(b"EXPORTER-y", b"", &mut ours));
    assert_eq!(ours, theirs);
}

#[test]
fn is_a_session_resumed_by_its_ticket() {
    let acceptor = Acceptor::<32>::new(server_config(pki().chain.clone(), pki().key()).unwrap());
    let acceptor = acceptor.unwrap();
    let config = Arc::new(pki().client(SUITES[0].1));
    for is_resumed in [false, true] {
        let client = ClientConnection::new(Arc::clone(&config), name()).unwrap();
        let pair = Pair::new(acceptor.begin().unwrap(), client.into(), 9999);
        assert_eq!(pair.session.is_resumed(), is_resumed);
    }
}

/// What follows the handshake in the same bytes is the connection's.
#[test]
fn is_data_behind_finished_left_alone() {
    let mut ours = Acceptor::<32>::new(server_config(pki().chain.clone(), pki().key()).unwrap())
        .unwrap()
        .begin()
        .unwrap();
    let client = ClientConnection::new(Arc::new(pki().client(SUITES[0].1)), name()).unwrap();
    let mut client = rustls::Connection::from(client);
    let (mut out, hello) = (Vec::new(), output(&mut client));
    let step = ours.advance(&hello, &mut out).unwrap();
    assert!(matches!(step, Step::More { consumed, needed: 5 } if consumed == hello.len()));
    input(&mut client, &out).unwrap();
    client.writer().write_all(b"at once").unwrap();
    let mut bytes = output(&mut client);
    let Step::Done { consumed } = ours.advance(&bytes, &mut out).unwrap() else {
        panic!("it is done");
    };
    let (mut asleep, _) = ours.finish::<32>().unwrap();
    let mut ciphers = Ciphers::new(0).unwrap();
    let rest = &mut bytes[consumed..];
    let opened = asleep.open(&mut ciphers, 0, rest);
    assert_eq!(&rest[..opened.plain], b"at once");
}

#[test]
fn does_a_handshake_fail_by_name() {
    let acceptor = Acceptor::<48>::new(pki().server()).unwrap();
    for (bytes, fault, alert) in [
        (&b"GET / HTTP/1.1\r\n"[..], Fault::NotARecord, &[21, 3, 3, 0, 2, 2, 10][..]),
        (b"\x00\x5e{", Fault::NotARecord, &[21, 3, 3, 0, 2, 2, 10]),
        (&[22, 2, 0, 0, 1, 1], Fault::NotARecord, &[21, 3, 3, 0, 2, 2, 10]),
        (&[22, 3, 1, 0xff, 0xff], Fault::RecordOverflow, &[21, 3, 3, 0, 2, 2, 22]),
        (&[22, 3, 1, 0, 4, 9, 0, 0, 0], Fault::HandshakeFailed, &[21, 3, 3, 0, 2, 2]),
        (&[21, 3, 1, 0, 2, 2, 42], Fault::PeerAlert(42), &[]),
        (&[23, 3, 3, 0, 2, 2, 42], Fault::HandshakeFailed, &[21, 3, 3, 0, 2, 2]),
    ] {
        let mut out = Vec::new();
        let failure = acceptor.begin().unwrap().advance(bytes, &mut out).unwrap_err();
        assert_eq!(failure.fault, fault, "{failure}");
        assert!(out.starts_with(alert) && out.is_empty() == alert.is_empty(), "{failure} {out:?}");
    }
}

#[test]
fn is_an_unknown_authority_told_to_the_server() {
    let mut ours = Acceptor::<48>::new(pki().server()).unwrap().begin().unwrap();
    let other = Pki::new();
    let client = ClientConnection::new(Arc::new(other.client(SUITES[0].1)), name()).unwrap();
    let mut client = rustls::Connection::from(client);
    let (mut out, hello) = (Vec::new(), output(&mut client));
    let _ = ours.advance(&hello, &mut out).unwrap();
    assert!(input(&mut client, &out).is_err());
    let alert = output(&mut client);
    let failure = ours.advance(&alert, &mut out).unwrap_err();
    assert!(matches!(failure.fault, Fault::PeerAlert(_)), "{failure}");
}

#[test]
fn is_a_suite_that_has_no_room_refused_when_it_is_offered() {
    let error = Acceptor::<32>::new(pki().server()).unwrap_err();
    assert!(matches!(error, ConfigError::Suite { secret_len: 32, .. }), "{error}");
    assert!(error.to_string().contains("48"), "{error}");
    let offered: Vec<_> =
        provider().cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect();
    assert_eq!(offered, [SUITES[0].1, SUITES[1].1]);
}

#[test]
fn does_another_certificate_serve_the_next_handshake() {
    let acceptor = Acceptor::<48>::new(pki().server()).unwrap();
    let same = acceptor.clone();
    let other = Pki::new();
    acceptor.replace(other.server()).unwrap();
    let client = ClientConnection::new(Arc::new(other.client(SUITES[0].1)), name()).unwrap();
    let pair = Pair::new(same.begin().unwrap(), client.into(), 9999);
    assert!(pair.ours.is_secure());
}

/// A stream with one byte changed: what we read before the fault is what rustls reads, and one fails
/// where the other does.
#[test]
fn does_a_changed_stream_end_where_it_ends_for_rustls() {
    for (_, id) in SUITES {
        for at in (0..200).step_by(3) {
            // The same secrets for both would need a hook into rustls, so each has its own peer, which
            // sends the same messages.
            let mut pair = Pair::server(pki(), id, 9999);
            let mut theirs = Pair::client(pki(), id, 9999);
            let (mut sent, mut starts) = (Vec::new(), Vec::new());
            for message in [&b"one"[..], b"two", b"a third one, longer than those before", b"end"] {
                starts.push(sent.len());
                pair.theirs.writer().write_all(message).unwrap();
                theirs.ours.seal(&mut theirs.ciphers, 7, message, &mut sent).unwrap();
            }
            let mut bytes = output(&mut pair.theirs);
            assert_eq!(bytes.len(), sent.len());
            let Some(byte) = bytes.get_mut(at) else { break };
            *byte ^= 1;
            sent[at] ^= 1;
            let opened = pair.ours.open(&mut pair.ciphers, 7, &mut bytes);
            let is_fault = input(&mut theirs.theirs, &sent).is_err();
            if starts.iter().any(|start| (*start..start + 3).contains(&at)) {
                // Type and version are part of what is authenticated. rustls takes them for what they
                // should be; we take them as they came.
                assert!(matches!(opened.end, Some(End::Fault(_))), "byte {at}");
                continue;
            }
            let read = read(&mut theirs.theirs);
            assert_eq!(&bytes[..opened.plain], read, "byte {at}");
            let is_ours = matches!(opened.end, Some(End::Fault(_)));
            assert_eq!(is_ours, is_fault, "byte {at}: {opened:?}");
        }
    }
}
