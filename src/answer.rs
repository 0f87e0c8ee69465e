//! Servers whose handler is a closure: these functions say what it takes, so that
//! `|message, reply| …` needs no types.

use crate::error::Error;
use crate::handler_error::HandlerResult;
use crate::link::Link;
use crate::protocol::{Framing, Message};
use crate::reply::Reply;
use crate::server::{Server, ServerBuilder};
use crate::servers::Servers;

impl<L: Link> ServerBuilder<L> {
    /// Builds a server of messages in any framing that are answered by a closure.
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
    /// As [`build_with`](Self::build_with).
    pub fn answer_with<F, C>(self, framing: F, answer: C) -> Result<Server<C, F, L>, Error>
    where
        F: Framing,
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
    {
        self.build_with(framing, answer)
    }

    /// Builds a server of messages in any framing with [`threads`](Self::threads) event loops, each
    /// with a closure that its own thread makes.
    ///
    /// # Errors
    ///
    /// As [`build_each_with`](Self::build_each_with).
    pub fn answer_each_with<F, N, C, M>(
        self,
        framing: N,
        answer: M,
    ) -> Result<Servers<C, F, L>, Error>
    where
        F: Framing + 'static,
        N: Fn() -> F + Send + Sync + 'static,
        C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult + 'static,
        M: Fn() -> C + Send + Sync + 'static,
    {
        self.build_each_with(framing, answer)
    }
}
