//! A server inside a loop that also does something else: here, a clock that strikes.
//!
//! ```text
//! $ cargo run --example embedded_loop
//! serving on 127.0.0.1:40123
//! tick 1: 0 messages so far
//! ```
//!
//! `EventLoop::run_once` does one turn and never blocks longer than it is told. Where the outer
//! loop has a poller of its own, it would watch `EventLoop::as_fd` and ask `EventLoop::timeout`
//! how long it may sleep, instead of lending the waiting to us as this one does.
//!
//! Beside it: nobody. Watch: that the loop waits only when it is told to.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use command::Stop;
use myriapod::Server;

#[macro_use]
#[path = "support/command.rs"]
mod command;

const TICK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    command::run("[TICKS]", |arguments| match arguments {
        [] => serve(20),
        [ticks] => serve(command::number(ticks, "number of ticks")?),
        _ => Err(Stop::Usage),
    })
}

fn serve(ticks: u32) -> Result<(), Stop> {
    let mut server = Server::builder().listen("127.0.0.1", 0).answer(|message, reply| {
        reply.echo(&message)?;
        Ok(())
    })?;
    println!("serving on {}", server.addresses()[0]);

    let event_loop = server.event_loop();
    let mut next_tick = Instant::now() + TICK;
    let mut tick = 0;
    while tick < ticks {
        // Wait for messages, but no longer than the other work allows.
        let patience = next_tick.saturating_duration_since(Instant::now());
        event_loop.run_once(Some(patience))?;

        if Instant::now() >= next_tick {
            tick += 1;
            next_tick += TICK;
            println!("tick {tick}: {} messages so far", event_loop.stats().messages);
        }
    }

    // Finish what is in flight, turn by turn.
    event_loop.begin_drain();
    while !event_loop.run_once(None)?.finished {}
    println!("stopped");
    Ok(())
}
