//! [`Frame`]: where the parts of one message are, as ranges; [`ByteOrder`].

use std::ops::Range;
use std::sync::Arc;

use super::content::is_utf8;
use super::head::TEXT_JSON;

/// The `byteorder` header: how the sender stores integers of several bytes.
///
/// ```
/// use myriapod::protocol::ByteOrder;
///
/// assert_eq!(ByteOrder::Big.name(), "big");
/// assert_eq!(ByteOrder::NATIVE, ByteOrder::default());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ByteOrder {
    /// The least significant byte comes first.
    Little,
    /// The most significant byte comes first.
    Big,
}

impl ByteOrder {
    /// The order of the machine that this runs on.
    ///
    /// Always little in a simulated world, which is the same on any machine.
    pub const NATIVE: Self = match cfg!(all(target_endian = "big", not(myriapod_sim))) {
        true => Self::Big,
        false => Self::Little,
    };

    /// The name in the header: `little` or `big`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Big => "big",
        }
    }
}

impl Default for ByteOrder {
    fn default() -> Self {
        Self::NATIVE
    }
}

/// A piece of the header, counted from the header's first byte. A header has at
/// most 65,535 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u16,
    pub(super) len: u16,
}

/// The strings of a header that writes them with escapes.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Unescaped {
    pub(super) content_type: Box<str>,
    pub(super) content_encoding: Box<str>,
}

/// Which framing a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameKind {
    #[allow(dead_code, reason = "the framing with a JSON header is a feature")]
    JsonHeader,
    Padded,
    Raw,
    /// Any other: what its messages are is in the frame's [`Described`].
    Other,
}

/// What a header says, but for the length of the content. Aligned, so that two moves copy it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(8))]
pub(super) struct Layout {
    pub(super) content_type: Span,
    pub(super) content_encoding: Span,
    pub(super) header_len: u16,
    pub(super) byteorder: ByteOrder,
    pub(super) kind: FrameKind,
    /// `content-type` is exactly `text/json`.
    pub(super) json: bool,
    /// `content-encoding` is one of UTF-8's names.
    pub(super) utf8: bool,
    /// The header is, to the byte, what we would write for it.
    pub(super) canonical: bool,
    /// Bits: [`ANY_SPELLING`](Self::ANY_SPELLING), [`MAY_HAVE_ID`](Self::MAY_HAVE_ID).
    pub(super) marks: u8,
}

#[allow(dead_code, reason = "the framing with a JSON header is a feature")]
impl Layout {
    /// The four keys of the header may be missing, or spelled otherwise.
    pub(super) const ANY_SPELLING: u8 = 1;
    /// The header may have a key `id`, which a reply carries too.
    pub(super) const MAY_HAVE_ID: u8 = 1 << 1;

    pub(super) const fn any_spelling(&self) -> bool {
        self.marks & Self::ANY_SPELLING != 0
    }

    /// Of a framing without a JSON header.
    #[inline]
    const fn bare(kind: FrameKind) -> Self {
        Self {
            content_type: Span { start: 0, len: 0 },
            content_encoding: Span { start: 0, len: 0 },
            header_len: if matches!(kind, FrameKind::Padded) { 64 } else { 0 },
            byteorder: ByteOrder::NATIVE,
            kind,
            json: false,
            utf8: matches!(kind, FrameKind::Padded),
            canonical: false,
            marks: 0,
        }
    }
}

/// The type and the encoding of a content that nothing is known of.
pub(super) const OCTETS: &str = "application/octet-stream";
pub(super) const BINARY: &str = "binary";

/// A name that a framing gives to what it carries.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    Known(&'static str),
    /// It stands in the message.
    At(Part),
}

impl Default for Name {
    fn default() -> Self {
        Self::Known(BINARY)
    }
}

/// A piece of a message, counted from its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    start: u32,
    end: u32,
}

impl Part {
    fn new(range: &Range<usize>) -> Self {
        let position = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: position(range.start), end: position(range.end) }
    }

    pub(super) const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What a framing of the kind [`FrameKind::Other`] says of a message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Described {
    content_type: Name,
    content_encoding: Name,
    tag: u32,
    parts: Vec<Part>,
}

/// Where the parts of one message are: ranges, no references, so that it can be
/// kept while the buffer moves.
///
/// Filled in by [`Framing::decode`](super::Framing::decode);
/// [`Message::new`](super::Message::new) makes a view from it. A framing says with
/// [`set`](Self::set) where the message and its content end. What else it has found on
/// the way it may note, so that the handler need not parse it again:
///
/// ```
/// use myriapod::protocol::{Frame, Message};
///
/// // A command of two words on a line.
/// let line = b"GET key\r\n";
/// let mut frame = Frame::new();
/// frame.set(0..7, 9);
/// frame.set_content_type("text/plain");
/// frame.set_content_encoding("utf-8");
/// frame.push_part(0..3);
/// frame.push_part(4..7);
///
/// let message = Message::new(line, &frame);
/// assert_eq!(message.text()?, "GET key");
/// assert_eq!(message.part(1), Some(&b"key"[..]));
/// assert_eq!(message.bytes(), line);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All positions are in bytes, counted from the first byte of the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub(super) layout: Layout,
    /// Content starts here, counted from the first byte of the message.
    pub(super) content_start: u32,
    pub(super) content_len: u32,
    /// Bytes of the whole message. Content ends there, or before.
    len: u32,
    /// Shared, so that a predicted header with escapes allocates nothing.
    pub(super) unescaped: Option<Arc<Unescaped>>,
    /// Of no meaning but for [`FrameKind::Other`]. A box, which is used again, since most have none.
    described: Option<Box<Described>>,
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// Whether the header may have a key `id`.
    #[inline]
    pub(crate) const fn may_have_id(&self) -> bool {
        self.layout.marks & Layout::MAY_HAVE_ID != 0
    }

    #[allow(dead_code, reason = "the framing with a JSON header is a feature")]
    pub(super) const fn mark_id(&mut self, may_have_id: bool) {
        self.layout.marks |= if may_have_id { Layout::MAY_HAVE_ID } else { 0 };
    }

    /// Makes this the same as `other`, which is of a message with a JSON header: in place, since that
    /// is once for each message.
    #[allow(dead_code, reason = "the framing with a JSON header is a feature")]
    #[inline(always)]
    pub(super) fn set_header(&mut self, other: &Self) {
        self.layout = other.layout;
        self.content_start = other.content_start;
        self.content_len = other.content_len;
        self.len = other.len;
        // The strings need no count where there are none.
        if self.unescaped.is_some() || other.unescaped.is_some() {
            self.unescaped.clone_from(&other.unescaped);
        }
    }

    /// A frame of no message, to be filled in.
    #[must_use]
    pub const fn new() -> Self {
        Self::bare(FrameKind::Raw, 0, 0)
    }

    /// A frame with neither keys nor strings, for the framings without them.
    pub(super) const fn bare(kind: FrameKind, content_start: u32, content_len: u32) -> Self {
        Self {
            layout: Layout::bare(kind),
            content_start,
            content_len,
            len: content_start.saturating_add(content_len),
            unescaped: None,
            described: None,
        }
    }

    /// A frame of a message with a JSON header.
    #[allow(dead_code, reason = "the framing with a JSON header is a feature")]
    pub(super) const fn with_header(layout: Layout, content_start: u32) -> Self {
        Self {
            layout,
            content_start,
            content_len: 0,
            len: content_start,
            unescaped: None,
            described: None,
        }
    }

    /// The same as [`bare`](Self::bare), in place.
    #[inline]
    pub(super) fn set_bare(&mut self, kind: FrameKind, content_start: u32, content_len: u32) {
        self.layout = Layout::bare(kind);
        self.content_start = content_start;
        self.content_len = content_len;
        self.len = content_start.saturating_add(content_len);
        self.unescaped = None;
    }

    /// A text behind a decimal length of `header_len` bytes.
    pub(super) fn set_padded(&mut self, header_len: u16, content_len: u32) {
        self.set_bare(FrameKind::Padded, u32::from(header_len), content_len);
        self.layout.header_len = header_len;
    }

    /// So many bytes in front of the content are a header.
    pub(super) const fn set_header_len(&mut self, header_len: u16) {
        self.layout.header_len = header_len;
    }

    /// Content of another length, with nothing behind it.
    #[allow(dead_code, reason = "the framing with a JSON header is a feature")]
    #[inline]
    pub(super) fn set_content_len(&mut self, content_len: u32) {
        self.content_len = content_len;
        self.len = self.content_start.saturating_add(content_len);
    }

    /// A message of `len` bytes, of which `content` is the content. Whatever was noted
    /// before is forgotten, as [`clear`](Self::clear) does.
    ///
    /// The positions must fit 32 bits, as those of every allowed message do. A content that is not
    /// within the message is cut to what is.
    #[inline]
    pub fn set(&mut self, content: Range<usize>, len: usize) {
        self.clear();
        self.set_bounds(content, len);
    }

    /// Forgets whatever was noted: the content's type is `application/octet-stream`, its encoding
    /// `binary`, its byte order this machine's, the tag 0, and there are no parts.
    #[inline]
    pub fn clear(&mut self) {
        self.set_bare(FrameKind::Other, 0, 0);
        let described = self.described();
        described.content_type = Name::Known(OCTETS);
        described.content_encoding = Name::Known(BINARY);
        described.tag = 0;
        described.parts.clear();
    }

    /// As [`set`](Self::set), but keeps what was noted since [`clear`](Self::clear): for a framing
    /// that finds parts before it knows where the message ends.
    #[inline]
    pub fn set_bounds(&mut self, content: Range<usize>, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let Part { start, end } = Part::new(&content);
        let (start, end) = (start.min(len), end.min(len).max(start.min(len)));
        (self.content_start, self.content_len, self.len) = (start, end - start, len);
    }

    #[inline]
    fn described(&mut self) -> &mut Described {
        self.described.get_or_insert_default()
    }

    /// The type of the content is `name`.
    #[inline]
    pub fn set_content_type(&mut self, name: &'static str) {
        self.layout.json = name == TEXT_JSON;
        self.described().content_type = Name::Known(name);
    }

    /// The name of the content's type stands at `place` in the message, as UTF-8.
    /// `is_json` says whether it is `text/json`.
    pub fn set_content_type_at(&mut self, place: Range<usize>, is_json: bool) {
        self.layout.json = is_json;
        self.described().content_type = Name::At(Part::new(&place));
    }

    /// The character set of the content is `name`; `binary` if it is no text.
    #[inline]
    pub fn set_content_encoding(&mut self, name: &'static str) {
        self.layout.utf8 = name == "utf-8" || is_utf8(name);
        self.described().content_encoding = Name::Known(name);
    }

    /// The name of the content's character set stands at `place` in the message, as UTF-8.
    pub fn set_content_encoding_at(&mut self, place: Range<usize>) {
        self.layout.utf8 = false;
        self.described().content_encoding = Name::At(Part::new(&place));
    }

    /// Numbers in the content are stored in this order.
    #[inline]
    pub const fn set_byteorder(&mut self, byteorder: ByteOrder) {
        self.layout.byteorder = byteorder;
    }

    /// A number for the framing and its handler to agree on: an opcode, say.
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        self.described().tag = tag;
    }

    /// Notes a further piece of the message: a word, the value of a header.
    #[inline]
    pub fn push_part(&mut self, place: Range<usize>) {
        self.described().parts.push(Part::new(&place));
    }

    /// What is described, of a message of the kind that is.
    #[inline]
    fn description(&self) -> Option<&Described> {
        match self.layout.kind {
            FrameKind::Other => self.described.as_deref(),
            _ => None,
        }
    }

    pub(super) fn tag(&self) -> u32 {
        self.description().map_or(0, |described| described.tag)
    }

    pub(super) fn parts(&self) -> &[Part] {
        self.description().map_or(&[], |described| &described.parts)
    }

    /// The name of the content's type, of a message of the kind [`FrameKind::Other`].
    pub(super) fn described_type<'a>(&'a self, bytes: &'a [u8]) -> &'a str {
        self.description().map_or(OCTETS, |described| named(&described.content_type, bytes))
    }

    /// The name of its encoding.
    pub(super) fn described_encoding<'a>(&'a self, bytes: &'a [u8]) -> &'a str {
        self.description().map_or(BINARY, |described| named(&described.content_encoding, bytes))
    }

    /// The bytes of the whole message: prefix, header, content, and what stands behind it.
    ///
    /// ```
    /// use myriapod::protocol::{Framing, Raw};
    ///
    /// assert_eq!(Raw.find(b"abc")?.expect("a message").len(), 3);
    /// # Ok::<(), myriapod::protocol::ProtocolError>(())
    /// ```
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it is of no framing at all.
    pub(crate) const fn is_raw(&self) -> bool {
        matches!(self.layout.kind, FrameKind::Raw)
    }

    /// Whether the message has no bytes at all, which none has that was decoded.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of content.
    #[must_use]
    #[inline]
    pub const fn content_len(&self) -> usize {
        self.content_len as usize
    }
}

fn named<'a>(name: &'a Name, bytes: &'a [u8]) -> &'a str {
    match name {
        Name::Known(name) => name,
        Name::At(part) => {
            let name = bytes.get(part.range()).unwrap_or_default();
            std::str::from_utf8(name).unwrap_or_default()
        }
    }
}
