//! [`Head`]: what is written in front of a content; [`Mark`]: where that is in a buffer.

use super::error::EncodeError;
use super::extra::{ExtraHeaders, NO_EXTRA};
use super::frame::ByteOrder;

/// The content type whose content is JSON text.
pub(super) const TEXT_JSON: &str = "text/json";

/// What a header says, but for the length of the content.
///
/// ```
/// use myriapod::protocol::Head;
///
/// let head = Head { content_encoding: "latin-1", ..Head::json() };
/// assert_eq!(head.content_type, "text/json");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// How numbers in the content are stored.
    pub byteorder: ByteOrder,
    /// The type of the content; `text/json` for JSON text.
    pub content_type: &'a str,
    /// The character set of text, or `binary`.
    pub content_encoding: &'a str,
    /// Further keys.
    pub extra: &'a ExtraHeaders,
}

impl<'a> Head<'a> {
    /// Bytes of some type, this machine's byte order, no further keys.
    #[must_use]
    #[inline]
    pub fn binary(content_type: &'a str) -> Self {
        Self {
            byteorder: ByteOrder::NATIVE,
            content_type,
            content_encoding: "binary",
            extra: &NO_EXTRA,
        }
    }
}

/// Where a message begins in a buffer, between
/// [`begin`](super::Framing::begin) and [`finish`](super::Framing::finish).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub(super) start: usize,
    pub(super) content: usize,
    /// Which template of the framing's stands in the headroom.
    pub(super) template: usize,
    pub(super) version: u32,
}

impl Mark {
    /// A mark without headroom.
    #[must_use]
    pub const fn bare(at: usize) -> Self {
        Self { start: at, content: at, template: usize::MAX, version: 0 }
    }

    /// A mark behind `headroom` bytes that are appended to `out`: room for a header whose length is
    /// not known yet.
    #[must_use]
    pub fn with_headroom(out: &mut Vec<u8>, headroom: usize) -> Self {
        let start = out.len();
        out.resize(start + headroom, 0);
        Self { content: start + headroom, ..Self::bare(start) }
    }

    /// Puts `header` in the place of the headroom, right in front of the content, which is moved if
    /// the two differ in length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::MarkLost`] if the buffer ends before the content.
    ///
    /// ```
    /// use myriapod::protocol::Mark;
    ///
    /// let mut out = b"before ".to_vec();
    /// let mark = Mark::with_headroom(&mut out, 2);
    /// out.extend_from_slice(b"content");
    /// mark.write_header(&mut out, b"header ")?;
    /// assert_eq!(out, b"before header content");
    /// # Ok::<(), myriapod::protocol::EncodeError>(())
    /// ```
    pub fn write_header(self, out: &mut Vec<u8>, header: &[u8]) -> Result<(), EncodeError> {
        self.content_len(out)?;
        let room = self.start..self.content;
        if room.len() == header.len()
            && let Some(room) = out.get_mut(room.clone())
        {
            room.copy_from_slice(header);
        } else {
            out.splice(room, header.iter().copied());
        }
        Ok(())
    }

    /// The buffer's length before `begin`: cutting it back to this undoes the message.
    #[must_use]
    #[inline]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Where the content starts in the buffer.
    #[must_use]
    #[inline]
    pub const fn content_start(&self) -> usize {
        self.content
    }

    /// The bytes of content so far.
    ///
    /// # Errors
    ///
    /// [`EncodeError::MarkLost`] if the buffer ends before it.
    #[inline]
    pub fn content_len(&self, out: &[u8]) -> Result<usize, EncodeError> {
        out.len().checked_sub(self.content).ok_or(EncodeError::MarkLost)
    }
}
