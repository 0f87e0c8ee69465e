//! [`JsonStream`]: JSON values, one after another.

use memchr::memchr2;

use super::text::is_space;
use crate::protocol::error::{Fault, ProtocolError};
use crate::protocol::error_text::error_text;
use crate::protocol::head::TEXT_JSON;
use crate::protocol::{DecodeLimits, Decoded, EncodeError, Frame, Framing, Head, Input, Mark};

/// JSON values one after another, with or without white space between them.
///
/// An object, an array or a string ends where it is closed. A number, `true`, `false` or `null` ends
/// with white space, or with the stream. The framing finds the end of a value and does not validate
/// it: [`Message::json`](crate::Message::json) does, and a fault in there does not end the
/// connection. A byte that begins no value does (`NotJson`), and so does nesting beyond
/// [`MAX_DEPTH`](Self::MAX_DEPTH) (`NestedTooDeep`).
///
/// A message's type is `text/json`, its encoding `utf-8`. A message is written as its content and
/// `\n`; that its content is one JSON value is the handler's concern. An error reply is
/// `{"status": "error", "error": KIND, "result": "Error: TEXT"}`.
///
/// ```
/// use myriapod::protocol::{Decoder, JsonStream};
///
/// let mut decoder = Decoder::new(JsonStream::default());
/// decoder.feed(br#"{"a": "}"}[1, 2] 17"#);
/// decoder.finish();
/// let mut values = Vec::new();
/// while let Some(message) = decoder.next_message()? {
///     values.push(message.text()?.into_owned());
/// }
/// assert_eq!(values, [r#"{"a": "}"}"#, "[1, 2]", "17"]);
/// # Ok::<(), myriapod::ProtocolError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonStream {
    max_content_len: usize,
}

/// How far the value at the front of a stream was looked through.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct JsonScan {
    /// Bytes.
    at: usize,
    /// Objects and arrays that are open.
    depth: u8,
    within: Within,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Within {
    /// Nothing was seen of it yet.
    #[default]
    Nothing,
    /// An object or an array, outside of strings.
    Structure,
    Text,
    /// Text, behind a backslash.
    Escape,
    Scalar,
}

impl JsonScan {
    /// Goes on to the end of the value, which is returned, or of the bytes.
    fn go_on(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        while let Some(&byte) = bytes.get(self.at) {
            match self.within {
                Within::Nothing => {
                    self.within = match byte {
                        b'{' | b'[' => Within::Structure,
                        b'"' => {
                            self.at += 1;
                            Within::Text
                        }
                        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Within::Scalar,
                        _ => return Err(not_json()),
                    }
                }
                Within::Structure => {
                    self.at += 1;
                    match byte {
                        b'"' => self.within = Within::Text,
                        b'{' | b'[' if usize::from(self.depth) == JsonStream::MAX_DEPTH => {
                            return Err(ProtocolError::named(
                                "NestedTooDeep",
                                "the JSON value is nested too deep",
                            ));
                        }
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => {
                            self.depth = self.depth.saturating_sub(1);
                            if self.depth == 0 {
                                return Ok(Some(self.at));
                            }
                        }
                        _ => {}
                    }
                }
                Within::Text => {
                    let rest = bytes.get(self.at..).unwrap_or_default();
                    let Some(found) = memchr2(b'"', b'\\', rest) else {
                        self.at = bytes.len();
                        break;
                    };
                    self.at += found + 1;
                    if rest.get(found) == Some(&b'\\') {
                        self.within = Within::Escape;
                    } else if self.depth == 0 {
                        return Ok(Some(self.at));
                    } else {
                        self.within = Within::Structure;
                    }
                }
                Within::Escape => {
                    self.at += 1;
                    self.within = Within::Text;
                }
                Within::Scalar if is_space(byte) => return Ok(Some(self.at)),
                Within::Scalar if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => {
                    self.at += 1;
                }
                Within::Scalar => return Err(not_json()),
            }
        }
        Ok(None)
    }
}

#[cold]
fn not_json() -> ProtocolError {
    ProtocolError::named("NotJson", "the bytes are no JSON value")
}

impl JsonStream {
    /// The most objects and arrays that may be open at once: what `serde_json` reads.
    pub const MAX_DEPTH: usize = 127;

    /// Accepts values of at most `max_content_len` bytes.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
        Self { max_content_len: limits.content_len_in_32_bits() as usize }
    }

    fn found(&self, bytes: &[u8], end: usize, frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        if end > self.max_content_len {
            return Err(ProtocolError::new(Fault::ContentTooLong));
        }
        // The end of its line goes with it, if that is there: else it is skipped later.
        let line_end = match bytes.get(end..).unwrap_or_default() {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        frame.set(0..end, end + line_end);
        frame.set_content_type(TEXT_JSON);
        frame.set_content_encoding("utf-8");
        Ok(Decoded::Message)
    }
}

impl Default for JsonStream {
    fn default() -> Self {
        Self::new(DecodeLimits::default())
    }
}

impl Framing for JsonStream {
    type Stream = JsonScan;

    fn set_limits(&mut self, limits: DecodeLimits) {
        *self = Self::new(limits);
    }

    fn decode(
        &mut self,
        scan: &mut JsonScan,
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let bytes = &*input.bytes;
        if scan.at != input.scanned {
            *scan = JsonScan::default();
        }
        if scan.at == 0 {
            let space = bytes.iter().take_while(|&&byte| is_space(byte)).count();
            if space > 0 {
                return Ok(Decoded::Skip(space));
            }
        }
        let end = match scan.go_on(bytes)? {
            None if input.is_last && scan.within == Within::Scalar => Some(bytes.len()),
            end => end,
        };
        if let Some(end) = end {
            *scan = JsonScan::default();
            return self.found(bytes, end, frame);
        }
        if bytes.len() > self.max_content_len {
            return Err(ProtocolError::new(Fault::ContentTooLong));
        }
        Ok(Decoded::More { scanned: scan.at, in_content: true })
    }

    // Only for one that was not begun, and seems whole: what comes byte by byte must not be looked
    // through each time.
    fn predict(&mut self, scan: &JsonScan, input: &[u8], frame: &mut Frame) -> bool {
        let seems_whole = scan.at == 0
            && matches!(input, [b'{' | b'[', ..])
            && matches!(input, [.., b'}' | b']'] | [.., b'}' | b']', b'\n'] | [.., b'\r', b'\n']);
        if !seems_whole {
            return false;
        }
        match JsonScan::default().go_on(input) {
            Ok(Some(end)) => self.found(input, end, frame).is_ok(),
            _ => false,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::bare(out.len()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        mark.content_len(out)?;
        out.push(b'\n');
        Ok(())
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        self.encode(out, &Head::json(), error_text(kind, text).as_bytes())
    }
}
