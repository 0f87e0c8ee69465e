//! Servers whose handler is a closure: these functions say what it takes, so that
//! `|message, reply| …` needs no types.

use crate::error::Error;
use crate::handler_error::HandlerResult;
use crate::protocol::{Framing, Message};
use crate::reply::Reply;
use crate::server::{Server, ServerBuilder};
use crate::servers::Servers;

impl ServerBuilder {
    /// Builds a server of JSON-header messages that are answered by a closure.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn answer<C>(self, answer: C) -> Result<Server<C>, Error>
    where
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
    {
        self.build(answer)
    }

    /// Builds a server of messages in another framing that are answered by a closure.
    ///
    /// ```
    /// use myriapod::Server;
    /// use myriapod::protocol::Raw;
    ///
    /// let mut server = Server::builder()
    ///     .listen("127.0.0.1", 0)
    ///     .answer_with(Raw::default(), |message, reply| Ok(reply.echo(&message)?))?;
    /// # server.handle().shutdown()?;
    /// server.run()?;
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn answer_with<F, C>(self, framing: F, answer: C) -> Result<Server<C, F>, Error>
    where
        F: Framing,
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
    {
        self.build_with(framing, answer)
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
    pub fn answer_each<C, M>(self, answer: M) -> Result<Servers<C>, Error>
    where
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult + 'static,
        M: Fn() -> C + Send + Sync + 'static,
    {
        self.build_each(answer)
    }

    /// As [`answer_each`](Self::answer_each), in another framing.
    ///
    /// # Errors
    ///
    /// As [`build_each`](Self::build_each).
    pub fn answer_each_with<F, N, C, M>(self, framing: N, answer: M) -> Result<Servers<C, F>, Error>
    where
        F: Framing + 'static,
        N: Fn() -> F + Send + Sync + 'static,
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult + 'static,
        M: Fn() -> C + Send + Sync + 'static,
    {
        self.build_each_with(framing, answer)
    }
}
