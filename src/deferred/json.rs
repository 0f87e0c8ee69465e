//! Later answers that are JSON.

use serde::Serialize;

use super::{Deferred, DeferredError};
use crate::outgoing::Outgoing;

impl Deferred {
    /// Answers with JSON content.
    ///
    /// # Errors
    ///
    /// A value that cannot be encoded (the peer then gets the error reply of a dropped answer), or
    /// a loop that is gone.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), DeferredError> {
        let outgoing = Outgoing::json(value)?;
        self.send(outgoing)
    }

    /// Answers with JSON text in UTF-8 that is there already. It is sent as it is, unchecked, as
    /// [`Outgoing::json_bytes`] says.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn json_bytes(self, json: Vec<u8>) -> Result<(), DeferredError> {
        self.send(Outgoing::json_bytes(json))
    }
}
