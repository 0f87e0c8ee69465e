//! Accepts and never receives, so that the queues fill: the tutorial's netstat experiment.
//!
//! ```text
//! $ cargo run --example backpressure_server -- 127.0.0.1 65432
//! listening on ('127.0.0.1', 65432)
//! Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
//! tcp4  408300      0  127.0.0.1:65432        127.0.0.1:53225        ESTABLISHED
//! ```
//!
//! Recv-Q is what the system has received for us and we have not. The rows change as it grows, so
//! no second terminal with netstat is needed; run `backpressure_client` against it.
//!
//! Beside it: `backpressure_client`. Watch: Recv-Q grow, and then stand still.

use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::sys::{
    AsFd, ListenOptions, Listener, Socket, TcpState, accept, poll::wait_one, resolve, tcp_info,
};
use myriapod::{Interest, sys};
use netstat::{Table, row};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/netstat.rs"]
mod netstat;
#[path = "support/python_repr.rs"]
mod python_repr;

/// How often the queues are looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// More clients wait in the backlog.
const MAX_CONNECTIONS: usize = 20;

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| match arguments {
        [host, port] => serve(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16) -> Result<(), Stop> {
    let address = resolve(host, port)?.swap_remove(0);
    let listener = Listener::bind(&address, &ListenOptions::default())?;
    let port = listener.local_address()?.port().unwrap_or(port);
    println!("listening on ({}, {port})", python_repr::text(host));

    let mut connections: Vec<Socket> = Vec::new();
    let mut table = Table::default();
    loop {
        // Nothing tells us that a queue has grown. So look now and then, or when somebody comes.
        let ready = wait_one(listener.as_fd(), Interest::READABLE, Some(GLANCE))
            .map_err(|errno| sys::SystemError::call("poll", errno, &address))?;
        if ready.is_some() && connections.len() < MAX_CONNECTIONS {
            if let Ok((connection, _)) = accept(&listener) {
                connections.push(connection.into());
            }
        } else if ready.is_some() {
            std::thread::sleep(GLANCE);
        }
        let rows = connections.iter().filter_map(|connection| row(connection).ok());
        table.show(rows.collect())?;
        connections.retain(|connection| !is_left(connection));
    }
}

/// Whether the client has closed its side, as far as the system tells. A reader finds out
/// by receiving.
fn is_left(connection: &Socket) -> bool {
    matches!(tcp_info(connection), Ok(info) if info.state != TcpState::Established)
}
