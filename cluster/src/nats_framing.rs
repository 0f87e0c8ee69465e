//! [`NatsLines`]: the framing of what a NATS server sends.
//!
//! Source: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use myriapod::protocol::{Decoded, Frame, ProtocolError};

use crate::bounds::MAX_PAYLOAD;

/// A line is a message whose content it is, without its end. A `MSG` has parts: its subject and its
/// payload; its tag is [`NatsLines::MSG`].
#[derive(Debug, Default)]
pub(crate) struct NatsLines;

/// Bytes of a line. `INFO` names all servers of a NATS cluster.
const MAX_LINE: usize = 64 << 10;

fn fault(text: &'static str) -> ProtocolError {
    ProtocolError::named("NotNats", text)
}

impl NatsLines {
    pub(crate) const MSG: u32 = 1;

    pub(crate) fn look(
        &self,
        bytes: &[u8],
        scanned: usize,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let new = bytes.get(scanned..MAX_LINE.min(bytes.len())).unwrap_or_default();
        let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
            if bytes.len() >= MAX_LINE {
                return Err(fault("a line is too long"));
            }
            return Ok(Decoded::More { scanned: bytes.len(), in_content: false });
        };
        let next = scanned + end + 1;
        let line = bytes.get(..next - 1).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        frame.clear();
        let Some(rest) = line.get(..4).filter(|word| word.eq_ignore_ascii_case(b"MSG ")) else {
            frame.set_bounds(0..line.len(), next);
            return Ok(Decoded::Message);
        };
        // MSG <subject> <sid> [reply-to] <bytes>
        let mut words = words(line, rest.len());
        let (Some(subject), Some(_), Some(third)) = (words.next(), words.next(), words.next())
        else {
            return Err(fault("a MSG has a subject, a number and a length"));
        };
        let len = words.next().unwrap_or(third);
        let digits = line.get(len).and_then(|len| std::str::from_utf8(len).ok());
        let len: usize =
            digits.and_then(|len| len.parse().ok()).ok_or(fault("a length is expected"))?;
        if len > MAX_PAYLOAD {
            return Err(fault("a payload is too long"));
        }
        let end = next + len;
        match bytes.get(end..end + 2) {
            None => Ok(Decoded::Incomplete { needed: end + 2, in_content: true }),
            Some(b"\r\n") => {
                frame.set_tag(Self::MSG);
                frame.push_part(subject);
                frame.push_part(next..end);
                frame.set_bounds(next..end, end + 2);
                Ok(Decoded::Message)
            }
            Some(_) => Err(fault("a payload ends with \\r\\n")),
        }
    }
}

/// Where the words of a line are, from `at` on.
fn words(line: &[u8], at: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = at;
    let places =
        line.get(at..).unwrap_or_default().split(u8::is_ascii_whitespace).map(move |word| {
            let place = start..start + word.len();
            start = place.end + 1;
            place
        });
    places.filter(|place| !place.is_empty())
}

#[cfg(test)]
mod tests {
    use myriapod::protocol::{Framing as _, Message};

    use super::*;
    use crate::dialect::Wire;

    #[test]
    fn are_lines_and_messages_found_in_any_pieces() {
        for (bytes, content, subject) in [
            (&b"PING\r\n"[..], &b"PING"[..], None),
            (b"+OK\r\n", b"+OK", None),
            (b"INFO {\"a\": 1}\r\n", b"INFO {\"a\": 1}", None),
            (b"MSG a.b 9 3\r\nx\r\n\r\n", b"x\r\n", Some(&b"a.b"[..])),
            (b"msg  a\t1  reply 0\r\n\r\n", b"", Some(b"a")),
        ] {
            let mut wire = Wire::Nats(NatsLines);
            let frame = wire.find(bytes).unwrap().unwrap();
            let message = Message::new(bytes, &frame);
            assert_eq!((message.content(), message.part(0)), (content, subject));
            assert_eq!(message.bytes(), bytes);
            for cut in 1..bytes.len() {
                assert_eq!(wire.find(&bytes[..cut]), Ok(None), "{cut}");
            }
        }
    }

    #[test]
    fn is_what_is_no_message_refused() {
        let long = vec![b'x'; MAX_LINE];
        for bytes in [
            &b"MSG a 1\r\n"[..],
            b"MSG a 1 x\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 99999999\r\n",
            b"MSG a 1 1\r\nabc",
            &long,
        ] {
            assert!(
                Wire::Nats(NatsLines).find(bytes).is_err(),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
