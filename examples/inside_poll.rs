//! The event loop inside a loop over poll(2), beside the terminal.
//!
//! ```text
//! $ cargo run --example inside_poll -- 127.0.0.1 65432 2
//! listening on 127.0.0.1:65432
//! ```
//!
//! The event loop sends messages back. Enter prints how many there were, and the end of the input
//! (Ctrl-D) stops gracefully. Nothing but poll waits, so one thread does both.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::sys::poll::Poll;
use myriapod::sys::{AsFd, Events, Mode, Token};
use myriapod::{Interest, Limits, Server};

#[path = "support/command.rs"]
mod command;

const SERVER: Token = Token(0);
const TERMINAL: Token = Token(1);

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
        .answer(|message, reply| Ok(reply.echo(&message)?))?;
    println!("listening on {}", server.addresses()[0]);

    let event_loop = server.event_loop();
    let watched = event_loop.descriptor()?;
    // Without the buffer of `Stdin`, of which poll knows nothing.
    let mut terminal = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut poll = Poll::new()?;
    poll.add(watched.as_fd(), SERVER, Interest::READABLE, Mode::LEVEL)?;
    poll.add(terminal.as_fd(), TERMINAL, Interest::READABLE, Mode::LEVEL)?;

    let mut events = Events::with_capacity(2);
    loop {
        events.clear();
        poll.wait(&mut events, event_loop.timeout())?;
        // Without an event too: a deadline has come. What this turn leaves is reported again.
        if event_loop.run_once(Some(Duration::ZERO))?.finished {
            break;
        }
        if events.as_slice().iter().any(|event| event.token() == TERMINAL) {
            // One call, since only one is sure not to wait.
            match terminal.read(&mut [0; 256])? {
                0 => {
                    poll.delete(terminal.as_fd())?;
                    event_loop.begin_drain();
                }
                _ => println!("{} messages", event_loop.stats().messages),
            }
        }
    }
    println!("stopped");
    Ok(())
}
