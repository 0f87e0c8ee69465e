//! [`Outgoing`]: a message to be sent later or elsewhere than as an immediate reply.

use std::borrow::Cow;

use serde::Serialize;

use crate::protocol::{ByteOrder, EncodeError, ExtraHeaders, Framing, Head, Message, write_json};

/// A message whose content is ready, and whose header is written by the loop that sends it.
///
/// It can be made on any thread.
///
/// ```
/// use myriapod::Outgoing;
///
/// let mut news = Outgoing::json(&serde_json::json!({ "news": "none" }))?;
/// news.header("priority", &3)?;
/// let picture = Outgoing::binary("image/png", vec![0x89, b'P', b'N', b'G']);
/// # let _ = picture;
/// # Ok::<(), myriapod::protocol::EncodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    byteorder: ByteOrder,
    content_type: Box<str>,
    content_encoding: Cow<'static, str>,
    extra: ExtraHeaders,
    content: Vec<u8>,
}

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
    /// It is sent as it is, unchecked: that text which is no JSON is a fault of the content, whoever
    /// receives it will say.
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
        }
    }

    /// Bytes (`content-encoding` is `binary`).
    #[must_use]
    pub fn binary(content_type: &str, content: Vec<u8>) -> Self {
        Self {
            byteorder: ByteOrder::NATIVE,
            content_type: content_type.into(),
            content_encoding: Cow::Borrowed("binary"),
            extra: ExtraHeaders::new(),
            content,
        }
    }

    /// A message that was received, to be passed on: its content under its own header keys, its
    /// `byteorder` and further keys included. What [`Reply::echo`](crate::Reply::echo) is for the
    /// peer itself, this is for somebody else. It copies the content.
    ///
    /// ```
    /// use myriapod::{Handle, HandlerResult, Message, Outgoing};
    ///
    /// fn tell_the_room(message: &Message<'_>, handle: &Handle) -> HandlerResult {
    ///     handle.broadcast("room", Outgoing::copy_of(message)?)?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// None for a message that was decoded: further keys that no header could hold.
    pub fn copy_of(message: &Message<'_>) -> Result<Self, EncodeError> {
        let mut extra = ExtraHeaders::new();
        extra.push_raw_from(message)?;
        Ok(Self {
            byteorder: message.byteorder(),
            content_type: message.content_type().into(),
            content_encoding: Cow::Owned(message.content_encoding().to_owned()),
            extra,
            content: message.content().to_vec(),
        })
    }

    /// Adds a header of one's own, behind the four that every message has.
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

    /// Bytes of content.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Appends the whole message to `out`, which is as it was where that fails.
    pub(crate) fn encode(
        &self,
        framing: &mut (impl Framing + ?Sized),
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let head = Head {
            byteorder: self.byteorder,
            content_type: &self.content_type,
            content_encoding: &self.content_encoding,
            extra: &self.extra,
        };
        framing.encode(out, &head, &self.content)
    }
}
