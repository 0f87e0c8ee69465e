//! Many connections from one thread: each sends two messages and receives them back.
//!
//! ```text
//! $ cargo run --example multiconn_client -- 127.0.0.1 65432 2
//! starting connection 1 to ('127.0.0.1', 65432)
//! ```
//!
//! It prints what the tutorial's `multiconn-client.py` prints. A connection that fails does not end
//! the others: its error stands on stderr, and the program's status is 1.
//!
//! Beside it: `multiconn_server`. Watch: the order of the lines: no connection waits for another.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

use command::Stop;
use myriapod::sys::{
    Socket, SocketAddr, SystemError, raise_descriptor_limit, recv, resolve, send, take_error,
};
use myriapod::{Interest, Ready, Selector};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

const MESSAGES: [&[u8]; 2] = [b"Message 1 from client.", b"Message 2 from client."];

/// What is kept beside each connection.
struct Data {
    connid: usize,
    is_connected: bool,
    recv_total: usize,
    /// Not begun yet.
    messages: std::slice::Iter<'static, &'static [u8]>,
    /// The rest of the one that is being sent.
    outb: &'static [u8],
}

fn main() -> ExitCode {
    command::run("<host> <port> <num_connections>", |arguments| match arguments {
        [host, port, count] => {
            talk(host, command::port(port)?, command::number(count, "num_connections")?)
        }
        _ => Err(Stop::Usage),
    })
}

fn talk(host: &str, port: u16, num_conns: usize) -> Result<(), Stop> {
    // Each connection takes a descriptor.
    raise_descriptor_limit()?;
    let server = resolve(host, port)?.swap_remove(0);
    let server_addr = format!("({}, {port})", python_repr::text(host));
    let mut selector = Selector::new()?;
    for connid in 1..=num_conns {
        println!("starting connection {connid} to {server_addr}");
        // Python's `connect_ex`: the outcome is asked for when the socket is writable.
        let sock = Socket::connect_start(&server, None)?.into_socket();
        let (messages, outb) = (MESSAGES.iter(), &[][..]);
        let data = Data { connid, is_connected: false, recv_total: 0, messages, outb };
        selector.register(sock, Interest::BOTH, data)?;
    }

    let mut failures = 0;
    while !selector.is_empty() {
        selector.select(None)?;
        while let Some(ready) = selector.next_ready() {
            if let Err(Stop::Failed(text)) = service_connection(&mut selector, ready, &server) {
                eprintln!("{text}");
                selector.close(ready.key);
                failures += 1;
            }
        }
    }
    match failures {
        0 => Ok(()),
        _ => Err(Stop::Failed(format!("{failures} of {num_conns} connections failed"))),
    }
}

fn service_connection(
    selector: &mut Selector<Data>,
    ready: Ready,
    server: &SocketAddr,
) -> Result<(), Stop> {
    let failed = |call, errno| Stop::from(SystemError::call(call, errno, server));
    let Some((sock, data)) = selector.entry_mut(ready.key) else { return Ok(()) };
    if !data.is_connected {
        take_error(sock).map_err(|errno| failed("connect", errno))?;
        data.is_connected = true;
    }
    if ready.is_readable() {
        let mut recv_data = [0; 1024];
        let count = match recv(sock, &mut recv_data) {
            Err(errno) if errno.would_block() => None,
            received => Some(received.map_err(|errno| failed("recv", errno))?),
        };
        if let Some(count @ 1..) = count {
            let shown = python_repr::bytes(&recv_data[..count]);
            println!("received {shown} from connection {}", data.connid);
            data.recv_total += count;
        }
        let msg_total = MESSAGES.concat().len();
        if count == Some(0) || data.recv_total >= msg_total {
            println!("closing connection {}", data.connid);
            let missing = msg_total.saturating_sub(data.recv_total);
            selector.close(ready.key);
            return match missing {
                0 => Ok(()),
                _ => Err(Stop::Failed(format!("recv {server}: the end, {missing} bytes early"))),
            };
        }
    }
    if ready.is_writable() {
        if data.outb.is_empty() {
            data.outb = data.messages.next().copied().unwrap_or_default();
        }
        if !data.outb.is_empty() {
            match send(sock, data.outb) {
                Ok(sent) => {
                    let shown = python_repr::bytes(&data.outb[..sent]);
                    println!("sending {shown} to connection {}", data.connid);
                    data.outb = &data.outb[sent..];
                }
                Err(errno) if errno.would_block() => {}
                Err(errno) => return Err(failed("send", errno)),
            }
        }
    }
    // Nothing left to send: being writable is no news any more.
    if data.outb.is_empty() && data.messages.len() == 0 {
        selector.modify(ready.key, Interest::READABLE)?;
    }
    Ok(())
}
