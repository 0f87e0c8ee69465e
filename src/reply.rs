//! [`Reply`]: the answer to one message.

#[cfg(feature = "json")]
mod json;

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use myriapod_sys::Descriptor;

use crate::body::{Body, Place};
use crate::connection_id::ConnectionId;
use crate::context::Orders;
use crate::deferred::Deferred;
use crate::protocol::{EncodeError, Head, Message};
use crate::view::View;

/// The answer to one message, encoded straight into the loop's send buffer.
///
/// ```no_run
/// use myriapod::{HandlerResult, Message, Reply};
///
/// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
///     if let Some(number) = message.header("request-id") {
///         reply.header("request-id", &number)?;
///     }
///     reply.json(&serde_json::json!({ "result": message.content().len() }))?;
///     Ok(())
/// }
/// ```
pub struct Reply<'a> {
    view: View<'a>,
    /// Whose `id` the reply has to carry, once it is made.
    request: Option<&'a Message<'a>>,
    replied: bool,
}

impl<'a> Reply<'a> {
    #[inline]
    pub(crate) fn new(view: View<'a>) -> Self {
        view.context.extra.clear();
        view.context.start = view.context.out.len();
        Self { view, request: None, replied: false }
    }

    /// To a message that may have an `id`.
    #[inline]
    pub(crate) fn to(view: View<'a>, request: &'a Message<'a>) -> Self {
        Self { request: Some(request), ..Self::new(view) }
    }

    /// Has the reply carry the `id` of its request, unless the handler has set that key.
    #[cold]
    pub(crate) fn put_id(&mut self) {
        let context = &mut *self.view.context;
        if !context.reply_id.is_empty() && !context.extra.has_id() {
            context.id_in_extra = context.extra.put_id(&context.reply_id);
        }
    }

    /// Looks for the `id` of the request.
    #[cold]
    fn find_id(&mut self) {
        if let Some(request) = self.request.take() {
            self.view.context.note_id(self.view.framing.id_of(request));
        }
    }

    /// The connection that the message came from.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.view.id()
    }

    /// The connection that the message came from, as the handler sees it: its addresses, its
    /// timer, what can be pushed to it, how it can be closed.
    #[must_use]
    pub fn view(&mut self) -> &mut View<'a> {
        &mut self.view
    }

    /// Replies with bytes (`content-encoding` is `binary`).
    ///
    /// # Errors
    ///
    /// A second reply, or a content type that makes the header too long.
    pub fn binary(&mut self, content_type: &str, content: &[u8]) -> Result<(), ReplyError> {
        self.binary_with(content_type, |out| out.append(content))
    }

    /// Replies with bytes that `write` appends to the send buffer, without a copy in between.
    ///
    /// # Errors
    ///
    /// A second reply, or a content type that makes the header too long.
    pub fn binary_with(
        &mut self,
        content_type: &str,
        write: impl FnOnce(&mut Content<'_>),
    ) -> Result<(), ReplyError> {
        self.encode(Head::binary(content_type), |out| {
            write(&mut Content(out));
            Ok(())
        })
    }

    /// Replies with the message's own content, under its own header keys: its `byteorder` and
    /// further keys included.
    ///
    /// # Errors
    ///
    /// A second reply.
    #[inline]
    pub fn echo(&mut self, message: &Message<'_>) -> Result<(), ReplyError> {
        let taken = self.replied | self.view.context.orders.has(Orders::DEFERRED);
        if taken
            || !self.view.context.extra.is_empty()
            || !self.view.framing.is_echo_a_copy(message)
        {
            return self.echo_anew(message);
        }
        self.view.context.out.extend_from_slice(message.bytes());
        self.replied = true;
        Ok(())
    }

    /// Encodes the echo of a message that is not as we would write it.
    #[cold]
    #[inline(never)]
    fn echo_anew(&mut self, message: &Message<'_>) -> Result<(), ReplyError> {
        if self.replied {
            return Err(ReplyError::AlreadyReplied);
        }
        self.view.context.withdraw_id();
        self.view.context.extra.push_raw_from(message)?;
        let head = Head {
            byteorder: message.byteorder(),
            content_encoding: message.content_encoding(),
            ..Head::binary(message.content_type())
        };
        self.encode(head, |out| {
            out.extend_from_slice(message.content());
            Ok(())
        })
    }

    /// Leaves the reply for later, to be made on any thread. The connection's next message waits
    /// for it; other connections do not.
    ///
    /// Headers added here with [`header`](Self::header) are not part of the answer; give them to
    /// its [`Outgoing`](crate::Outgoing). After [`close`](Self::close), the connection is closed
    /// once the answer is sent. Where the handler then returns an error, that is the reply, and
    /// an answer is counted as missed. Neither the idle timeout nor the deadline of an unfinished
    /// message behind it runs while an answer is due, and a peer that leaves is not noticed
    /// before it: give what takes long an end of its own.
    ///
    /// ```
    /// use myriapod::{HandlerResult, Message, Reply};
    ///
    /// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    ///     let request = message.to_owned();
    ///     let deferred = reply.defer()?;
    ///     std::thread::spawn(move || {
    ///         // Whatever takes long.
    ///         let sum: u64 = request.as_message().content().iter().map(|byte| u64::from(*byte)).sum();
    ///         let _ = deferred.json(&serde_json::json!({ "result": sum }));
    ///     });
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A second reply.
    pub fn defer(&mut self) -> Result<Deferred, ReplyError> {
        if self.replied || self.view.context.orders.has(Orders::DEFERRED) {
            return Err(ReplyError::AlreadyReplied);
        }
        let sequence = self.view.context.next_sequence();
        self.view.context.orders.give(Orders::DEFERRED);
        self.view.context.orders.sequence = sequence;
        if self.request.is_some() {
            self.find_id();
        }
        let id = Box::from(&*self.view.context.reply_id);
        let mailbox = Arc::clone(&self.view.context.mailbox);
        Ok(Deferred::new(mailbox, self.connection(), sequence, id))
    }

    /// Replies with a piece of a file, which the system sends by itself (sendfile(2)) when the socket
    /// has room: it is never held in memory. The connection's next message waits until it is sent.
    ///
    /// Where the file is shorter than `range` says when it is sent, or cannot be read, the connection
    /// is closed ([`Cause::StreamBroken`](crate::Cause::StreamBroken)), so that a peer never takes a
    /// part for the whole. A range that ends before it begins is empty.
    ///
    /// ```
    /// use std::fs::File;
    /// use myriapod::{HandlerResult, Message, Reply};
    ///
    /// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    ///     let file = File::open("picture.png")?;
    ///     let len = file.metadata()?.len();
    ///     reply.header("id", &message.header("id"))?;
    ///     Ok(reply.file("image/png", file, 0..len)?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A second reply, a content type that makes the header too long,
    /// [`ReplyError::TooManyStreams`], and [`EncodeError::NeedsContent`] from a framing that cannot
    /// write a head alone.
    pub fn file(
        &mut self,
        content_type: &str,
        file: impl Into<Descriptor>,
        range: Range<u64>,
    ) -> Result<(), ReplyError> {
        let (file, len) = (file.into(), range.end.saturating_sub(range.start));
        self.stream_body(content_type, len, |place| Body::of_file(file, range.start, len, place))
    }

    /// Replies with `len` bytes that `source` is asked for when the socket has room, 64 KiB at once. It
    /// is asked on the loop's own thread, so it must not wait: where it has nothing for now, it says
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock), and is asked again after
    /// [`View::resume`](crate::View::resume) or [`Handle::resume`](crate::Handle::resume).
    /// Until then the deadlines of sending stand still, and a peer that leaves is not noticed: give
    /// what takes long an end of its own.
    ///
    /// Where it ends before `len` bytes, fails or panics, the connection is closed, as with
    /// [`file`](Self::file). What it would give beyond them, it is not asked for.
    ///
    /// # Errors
    ///
    /// As [`file`](Self::file).
    pub fn stream(
        &mut self,
        content_type: &str,
        len: u64,
        source: impl Read + Send + 'static,
    ) -> Result<(), ReplyError> {
        self.stream_body(content_type, len, |place| Body::of_source(Box::new(source), len, place))
    }

    fn stream_body(
        &mut self,
        content_type: &str,
        len: u64,
        body: impl FnOnce(Place) -> Body,
    ) -> Result<(), ReplyError> {
        if self.replied || self.view.context.orders.has(Orders::DEFERRED) {
            return Err(ReplyError::AlreadyReplied);
        }
        if self.request.is_some() {
            self.find_id();
            self.put_id();
        }
        let (framing, context) = (&mut self.view.framing, &mut *self.view.context);
        let place = context.places.take().ok_or(ReplyError::TooManyStreams)?;
        let head = Head { extra: &context.extra, ..Head::binary(content_type) };
        framing.write_head_of(&mut context.out, &head, len)?;
        if len > 0 {
            context.body = Some(body(place));
            context.orders.give(Orders::BODY);
        }
        self.replied = true;
        Ok(())
    }

    /// Closes the connection once this reply, and all before it, is sent.
    pub fn close(&mut self) {
        self.view.close();
    }

    /// The reply as it will be sent, prefix and header included; empty where there is none yet.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        self.view.context.out.get(self.view.context.start..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn is_replied(&self) -> bool {
        self.replied
    }

    fn encode(
        &mut self,
        head: Head<'_>,
        content: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), ReplyError> {
        if self.replied || self.view.context.orders.has(Orders::DEFERRED) {
            return Err(ReplyError::AlreadyReplied);
        }
        if self.request.is_some() {
            self.find_id();
            self.put_id();
        }
        let (framing, context) = (&mut self.view.framing, &mut *self.view.context);
        let out = &mut context.out;
        let head = Head { extra: &context.extra, ..head };
        let encoded = match framing.begin_message(out, &head) {
            Ok(mark) => content(out).and_then(|()| framing.finish_message(out, mark, &head)),
            Err(error) => Err(error),
        };
        match encoded {
            Ok(()) => {
                self.replied = true;
                Ok(())
            }
            Err(error) => {
                self.view.context.out.truncate(self.view.context.start);
                Err(error.into())
            }
        }
    }
}

/// The content of a reply, in the send buffer behind other replies: it only grows.
#[derive(Debug)]
pub struct Content<'a>(&'a mut Vec<u8>);

impl Content<'_> {
    /// Appends bytes.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Never fails.
impl std::io::Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("connection", &self.connection())
            .field("replied", &self.replied)
            .finish_non_exhaustive()
    }
}

/// Why a reply could not be made. The buffer is as it was before.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplyError {
    /// There is a reply to this message already.
    AlreadyReplied,
    /// It could not be encoded.
    Encode(EncodeError),
    /// As many contents are streamed as may be ([`Limits::max_streams`](crate::Limits::max_streams)).
    TooManyStreams,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyReplied => f.write_str("there is a reply to this message already"),
            Self::Encode(error) => error.fmt(f),
            Self::TooManyStreams => f.write_str("too many contents are streamed; try again later"),
        }
    }
}

impl std::error::Error for ReplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadyReplied | Self::TooManyStreams => None,
            Self::Encode(error) => Some(error),
        }
    }
}

impl From<EncodeError> for ReplyError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
