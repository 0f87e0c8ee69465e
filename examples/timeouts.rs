//! Waiting for ever, not at all, or for a time: at each call that blocks.
//!
//! ```text
//! $ cargo run --example timeouts
//! recv, non-blocking: EAGAIN (…)
//! recv, with a timeout: nothing within 200ms
//! ```
//!
//! Python's sockets have three modes, `settimeout(None)`, `settimeout(0)` and `settimeout(0.2)`.
//! The system has two, blocking and non-blocking; a timeout is a wait before the call.
//!
//! Beside it: nobody. Watch: which waits end by themselves, and after how long.

use std::process::ExitCode;
use std::time::Duration;

use command::{Stop, failed};
use myriapod::protocol::Head;
use myriapod::sys::{AsFd, ListenOptions, Listener, Socket, SocketAddr, poll::wait_one};
use myriapod::{Cause, Client, ClientOptions, Interest, Limits, Server};

#[macro_use]
#[path = "support/command.rs"]
mod command;

const SHORT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    command::lesson(|| {
        the_socket()?;
        the_client()?;
        the_server()
    })
}

/// Nobody writes to this socket.
fn the_socket() -> Result<(), Stop> {
    let (ours, _theirs) = Socket::pair()?;
    match ours.recv(&mut [0; 64]) {
        Ok(count) => println!("recv, non-blocking: {count} bytes"),
        Err(errno) => println!("recv, non-blocking: {errno}"),
    }
    match wait_one(ours.as_fd(), Interest::READABLE, Some(SHORT)).map_err(failed("poll"))? {
        Some(_) => println!("recv, with a timeout: there is something"),
        None => println!("recv, with a timeout: nothing within {SHORT:?}"),
    }
    println!("recv, blocking: would still be waiting; set_nonblocking(false) is that mode");
    Ok(())
}

/// A listener that accepts nobody: the system completes connections for it, as far as its backlog
/// goes, and nobody answers.
fn the_client() -> Result<(), Stop> {
    let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
    let listener = Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &options)?;
    let address = listener.local_address()?;
    let port = address.port().unwrap_or(0);

    let options =
        ClientOptions { connect_timeout: SHORT, read_timeout: SHORT, ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", port, options)?;
    match client.request(&Head::binary("text/plain"), b"anybody there?") {
        Ok(_) => println!("client, no answer: an answer"),
        Err(error) => println!("client, no answer: {error}"),
    }
    // Fill the backlog; on Linux it ignores further peers, and they try again until they give up.
    let waiting = (0..4).map(|_| Socket::connect_start(&address, None));
    let _waiting = waiting.collect::<Result<Vec<_>, _>>()?;
    match Client::connect_with("127.0.0.1", port, options) {
        Ok(_) => println!("client, full backlog: connected"),
        Err(error) => println!("client, full backlog: {error}"),
    }
    Ok(())
}

/// What the tutorial's server lacks: clients that say nothing, or never finish, are closed.
fn the_server() -> Result<(), Stop> {
    let limits = Limits { idle_timeout: SHORT, header_timeout: SHORT, ..Limits::default() };
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .limits(limits)
        .answer(|message, reply| Ok(reply.echo(&message)?))?;
    let address = server.addresses()[0].clone();
    let _silent = Socket::connect(&address)?;
    let slow = Socket::connect(&address)?;
    slow.send(b"\0").map_err(failed("send"))?;
    let closed = |server: &Server<_>| server.stats().closed.iter().sum::<u64>();
    while closed(&server) < 2 {
        server.event_loop().run_once(Some(SHORT))?;
    }
    let stats = server.stats();
    for (cause, count) in Cause::ALL.iter().zip(stats.closed).filter(|(_, count)| *count > 0) {
        println!("server: {count} connection closed, the cause is {cause}");
    }
    println!("server: all its limits of time are in Limits, and on by default");
    Ok(())
}
