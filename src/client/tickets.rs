//! Several requests under way at once: a [`Ticket`] for each, and pushes apart from replies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::Serialize;

use super::Client;
use crate::error::Error;
use crate::protocol::{ExtraHeaders, Framing, Head, Message, OwnedMessage, write_json};

/// A request that was [started](Client::start), and whose reply can be waited for once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

/// What is called with each message that answers no request.
type OnPush = Box<dyn FnMut(Message<'_>) + Send>;

/// The requests that were started, and what came for others than who waited.
#[derive(Default)]
pub(super) struct Tickets {
    /// The number of the last one. It counts on over all connections, so that a late reply never fits.
    last: u64,
    /// Those whose replies have yet to come.
    open: BTreeSet<u64>,
    /// Replies that nobody has waited for so far.
    kept: BTreeMap<u64, OwnedMessage>,
    pushes: VecDeque<OwnedMessage>,
    /// Bytes of both.
    bytes: usize,
    dropped_pushes: u64,
    on_push: Option<OnPush>,
    /// Whether messages may come that nobody has asked for.
    pub(super) takes_pushes: bool,
}

impl Tickets {
    /// No reply is expected any longer. Those that have come are kept.
    pub(super) fn give_up(&mut self) {
        self.open.clear();
    }

    /// A message came that answers no request.
    fn push(&mut self, message: OwnedMessage, most: usize, most_bytes: usize) {
        if let Some(on_push) = &mut self.on_push {
            return on_push(message.as_message());
        }
        self.bytes += message.as_message().bytes().len();
        self.pushes.push_back(message);
        while self.pushes.len() > most || self.bytes > most_bytes && self.pushes.len() > 1 {
            self.next_push();
            self.dropped_pushes += 1;
        }
    }

    fn next_push(&mut self) -> Option<OwnedMessage> {
        let push = self.pushes.pop_front()?;
        self.bytes -= push.as_message().bytes().len();
        Some(push)
    }

    fn take(&mut self, number: u64) -> Option<OwnedMessage> {
        let reply = self.kept.remove(&number)?;
        self.bytes -= reply.as_message().bytes().len();
        Some(reply)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("open", &self.open.len())
            .field("kept", &self.kept.len())
            .field("pushes", &self.pushes.len())
            .finish_non_exhaustive()
    }
}

impl<F: Framing> Client<F> {
    /// Sends a request and does not wait for its reply: [`wait`](Self::wait) does. Several may be
    /// under way, and their replies may come in any order, since each carries the `id` of its request
    /// ([`Framing::id`]): a number that this adds to the head. A server of this crate sends it back.
    ///
    /// From then on the client takes messages that answer no request, too: see
    /// [`next_push`](Self::next_push).
    ///
    /// ```
    /// use myriapod::{Client, Server};
    /// use serde_json::json;
    ///
    /// # let mut server = Server::builder().listen("127.0.0.1", 0).answer(|message, reply| {
    /// #     let number: u64 = message.json_as()?;
    /// #     Ok(reply.json(&(number * 2))?)
    /// # })?;
    /// # let (port, handle) = (server.addresses()[0].port().unwrap_or(0), server.handle());
    /// # std::thread::scope(|scope| {
    /// # let client = scope.spawn(move || {
    /// let mut client = Client::connect("127.0.0.1", port)?;
    /// let (one, two) = (client.start_json(&1)?, client.start_json(&2)?);
    /// assert_eq!(client.wait(two)?.as_message().json()?, json!(4));
    /// assert_eq!(client.wait(one)?.as_message().json()?, json!(2));
    /// # handle.shutdown()?;
    /// # Ok::<(), myriapod::Error>(())
    /// # });
    /// # server.run()?;
    /// # client.join().unwrap()
    /// # })?;
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`Error::TooManyTickets`] where
    /// [`max_tickets`](super::ClientOptions::max_tickets) have no reply yet, and [`Error::Encode`]
    /// where the head has the key `id` already.
    pub fn start(&mut self, head: &Head<'_>, content: &[u8]) -> Result<Ticket, Error> {
        self.tickets.takes_pushes = true;
        let count = self.tickets.open.len();
        if count >= self.options.max_tickets {
            return Err(Error::TooManyTickets { count });
        }
        self.make_ready()?;
        let number = self.tickets.last + 1;
        let mut extra = ExtraHeaders::new();
        extra.push("id", &number)?;
        extra.append(head.extra)?;
        self.exchange.queue(&Head { extra: &extra, ..*head }, content)?;
        self.tickets.last = number;
        self.tickets.open.insert(number);
        self.flush()?;
        Ok(Ticket(number))
    }

    /// As [`start`](Self::start), with `value` as JSON in UTF-8.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`Error::Encode`] for what JSON cannot say.
    pub fn start_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Ticket, Error> {
        let mut content = Vec::new();
        write_json(&mut content, value)?;
        self.start(&Head::json(), &content)
    }

    /// Waits for the reply to a request. Replies to others that come first are kept for them, and
    /// messages that answer none go to [`next_push`](Self::next_push).
    ///
    /// # Errors
    ///
    /// [`Error::NothingAwaited`] where the reply was taken, or was lost when a connection failed;
    /// [`Error::TooMuchKept`] where the replies that nobody has waited for take more than
    /// [`max_kept_bytes`](super::ClientOptions::max_kept_bytes): wait for those. Else as
    /// [`receive`](Self::receive), and then every reply that has not come is lost.
    pub fn wait(&mut self, ticket: Ticket) -> Result<OwnedMessage, Error> {
        loop {
            if let Some(reply) = self.tickets.take(ticket.0) {
                return Ok(reply);
            }
            if !self.tickets.open.contains(&ticket.0) {
                return Err(Error::NothingAwaited);
            }
            let bytes = self.tickets.bytes;
            if bytes > self.options.max_kept_bytes {
                return Err(Error::TooMuchKept { bytes });
            }
            self.receive_any()?;
        }
    }

    /// The oldest message that answers no request and was not taken, if there is one: what the server
    /// sends by itself. At most [`max_pushes`](super::ClientOptions::max_pushes) wait here; beyond
    /// that, the oldest are dropped and [counted](Self::dropped_pushes). This does not receive; calls
    /// that wait do, and [`wait_for_push`](Self::wait_for_push).
    pub fn next_push(&mut self) -> Option<OwnedMessage> {
        self.tickets.next_push()
    }

    /// Waits for a message that answers no request. Connects anew where the connection has ended.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn wait_for_push(&mut self) -> Result<OwnedMessage, Error> {
        self.tickets.takes_pushes = true;
        loop {
            if let Some(push) = self.tickets.next_push() {
                return Ok(push);
            }
            if self.transport.is_none() {
                self.make_ready()?;
            }
            self.receive_any()?;
        }
    }

    /// Has `on_push` called with each message that answers no request, in place of keeping them: in
    /// the calls that wait for replies, on their thread.
    pub fn on_push(&mut self, on_push: impl FnMut(Message<'_>) + Send + 'static) {
        self.tickets.takes_pushes = true;
        self.tickets.on_push = Some(Box::new(on_push));
    }

    /// Messages that answered no request and were dropped, since too many waited.
    #[must_use]
    pub const fn dropped_pushes(&self) -> u64 {
        self.tickets.dropped_pushes
    }

    /// Receives one message, and puts it where it belongs.
    fn receive_any(&mut self) -> Result<(), Error> {
        let timeout = self.options.read_timeout;
        let Some(transport) = &mut self.transport else { return Err(Error::NothingAwaited) };
        if let Err(error) = transport.receive(&mut self.exchange, timeout) {
            self.close();
            return Err(error);
        }
        self.sort();
        Ok(())
    }

    /// Puts the whole message that was received where it belongs.
    fn sort(&mut self) {
        let Some((message, id)) = self.exchange.take_with_id() else { return };
        let number = id.and_then(|id| id.parse::<u64>().ok());
        match number.filter(|number| self.tickets.open.remove(number)) {
            Some(number) => {
                self.exchange.note_reply();
                self.tickets.bytes += message.as_message().bytes().len();
                self.tickets.kept.insert(number, message);
            }
            None => {
                let (most, bytes) = (self.options.max_pushes, self.options.max_kept_bytes);
                self.tickets.push(message, most, bytes);
            }
        }
    }

    /// Takes in what came while nothing was awaited. Returns whether the connection goes on.
    pub(super) fn take_in_pushes(&mut self) -> bool {
        loop {
            match self.exchange.is_whole() {
                Ok(true) => self.sort(),
                Ok(false) => break,
                Err(_) => return false,
            }
        }
        let Some(transport) = &mut self.transport else { return false };
        let before = self.exchange.buffered();
        if transport.look(&mut self.exchange).is_err() || transport.is_over() {
            return false;
        }
        self.exchange.buffered() == before || self.take_in_pushes()
    }
}
