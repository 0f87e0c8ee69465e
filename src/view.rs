//! [`View`]: a connection as its handler sees it.

use std::fmt;
use std::time::Duration;

use myriapod_sys::{self as sys, AsFd, BorrowedFd, SocketAddr};

use crate::connection::Origin;
use crate::connection_id::ConnectionId;
use crate::context::{Context, Orders};
use crate::handle::Handle;
use crate::link::{Session, TlsInfo};
use crate::outgoing::Outgoing;
use crate::protocol::{EncodeError, Writing};
use crate::proxy_protocol::Header;
use crate::slab::Key;

/// What the loop knows of the connection that the handler is called about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) key: Key,
    pub(crate) source: BorrowedFd<'a>,
    pub(crate) origin: Origin,
    /// Bytes that wait to be sent, besides those in the send buffer.
    pub(crate) queued: usize,
    /// Who its peer is, where that is known without asking the system.
    pub(crate) peer: Option<&'a Peer<'a>>,
    /// Whether messages can be pushed to it still.
    pub(crate) is_open: bool,
}

/// Who a connection's peer is, as it arrives.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) address: &'a SocketAddr,
    /// What a proxy said of it.
    pub(crate) proxy: Option<&'a Header<'a>>,
    /// What its handshake has found out.
    pub(crate) session: Option<&'a dyn Session>,
}

/// A connection as its handler sees it: what it is, and what can be asked for.
///
/// Every callback about a connection gets one; with a message it is [`Reply::view`]. What is asked
/// for here is done when the callback returns, in this order: the timer, what was pushed, the reply,
/// the close.
///
/// ```
/// use std::time::Duration;
/// use myriapod::{Handler, HandlerResult, Message, Outgoing, Reply, SocketAddr, View};
///
/// /// Greets, and asks silent peers whether they are still there.
/// struct Greeter {
///     greeting: Outgoing,
/// }
///
/// impl Handler for Greeter {
///     type State = ();
///
///     fn on_open(&mut self, view: &mut View<'_>, _peer: &SocketAddr) {
///         // A new connection has room for it.
///         let _ = view.push(&self.greeting);
///         view.set_timer(Duration::from_secs(30));
///     }
///
///     fn on_message(
///         &mut self,
///         (): &mut (),
///         message: Message<'_>,
///         reply: &mut Reply<'_>,
///     ) -> HandlerResult {
///         reply.view().set_timer(Duration::from_secs(30));
///         reply.echo(&message)?;
///         Ok(())
///     }
///
///     fn on_connection_timer(&mut self, (): &mut (), view: &mut View<'_>) {
///         view.close();
///     }
/// }
/// # let _ = Greeter { greeting: Outgoing::json("hello")? };
/// # Ok::<(), myriapod::protocol::EncodeError>(())
/// ```
///
/// [`Reply::view`]: crate::Reply::view
pub struct View<'a> {
    pub(crate) framing: &'a mut dyn Writing,
    pub(crate) context: &'a mut Context,
    pub(crate) about: &'a About<'a>,
}

/// Why a message was not pushed.
#[derive(Debug)]
#[non_exhaustive]
pub enum PushError {
    /// The connection has too much to send already: with this message, more than `high_water`. It
    /// is counted (`Stats::dropped_pushes`).
    Full,
    /// The connection is closed, or is about to be.
    Closed,
    /// It could not be encoded.
    Encode(EncodeError),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the connection has too much to send already"),
            Self::Closed => f.write_str("the connection is closed"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PushError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Full | Self::Closed => None,
        }
    }
}

impl From<EncodeError> for PushError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl View<'_> {
    /// The connection's name, which no other has, also after it is closed.
    #[must_use]
    #[inline]
    pub fn id(&self) -> ConnectionId {
        ConnectionId { event_loop: self.context.event_loop, key: self.about.key }
    }

    /// A handle of the server, for what concerns other connections: groups, messages to them,
    /// timers of the loop, connects. It is the one that
    /// [`Handler::on_start`](crate::Handler::on_start) gets. What is asked through it is done after
    /// the callback, and after what was asked of this view.
    ///
    /// ```
    /// use myriapod::{HandlerResult, Message, Outgoing, Reply};
    ///
    /// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    ///     let view = reply.view();
    ///     view.handle().broadcast_except("room", view.id(), Outgoing::copy_of(&message)?)?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.context.handle
    }

    /// The peer's address; behind a proxy whose header named one, the client's. Always known in
    /// [`on_open`](crate::Handler::on_open) and [`on_connect`](crate::Handler::on_connect); later the
    /// system is asked, unless a proxy has said it, and may have forgotten it once the connection is
    /// broken (`ENOTCONN`).
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        let known = self.about.peer.map(|peer| peer.address);
        let asked = || sys::peer_address(self.about.source).ok();
        known.or_else(|| self.context.peers.get(&self.about.key)).cloned().or_else(asked)
    }

    /// What the handshake of a secure connection has found out: protocol, suite, names, certificates.
    /// Only while the connection opens (`on_open`, `on_connect`), since nothing of it is kept; `None`
    /// for a plain connection.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo<'_>> {
        self.about.peer.and_then(|peer| peer.session).map(TlsInfo)
    }

    /// What a proxy said of the connection: its addresses and further fields. In
    /// [`on_open`](crate::Handler::on_open) alone, and only where a
    /// [PROXY header](crate::ServerBuilder::proxy_protocol) is required: what is needed later, the
    /// handler keeps.
    ///
    /// ```
    /// use myriapod::{Handler, HandlerResult, Message, Reply, SocketAddr, View};
    ///
    /// struct ByName;
    ///
    /// impl Handler for ByName {
    ///     /// The host name that the client asked the proxy for.
    ///     type State = String;
    ///
    ///     fn on_open(&mut self, view: &mut View<'_>, _peer: &SocketAddr) -> String {
    ///         let authority = view.proxy().and_then(|header| header.tlvs().authority());
    ///         authority.unwrap_or_default().to_owned()
    ///     }
    ///
    ///     fn on_message(
    ///         &mut self,
    ///         name: &mut String,
    ///         _message: Message<'_>,
    ///         reply: &mut Reply<'_>,
    ///     ) -> HandlerResult {
    ///         Ok(reply.json(name)?)
    ///     }
    /// }
    /// # let _ = ByName;
    /// ```
    #[must_use]
    pub fn proxy(&self) -> Option<&Header<'_>> {
        self.about.peer.and_then(|peer| peer.proxy)
    }

    /// The address at our end, if the system knows it.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        sys::local_address(self.about.source).ok()
    }

    /// Which listener accepted the connection: the place of its address in
    /// [`Server::addresses`](crate::Server::addresses). `None` for a connection that was
    /// [adopted](crate::Handle::adopt) or [made from here](crate::Handle::connect).
    #[must_use]
    pub fn listener(&self) -> Option<usize> {
        self.about.origin.listener().map(usize::from)
    }

    /// Whether we connected to the peer ([`Handle::connect`](crate::Handle::connect)).
    #[must_use]
    pub fn is_outgoing(&self) -> bool {
        self.about.origin == Origin::CONNECTED
    }

    /// Bytes that wait to be sent to it, those of this turn included.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.about.queued + self.context.out.len()
    }

    /// Sends a message that is no reply. With a message, it goes out before the reply to that.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] where it would have to wait above the high-water mark (with
    /// [`Overflow::CloseAfter`](crate::Overflow::CloseAfter) it waits all the same),
    /// [`PushError::Closed`] in [`on_close`](crate::Handler::on_close), and before it where the
    /// connection is being closed or nothing can be sent to it, [`PushError::Encode`].
    pub fn push(&mut self, message: &Outgoing) -> Result<(), PushError> {
        if !self.about.is_open {
            return Err(PushError::Closed);
        }
        let before = self.context.out.len();
        message.encode(self.framing, &mut self.context.out)?;
        let len = self.context.out.len() - before;
        self.context.orders.give(Orders::COUNTED);
        if !self.context.has_room(self.about.queued + before, len) {
            self.context.out.truncate(before);
            self.context.orders.dropped += 1;
            return Err(PushError::Full);
        }
        // In front of the reply, where there is one already.
        let start = self.context.start;
        if let Some(from) = self.context.out.get_mut(start..) {
            from.rotate_right(len);
        }
        self.context.start += len;
        self.context.orders.pushed += 1;
        Ok(())
    }

    /// Sets the connection's timer: [`on_connection_timer`](crate::Handler::on_connection_timer) is
    /// called once, not before `after` has passed (in steps of 10 ms, 124 days at most). There is
    /// one timer for each connection; setting it again moves it. It goes with the connection.
    pub fn set_timer(&mut self, after: Duration) {
        self.context.orders.give(Orders::TIMER);
        self.context.orders.timer = Some(after);
    }

    /// Cancels the connection's timer, if it is set.
    pub fn cancel_timer(&mut self) {
        self.context.orders.give(Orders::TIMER);
        self.context.orders.timer = None;
    }

    /// Goes on with what is streamed on this connection: the next piece is taken where the last one
    /// was answered with [`Flow::Wait`](crate::Flow::Wait), and a
    /// [source](crate::Reply::stream) that had nothing is asked again. Otherwise nothing happens.
    pub fn resume(&mut self) {
        self.context.orders.give(Orders::RESUME);
    }

    /// Closes the connection once all that is to be sent is sent: the reply to this message, and
    /// all before it.
    pub fn close(&mut self) {
        self.context.orders.give(Orders::CLOSE);
    }

    /// Closes the connection at once. What waits to be sent is dropped, and so is what this call
    /// pushed or replied.
    pub fn close_now(&mut self) {
        self.context.orders.give(Orders::CLOSE_NOW);
    }

    /// Closes the connection at once by a reset (`SO_LINGER` with 0 seconds, socket(7)): the peer
    /// loses what it has not read, and no port stays in `TIME-WAIT`.
    pub fn reset(&mut self) {
        self.context.orders.give(Orders::RESET);
    }
}

/// The connection's socket, for options and questions: `TCP_INFO`, `SO_PEERCRED`, keep-alive. Who
/// reads from it or writes to it takes bytes away from messages.
impl AsFd for View<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.about.source
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("about", &self.about).finish_non_exhaustive()
    }
}
