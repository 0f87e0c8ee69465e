//! [`Resp`]: the framing of Redis' replies, version 2 of its protocol.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use myriapod::protocol::{Decoded, Frame, ProtocolError};

use crate::bounds::MAX_PAYLOAD;

/// A simple string, an error, an integer or a string is a message of one part, an array one of as
/// many parts as it has items. The tag is the first byte.
#[derive(Debug, Default)]
pub(crate) struct Resp;

/// Bytes of a line.
const MAX_LINE: usize = 4096;

/// Items of an array. What is subscribed to brings three.
const MAX_ITEMS: usize = 16;

fn fault(text: &'static str) -> ProtocolError {
    ProtocolError::named("NotResp", text)
}

/// An item: its bytes, and where the next begins.
enum Item {
    Whole { start: usize, end: usize, next: usize },
    Needs(usize),
}

impl Resp {
    pub(crate) fn look(&self, bytes: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        let Some(kind) = bytes.first().copied() else { return Err(fault("nothing is there")) };
        frame.clear();
        frame.set_tag(u32::from(kind));
        if kind != b'*' {
            return Ok(match item(bytes, 0)? {
                Item::Whole { start, end, next } => {
                    frame.push_part(start..end);
                    frame.set_bounds(start..end, next);
                    Decoded::Message
                }
                Item::Needs(needed) => Decoded::Incomplete { needed, in_content: true },
            });
        }
        let Some((count, mut at)) = line(bytes, 1)? else { return Ok(unfinished(bytes)) };
        let count = number(bytes.get(1..count).unwrap_or_default())?;
        let count = usize::try_from(count).map_err(|_| fault("an array is missing"))?;
        if count == 0 || count > MAX_ITEMS {
            return Err(fault("an array has 1 to 16 items"));
        }
        for _ in 0..count {
            match item(bytes, at)? {
                Item::Whole { start, end, next } => {
                    frame.push_part(start..end);
                    at = next;
                }
                Item::Needs(needed) => return Ok(Decoded::Incomplete { needed, in_content: true }),
            }
        }
        frame.set_bounds(0..at, at);
        Ok(Decoded::Message)
    }
}

fn unfinished(bytes: &[u8]) -> Decoded {
    Decoded::Incomplete { needed: bytes.len() + 1, in_content: false }
}

/// The item that begins at `at`, which is no array.
fn item(bytes: &[u8], at: usize) -> Result<Item, ProtocolError> {
    let Some(kind) = bytes.get(at).copied() else { return Ok(Item::Needs(at + 1)) };
    let Some((end, next)) = line(bytes, at + 1)? else { return Ok(Item::Needs(bytes.len() + 1)) };
    match kind {
        b'+' | b'-' | b':' => Ok(Item::Whole { start: at + 1, end, next }),
        b'$' => {
            let len = number(bytes.get(at + 1..end).unwrap_or_default())?;
            if len == -1 {
                return Ok(Item::Whole { start: next, end: next, next });
            }
            let len = usize::try_from(len).map_err(|_| fault("a length is below zero"))?;
            if len > MAX_PAYLOAD {
                return Err(fault("a string is too long"));
            }
            let end = next + len;
            match bytes.get(end..end + 2) {
                None => Ok(Item::Needs(end + 2)),
                Some(b"\r\n") => Ok(Item::Whole { start: next, end, next: end + 2 }),
                Some(_) => Err(fault("a string has no end")),
            }
        }
        _ => Err(fault("no such type")),
    }
}

/// Where the line that begins at `at` ends, and where the next begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, ProtocolError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = rest.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        let is_too_long = rest.len() >= MAX_LINE;
        return if is_too_long { Err(fault("a line is too long")) } else { Ok(None) };
    };
    match end.checked_sub(1).map(|before| rest.get(before)) {
        Some(Some(b'\r')) => Ok(Some((at + end - 1, at + end + 1))),
        _ => Err(fault("a line ends with \\r\\n")),
    }
}

fn number(digits: &[u8]) -> Result<i64, ProtocolError> {
    let text = std::str::from_utf8(digits).map_err(|_| fault("a number is expected"))?;
    // Which also takes a plus.
    text.parse().map_err(|_| fault("a number is expected"))
}

#[cfg(test)]
mod tests {
    use myriapod::protocol::{Framing as _, Message};

    use super::*;
    use crate::dialect::Wire;

    fn parts(bytes: &[u8]) -> Option<(u8, Vec<String>, usize)> {
        let frame = Wire::Resp(Resp).find(bytes).unwrap()?;
        let message = Message::new(bytes, &frame);
        let parts = message.parts().map(|part| String::from_utf8_lossy(part).into_owned());
        Some((u8::try_from(message.tag()).unwrap(), parts.collect(), message.bytes().len()))
    }

    #[test]
    fn are_replies_found_in_any_pieces() {
        for (bytes, kind, expected) in [
            (&b"+OK\r\n"[..], b'+', &["OK"][..]),
            (b"-ERR no\r\n", b'-', &["ERR no"]),
            (b":12\r\n", b':', &["12"]),
            (b"$3\r\na\r\n\r\n", b'$', &["a\r\n"]),
            (b"$-1\r\n", b'$', &[""]),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", b'*', &["subscribe", "a", "1"]),
            (b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", b'*', &["unsubscribe", "", "0"]),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(parts(bytes), Some((kind, expected, bytes.len())));
            for cut in 1..bytes.len() {
                assert_eq!(parts(&bytes[..cut]), None, "{cut}");
            }
        }
    }

    #[test]
    fn is_what_is_no_reply_refused() {
        let long = [b"+".as_slice(), &[b'x'; MAX_LINE]].concat();
        for bytes in [
            &b"x\r\n"[..],
            b"+OK\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999\r\n",
            b"$1\r\nabc",
            b"*0\r\n",
            b"*-1\r\n",
            b"*17\r\n",
            b"*1\r\n*1\r\n",
            b"$99999999999999999999\r\n",
            &long,
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert!(Wire::Resp(Resp).find(bytes).is_err(), "{text:?}");
        }
    }
}
