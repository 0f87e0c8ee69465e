//! Do the programs that embed the engine do what they say? As real processes, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;
#[path = "embedded/files.rs"]
mod files;
#[path = "common/programs.rs"]
mod programs;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use common::{PATIENCE, Peer, Running as Server, binary, error_kind, json, number_of, numbered};
use myriapod::Backend;
use myriapod::protocol::OwnedMessage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use programs::{Running, example, patiently};
use serde_json::{Value, json};

/// A program that listens on a port of its own, and that port.
fn start(name: &str, more: &[&str]) -> (Running, u16) {
    let mut command = example(name);
    command.args(["127.0.0.1", "0"]).args(more);
    let mut program = Running::start(command);
    let line = program.line();
    let address = line.strip_prefix("listening on 127.0.0.1:").unwrap();
    let port = address.split(' ').next().unwrap().parse().unwrap();
    (program, port)
}

fn connect(port: u16) -> Peer<TcpStream> {
    Peer::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
}

fn signal(program: &Running, signal: Signal) {
    kill(Pid::from_raw(program.pid().try_into().unwrap()), signal).unwrap();
}

fn terminate(program: &Running) {
    signal(program, Signal::SIGTERM);
}

/// Stops a program by a signal; it must end well. Returns its last line.
fn stop(program: Running) -> String {
    terminate(&program);
    program.succeed().pop().unwrap()
}

fn content(message: &OwnedMessage) -> Value {
    message.as_message().json().unwrap()
}

fn ask(peer: &mut Peer<TcpStream>, request: &Value) -> Value {
    content(&peer.ask(&json(request)))["result"].clone()
}

// The event loop in three other loops.

/// A message in which no piece can be lost or change its place unnoticed.
fn long(len: usize) -> Vec<u8> {
    let content: Vec<u8> = (0..len).map(|at| (at % 251 + (at >> 16)).to_le_bytes()[0]).collect();
    binary(&content)
}

/// Sends 4 MiB from each of two peers at once, then messages that are there before the program
/// looks: nothing new comes while it reads them, so it is told of them once.
fn exchange_large_messages(program: &Running, port: u16) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let message = long(4 << 20);
                let reply = connect(port).ask(&message);
                assert!(reply.as_message().bytes() == message);
            });
        }
    });
    let mut peer = connect(port);
    // The first one makes the kernel grow its buffers for the others.
    for len in [4 << 20, 96 << 10, 192 << 10, 384 << 10, 768 << 10, 1 << 20] {
        let message = long(len);
        signal(program, Signal::SIGSTOP);
        let sent = peer.stuff(&message);
        signal(program, Signal::SIGCONT);
        peer.send(&message[sent..]);
        let reply = peer.reply();
        assert!(reply.as_message().bytes() == message, "{len} bytes");
    }
}

/// Many peers wait in the backlog before the program looks; it is told of them once, and accepts
/// only some in one turn.
fn connect_many_at_once(program: &Running, port: u16) {
    signal(program, Signal::SIGSTOP);
    let mut peers: Vec<_> = (0..100).map(|_| connect(port)).collect();
    signal(program, Signal::SIGCONT);
    let last = peers.last_mut().unwrap();
    assert_eq!(number_of(&last.ask(&numbered(100))), 100);
}

/// Nothing but the outer loop's timeout ends a connection that says nothing.
fn wait_for_the_idle_timeout(port: u16) {
    let mut silent = connect(port);
    silent.expect_end();
    // Nothing has happened for two seconds. It goes on all the same.
    let mut peer = connect(port);
    assert_eq!(number_of(&peer.ask(&numbered(7))), 7);
}

#[test]
fn does_a_large_message_go_through_a_loop_inside_tokio() {
    let (program, port) = start("inside_tokio", &[]);
    exchange_large_messages(&program, port);
    assert_eq!(stop(program), "8 messages");
}

#[test]
fn does_a_large_message_go_through_a_loop_inside_mio() {
    let (program, port) = start("inside_mio", &[]);
    exchange_large_messages(&program, port);
    assert_eq!(stop(program), "8 messages");
}

#[test]
fn does_a_large_message_go_through_a_loop_inside_poll() {
    let (mut program, port) = start("inside_poll", &[]);
    exchange_large_messages(&program, port);
    program.enter();
    assert_eq!(program.line(), "8 messages");
    assert_eq!(program.succeed().pop().unwrap(), "stopped");
}

#[test]
fn does_a_loop_inside_tokio_accept_all_that_wait() {
    let (program, port) = start("inside_tokio", &[]);
    connect_many_at_once(&program, port);
    terminate(&program);
    program.succeed();
}

#[test]
fn does_a_loop_inside_tokio_keep_its_deadlines() {
    let (program, port) = start("inside_tokio", &["2"]);
    wait_for_the_idle_timeout(port);
    assert_eq!(stop(program), "1 messages");
}

#[test]
fn does_a_loop_inside_mio_accept_all_that_wait() {
    let (program, port) = start("inside_mio", &[]);
    connect_many_at_once(&program, port);
    terminate(&program);
    program.succeed();
}

#[test]
fn does_a_loop_inside_mio_keep_its_deadlines() {
    let (program, port) = start("inside_mio", &["2"]);
    wait_for_the_idle_timeout(port);
    assert_eq!(stop(program), "1 messages");
}

#[test]
fn does_a_loop_inside_poll_accept_all_that_wait() {
    let (program, port) = start("inside_poll", &[]);
    connect_many_at_once(&program, port);
    assert_eq!(program.succeed().pop().unwrap(), "stopped");
}

#[test]
fn does_a_loop_inside_poll_keep_its_deadlines() {
    let (program, port) = start("inside_poll", &["2"]);
    wait_for_the_idle_timeout(port);
    assert_eq!(program.succeed().pop().unwrap(), "stopped");
}

#[test]
fn does_a_task_of_tokio_answer_while_others_are_served() {
    let (program, port) = start("inside_tokio", &[]);
    let (mut patient, mut other) = (connect(port), connect(port));
    patient.send(&json(&json!({ "wait": 300 })));
    // Of the same connection, so it has to wait for the answer before it.
    patient.send(&numbered(2));
    assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    assert_eq!(content(&patient.reply()), json!({ "waited": 300 }));
    assert_eq!(number_of(&patient.reply()), 2);
    assert_eq!(stop(program), "3 messages");
}

#[test]
fn does_a_socket_of_mio_live_beside_the_event_loop() {
    let (mut program, port) = start("inside_mio", &[]);
    let counting = program.port();
    let mut peer = connect(port);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 1..=3 {
        peer.ask(&numbered(number));
        socket.send_to(b"?", (Ipv4Addr::LOCALHOST, counting)).unwrap();
        let mut count = [0; 16];
        let len = socket.recv(&mut count).unwrap();
        assert_eq!(count[..len], *number.to_string().as_bytes());
    }
    assert_eq!(stop(program), "3 messages");
}

// The chat room.

fn join(peer: &mut Peer<TcpStream>, room: &str, name: &str) {
    let request = json!({ "join": { "room": room, "name": name } });
    assert_eq!(ask(peer, &request), "welcome");
}

#[test]
fn does_a_room_hear_who_comes_speaks_and_goes() {
    let (program, port) = start("chat_room", &[]);
    let (mut neo, mut trinity, mut cypher) = (connect(port), connect(port), connect(port));
    join(&mut neo, "lobby", "Neo");
    join(&mut trinity, "lobby", "Trinity");
    assert_eq!(content(&neo.reply()), json!({ "event": "joined", "name": "Trinity" }));
    // Somewhere else nothing is heard of it.
    join(&mut cypher, "cellar", "Cypher");
    assert_eq!(ask(&mut neo, &json!({ "say": "Whoa." })), "said");
    let said = json!({ "event": "said", "name": "Neo", "text": "Whoa." });
    assert_eq!(content(&trinity.reply()), said);
    assert_eq!(ask(&mut trinity, &json!({ "who": "lobby" })), json!(["Neo", "Trinity"]));

    // To another room, under a name that somebody has in the first.
    join(&mut trinity, "cellar", "Neo");
    assert_eq!(content(&neo.reply()), json!({ "event": "left", "name": "Trinity" }));
    assert_eq!(content(&cypher.reply()), json!({ "event": "joined", "name": "Neo" }));
    // Gone without a word, and so is the room.
    drop(neo);
    let left = || ask(&mut trinity, &json!({ "who": "lobby" })).is_null().then_some(());
    patiently("the lobby to be empty", left);
    assert_eq!(ask(&mut trinity, &json!("leave")), "bye");
    assert_eq!(content(&cypher.reply()), json!({ "event": "left", "name": "Neo" }));
    assert_eq!(stop(program), "0 messages were dropped");
}

#[test]
fn is_a_chat_request_that_cannot_be_done_an_error_reply() {
    let (program, port) = start("chat_room", &[]);
    let (mut neo, mut other) = (connect(port), connect(port));
    join(&mut neo, "lobby", "Neo");
    let requests = [
        (json!({ "join": { "room": "lobby", "name": "Neo" } }), "NameTaken"),
        (json!({ "join": { "room": "lobby", "name": "" } }), "BadName"),
        (json!({ "join": { "room": "x".repeat(33), "name": "Neo" } }), "BadName"),
        (json!({ "say": "Whoa." }), "NotInARoom"),
        (json!({ "shout": "Whoa." }), "ContentMismatch"),
    ];
    for (request, kind) in requests {
        assert_eq!(error_kind(&other.ask(&json(&request))), kind, "{request}");
    }
    join(&mut other, "lobby", "Trinity");
    assert_eq!(content(&neo.reply()), json!({ "event": "joined", "name": "Trinity" }));
    assert_eq!(stop(program), "0 messages were dropped");
}

#[test]
fn does_a_member_that_does_not_read_hold_up_nobody() {
    const SAID: u64 = 400;
    let (program, port) = start("chat_room", &[]);
    let (mut neo, mut trinity, mut sleeper) = (connect(port), connect(port), connect(port));
    join(&mut sleeper, "lobby", "Sleeper");
    join(&mut neo, "lobby", "Neo");
    join(&mut trinity, "lobby", "Trinity");
    assert_eq!(content(&neo.reply())["event"], "joined");
    // Far more than two sockets hold.
    let text = "x".repeat(64 << 10);
    for _ in 0..SAID {
        assert_eq!(ask(&mut neo, &json!({ "say": text })), "said");
        assert_eq!(content(&trinity.reply())["event"], "said");
    }
    // It is told what it has missed once it reads.
    let mut heard = 0;
    let missed = loop {
        let event = content(&sleeper.reply());
        match event["event"].as_str().unwrap() {
            "said" => heard += 1,
            "missed" => break event["count"].as_u64().unwrap(),
            other => assert_eq!((other, heard), ("joined", 0)),
        }
    };
    assert_eq!(heard + missed, SAID);
    assert_eq!(stop(program), format!("{missed} messages were dropped"));
}

// The gateway.

/// A gateway before this port, with a line for its first connection to it.
fn gateway(upstream: u16) -> (Running, u16) {
    let (mut program, port) = start("gateway", &["127.0.0.1", &upstream.to_string()]);
    assert_eq!(program.line(), format!("connected to 127.0.0.1:{upstream}"));
    (program, port)
}

/// An upstream that the test plays itself.
fn stage() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> Peer<TcpStream> {
    Peer::new(listener.accept().unwrap().0)
}

#[test]
fn does_each_client_of_a_gateway_get_its_own_replies() {
    let upstream = Server::echo(Backend::native(), myriapod::Limits::default());
    let (program, port) = gateway(upstream.address().port());
    std::thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                let mut peer = connect(port);
                let numbers = client * 1000..client * 1000 + 200;
                for number in numbers.clone() {
                    peer.send(&numbered(number));
                }
                for number in numbers {
                    assert_eq!(number_of(&peer.reply()), number);
                }
            });
        }
    });
    // Further keys of the header pass too.
    let wire = b"\0\x70{\"byteorder\": \"big\", \"content-type\": \"text/json\", \
        \"content-encoding\": \"latin-1\", \"content-length\": 3, \"id\": [7]}\"\xe9\"";
    let mut peer = connect(port);
    let reply = peer.ask(wire);
    assert_eq!(String::from_utf8_lossy(reply.as_message().bytes()), String::from_utf8_lossy(wire));
    assert_eq!(stop(program), "disconnected: drained");
    upstream.stop();
}

#[test]
fn is_an_upstream_that_goes_an_error_reply_and_tried_again() {
    let (listener, upstream_port) = stage();
    let (mut program, port) = gateway(upstream_port);
    let mut upstream = accept(&listener);
    let (mut one, mut other) = (connect(port), connect(port));
    one.send(&numbered(1));
    assert_eq!(number_of(&upstream.reply()), 1);
    other.send(&numbered(2));
    assert_eq!(number_of(&upstream.reply()), 2);
    // It answers one of the two, and is gone.
    upstream.send(&numbered(1));
    assert_eq!(number_of(&one.reply()), 1);
    drop(upstream);
    assert_eq!(error_kind(&other.reply()), "UpstreamGone");
    assert_eq!(program.line(), "disconnected: peer");
    // It is connected to again, and the same clients go on.
    assert_eq!(program.line(), format!("connected to 127.0.0.1:{upstream_port}"));
    let mut upstream = accept(&listener);
    other.send(&numbered(3));
    assert_eq!(number_of(&upstream.reply()), 3);
    upstream.send(&numbered(4));
    assert_eq!(number_of(&other.reply()), 4);
    program.end();
}

#[test]
fn does_a_gateway_without_upstream_say_so_and_try_on() {
    // The port of a client refuses others.
    let (listener, port) = stage();
    let held = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let refusing = held.local_addr().unwrap();
    let (mut program, port) = start("gateway", &["127.0.0.1", &refusing.port().to_string()]);
    let mut peer = connect(port);
    for _ in 0..3 {
        let line = program.line();
        assert_eq!(line, format!("connect {refusing}: ECONNREFUSED (Connection refused)"));
        assert_eq!(error_kind(&peer.ask(&numbered(1))), "UpstreamGone");
    }
    terminate(&program);
    program.succeed();
    drop(listener);
}

#[test]
fn is_an_upstream_that_is_silent_given_up() {
    let (listener, upstream_port) = stage();
    let (mut program, port) = gateway(upstream_port);
    let mut upstream = accept(&listener);
    let mut peer = connect(port);
    assert_eq!(error_kind(&peer.ask(&numbered(1))), "UpstreamGone");
    assert_eq!(number_of(&upstream.reply()), 1);
    assert_eq!(program.line(), "disconnected: handler");
    upstream.wait_for_end();
    program.end();
}

#[test]
fn does_a_stop_of_a_gateway_wait_for_what_is_under_way() {
    let (listener, upstream_port) = stage();
    let (program, port) = gateway(upstream_port);
    let mut upstream = accept(&listener);
    let mut peer = connect(port);
    peer.send(&numbered(1));
    assert_eq!(number_of(&upstream.reply()), 1);
    terminate(&program);
    patiently("the gateway to listen no more", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err().then_some(())
    });
    upstream.send(&numbered(1));
    assert_eq!(number_of(&peer.reply()), 1);
    peer.expect_end();
    upstream.wait_for_end();
    drop((peer, upstream));
    assert_eq!(program.succeed().pop().unwrap(), "disconnected: drained");
}

// Authentication by the first message.

fn guarded() -> (Running, u16) {
    start("first_message_auth", &["neo=redpill", "trinity=bluebird"])
}

#[test]
fn does_the_right_token_open_the_door_for_good() {
    let (mut program, port) = guarded();
    let mut trinity = connect(port);
    assert_eq!(ask(&mut trinity, &json!({ "token": "bluebird" })), "welcome trinity");
    assert!(program.line().starts_with("trinity is connection "));
    assert_eq!(number_of(&trinity.ask(&numbered(1))), 1);
    // Somebody who came later has used up the time for a token; she has not.
    let mut silent = connect(port);
    assert_eq!(content(&silent.reply())["result"], "Error: no token came in time");
    silent.expect_end();
    assert_eq!(number_of(&trinity.ask(&numbered(2))), 2);
    terminate(&program);
    program.succeed();
}

#[test]
fn is_a_first_message_without_a_good_token_the_last() {
    let (program, port) = guarded();
    let messages = [
        (json(&json!({ "token": "redpil" })), "Unauthorized"),
        (json(&json!({ "token": "redpill\0" })), "Unauthorized"),
        (json(&json!({ "token": 1 })), "ContentMismatch"),
        (binary(b"redpill"), "UnknownEncoding"),
    ];
    for (message, kind) in messages {
        let mut peer = connect(port);
        peer.send(&message);
        // What comes behind it is not looked at.
        peer.send(&json(&json!({ "token": "redpill" })));
        assert_eq!(error_kind(&peer.reply()), kind);
        peer.expect_end();
    }
    terminate(&program);
    program.succeed();
}

#[test]
fn does_a_first_message_in_small_pieces_not_escape_the_deadline() {
    let (program, port) = guarded();
    let mut peer = connect(port);
    let message = json(&json!({ "token": "x".repeat(50 << 10) }));
    peer.stream.write_all(&message[..1000]).unwrap();
    assert_eq!(content(&peer.reply())["result"], "Error: no token came in time");
    peer.expect_end();
    peer.stream.shutdown(Shutdown::Both).unwrap_or_default();
    terminate(&program);
    program.succeed();
}

// Other protocols than ours.

/// What a program answers to `sent`, when that is all.
fn exchange(port: u16, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    answers
}

#[test]
fn does_the_resp_server_answer_as_redis_does() {
    let (program, port) = start("resp_server", &[]);
    let commands = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n41\r\nINCR a\r\n\r\n  get  a \r\n\
        *2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\nEXISTS a b\r\nDEL a b\r\nGET a\r\nINCR\r\nPUBLISH r x\r\n\
        *0\r\nSET t text\r\nINCR t\r\nQUIT\r\nPING\r\n";
    let answers = "+OK\r\n:42\r\n$2\r\n42\r\n$4\r\n\r\n\r\n\r\n:1\r\n:1\r\n$-1\r\n\
        -ERR unknown command 'INCR', or its arguments\r\n:0\r\n+OK\r\n\
        -ERR value is not an integer or out of range\r\n+OK\r\n";
    assert_eq!(exchange(port, commands.as_bytes()), answers);
    for (wrong, told) in [
        ("*1\r\n$99999999\r\n", "-ERR invalid bulk length\r\n"),
        ("*1\r\n:1\r\n", "-ERR a string is expected\r\n"),
        ("*x\r\n", "-ERR a length is expected\r\n"),
    ] {
        assert_eq!(exchange(port, wrong.as_bytes()), told);
    }
    // A subscriber hears of what others publish.
    let mut subscriber = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    subscriber.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut expect = |sent: &str, told: &str| {
        subscriber.write_all(sent.as_bytes()).unwrap();
        let mut answer = vec![0; told.len()];
        subscriber.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), told);
    };
    expect("SUBSCRIBE r\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nr\r\n:1\r\n");
    assert_eq!(exchange(port, b"PUBLISH r hello\r\n"), ":1\r\n");
    expect("", "*3\r\n$7\r\nmessage\r\n$1\r\nr\r\n$5\r\nhello\r\n");
    expect("UNSUBSCRIBE r\r\n", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nr\r\n:0\r\n");
    stop(program);
}

#[test]
fn does_the_language_server_say_the_same_on_both_ways() {
    let message = |value: &Value| {
        let text = value.to_string();
        format!("Content-Length: {}\r\n\r\n{text}", text.len())
    };
    let document = json!({ "uri": "file:///a", "text": "one TODO\nhéllo" });
    let about = json!({ "textDocument": document, "position": { "line": 1, "character": 4 } });
    let sent = [
        json!({ "id": 1, "method": "initialize" }),
        json!({ "method": "textDocument/didOpen", "params": about }),
        json!({ "id": 2, "method": "textDocument/hover", "params": about }),
        json!({ "id": 3, "method": "unheard of" }),
        json!({ "id": 4, "method": "shutdown" }),
        json!({ "method": "exit" }),
    ];
    let sent: String = sent.iter().map(message).collect();
    let (program, port) = start("lsp_server", &[]);
    let over_tcp = exchange(port, sent.as_bytes());
    for part in ["`héllo` has 5 characters", "no method unheard of", r#""character": 8"#] {
        assert!(over_tcp.contains(part), "{part} in {over_tcp}");
    }
    let told = exchange(port, b"Content-Length: x\r\n\r\n");
    assert!(told.contains("BadHeader: Content-Length is not one number"), "{told}");
    stop(program);

    let mut command = example("lsp_server");
    command.arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(sent.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stdout).unwrap()),
        (Some(0), over_tcp)
    );
}

#[test]
fn does_the_ndjson_server_answer_line_by_line() {
    let (program, port) = start("ndjson_server", &[]);
    let sent = "{\"put\": \"a\", \"value\": [1]}\r\n{\"get\": \"a\"}\n[]\n{\"list\": true}\n{\"delete\": \"a\"}";
    let answers = exchange(port, sent.as_bytes());
    let results: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 5, "{answers}");
    assert_eq!(results[1]["result"], json!([1]));
    assert_eq!(results[2]["error"], "ContentMismatch");
    assert_eq!((&results[3]["result"], &results[4]["result"]), (&json!(["a"]), &json!([1])));
    stop(program);
}
