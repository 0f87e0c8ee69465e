//! Peers that do not do what the text's programs do: one connection's trouble is nobody else's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use std::os::unix::net::UnixListener;
use std::time::Duration;

use myriapod::Client;
use myriapod::protocol::{Head, encode_json, encode_padded};
use serde_json::json;

use crate::programs::{Running, example, patiently};

fn serve(name: &str, more: &[&str]) -> (Running, u16) {
    let mut command = example(name);
    command.args(["127.0.0.1", "0"]).args(more);
    let mut server = Running::start(command);
    let port = server.port();
    (server, port)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn padded(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_padded(&mut wire, text).unwrap();
    wire
}

/// All that still comes, until the other side closes.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // Closing with unread input resets.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        done => drop(done.unwrap()),
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn do_the_first_programs_servers_refuse_what_int_accepts() {
    for name in ["threaded_server", "padded_on_engine"] {
        let (server, port) = serve(name, &[]);
        let mut good = connect(port);
        for header in ["-1", "+5", " 5", "1_0", "٥", "05", "5\t", "five", "", "1048577"] {
            let mut bad = connect(port);
            let spaces = 64 - header.len();
            let _ = bad.write_all(format!("{header}{:spaces$}12345", "").as_bytes());
            let answer = rest(bad);
            assert!(!answer.contains("Msg received"), "{name} takes {header:?}: {answer}");
        }
        // In pieces, and two at once.
        let wire = [padded("Hello"), padded("héllo again")].concat();
        for piece in wire.chunks(9) {
            good.write_all(piece).unwrap();
        }
        good.write_all(&padded("!DISCONNECT")).unwrap();
        assert_eq!(rest(good), "Msg received".repeat(3), "{name}");
        let told = server.end();
        assert_eq!(told.lines().count(), 10, "{name} tells of each once: {told}");
    }
}

#[test]
fn can_a_peer_print_lines_of_its_own() {
    for name in ["threaded_server", "padded_on_engine"] {
        let (mut server, port) = serve(name, &[]);
        let mut peer = connect(port);
        peer.write_all(&padded("a\n[ACTIVE CONNECTIONS] 99\u{1b}[2J")).unwrap();
        peer.write_all(&padded("!DISCONNECT")).unwrap();
        assert_eq!(rest(peer), "Msg received".repeat(2));
        let lines = server.lines(4);
        let told: Vec<_> =
            lines.iter().filter_map(|line| Some(line.split_once(")] ")?.1)).collect();
        assert_eq!(told, [r"a\n[ACTIVE CONNECTIONS] 99\u{1b}[2J", "!DISCONNECT"], "{name}");
    }
}

#[test]
fn does_a_client_that_leaves_without_a_word_end_only_itself() {
    for name in ["threaded_server", "padded_on_engine"] {
        let (server, port) = serve(name, &[]);
        for part in ["", "12", "12                "] {
            let mut leaving = connect(port);
            leaving.write_all(part.as_bytes()).unwrap();
            leaving.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(leaving), "", "{name}: the server sees the end and closes");
        }
        let mut good = connect(port);
        good.write_all(&padded("!DISCONNECT")).unwrap();
        assert_eq!(rest(good), "Msg received", "{name}");
        drop(server);
    }
}

/// Sends much and reads it back, however the pieces fall.
fn echo_much(port: u16) {
    let mut stream = connect(port);
    let mut reading = stream.try_clone().unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(5_000_000).collect();
    let received = std::thread::spawn(move || {
        let mut received = Vec::new();
        reading.read_to_end(&mut received).map(|_| received)
    });
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(received.join().unwrap().unwrap() == sent, "what comes back is something else");
}

#[test]
fn is_all_echoed_that_does_not_fit_one_call() {
    let (server, port) = serve("echo_server", &[]);
    echo_much(port);
    server.succeed();
    // Its lines show every byte: keep them short.
    let (_server, port) = serve("multiconn_server", &[]);
    let mut stream = connect(port);
    let sent = vec![b'x'; 200_000];
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received == sent, "{} bytes", received.len());
}

#[test]
fn does_a_peer_that_never_reads_stop_nobody_else() {
    let (_server, port) = serve("multiconn_server", &[]);
    let mut other = connect(port);
    let mut deaf = connect(port);
    deaf.set_nonblocking(true).unwrap();
    // Until neither the system nor the server has taken any more for many turns of the latter.
    let (mut refused, mut taken) = (0, 0);
    while refused < 2000 {
        if let Ok(count) = deaf.write(&[b'x'; 4096]) {
            taken += count;
            assert!(taken < 64 << 20, "the server keeps whatever it is sent");
            refused = 0;
            continue;
        }
        refused += 1;
        other.write_all(b"Hello").unwrap();
        let mut echo = [0; 5];
        other.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"Hello");
    }
    // Whatever it took comes back, once there is somebody to take it.
    deaf.set_nonblocking(false).unwrap();
    deaf.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    deaf.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), taken);
}

#[test]
fn is_the_last_of_the_echo_sent_after_the_client_ended() {
    let (mut server, port) = serve("multiconn_server", &[]);
    let mut other = connect(port);
    let mut slow = connect(port);
    // The server has a turn for each greeting that it echoes, and the greetings' lines come behind
    // what it did before.
    let mut echoed = 0;
    let mut take_turns = |count: usize| {
        for _ in 0..count {
            other.write_all(b"Hello").unwrap();
            other.read_exact(&mut [0; 5]).unwrap();
        }
        let mut seen = 0;
        while seen < count {
            let line = server.line();
            seen += line.matches("b'Hello'").count();
            echoed += line.matches('x').count();
        }
        echoed
    };
    // So much that the server could not send all of it yet, and no more than it receives all the
    // same.
    let mut sent = 0;
    loop {
        slow.write_all(&[b'x'; 32 << 10]).unwrap();
        sent += 32 << 10;
        // Bytes may also be late for once.
        if take_turns(50) < sent && take_turns(500) < sent {
            break;
        }
    }
    slow.shutdown(Shutdown::Write).unwrap();
    assert!(take_turns(5) < sent);
    let mut received = Vec::new();
    slow.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
}

#[test]
fn are_connections_that_ended_counted_no_more() {
    for name in ["threaded_server", "padded_on_engine"] {
        let (mut server, port) = serve(name, &[]);
        let here: Vec<_> = (0..3).map(|_| connect(port)).collect();
        while server.line() != "[ACTIVE CONNECTIONS] 3" {}
        drop(here);
        // The server sees their ends when it comes to it.
        patiently("the only connection", || {
            drop(connect(port));
            let mut line = server.line();
            while !line.starts_with("[ACTIVE CONNECTIONS] ") {
                line = server.line();
            }
            (line == "[ACTIVE CONNECTIONS] 1").then_some(())
        });
    }
}

/// What a client prints whose server answers all that comes with these pieces, each of which the
/// client has received before the next is sent.
#[cfg(target_os = "linux")]
fn in_pieces(client: &str, pieces: &'static [&str]) -> Vec<String> {
    let path = format!("myriapod-{client}-{}", std::process::id());
    let path = std::env::temp_dir().join(path);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 256];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            for piece in pieces {
                if stream.write_all(piece.as_bytes()).is_err() {
                    return;
                }
                // For a Unix socket that is what the other side has not received yet, see unix(7).
                patiently("the client to receive", || {
                    (myriapod::sys::queue_sizes(&stream).unwrap().1 == 0).then_some(())
                });
            }
        }
    });
    let mut command = example(client);
    command.arg(format!("unix:{}", path.display()));
    let lines = Running::start(command).succeed();
    serving.join().unwrap();
    let _ = std::fs::remove_file(&path);
    lines
}

#[test]
#[cfg(target_os = "linux")]
fn do_the_clients_receive_until_all_is_there() {
    let lines = in_pieces("echo_client", &["H", "ello", ", w", "orld"]);
    assert_eq!(lines, ["Received b'Hello, world'"]);
    let lines = in_pieces("threaded_client", &["Msg", " ", "received"]);
    assert_eq!(lines, ["Msg received"; 4]);
}

#[test]
fn does_a_client_say_that_its_server_left() {
    for (name, more, says) in [
        ("threaded_client", &[][..], "recv 127.0.0.1:PORT: the server closed\n"),
        ("multiconn_client", &["1"], "recv 127.0.0.1:PORT: the end, 44 bytes early\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Nothing is left unread, so that closing says a goodbye.
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut command = example(name);
        command.args(["127.0.0.1", &port]).args(more);
        let (_, status, errors) = Running::start(command).finish();
        assert_eq!(status, Some(1), "{name}");
        assert!(errors.replace(&port, "PORT").starts_with(says), "{errors}");
        server.join().unwrap();
    }
}

#[test]
fn does_one_engine_carry_every_framing() {
    let (_server, port) = serve("padded_on_engine", &["json"]);
    let mut client = Client::connect("127.0.0.1", port).unwrap();
    let value = json!({ "action": "search", "value": "morpheus" });
    assert_eq!(client.request_json(&value).unwrap().json().unwrap(), value);

    let (_server, port) = serve("padded_on_engine", &["raw"]);
    echo_much(port);
}

#[test]
fn are_others_served_while_the_pool_computes() {
    let (mut server, port) = serve("cpu_pool", &[]);
    let ask = |value: &str| json!({ "action": "search", "value": value });
    let mut other = Client::connect("127.0.0.1", port).unwrap();
    for (limit, count) in [(0, 0), (2, 0), (3, 1), (10, 4), (65_537, 6542), (1_000_000, 78_498)] {
        let reply = other.request_json(&ask(&format!("primes below {limit}"))).unwrap();
        let result = format!("{count} primes below {limit}");
        assert_eq!(reply.json().unwrap()["result"], result);
    }
    let reply = other.request_json(&ask("primes below 500000001")).unwrap();
    assert_eq!(reply.error_kind().as_deref(), Some("InvalidValue"));

    // More work than the pool can have done by then.
    let mut busy: Vec<_> = (0..32).map(|_| connect(port)).collect();
    let mut wire = Vec::new();
    encode_json(&mut wire, &Head::json(), &ask("primes below 500000000")).unwrap();
    for stream in &mut busy {
        stream.write_all(&wire).unwrap();
        while server.line().rsplit(' ').next() != Some("500000000") {}
    }
    let reply = other.request_json(&ask("morpheus")).unwrap();
    assert_eq!(reply.json().unwrap()["result"], "No match for 'morpheus'.");
    let last = busy.last_mut().unwrap();
    last.set_nonblocking(true).unwrap();
    let early = last.read(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock), "its answer came before another's");
}
