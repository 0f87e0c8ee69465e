//! [`Frame`]: where the parts of one message are, as ranges; [`ByteOrder`].

use std::sync::Arc;

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
}

/// What a header says, but for the length of the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

/// Where the parts of one message are: ranges, no references, so that it can be
/// kept while the buffer moves.
///
/// Made by [`Framing::decode`](super::Framing::decode);
/// [`Message::new`](super::Message::new) makes a view from it.
#[derive(PartialEq, Eq, Debug)]
pub struct Frame {
    pub(super) layout: Layout,
    /// Content starts here, counted from the first byte of the message.
    pub(super) content_start: u32,
    pub(super) content_len: u32,
    /// Shared, so that a predicted header with escapes allocates nothing.
    pub(super) unescaped: Option<Arc<Unescaped>>,
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        self.with_content_len(self.content_len)
    }

    // In place, where the strings need no count: that is once for each message.
    #[inline]
    fn clone_from(&mut self, other: &Self) {
        self.layout = other.layout;
        self.content_start = other.content_start;
        self.content_len = other.content_len;
        if self.unescaped.is_some() || other.unescaped.is_some() {
            self.unescaped.clone_from(&other.unescaped);
        }
    }
}

impl Frame {
    /// A frame of no message.
    pub(crate) const NONE: Self = Self::bare(FrameKind::Raw, 0, 0);

    /// A frame with neither keys nor strings, for the framings without them.
    pub(super) const fn bare(kind: FrameKind, content_start: u32, content_len: u32) -> Self {
        let layout = Layout {
            content_type: Span { start: 0, len: 0 },
            content_encoding: Span { start: 0, len: 0 },
            header_len: if matches!(kind, FrameKind::Padded) { 64 } else { 0 },
            byteorder: ByteOrder::NATIVE,
            kind,
            json: false,
            utf8: matches!(kind, FrameKind::Padded),
            canonical: false,
        };
        Self { layout, content_start, content_len, unescaped: None }
    }

    /// The same frame around another length of content.
    #[inline]
    pub(super) fn with_content_len(&self, content_len: u32) -> Self {
        Self {
            layout: self.layout,
            content_start: self.content_start,
            content_len,
            unescaped: self.unescaped.clone(),
        }
    }

    /// The bytes of the whole message: prefix, header and content.
    ///
    /// ```
    /// use myriapod::protocol::{Decoded, Framing, Raw};
    ///
    /// let Ok(Decoded::Message(frame)) = Raw.decode(b"abc") else { panic!() };
    /// assert_eq!(frame.len(), 3);
    /// ```
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.content_start as usize + self.content_len as usize
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
