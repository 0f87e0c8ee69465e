//! [`Client`]: the conversation on our own event loop.

use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use myriapod::link::LinkFault;
use myriapod::sys::SystemError;
use myriapod::{
    Cause, ConnectionId, Error, Handle, Handler, HandlerResult, Message, Outgoing, Reply,
    SocketAddr, View,
};
use myriapod_tls::ToServer;
use serde_json::Value;

use super::backoff::Backoff;
use super::screen::{Heard, Screen};
use super::talk::{Step, Talk};
use super::{Ending, Lines};
use myriapod_command::failure::Failure;
use myriapod_command::terminal::tell;
use myriapod_command::tls;

/// Timers of the loop: a line of input is there; connect; send again; ask whether it is alive; end.
pub(super) const LINE: u64 = 0;
const CONNECT: u64 = 1;
const AGAIN: u64 = 2;
const ALIVE: u64 = 3;
const END: u64 = 4;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server closes who asks nothing for five minutes.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

/// A server takes 20 requests a second.
const AGAIN_AFTER: Duration = Duration::from_millis(60);

/// For our own messages to come back, once the input has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where the server is, and how it is reached.
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<SocketAddr>,
    /// What makes secure connections to it, where it is to be secure.
    pub(super) tunnel: Option<ToServer>,
}

pub(super) struct Client {
    place: Place,
    /// The address that is tried, or worked last.
    at: usize,
    talk: Talk,
    screen: Screen,
    lines: Lines,
    /// Lines that could not be said yet; one at the most, and the end.
    waiting: VecDeque<Option<String>>,
    backoff: Backoff,
    handle: Option<Handle>,
    connection: Option<ConnectionId>,
    last_request: Option<Value>,
    ending: Ending,
    is_ended: bool,
}

impl Client {
    pub(super) fn new(
        place: Place,
        talk: Talk,
        screen: Screen,
        lines: Lines,
        ending: Ending,
    ) -> Self {
        Self {
            place,
            at: 0,
            talk,
            screen,
            lines,
            waiting: VecDeque::new(),
            backoff: Backoff::new(),
            handle: None,
            connection: None,
            last_request: None,
            ending,
            is_ended: false,
        }
    }

    fn end(&mut self, ending: Result<(), Failure>) {
        if !std::mem::replace(&mut self.is_ended, true) {
            *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
            if let Some(handle) = &self.handle {
                // A loop that is gone has ended.
                let _ = handle.shutdown();
            }
        }
    }

    fn timer(&self, after: Duration, tag: u64) {
        if let Some(handle) = &self.handle {
            // The one reason not to take it is the end.
            let _ = handle.timer(after, tag);
        }
    }

    fn connect(&mut self) {
        let Place { addresses, tunnel, .. } = &self.place;
        let address = addresses.get(self.at % addresses.len().max(1)).cloned();
        if let (Some(handle), Some(address)) = (&self.handle, address) {
            // A loop that is gone has ended.
            let _ = match tunnel.clone() {
                Some(to) => handle.connect_secure(address, 0, CONNECT_TIMEOUT, to),
                None => handle.connect(address, 0, CONNECT_TIMEOUT),
            };
        }
    }

    fn send(&mut self, request: Value) {
        if let (Some(handle), Some(id)) = (&self.handle, self.connection)
            && let Ok(outgoing) = Outgoing::json(&request)
        {
            // Where the connection is gone, `on_close` says so.
            let _ = handle.send(id, outgoing);
        }
        self.last_request = Some(request);
    }

    /// Does what the conversation asks for; `heard` is the message that it is about.
    fn take(&mut self, steps: Vec<Step>, heard: &Heard) {
        for step in steps {
            let shown = match step {
                Step::Send(request) => {
                    self.send(request);
                    Ok(())
                }
                Step::Show => self.screen.show(heard),
                Step::Greet => self.screen.greet(self.talk.room(), self.talk.name()),
                Step::ShowMembers => {
                    self.backoff.reset();
                    self.screen.show_members(heard)
                }
                Step::ShowHistory { after } => {
                    let is_new = |message: &&Heard| message.n.is_none_or(|n| n > after);
                    let mut new = heard.messages.iter().filter(is_new);
                    new.try_for_each(|message| self.screen.show(message))
                }
                Step::Tell(text) => {
                    tell(text);
                    Ok(())
                }
                Step::Again => {
                    self.timer(AGAIN_AFTER, AGAIN);
                    Ok(())
                }
                Step::Reconnect => {
                    self.reconnect();
                    Ok(())
                }
                Step::EndSoon => {
                    self.timer(LAST_WORDS, END);
                    Ok(())
                }
                Step::End(ending) => {
                    self.end(ending);
                    Ok(())
                }
            };
            self.check(shown);
        }
        self.say_next();
    }

    fn reconnect(&mut self) {
        if self.is_ended {
            return;
        }
        match (self.connection, &self.handle) {
            // It is closed first; `on_close` comes here again.
            (Some(id), Some(handle)) => {
                let _ = handle.close_now(id);
            }
            _ => {
                let wait = self.backoff.wait();
                self.timer(wait, CONNECT);
            }
        }
    }

    /// Takes lines of input, as far as one can be said.
    fn say_next(&mut self) {
        while self.talk.is_free() && !self.is_ended {
            let next = self.waiting.pop_front().or_else(|| self.lines.try_recv().ok());
            let steps = match next {
                Some(Some(line)) => self.talk.line(&line),
                Some(None) => self.talk.end_of_input(),
                None => return,
            };
            for step in steps {
                match step {
                    Step::Send(request) => self.send(request),
                    Step::Tell(text) => tell(text),
                    Step::EndSoon => self.timer(LAST_WORDS, END),
                    Step::End(ending) => self.end(ending),
                    _ => {}
                }
            }
        }
    }

    fn check(&mut self, printed: io::Result<()>) {
        if let Err(error) = printed {
            self.end(Err(Failure::output(&error)));
        }
    }
}

impl Handler for Client {
    type State = ();

    fn on_start(&mut self, handle: &Handle) {
        self.handle = Some(handle.clone());
        self.connect();
        self.timer(ALIVE_EVERY, ALIVE);
    }

    fn on_open(&mut self, view: &mut View<'_>, _peer: &SocketAddr) {
        self.connection = Some(view.id());
        let steps = self.talk.opened();
        self.take(steps, &Heard::default());
    }

    fn on_connect_error(&mut self, _tag: u64, error: &SystemError) {
        let is_last = (self.at + 1).is_multiple_of(self.place.addresses.len().max(1));
        self.at += 1;
        if self.is_ended {
        } else if !is_last {
            self.connect();
        } else if self.talk.was_in() {
            self.reconnect();
        } else {
            self.end(Err(error.clone().into()));
        }
    }

    fn on_handshake_error(&mut self, _tag: u64, fault: &LinkFault) {
        if self.talk.was_in() {
            self.reconnect();
        } else {
            let error = Error::Link(fault.clone());
            self.end(Err(tls::explain(error, &self.place.host, self.place.port)));
        }
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        _reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let text = message.text()?;
        let heard: Heard = message.json_as()?;
        if heard.event.is_some() {
            let printed = self.screen.raw(&text);
            self.check(printed);
        }
        let steps = self.talk.heard(&heard, message.error_kind().as_deref());
        self.take(steps, &heard);
        Ok(())
    }

    fn on_timer(&mut self, tag: u64) {
        let steps = match tag {
            CONNECT => {
                self.connect();
                Vec::new()
            }
            AGAIN => {
                if let Some(request) = self.last_request.take() {
                    self.send(request);
                }
                Vec::new()
            }
            ALIVE => {
                self.timer(ALIVE_EVERY, ALIVE);
                self.talk.stay_alive()
            }
            END => {
                self.end(Ok(()));
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.take(steps, &Heard::default());
    }

    fn on_close(&mut self, (): (), _view: &mut View<'_>, cause: Cause) {
        self.connection = None;
        if self.is_ended || matches!(cause, Cause::Drained | Cause::CutOff | Cause::Dropped) {
            self.is_ended = true;
            return;
        }
        if !self.talk.was_in() {
            let text = "the server closed the connection before it let us join";
            self.end(Err(Failure::new(text).with_next_step("does it serve --service rooms?")));
            return;
        }
        let steps = self.talk.closed();
        self.take(steps, &Heard::default());
    }
}
