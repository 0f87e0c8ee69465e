//! Connections that an event loop makes itself.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use myriapod::link::LinkFault;
use myriapod::protocol::Raw;
use myriapod::sys::SystemError;
use myriapod::{
    Cause, Handler, HandlerResult, Limits, Message, Outgoing, Reply, Server, SocketAddr, View,
};
use myriapod_tls::rustls::pki_types::ServerName;
use myriapod_tls::{Connector, Tls, ToServer, Trust, client_config};

use crate::{Pki, pki, serve, turn_until};

/// Says something on each connection, and tells what happens.
struct Caller(Sender<String>);

impl Caller {
    fn tell(&self, text: impl Into<String>) {
        self.0.send(text.into()).unwrap();
    }
}

impl Handler for Caller {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) {
        let tls = view.tls().map(|tls| String::from_utf8_lossy(tls.preface()).into_owned());
        self.tell(format!("open {tls:?}"));
        view.push(&Outgoing::binary("", vec![b'x'; 40_000])).unwrap();
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        _: &mut Reply<'_>,
    ) -> HandlerResult {
        self.tell(format!("got {}", message.content().len()));
        Ok(())
    }

    fn on_connect_error(&mut self, tag: u64, error: &SystemError) {
        self.tell(format!("{tag} failed: {error}"));
    }

    fn on_handshake_error(&mut self, tag: u64, fault: &LinkFault) {
        self.tell(format!("{tag} refused: {}", fault.name));
    }

    fn on_close(&mut self, (): (), _: &mut View<'_>, cause: Cause) {
        self.tell(format!("closed {}", cause.name()));
    }
}

fn to(pki: &Pki, name: &str) -> ToServer {
    let config = client_config(Trust::Certificates(pki.chain.clone()), None).unwrap();
    Connector::new(config).unwrap().to(ServerName::try_from(name.to_owned()).unwrap())
}

/// All that a loop tells that connects once, to its end.
fn tells(port: u16, timeout: Duration, to: ToServer) -> Vec<String> {
    let (teller, told) = channel();
    let mut server = Server::builder().link::<Tls>().build_with(Raw, Caller(teller)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    server.handle().connect_secure(address, 7, timeout, to).unwrap();
    let mut all = Vec::new();
    let (mut got, handle) = (0, server.handle());
    turn_until(&mut server, |stats| {
        for text in told.try_iter() {
            match text.strip_prefix("got ") {
                Some(len) => got += len.parse::<usize>().unwrap(),
                None => all.push(text),
            }
        }
        let is_over = got == 40_000 || all.iter().any(|text| text.starts_with("7 "));
        if is_over {
            handle.shutdown().unwrap();
        }
        is_over && stats.open + stats.lingering == 0
    });
    drop(server);
    all.extend(told.try_iter());
    all
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn does_a_loop_connect_over_tls_as_it_serves() {
    let pki = pki();
    let server = serve(pki.acceptor(), Limits::default());
    let told = tells(server.port, LONG, to(&pki, "localhost"));
    assert_eq!(told, ["open Some(\"\")", "closed drained"]);
    // A name that the certificate has not.
    assert_eq!(tells(server.port, LONG, to(&pki, "other")), ["7 refused: HandshakeFailed"]);
    let stats = server.stop();
    assert_eq!((stats.handshakes, stats.handshake_faults.sum()), (1, 1), "{stats}");
    assert_eq!(stats.link_faults.sum(), 0, "{stats}");
}

/// Serves one connection with this.
fn once(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

#[test]
fn is_a_line_in_front_of_the_handshake_read_first() {
    let pki = pki();
    let secure = serve(pki.acceptor(), Limits::default());
    let port = secure.port;
    // In pieces, and then as a way to the server that is secure.
    let (port, thread) = once(move |client| {
        let server = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        for piece in ["INFO ", "{}\r", "\n"] {
            (&client).write_all(piece.as_bytes()).unwrap();
        }
        let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let there = thread::spawn(move || {
            let _ = std::io::copy(&mut &from, &mut &into);
            let _ = into.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut &server, &mut &client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        there.join().unwrap();
    });
    let told = tells(port, LONG, to(&pki, "localhost").after_line());
    assert_eq!(told, ["open Some(\"INFO {}\\r\")", "closed drained"]);
    thread.join().unwrap();
    secure.stop();
    // A line without an end.
    let (port, thread) = once(|mut client| {
        // It is closed before all is sent.
        let _ = client.write_all(&[b'x'; 100_000]);
        let _ = client.read(&mut [0; 10]);
    });
    let told = tells(port, LONG, to(&pki, "localhost").after_line());
    assert_eq!(told, ["7 refused: HandshakeFailed"]);
    thread.join().unwrap();
}

#[test]
fn is_a_handshake_that_comes_to_nothing_told_once() {
    let pki = pki();
    let silent = |port, timeout| tells(port, timeout, to(&pki, "localhost"));
    let until_it_ends = |mut client: std::net::TcpStream| {
        let _ = client.read_to_end(&mut Vec::new());
    };
    let (port, thread) = once(until_it_ends);
    assert_eq!(silent(port, Duration::from_millis(300)), ["7 refused: HandshakeTimeout"]);
    thread.join().unwrap();
    let (port, thread) = once(drop);
    assert_eq!(silent(port, LONG), ["7 refused: Truncated"]);
    thread.join().unwrap();
    let (port, thread) = once(|mut client| client.write_all(b"hello hello hello").unwrap());
    assert_eq!(silent(port, LONG), ["7 refused: NotARecord"]);
    thread.join().unwrap();
    // Nobody listens on port 1.
    let told = silent(1, LONG);
    assert!(matches!(&told[..], [text] if text.contains("ECONNREFUSED")), "{told:?}");
    // A stop in the middle.
    let (port, thread) = once(until_it_ends);
    let (teller, told) = channel();
    let mut server = Server::builder().link::<Tls>().build_with(Raw, Caller(teller)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    server.handle().connect_secure(address, 7, LONG, to(&pki, "localhost")).unwrap();
    let bytes_go = |server: &mut Server<Caller, Raw, Tls>| {
        for _ in 0..20 {
            server.event_loop().run_once(Some(Duration::from_millis(10))).unwrap();
        }
    };
    bytes_go(&mut server);
    server.handle().shutdown().unwrap();
    server.run().unwrap();
    let told: Vec<String> = told.try_iter().collect();
    assert!(matches!(&told[..], [text] if text.contains("ECONNABORTED")), "{told:?}");
    thread.join().unwrap();
}

#[test]
fn does_a_loop_of_another_link_refuse_to_call() {
    let (teller, told) = channel();
    let mut server = Server::builder().build_with(Raw, Caller(teller)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    server.handle().connect_secure(address, 7, LONG, to(&pki(), "localhost")).unwrap();
    server.handle().shutdown().unwrap();
    server.run().unwrap();
    let told = told.recv().unwrap();
    assert!(told.starts_with("7 failed: ") && told.contains("secure"), "{told}");
}
