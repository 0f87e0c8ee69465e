//! [`Message`]: a view of one message; [`OwnedMessage`]: the same with its bytes.

use std::borrow::Cow;

use super::content;
use super::error::{Fault, ProtocolError};
use super::frame::{BINARY, ByteOrder, Frame, FrameKind, OCTETS, Span};
use super::head::TEXT_JSON;

/// One message, borrowed from the buffer that it was received in.
///
/// The same for all framings: a message without a JSON header answers as if it
/// had one.
///
/// ```
/// use myriapod::protocol::{ByteOrder, Framing, JsonHeader, Message};
///
/// let wire = b"\x00\x6e{\"byteorder\": \"big\", \"content-type\": \"text/json\", \
///     \"content-encoding\": \"utf-8\", \"content-length\": 8, \"id\": [7]}[1, \"a\"]";
/// let frame = JsonHeader::default().find(wire)?.expect("a whole message");
/// let message = Message::new(wire, &frame);
/// assert!(message.is_json());
/// assert_eq!(message.byteorder(), ByteOrder::Big);
/// assert_eq!(message.header("id"), Some(serde_json::json!([7])));
/// assert_eq!(message.json_as::<(u8, String)>()?, (1, "a".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    pub(super) frame: &'a Frame,
    offset: u64,
}

macro_rules! read_numbers {
    ($($name:ident: $type:ident,)*) => {
        $(
            #[doc = concat!("Reads a `", stringify!($type), "` from the content at `offset`, in the sender's byte order.")]
            ///
            /// `None` if it does not lie within the content.
            #[must_use]
            pub fn $name(&self, offset: usize) -> Option<$type> {
                let bytes = self.content().get(offset..)?.first_chunk()?;
                Some(match self.frame.layout.byteorder {
                    ByteOrder::Little => $type::from_le_bytes(*bytes),
                    ByteOrder::Big => $type::from_be_bytes(*bytes),
                })
            }
        )*
    };
}

impl<'a> Message<'a> {
    /// The message that starts with `bytes`, of which `frame` was decoded. What
    /// stands behind the message is ignored.
    ///
    /// Given the bytes of another message, it shows the wrong parts of them;
    /// parts beyond their end are empty.
    #[must_use]
    #[inline]
    pub const fn new(bytes: &'a [u8], frame: &'a Frame) -> Self {
        Self { bytes, frame, offset: 0 }
    }

    /// The same message, known to start at `offset` of its stream: errors then
    /// say so.
    #[must_use]
    #[inline]
    pub const fn with_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Where the message starts in its stream; 0 if nobody has said so.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the whole message, prefix and header included.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes.get(..self.frame.len()).unwrap_or(self.bytes)
    }

    /// How the sender stores numbers. Of a message without a header: as this
    /// machine does.
    #[must_use]
    #[inline]
    pub const fn byteorder(&self) -> ByteOrder {
        self.frame.layout.byteorder
    }

    /// The `content-type`. Types are compared exactly.
    #[must_use]
    pub fn content_type(&self) -> &'a str {
        match (self.frame.layout.kind, &self.frame.unescaped) {
            (FrameKind::JsonHeader, None) if self.frame.layout.json => TEXT_JSON,
            (FrameKind::JsonHeader, None) => self.span(self.frame.layout.content_type),
            (FrameKind::JsonHeader, Some(unescaped)) => &unescaped.content_type,
            (FrameKind::Padded, _) => "text/plain",
            (FrameKind::Raw, _) => OCTETS,
            (FrameKind::Other, _) => self.frame.described_type(self.bytes),
        }
    }

    /// The `content-encoding`: the character set of text, or `binary`.
    #[must_use]
    pub fn content_encoding(&self) -> &'a str {
        match (self.frame.layout.kind, &self.frame.unescaped) {
            (FrameKind::JsonHeader, None) => self.span(self.frame.layout.content_encoding),
            (FrameKind::JsonHeader, Some(unescaped)) => &unescaped.content_encoding,
            (FrameKind::Padded, _) => "utf-8",
            (FrameKind::Raw, _) => BINARY,
            (FrameKind::Other, _) => self.frame.described_encoding(self.bytes),
        }
    }

    /// Which framing it came with.
    #[inline]
    pub(super) fn kind(&self) -> FrameKind {
        self.frame.layout.kind
    }

    /// Whether the message's bytes are what we would write for it: a JSON header in our order,
    /// with our spaces and escapes. Known from the header's prediction, so it costs nothing.
    #[must_use]
    #[inline]
    pub fn is_canonical(&self) -> bool {
        self.frame.layout.canonical
    }

    /// The content.
    #[must_use]
    #[inline]
    pub fn content(&self) -> &'a [u8] {
        let start = self.frame.content_start as usize;
        self.bytes.get(start..start + self.frame.content_len()).unwrap_or_default()
    }

    /// The number that the framing has [noted](Frame::set_tag): an opcode, say. 0 if it noted none.
    #[must_use]
    #[inline]
    pub fn tag(&self) -> u32 {
        self.frame.tag()
    }

    /// How many pieces of the message the framing has [noted](Frame::push_part).
    #[must_use]
    #[inline]
    pub fn part_count(&self) -> usize {
        self.frame.parts().len()
    }

    /// One of the pieces that the framing has [noted](Frame::push_part), from 0 on; empty where it is
    /// not within the message.
    #[must_use]
    #[inline]
    pub fn part(&self, index: usize) -> Option<&'a [u8]> {
        let part = self.frame.parts().get(index)?;
        Some(self.bytes().get(part.range()).unwrap_or_default())
    }

    /// All pieces that the framing has [noted](Frame::push_part), in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes();
        self.frame.parts().iter().map(move |part| bytes.get(part.range()).unwrap_or_default())
    }

    /// The bytes of the header as they came: a JSON object, the 64 bytes of a
    /// padded message, or nothing.
    #[must_use]
    #[inline]
    pub fn header_bytes(&self) -> &'a [u8] {
        let end = self.frame.content_start as usize;
        let start = end - self.frame.layout.header_len as usize;
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Whether `content-type` is exactly `text/json`.
    #[must_use]
    #[inline]
    pub const fn is_json(&self) -> bool {
        self.frame.layout.json
    }

    /// The content as text in its `content-encoding`, whatever its type. Borrowed
    /// where the encoding is UTF-8 or the bytes are ASCII.
    ///
    /// # Errors
    ///
    /// [`Fault::UnknownEncoding`] (`binary` is one), [`Fault::ContentNotText`].
    pub fn text(&self) -> Result<Cow<'a, str>, ProtocolError> {
        if self.frame.layout.utf8 {
            return self.utf8().map(Cow::Borrowed);
        }
        content::decode(self.content_encoding(), self.content(), self.byteorder()).map_err(
            |fault| {
                let error = if fault == Fault::UnknownEncoding {
                    ProtocolError::of_header(fault, "content-encoding")
                } else {
                    ProtocolError::new(fault)
                };
                error.with_offset(self.offset)
            },
        )
    }

    read_numbers! {
        read_u16: u16,
        read_u32: u32,
        read_u64: u64,
        read_i16: i16,
        read_i32: i32,
        read_i64: i64,
        read_f32: f32,
        read_f64: f64,
    }

    /// A copy that may outlive the buffer.
    #[must_use]
    pub fn to_owned(&self) -> OwnedMessage {
        OwnedMessage { bytes: self.bytes().into(), frame: self.frame.clone(), offset: self.offset }
    }

    fn span(&self, span: Span) -> &'a str {
        let start = usize::from(span.start);
        self.header_bytes()
            .get(start..start + usize::from(span.len))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    fn utf8(&self) -> Result<&'a str, ProtocolError> {
        std::str::from_utf8(self.content())
            .map_err(|_| ProtocolError::new(Fault::ContentNotText).with_offset(self.offset))
    }
}

/// A message with its own copy of its bytes, which may go to another thread.
///
/// ```
/// use myriapod::protocol::{Framing, Message, Raw};
///
/// let owned = {
///     let received = b"abc".to_vec();
///     let frame = Raw.find(&received)?.expect("a message");
///     Message::new(&received, &frame).to_owned()
/// };
/// assert_eq!(owned.as_message().content(), b"abc");
/// # Ok::<(), myriapod::protocol::ProtocolError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OwnedMessage {
    bytes: Box<[u8]>,
    frame: Frame,
    offset: u64,
}

impl OwnedMessage {
    /// The view that everything is read through.
    #[must_use]
    pub const fn as_message(&self) -> Message<'_> {
        Message { bytes: &self.bytes, frame: &self.frame, offset: self.offset }
    }
}
