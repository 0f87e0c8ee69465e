//! The first program's protocol on the event loop: the same lines, without a thread for each client.
//!
//! ```text
//! $ cargo run --release --example padded_on_engine -- 127.0.0.1 5050
//! [STARTING] server is starting...
//! [LISTENING] Server is listening on 127.0.0.1:5050
//! ```
//!
//! The clients of `threaded_server` cannot tell the difference, and ten thousand of them may come.
//! Which messages a stream consists of is for the [`Framing`] to say, so the same engine and the
//! same handler also echo JSON-header messages, or bytes as they come: `... 127.0.0.1 5050 json`.
//!
//! Beside it: `threaded_client`. Watch: that the client cannot tell it from `threaded_server`.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

use blocking::{own_host, place};
use command::Stop;
use myriapod::protocol::{DecodeLimits, Framing, JsonHeader, Padded, Raw};
use myriapod::{Cause, Handler, HandlerResult, LogEvent, Message, Reply, Server, SocketAddr, View};

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

const PORT: u16 = 5050;

fn main() -> ExitCode {
    command::run("[HOST] [PORT] [padded|json|raw]", |arguments| match arguments {
        [] => serve(&own_host()?, None, "padded"),
        [host] => serve(host, None, "padded"),
        [host, port] => serve(host, Some(command::port(port)?), "padded"),
        [host, port, framing] => serve(host, Some(command::port(port)?), framing),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: Option<u16>, framing: &str) -> Result<(), Stop> {
    println!("[STARTING] server is starting...");
    let limits = DecodeLimits::default();
    let (framing, is_padded): (Box<dyn Framing<Stream = ()>>, bool) = match framing {
        "padded" => (Box::new(Padded::new(limits)), true),
        "json" => (Box::new(JsonHeader::new(limits)), false),
        "raw" => (Box::new(Raw), false),
        _ => return Err(Stop::Usage),
    };
    let mut server = Server::builder()
        .listen(host, port.unwrap_or(PORT))
        .log(|event| {
            if !event.is_routine() || matches!(event, LogEvent::Fault { .. }) {
                eprintln!("{event}");
            }
        })
        .build_with(framing, Chat { active: 0, is_padded })?;
    match port {
        None => println!("[LISTENING] Server is listening on {host}"),
        Some(_) => {
            println!("[LISTENING] Server is listening on {}", place(host, &server.addresses()[0]));
        }
    }
    server.run()?;
    Ok(())
}

/// Prints every message and answers it.
struct Chat {
    active: usize,
    is_padded: bool,
}

impl Handler for Chat {
    /// The peer's address in Python's notation.
    type State = Box<str>;

    fn on_open(&mut self, _view: &mut View<'_>, peer: &SocketAddr) -> Box<str> {
        let peer = python_repr::address(peer);
        println!("[NEW CONNECTION] {peer} connected.");
        self.active += 1;
        println!("[ACTIVE CONNECTIONS] {}", self.active);
        peer.into()
    }

    fn on_message(
        &mut self,
        peer: &mut Box<str>,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        if !self.is_padded {
            println!("[{peer}] {}", python_repr::bytes(message.content()));
            return Ok(reply.echo(&message)?);
        }
        let text = message.text()?;
        println!("[{peer}] {}", python_repr::printable(&text));
        // In this framing an answer is bare text.
        reply.binary("text/plain", Padded::RECEIVED.as_bytes())?;
        if text == Padded::DISCONNECT {
            reply.close();
        }
        Ok(())
    }

    fn on_close(&mut self, _peer: Box<str>, _view: &mut View<'_>, _cause: Cause) {
        self.active -= 1;
    }
}
