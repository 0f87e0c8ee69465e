//! Sends until the system takes no more: the tutorial's netstat experiment, from the other side.
//!
//! ```text
//! $ cargo run --example backpressure_client -- 127.0.0.1 65432 binary test
//! starting connection to ('127.0.0.1', 65432)
//! error: socket.send() blocking io exception for ('127.0.0.1', 65432):
//! BlockingIOError(11, 'Resource temporarily unavailable')
//! send: EAGAIN after 2688000 bytes
//! Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
//! tcp4       0 269868  127.0.0.1:53225        127.0.0.1:65432        ESTABLISHED
//! ```
//!
//! `backpressure_server` never receives. First its receive queue fills, then our send queue, and
//! then `send` would block. A program that goes on making messages now has to keep them itself:
//! that is where a limit belongs (the engine's is `high_water`). Send-Q is what the system still
//! holds for us; whenever there is room again, this program sends more.
//!
//! Beside it: `backpressure_server`. Watch: Send-Q grow, until `send` says EAGAIN.

use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::protocol::encode;
use myriapod::sys::{self, AsFd, Errno, Interest, Socket, SystemError, poll::wait_one, take_error};
use netstat::{Table, row};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/netstat.rs"]
mod netstat;
#[path = "support/python_repr.rs"]
mod python_repr;
#[path = "support/request.rs"]
mod request;

/// How often the queues are looked at.
const GLANCE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    command::run("<host> <port> <action> <value>", |arguments| match arguments {
        [host, port, action, value] => fill(host, command::port(port)?, action, value),
        _ => Err(Stop::Usage),
    })
}

fn fill(host: &str, port: u16, action: &str, value: &str) -> Result<(), Stop> {
    let (head, content) = request::request(action, value)?;
    let mut message = Vec::new();
    encode(&mut message, &head, &content)?;

    let server = sys::resolve(host, port)?.swap_remove(0);
    let addr = format!("({}, {port})", python_repr::text(host));
    let failed = |call, errno| Stop::from(SystemError::call(call, errno, &server));
    println!("starting connection to {addr}");
    let socket = Socket::connect_start(&server, None)?.into_socket();
    let writable = |timeout| {
        let ready = wait_one(socket.as_fd(), Interest::WRITABLE, timeout);
        ready.map_err(|errno| failed("poll", errno))
    };
    writable(None)?;
    take_error(&socket).map_err(|errno| failed("connect", errno))?;

    // A short write leaves the rest of a message to be sent first.
    let mut unsent = &message[..];
    let mut total = 0;
    let mut is_told = false;
    let mut table = Table::default();
    loop {
        match socket.send(unsent) {
            Ok(sent) => {
                total += sent;
                unsent = if sent < unsent.len() { &unsent[sent..] } else { &message };
                continue;
            }
            Err(errno) if errno.would_block() => {
                if !std::mem::replace(&mut is_told, true) {
                    tell(&addr, errno, total);
                }
            }
            Err(errno) => return Err(failed("send", errno)),
        }
        // Until there is room again, look at the queues.
        loop {
            // Of a socket that was just reset there is nothing to show; sending says why.
            table.show(row(&socket).into_iter().collect())?;
            if writable(Some(GLANCE))?.is_some() {
                break;
            }
        }
    }
}

fn tell(addr: &str, errno: Errno, total: usize) {
    println!("error: socket.send() blocking io exception for {addr}:");
    println!("BlockingIOError({}, 'Resource temporarily unavailable')", errno.raw());
    println!("send: {} after {total} bytes", errno.name());
}
