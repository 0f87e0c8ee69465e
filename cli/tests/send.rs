//! Does `myriapod send` print the answer, and say plainly why there is none?

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use myriapod::protocol::{Decoder, ExtraHeaders, Head, JsonHeader, OwnedMessage, encode};
use serde_json::{Value, json};

/// The real server, ended with the test.
struct Serve {
    child: Child,
    port: String,
}

impl Serve {
    fn new(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
            .args(["serve", "127.0.0.1", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim_end().strip_prefix("listening on ('127.0.0.1', ").unwrap();
        let port = port.strip_suffix(')').unwrap().to_owned();
        Self { child, port }
    }

    fn send(&self, args: &[&str]) -> Output {
        send("127.0.0.1", &self.port, args, b"")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn send(host: &str, port: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .args(["send", host, port])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not want any.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Standard output, standard error and status.
fn seen(output: &Output) -> (&str, &str, i32) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// Answers one connection with fixed bytes, and returns the port and what was asked.
fn answering(answer: Vec<u8>) -> (String, thread::JoinHandle<Option<OwnedMessage>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut decoder = Decoder::new(JsonHeader::default());
        let mut chunk = [0; 4096];
        loop {
            let received = stream.read(&mut chunk).unwrap();
            if received == 0 {
                return None;
            }
            decoder.feed(&chunk[..received]);
            if let Some(message) = decoder.next_message().unwrap() {
                stream.write_all(&answer).unwrap();
                return Some(message.to_owned());
            }
        }
    });
    (port, thread)
}

fn message(head: &Head<'_>, content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    encode(&mut wire, head, content).unwrap();
    wire
}

#[test]
fn do_the_tutorials_searches_get_their_answers() {
    let serve = Serve::new(&[]);
    for (action, value, answer) in [
        ("search", "morpheus", "Follow the white rabbit. 🐰"),
        ("search", "ring", "In the caves beneath the Misty Mountains. 💍"),
        ("search", "🐶", "🐾 Playing ball! 🏐"),
        ("search", "-5", "No match for '-5'."),
        ("binary", "😃", "First 10 bytes of request: binary😃"),
    ] {
        let output = serve.send(&[action, value]);
        assert_eq!(seen(&output), (&*format!("{answer}\n"), "", 0), "{action} {value}");
    }
}

#[test]
fn does_a_server_that_closes_after_its_reply_suit_it() {
    let serve = Serve::new(&["--one-shot"]);
    let output = serve.send(&["search", "morpheus"]);
    assert_eq!(seen(&output), ("Follow the white rabbit. 🐰\n", "", 0));
}

#[test]
fn are_the_requests_those_of_the_tutorials_client() {
    let (port, peer) = answering(message(&Head::json(), b"{}"));
    send("127.0.0.1", &port, &["search", "ring"], b"");
    let asked = peer.join().unwrap().unwrap();
    let expected = message(&Head::json(), br#"{"action": "search", "value": "ring"}"#);
    assert_eq!(asked.as_message().bytes(), expected);

    let (port, peer) = answering(message(&Head::json(), b"{}"));
    send("127.0.0.1", &port, &["binary", "😃"], b"");
    let asked = peer.join().unwrap().unwrap();
    let head = Head::binary("binary/custom-client-binary-type");
    assert_eq!(asked.as_message().bytes(), message(&head, "binary😃".as_bytes()));
}

#[test]
fn is_an_answer_printed_by_its_kind() {
    let latin = Head { content_encoding: "latin-1", ..Head::json() };
    for (head, content, printed) in [
        (Head::json(), &br#"{"b": 1, "result": "text"}"#[..], &b"text\n"[..]),
        (Head::json(), br#"{"result": 1, "a": [1.5, null]}"#, b"{\"result\":1,\"a\":[1.5,null]}\n"),
        (Head::json(), "[\"é\"]".as_bytes(), "[\"é\"]\n".as_bytes()),
        (latin, b"{\"result\": \"caf\xe9\"}", "café\n".as_bytes()),
        (Head::binary("image/png"), b"\0\xff\n", b"\0\xff\n\n"),
    ] {
        let (port, peer) = answering(message(&head, content));
        let output = send("127.0.0.1", &port, &["search", "x"], b"");
        assert_eq!(output.stdout, printed);
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
        peer.join().unwrap();
    }
}

#[test]
fn does_json_print_what_decode_would() {
    let mut extra = ExtraHeaders::new();
    extra.push("id", &7).unwrap();
    let wire = message(&Head { extra: &extra, ..Head::json() }, "{\"result\": \"é\"}".as_bytes());
    let (port, peer) = answering(wire.clone());
    let output = send("127.0.0.1", &port, &["search", "x", "--json"], b"");
    peer.join().unwrap();

    let mut decode = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .arg("decode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    decode.stdin.take().unwrap().write_all(&wire).unwrap();
    assert_eq!(output.stdout, decode.wait_with_output().unwrap().stdout);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn does_an_error_reply_go_to_standard_error() {
    let serve = Serve::new(&[]);
    let args = ["--file", "-", "--content-type", "text/json"];
    let output = send("127.0.0.1", &serve.port, &args, b"{");
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stdout, status), ("", 1));
    assert!(stderr.starts_with("myriapod: Error: the content is not JSON"), "{stderr}");
    assert!(stderr.ends_with(" (ContentNotJson)\n") && stderr.lines().count() == 1, "{stderr}");

    let args = [&args[..], &["--json"]].concat();
    let output = send("127.0.0.1", &serve.port, &args, b"{");
    let (stdout, stderr, status) = seen(&output);
    let line: Value = serde_json::from_str(stdout).unwrap();
    assert_eq!(line["header"]["error"], "ContentNotJson");
    assert_eq!((stderr, status), ("", 1));
}

#[test]
fn is_anything_sent_from_a_file() {
    let serve = Serve::new(&["--service", "echo"]);
    let path = std::env::temp_dir().join(format!("myriapod-send-{}", std::process::id()));
    std::fs::write(&path, b"\0caf\xe9").unwrap();
    let file = path.to_str().unwrap();
    for (args, content_type, encoding) in [
        (&[][..], "application/octet-stream", "binary"),
        (&["--content-type=text/plain"], "text/plain", "utf-8"),
        (&["--content-type=image/png"], "image/png", "binary"),
        (&["--content-type=text/plain", "--content-encoding=latin-1"], "text/plain", "latin-1"),
    ] {
        let headers = ["--header", "id=7", "--header", r#"name=["é"]"#, "--json"];
        let output = serve.send(&[&["--file", file], args, &headers].concat());
        let (stdout, stderr, status) = seen(&output);
        assert_eq!((stderr, status), ("", 0));
        let line: Value = serde_json::from_str(stdout).unwrap();
        let header = &line["header"];
        assert_eq!(
            (&header["content-type"], &header["content-encoding"]),
            (&json!(content_type), &json!(encoding))
        );
        assert_eq!((&header["id"], &header["name"]), (&json!(7), &json!(["é"])));
        assert_eq!(line["content"], "00636166e9");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn does_a_unix_socket_answer() {
    let path = std::env::temp_dir().join(format!("myriapod-send-unix-{}", std::process::id()));
    let host = format!("unix:{}", path.display());
    let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .args(["serve", &host])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let output = send(&host, "0", &["search", "morpheus"], b"");
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = std::fs::remove_file(&path);
    assert_eq!(seen(&output), ("Follow the white rabbit. 🐰\n", "", 0));
}

#[test]
fn does_a_refused_connection_say_what_to_do() {
    // A port that is taken by a connection, so that nobody can listen there.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = send("127.0.0.1", &port, &["search", "x"], b"");
    let expected = format!(
        "myriapod: connect 127.0.0.1:{port}: ECONNREFUSED (Connection refused); \
         is the server running? start it with `myriapod serve 127.0.0.1 {port}`\n"
    );
    assert_eq!(seen(&output), ("", &*expected, 1));
}

#[test]
fn does_another_protocol_say_so() {
    let (port, peer) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    let output = send("127.0.0.1", &port, &["search", "x"], b"");
    let expected = format!(
        "myriapod: reply of 127.0.0.1:{port}, byte 0: HeaderTooLong (the header is longer than \
         the limit); that looks like HTTP\n"
    );
    assert_eq!(seen(&output), ("", &*expected, 1));
    peer.join().unwrap();
}

#[test]
fn does_a_server_that_closes_without_a_reply_say_so() {
    let (port, peer) = answering(Vec::new());
    let output = send("127.0.0.1", &port, &["search", "x"], b"");
    let expected = format!(
        "myriapod: recv 127.0.0.1:{port}: the peer closed the connection without a reply; \
         its log may say why, or it speaks another protocol\n"
    );
    assert_eq!(seen(&output), ("", &*expected, 1));
    peer.join().unwrap();
}

#[test]
fn does_a_server_that_never_answers_time_out() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = send("127.0.0.1", &port, &["search", "x", "--read-timeout=50ms"], b"");
    let expected = format!(
        "myriapod: recv 127.0.0.1:{port}: nothing within 50ms; \
         allow more time with --read-timeout\n"
    );
    assert_eq!(seen(&output), ("", &*expected, 1));
}

#[test]
fn is_a_reply_over_the_limit_refused() {
    let serve = Serve::new(&[]);
    let output = serve.send(&["search", "morpheus", "--max-content-len=10"]);
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stdout, status), ("", 1));
    assert!(stderr.contains("byte 0: ContentTooLong"), "{stderr}");
}

#[test]
fn is_wrong_usage_status_2() {
    for args in [
        &[][..],
        &["search"],
        &["search", "x", "y"],
        &["search", "x", "--file", "-"],
        &["search", "x", "--content-type", "y"],
        &["search", "x", "--content-encoding", "y"],
        &["search", "x", "--header", "no-value"],
        &["search", "x", "--header", "a=not json"],
        &["search", "x", "--header", "byteorder=\"big\""],
        &["search", "x", "--header", "a=1", "--header", "a=2"],
        &["search", "x", "--read-timeout", "5"],
        &["search", "x", "--max-content-len", "0"],
        &["search", "x", "--json", "--output", "y"],
    ] {
        let output = send("127.0.0.1", "1", args, b"");
        let (stdout, stderr, status) = seen(&output);
        assert_eq!((stdout, status), ("", 2), "{args:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn is_a_json_reply_shown_that_is_no_json() {
    let (port, peer) = answering(message(&Head::json(), b"{'result': True}"));
    let output = send("127.0.0.1", &port, &["search", "x"], b"");
    peer.join().unwrap();
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stdout, status), ("{'result': True}\n", 1));
    assert!(stderr.contains(": ContentNotJson ") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn is_a_reply_written_to_a_file_byte_for_byte() {
    let path = std::env::temp_dir().join(format!("myriapod-output-{}", std::process::id()));
    let file = path.to_str().unwrap();
    for (head, content) in [
        (Head::binary("image/png"), &b"\0\xff\n"[..]),
        (Head::json(), br#"{"result": 1}"#),
        (Head::json(), b"no JSON"),
    ] {
        for output in [file, "-"] {
            let (port, peer) = answering(message(&head, content));
            let sent = send("127.0.0.1", &port, &["search", "x", "--output", output], b"");
            peer.join().unwrap();
            assert_eq!((sent.status.code(), &sent.stderr[..]), (Some(0), &b""[..]));
            let written = if output == "-" { sent.stdout } else { std::fs::read(&path).unwrap() };
            assert_eq!(written, content);
        }
    }

    // An error reply is not what was asked for: the file stays as it is.
    let mut extra = ExtraHeaders::new();
    extra.push("status", "error").unwrap();
    let wire = message(&Head { extra: &extra, ..Head::json() }, br#"{"result": "no"}"#);
    let (port, peer) = answering(wire);
    let output = send("127.0.0.1", &port, &["search", "x", "-o", file], b"");
    peer.join().unwrap();
    assert_eq!(seen(&output), ("", "myriapod: no\n", 1));
    assert_eq!(std::fs::read(&path).unwrap(), b"no JSON");
    std::fs::remove_file(&path).unwrap();

    let (port, peer) = answering(message(&Head::json(), b"{}"));
    let output = send("127.0.0.1", &port, &["search", "x", "-o", "/nonexistent/x"], b"");
    peer.join().unwrap();
    let (_, stderr, status) = seen(&output);
    assert!(stderr.starts_with("myriapod: write /nonexistent/x: ENOENT"), "{stderr}");
    assert_eq!(status, 1);
}

#[test]
fn does_every_framing_carry_a_search_and_an_echo() {
    for spec in [
        "json-header:lenient",
        "json-header:prefix=4be",
        "padded",
        "padded:width=10,replies=padded",
        "length:4be",
        "length:2le",
        "length:4be,inclusive",
        "lines",
        "delimited:\\r\\n",
        "json",
    ] {
        let serve = Serve::new(&["--framing", spec, "--one-shot"]);
        let output = serve.send(&["search", "morpheus", "--framing", spec]);
        assert_eq!(seen(&output), ("Follow the white rabbit. 🐰\n", "", 0), "{spec}");
    }
    for spec in ["raw", "length:8be", "lines", "padded:bytes"] {
        let serve = Serve::new(&["--framing", spec, "--service=echo"]);
        let output = serve.send(&["hello", "", "--framing", spec]);
        assert_eq!(seen(&output), ("hello\n", "", 0), "{spec}");
    }
}

#[test]
fn is_an_error_reply_without_a_header_an_error() {
    let serve = Serve::new(&["--framing", "length:4be"]);
    let output = serve.send(&["not", "json", "--framing", "length:4be"]);
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stdout, status), ("", 1));
    assert!(stderr.ends_with("(ContentNotJson)\n"), "{stderr}");
}
