//! The simplest client: sends a greeting and receives it back.
//!
//! ```text
//! $ cargo run --example echo_client
//! Received b'Hello, world'
//! ```
//!
//! It prints what the tutorial's `echo-client.py` prints. That one receives once, and may well get
//! only a part, as its text says; this one receives until all is there.
//!
//! Beside it: `echo_server`, or any of the ladder (`steps`). Watch: that it receives until all is
//! there.

use std::process::ExitCode;

use blocking::{connect, send_all};
use command::Stop;
use myriapod::sys::SystemError;

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 65432;
const GREETING: &[u8] = b"Hello, world";

fn main() -> ExitCode {
    command::run("[HOST] [PORT]", |arguments| match arguments {
        [] => ask(HOST, PORT),
        [host] => ask(host, PORT),
        [host, port] => ask(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn ask(host: &str, port: u16) -> Result<(), Stop> {
    let socket = connect(host, port)?;
    let peer = socket.peer_address()?;
    send_all(&socket, GREETING).map_err(|errno| SystemError::call("send", errno, &peer))?;

    // `recv` returns what is there, were it one byte: go on until it is as much as was sent.
    let mut data = Vec::with_capacity(1024);
    while data.len() < GREETING.len() {
        let count = socket
            .recv_append(&mut data)
            .map_err(|errno| SystemError::call("recv", errno, &peer))?;
        if count == 0 {
            break;
        }
    }
    println!("Received {}", python_repr::bytes(&data));
    if data != GREETING {
        return Err(Stop::Failed(format!("recv {peer}: that is not what was sent")));
    }
    Ok(())
}
