//! A gateway: what clients ask is passed on to a server behind it, over one connection for all.
//!
//! ```text
//! $ cargo run --example gateway -- 127.0.0.1 8080 127.0.0.1 65432
//! listening on 127.0.0.1:8080 for 127.0.0.1:65432
//! connected to 127.0.0.1:65432
//! ```
//!
//! Replies come back in the order of the requests, so a queue says whose each is. When the server
//! is gone or silent, those who wait get an error reply, new requests too, and it is connected to
//! again: after 100 ms, then after twice as long each time. Ctrl-C waits for what is under way.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::sys::{Errno, Signal, SystemError, resolve};
use myriapod::{
    Cause, ConnectionId, Deferred, Handle, Handler, HandlerError, HandlerResult, Message, Outgoing,
    Reply, Server, SocketAddr, View,
};

#[path = "support/command.rs"]
mod command;

/// Requests that may wait for the upstream at once.
const MAX_WAITING: usize = 1024;
/// How long the upstream may say nothing while a request waits, and how long connecting may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to connect: at first, and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

struct Gateway {
    /// Set before anything can happen.
    handle: Option<Handle>,
    address: SocketAddr,
    /// The connection to the upstream, while there is one.
    upstream: Option<ConnectionId>,
    /// Who waits for its replies, the oldest request first.
    waiting: VecDeque<Deferred>,
    /// Whether the upstream has said nothing since its timer was set.
    is_silent: bool,
    /// Before the next attempt to connect.
    back_off: Duration,
}

fn gone() -> HandlerError {
    HandlerError::new("UpstreamGone", "the server behind this one is gone; try again later")
}

impl Gateway {
    /// Connects after the back-off, which doubles.
    fn connect_later(&mut self) {
        if let Some(handle) = &self.handle {
            // An error here says that the event loop ends.
            let _ = handle.timer(self.back_off, 0);
        }
        self.back_off = (self.back_off * 2).min(BACK_OFF[1]);
    }

    fn pass_on(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        let upstream = self.upstream.ok_or_else(gone)?;
        if self.waiting.len() == MAX_WAITING {
            return Err(HandlerError::new("Busy", "too many requests wait already"));
        }
        reply.view().handle().send(upstream, Outgoing::copy_of(message)?)?;
        self.is_silent &= !self.waiting.is_empty();
        self.waiting.push_back(reply.defer()?);
        Ok(())
    }
}

impl Handler for Gateway {
    /// Nothing: a view tells which end of the gateway its connection is at.
    type State = ();

    fn on_start(&mut self, handle: &Handle) {
        self.handle = Some(handle.clone());
        self.on_timer(0);
    }

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) {}

    fn on_connect(&mut self, _tag: u64, view: &mut View<'_>, peer: &SocketAddr) {
        println!("connected to {peer}");
        self.upstream = Some(view.id());
        view.set_timer(PATIENCE);
    }

    fn on_connect_error(&mut self, _tag: u64, error: &SystemError) {
        println!("{error}");
        // That is what each connect gets while we are stopping.
        if error.errno() != Some(Errno::ECONNABORTED) {
            self.connect_later();
        }
    }

    fn on_timer(&mut self, _tag: u64) {
        if let Some(handle) = &self.handle {
            let _ = handle.connect(self.address.clone(), 0, PATIENCE);
        }
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        if !reply.view().is_outgoing() {
            return self.pass_on(&message, reply);
        }
        (self.is_silent, self.back_off) = (false, BACK_OFF[0]);
        match self.waiting.pop_front() {
            // An error here says that the event loop ends.
            Some(deferred) => drop(deferred.send(Outgoing::copy_of(&message)?)),
            // An answer that nobody waits for: whose would the next one be?
            None => reply.view().close_now(),
        }
        Ok(())
    }

    fn on_connection_timer(&mut self, (): &mut (), view: &mut View<'_>) {
        if self.is_silent && !self.waiting.is_empty() {
            return view.close_now();
        }
        self.is_silent = true;
        view.set_timer(PATIENCE);
    }

    /// A request was not sent, since the upstream does not read. Which one, nobody says: so none of
    /// the replies to come could be told whose it is.
    fn on_push_dropped(&mut self, (): &mut (), view: &mut View<'_>, _count: u64) {
        if view.is_outgoing() {
            view.close_now();
        }
    }

    fn on_close(&mut self, (): (), view: &mut View<'_>, cause: Cause) {
        if view.is_outgoing() {
            println!("disconnected: {}", cause.name());
            self.upstream = None;
            for deferred in self.waiting.drain(..) {
                let _ = deferred.error(gone());
            }
            // Not where it is we who are stopping.
            if !matches!(cause, Cause::Drained | Cause::CutOff | Cause::Dropped) {
                self.connect_later();
            }
        }
    }
}

fn main() -> ExitCode {
    command::run("<host> <port> <to_host> <to_port>", |arguments| {
        let [host, port, to_host, to_port] = arguments else { return Err(Stop::Usage) };
        // Of a name's addresses, the first.
        let address = resolve(to_host, command::port(to_port)?)?.swap_remove(0);
        let mut server = Server::builder()
            .listen(host, command::port(port)?)
            .signals(&[Signal::Interrupt, Signal::Terminate])
            .build(Gateway {
                handle: None,
                address: address.clone(),
                upstream: None,
                waiting: VecDeque::new(),
                is_silent: true,
                back_off: BACK_OFF[0],
            })?;
        println!("listening on {} for {address}", server.addresses()[0]);
        server.run()?;
        Ok(())
    })
}
