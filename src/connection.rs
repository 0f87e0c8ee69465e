//! What is kept for one connection, and the engine that turns its bytes into replies.
//!
//! Sans-IO: received bytes go in, encoded replies and a decision come out. The event loop does the
//! receiving and sending.

use std::panic::{AssertUnwindSafe, catch_unwind};

use myriapod_sys::Interest;

use crate::buffer::Handle;
use crate::config::Config;
use crate::groups;
use crate::handler::{ConnectionId, Desk, Handler, HandlerError, HandlerResult, Reply};
use crate::log::{LogEvent, LogHook};
use crate::protocol::{Decoded, Frame, Framing, Message, ProtocolError};
use crate::reserve::Release;
use crate::slab::Key;
use crate::stats::{Cause, Stats};
use crate::timer::{Tick, TimerLinks};

/// What the engine keeps for one connection, beside its socket.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) timer: TimerLinks,
    /// The unfinished message, if there is one.
    pub(crate) recv: Handle,
    /// The unsent replies, if there are any.
    pub(crate) send: Handle,
    /// When bytes last arrived or a queued reply last went out; while lingering, when that began.
    pub(crate) last_active: Tick,
    /// The sequence number of the deferred reply that the next message waits for, 0 for none;
    /// while lingering, the bytes that may still be read and dropped.
    pub(crate) pending: u32,
    /// Which entry of the table of addresses counts this connection.
    pub(crate) address: u32,
    /// The head of the list of its groups.
    pub(crate) groups: u32,
    /// Set once the connection is to be closed as soon as its replies are sent.
    pub(crate) closing: Option<Cause>,
    pub(crate) phase: Phase,
    /// The peer has shut down its sending side.
    pub(crate) end_seen: bool,
    /// Not read from until the queue is below the low-water mark.
    pub(crate) paused: bool,
    /// On the ready list: the receive buffer may hold whole messages.
    pub(crate) ready: bool,
    /// Closed once the deferred reply is sent.
    pub(crate) last_reply: bool,
    /// The handler's own.
    pub(crate) state: S,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages and replies.
    Open,
    /// Sending failed: what has arrived is still handled, replies are dropped.
    Unsendable,
    /// Our side is shut down; what arrives is dropped.
    Lingering,
}

impl<S> Connection<S> {
    pub(crate) fn new(state: S, address: u32, now: Tick) -> Self {
        Self {
            timer: TimerLinks::UNARMED,
            recv: Handle::NONE,
            send: Handle::NONE,
            last_active: now,
            pending: 0,
            address,
            groups: groups::NONE,
            closing: None,
            phase: Phase::Open,
            end_seen: false,
            paused: false,
            ready: false,
            last_reply: false,
            state,
        }
    }

    /// What the socket should be watched for: the one place that decides it.
    #[inline]
    pub(crate) fn interest(&self) -> Interest {
        let mut interest = Interest::NONE;
        if self.wants_to_read() {
            interest = Interest::READABLE;
        }
        if !self.send.is_none() {
            interest |= Interest::WRITABLE;
        }
        interest
    }

    /// Whether receiving makes sense. A connection on the ready list stays watched, since it will
    /// be read from again within a turn or two, but is not read from meanwhile.
    #[inline]
    pub(crate) fn wants_to_read(&self) -> bool {
        match self.phase {
            Phase::Lingering => true,
            Phase::Open | Phase::Unsendable => {
                !self.end_seen && !self.paused && self.closing.is_none() && self.pending == 0
            }
        }
    }

    /// Whether it is we who do not read on, so that the peer is not late.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.paused || self.is_deferred()
    }

    /// Whether its next message waits for a deferred reply.
    #[inline]
    pub(crate) fn is_deferred(&self) -> bool {
        self.phase != Phase::Lingering && self.pending != 0
    }

    /// Whether it is open, with nothing unfinished in either direction and nothing in the way.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        // One branch for all the flags.
        let open = self.phase == Phase::Open;
        self.closing.is_none()
            && self.recv.is_none()
            && self.send.is_none()
            && self.pending == 0
            && !(!open | self.end_seen | self.paused | self.ready)
    }

    /// Whether nothing of a message or reply is in flight, as far as we know.
    pub(crate) fn is_quiet(&self) -> bool {
        self.phase != Phase::Lingering
            && self.recv.is_none()
            && self.send.is_none()
            && !self.ready
            && self.pending == 0
            && self.closing.is_none()
    }
}

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
