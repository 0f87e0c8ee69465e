//! What the engine tells its owner, as events of `tracing`.
//!
//! ```text
//! $ cargo run --example log_to_tracing -- 127.0.0.1 65432
//! listening on ('127.0.0.1', 65432)
//! DEBUG opened connection="connection 0.2v0" peer="127.0.0.1:40312"
//! DEBUG closed connection="connection 0.2v0" cause="peer"
//! ```
//!
//! The engine knows no logging crate: it calls a closure. [`tell`] is all that a program needs; the
//! subscriber below stands for the one that the program has already.

use std::fmt::{Debug, Write as _};
use std::process::ExitCode;

use command::Stop;
use myriapod::sys::Signal;
use myriapod::{LogEvent, Server};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, debug, info, span, warn};

#[macro_use]
#[path = "support/command.rs"]
mod command;

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| match arguments {
        [host, port] => serve(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16) -> Result<(), Stop> {
    // A second one is refused; there is none.
    let _ = tracing::subscriber::set_global_default(Lines);
    let mut server = Server::builder()
        .listen(host, port)
        .signals(&[Signal::Interrupt, Signal::Terminate])
        .log(tell)
        .answer(|message, reply| Ok(reply.echo(&message)?))?;
    let port = server.addresses().first().and_then(myriapod::SocketAddr::port).unwrap_or(port);
    println!("listening on ('{host}', {port})");
    server.run()?;
    Ok(())
}

/// One event of the engine. What is asked for often has fields; the rest is a line of text.
fn tell(event: &LogEvent<'_>) {
    match event {
        LogEvent::Opened { id, peer } => {
            debug!(connection = id.to_string(), peer = peer.to_string(), "opened");
        }
        LogEvent::Closed { id, cause } => {
            debug!(connection = id.to_string(), cause = cause.name(), "closed");
        }
        LogEvent::Draining { open } => info!(open, "stopping"),
        event if event.is_routine() => debug!("{event}"),
        event => warn!("{event}"),
    }
}

/// Prints each event as a line.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        println!("{} {}{}", event.metadata().level(), line.message, line.fields);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
