//! Replies that are JSON, and further header keys, whose values are.

use serde::Serialize;

use super::{Content, Reply, ReplyError};
use crate::protocol::{Head, write_json};

impl Reply<'_> {
    /// Adds a further header to the reply that will be made, behind the four that every
    /// message has. The key `id` is there already where the message had one, with that value; given
    /// here, it is another.
    ///
    /// # Errors
    ///
    /// A key that is one of the four or was added before, or a value that is no JSON.
    pub fn header<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<(), ReplyError> {
        if key == "id" {
            self.view.context.withdraw_id();
        }
        Ok(self.view.context.extra.push(key, value)?)
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
    /// is, unchecked: for answers that are known already.
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
}
