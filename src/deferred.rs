//! [`Deferred`]: the duty to answer one message later, from any thread.

#[cfg(feature = "json")]
mod json;

use std::fmt;
use std::sync::Arc;

use crate::connection_id::ConnectionId;
use crate::handle_error::HandleError;
use crate::handler_error::HandlerError;
use crate::mailbox::{Item, Mailbox};
use crate::outgoing::Outgoing;
use crate::protocol::EncodeError;

/// The duty to answer one message later, from any thread.
///
/// The connection's next message waits for it, so replies keep their order; other connections do
/// not. Dropped without an answer, it closes the connection with an error reply of the kind
/// `Abandoned`. An answer is taken however much waits for the loop already; one to a connection
/// that is gone by then is counted (`Stats::missed`). Once the loop is gone, or has finished, it is
/// an error.
///
/// ```no_run
/// use myriapod::{HandlerResult, Message, Reply};
///
/// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
///     let request = message.to_owned();
///     let deferred = reply.defer()?;
///     std::thread::spawn(move || {
///         let result = request.as_message().content().iter().map(|byte| u64::from(*byte)).sum::<u64>();
///         let _ = deferred.json(&serde_json::json!({ "result": result }));
///     });
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Deferred {
    mailbox: Option<Arc<Mailbox>>,
    id: ConnectionId,
    sequence: u32,
    close: bool,
    /// What the answer carries, as JSON text, so that its request is known.
    reply_id: Box<[u8]>,
}

impl Deferred {
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        id: ConnectionId,
        sequence: u32,
        reply_id: Box<[u8]>,
    ) -> Self {
        Self { mailbox: Some(mailbox), id, sequence, close: false, reply_id }
    }

    /// The connection that waits for the answer.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.id
    }

    /// Closes the connection once the answer is sent.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// Answers with bytes.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn binary(self, content_type: &str, content: Vec<u8>) -> Result<(), DeferredError> {
        self.send(Outgoing::binary(content_type, content))
    }

    /// Answers with an error, as a handler does that returns one.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn error(mut self, error: impl Into<HandlerError>) -> Result<(), DeferredError> {
        let (key, sequence, close) = (self.id.key, self.sequence, self.close);
        let (error, id) = (error.into(), std::mem::take(&mut self.reply_id));
        match self.mailbox.take() {
            Some(mailbox) => Ok(mailbox.post(Item::Fail { key, sequence, error, close, id })?),
            None => Ok(()),
        }
    }

    /// Answers with any message.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn send(mut self, mut outgoing: Outgoing) -> Result<(), DeferredError> {
        if !self.reply_id.is_empty() {
            outgoing.put_id(&self.reply_id);
        }
        let (key, sequence, close) = (self.id.key, self.sequence, self.close);
        match self.mailbox.take() {
            Some(mailbox) => Ok(mailbox.post(Item::Answer { key, sequence, outgoing, close })?),
            None => Ok(()),
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            // A loop that is gone has closed the connection.
            let (key, id) = (self.id.key, std::mem::take(&mut self.reply_id));
            let _ = mailbox.post(Item::Abandon { key, sequence: self.sequence, id });
        }
    }
}

/// Why a deferred answer was not handed over.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeferredError {
    /// It could not be encoded.
    Encode(EncodeError),
    /// The loop could not be asked to send it.
    Handle(HandleError),
}

impl fmt::Display for DeferredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(error) => error.fmt(f),
            Self::Handle(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DeferredError {}

impl From<EncodeError> for DeferredError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<HandleError> for DeferredError {
    fn from(error: HandleError) -> Self {
        Self::Handle(error)
    }
}
