//! Servers of messages with a JSON header, which need not name their framing.

use super::{Server, ServerBuilder};
use crate::error::Error;
use crate::handler::Handler;
use crate::handler_error::HandlerResult;
use crate::link::Link;
use crate::protocol::{DefaultFraming, JsonHeader, Message};
use crate::reply::Reply;
use crate::servers::Servers;

impl<L: Link> ServerBuilder<L> {
    /// Builds a server of JSON-header messages.
    ///
    /// # Errors
    ///
    /// As [`build_with`](Self::build_with).
    pub fn build<H: Handler>(self, handler: H) -> Result<Server<H, DefaultFraming, L>, Error> {
        let framing = JsonHeader::new(self.config.limits.decode());
        self.build_with(framing, handler)
    }

    /// Builds a server of JSON-header messages with [`threads`](Self::threads) event loops, each
    /// with a handler that its own thread makes.
    ///
    /// ```
    /// use myriapod::{Message, Reply, Server};
    ///
    /// let mut servers = Server::builder().listen("127.0.0.1", 0).threads(2).build_each(|| {
    ///     // Of this loop alone: no lock is needed.
    ///     let mut count = 0u64;
    ///     move |_: Message<'_>, reply: &mut Reply<'_>| {
    ///         count += 1;
    ///         Ok(reply.json(&serde_json::json!({ "messages of this loop": count }))?)
    ///     }
    /// })?;
    /// # servers.handle().shutdown()?;
    /// servers.run()?;
    /// println!("{}", servers.stats());
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build_each_with`](Self::build_each_with).
    pub fn build_each<H, M>(self, handler: M) -> Result<Servers<H, DefaultFraming, L>, Error>
    where
        H: Handler + 'static,
        M: Fn() -> H + Send + Sync + 'static,
    {
        let limits = self.config.limits.decode();
        self.build_each_with(move || JsonHeader::new(limits), handler)
    }

    /// Builds a server of JSON-header messages that are answered by a closure.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn answer<C>(self, answer: C) -> Result<Server<C, DefaultFraming, L>, Error>
    where
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
    {
        self.build(answer)
    }

    /// Builds a server of JSON-header messages with [`threads`](Self::threads) event loops, each
    /// with a closure that its own thread makes.
    ///
    /// ```
    /// use myriapod::Server;
    ///
    /// let mut servers = Server::builder().listen("127.0.0.1", 0).threads(2).answer_each(|| {
    ///     // Of this loop alone: no lock is needed.
    ///     let mut count = 0u64;
    ///     move |_, reply| {
    ///         count += 1;
    ///         Ok(reply.json(&serde_json::json!({ "messages of this loop": count }))?)
    ///     }
    /// })?;
    /// # servers.handle().shutdown()?;
    /// servers.run()?;
    /// println!("{}", servers.stats());
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build_each`](Self::build_each).
    pub fn answer_each<C, M>(self, answer: M) -> Result<Servers<C, DefaultFraming, L>, Error>
    where
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult + 'static,
        M: Fn() -> C + Send + Sync + 'static,
    {
        self.build_each(answer)
    }
}
