//! [`Delimited`]: messages that end with certain bytes, such as lines.

use super::error::Fault;
use super::error_text::error_text;
use super::find::find;
use super::{DecodeLimits, Decoded, EncodeError, Frame, Framing, Head, Input, Mark, ProtocolError};

/// Messages that each end with a delimiter of one or more bytes, which no content may contain.
///
/// What stands behind the last delimiter when the stream ends is a message too. A message's type is
/// `text/plain` and its encoding `utf-8`, unless the framing is told what it
/// [carries](Self::carrying): the content itself is not looked at.
///
/// A message that is to be sent and contains the delimiter is
/// [`EncodeError::ContentHasDelimiter`]. An error reply is JSON text:
/// `{"status": "error", "error": KIND, "result": "Error: TEXT"}`.
///
/// ```
/// use myriapod::protocol::{Decoder, Delimited};
///
/// let mut decoder = Decoder::new(Delimited::lines());
/// decoder.feed(b"one\r\ntwo\nthr");
/// decoder.feed(b"ee");
/// decoder.finish();
/// let mut lines = Vec::new();
/// while let Some(line) = decoder.next_message()? {
///     lines.push(line.text()?.into_owned());
/// }
/// assert_eq!(lines, ["one", "two", "three"]);
/// # Ok::<(), myriapod::ProtocolError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delimited {
    delimiter: Box<[u8]>,
    /// A `\r` in front of the delimiter belongs to it.
    cuts_return: bool,
    max_content_len: usize,
    carries: (&'static str, &'static str),
}

impl Delimited {
    /// The longest delimiter, in bytes.
    pub const MAX_DELIMITER_LEN: usize = 64;

    /// `None` for a delimiter without a byte, or with more than
    /// [`MAX_DELIMITER_LEN`](Self::MAX_DELIMITER_LEN). Contents are limited to
    /// [`DecodeLimits::default`]; [`set_limits`](Framing::set_limits) changes that.
    #[must_use]
    pub fn new(delimiter: &[u8]) -> Option<Self> {
        let fits = (1..=Self::MAX_DELIMITER_LEN).contains(&delimiter.len());
        fits.then(|| Self {
            delimiter: delimiter.into(),
            cuts_return: false,
            max_content_len: DecodeLimits::default().max_content_len,
            carries: ("text/plain", "utf-8"),
        })
    }

    /// Lines that end with `\n` or `\r\n`. Those that are sent end with `\n`.
    #[must_use]
    pub fn lines() -> Self {
        Self {
            delimiter: Box::new([b'\n']),
            cuts_return: true,
            max_content_len: DecodeLimits::default().max_content_len,
            carries: ("text/plain", "utf-8"),
        }
    }

    /// The same, with contents of this type and encoding: `("text/json", "utf-8")`, say.
    #[must_use]
    pub fn carrying(mut self, content_type: &'static str, content_encoding: &'static str) -> Self {
        self.carries = (content_type, content_encoding);
        self
    }

    /// A message of `len` bytes with so many of content.
    fn found(
        &self,
        content_len: usize,
        len: usize,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        if content_len > self.max_content_len {
            return Err(ProtocolError::new(Fault::ContentTooLong));
        }
        frame.set(0..content_len, len);
        frame.set_content_type(self.carries.0);
        frame.set_content_encoding(self.carries.1);
        Ok(Decoded::Message)
    }

    fn look(
        &self,
        input: &[u8],
        scanned: usize,
        is_last: bool,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let rest = input.get(scanned..).unwrap_or_default();
        if let Some(at) = find(rest, &self.delimiter) {
            let at = scanned + at;
            let before = input.get(..at).unwrap_or_default();
            let content = match before {
                [content @ .., b'\r'] if self.cuts_return => content,
                content => content,
            };
            return self.found(content.len(), at + self.delimiter.len(), frame);
        }
        // What may still be a part of the delimiter, and no content.
        let open = self.delimiter.len() - 1 + usize::from(self.cuts_return);
        if input.len() > self.max_content_len.saturating_add(open) {
            return Err(ProtocolError::new(Fault::ContentTooLong));
        }
        if is_last {
            return self.found(input.len(), input.len(), frame);
        }
        let scanned = input.len().saturating_sub(self.delimiter.len() - 1);
        Ok(Decoded::More { scanned, in_content: true })
    }
}

impl Framing for Delimited {
    type Stream = ();

    fn set_limits(&mut self, limits: DecodeLimits) {
        self.max_content_len = limits.content_len_in_32_bits() as usize;
    }

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        self.look(input.bytes, input.scanned, input.is_last, frame)
    }

    // Only where the end is certain to be there: a line that comes byte by byte must not be looked
    // through each time.
    fn predict(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> bool {
        input.ends_with(&self.delimiter)
            && self.look(input, 0, false, frame) == Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::bare(out.len()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        let content_len = mark.content_len(out)?;
        out.extend_from_slice(&self.delimiter);
        // Behind the content, so that an end of it that begins a delimiter is noticed too.
        let written = out.get(mark.content_start()..).unwrap_or_default();
        if find(written, &self.delimiter) != Some(content_len) {
            out.truncate(mark.start());
            return Err(EncodeError::ContentHasDelimiter);
        }
        Ok(())
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        self.encode(out, &Head::binary("text/json"), error_text(kind, text).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_content_with_the_delimiter_refused() {
        let mut framing = Delimited::new(b"\r\n\r\n").unwrap();
        let head = Head::binary("x");
        let mut out = b"before".to_vec();
        // The last would end two bytes early: its own `\r\n` and the first half of the delimiter.
        for content in [&b"a\r\n\r\nb"[..], b"\r\n\r\n", b"a\r\n"] {
            let refused = framing.encode(&mut out, &head, content);
            assert!(matches!(refused, Err(EncodeError::ContentHasDelimiter)), "{content:?}");
            assert_eq!(out, b"before");
        }
        framing.encode(&mut out, &head, b"a\r\nb\n").unwrap();
        assert_eq!(out, b"beforea\r\nb\n\r\n\r\n");
    }

    #[test]
    fn does_a_delimiter_have_at_least_a_byte() {
        assert!(Delimited::new(b"").is_none());
        assert!(Delimited::new(&[b'x'; 65]).is_none());
        assert!(Delimited::new(&[b'x'; 64]).is_some());
    }
}
