//! Does a client that is written in Python get right answers? Run where there is `python3`.

#![cfg(all(feature = "json", feature = "encoding"))]
#![expect(clippy::unwrap_used, reason = "tests fail by it")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use myriapod::{Handle, HandlerError, HandlerResult, Message, Reply, Server};
use serde_json::{Value, json};

/// The tutorial's service; and one that reads numbers in the sender's byte order.
fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    if message.is_json() {
        let request = message.json()?;
        let (action, value) = (request["action"].as_str(), request["value"].as_str());
        let (Some("search"), Some(value)) = (action, value) else {
            return Err(HandlerError::new("InvalidAction", "not a search"));
        };
        let result = match value {
            "morpheus" => "Follow the white rabbit. 🐰".to_owned(),
            "ring" => "In the caves beneath the Misty Mountains. 💍".to_owned(),
            "🐶" => "🐾 Playing ball! 🏐".to_owned(),
            _ => format!("No match for '{value}'."),
        };
        reply.json(&json!({ "result": result }))?;
    } else if message.content_type() == "binary/numbers" {
        reply.header("id", &message.header("id"))?;
        let numbers = (message.read_u32(0), message.read_u32(4), message.read_f64(8));
        reply.json(&numbers)?;
    } else {
        let content = message.content();
        reply.binary_with("binary/custom-server-binary-type", |out| {
            out.append(b"First 10 bytes of request: ");
            out.append(content.get(..10).unwrap_or(content));
        })?;
    }
    Ok(())
}

/// A server in this process, and how it is stopped.
fn serve() -> (thread::JoinHandle<bool>, u16, Handle) {
    let (to, from) = mpsc::channel();
    let running = thread::spawn(move || {
        let mut server = Server::builder().listen("127.0.0.1", 0).answer(answer).unwrap();
        to.send((server.addresses()[0].port().unwrap(), server.handle())).unwrap();
        server.run().unwrap()
    });
    let (port, handle) = from.recv().unwrap();
    (running, port, handle)
}

/// What the client prints; `None` without `python3`.
fn run_client(port: u16) -> Option<Output> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/client.py");
    let port = port.to_string();
    let client = Command::new("python3").args(["-X", "utf8", program, "127.0.0.1", &port]).output();
    if client.is_err() {
        println!("skipped: there is no python3");
    }
    client.ok()
}

fn result(asked: &str, result: &str) -> Value {
    let content = json!({ "result": result });
    json!({ "asked": asked, "type": "text/json", "own": {}, "content": content })
}

fn error(asked: &str, kind: &str, text: &str) -> Value {
    let mut line = result(asked, &format!("Error: {text}"));
    line["own"] = json!({ "status": "error", "error": kind });
    line
}

fn first_bytes(asked: &str, bytes: &str) -> Value {
    json!({
        "asked": asked, "type": "binary/custom-server-binary-type", "own": {},
        "content": format!("First 10 bytes of request: {bytes}"),
    })
}

#[test]
fn does_a_python_client_get_right_answers() {
    let (running, port, handle) = serve();
    let output = run_client(port);
    handle.shutdown().unwrap();
    assert!(running.join().unwrap(), "the server had to cut something off");
    let Some(output) = output else { return };
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");

    let mut expected = vec![
        result("morpheus", "Follow the white rabbit. 🐰"),
        result("ring", "In the caves beneath the Misty Mountains. 💍"),
        result("🐶", "🐾 Playing ball! 🏐"),
        result("needle", "No match for 'needle'."),
        result("it's \"é\"\n", "No match for 'it's \"é\"\n'."),
        result("", "No match for ''."),
        // The client shows bytes as Latin-1.
        first_bytes("binary", "binary\u{f0}\u{9f}\u{98}\u{83}"),
        result("ring", "In the caves beneath the Misty Mountains. 💍"),
        result("morpheus", "Follow the white rabbit. 🐰"),
    ];
    expected.extend((0..20).map(|n| {
        let value = format!("pipelined {n}");
        result(&value, &format!("No match for '{value}'."))
    }));
    expected.extend([
        result("split text", "🐾 Playing ball! 🏐"),
        first_bytes("split binary", "bytewise"),
    ]);
    expected.extend(
        ["utf-16", "utf-16-be", "utf-32", "latin-1"]
            .map(|encoding| result(encoding, "No match for 'café'.")),
    );
    expected.extend(["little", "big"].map(|order| {
        json!({
            "asked": order, "type": "text/json",
            "own": { "id": [order] }, "content": [1, 0xfffe, -0.5],
        })
    }));
    expected.extend([
        error("no JSON", "ContentNotJson", "the content is not JSON"),
        result("ring", "In the caves beneath the Misty Mountains. 💍"),
        error("no header", "MissingHeader", "byteorder is missing from the header"),
    ]);

    let lines = String::from_utf8(output.stdout).unwrap();
    let answers = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    for (nth, (mut answer, expected)) in answers.zip(&expected).enumerate() {
        if answer["own"]["status"] == "error" {
            // What the parser says behind our words is the parser's affair.
            let text = answer["content"]["result"].as_str().unwrap();
            let ours = expected["content"]["result"].as_str().unwrap();
            assert!(text.starts_with(ours), "answer {nth}: {text}");
            answer["content"]["result"] = ours.into();
        }
        assert_eq!(answer, *expected, "answer {nth}");
    }
    assert_eq!(lines.lines().count(), expected.len());
}
