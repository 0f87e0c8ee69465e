//! [`Outgoing`]: a message to be sent later or elsewhere than as an immediate reply.

#[cfg(feature = "json")]
mod json;

use std::borrow::Cow;

use crate::protocol::{ByteOrder, EncodeError, ExtraHeaders, Framing, Head, Message, Writing};

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
    tag: u64,
}

impl Outgoing {
    /// Bytes (`content-encoding` is `binary`).
    #[must_use]
    pub fn binary(content_type: &str, content: Vec<u8>) -> Self {
        Self {
            byteorder: ByteOrder::NATIVE,
            content_type: content_type.into(),
            content_encoding: Cow::Borrowed("binary"),
            extra: ExtraHeaders::new(),
            content,
            tag: 0,
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
            tag: 0,
        })
    }

    /// Has it carry the `id` of the request that it answers, unless it has one.
    pub(crate) fn put_id(&mut self, id: &[u8]) {
        if !self.extra.has_id() {
            self.extra.put_id(id);
        }
    }

    /// With a tag, by which
    /// [`on_tagged_push_dropped`](crate::Handler::on_tagged_push_dropped) names it where it is
    /// dropped. Nobody else hears of it. 0 is none.
    #[must_use]
    pub fn tagged(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Its tag; 0 for none.
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// Bytes of content.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Appends the whole message to `out` as `framing` writes it, for where no event loop does: a
    /// file, or another way to another server.
    ///
    /// ```
    /// use myriapod::Outgoing;
    /// use myriapod::protocol::{ByteOrder, LengthPrefix, PrefixWidth};
    ///
    /// let news = Outgoing::binary("text/plain", b"none".to_vec());
    /// let mut out = Vec::new();
    /// news.write_to(&mut LengthPrefix::new(PrefixWidth::Two, ByteOrder::Big), &mut out)?;
    /// assert_eq!(out, b"\0\x04none");
    /// # Ok::<(), myriapod::protocol::EncodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Framing::encode`]; `out` is as it was.
    pub fn write_to(
        &self,
        framing: &mut impl Framing,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.encode(framing, out)
    }

    /// Appends the whole message to `out`, which is as it was where that fails.
    pub(crate) fn encode(
        &self,
        framing: &mut dyn Writing,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let head = Head {
            byteorder: self.byteorder,
            content_type: &self.content_type,
            content_encoding: &self.content_encoding,
            extra: &self.extra,
        };
        framing.write_message(out, &head, &self.content)
    }
}
