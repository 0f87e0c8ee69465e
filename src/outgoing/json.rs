//! Messages that are JSON, and further header keys, whose values are.

use std::borrow::Cow;

use serde::Serialize;

use super::Outgoing;
use crate::protocol::{ByteOrder, EncodeError, ExtraHeaders, Head, write_json};

impl Outgoing {
    /// JSON content (`text/json`, `utf-8`).
    ///
    /// # Errors
    ///
    /// A NaN or infinity, a value that refuses to be serialized.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut content = Vec::new();
        write_json(&mut content, value)?;
        Ok(Self::json_bytes(content))
    }

    /// JSON text in UTF-8 that is there already (`text/json`, `utf-8`): what another server sent,
    /// say, or a database keeps.
    ///
    /// It is sent as it is: a receiver says that text is not JSON, or not UTF-8. A message that came
    /// in another encoding is passed on with [`copy_of`](Self::copy_of).
    ///
    /// ```
    /// use myriapod::Outgoing;
    ///
    /// let json = br#"{"news": "none"}"#.to_vec();
    /// // Where it comes from somebody who is not trusted with that, one pass checks it.
    /// let _: serde::de::IgnoredAny = serde_json::from_slice(&json)?;
    /// let news = Outgoing::json_bytes(json);
    /// assert_eq!(news.content(), br#"{"news": "none"}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn json_bytes(content: Vec<u8>) -> Self {
        Self {
            byteorder: ByteOrder::NATIVE,
            content_type: Head::json().content_type.into(),
            content_encoding: Cow::Borrowed("utf-8"),
            extra: ExtraHeaders::new(),
            content,
            tag: 0,
        }
    }

    /// Adds a further header, behind the four that every message has.
    ///
    /// # Errors
    ///
    /// A key that is one of the four or was added before, or a value that is no JSON.
    pub fn header<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.extra.push(key, value)
    }
}
