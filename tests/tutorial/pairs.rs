//! Every pair of a server and a client, ours and the tutorial's on either side.

use std::process::Command;

use crate::programs::{Running, example, patiently, python};

/// A program and its arguments; `None` where there is no `python3` to run it.
fn program(name: &str, arguments: &[&str]) -> Option<Command> {
    let mut command = match name.strip_suffix(".py") {
        Some(name) => python(name)?,
        None => example(name),
    };
    command.args(arguments);
    Some(command)
}

fn start(name: &str, arguments: &[&str]) -> Option<Running> {
    program(name, arguments).map(Running::start)
}

/// A server on a port of the system's choice, and that port.
fn serve(name: &str, arguments: &[&str]) -> Option<(Running, String)> {
    let mut server = start(name, arguments)?;
    let port = server.port().to_string();
    Some((server, port))
}

/// The lines about one peer, of those that are about any, with its address replaced by `PEER`.
fn about<'a>(lines: impl IntoIterator<Item = &'a String>, peer: &str) -> Vec<String> {
    let lines = lines.into_iter().filter(|line| line.contains(peer));
    lines.map(|line| line.replace(peer, "PEER")).collect()
}

/// The peers that lines such as `PREFIX('127.0.0.1', 61354)` name, in their order.
fn peers(lines: &[String], prefix: &str) -> Vec<String> {
    let lines = lines.iter().filter_map(|line| line.strip_prefix(prefix));
    lines.map(|rest| rest[..=rest.find(')').unwrap()].to_owned()).collect()
}

/// What the first program's server prints of one connection.
const CONVERSATION: [&str; 5] = [
    "[NEW CONNECTION] PEER connected.",
    "[PEER] Hello World!",
    "[PEER] Hello Everyone!",
    "[PEER] Hello Tim!",
    "[PEER] !DISCONNECT",
];

/// Two clients at the same time, one of which waits for Enter.
fn first_program(server: &str, client: &str) {
    let Some(mut server) = start(server, &["127.0.0.1", "0"]) else { return };
    assert_eq!(server.line(), "[STARTING] server is starting...");
    let listening = server.line();
    let address = listening.strip_prefix("[LISTENING] Server is listening on ").unwrap();
    let port = address.strip_prefix("127.0.0.1:").unwrap();
    assert_ne!(port.parse::<u16>().unwrap(), 0);

    let Some(mut patient) = start(client, &["127.0.0.1", port]) else { return };
    assert_eq!(patient.line(), "Msg received");
    let mut before = server.lines(3);

    let mut hasty = start(client, &["127.0.0.1", port]).unwrap();
    assert_eq!(hasty.line(), "Msg received");
    // The server counts its connections after it has begun to serve this one: it must not end first.
    let mut between = server.lines(3);
    hasty.enter();
    hasty.enter();
    assert_eq!(hasty.succeed(), ["Msg received"; 4]);
    between.extend(server.lines(3));

    // Nothing has come of the one that waits, but what it said before.
    let [ref peer] = peers(&before, "[NEW CONNECTION] ")[..] else { panic!("{before:?}") };
    let [ref other] = peers(&between, "[NEW CONNECTION] ")[..] else { panic!("{between:?}") };
    assert_eq!(about(&between, peer), [""; 0], "it does not wait for Enter");
    assert_eq!(about(&between, other), CONVERSATION);
    patient.enter();
    assert_eq!(patient.line(), "Msg received");
    patient.enter();
    assert_eq!(patient.succeed(), ["Msg received"; 4]);
    before.extend(server.lines(3));
    assert_eq!(about(&before, peer), CONVERSATION);
    // The threads' lines race those of the one that starts them.
    let active = |lines: &[String]| {
        let found: Vec<_> = lines.iter().filter(|line| line.starts_with("[ACTIVE")).collect();
        found.into_iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!(active(&before), ["[ACTIVE CONNECTIONS] 1"]);
    assert_eq!(active(&between), ["[ACTIVE CONNECTIONS] 2"]);
    assert_eq!(server.end(), "");
}

#[test]
fn does_the_first_program_print_the_texts_lines() {
    first_program("threaded_server", "threaded_client");
}

#[test]
fn can_the_first_programs_client_tell_the_engine_from_threads() {
    first_program("padded_on_engine", "threaded_client");
}

#[test]
fn does_the_texts_first_client_talk_to_threads() {
    first_program("threaded_server", "first_client.py");
}

#[test]
fn does_the_texts_first_client_talk_to_the_engine() {
    first_program("padded_on_engine", "first_client.py");
}

#[test]
fn does_the_texts_first_server_talk_to_our_client() {
    first_program("first_server.py", "threaded_client");
}

/// An address of this test's own, so that nobody else has its well-known port.
#[cfg(target_os = "linux")]
fn own_address(last: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{high}.{low}.{last}")
}

#[test]
#[cfg(target_os = "linux")]
fn does_a_server_without_a_port_print_the_texts_very_lines() {
    let host = own_address(77);
    for name in ["threaded_server", "padded_on_engine"] {
        let mut server = start(name, &[&host]).unwrap();
        assert_eq!(server.line(), "[STARTING] server is starting...");
        assert_eq!(server.line(), format!("[LISTENING] Server is listening on {host}"));
        let client = start("threaded_client", &[&host]).unwrap();
        // The end of its input counts as Enter.
        assert_eq!(client.succeed(), ["Msg received"; 4], "{name}");
    }
    let mut server = start("echo_server", &[&host]).unwrap();
    // It prints nothing before somebody comes: try until it is there.
    let received = patiently("the echo server", || {
        let (lines, status, _) = start("echo_client", &[&host]).unwrap().finish();
        (status == Some(0)).then_some(lines)
    });
    assert_eq!(received, ["Received b'Hello, world'"]);
    let connected = server.line();
    assert!(connected.starts_with("Connected by ('127.0.0.1', "), "{connected}");
    assert_eq!(server.succeed(), [connected]);
}

fn echo(server: &str, client: &str) {
    let Some((server, port)) = serve(server, &["127.0.0.1", "0"]) else { return };
    let Some(client) = start(client, &["127.0.0.1", &port]) else { return };
    assert_eq!(client.succeed(), ["Received b'Hello, world'"]);
    let lines = server.succeed();
    assert_eq!(lines[0], format!("listening on ('127.0.0.1', {port})"));
    let [ref peer] = peers(&lines, "Connected by ")[..] else { panic!("{lines:?}") };
    assert_eq!(about(&lines[1..], peer), ["Connected by PEER"]);
}

#[test]
fn does_the_echo_pair_print_the_texts_lines() {
    echo("echo_server", "echo_client");
}

#[test]
fn does_the_texts_echo_client_hear_our_echo() {
    echo("echo_server", "echo_client.py");
}

#[test]
fn does_our_echo_client_hear_the_texts_echo() {
    echo("echo_server.py", "echo_client");
}

/// The bytes between the quotes of lines such as `PREFIXb'Message 1'SUFFIX`, joined: how they are
/// divided is for the network to say.
fn joined(lines: &[String], prefix: &str, suffix: &str) -> String {
    let of = |line: &'_ String| {
        let shown = line.strip_prefix(prefix)?.strip_suffix(suffix)?;
        Some(shown.strip_prefix("b'")?.strip_suffix('\'')?.to_owned())
    };
    lines.iter().filter_map(of).collect()
}

const BOTH: &str = "Message 1 from client.Message 2 from client.";

fn multiconn(server: &str, client: &str, count: usize) {
    let Some(mut server) = start(server, &["127.0.0.1", "0"]) else { return };
    let listening = server.line();
    let port = listening.strip_prefix("listening on ('127.0.0.1', ").unwrap();
    let port = port.strip_suffix(')').unwrap();
    let Some(client) = start(client, &["127.0.0.1", port, &count.to_string()]) else { return };
    let lines = client.succeed();
    for connid in 1..=count {
        assert_eq!(
            lines[connid - 1],
            format!("starting connection {connid} to ('127.0.0.1', {port})")
        );
        let suffix = format!(" to connection {connid}");
        assert_eq!(joined(&lines, "sending ", &suffix), BOTH);
        let suffix = format!(" from connection {connid}");
        assert_eq!(joined(&lines, "received ", &suffix), BOTH);
        let closing = format!("closing connection {connid}");
        let place = |wanted: &str| lines.iter().position(|line| line == wanted);
        let last = lines.iter().rposition(|line| line.ends_with(&suffix));
        assert!(place(&closing) > last, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| **line == closing).count(), 1);
    }

    let mut lines = Vec::new();
    while lines.iter().filter(|line: &&String| line.starts_with("closing")).count() < count {
        lines.push(server.line());
    }
    let peers = peers(&lines, "accepted connection from ");
    assert_eq!(peers.len(), count);
    for peer in &peers {
        let lines = about(&lines, peer);
        assert_eq!(lines[0], "accepted connection from PEER");
        assert_eq!(joined(&lines, "echoing ", " to PEER"), BOTH);
        assert_eq!(lines.last().unwrap(), "closing connection to PEER");
        assert!(lines.len() <= 4, "{lines:?}");
    }
    assert_eq!(server.end(), "");
}

#[test]
fn does_the_multi_connection_pair_print_the_texts_lines() {
    multiconn("multiconn_server", "multiconn_client", 2);
    multiconn("multiconn_server", "multiconn_client", 200);
}

#[test]
fn does_the_texts_multi_connection_client_talk_to_ours() {
    multiconn("multiconn_server", "multiconn_client.py", 20);
}

#[test]
fn does_the_texts_multi_connection_server_talk_to_ours() {
    multiconn("multiconn_server.py", "multiconn_client", 20);
}

/// What the application's client prints of a search, and its server. Its own byte order is in the
/// bytes, so that they are the same on either side.
fn application(server: &str, client: &str) {
    let Some((mut server, port)) = serve(server, &["", "0"]) else { return };
    for (action, value, answer, content) in [
        (
            "search",
            "morpheus",
            "got result: Follow the white rabbit. 🐰",
            r#"{"result": "Follow the white rabbit. \xf0\x9f\x90\xb0"}"#,
        ),
        (
            "search",
            "🐶",
            "got result: 🐾 Playing ball! 🏐",
            r#"{"result": "\xf0\x9f\x90\xbe Playing ball! \xf0\x9f\x8f\x90"}"#,
        ),
        (
            "binary",
            "😃",
            r"got response: b'First 10 bytes of request: binary\xf0\x9f\x98\x83'",
            r"First 10 bytes of request: binary\xf0\x9f\x98\x83",
        ),
    ] {
        let Some(client) = start(client, &["127.0.0.1", &port, action, value]) else { return };
        let lines = client.succeed();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!(lines[0], format!("starting connection to ('127.0.0.1', {port})"));
        assert!(lines[1].starts_with("sending b'\\x00"), "{lines:?}");
        assert!(lines[2].starts_with("received "), "{lines:?}");
        assert_eq!(lines[3], answer);
        assert_eq!(lines[4], format!("closing connection to ('127.0.0.1', {port})"));

        let lines = server.lines(4);
        let [ref peer] = peers(&lines, "accepted connection from ")[..] else {
            panic!("{lines:?}")
        };
        let lines = about(&lines, peer);
        let received = match action {
            "search" => {
                format!("received request {{'action': 'search', 'value': '{value}'}} from PEER")
            }
            _ => "received binary/custom-client-binary-type request from PEER".to_owned(),
        };
        assert_eq!(lines[1], received);
        assert!(lines[2].ends_with(&format!("}}{content}' to PEER")), "{lines:?}");
        assert_eq!(lines[3], "closing connection to PEER");
    }
    assert_eq!(server.end(), "");
}

#[test]
fn does_the_texts_application_client_talk_to_ours() {
    application("app_server", "app_client.py");
}

#[test]
fn does_the_texts_application_server_talk_to_ours() {
    application("app_server.py", "app_client");
}

#[test]
fn is_the_host_told_as_it_was_given_with_the_real_port() {
    for name in ["threaded_server", "padded_on_engine"] {
        for (host, before) in [("localhost", "localhost:"), ("127.0.0.1", "127.0.0.1:")] {
            let mut server = start(name, &[host, "0"]).unwrap();
            assert_eq!(server.line(), "[STARTING] server is starting...");
            let line = server.line();
            let port = line.strip_prefix("[LISTENING] Server is listening on ").unwrap();
            let port = port.strip_prefix(before).unwrap_or_else(|| panic!("{line}"));
            let client = start("threaded_client", &[host, port]).unwrap();
            assert_eq!(client.succeed(), ["Msg received"; 4], "{name} {host}");
        }
    }
}
