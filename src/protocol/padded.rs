//! [`Padded`]: a length in 64 bytes padded with spaces, then text.

use super::error::Fault;
use super::frame::FrameKind;
use super::{DecodeLimits, Decoded, EncodeError, Frame, Framing, Head, Input, Mark, ProtocolError};

/// The 64-byte length header: decimal digits, then spaces; behind it as many
/// bytes of UTF-8 text.
///
/// Replies are bare text without a header, as this protocol's server sends them.
/// A message's type is `text/plain`, its encoding `utf-8`.
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
#[derive(Clone, Default, Debug)]
pub struct Padded {
    limits: DecodeLimits,
}

impl Padded {
    /// Bytes of the header.
    pub const HEADER_LEN: usize = 64;
    /// The text that ends a conversation, after its reply.
    pub const DISCONNECT: &str = "!DISCONNECT";
    /// The reply to every text.
    pub const RECEIVED: &str = "Msg received";

    /// Accepts texts of at most `max_content_len` bytes.
    #[must_use]
    pub const fn new(limits: DecodeLimits) -> Self {
        Self { limits }
    }

    fn look(&self, input: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        let Some((header, rest)) = input.split_first_chunk::<{ Self::HEADER_LEN }>() else {
            return Ok(Decoded::Incomplete { needed: Self::HEADER_LEN, in_content: false });
        };
        // A number beyond 64 bits is still decimal, and too long.
        let len = parse_length(header)
            .ok_or_else(|| ProtocolError::new(Fault::LengthNotDecimal))?
            .and_then(|len| u32::try_from(len).ok())
            .filter(|&len| len <= self.limits.content_len_in_32_bits())
            .ok_or_else(|| ProtocolError::new(Fault::TextTooLong))?;
        let Some(text) = rest.get(..len as usize) else {
            let needed = Self::HEADER_LEN + len as usize;
            return Ok(Decoded::Incomplete { needed, in_content: true });
        };
        if std::str::from_utf8(text).is_err() {
            return Err(ProtocolError::new(Fault::TextNotUtf8));
        }
        frame.set_bare(FrameKind::Padded, 64, len);
        Ok(Decoded::Message)
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
        Ok(Mark::bare(out.len()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        mark.content_len(out).map(drop)
    }

    fn error_reply(&mut self, out: &mut Vec<u8>, _: &str, text: &str) -> Result<(), EncodeError> {
        out.extend_from_slice(b"Error: ");
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The number in a header: `None` if it is not decimal, `Some(None)` if it is
/// over 64 bits.
fn parse_length(header: &[u8; Padded::HEADER_LEN]) -> Option<Option<u64>> {
    let digits = header.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, padding) = header.split_at(digits);
    let leading_zero = digits.len() > 1 && digits.first() == Some(&b'0');
    if digits.is_empty() || leading_zero || padding.iter().any(|&byte| byte != b' ') {
        return None;
    }
    Some(digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    }))
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
