//! The simplest server: blocking, one client, every byte sent back, and the end.
//!
//! ```text
//! $ cargo run --example echo_server
//! Connected by ('127.0.0.1', 64623)
//! ```
//!
//! It prints what the tutorial's `echo-server.py` prints; with a port of your own, also where it
//! listens.
//!
//! Beside it: `echo_client`. Watch: that it ends after one client, and what `sockets` shows
//! meanwhile.

use std::process::ExitCode;

use blocking::send_all;
use command::Stop;
use myriapod::sys::{ListenOptions, Listener, Socket, SystemError, resolve};

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

/// Only this machine can connect.
const HOST: &str = "127.0.0.1";
/// Ports above 1023 need no privilege.
const PORT: u16 = 65432;

fn main() -> ExitCode {
    command::run("[HOST] [PORT]", |arguments| match arguments {
        [] => serve(HOST, None),
        [host] => serve(host, None),
        [host, port] => serve(host, Some(command::port(port)?)),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: Option<u16>) -> Result<(), Stop> {
    // A name may have several addresses: the first.
    let address = resolve(host, port.unwrap_or(PORT))?.swap_remove(0);
    // socket, bind and listen: from now on the kernel lets clients connect.
    let listener = Listener::bind(&address, &ListenOptions::default())?;
    listener.set_nonblocking(false)?;
    if port.is_some() {
        println!("listening on {}", python_repr::address(&listener.local_address()?));
    }
    // accept: waits here until a client comes. What it gives is a socket of its own.
    let (descriptor, peer) =
        listener.accept().map_err(|errno| SystemError::call("accept", errno, host))?;
    let conn = Socket::from(descriptor);
    conn.set_nonblocking(false)?;
    println!("Connected by {}", python_repr::address(&peer));

    let mut buffer = [0; 1024];
    loop {
        // As much as is there, at most 1024 bytes; zero bytes are the end.
        let count =
            conn.recv(&mut buffer).map_err(|errno| SystemError::call("recv", errno, &peer))?;
        if count == 0 {
            return Ok(());
        }
        send_all(&conn, &buffer[..count])
            .map_err(|errno| SystemError::call("send", errno, &peer))?;
    }
}
