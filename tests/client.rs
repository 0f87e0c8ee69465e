//! Does the client get its answers, and does it say what went wrong where there is none?

#![cfg(feature = "json")]
#![expect(clippy::unwrap_used, reason = "tests fail by it")]

mod common;
#[path = "client/tickets.rs"]
mod tickets;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use myriapod::protocol::{
    DecodeLimits, Decoder, ExtraHeaders, Fault, Head, JsonHeader, Message, encode_json,
};
use myriapod::sys::poll::wait_one;
use myriapod::sys::{
    AsFd, Connecting, Errno, ListenOptions, Listener, Socket, SocketAddr, set_linger,
};
use myriapod::{
    Client, ClientOptions, Error, HandlerResult, Interest, Limits, Reply, Server, ServerBuilder,
};
use serde_json::{Value, json};

/// Long enough never to pass where it should not.
const PATIENCE: Duration = Duration::from_secs(60);
/// Short, for what will surely not come.
const SOON: Duration = Duration::from_millis(50);

/// A server of ours in a thread of its own, stopped at the end.
struct Served {
    port: u16,
    handle: myriapod::Handle,
    thread: Option<JoinHandle<myriapod::Stats>>,
}

impl Served {
    fn new<C>(builder: impl FnOnce() -> ServerBuilder + Send + 'static, answer: C) -> Self
    where
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut server = builder().listen("127.0.0.1", 0).answer(answer).unwrap();
            sender.send((server.addresses()[0].port().unwrap(), server.handle())).unwrap();
            server.run().unwrap();
            server.stats()
        });
        let (port, handle) = receiver.recv().unwrap();
        Self { port, handle, thread: Some(thread) }
    }

    fn echo() -> Self {
        Self::new(Server::builder, |message, reply| Ok(reply.echo(&message)?))
    }

    fn stop(mut self) -> myriapod::Stats {
        self.handle.shutdown().unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.shutdown().unwrap();
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

/// A peer in a thread of its own that handles one connection after the other by a script.
fn scripted<T: Send + 'static>(
    script: impl FnOnce(TcpListener) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || script(listener)))
}

/// As [`scripted`], on a Unix socket: what is written or closed there is seen at once.
fn scripted_unix<T: Send + 'static>(
    script: impl FnOnce(UnixListener) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("myriapod-client-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    let host = format!("unix:{}", path.display());
    let thread = thread::spawn(move || {
        let result = script(listener);
        std::fs::remove_file(path).unwrap();
        result
    });
    (host, thread)
}

/// Reads one message and returns its JSON, or null where there is none.
fn read_message(stream: &mut impl Read) -> Value {
    let mut decoder = Decoder::new(JsonHeader::default());
    let mut chunk = [0; 4096];
    loop {
        let received = stream.read(&mut chunk).unwrap();
        assert!(received > 0, "the client closed");
        decoder.feed(&chunk[..received]);
        if let Some(message) = decoder.next_message().unwrap() {
            return message.json().unwrap_or_default();
        }
    }
}

fn reply(value: &Value) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_json(&mut wire, &Head::json(), value).unwrap();
    wire
}

fn error_reply(kind: &str) -> Vec<u8> {
    let mut extra = ExtraHeaders::new();
    extra.push("status", "error").unwrap();
    extra.push("error", kind).unwrap();
    let mut wire = Vec::new();
    let head = Head { extra: &extra, ..Head::json() };
    encode_json(&mut wire, &head, &json!({ "result": "Error: no" })).unwrap();
    wire
}

fn connect(port: u16) -> Client {
    let options = ClientOptions {
        connect_timeout: PATIENCE,
        read_timeout: PATIENCE,
        write_timeout: PATIENCE,
        ..ClientOptions::default()
    };
    Client::connect_with("127.0.0.1", port, options).unwrap()
}

#[test]
fn does_one_connection_carry_many_requests() {
    let server = Served::echo();
    let mut client = connect(server.port);
    for number in 0..100 {
        assert_eq!(client.request_json(&number).unwrap().json().unwrap(), number);
    }
    let binary = client.request(&Head::binary("b/x"), b"\0\xff").unwrap();
    assert_eq!((binary.content_type(), binary.content()), ("b/x", &b"\0\xff"[..]));
    assert_eq!(client.connections(), 1);
    drop(client);
    assert_eq!(server.stop().accepted, 1);
}

#[test]
fn are_pipelined_replies_those_of_the_requests_in_order() {
    let server = Served::echo();
    let mut client = connect(server.port);
    for number in 0..300 {
        client.send_json(&number).unwrap();
    }
    assert_eq!(client.awaited(), 300);
    for number in 0..300 {
        assert_eq!(client.receive().unwrap().json().unwrap(), number);
    }
    assert!(matches!(client.receive(), Err(Error::NothingAwaited)));
    assert_eq!(client.request_json("on").unwrap().json().unwrap(), "on");
    assert_eq!(client.connections(), 1);
}

#[test]
fn does_a_request_not_take_the_reply_to_an_earlier_one() {
    let server = Served::echo();
    let mut client = connect(server.port);
    client.send_json("first").unwrap();
    let refused = client.request_json("second").unwrap_err();
    assert!(matches!(refused, Error::RepliesAwaited { count: 1 }), "{refused}");
    assert_eq!(client.receive().unwrap().json().unwrap(), "first");
    assert_eq!(client.request_json("third").unwrap().json().unwrap(), "third");
}

#[test]
fn do_client_and_server_not_wait_for_each_other_to_read() {
    const COUNT: usize = 64;
    let content = vec![7; 1 << 20];
    // Echoes each message before it reads the next, as a simple server does.
    let (port, peer) = scripted(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut decoder = Decoder::new(JsonHeader::default());
        let mut chunk = vec![0; 64 << 10];
        for _ in 0..COUNT {
            loop {
                if let Some(message) = decoder.next_message().unwrap() {
                    stream.write_all(message.bytes()).unwrap();
                    break;
                }
                let received = stream.read(&mut chunk).unwrap();
                decoder.feed(&chunk[..received]);
            }
        }
    });
    let options = ClientOptions {
        write_timeout: Duration::from_secs(10),
        limits: DecodeLimits { max_content_len: COUNT << 20, ..DecodeLimits::default() },
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with("127.0.0.1", port, options).unwrap();
    for _ in 0..COUNT {
        client.send(&Head::binary("x"), &content).unwrap();
    }
    for _ in 0..COUNT {
        assert!(client.receive().unwrap().content() == content);
    }
    peer.join().unwrap();
}

#[test]
fn does_a_reply_in_pieces_arrive_whole() {
    let expected = json!({ "result": "Follow the white rabbit. 🐰" });
    let wire = reply(&expected);
    let (port, peer) = scripted(move |listener| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        read_message(&mut stream);
        for byte in wire {
            stream.write_all(&[byte]).unwrap();
        }
    });
    let mut client = connect(port);
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), expected);
    peer.join().unwrap();
}

#[test]
fn does_a_large_message_go_both_ways() {
    let limits = DecodeLimits { max_content_len: 32 << 20, ..DecodeLimits::default() };
    let builder = || {
        let max_content_len = 32 << 20;
        Server::builder().limits(Limits { max_content_len, ..Limits::default() })
    };
    let server = Served::new(builder, |message, reply| Ok(reply.echo(&message)?));
    let options = ClientOptions { limits, ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", server.port, options).unwrap();
    let content: Vec<u8> = (0..16_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    for _ in 0..2 {
        assert!(client.request(&Head::binary("x"), &content).unwrap().content() == content);
    }
}

#[test]
fn is_an_error_reply_told_from_an_answer() {
    let server = Served::new(Server::builder, |message, reply| {
        let text: String = message.json_as()?;
        reply.header("status", "fine")?;
        Ok(reply.json(&text)?)
    });
    let mut client = connect(server.port);
    assert_eq!(client.request_json("fine").unwrap().error_kind(), None);
    let refused = client.request(&Head::json(), b"{").unwrap();
    assert_eq!(refused.error_kind().as_deref(), Some("ContentNotJson"));
    assert_eq!(client.request_json("fine again").unwrap().json().unwrap(), "fine again");
    assert_eq!(client.connections(), 1);
}

#[test]
fn does_one_connection_per_request_suit_a_server_that_closes() {
    let one_shot = || Server::builder().one_shot(true);
    let server = Served::new(one_shot, |message, reply| Ok(reply.echo(&message)?));
    let options = ClientOptions { per_request: true, ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", server.port, options).unwrap();
    for number in 1..=20 {
        assert_eq!(client.request_json(&number).unwrap().json().unwrap(), number);
        assert_eq!(client.connections(), number);
    }
    client.send_json("one").unwrap();
    assert!(matches!(client.send_json("two"), Err(Error::RepliesAwaited { count: 1 })));
    assert_eq!(client.receive().unwrap().json().unwrap(), "one");
    assert_eq!(server.stop().accepted, 21);
}

#[test]
fn is_a_connection_that_was_closed_in_between_made_anew() {
    let (closed, is_closed) = mpsc::channel();
    let (host, peer) = scripted_unix(move |listener| {
        for number in 1..=3 {
            let (mut stream, _) = listener.accept().unwrap();
            read_message(&mut stream);
            stream.write_all(&reply(&json!(number))).unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    let mut client = Client::connect(&host, 0).unwrap();
    for number in 1..=3 {
        assert_eq!(client.request_json("x").unwrap().json().unwrap(), number);
        is_closed.recv().unwrap();
    }
    assert_eq!((client.connections(), client.dropped_bytes()), (3, 0));
    peer.join().unwrap();
}

#[test]
fn is_a_connection_that_was_reset_in_between_made_anew() {
    let (reset, is_reset) = mpsc::channel();
    let (port, peer) = scripted(move |listener| {
        let (mut first, _) = listener.accept().unwrap();
        read_message(&mut first);
        first.write_all(&reply(&json!(1))).unwrap();
        reset.send(first).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        read_message(&mut second);
        second.write_all(&reply(&json!(2))).unwrap();
    });
    let mut client = connect(port);
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), 1);
    let first: TcpStream = is_reset.recv().unwrap();
    set_linger(&first, Some(Duration::ZERO)).unwrap();
    drop(first);
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), 2);
    assert_eq!(client.connections(), 2);
    peer.join().unwrap();
}

#[test]
fn is_what_nobody_asked_for_not_taken_for_an_answer() {
    let (sent, is_sent) = mpsc::channel();
    let unasked = reply(&json!("unasked"));
    let len = unasked.len() as u64;
    let (host, peer) = scripted_unix(move |listener| {
        let (mut first, _) = listener.accept().unwrap();
        read_message(&mut first);
        // One comes with the reply, one afterwards.
        first.write_all(&[reply(&json!(1)), unasked.clone()].concat()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        read_message(&mut second);
        second.write_all(&reply(&json!(2))).unwrap();
        second.write_all(&unasked).unwrap();
        sent.send(()).unwrap();
        let (mut third, _) = listener.accept().unwrap();
        read_message(&mut third);
        third.write_all(&reply(&json!(3))).unwrap();
    });
    let mut client = Client::connect(&host, 0).unwrap();
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), 1);
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), 2);
    is_sent.recv().unwrap();
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), 3);
    assert_eq!((client.connections(), client.dropped_bytes()), (3, 2 * len));
    peer.join().unwrap();
}

#[test]
fn is_a_late_reply_not_taken_for_the_next_answer() {
    let (gone_on, goes_on) = mpsc::channel::<()>();
    let (port, peer) = scripted(move |listener| {
        let (mut first, _) = listener.accept().unwrap();
        read_message(&mut first);
        goes_on.recv().unwrap();
        let _ = first.write_all(&reply(&json!("late")));
        let (mut second, _) = listener.accept().unwrap();
        let asked = read_message(&mut second);
        second.write_all(&reply(&asked)).unwrap();
    });
    let options = ClientOptions { read_timeout: Duration::from_secs(1), ..Default::default() };
    let mut client = Client::connect_with("127.0.0.1", port, options).unwrap();
    let error = client.request_json("first").unwrap_err();
    assert!(matches!(error, Error::Timeout { call: "recv", .. }), "{error}");
    assert_eq!(error.to_string(), format!("recv 127.0.0.1:{port}: nothing within 1s"));
    assert_eq!(client.peer(), None);
    gone_on.send(()).unwrap();
    assert_eq!(client.request_json("second").unwrap().json().unwrap(), "second");
    assert_eq!(client.connections(), 2);
    peer.join().unwrap();
}

#[test]
fn is_a_reply_read_that_came_before_the_request_was_sent() {
    for round in 0..20 {
        let (port, peer) = scripted(move |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 1000]).unwrap();
            stream.write_all(&error_reply("ContentTooLong")).unwrap();
            match round % 3 {
                // Unread input makes this a reset.
                0 => drop(stream),
                1 => stream.shutdown(Shutdown::Write).unwrap(),
                _ => {
                    stream.shutdown(Shutdown::Write).unwrap();
                    // Lingers until the client closes.
                    while stream.read(&mut [0; 4096]).is_ok_and(|received| received > 0) {}
                }
            }
        });
        let mut client = connect(port);
        let reply = client.request(&Head::binary("x"), &vec![0; 32 << 20]).unwrap();
        assert_eq!(reply.error_kind().as_deref(), Some("ContentTooLong"), "round {round}");
        drop(client);
        peer.join().unwrap();
    }
}

#[test]
fn does_our_server_tell_why_a_request_is_too_long() {
    let server = Served::echo();
    let mut client = connect(server.port);
    let kind = client.request(&Head::binary("x"), &vec![0; 32 << 20]).unwrap().error_kind();
    assert_eq!(kind.as_deref(), Some("ContentTooLong"));
    assert_eq!(client.request_json("on").unwrap().json().unwrap(), "on");
    assert_eq!(client.connections(), 2);
}

#[test]
fn does_a_server_that_closes_without_a_reply_say_so() {
    for partial in [0, 1, 2, 50] {
        let (port, peer) = scripted(move |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_message(&mut stream);
            stream.write_all(&reply(&json!("never whole"))[..partial]).unwrap();
        });
        let error = connect(port).request_json("x").unwrap_err();
        let Error::Closed { received, .. } = &error else { panic!("{error}") };
        assert_eq!(*received, partial);
        peer.join().unwrap();
    }
}

#[test]
fn does_a_reset_without_a_reply_name_the_call() {
    let (port, peer) = scripted(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    });
    let error = connect(port).request(&Head::binary("x"), &vec![0; 32 << 20]).unwrap_err();
    let Error::System(system) = &error else { panic!("{error}") };
    assert!(matches!(system.errno(), Some(Errno::ECONNRESET | Errno::EPIPE)), "{error}");
    assert!(error.to_string().contains(&format!(" 127.0.0.1:{port}: E")), "{error}");
    peer.join().unwrap();
}

#[test]
fn are_replies_before_a_reset_still_returned() {
    let (host, peer) = scripted_unix(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        read_message(&mut stream);
        stream.write_all(&[reply(&json!(1)), reply(&json!(2))].concat()).unwrap();
    });
    let mut client = Client::connect(&host, 0).unwrap();
    client.send_json("one").unwrap();
    peer.join().unwrap();
    // The peer is gone, and this is told in its turn.
    client.send_json("two").unwrap();
    client.send_json("three").unwrap();
    assert_eq!(client.receive().unwrap().json().unwrap(), 1);
    assert_eq!(client.receive().unwrap().json().unwrap(), 2);
    let error = client.receive().unwrap_err();
    assert_eq!(error.to_string(), format!("send {host}: EPIPE (Broken pipe)"));
    assert!(matches!(client.receive(), Err(Error::NothingAwaited)));
}

#[test]
fn does_garbage_say_what_it_is_and_where() {
    let good = reply(&json!("good"));
    let len = good.len() as u64;
    let (port, peer) = scripted(move |listener| {
        let (mut stream, _) = listener.accept().unwrap();
        read_message(&mut stream);
        stream.write_all(&good).unwrap();
        read_message(&mut stream);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let mut client = connect(port);
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), "good");
    let error = client.request_json("x").unwrap_err();
    let Error::Protocol(fault) = &error else { panic!("{error}") };
    assert_eq!((fault.kind(), fault.offset()), (Fault::HeaderTooLong, len));
    assert_eq!(client.peer(), None, "nothing behind it can be understood");
    peer.join().unwrap();
}

#[test]
fn is_a_reply_over_the_limit_refused() {
    let server = Served::new(Server::builder, |_, reply| Ok(reply.binary("x", &[0; 1001])?));
    let limits = DecodeLimits { max_content_len: 1000, ..DecodeLimits::default() };
    let options = ClientOptions { limits, ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", server.port, options).unwrap();
    let error = client.request_json("x").unwrap_err();
    let Error::Protocol(fault) = &error else { panic!("{error}") };
    assert_eq!(fault.kind(), Fault::ContentTooLong);
}

#[test]
fn does_a_peer_that_never_reads_time_out() {
    let (port, peer) = scripted(|listener| listener.accept().unwrap().0);
    let options = ClientOptions { write_timeout: SOON, ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", port, options).unwrap();
    let _unread: TcpStream = peer.join().unwrap();
    let error = client.request(&Head::binary("x"), &vec![0; 64 << 20]).unwrap_err();
    assert_eq!(error.to_string(), format!("send 127.0.0.1:{port}: nothing within 50ms"));
    assert!(matches!(client.receive(), Err(Error::NothingAwaited)));
}

#[test]
fn does_a_request_that_cannot_be_written_leave_the_connection() {
    let server = Served::echo();
    let mut client = connect(server.port);
    assert!(matches!(client.request_json(&f64::NAN), Err(Error::Encode(_))));
    assert!(matches!(
        client.request(&Head::binary(&"x".repeat(70_000)), b""),
        Err(Error::Encode(_))
    ));
    assert_eq!(client.request_json("on").unwrap().json().unwrap(), "on");
    assert_eq!(client.connections(), 1);
}

#[test]
fn is_a_name_connected_to() {
    // localhost may be ::1 first, where nobody listens.
    let server = Served::echo();
    let mut client = Client::connect("localhost", server.port).unwrap();
    assert_eq!(client.request_json("x").unwrap().json().unwrap(), "x");
}

#[test]
fn does_a_refused_connection_name_call_and_address() {
    // A port that is taken, so that nobody else can listen there meanwhile.
    let (other, _peer) = scripted(|listener| listener.accept().unwrap());
    let taken = TcpStream::connect(("127.0.0.1", other)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Client::connect("127.0.0.1", port).unwrap_err();
    let text = format!("connect 127.0.0.1:{port}: ECONNREFUSED (Connection refused)");
    assert_eq!(error.to_string(), text);
    let error = Client::connect("unix:/nonexistent/socket", 0).unwrap_err();
    let text = "connect unix:/nonexistent/socket: ENOENT (No such file or directory)";
    assert_eq!(error.to_string(), text);
}

/// Connects until the backlog, of 1, is full: a further connect has to wait.
#[cfg(target_os = "linux")]
fn fill_backlog(address: &SocketAddr) -> Vec<Socket> {
    let start = || Socket::connect_start(address, None).map(Connecting::into_socket);
    let waiting: Vec<Socket> = (0..8).map_while(|_| start().ok()).collect();
    for socket in &waiting[..2] {
        assert!(wait_one(socket.as_fd(), Interest::WRITABLE, Some(PATIENCE)).unwrap().is_some());
    }
    waiting
}

#[test]
#[cfg(target_os = "linux")]
fn does_a_connect_that_nobody_answers_time_out() {
    let name = format!("unix:@myriapod-client-backlog-{}", std::process::id());
    for host in ["127.0.0.1", &name] {
        let address = myriapod::sys::resolve(host, 0).unwrap().remove(0);
        let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
        let listener = Listener::bind(&address, &options).unwrap();
        let address = listener.local_address().unwrap();
        let _waiting = fill_backlog(&address);
        let options = ClientOptions { connect_timeout: SOON, ..ClientOptions::default() };
        let port = address.port().unwrap_or_default();
        let error = Client::connect_with(host, port, options).unwrap_err();
        assert_eq!(error.to_string(), format!("connect {address}: nothing within 50ms"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn does_a_full_backlog_of_a_unix_socket_only_delay() {
    let host = format!("unix:@myriapod-client-delay-{}", std::process::id());
    let address = myriapod::sys::resolve(&host, 0).unwrap().remove(0);
    let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
    let listener = Listener::bind(&address, &options).unwrap();
    let waiting = fill_backlog(&address).len();
    let client = thread::spawn(move || Client::connect(&host, 0).map(drop));
    for _ in 0..=waiting {
        while myriapod::sys::accept(&listener).is_err() {
            thread::yield_now();
        }
    }
    client.join().unwrap().unwrap();
}

#[test]
fn does_a_header_of_ones_own_reach_the_server() {
    let server = Served::new(Server::builder, |message, reply| {
        Ok(reply.json(&message.header("request-id"))?)
    });
    let mut extra = ExtraHeaders::new();
    extra.push("request-id", &7).unwrap();
    let mut client = connect(server.port);
    let head = Head { extra: &extra, ..Head::json() };
    assert_eq!(client.request(&head, b"null").unwrap().json().unwrap(), 7);
}
