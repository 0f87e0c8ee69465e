//! [`Outgoing`]: a message to be sent later or elsewhere than as an immediate reply.

#[cfg(feature = "json")]
mod json;

use crate::protocol::{ByteOrder, EncodeError, ExtraHeaders, Framing, Head};

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
    content_type: Box<str>,
    content_encoding: &'static str,
    extra: ExtraHeaders,
    content: Vec<u8>,
}

impl Outgoing {
    /// Bytes (`content-encoding` is `binary`).
    #[must_use]
    pub fn binary(content_type: &str, content: Vec<u8>) -> Self {
        Self {
            content_type: content_type.into(),
            content_encoding: "binary",
            extra: ExtraHeaders::new(),
            content,
        }
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
            byteorder: ByteOrder::NATIVE,
            content_type: &self.content_type,
            content_encoding: self.content_encoding,
            extra: &self.extra,
        };
        framing.encode(out, &head, &self.content)
    }
}
