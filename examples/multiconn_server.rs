//! Many connections in one thread: a selector, non-blocking sockets, the data kept beside each.
//!
//! ```text
//! $ cargo run --example multiconn_server -- 127.0.0.1 65432
//! listening on ('127.0.0.1', 65432)
//! ```
//!
//! It prints what the tutorial's `multiconn-server.py` prints. That one watches every connection
//! for writing, which is nearly always possible, so its loop never rests; this one does only after
//! a short write. That one keeps all that a client sends and never reads back; this one stops
//! receiving at a limit.
//!
//! Beside it: `multiconn_client`. Watch: that one thread serves all, and that it rests when nobody
//! speaks.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

use command::Stop;
use myriapod::sys::{Errno, ListenOptions, Listener, SystemError, accept, recv, resolve, send};
use myriapod::{Interest, Key, Ready, Selector};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

/// Bytes of one connection that may wait to be echoed; above, it is not received from.
const MAX_UNSENT: usize = 64 << 10;

/// What is kept beside each connection. The listener has `None`.
struct Data {
    addr: String,
    outb: Vec<u8>,
    /// The client has sent its last byte.
    ended: bool,
}

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| match arguments {
        [host, port] => serve(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16) -> Result<(), Stop> {
    // Of a name's addresses, the first.
    let address = resolve(host, port)?.swap_remove(0);
    let listener = Listener::bind(&address, &ListenOptions::default())?;
    let port = listener.local_address()?.port().unwrap_or(port);
    println!("listening on ({}, {port})", python_repr::text(host));

    let mut selector = Selector::new()?;
    let listening = selector.register(listener, Interest::READABLE, None)?;
    loop {
        selector.select(None)?;
        while let Some(ready) = selector.next_ready() {
            if ready.key == listening {
                accept_wrapper(&mut selector, listening)?;
            } else {
                service_connection(&mut selector, ready, listening)?;
            }
        }
    }
}

fn accept_wrapper(
    selector: &mut Selector<Option<Data>>,
    listening: Key,
) -> Result<(), SystemError> {
    let Some(listener) = selector.source(listening) else { return Ok(()) };
    match accept(listener) {
        Ok((conn, addr)) => {
            let addr = python_repr::address(&addr);
            println!("accepted connection from {addr}");
            let data = Data { addr, outb: Vec::new(), ended: false };
            selector.register(conn, Interest::READABLE, Some(data))?;
        }
        // No descriptors left: peers go on waiting until a connection closes. (Watching
        // on would report the listener again and again.)
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
            eprintln!("accept: {errno}");
            if selector.len() == 1 {
                return Err(SystemError::call("accept", errno, "the first connection"));
            }
            selector.modify(listening, Interest::NONE)?;
        }
        // Nobody any more, or somebody who is gone already.
        Err(_) => {}
    }
    Ok(())
}

fn service_connection(
    selector: &mut Selector<Option<Data>>,
    ready: Ready,
    listening: Key,
) -> Result<(), SystemError> {
    let Some((sock, Some(data))) = selector.entry_mut(ready.key) else { return Ok(()) };
    let mut failed = None;
    if ready.is_readable() {
        let mut recv_data = [0; 1024];
        match recv(sock, &mut recv_data) {
            Ok(0) => data.ended = true,
            Ok(count) => data.outb.extend_from_slice(&recv_data[..count]),
            Err(errno) if errno.would_block() => {}
            Err(errno) => failed = Some(SystemError::call("recv", errno, &data.addr)),
        }
    }
    if !data.outb.is_empty() && failed.is_none() {
        // It is nearly always ready to write; when it is not, we are told as soon as it is.
        match send(sock, &data.outb) {
            Ok(sent) => {
                println!("echoing {} to {}", python_repr::bytes(&data.outb[..sent]), data.addr);
                data.outb.drain(..sent);
            }
            Err(errno) if errno.would_block() => {}
            Err(errno) => failed = Some(SystemError::call("send", errno, &data.addr)),
        }
    }
    if let Some(error) = &failed {
        eprintln!("{error}");
    }
    if failed.is_some() || (data.ended && data.outb.is_empty()) {
        println!("closing connection to {}", data.addr);
        selector.close(ready.key);
        return selector.modify(listening, Interest::READABLE);
    }
    let mut interest = Interest::NONE;
    if !data.ended && data.outb.len() < MAX_UNSENT {
        interest |= Interest::READABLE;
    }
    if !data.outb.is_empty() {
        interest |= Interest::WRITABLE;
    }
    selector.modify(ready.key, interest)
}
