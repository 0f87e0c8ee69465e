//! A language server: the base protocol of LSP as a framing of our own, over TCP or standard streams.
//!
//! ```text
//! $ cargo run --example lsp_server -- 127.0.0.1 7000
//! listening on 127.0.0.1:7000
//! $ cargo run --example lsp_server -- --stdio      for an editor that starts it
//! ```
//!
//! Its language is plain text: it marks each `TODO`, and tells the length of the word under the mouse.
//! The same framing serves both: over TCP in an event loop, over standard streams in a `Decoder`.
//! <https://microsoft.github.io/language-server-protocol/specifications/base/0.9/specification/>

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::ExitCode;

use command::Stop;
use myriapod::protocol::{
    DecodeLimits, Decoded, Decoder, EncodeError, Frame, Framing, Head, Input, Mark, ProtocolError,
    write_json,
};
use myriapod::sys::Signal;
use myriapod::{Cause, Handler, HandlerResult, Message, Outgoing, Reply, Server, SocketAddr, View};
use serde_json::{Value, json};

#[path = "support/command.rs"]
mod command;

/// Header lines, an empty line, and as much content as `Content-Length` says.
#[derive(Clone, Copy, Default)]
struct Base {
    limits: DecodeLimits,
}

impl Base {
    /// Bytes of content, from the lines of a header.
    fn content_len(self, header: &[u8]) -> Result<usize, ProtocolError> {
        let refused = |text: &'static str| Err(ProtocolError::named("BadHeader", text));
        let Ok(header) = std::str::from_utf8(header) else {
            return refused("the header is not text");
        };
        let mut len = None;
        for line in header.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else {
                return refused("a line of the header has no colon");
            };
            if name.eq_ignore_ascii_case("content-length") {
                let digits = value.trim();
                if len.is_some() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return refused("Content-Length is not one number");
                }
                len = digits.parse().ok();
            }
        }
        match len {
            None => refused("Content-Length is missing"),
            Some(len) if len > self.limits.max_content_len => {
                Err(ProtocolError::named("TooLong", "the content is longer than the limit"))
            }
            Some(len) => Ok(len),
        }
    }
}

const END: &[u8] = b"\r\n\r\n";

impl Framing for Base {
    type Stream = ();

    fn set_limits(&mut self, limits: DecodeLimits) {
        self.limits = limits;
    }

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let bytes = input.bytes;
        // What was looked at may hold the first bytes of the end.
        let from = input.scanned.saturating_sub(END.len() - 1);
        let found = bytes[from..].windows(END.len()).position(|window| window == END);
        let Some(end) = found.map(|at| from + at) else {
            return match bytes.len() > self.limits.max_header_len {
                true => Err(ProtocolError::named("TooLong", "the header is longer than the limit")),
                false => Ok(Decoded::More { scanned: bytes.len(), in_content: false }),
            };
        };
        let start = end + END.len();
        let needed = start + self.content_len(&bytes[..end])?;
        if bytes.len() < needed {
            return Ok(Decoded::Incomplete { needed, in_content: true });
        }
        frame.set(start..needed, needed);
        frame.set_content_type("text/json");
        frame.set_content_encoding("utf-8");
        Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::with_headroom(out, "Content-Length: 100\r\n\r\n".len()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        let header = format!("Content-Length: {}\r\n\r\n", mark.content_len(out)?);
        mark.write_header(out, header.as_bytes())
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        let error = json!({ "code": -32700, "message": format!("{kind}: {text}") });
        let reply = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
        self.encode(out, &Head::binary("text/json"), reply.as_bytes())
    }
}

/// What an editor has opened, by its address.
#[derive(Default)]
struct Session {
    texts: HashMap<String, String>,
    is_over: bool,
}

impl Session {
    /// What is to be sent for one request or notification.
    fn take(&mut self, request: &Value) -> Vec<Value> {
        let params = &request["params"];
        let address = params["textDocument"]["uri"].as_str().unwrap_or_default().to_owned();
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "capabilities": { "textDocumentSync": 1, "hoverProvider": true },
                "serverInfo": { "name": "lsp_server" },
            }),
            "textDocument/didOpen" => {
                let text = params["textDocument"]["text"].as_str();
                return vec![self.open(&address, text.unwrap_or_default())];
            }
            "textDocument/didChange" => {
                let text = params["contentChanges"][0]["text"].as_str();
                return vec![self.open(&address, text.unwrap_or_default())];
            }
            "textDocument/didClose" => {
                self.texts.remove(&address);
                return Vec::new();
            }
            "textDocument/hover" => self.hover(&address, &params["position"]),
            "shutdown" => Value::Null,
            "exit" => {
                self.is_over = true;
                return Vec::new();
            }
            method => {
                if request["id"].is_null() {
                    return Vec::new();
                }
                let error = json!({ "code": -32601, "message": format!("no method {method}") });
                return vec![json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })];
            }
        };
        match request["id"].is_null() {
            true => Vec::new(),
            false => vec![json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })],
        }
    }

    /// Keeps a text, and tells where there is something to do.
    fn open(&mut self, address: &str, text: &str) -> Value {
        let mut found = Vec::new();
        for (line, text) in text.lines().enumerate() {
            for (at, word) in text.match_indices("TODO") {
                // Positions count units of UTF-16.
                let start = text[..at].encode_utf16().count();
                let place = |character| json!({ "line": line, "character": character });
                found.push(json!({
                    "range": { "start": place(start), "end": place(start + word.len()) },
                    "severity": 3,
                    "message": "there is something to do",
                }));
            }
        }
        self.texts.insert(address.to_owned(), text.to_owned());
        json!({
            "jsonrpc": "2.0",
            "method": "textDocument/publishDiagnostics",
            "params": { "uri": address, "diagnostics": found },
        })
    }

    fn hover(&self, address: &str, position: &Value) -> Value {
        let place = |key: &str| position[key].as_u64().and_then(|at| usize::try_from(at).ok());
        let line = self.texts.get(address).and_then(|text| text.lines().nth(place("line")?));
        let (Some(line), Some(at)) = (line, place("character")) else { return Value::Null };
        let mut end = 0;
        for word in line.split_inclusive(char::is_whitespace) {
            end += word.encode_utf16().count();
            let word = word.trim_end();
            if at < end && !word.is_empty() {
                let count = word.chars().count();
                return json!({ "contents": format!("`{word}` has {count} characters") });
            }
        }
        Value::Null
    }
}

struct Editors;

impl Handler for Editors {
    type State = Session;

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> Session {
        Session::default()
    }

    fn on_message(
        &mut self,
        session: &mut Session,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        for answer in session.take(&message.json()?) {
            reply.view().push(&Outgoing::json(&answer)?)?;
        }
        if session.is_over {
            reply.close();
        }
        Ok(())
    }

    fn on_close(&mut self, session: Session, _view: &mut View<'_>, cause: Cause) {
        println!("an editor left ({cause}); {} texts were open", session.texts.len());
    }
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Stop {
    move |error| Stop::Failed(format!("{what}: {error}"))
}

/// One editor, on standard streams.
fn over_standard_streams() -> Result<(), Stop> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut decoder, mut session) = (Decoder::new(Base::default()), Session::default());
    let mut piece = [0; 16 << 10];
    while !session.is_over {
        let len = input.read(&mut piece).map_err(failed("read standard input"))?;
        if len == 0 {
            break;
        }
        decoder.feed(&piece[..len]);
        let mut out = Vec::new();
        while !session.is_over
            && let Some(message) = decoder.next_message().map_err(failed("standard input"))?
        {
            for answer in session.take(&message.json().map_err(failed("standard input"))?) {
                let mut content = Vec::new();
                let encoded = write_json(&mut content, &answer).and_then(|()| {
                    Base::default().encode(&mut out, &Head::binary("text/json"), &content)
                });
                encoded.map_err(failed("a reply"))?;
            }
        }
        let written = output.write_all(&out).and_then(|()| output.flush());
        written.map_err(failed("write standard output"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    command::run("<host> <port>, or --stdio", |arguments| match arguments {
        ["--stdio"] => over_standard_streams(),
        [host, port] => {
            let mut server = Server::builder()
                .listen(host, command::port(port)?)
                .signals(&[Signal::Interrupt, Signal::Terminate])
                .build_with(Base::default(), Editors)?;
            println!("listening on {}", server.addresses()[0]);
            server.run()?;
            Ok(())
        }
        _ => Err(Stop::Usage),
    })
}
