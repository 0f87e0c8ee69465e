//! The event loop inside a tokio runtime: one task drives it, others do what tokio does best.
//!
//! ```text
//! $ cargo run --example inside_tokio -- 127.0.0.1 65432 2
//! listening on 127.0.0.1:65432
//! $ echo '{"wait": 500}' | cargo run -- send 127.0.0.1 65432 --file - --content-type text/json
//! {"waited":500}
//! ```
//!
//! A request to wait is answered by a task of tokio's, when tokio's clock says so; the event loop
//! serves everybody else meanwhile. Whatever else comes is sent back. A connection that says nothing
//! for 2 seconds is closed: the event loop's own deadlines work inside of tokio too.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::sys::Signal;
use myriapod::{EventLoop, Handler, HandlerResult, Limits, Message, Reply, Server};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

#[path = "support/command.rs"]
mod command;

/// The longest wait that may be asked for, in milliseconds.
const MAX_WAIT: u64 = 60_000;

#[derive(Deserialize)]
struct Request {
    /// Milliseconds.
    wait: u64,
}

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
        .answer(answer)?;
    println!("listening on {}", server.addresses()[0]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drive(server.event_loop()))?;
    println!("{} messages", server.stats().messages);
    Ok(())
}

/// Does a turn whenever there is something to do, until the event loop is stopped.
async fn drive<H: Handler>(event_loop: &mut EventLoop<H>) -> Result<(), Stop> {
    #[allow(
        deprecated,
        reason = "what replaces it is unsafe, for types that do not own a descriptor"
    )]
    let watched = AsyncFd::with_interest(event_loop.descriptor()?, Interest::READABLE)?;
    loop {
        // Something can be received, sent or accepted, or a deadline has come.
        let ready = match event_loop.timeout() {
            Some(due) => timeout(due, watched.readable()).await.ok().transpose()?,
            None => Some(watched.readable().await?),
        };
        let turn = event_loop.run_once(Some(Duration::ZERO))?;
        if turn.finished {
            return Ok(());
        }
        // tokio is told of changes only (it watches edge-triggered), and what a turn has left,
        // such as peers in the backlog, is none. So this waits for a turn that finds nothing.
        if let (0, Some(mut ready)) = (turn.events, ready) {
            ready.clear_ready();
        }
        // However much there is to do: the other tasks have their turn too.
        tokio::task::yield_now().await;
    }
}

/// Runs on the event loop, and so on tokio's thread: it may start tasks.
fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    if !message.is_json() {
        reply.echo(&message)?;
        return Ok(());
    }
    let wait = message.json_as::<Request>()?.wait.min(MAX_WAIT);
    let deferred = reply.defer()?;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        // An error here says that the event loop is gone.
        let _ = deferred.json(&serde_json::json!({ "waited": wait }));
    });
    Ok(())
}
