//! `myriapod ping`.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{myriapod, seen};

/// The server, ended with the test.
struct Serve {
    child: Child,
    port: String,
}

impl Serve {
    fn new() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
            .args(["serve", "127.0.0.1", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim_end().rsplit(' ').next().unwrap().trim_end_matches(')').to_owned();
        Self { child, port }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The three numbers of `min/avg/max`, which must be in order, or nothing.
fn ordered(line: &str) -> Option<()> {
    let (_, numbers) = line.split_once("min/avg/max/stddev = ")?;
    let numbers: Vec<f64> =
        numbers.strip_suffix(" ms")?.split('/').map(|number| number.parse().unwrap()).collect();
    (numbers.len() == 4 && numbers[0] > 0.0 && numbers[0] <= numbers[1] && numbers[1] <= numbers[2])
        .then_some(())
}

#[test]
fn do_the_last_lines_count_what_came_back() {
    let serve = Serve::new();
    let output =
        myriapod(&["ping", "127.0.0.1", &serve.port, "-c", "3", "-i", "10ms", "--message"]);
    let (stdout, stderr, status) = seen(&output);
    let lines: Vec<_> = stdout.lines().collect();
    let place = format!("127.0.0.1:{}", serve.port);
    assert_eq!(
        lines[0],
        format!("PING 127.0.0.1 ({place}): TCP connect and a JSON-header message")
    );
    for (number, line) in lines[1..4].iter().enumerate() {
        let bytes = "\0\x67{\"byteorder\": \"little\", \"content-type\": \"text/json\", \
                     \"content-encoding\": \"utf-8\", \"content-length\": 35}\
                     {\"result\": \"No match for 'ping'.\"}";
        let start = format!("{} bytes from {place}: seq={number} connect=", bytes.len());
        assert!(line.starts_with(&start), "{line} does not start with {start}");
    }
    assert_eq!(
        lines[4..7],
        ["", &format!("--- {place} ping statistics ---"), "3 transmitted, 3 received, 0.0% loss"]
    );
    assert!(lines[7].starts_with("connect ") && ordered(lines[7]).is_some(), "{}", lines[7]);
    assert!(lines[8].starts_with("round-trip ") && ordered(lines[8]).is_some(), "{}", lines[8]);
    assert_eq!((lines.len(), stderr, status), (9, "", 0));
}

#[test]
fn is_a_refusal_named_and_a_loss() {
    // A client has this port, so nobody can listen on it meanwhile.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = client.local_addr().unwrap().port();
    let output = myriapod(&["ping", "127.0.0.1", &port.to_string(), "-c", "2", "-i", "0"]);
    let (stdout, stderr, status) = seen(&output);
    let refused =
        format!("connect 127.0.0.1:{port}: ECONNREFUSED (Connection refused): seq=1 after ");
    assert!(stdout.lines().nth(2).is_some_and(|line| line.starts_with(&refused)), "{stdout}");
    assert_eq!(stdout.lines().last(), Some("2 transmitted, 0 received, 100.0% loss"));
    let expected = format!(
        "myriapod: 127.0.0.1:{port}: none of 2 was received; \
         is the server running? start it with `myriapod serve 127.0.0.1 {port}`\n"
    );
    assert_eq!((stderr, status), (&*expected, 1));
}

#[test]
fn is_silence_a_loss_although_the_connection_was_made() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let output = myriapod(&["ping", "127.0.0.1", &port, "-c", "1", "-W", "50ms", "-m"]);
    let (stdout, stderr, status) = seen(&output);
    let lines: Vec<_> = stdout.lines().collect();
    let line = format!("recv 127.0.0.1:{port}: nothing within 50ms: seq=0 after ");
    assert!(lines[1].starts_with(&line), "{stdout}");
    assert_eq!(lines[4], "1 transmitted, 0 received, 100.0% loss");
    assert!(ordered(lines[5]).is_some() && lines.len() == 6, "{stdout}");
    assert!(stderr.starts_with("myriapod: ") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(status, 1);
}

#[test]
fn does_ctrl_c_print_the_figures() {
    let serve = Serve::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .args(["ping", "127.0.0.1", &serve.port])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("connected to ") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0);
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains(" received, 0.0% loss\nconnect min/avg/max/stddev = "), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Reads messages of `len` bytes, and closes each connection without a reply, as a program does
/// that does not know the request.
fn silent(len: usize) -> (String, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; len];
        stream.read_exact(&mut request).unwrap();
        request
    });
    (port, thread)
}

#[test]
fn does_it_say_that_a_server_may_not_know_the_request() {
    let header = r#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 37}"#;
    let (port, peer) = silent(2 + header.len() + 37);
    let output = myriapod(&["ping", "127.0.0.1", &port, "-c", "1", "--message"]);
    peer.join().unwrap();
    let (stdout, stderr, status) = seen(&output);
    assert!(stdout.contains("\nconnect min/avg/max/stddev = "), "{stdout}");
    let start = format!(
        "myriapod: 127.0.0.1:{port}: 1 connected, but no message was answered; \
         the last said: recv 127.0.0.1:{port}: the peer closed"
    );
    assert!(stderr.starts_with(&start), "{stderr}");
    assert!(stderr.contains("--message='JSON' sends another") && stderr.lines().count() == 1);
    assert_eq!(status, 1);
}

#[test]
fn is_the_request_the_one_that_was_given() {
    let request = r#"{"action": "list"}"#;
    let header = r#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 18}"#;
    let (port, peer) = silent(2 + header.len() + request.len());
    let message = format!("--message={request}");
    myriapod(&["ping", "127.0.0.1", &port, "-c", "1", &message]);
    assert!(peer.join().unwrap().ends_with(request.as_bytes()));
    let output = myriapod(&["ping", "127.0.0.1", &port, "-c", "1", "--message={list}"]);
    assert_eq!(output.status.code(), Some(2));
}
