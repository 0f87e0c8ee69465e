//! [`Padded`]: a length in 64 bytes padded with spaces, then text.

use super::error::Fault;
use super::{DecodeLimits, Decoded, EncodeError, Frame, Framing, Head, Input, Mark, ProtocolError};

/// A decimal length of 64 bytes, padded with spaces; behind it as many bytes of UTF-8 text.
///
/// Replies are bare text without a header, as this protocol's server sends them.
/// A message's type is `text/plain`, its encoding `utf-8`.
///
/// Programs that grew out of this have another [width](Self::width), lengths written otherwise
/// ([lenient](Self::lenient)), replies with a length too ([`padded_replies`](Self::padded_replies)),
/// or contents that are no text ([`bytes`](Self::bytes)).
///
/// ```
/// use myriapod::protocol::{Decoder, Padded, encode_padded};
///
/// let mut wire = Vec::new();
/// encode_padded(&mut wire, "Hello World!")?;
/// let mut decoder = Decoder::new(Padded::default());
/// decoder.feed(&wire);
/// let message = decoder.next_message()?.expect("the message is whole");
/// assert_eq!(message.text()?, "Hello World!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A header of ten bytes, as another program writes it:
///
/// ```
/// use myriapod::protocol::{DecodeLimits, Decoder, Padded};
///
/// let framing = Padded::new(DecodeLimits::default()).width(10).lenient();
/// let mut decoder = Decoder::new(framing);
/// decoder.feed(b"0000000005hello         5hello");
/// for _ in 0..2 {
///     assert_eq!(decoder.next_message()?.expect("it is whole").text()?, "hello");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Padded {
    limits: DecodeLimits,
    width: u16,
    is_lenient: bool,
    has_padded_replies: bool,
    is_bytes: bool,
    is_client: bool,
}

impl Default for Padded {
    fn default() -> Self {
        Self::new(DecodeLimits::default())
    }
}

impl Padded {
    /// Bytes of the header, unless another [width](Self::width) is set.
    pub const HEADER_LEN: usize = 64;
    /// The widest header, in bytes.
    pub const MAX_WIDTH: u16 = 1024;
    /// The text that ends a conversation, after its reply.
    pub const DISCONNECT: &str = "!DISCONNECT";
    /// The reply to every text.
    pub const RECEIVED: &str = "Msg received";

    /// Accepts texts of at most `max_content_len` bytes.
    #[must_use]
    pub const fn new(limits: DecodeLimits) -> Self {
        Self {
            limits,
            width: 64,
            is_lenient: false,
            has_padded_replies: false,
            is_bytes: false,
            is_client: false,
        }
    }

    /// The same, with a header of so many bytes: 1 to [`MAX_WIDTH`](Self::MAX_WIDTH), or the
    /// nearest of these.
    #[must_use]
    pub fn width(mut self, bytes: u16) -> Self {
        self.width = bytes.clamp(1, Self::MAX_WIDTH);
        self
    }

    /// The same, but that a length may be written in any way that Python's `int()` takes, as far as
    /// that is ASCII: white space around it, a sign, zeros in front, single underscores between
    /// digits. A number below zero is refused.
    #[must_use]
    pub const fn lenient(mut self) -> Self {
        self.is_lenient = true;
        self
    }

    /// The same, but that replies have a header too.
    #[must_use]
    pub const fn padded_replies(mut self) -> Self {
        self.has_padded_replies = true;
        self
    }

    /// The same, with contents of any bytes: `application/octet-stream`, `binary`.
    #[must_use]
    pub const fn bytes(mut self) -> Self {
        self.is_bytes = true;
        self
    }

    /// The client's side: it writes a header in front of each message. Replies without one are
    /// read as they come, whatever has been received being a message.
    #[must_use]
    pub const fn for_client(mut self) -> Self {
        self.is_client = true;
        self
    }

    /// Whether what this side writes has a header.
    const fn writes_header(&self) -> bool {
        self.is_client || self.has_padded_replies
    }

    fn look(&self, input: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        if self.is_client && !self.has_padded_replies {
            let len = u32::try_from(input.len()).unwrap_or(u32::MAX);
            self.describe(0, len, frame);
            return Ok(Decoded::Message);
        }
        let width = usize::from(self.width);
        let Some((header, rest)) = input.split_at_checked(width) else {
            return Ok(Decoded::Incomplete { needed: width, in_content: false });
        };
        let len = if self.is_lenient { parse_python(header) } else { parse_length(header) };
        // A number beyond 64 bits is still decimal, and too long.
        let len = len
            .ok_or_else(|| ProtocolError::new(Fault::LengthNotDecimal))?
            .and_then(|len| u32::try_from(len).ok())
            .filter(|&len| len <= self.limits.content_len_in_32_bits())
            .ok_or_else(|| ProtocolError::new(Fault::TextTooLong))?;
        let Some(text) = rest.get(..len as usize) else {
            let needed = width + len as usize;
            return Ok(Decoded::Incomplete { needed, in_content: true });
        };
        if !self.is_bytes && std::str::from_utf8(text).is_err() {
            return Err(ProtocolError::new(Fault::TextNotUtf8));
        }
        self.describe(self.width, len, frame);
        Ok(Decoded::Message)
    }

    fn describe(&self, header_len: u16, len: u32, frame: &mut Frame) {
        if self.is_bytes {
            let start = usize::from(header_len);
            frame.set(start..start + len as usize, start + len as usize);
            frame.set_header_len(header_len);
        } else {
            frame.set_padded(header_len, len);
        }
    }
}

impl Framing for Padded {
    type Stream = ();

    fn set_limits(&mut self, limits: DecodeLimits) {
        self.limits = limits;
    }

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        self.look(input.bytes, frame)
    }

    fn predict(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> bool {
        self.look(input, frame) == Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        let headroom = if self.writes_header() { usize::from(self.width) } else { 0 };
        Ok(Mark::with_headroom(out, headroom))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        let len = mark.content_len(out)?;
        if !self.writes_header() {
            return Ok(());
        }
        let mut header = len.to_string().into_bytes();
        if header.len() > usize::from(self.width) {
            out.truncate(mark.start());
            return Err(EncodeError::ContentTooLong);
        }
        header.resize(usize::from(self.width), b' ');
        mark.write_header(out, &header)
    }

    fn error_reply(&mut self, out: &mut Vec<u8>, _: &str, text: &str) -> Result<(), EncodeError> {
        let head = Head::binary("text/plain");
        let mark = self.begin(out, &head)?;
        out.extend_from_slice(b"Error: ");
        out.extend_from_slice(text.as_bytes());
        self.finish(out, mark, &head)
    }
}

/// The number in a header: `None` if it is not decimal, `Some(None)` if it is
/// over 64 bits.
fn parse_length(header: &[u8]) -> Option<Option<u64>> {
    let digits = header.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, padding) = header.split_at(digits);
    let leading_zero = digits.len() > 1 && digits.first() == Some(&b'0');
    if digits.is_empty() || leading_zero || padding.iter().any(|&byte| byte != b' ') {
        return None;
    }
    Some(value_of(digits))
}

/// The same, for what Python's `int()` takes.
///
/// Source: <https://docs.python.org/3/library/functions.html#int>, and `str.isspace` for the white
/// space around it.
fn parse_python(header: &[u8]) -> Option<Option<u64>> {
    let is_space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ');
    let start = header.iter().position(|byte| !is_space(byte))?;
    let end = header.iter().rposition(|byte| !is_space(byte))? + 1;
    let (is_negative, digits) = match header.get(start..end)? {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let is_number = digits
        .split(|&byte| byte == b'_')
        .all(|group| !group.is_empty() && group.iter().all(u8::is_ascii_digit));
    let value = if is_number { value_of(digits) } else { return None };
    (!is_negative || value == Some(0)).then_some(value)
}

/// `None` if it is over 64 bits. Underscores do not count.
fn value_of(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .filter(|&&digit| digit != b'_')
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Appends one padded message, as a client sends it: the 64-byte header and the text.
///
/// # Errors
///
/// None today: every length of text has at most 20 digits.
///
/// ```
/// let mut wire = Vec::new();
/// myriapod::protocol::encode_padded(&mut wire, "café")?;
/// assert_eq!(wire.len(), 64 + 5);
/// assert!(wire.starts_with(b"5   "));
/// # Ok::<(), myriapod::protocol::EncodeError>(())
/// ```
pub fn encode_padded(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(text.len().to_string().as_bytes());
    out.resize(start + Padded::HEADER_LEN, b' ');
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_lenient_length_what_python_reads() {
        for text in
            ["5   ", " 5  ", "   5", "0005", "+5  ", "5\n  ", "5\t\r\n", "+0_5", "\x0b5\x1f"]
        {
            assert_eq!(parse_python(text.as_bytes()), Some(Some(5)), "{text:?}");
        }
        for text in ["-0", " -00 "] {
            assert_eq!(parse_python(text.as_bytes()), Some(Some(0)), "{text:?}");
        }
        for text in
            ["", "    ", "+", "-5", "+ 5", "5 5", "_5", "5_", "5__5", "5\0", "0x5", "5.0", "-_5"]
        {
            assert_eq!(parse_python(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_python(&[b'9'; 64]), Some(None));
    }
}
