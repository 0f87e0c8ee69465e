//! [`Client`]: requests to one server, each waited for.

mod error_reply;
mod exchange;
mod stream;
mod tickets;
mod transport;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use self::exchange::Exchange;
pub use self::stream::ReplyStream;
pub use self::tickets::Ticket;
use self::tickets::Tickets;
use self::transport::{Probe, Transport, pause};
use crate::error::Error;
use crate::link::TunnelMaker;
use crate::protocol::{DecodeLimits, Framing, Head, JsonHeader, Message};

/// How a [`Client`] connects, how long it waits, and what replies it accepts.
///
/// A timeout of zero is none.
///
/// ```
/// use std::time::Duration;
/// use myriapod::ClientOptions;
///
/// let options = ClientOptions { read_timeout: Duration::from_secs(5), ..Default::default() };
/// assert_eq!(options.connect_timeout, Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// For trying all addresses of the host. Default 10 s. The system's search for the addresses of
    /// a name comes before and has its own limits.
    ///
    /// Each address gets an equal share of what is left, so that one which never answers does not
    /// keep the others from being tried.
    pub connect_timeout: Duration,
    /// Without a byte of the reply arriving. Default 30 s.
    pub read_timeout: Duration,
    /// Without the system taking a byte of the request. Default 30 s.
    pub write_timeout: Duration,
    /// How long the parts of a reply may be.
    pub limits: DecodeLimits,
    /// Behave as a proxy of this client does: each connection begins with a PROXY header of version
    /// 2 that names it. With port 0, the port is that of our own socket. Default `None`.
    pub proxy_from: Option<std::net::SocketAddr>,
    /// Whether each request has a connection of its own, which is closed after the reply: for a
    /// server that closes after each, as the tutorial's does. Default `false`.
    pub per_request: bool,
    /// Requests that may be [started](Client::start) and have no reply yet. Default 1,024.
    pub max_tickets: usize,
    /// Bytes of replies, and of messages that answer no request, that are kept until somebody takes
    /// them. Default 64 MiB.
    pub max_kept_bytes: usize,
    /// Messages that answer no request and are kept until somebody takes them. Default 1,024.
    pub max_pushes: usize,
    /// Whether to try again where a connection cannot be made anew, and how often. Default `None`: the
    /// first failure is returned. The first connection is never tried again.
    pub reconnect: Option<Reconnect>,
}

/// How often a connection is tried to be made anew, and how long to wait in between.
///
/// ```
/// use std::time::Duration;
/// use myriapod::{ClientOptions, Reconnect};
///
/// let reconnect = Reconnect { attempts: 5, ..Reconnect::default() };
/// let options = ClientOptions { reconnect: Some(reconnect), ..ClientOptions::default() };
/// assert_eq!(reconnect.first, Duration::from_millis(100));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// Attempts after the first. Default 8.
    pub attempts: u32,
    /// Before the second attempt; each later one waits twice as long. Default 100 ms.
    pub first: Duration,
    /// The longest wait. Default 10 s.
    pub most: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { attempts: 8, first: Duration::from_millis(100), most: Duration::from_secs(10) }
    }
}

impl Reconnect {
    /// How long to wait after this many attempts that were tried again: from half of what is due to
    /// all of it, so that many clients of one server do not come back at once.
    fn pause(&self, attempt: u32, salt: u64) -> Duration {
        let due = self.first.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let due = due.min(self.most);
        // Which clock it is does not matter, nor how good the mixture is.
        let mixed = (myriapod_sys::now().as_nanos() ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let part = u32::try_from(mixed >> 54).unwrap_or(0);
        due / 2 + (due / 2).saturating_mul(part) / 1024
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            limits: DecodeLimits::default(),
            proxy_from: None,
            per_request: false,
            max_tickets: 1024,
            max_kept_bytes: 64 << 20,
            max_pushes: 1024,
            reconnect: None,
        }
    }
}

/// A connection to a server of messages, with a JSON header unless it is given
/// [another framing](Self::with_framing), and calls that wait.
///
/// [`request`](Self::request) sends one message and waits for its reply. To have several under way,
/// [`send`](Self::send) each and [`receive`](Self::receive) as many replies: they come in the order
/// of the requests. Where they come in another order, or the server sends messages unasked,
/// [`start`](Self::start) requests and [`wait`](Self::wait) for each: replies are then told by their
/// `id`.
///
/// **An error reply is a reply**: ask it for [`Message::error_kind`].
///
/// **When a connection fails**, in time or in bytes, it is closed, and replies that were still to
/// come on it are lost: a late one is never taken for the answer to another request. The next
/// request connects again. So it does when the server has closed the connection since the last
/// reply, or has sent something that nobody asked for, which is counted in
/// [`dropped_bytes`](Self::dropped_bytes). A server that closes after *each* reply may do so just
/// after we have looked, and the request is lost with [`Error::Closed`]; set
/// [`ClientOptions::per_request`] there. No request is ever sent twice.
///
/// ```
/// use myriapod::{Client, Server};
/// use serde_json::json;
///
/// let mut server = Server::builder().listen("127.0.0.1", 0).answer(|message, reply| {
///     let name: String = message.json_as()?;
///     reply.json(&json!({ "result": format!("Hello {name}!") }))?;
///     Ok(())
/// })?;
/// let port = server.addresses()[0].port().unwrap_or_default();
/// let handle = server.handle();
/// # std::thread::scope(|scope| {
/// # let client = scope.spawn(move || {
///
/// let mut client = Client::connect("127.0.0.1", port)?;
/// let reply = client.request_json("World")?;
/// assert_eq!(reply.error_kind(), None);
/// assert_eq!(reply.json()?, json!({ "result": "Hello World!" }));
/// # handle.shutdown()?;
/// # Ok::<(), myriapod::Error>(())
/// # });
/// # server.run()?;
/// # client.join().unwrap()
/// # })?;
/// # Ok::<(), myriapod::Error>(())
/// ```
pub struct Client<F: Framing = JsonHeader> {
    host: Box<str>,
    port: u16,
    options: ClientOptions,
    transport: Option<Transport>,
    /// Makes what stands between a socket and its messages; nothing for a plain client.
    tunnels: Option<Box<dyn TunnelMaker>>,
    exchange: Exchange<F>,
    /// A request was answered before it was sent whole: nothing more can be sent.
    is_cut_short: bool,
    tickets: Tickets,
    connections: u64,
    dropped_bytes: u64,
}

impl Client {
    /// Connects with the default options. `host` is a name, an IPv4 or IPv6 address or `unix:PATH`,
    /// where the port is not used. Every address of a name is tried, in the system's order.
    ///
    /// # Errors
    ///
    /// [`Error::System`] with `getaddrinfo` or `connect` and the address (of several, the one that
    /// came nearest), [`Error::Timeout`].
    pub fn connect(host: &str, port: u16) -> Result<Self, Error> {
        Self::connect_with(host, port, ClientOptions::default())
    }

    /// Connects with options.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_with(host: &str, port: u16, options: ClientOptions) -> Result<Self, Error> {
        Self::with_framing(host, port, options, JsonHeader::default())
    }

    /// Connects to `host`, where each connection begins with a handshake: TLS, for example. The crate
    /// `myriapod-tls` has a [`TunnelMaker`] for it. The handshake is part of connecting, and of its
    /// time limit.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); [`Error::Link`] where the handshake fails.
    pub fn connect_secure(
        host: &str,
        port: u16,
        options: ClientOptions,
        tunnels: impl TunnelMaker + 'static,
    ) -> Result<Self, Error> {
        Self::secure_with_framing(host, port, options, tunnels, JsonHeader::default())
    }
}

impl<F: Framing> Client<F> {
    /// Connects to a server that speaks another framing. It is given the limits of the options.
    ///
    /// ```no_run
    /// use myriapod::protocol::{Delimited, Head};
    /// use myriapod::{Client, ClientOptions};
    ///
    /// let options = ClientOptions::default();
    /// let mut client = Client::with_framing("::1", 7000, options, Delimited::lines())?;
    /// let reply = client.request(&Head::binary("text/plain"), b"hello")?;
    /// assert_eq!(reply.text()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn with_framing(
        host: &str,
        port: u16,
        options: ClientOptions,
        framing: F,
    ) -> Result<Self, Error> {
        Self::connect_through(host, port, options, None, framing)
    }

    /// [`connect_secure`](Client::connect_secure) with another framing.
    ///
    /// # Errors
    ///
    /// As [`Client::connect_secure`].
    pub fn secure_with_framing(
        host: &str,
        port: u16,
        options: ClientOptions,
        tunnels: impl TunnelMaker + 'static,
        framing: F,
    ) -> Result<Self, Error> {
        Self::connect_through(host, port, options, Some(Box::new(tunnels)), framing)
    }

    fn connect_through(
        host: &str,
        port: u16,
        options: ClientOptions,
        tunnels: Option<Box<dyn TunnelMaker>>,
        framing: F,
    ) -> Result<Self, Error> {
        let mut client = Self {
            host: host.into(),
            port,
            options,
            transport: None,
            tunnels,
            exchange: Exchange::new(framing, options.limits),
            is_cut_short: false,
            tickets: Tickets::default(),
            connections: 0,
            dropped_bytes: 0,
        };
        client.open()?;
        Ok(client)
    }

    /// Sends a request and waits for its reply, which borrows from the client:
    /// [`Message::to_owned`] for what must outlive the next call.
    ///
    /// A reply that comes before the request is sent whole is the reply; the rest of the request is
    /// not sent if the server has closed its side.
    ///
    /// # Errors
    ///
    /// [`Error::RepliesAwaited`] where earlier requests have no reply yet; nothing is sent then.
    /// [`Error::Encode`] for a header that is too long; the connection is as it was. Those of
    /// [`connect`](Client::connect) where the connection had to be made anew. [`Error::Timeout`],
    /// [`Error::Closed`] where the server closes before its reply is whole, [`Error::Protocol`]
    /// where its reply is malformed (with the offset in the stream), [`Error::System`].
    pub fn request(&mut self, head: &Head<'_>, content: &[u8]) -> Result<Message<'_>, Error> {
        self.check_nothing_awaited()?;
        self.send(head, content)?;
        self.receive()
    }

    /// As [`request`](Self::request), with `value` as JSON in UTF-8.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), and [`Error::Encode`] for what JSON cannot say.
    pub fn request_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Message<'_>, Error> {
        self.check_nothing_awaited()?;
        self.send_json(value)?;
        self.receive()
    }

    /// Sends a request without waiting for its reply. What the server sends meanwhile is received,
    /// as far as one message of the largest size, so that neither waits for the other.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), but that a server which closes while we send is no error
    /// here: it may have said why, so [`receive`](Self::receive) returns its reply, or the error.
    pub fn send(&mut self, head: &Head<'_>, content: &[u8]) -> Result<(), Error> {
        self.make_ready()?;
        self.exchange.queue(head, content)?;
        self.flush()
    }

    /// As [`send`](Self::send), with `value` as JSON in UTF-8.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Encode`] for what JSON cannot say.
    pub fn send_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.make_ready()?;
        self.exchange.queue_json(&Head::json(), value)?;
        self.flush()
    }

    /// Waits for the reply to the oldest request that has none yet.
    ///
    /// # Errors
    ///
    /// [`Error::NothingAwaited`] where every request has its reply, and after a failure. Else as
    /// [`request`](Self::request); the connection is closed then.
    pub fn receive(&mut self) -> Result<Message<'_>, Error> {
        let Some(transport) = self.transport.as_mut().filter(|_| self.exchange.awaited() > 0)
        else {
            return Err(Error::NothingAwaited);
        };
        if let Err(error) = transport.receive(&mut self.exchange, self.options.read_timeout) {
            self.close();
            return Err(error);
        }
        if self.options.per_request || std::mem::take(&mut self.is_cut_short) {
            self.transport = None;
        }
        self.exchange.take().ok_or(Error::NothingAwaited)
    }

    /// How many requests have no reply yet.
    #[must_use]
    pub const fn awaited(&self) -> usize {
        self.exchange.awaited()
    }

    /// The address that it is connected to, if it is.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.transport.as_ref().map(Transport::peer)
    }

    /// How many connections were made so far, the first included.
    #[must_use]
    pub const fn connections(&self) -> u64 {
        self.connections
    }

    /// Bytes that were received although nobody had asked for them, and dropped.
    #[must_use]
    pub const fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// The bytes that were received and belong to no reply that was taken. After a fault they begin
    /// with the reply that it is in, and show what the server speaks instead.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.exchange.unread()
    }

    /// Closes the connection. Replies that were still to come are lost; the next request connects
    /// again.
    pub fn close(&mut self) {
        self.transport = None;
        self.is_cut_short = false;
        self.tickets.give_up();
        self.exchange.give_up();
    }

    fn open(&mut self) -> Result<(), Error> {
        self.transport = None;
        self.is_cut_short = false;
        self.tickets.give_up();
        self.exchange.reset();
        let timeout = self.options.connect_timeout;
        let mut transport = Transport::connect(&self.host, self.port, timeout)?;
        if let Some(client) = self.options.proxy_from {
            self.exchange.queue_bytes(&transport.proxy_header(client));
            transport.send(&mut self.exchange, self.options.write_timeout)?;
        }
        if let Some(tunnels) = &self.tunnels {
            let tunnel = tunnels.make().map_err(Error::Link)?;
            transport.shake_hands(tunnel, self.exchange.receive_buffer(), timeout)?;
        }
        self.transport = Some(transport);
        self.connections += 1;
        Ok(())
    }

    /// Sees to a connection that a request can be sent on.
    fn make_ready(&mut self) -> Result<(), Error> {
        if self.exchange.awaited() > 0 {
            // On one that has ended nothing is sent, and `receive` says so in its turn.
            return if self.options.per_request { self.check_nothing_awaited() } else { Ok(()) };
        }
        if self.tickets.takes_pushes {
            return if self.take_in_pushes() { Ok(()) } else { self.open_patiently() };
        }
        if let Some(transport) = &mut self.transport
            && !transport.is_ended()
            && self.exchange.buffered() == 0
            && matches!(transport.probe(self.exchange.receive_buffer()), Probe::Idle)
        {
            return Ok(());
        }
        self.dropped_bytes += self.exchange.buffered() as u64;
        self.open_patiently()
    }

    /// Connects anew, and again where that fails, as the options say.
    fn open_patiently(&mut self) -> Result<(), Error> {
        let Some(reconnect) = self.options.reconnect else { return self.open() };
        let mut attempt = 0;
        loop {
            match self.open() {
                Err(Error::System(_) | Error::Timeout { .. } | Error::Closed { .. })
                    if attempt < reconnect.attempts =>
                {
                    pause(reconnect.pause(attempt, self.connections))?;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn check_nothing_awaited(&self) -> Result<(), Error> {
        match self.exchange.awaited() {
            0 => Ok(()),
            count => Err(Error::RepliesAwaited { count }),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(transport) = &mut self.transport else { return Err(Error::NothingAwaited) };
        let result = transport.send(&mut self.exchange, self.options.write_timeout);
        if result.is_err() {
            self.close();
        }
        result
    }
}

impl<F: Framing> fmt::Debug for Client<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("transport", &self.transport)
            .field("awaited", &self.awaited())
            .finish_non_exhaustive()
    }
}
