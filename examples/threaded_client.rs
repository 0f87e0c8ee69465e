//! The first program's client: three greetings, Enter between them, and `!DISCONNECT`.
//!
//! ```text
//! $ cargo run --example threaded_client -- 127.0.0.1 5050
//! Msg received
//! ```
//!
//! It prints what the tutorial's first client prints, and talks to `threaded_server`, to
//! `padded_on_engine` and to the tutorial's own server.
//!
//! Beside it: `threaded_server`, or `padded_on_engine`. Watch: each Enter sends one more.

use std::process::ExitCode;
use std::time::Duration;

use blocking::{connect, own_host, send_all};
use command::Stop;
use myriapod::Interest;
use myriapod::protocol::{Padded, encode_padded};
use myriapod::sys::{AsFd, Socket, SystemError, poll::wait_one};

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

const PORT: u16 = 5050;

/// An answer has ended when nothing came for so long.
const SILENCE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    command::run("[HOST] [PORT]", |arguments| match arguments {
        [] => talk(&own_host()?, PORT),
        [host] => talk(host, PORT),
        [host, port] => talk(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn talk(host: &str, port: u16) -> Result<(), Stop> {
    let client = connect(host, port)?;
    send(&client, "Hello World!")?;
    wait_for_enter()?;
    send(&client, "Hello Everyone!")?;
    wait_for_enter()?;
    send(&client, "Hello Tim!")?;

    send(&client, Padded::DISCONNECT)
}

/// Sends a text and prints the answer.
fn send(client: &Socket, text: &str) -> Result<(), Stop> {
    let peer = client.peer_address()?;
    let mut wire = Vec::new();
    encode_padded(&mut wire, text)?;
    send_all(client, &wire).map_err(|errno| SystemError::call("send", errno, &peer))?;

    // An answer has no header that says how long it is. The usual one is known; another may be
    // shorter, and then only silence tells.
    let mut answer = Vec::with_capacity(2048);
    while answer.len() < Padded::RECEIVED.len() {
        let wait = (!answer.is_empty()).then_some(SILENCE);
        let ready = wait_one(client.as_fd(), Interest::READABLE, wait)
            .map_err(|errno| SystemError::call("poll", errno, &peer))?;
        if ready.is_none() {
            break;
        }
        match client.recv_append(&mut answer) {
            Ok(0) => return Err(Stop::Failed(format!("recv {peer}: the server closed"))),
            Ok(_) => {}
            Err(errno) => return Err(SystemError::call("recv", errno, &peer).into()),
        }
    }
    println!("{}", python_repr::printable(&String::from_utf8_lossy(&answer)));
    Ok(())
}

/// Python's `input()`. The end of the input counts as Enter.
fn wait_for_enter() -> Result<(), Stop> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
