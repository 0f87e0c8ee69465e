//! [`Engine`]: decode, ask the handler, gather the replies.
//!
//! Sans-IO: received bytes go in; encoded replies, and what is to become of the rest, come out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::{Config, Limits};
use crate::connection::Origin;
use crate::connection_id::ConnectionId;
use crate::context::{Context, Orders};
use crate::handler::Handler;
use crate::handler_error::HandlerError;
use crate::log::{LogEvent, LogHook};
use crate::outgoing::Outgoing;
use crate::protocol::{
    Decoded, EncodeError, Fault, Frame, Framing, Input, Message, Missing, ProtocolError,
};
use crate::reply::Reply;
use crate::reserve::Release;
use crate::slab::Key;
use crate::stats::{Cause, Stats};
use crate::view::{About, View};

mod streams;

use self::streams::Asked;
pub(crate) use self::streams::Taken;

/// What those who work on a connection's messages keep beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own<S, T> {
    /// The handler's.
    pub(crate) state: S,
    /// The framing's.
    pub(crate) stream: T,
}

/// The same, for a handler and a framing.
pub(crate) type OwnOf<H, F> = Own<<H as Handler>::State, <F as Framing>::Stream>;

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
    /// It begins a message; look again when what is missing is there.
    Partial(Missing),
    /// It may hold whole messages, but it is others' turn, or enough replies wait.
    More,
    /// It waits for the reply that was deferred.
    Deferred,
    /// It begins with a content that comes in pieces, which is in the context.
    Stream,
    /// It belongs to such a content, and the handler does not take it yet. Mostly there is none.
    Streaming,
    /// Close the connection once its replies are sent, and drop the rest.
    Close(Cause),
}

/// What became of the message that some bytes start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// The handler has had it.
    Answered,
    /// These many bytes were for the framing alone.
    Skipped(usize),
    /// So were these, and the conversation is over.
    Ended(usize),
    /// It is not whole.
    Incomplete(Missing),
    /// It is malformed, and an error reply says so.
    Refused,
    /// The handler panicked, or the framing before it.
    Panicked { is_handled: bool },
}

/// Why a message was not answered.
enum Refusal {
    Framing(ProtocolError),
    Handler(HandlerError),
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
    /// The most of it that was in use since the last step of giving memory back.
    pub(crate) out_used: usize,
    pub(crate) context: Context,
    pub(crate) config: Config,
    pub(crate) stats: Stats,
    pub(crate) log: Option<LogHook>,
    pub(crate) log_messages: bool,
}

impl<H: Handler, F: Framing> Engine<H, F> {
    #[inline]
    pub(crate) fn id(&self, key: Key) -> ConnectionId {
        ConnectionId { event_loop: self.context.event_loop, key }
    }

    /// Handles the whole messages at the front of `bytes`, of which the first had this missing before.
    /// `is_last`: nothing will come behind them.
    pub(crate) fn process(
        &mut self,
        about: &About<'_>,
        own: &mut OwnOf<H, F>,
        bytes: &mut [u8],
        before: Missing,
        is_last: bool,
    ) -> Progress {
        let mut consumed = 0;
        let mut budget = self.config.limits.messages_per_event;
        loop {
            let rest = bytes.get_mut(consumed..).unwrap_or_default();
            if rest.is_empty() {
                return Progress { consumed, next: Next::Nothing };
            }
            if budget == 0 || about.queued + self.context.out.len() >= self.config.limits.high_water
            {
                return Progress { consumed, next: Next::More };
            }
            let mut is_held = false;
            if H::STREAMS && !(consumed == 0 && before.in_content) {
                match self.ask(about, own, rest) {
                    Asked::Nothing => {}
                    Asked::Hold => is_held = true,
                    Asked::Stream(head) => {
                        return Progress { consumed: consumed + head, next: Next::Stream };
                    }
                    Asked::Close(cause) => {
                        return Progress { consumed, next: Next::Close(cause) };
                    }
                }
            }
            let scanned = if consumed == 0 { before.scanned } else { 0 };
            let before =
                self.context.orders.has(Orders::TIMER).then_some(self.context.orders.timer);
            let looked = self.answer(about, own, rest, scanned, is_last);
            if let Some(timer) = before
                && !self.context.orders.has(Orders::TIMER)
            {
                // What an earlier message asked for holds, whatever became of this one.
                self.context.orders.give(Orders::TIMER);
                self.context.orders.timer = timer;
            }
            match looked {
                Looked::Answered => {}
                Looked::Skipped(len) => {
                    consumed += len;
                    budget -= 1;
                    continue;
                }
                Looked::Ended(len) => {
                    return Progress { consumed: consumed + len, next: Next::Close(Cause::Peer) };
                }
                Looked::Incomplete(mut missing) => {
                    // Nobody is asked about it twice.
                    missing.in_content |= is_held;
                    return Progress { consumed, next: Next::Partial(missing) };
                }
                Looked::Refused => {
                    return Progress { consumed, next: Next::Close(Cause::Fault) };
                }
                Looked::Panicked { is_handled } => {
                    consumed += if is_handled { self.frame.len() } else { 0 };
                    return Progress { consumed, next: Next::Close(Cause::Panic) };
                }
            }
            consumed += self.frame.len();
            budget -= 1;
            if self.context.orders.is_empty() {
                continue;
            }
            if let Some(next) = self.next_by_orders() {
                return Progress { consumed, next };
            }
        }
    }

    /// What becomes of the rest after a message for which the handler asked for something.
    #[cold]
    #[inline(never)]
    fn next_by_orders(&self) -> Option<Next> {
        let orders = &self.context.orders;
        if orders.has(Orders::CLOSE_NOW | Orders::RESET) {
            Some(Next::Close(Cause::Handler))
        } else if orders.has(Orders::DEFERRED) {
            Some(Next::Deferred)
        } else if orders.has(Orders::CLOSE) {
            Some(Next::Close(orders.cause))
        } else {
            // Nothing goes out before that content has.
            orders.has(Orders::BODY).then_some(Next::More)
        }
    }

    /// Finds the message that `bytes` start with, and lets the handler answer it. Afterwards `frame`
    /// describes it, and `context` has what the handler asked for besides.
    #[inline(always)]
    fn answer(
        &mut self,
        about: &About<'_>,
        own: &mut OwnOf<H, F>,
        bytes: &mut [u8],
        scanned: usize,
        is_last: bool,
    ) -> Looked {
        let (start, handled) = (self.context.out.len(), self.stats.messages);
        // A handler that panics may leave its own state half-changed; only its connection, which
        // is closed, sees that again. The buffer is cut back below.
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.look::<false>(about, own, bytes, scanned, is_last)
        }));
        let looked = match result {
            Ok(Ok(looked)) => looked,
            Ok(Err(Refusal::Handler(error))) => {
                self.reply_error(about, &error);
                self.context.forget_id();
                Looked::Answered
            }
            Ok(Err(Refusal::Framing(error))) => {
                self.refuse(about, &error);
                Looked::Refused
            }
            Err(_panic) => {
                let is_handled = self.stats.messages > handled;
                self.panicked(
                    self.id(about.key),
                    start,
                    if is_handled { "on_message" } else { "decode" },
                );
                Looked::Panicked { is_handled }
            }
        };
        self.context.forget_id();
        looked
    }

    /// Lets the handler answer `bytes` if they are exactly one message, of a kind that can be told at
    /// little cost. Returns whether they are.
    ///
    /// A panic goes on to the caller, who calls [`recover`](Self::recover): so the ordinary message
    /// pays nothing for that.
    #[inline(always)]
    pub(crate) fn answer_ordinary(
        &mut self,
        about: &About<'_>,
        own: &mut OwnOf<H, F>,
        bytes: &mut [u8],
    ) -> bool {
        match self.look::<true>(about, own, bytes, 0, false) {
            Ok(looked) => looked == Looked::Answered,
            Err(Refusal::Handler(error)) => {
                self.reply_error(about, &error);
                self.context.forget_id();
                true
            }
            // It is not asked to decode.
            Err(Refusal::Framing(_)) => false,
        }
    }

    /// [`answer_ordinary`](Self::answer_ordinary) has panicked for `bytes`.
    #[cold]
    pub(crate) fn recover(&mut self, id: ConnectionId, stream: &F::Stream, bytes: &[u8]) {
        let (framing, frame) = (&mut self.framing, &mut self.frame);
        let told = catch_unwind(AssertUnwindSafe(|| {
            framing.predict(stream, bytes, frame) && frame.len() == bytes.len()
        }));
        let is_handled = matches!(told, Ok(true));
        if !is_handled {
            self.stats.discarded_in += bytes.len() as u64;
        }
        self.panicked(id, 0, if is_handled { "on_message" } else { "predict" });
    }

    /// A call about a connection panicked: what it pushed is sent, and the connection is closed.
    #[cold]
    #[inline(never)]
    fn panicked(&mut self, id: ConnectionId, start: usize, callback: &'static str) {
        let kept = if callback == "decode" || callback == "predict" {
            start
        } else {
            self.context.start.max(start)
        };
        self.context.out.truncate(kept);
        self.context.drop_body();
        self.context.forget_id();
        self.context.orders.only_close(Cause::Panic);
        self.note_panic(Some(id), callback);
    }

    #[inline(always)]
    fn look<const ORDINARY: bool>(
        &mut self,
        about: &About<'_>,
        own: &mut OwnOf<H, F>,
        bytes: &mut [u8],
        scanned: usize,
        is_last: bool,
    ) -> Result<Looked, Refusal> {
        let is_told = self.framing.predict(&own.stream, bytes, &mut self.frame);
        if ORDINARY && (H::STREAMS || !(is_told && self.frame.len() == bytes.len())) {
            return Ok(Looked::Incomplete(Missing::default()));
        }
        if !ORDINARY && (!is_told || self.is_too_long() || self.frame.len() > bytes.len()) {
            let decoded = self.decode(&mut own.stream, bytes, scanned, is_last);
            match decoded.map_err(Refusal::Framing)? {
                Decoded::Message => {}
                Decoded::Skip(len) => return Ok(Looked::Skipped(len)),
                Decoded::End(len) => return Ok(Looked::Ended(len)),
                unfinished => {
                    let missing = Missing::of(unfinished, bytes.len());
                    return Ok(Looked::Incomplete(missing.unwrap_or_default()));
                }
            }
        }
        self.stats.messages += 1;
        if self.log_messages {
            self.tell_of(self.id(about.key), bytes);
        }
        // What was told by its first bytes has an `id` only where the frame says so.
        if !ORDINARY && !is_told || self.frame.may_have_id() {
            return self.answer_with_id(about, own, bytes);
        }
        let message = Message::new(bytes, &self.frame);
        let (framing, context) = (&mut self.framing, &mut self.context);
        let mut reply = Reply::new(View { framing, context, about });
        self.handler.on_message(&mut own.state, message, &mut reply).map_err(Refusal::Handler)?;
        let replied = reply.is_replied();
        self.stats.replies += u64::from(replied);
        if self.config.one_shot && replied {
            self.context.orders.give(Orders::CLOSE);
        }
        Ok(Looked::Answered)
    }

    /// Lets the handler answer the message at the front of `bytes`, whose reply may have to carry its
    /// `id`.
    #[inline(never)]
    fn answer_with_id(
        &mut self,
        about: &About<'_>,
        own: &mut OwnOf<H, F>,
        bytes: &[u8],
    ) -> Result<Looked, Refusal> {
        let message = Message::new(bytes, &self.frame);
        let (framing, context) = (&mut self.framing, &mut self.context);
        let mut reply = Reply::to(View { framing, context, about }, &message);
        if let Err(error) = self.handler.on_message(&mut own.state, message, &mut reply) {
            self.context.note_id(self.framing.id(&message));
            return Err(Refusal::Handler(error));
        }
        let replied = reply.is_replied();
        self.context.forget_id();
        self.stats.replies += u64::from(replied);
        if self.config.one_shot && replied {
            self.context.orders.give(Orders::CLOSE);
        }
        Ok(Looked::Answered)
    }

    /// As the framing says, within the limits also where the framing forgets them.
    #[inline(never)]
    fn decode(
        &mut self,
        stream: &mut F::Stream,
        bytes: &mut [u8],
        scanned: usize,
        is_last: bool,
    ) -> Result<Decoded, ProtocolError> {
        let len = bytes.len();
        let input = Input { scanned, is_last, ..Input::new(bytes, &mut self.context.out) };
        let decoded = self.framing.decode(stream, input, &mut self.frame)?;
        let decoded = decoded.checked(&self.frame, len)?;
        let is_too_long = match Missing::of(decoded, len) {
            None => decoded == Decoded::Message && self.is_too_long(),
            Some(missing) => missing.needed > self.config.limits.longest_message(),
        };
        if is_too_long { Err(ProtocolError::new(Fault::ContentTooLong)) } else { Ok(decoded) }
    }

    /// Without any framing, a message is whatever was received.
    fn is_too_long(&self) -> bool {
        self.frame.content_len() > self.config.limits.max_content_len && !self.frame.is_raw()
    }

    /// Answers with the handler's error in place of its reply.
    #[cold]
    #[inline(never)]
    pub(crate) fn reply_error(&mut self, about: &About<'_>, error: &HandlerError) {
        self.context.out.truncate(self.context.start);
        self.context.orders.withdraw(Orders::DEFERRED);
        self.context.drop_body();
        let (id, text) = (self.id(about.key), error.to_string());
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
        if about.origin == Origin::CONNECTED {
            // It is no message for a server that we connected to.
            return self.context.orders.only_close(Cause::Handler);
        }
        self.error_reply(error.kind(), &text);
    }

    /// Answers a fault of the framing.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, about: &About<'_>, error: &ProtocolError) {
        let (id, text) = (self.id(about.key), error.to_string());
        self.stats.count_fault(error.kind());
        self.tell(&LogEvent::Fault { id, fault: error.kind(), text: &text });
        if about.origin != Origin::CONNECTED {
            self.error_reply(error.name(), &text);
        }
    }

    /// Appends the error reply.
    pub(crate) fn error_reply(&mut self, kind: &str, text: &str) {
        let start = self.context.out.len();
        let (framing, out, id) = (&mut self.framing, &mut self.context.out, &self.context.reply_id);
        let appended = catch_unwind(AssertUnwindSafe(|| {
            let appended = if id.is_empty() {
                framing.error_reply(out, kind, text)
            } else {
                framing.error_reply_to(out, kind, text, id)
            };
            appended.is_ok()
        }));
        match appended {
            Ok(true) => self.stats.replies += 1,
            // A text that does not fit into a message: the peer learns by the close.
            Ok(false) => self.context.out.truncate(start),
            Err(_panic) => {
                self.context.out.truncate(start);
                self.context.orders.only_close(Cause::Panic);
                self.note_panic(None, "Framing::error_reply");
            }
        }
    }

    /// Appends a whole message to the send buffer.
    pub(crate) fn encode(&mut self, outgoing: &Outgoing) -> Result<(), EncodeError> {
        outgoing.encode(&mut self.framing, &mut self.context.out)
    }

    /// The socket took all replies.
    #[inline]
    pub(crate) fn sent_all(&mut self) {
        self.stats.bytes_out += self.context.out.len() as u64;
        self.clear_out();
    }

    /// Empties the send buffer, and gives memory back where it grew large.
    #[inline]
    pub(crate) fn clear_out(&mut self) {
        if self.holds_spare_memory() {
            self.clear_large_out();
        }
        self.context.out.clear();
    }

    #[cold]
    #[inline(never)]
    fn clear_large_out(&mut self) {
        self.out_used = self.out_used.max(self.context.out.len());
        self.context.out.clear();
        self.context.out.shrink_to(OUT_CAPACITY);
    }

    /// Whether the send buffer is larger than need be kept.
    #[inline]
    pub(crate) fn holds_spare_memory(&self) -> bool {
        self.context.out.capacity() > OUT_KEPT
    }

    /// Gives back what the send buffer grew, where no reply since the last step has needed that.
    pub(crate) fn give_back(&mut self, release: Release) {
        if self.out_used <= OUT_KEPT {
            release(&mut self.context.out);
            self.context.out.shrink_to(OUT_KEPT);
        }
        self.out_used = 0;
    }

    /// What the handler asked for in its last call; nothing is from now on.
    pub(crate) fn take_orders(&mut self) -> Orders {
        let orders = self.context.take_orders();
        if orders.has(Orders::COUNTED) {
            self.stats.pushes += u64::from(orders.pushed);
            self.stats.dropped_pushes += u64::from(orders.dropped);
        }
        orders
    }

    /// Works within other limits from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        let decode = limits.decode();
        self.context.set_limits(&limits);
        self.config.limits = limits;
        self.guard("set_limits", |engine| engine.framing.set_limits(decode));
    }

    /// Calls the handler about a connection; `None` where that panicked. What it asked for stands in
    /// `context`, what it pushed in `out`.
    pub(crate) fn call<R>(
        &mut self,
        about: &About<'_>,
        callback: &'static str,
        call: impl FnOnce(&mut H, &mut View<'_>) -> R,
    ) -> Option<R> {
        let start = self.context.out.len();
        self.context.start = start;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let (framing, context) = (&mut self.framing, &mut self.context);
            call(&mut self.handler, &mut View { framing, context, about })
        }));
        if result.is_err() {
            self.panicked(self.id(about.key), start, callback);
        }
        result.ok()
    }

    /// Calls the handler, or the framing, about nothing in particular; `None` where that panicked.
    pub(crate) fn guard<R>(
        &mut self,
        callback: &'static str,
        call: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(|| call(self))).ok();
        if result.is_none() {
            self.note_panic(None, callback);
        }
        result
    }

    #[cold]
    pub(crate) fn note_panic(&mut self, id: Option<ConnectionId>, callback: &'static str) {
        self.stats.panics += 1;
        self.tell(&LogEvent::HandlerPanic { id, callback });
    }

    /// Tells of a whole message.
    #[cold]
    #[inline(never)]
    fn tell_of(&mut self, id: ConnectionId, bytes: &[u8]) {
        let frame = std::mem::take(&mut self.frame);
        let content_type = Message::new(bytes, &frame).content_type();
        self.tell(&LogEvent::Message { id, content_type, len: frame.len() });
        self.frame = frame;
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&mut self, event: &LogEvent<'_>) {
        if let Some(log) = &mut self.log
            && catch_unwind(AssertUnwindSafe(|| log(event))).is_err()
        {
            // There is nobody to tell.
            self.stats.panics += 1;
        }
    }
}
