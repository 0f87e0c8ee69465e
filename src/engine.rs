//! [`Engine`]: decode, ask the handler, gather the replies.
//!
//! Sans-IO: received bytes go in; encoded replies, and what is to become of the rest, come out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::Config;
use crate::handler::{ConnectionId, Desk, Handler, HandlerError, HandlerResult, Reply};
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Decoded, Frame, Framing, Message, ProtocolError};
use crate::reserve::Release;
use crate::slab::Key;
use crate::stats::{Cause, Stats};

/// What became of the bytes that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many bytes at the front are done with.
    pub(crate) consumed: usize,
    pub(crate) next: Next,
}

/// What is to be done with the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is no rest.
    Nothing,
    /// It begins a message; look again when `needed` bytes are there.
    Partial { needed: usize, in_content: bool },
    /// It may hold whole messages, but it is others' turn, or enough replies wait.
    More,
    /// It waits for the reply that was deferred.
    Deferred,
    /// Close the connection once its replies are sent, and drop the rest.
    Close(Cause),
}

/// The shared send buffer gives back at once what it grew beyond this.
const OUT_CAPACITY: usize = 256 << 10;

/// What it grew beyond this, it gives back once that is not needed any more.
const OUT_KEPT: usize = 16 << 10;

/// Decodes, asks the handler, and gathers the replies. One for each event loop.
pub(crate) struct Engine<H, F> {
    pub(crate) handler: H,
    pub(crate) framing: F,
    /// Of the message that is being answered.
    pub(crate) frame: Frame,
    /// The shared send buffer: the replies of the event that is being handled.
    pub(crate) out: Vec<u8>,
    /// The most of it that was in use since the last step of giving memory back.
    pub(crate) out_used: usize,
    pub(crate) desk: Desk,
    pub(crate) config: Config,
    pub(crate) stats: Stats,
    /// Bytes of the messages that were handled, for simulations to add up.
    #[cfg(myriapod_sim)]
    pub(crate) decoded: u64,
    pub(crate) log: Option<LogHook>,
    pub(crate) log_messages: bool,
    /// Which of the server's loops this is.
    pub(crate) event_loop: u16,
}

impl<H: Handler, F: Framing> Engine<H, F> {
    #[inline]
    pub(crate) fn id(&self, key: Key) -> ConnectionId {
        ConnectionId { event_loop: self.event_loop, key }
    }

    /// Handles the whole messages at the front of `bytes`. `queued` is what the connection has
    /// yet to send already.
    pub(crate) fn process(
        &mut self,
        id: ConnectionId,
        state: &mut H::State,
        bytes: &[u8],
        queued: usize,
    ) -> Progress {
        let mut consumed = 0;
        let mut budget = self.config.limits.messages_per_event;
        loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            if rest.is_empty() {
                return Progress { consumed, next: Next::Nothing };
            }
            if budget == 0 || queued + self.out.len() >= self.config.limits.high_water {
                return Progress { consumed, next: Next::More };
            }
            if !self.framing.predict(rest, &mut self.frame) {
                match self.framing.decode(rest) {
                    Ok(Decoded::Message(frame)) => self.frame = frame,
                    Ok(Decoded::Incomplete { needed, in_content }) => {
                        return Progress { consumed, next: Next::Partial { needed, in_content } };
                    }
                    Err(error) => {
                        self.refuse(id, &error);
                        return Progress { consumed, next: Next::Close(Cause::Fault) };
                    }
                }
            }
            consumed += self.frame.len();
            budget -= 1;
            if let Some(cause) = self.answer::<false>(id, state, rest) {
                return Progress { consumed, next: Next::Close(cause) };
            }
            if self.desk.is_deferred() {
                return Progress { consumed, next: Next::Deferred };
            }
        }
    }

    /// Whether `bytes` are exactly one message, of a kind that can be told at little cost. It is then
    /// to be [answered](Self::answer).
    #[inline]
    pub(crate) fn is_predicted(&mut self, bytes: &[u8]) -> bool {
        self.framing.predict(bytes, &mut self.frame) && self.frame.len() == bytes.len()
    }

    /// Lets the handler answer the message that `bytes` start with and `frame` describes. Returns
    /// why the connection is to be closed, if it is.
    ///
    /// `ORDINARY` changes nothing but makes this two functions, each with one caller: so the handler
    /// is inlined into both, whatever its size.
    #[inline(always)]
    pub(crate) fn answer<const ORDINARY: bool>(
        &mut self,
        id: ConnectionId,
        state: &mut H::State,
        bytes: &[u8],
    ) -> Option<Cause> {
        self.stats.messages += 1;
        #[cfg(myriapod_sim)]
        {
            self.decoded += self.frame.len() as u64;
        }
        if self.log_messages {
            self.tell_of(id, bytes);
        }
        let start = self.out.len();
        // A handler that panics may leave its own state half-changed; only its connection, which
        // is closed, sees that again. The buffer is cut back below.
        let result = catch_unwind(AssertUnwindSafe(|| self.call_handler(id, state, bytes)));
        let close = match result {
            Ok((Ok(()), replied, close)) => {
                self.stats.replies += u64::from(replied);
                close
            }
            Ok((Err(error), _, close)) => {
                self.out.truncate(start);
                self.desk.take_deferred();
                self.reply_error(id, &error);
                close
            }
            Err(_panic) => {
                self.out.truncate(start);
                self.desk.take_deferred();
                self.tell(&LogEvent::HandlerPanic { id });
                return Some(Cause::Panic);
            }
        };
        if self.desk.is_deferred() {
            // Only the deferred reply is the one to close after.
            self.desk.note_close(close);
            return None;
        }
        let answered = self.out.len() > start;
        (close || (self.config.one_shot && answered)).then_some(Cause::Handler)
    }

    /// Returns the handler's result, whether it replied, and whether it wants to close.
    #[inline(always)]
    fn call_handler(
        &mut self,
        id: ConnectionId,
        state: &mut H::State,
        bytes: &[u8],
    ) -> (HandlerResult, bool, bool) {
        let message = Message::new(bytes, &self.frame);
        let mut reply = Reply::new(&mut self.framing, &mut self.out, &mut self.desk, id);
        let result = self.handler.on_message(state, message, &mut reply);
        (result, reply.is_replied(), reply.wants_close())
    }

    /// Answers with the handler's error in place of its reply.
    #[cold]
    #[inline(never)]
    fn reply_error(&mut self, id: ConnectionId, error: &HandlerError) {
        let text = error.to_string();
        match error.fault() {
            Some(fault) => {
                self.stats.count_fault(fault.kind());
                self.tell(&LogEvent::Fault { id, fault: fault.kind(), text: &text });
            }
            None => {
                self.stats.handler_errors += 1;
                self.tell(&LogEvent::HandlerError { id, text: &text });
            }
        }
        self.error_reply(error.kind(), &text);
    }

    /// Answers a fault of the framing.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, id: ConnectionId, error: &ProtocolError) {
        let text = error.to_string();
        self.stats.count_fault(error.kind());
        self.tell(&LogEvent::Fault { id, fault: error.kind(), text: &text });
        self.error_reply(error.kind().name(), &text);
    }

    pub(crate) fn error_reply(&mut self, kind: &str, text: &str) {
        let start = self.out.len();
        match self.framing.error_reply(&mut self.out, kind, text) {
            Ok(()) => self.stats.replies += 1,
            // A text that does not fit into a message: the peer learns by the close.
            Err(_) => self.out.truncate(start),
        }
    }

    /// The socket took all replies.
    #[inline]
    pub(crate) fn sent_all(&mut self) {
        self.stats.bytes_out += self.out.len() as u64;
        self.clear_out();
    }

    /// Empties the send buffer, and gives memory back where it grew large.
    #[inline]
    pub(crate) fn clear_out(&mut self) {
        if self.holds_spare_memory() {
            self.clear_large_out();
        }
        self.out.clear();
    }

    #[cold]
    #[inline(never)]
    fn clear_large_out(&mut self) {
        self.out_used = self.out_used.max(self.out.len());
        self.out.clear();
        self.out.shrink_to(OUT_CAPACITY);
    }

    /// Whether the send buffer is larger than need be kept.
    #[inline]
    pub(crate) fn holds_spare_memory(&self) -> bool {
        self.out.capacity() > OUT_KEPT
    }

    /// Gives back what the send buffer grew, where no reply since the last step has needed that.
    pub(crate) fn give_back(&mut self, release: Release) {
        if self.out_used <= OUT_KEPT {
            release(&mut self.out);
            self.out.shrink_to(OUT_KEPT);
        }
        self.out_used = 0;
    }

    /// Calls the handler; `None` where it panicked, which concerns that connection alone.
    pub(crate) fn guard<R>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut H) -> R,
    ) -> Option<R> {
        let handler = &mut self.handler;
        let result = catch_unwind(AssertUnwindSafe(|| call(handler))).ok();
        if result.is_none() {
            self.tell(&LogEvent::HandlerPanic { id });
        }
        result
    }

    /// Tells of a whole message.
    #[cold]
    #[inline(never)]
    fn tell_of(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(log) = &mut self.log else { return };
        let content_type = Message::new(bytes, &self.frame).content_type();
        log(&LogEvent::Message { id, content_type, len: self.frame.len() });
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&mut self, event: &LogEvent<'_>) {
        if let Some(log) = &mut self.log {
            log(event);
        }
    }
}
