//! [`Handler`]: what is done with a message; [`Reply`]: what is sent back.

use std::fmt;
use std::sync::Arc;

use myriapod_sys::SocketAddr;
use serde::Serialize;

use crate::handle::{Deferred, Mailbox};
use crate::protocol::{EncodeError, ExtraHeaders, Framing, Head, Message, write_json};
use crate::slab::Key;
use crate::stats::Cause;

pub use crate::handler_error::{HandlerError, HandlerResult};

/// Names one connection for as long as it is open, and no other afterwards.
///
/// Opaque: which event loop, which place, which generation. The order is that of these, which is
/// none of time: it serves sorted lists and maps.
///
/// ```
/// use std::collections::BTreeMap;
/// use myriapod::ConnectionId;
///
/// /// Who is in the room, and under which name.
/// type Room = BTreeMap<ConnectionId, String>;
/// # let _ = Room::new();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) event_loop: u16,
    pub(crate) key: Key,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}.{:?}", self.event_loop, self.key)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is done with connections and messages. One handler serves all connections of one loop.
///
/// A closure `FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult` is a handler without state.
///
/// ```
/// use myriapod::{Cause, ConnectionId, Handler, HandlerResult, Message, Reply, SocketAddr};
///
/// /// Numbers the messages of each connection.
/// struct Counting;
///
/// impl Handler for Counting {
///     type State = u64;
///
///     fn on_open(&mut self, _id: ConnectionId, _peer: &SocketAddr) -> u64 {
///         0
///     }
///
///     fn on_message(
///         &mut self,
///         count: &mut u64,
///         _message: Message<'_>,
///         reply: &mut Reply<'_>,
///     ) -> HandlerResult {
///         *count += 1;
///         reply.json(&serde_json::json!({ "result": *count }))?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler {
    /// What is kept beside each connection. Its size is paid once for each.
    type State;

    /// A connection was accepted from `peer`; returns what to keep beside it.
    fn on_open(&mut self, id: ConnectionId, peer: &SocketAddr) -> Self::State;

    /// A whole message arrived. At most one reply may be made of it; making none is fine.
    ///
    /// # Errors
    ///
    /// What is returned becomes an error reply, in place of whatever was encoded, and the
    /// connection goes on.
    fn on_message(
        &mut self,
        state: &mut Self::State,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult;

    /// A [`connect`](crate::Handle::connect) has succeeded; returns what to keep beside the
    /// connection. As [`on_open`](Self::on_open), unless something else is said here.
    fn on_connect(&mut self, _tag: u64, id: ConnectionId, peer: &SocketAddr) -> Self::State {
        self.on_open(id, peer)
    }

    /// A [`connect`](crate::Handle::connect) has failed.
    fn on_connect_error(&mut self, _tag: u64, _error: &myriapod_sys::Error) {}

    /// A [`timer`](crate::Handle::timer) has fired.
    fn on_timer(&mut self, _tag: u64) {}

    /// Replies had to be queued, and now all of them are sent.
    fn on_drained(&mut self, _state: &mut Self::State) {}

    /// A connection is closed.
    fn on_close(&mut self, _state: Self::State, _cause: Cause) {}
}

impl<C> Handler for C
where
    C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
{
    type State = ();

    fn on_open(&mut self, _id: ConnectionId, _peer: &SocketAddr) {}

    #[inline]
    fn on_message(
        &mut self,
        _state: &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        self(message, reply)
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
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyReplied => f.write_str("there is a reply to this message already"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadyReplied => None,
            Self::Encode(error) => Some(error),
        }
    }
}

impl From<EncodeError> for ReplyError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// What all replies of one loop are made with.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The further header keys of the reply that is being made.
    extra: ExtraHeaders,
    mailbox: Arc<Mailbox>,
    /// The sequence number of the reply that was just deferred; 0 for none.
    deferred: u32,
    /// Whether the connection is to be closed once that reply is sent.
    close: bool,
    last_sequence: u32,
}

impl Desk {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { extra: ExtraHeaders::new(), mailbox, deferred: 0, close: false, last_sequence: 0 }
    }

    /// Whether the last message's reply was deferred.
    #[inline]
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred != 0
    }

    /// Notes whether the connection is to be closed once the deferred reply is sent.
    pub(crate) fn note_close(&mut self, close: bool) {
        self.close = close;
    }

    /// Whether it is.
    pub(crate) fn closes(&self) -> bool {
        self.close
    }

    /// The sequence number of the reply that was deferred; none is from now on.
    pub(crate) fn take_deferred(&mut self) -> u32 {
        std::mem::take(&mut self.deferred)
    }

    fn next_sequence(&mut self) -> u32 {
        self.last_sequence = self.last_sequence.wrapping_add(1).max(1);
        self.last_sequence
    }
}

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
    framing: &'a mut dyn Framing,
    out: &'a mut Vec<u8>,
    desk: &'a mut Desk,
    start: usize,
    id: ConnectionId,
    replied: bool,
    close: bool,
}

impl<'a> Reply<'a> {
    #[inline]
    pub(crate) fn new(
        framing: &'a mut dyn Framing,
        out: &'a mut Vec<u8>,
        desk: &'a mut Desk,
        id: ConnectionId,
    ) -> Self {
        desk.extra.clear();
        let start = out.len();
        Self { framing, out, desk, start, id, replied: false, close: false }
    }

    /// The connection that the message came from.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.id
    }

    /// Adds a header of one's own to the reply that will be made, behind the four that every
    /// message has.
    ///
    /// # Errors
    ///
    /// A key that is one of the four or was added before, or a value that is no JSON.
    pub fn header<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<(), ReplyError> {
        Ok(self.desk.extra.push(key, value)?)
    }

    /// Replies with JSON content (`text/json`, `utf-8`).
    ///
    /// # Errors
    ///
    /// A second reply, a NaN or infinity, a value that refuses to be serialized.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ReplyError> {
        let head = Head::json();
        self.encode(head, |out| write_json(out, value))
    }

    /// Replies with JSON text in UTF-8 that `write` appends to the send buffer. It is sent as it
    /// is, unchecked: for answers that are known beforehand.
    ///
    /// # Errors
    ///
    /// A second reply.
    pub fn json_with(&mut self, write: impl FnOnce(&mut Content<'_>)) -> Result<(), ReplyError> {
        self.encode(Head::json(), |out| {
            write(&mut Content(out));
            Ok(())
        })
    }

    /// Replies with JSON text in UTF-8 that is there already: what another server sent, say. It is
    /// sent as it is, unchecked, as [`Outgoing::json_bytes`](crate::Outgoing::json_bytes) says.
    ///
    /// # Errors
    ///
    /// A second reply.
    pub fn json_bytes(&mut self, json: &[u8]) -> Result<(), ReplyError> {
        self.json_with(|out| out.append(json))
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
        let taken = self.replied | (self.desk.deferred != 0);
        if taken || !self.desk.extra.is_empty() || !self.framing.would_write(message) {
            return self.echo_anew(message);
        }
        self.out.extend_from_slice(message.bytes());
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
        self.desk.extra.push_raw_from(message)?;
        let head = Head {
            byteorder: message.byteorder(),
            content_type: message.content_type(),
            content_encoding: message.content_encoding(),
            ..Head::json()
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
        if self.replied || self.desk.deferred != 0 {
            return Err(ReplyError::AlreadyReplied);
        }
        let sequence = self.desk.next_sequence();
        self.desk.deferred = sequence;
        Ok(Deferred::new(Arc::clone(&self.desk.mailbox), self.id, sequence))
    }

    /// Closes the connection once this reply, and all before it, is sent.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// The reply as it will be sent, prefix and header included; empty where there is none yet.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        self.out.get(self.start..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn wants_close(&self) -> bool {
        self.close
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
        if self.replied || self.desk.deferred != 0 {
            return Err(ReplyError::AlreadyReplied);
        }
        let head = Head { extra: &self.desk.extra, ..head };
        let encoded = match self.framing.begin(self.out, &head) {
            Ok(mark) => content(self.out).and_then(|()| self.framing.finish(self.out, mark, &head)),
            Err(error) => Err(error),
        };
        match encoded {
            Ok(()) => {
                self.replied = true;
                Ok(())
            }
            Err(error) => {
                self.out.truncate(self.start);
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
            .field("connection", &self.id)
            .field("replied", &self.replied)
            .field("close", &self.close)
            .finish_non_exhaustive()
    }
}
