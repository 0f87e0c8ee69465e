//! [`LengthPrefix`]: a binary length, then so many bytes.

use super::error::Fault;
use super::error_text::{error_text, short_error_text};
use super::frame::FrameKind;
use super::{
    ByteOrder, DecodeLimits, Decoded, EncodeError, Frame, Framing, Head, Input, Mark, Message,
    ProtocolError,
};

/// How many bytes a binary length has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PrefixWidth {
    /// One byte: up to 255.
    One,
    /// Two bytes: up to 65,535.
    Two,
    /// Four bytes.
    Four,
    /// Eight bytes.
    Eight,
}

impl PrefixWidth {
    /// The number of bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The number that so many bytes at the front of `input` are; `None` if they are not there.
    pub(super) fn read(self, input: &[u8], order: ByteOrder) -> Option<u64> {
        let mut number = [0; 8];
        let (bytes, width) = (input.get(..self.bytes())?, self.bytes());
        Some(match order {
            ByteOrder::Little => {
                number.get_mut(..width)?.copy_from_slice(bytes);
                u64::from_le_bytes(number)
            }
            ByteOrder::Big => {
                number.get_mut(8 - width..)?.copy_from_slice(bytes);
                u64::from_be_bytes(number)
            }
        })
    }

    /// The bytes of a number, in the first [`bytes`](Self::bytes) of the array; `None` if it needs
    /// more.
    pub(super) fn write(self, number: u64, order: ByteOrder) -> Option<[u8; 8]> {
        let bits = 8 * self.bytes();
        if bits < 64 && number >> bits > 0 {
            return None;
        }
        Some(match order {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => (number << (64 - bits)).to_be_bytes(),
        })
    }
}

/// A length of 1, 2, 4 or 8 bytes in either order, and behind it as many bytes of content.
///
/// The length counts the content alone, or [itself too](Self::inclusive). A message's type is
/// `application/octet-stream` and its encoding `binary`, unless the framing is told what it
/// [carries](Self::carrying).
///
/// An error reply is JSON text: `{"status": "error", "error": KIND, "result": "Error: TEXT"}`.
///
/// ```
/// use myriapod::protocol::{ByteOrder, Decoder, Framing, Head, LengthPrefix, PrefixWidth};
///
/// let mut framing = LengthPrefix::new(PrefixWidth::Four, ByteOrder::Big);
/// let mut wire = Vec::new();
/// framing.encode(&mut wire, &Head::binary("x"), b"hello")?;
/// assert_eq!(wire, b"\0\0\0\x05hello");
///
/// let mut decoder = Decoder::new(framing);
/// decoder.feed(&wire);
/// assert_eq!(decoder.next_message()?.expect("it is whole").content(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LengthPrefix {
    width: PrefixWidth,
    order: ByteOrder,
    is_inclusive: bool,
    max_content_len: u32,
    /// The type and the encoding of a content, where they are known.
    carries: Option<(&'static str, &'static str)>,
}

impl LengthPrefix {
    /// A length that counts the content alone. Contents are limited to
    /// [`DecodeLimits::default`]; [`set_limits`](Framing::set_limits) changes that.
    #[must_use]
    pub fn new(width: PrefixWidth, order: ByteOrder) -> Self {
        Self {
            width,
            order,
            is_inclusive: false,
            max_content_len: DecodeLimits::default().content_len_in_32_bits(),
            carries: None,
        }
    }

    /// The same, but that the length counts its own bytes too.
    #[must_use]
    pub const fn inclusive(mut self) -> Self {
        self.is_inclusive = true;
        self
    }

    /// The same, with contents of this type and encoding: `("text/json", "utf-8")`, say.
    #[must_use]
    pub const fn carrying(
        mut self,
        content_type: &'static str,
        content_encoding: &'static str,
    ) -> Self {
        self.carries = Some((content_type, content_encoding));
        self
    }

    /// What the length counts of itself.
    const fn own(&self) -> u64 {
        if self.is_inclusive { self.width.bytes() as u64 } else { 0 }
    }

    /// The bytes of the length of so much content.
    fn prefix(&self, content_len: usize) -> Option<[u8; 8]> {
        self.width.write((content_len as u64).checked_add(self.own())?, self.order)
    }

    fn look(&self, input: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        let width = self.width.bytes();
        let Some(len) = self.width.read(input, self.order) else {
            return Ok(Decoded::Incomplete { needed: width, in_content: false });
        };
        let len = len.checked_sub(self.own()).ok_or_else(|| {
            ProtocolError::named(
                "LengthTooShort",
                "the length counts itself, and is less than that",
            )
        })?;
        let len = u32::try_from(len)
            .ok()
            .filter(|&len| len <= self.max_content_len)
            .ok_or_else(|| ProtocolError::new(Fault::ContentTooLong))?;
        let end = width + len as usize;
        if input.len() < end {
            return Ok(Decoded::Incomplete { needed: end, in_content: true });
        }
        self.describe(len as usize, frame);
        Ok(Decoded::Message)
    }

    /// Makes `frame` describe a message with so many bytes of content.
    fn describe(&self, content_len: usize, frame: &mut Frame) {
        let width = self.width.bytes();
        frame.set(width..width + content_len, width + content_len);
        if let Some((content_type, content_encoding)) = self.carries {
            frame.set_content_type(content_type);
            frame.set_content_encoding(content_encoding);
        }
    }
}

impl Framing for LengthPrefix {
    type Stream = ();

    fn set_limits(&mut self, limits: DecodeLimits) {
        self.max_content_len = limits.content_len_in_32_bits();
    }

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        self.look(input.bytes, frame)
    }

    fn announced(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> Option<u64> {
        let len = self.width.read(input, self.order)?.checked_sub(self.own())?;
        self.describe(0, frame);
        Some(len)
    }

    fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        _: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        let len = content_len.checked_add(self.own());
        let prefix = len.and_then(|len| self.width.write(len, self.order));
        let prefix = prefix.ok_or(EncodeError::ContentTooLong)?;
        out.extend_from_slice(prefix.get(..self.width.bytes()).unwrap_or_default());
        Ok(())
    }

    fn predict(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> bool {
        self.look(input, frame) == Ok(Decoded::Message)
    }

    fn would_write(&self, message: &Message<'_>) -> bool {
        let (bytes, content, width) = (message.bytes(), message.content(), self.width.bytes());
        message.kind() == FrameKind::Other
            && bytes.len() == width + content.len()
            && self
                .prefix(content.len())
                .is_some_and(|prefix| bytes.get(..width) == prefix.get(..width))
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::with_headroom(out, self.width.bytes()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        let prefix = self.prefix(mark.content_len(out)?);
        match prefix.as_ref().and_then(|prefix| prefix.get(..self.width.bytes())) {
            Some(prefix) => mark.write_header(out, prefix),
            None => {
                out.truncate(mark.start());
                Err(EncodeError::ContentTooLong)
            }
        }
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        let head = Head::binary("text/json");
        self.encode(out, &head, error_text(kind, text).as_bytes())
            .or_else(|_| self.encode(out, &head, short_error_text(kind).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_content_refused_that_its_length_cannot_count() {
        let mut out = b"before".to_vec();
        let mut framing = LengthPrefix::new(PrefixWidth::One, ByteOrder::Big).inclusive();
        let head = Head::binary("x");
        assert!(framing.encode(&mut out, &head, &[7; 254]).is_ok());
        assert_eq!(out[6], 255);
        out.truncate(6);
        let refused = framing.encode(&mut out, &head, &[7; 255]);
        assert!(matches!(refused, Err(EncodeError::ContentTooLong)));
        assert_eq!(out, b"before");
        // An error reply leaves its text out then.
        framing.error_reply(&mut out, "Kind", &"long".repeat(100)).unwrap();
        assert!(out.ends_with(br#"{"status": "error", "error": "Kind"}"#));
    }

    #[test]
    fn are_lengths_written_as_they_are_read() {
        use PrefixWidth::{Eight, Four, One, Two};
        for width in [One, Two, Four, Eight] {
            for order in [ByteOrder::Little, ByteOrder::Big] {
                for number in [0, 1, 0x80, 0xff, 0x0102, 0x0102_0304, u64::MAX] {
                    let bits = 8 * width.bytes();
                    let written = width.write(number, order);
                    assert_eq!(written.is_some(), bits == 64 || number < 1 << bits);
                    if let Some(written) = written {
                        assert_eq!(width.read(&written, order), Some(number));
                    }
                }
            }
        }
    }
}
