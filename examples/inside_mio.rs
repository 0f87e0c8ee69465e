//! The event loop inside a loop over mio's `Poll`, beside a socket of mio's.
//!
//! ```text
//! $ cargo run --example inside_mio -- 127.0.0.1 65432 2
//! listening on 127.0.0.1:65432
//! counting on 127.0.0.1:40123
//! ```
//!
//! The event loop sends messages back. A UDP socket of mio's, at the second address, answers every
//! datagram with the number of messages so far.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use myriapod::sys::Signal;
use myriapod::{Limits, Server};

#[path = "support/command.rs"]
mod command;

const SERVER: Token = Token(0);
const COUNTER: Token = Token(1);

fn main() -> ExitCode {
    command::run("<host> <port> [<idle_seconds>]", |arguments| match arguments {
        [host, port] => serve(host, command::port(port)?, 300),
        [host, port, idle] => {
            serve(host, command::port(port)?, command::number(idle, "number of seconds")?)
        }
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16, idle_seconds: u64) -> Result<(), Stop> {
    let limits = Limits {
        max_content_len: 8 << 20,
        // No descriptor tells of it, only `timeout` does.
        idle_timeout: Duration::from_secs(idle_seconds),
        ..Limits::default()
    };
    let mut server = Server::builder()
        .listen(host, port)
        .limits(limits)
        .signals(&[Signal::Interrupt, Signal::Terminate])
        .answer(|message, reply| Ok(reply.echo(&message)?))?;
    println!("listening on {}", server.addresses()[0]);
    let mut counter = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    println!("counting on {}", counter.local_addr()?);

    let event_loop = server.event_loop();
    // A duplicate that we own: it stays open for as long as mio watches it.
    let watched = event_loop.descriptor()?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&watched.as_raw_fd()), SERVER, Interest::READABLE)?;
    poll.registry().register(&mut counter, COUNTER, Interest::READABLE)?;

    let mut events = Events::with_capacity(64);
    let mut may_have_more = false;
    loop {
        let patience = if may_have_more { Some(Duration::ZERO) } else { event_loop.timeout() };
        match poll.poll(&mut events, patience) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        // Without an event too: a deadline has come, or the last turn has left something.
        let turn = event_loop.run_once(Some(Duration::ZERO))?;
        if turn.finished {
            break;
        }
        // mio tells of changes only (it watches edge-triggered), and what a turn has left, such as
        // peers in the backlog, is none. So there is another turn until one finds nothing.
        may_have_more = turn.events > 0;
        if events.iter().any(|event| event.token() == COUNTER) {
            let count = event_loop.stats().messages.to_string();
            let mut datagram = [0; 16];
            // The same rule: until nothing is left.
            while let Ok((_, peer)) = counter.recv_from(&mut datagram) {
                // Nobody misses a datagram for which there is no room.
                let _ = counter.send_to(count.as_bytes(), peer);
            }
        }
    }
    println!("{} messages", server.stats().messages);
    Ok(())
}
