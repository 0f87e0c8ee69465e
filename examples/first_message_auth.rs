//! Who may use the service is known by the first message, and that has a deadline.
//!
//! ```text
//! $ cargo run --example first_message_auth -- 127.0.0.1 65432 neo=redpill trinity=bluebird
//! listening on 127.0.0.1:65432
//! ```
//!
//! The first message is `{"token": "redpill"}`. It is answered `{"result": "welcome neo"}`, and from
//! then on messages are sent back. A wrong token gets an error reply and is the end of the
//! connection. So is silence: [`View::set_timer`] runs from the start until the token is there.
//! (What is sent in clear text can be read on the way, the token too: this belongs behind TLS.)

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::sys::Signal;
use myriapod::{
    Handler, HandlerError, HandlerResult, Limits, Message, Outgoing, Reply, Server, SocketAddr,
    View,
};
use serde::Deserialize;
use serde_json::json;

#[path = "support/command.rs"]
mod command;

/// From the connection to its token.
const DEADLINE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

struct Guarded {
    /// Names and tokens.
    users: Vec<(String, String)>,
}

impl Guarded {
    /// Whose token a first message shows.
    fn user(&self, message: &Message<'_>) -> Result<&str, HandlerError> {
        let Credentials { token } = message.json_as()?;
        // All are looked at, so that the time tells nothing of how near a guess was.
        let found = self.users.iter().fold(None, |found, (name, known)| {
            if is_same(known, &token) { Some(name.as_str()) } else { found }
        });
        found.ok_or_else(|| HandlerError::new("Unauthorized", "nobody has this token"))
    }
}

/// Compares in a time that depends on the lengths alone.
fn is_same(known: &str, token: &str) -> bool {
    let (known, token) = (known.as_bytes(), token.as_bytes());
    let differ = known.iter().zip(token).fold(0, |differ, (one, other)| differ | (one ^ other));
    std::hint::black_box(differ) == 0 && known.len() == token.len()
}

impl Handler for Guarded {
    /// Whether the peer has shown its token.
    type State = bool;

    fn on_open(&mut self, view: &mut View<'_>, _peer: &SocketAddr) -> bool {
        view.set_timer(DEADLINE);
        false
    }

    fn on_message(
        &mut self,
        is_known: &mut bool,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        if *is_known {
            reply.echo(&message)?;
            return Ok(());
        }
        match self.user(&message) {
            Ok(name) => {
                println!("{name} is {}", reply.connection());
                reply.view().cancel_timer();
                *is_known = true;
                Ok(reply.json(&json!({ "result": format!("welcome {name}") }))?)
            }
            // What is wrong is said, and ends the connection.
            Err(error) => {
                reply.close();
                Err(error)
            }
        }
    }

    fn on_connection_timer(&mut self, _is_known: &mut bool, view: &mut View<'_>) {
        if let Ok(error) = Outgoing::json(&json!({ "result": "Error: no token came in time" })) {
            let _ = view.push(&error);
        }
        view.close();
    }
}

fn main() -> ExitCode {
    command::run("<host> <port> <name>=<token> ...", |arguments| match arguments {
        [host, port, users @ ..] if !users.is_empty() => {
            let users = users.iter().map(|user| match user.split_once('=') {
                Some((name, token)) if !token.is_empty() => Ok((name.to_owned(), token.to_owned())),
                _ => Err(Stop::Argument(format!("{user}: not <name>=<token>"))),
            });
            serve(host, command::port(port)?, users.collect::<Result<_, _>>()?)
        }
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16, users: Vec<(String, String)>) -> Result<(), Stop> {
    let mut server = Server::builder()
        .listen(host, port)
        // A stranger may send a small first message only.
        .limits(Limits { max_content_len: 64 << 10, ..Limits::default() })
        .signals(&[Signal::Interrupt, Signal::Terminate])
        .build(Guarded { users })?;
    println!("listening on {}", server.addresses()[0]);
    server.run()?;
    Ok(())
}
