//! [`JsonHeader`]: two bytes of length, a JSON header, content.

use super::encoder::HeaderEncoder;
use super::full_parse::{Parsed, parse};
use super::prediction::Predictor;
use super::scan::Scanner;
use super::write::write_json_string;
use crate::protocol::error::{Fault, ProtocolError};
use crate::protocol::frame::Frame;
use crate::protocol::{
    DecodeLimits, Decoded, EncodeError, ExtraHeaders, Framing, Head, Input, Mark, Message,
};

/// Bytes of the header's length in front of it.
const PREFIX_LEN: usize = 2;

/// The keys that every header has, in the order in which they are checked and
/// written.
pub(super) const REQUIRED: [&str; 4] =
    ["byteorder", "content-type", "content-encoding", "content-length"];

/// Messages with a JSON header, and the headers seen lately, by which the next
/// are predicted.
///
/// A header is valid if it is a JSON object with no key twice, with `byteorder`
/// `"little"` or `"big"`, `content-type` and `content-encoding` strings, and
/// `content-length` an integer without sign, fraction or exponent. Further keys
/// are kept. Order, space and escapes are the sender's choice.
///
/// ```
/// use myriapod::protocol::{DecodeLimits, Fault, Framing, Head, JsonHeader, Message};
///
/// let mut framing = JsonHeader::new(DecodeLimits::default());
/// let mut wire = Vec::new();
/// let mark = framing.begin(&mut wire, &Head::json())?;
/// wire.extend_from_slice(b"[true]");
/// framing.finish(&mut wire, mark, &Head::json())?;
///
/// let frame = framing.find(&wire)?.expect("a whole message");
/// assert_eq!(frame.len(), wire.len());
/// assert_eq!(Message::new(&wire, &frame).content(), b"[true]");
///
/// // 4,097 bytes of header would be one too many.
/// assert_eq!(framing.find(b"\x10\x01").unwrap_err().kind(), Fault::HeaderTooLong);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct JsonHeader {
    max_header_len: usize,
    max_content_len: u32,
    predictor: Predictor,
    scanner: Scanner,
    encoder: HeaderEncoder,
    /// The further keys of error replies, kept for its capacity.
    error_keys: ExtraHeaders,
}

impl JsonHeader {
    /// A framing that has seen no header yet.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
        Self {
            max_header_len: limits.max_header_len,
            max_content_len: limits.content_len_in_32_bits(),
            predictor: Predictor::default(),
            scanner: Scanner::default(),
            encoder: HeaderEncoder::default(),
            error_keys: ExtraHeaders::new(),
        }
    }

    /// Decodes a message whose header is not the one that was seen last.
    #[cold]
    #[inline(never)]
    fn decode_unpredicted(
        &mut self,
        input: &[u8],
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let Some((&prefix, rest)) = input.split_first_chunk::<PREFIX_LEN>() else {
            return Ok(Decoded::Incomplete { needed: PREFIX_LEN, in_content: false });
        };
        let header_len = u16::from_be_bytes(prefix);
        if usize::from(header_len) > self.max_header_len {
            return Err(too_long(header_len));
        }
        let Some(header) = rest.get(..usize::from(header_len)) else {
            let needed = PREFIX_LEN + usize::from(header_len);
            return Ok(Decoded::Incomplete { needed, in_content: false });
        };
        if let Some((predicted, content_len)) = self.predictor.predict_by_another(input) {
            frame.set_header(predicted);
            return whole_or_incomplete(self.max_content_len, input, frame, content_len);
        }
        let parsed = match self.scanner.scan(header, header_len) {
            Some(parsed) => parsed,
            None => parse_fully(header, header_len)?,
        };
        // A length over 32 bits is over every limit.
        let content_len = u32::try_from(parsed.content_len).unwrap_or(u32::MAX);
        frame.set_header(&parsed.frame);
        frame.set_content_len(content_len);
        self.predictor.learn(header, parsed.digits, frame);
        whole_or_incomplete(self.max_content_len, input, frame, content_len)
    }

    /// Finds the whole message that `input` starts with, if its header is not the one that was seen
    /// last, and is valid.
    #[cold]
    #[inline(never)]
    fn predict_unseen(&mut self, input: &[u8], frame: &mut Frame) -> bool {
        let Some((&prefix, rest)) = input.split_first_chunk::<PREFIX_LEN>() else { return false };
        let header_len = u16::from_be_bytes(prefix);
        let Some(header) = rest.get(..usize::from(header_len)) else { return false };
        let is_whole = |content_len| {
            content_len <= self.max_content_len
                && (rest.len() - header.len()) as u64 >= u64::from(content_len)
        };
        if header.len() > self.max_header_len {
            return false;
        }
        if let Some((predicted, content_len)) = self.predictor.predict_by_another(input) {
            frame.set_header(predicted);
            frame.set_content_len(content_len);
            return is_whole(content_len);
        }
        let Some(parsed) = self.scanner.scan(header, header_len) else { return false };
        let Ok(content_len) = u32::try_from(parsed.content_len) else { return false };
        if !is_whole(content_len) {
            return false;
        }
        frame.set_header(&parsed.frame);
        frame.set_content_len(content_len);
        self.predictor.learn(header, parsed.digits, frame);
        true
    }
}

impl Default for JsonHeader {
    fn default() -> Self {
        Self::new(DecodeLimits::default())
    }
}

/// The longest `id` that a reply carries, in bytes of JSON text.
const MAX_ID_LEN: usize = 256;

/// Reads a header that the scanner leaves to others. A key `id` that is written with escapes is none.
fn parse_fully(header: &[u8], header_len: u16) -> Result<Parsed, ProtocolError> {
    let mut parsed = parse(header, header_len)?;
    parsed.frame.mark_id(memchr::memmem::find(header, b"\"id\"").is_some());
    Ok(parsed)
}

/// The message behind a valid header, if it is within the limit and is all there.
fn whole_or_incomplete(
    max_content_len: u32,
    input: &[u8],
    frame: &mut Frame,
    content_len: u32,
) -> Result<Decoded, ProtocolError> {
    if content_len > max_content_len {
        return Err(ProtocolError::new(Fault::ContentTooLong));
    }
    let needed = frame.content_start as usize + content_len as usize;
    if input.len() < needed {
        return Ok(Decoded::Incomplete { needed, in_content: true });
    }
    frame.set_content_len(content_len);
    Ok(Decoded::Message)
}

impl Framing for JsonHeader {
    type Stream = ();

    fn set_limits(&mut self, limits: DecodeLimits) {
        if limits.max_header_len < self.max_header_len {
            // One of those that were seen may be too long now.
            self.predictor = Predictor::default();
        }
        self.max_header_len = limits.max_header_len;
        self.max_content_len = limits.content_len_in_32_bits();
    }

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        match self.predictor.predict(input.bytes) {
            Some((predicted, content_len)) => {
                frame.set_header(predicted);
                whole_or_incomplete(self.max_content_len, input.bytes, frame, content_len)
            }
            None => self.decode_unpredicted(input.bytes, frame),
        }
    }

    // Once for each message: a call would cost a good part of what it does.
    #[inline(always)]
    fn predict(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> bool {
        match self.predictor.predict_whole(input) {
            Some(predicted) if predicted.content_len <= self.max_content_len => {
                frame.set_header(predicted);
                true
            }
            _ => self.predict_unseen(input, frame),
        }
    }

    fn announced(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> Option<u64> {
        if let Some((predicted, content_len)) = self.predictor.predict(input) {
            frame.set_header(predicted);
            frame.set_content_len(0);
            return Some(content_len.into());
        }
        let (&prefix, rest) = input.split_first_chunk::<PREFIX_LEN>()?;
        let header_len = u16::from_be_bytes(prefix);
        let header = rest.get(..usize::from(header_len))?;
        if header.len() > self.max_header_len {
            return None;
        }
        let parsed = self.scanner.scan(header, header_len);
        let parsed = parsed.or_else(|| parse_fully(header, header_len).ok())?;
        frame.set_header(&parsed.frame);
        if let Ok(content_len) = u32::try_from(parsed.content_len) {
            frame.set_content_len(content_len);
            self.predictor.learn(header, parsed.digits, frame);
        }
        frame.set_content_len(0);
        Some(parsed.content_len)
    }

    fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        self.encoder.write_head(out, head, content_len)
    }

    #[inline]
    fn would_write(&self, message: &Message<'_>) -> bool {
        message.is_canonical()
    }

    #[inline]
    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        self.encoder.begin(out, head)
    }

    #[inline]
    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        self.encoder.finish(out, mark, head)
    }

    fn id<'a>(&self, message: &Message<'a>) -> Option<&'a [u8]> {
        if !message.frame.may_have_id() {
            return None;
        }
        let value = message.raw_header("id")?;
        let is_scalar = !matches!(value.first(), Some(b'[' | b'{'));
        (is_scalar && value.len() <= MAX_ID_LEN).then_some(value)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        self.error_reply_to(out, kind, text, b"")
    }

    fn error_reply_to(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
        id: &[u8],
    ) -> Result<(), EncodeError> {
        self.error_keys.clear();
        if !id.is_empty() {
            self.error_keys.put_id(id);
        }
        self.error_keys.push("status", "error")?;
        self.error_keys.push("error", kind)?;
        let head = Head { extra: &self.error_keys, ..Head::json() };
        let mark = self.encoder.begin(out, &head)?;
        out.extend_from_slice(b"{\"result\": ");
        write_json_string(out, &format!("Error: {text}"));
        out.push(b'}');
        self.encoder.finish(out, mark, &head)
    }

    #[inline]
    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        self.encoder.encode(out, head, content)
    }
}

/// A header that is too long. The first bytes of TLS would be the length of one: then that is said.
#[cold]
fn too_long(header_len: u16) -> ProtocolError {
    let kind = Fault::HeaderTooLong;
    match header_len.to_be_bytes() {
        [22, 3] => ProtocolError::because(kind, "these bytes begin a handshake of TLS"),
        [21, 3] => ProtocolError::because(kind, "these bytes begin an alert of TLS"),
        _ => ProtocolError::new(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ByteOrder, Message, Raw, encode};

    fn wire(content_type: &str, content_len: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        encode(&mut wire, &Head::binary(content_type), &vec![b'x'; content_len]).unwrap();
        wire
    }

    /// All of them; under Miri, which is a thousand times slower, so many.
    fn first<T>(all: &[T], under_miri: usize) -> &[T] {
        if cfg!(miri) { &all[..under_miri] } else { all }
    }

    fn is_predicted(framing: &mut JsonHeader, wire: &[u8]) -> bool {
        framing.predictor.predict(wire).is_some()
            || framing.predictor.predict_by_another(wire).is_some()
    }

    #[test]
    fn is_a_header_known_to_be_as_we_would_write_it() {
        let canonical = |header: &str| {
            parse(header.as_bytes(), u16::try_from(header.len()).unwrap())
                .unwrap()
                .frame
                .layout
                .canonical
        };
        let ours = r#"{"byteorder": "big", "content-type": "a\n", "content-encoding": "é", "content-length": 12, "x": [1,2], "y": {}}"#;
        assert!(canonical(ours));
        for other in [
            ours.replace(": ", ":"),
            ours.replace("}}", "} }"),
            ours.replace("é", "\\u00e9"),
            ours.replace("\\n", "\\u000a"),
            ours.replace(", \"x\"", ",  \"x\""),
            ours.replace("{\"b", "{ \"b"),
        ] {
            assert!(!canonical(&other), "{other}");
        }
        let first = r#""byteorder": "big", "#;
        let moved = ours.replace(first, "").replace("}}", r#"}, "byteorder": "big"}"#);
        assert!(!canonical(&moved), "{moved}");
    }

    #[test]
    fn is_a_header_predicted_once_it_was_seen() {
        let mut framing = JsonHeader::default();
        assert!(!is_predicted(&mut framing, &wire("a", 10)));
        framing.find(&wire("a", 10)).unwrap();
        for len in [10, 42, 99] {
            assert!(is_predicted(&mut framing, &wire("a", len)), "{len}");
        }
        for len in [0, 9, 100] {
            assert!(!is_predicted(&mut framing, &wire("a", len)), "{len}");
        }
        assert!(!is_predicted(&mut framing, &wire("b", 10)));
    }

    #[test]
    fn does_a_prediction_say_what_a_full_look_says() {
        let mut framing =
            JsonHeader::new(DecodeLimits { max_content_len: 120, max_header_len: 4096 });
        let mut hits = 0;
        let mut check = |framing: &mut JsonHeader, input: &[u8]| {
            let mut frame = Frame::new();
            if framing.predict(&(), input, &mut frame) {
                hits += 1;
                assert!(frame.len() <= input.len());
                let mut fresh =
                    JsonHeader::new(DecodeLimits { max_content_len: 120, max_header_len: 4096 });
                assert_eq!(fresh.find(input), Ok(Some(frame)), "{input:?}");
                assert_eq!(framing.find(input), fresh.find(input));
            }
        };
        let escaped = br#"{"byteorder":"big","content-type":"text\/json","content-encoding":"utf-8","content-length":3}"#;
        let mut php = vec![0, u8::try_from(escaped.len()).unwrap()];
        php.extend_from_slice(escaped);
        php.extend_from_slice(b"123");
        let all = [wire("a", 42), php, wire("a", 100), wire("b", 5), wire("a", 0)];
        for learned in first(&all, 2) {
            // Under Miri: in the middle of the header, and around both of its ends.
            let header_end = 2 + usize::from(learned[1]);
            let told = |at: &usize| {
                !cfg!(miri) || *at < 3 || *at == 50 || (header_end - 4..header_end + 2).contains(at)
            };
            framing.find(learned).unwrap();
            for at in (0..=learned.len()).filter(told) {
                check(&mut framing, &learned[..at]);
            }
            framing.find(learned).unwrap();
            for len in first(&[0, 42, 9, 10, 121, 1, 41, 43, 99, 100, 101, 120, 500], 5) {
                check(&mut framing, &wire("a", *len));
                check(&mut framing, &[wire("a", *len), wire("b", *len)].concat());
                check(&mut framing, learned);
            }
            for at in (0..learned.len()).filter(told) {
                check(&mut framing, &learned[..at]);
                for byte in first(&[b'0', b'9', 0xff, b'1', b'"', b' ', b'}', 0], 3) {
                    let mut changed = learned.clone();
                    changed[at] = *byte;
                    check(&mut framing, &changed);
                    check(&mut framing, learned);
                }
            }
            check(&mut framing, &[learned, &b"x"[..]].concat());
            // JSON has no leading zeros.
            let mut zero = learned.clone();
            if let Some(at) = zero.windows(2).position(|digits| digits == b"42") {
                zero[at..at + 2].copy_from_slice(b"05");
                zero.truncate(zero.len() - 37);
                check(&mut framing, &zero);
                // What follows 9 in ASCII is no ten.
                let mut ten = [&learned[..], &[b'x'; 8]].concat();
                ten[at + 1] = b':';
                check(&mut framing, &ten);
            }
        }
        assert!(hits > if cfg!(miri) { 50 } else { 1000 }, "{hits}");
    }

    #[test]
    fn does_a_peer_with_ever_new_headers_push_out_one_in_use() {
        let mut framing = JsonHeader::default();
        framing.find(&wire("used", 10)).unwrap();
        framing.find(&wire("used", 10)).unwrap();
        for round in 0..if cfg!(miri) { 60 } else { 500 } {
            framing.find(&wire(&format!("new {round}"), 10)).unwrap();
            if round % 20 == 0 {
                assert!(is_predicted(&mut framing, &wire("used", 10)), "round {round}");
            }
        }
    }

    #[test]
    fn do_headers_that_never_repeat_push_out_one_in_use() {
        let with_id = |id: usize| {
            let mut extra = ExtraHeaders::new();
            extra.push("number", &id).unwrap();
            let mut wire = Vec::new();
            encode(&mut wire, &Head { extra: &extra, ..Head::json() }, b"[]").unwrap();
            wire
        };
        let mut framing = JsonHeader::default();
        let mut frame = Frame::new();
        // Before the other peer, and after it has taken every template that was free.
        for first in [1000, 0] {
            let used = wire(&format!("used {first}"), 10);
            (0..3).for_each(|_| assert!(framing.find(&used).is_ok()));
            assert!(is_predicted(&mut framing, &used), "{first}");
            for id in first..first + if cfg!(miri) { 50 } else { 3000 } {
                assert!(framing.predict(&(), &with_id(id), &mut frame), "a valid header");
            }
            assert!(is_predicted(&mut framing, &used), "{first}");
        }
    }

    #[test]
    fn is_the_id_of_a_header_found_each_time() {
        let with_id = |key: &str, len: usize| {
            let mut extra = ExtraHeaders::new();
            extra.push("x", &serde_json::json!({ key: 1 })).unwrap();
            extra.push(key, &7).unwrap();
            let mut wire = Vec::new();
            let head = Head { extra: &extra, ..Head::json() };
            encode(&mut wire, &head, &vec![b'1'; len]).unwrap();
            wire
        };
        let (mut framing, mut frame) = (JsonHeader::default(), Frame::new());
        for len in [10, 10, 20, 10, 300, 10] {
            let wire = with_id("id", len);
            for end in [wire.len(), wire.len() - 1, wire.len()] {
                let input = &wire[..end];
                framing.predict(&(), input, &mut frame);
                let found = framing.find(input).unwrap();
                assert_eq!(found.is_some(), end == wire.len(), "{len}");
                let Some(found) = found else { continue };
                let message = Message::new(input, &found);
                assert_eq!(framing.id(&message), Some(&b"7"[..]));
                assert_eq!((message.content().len(), message.header("id")), (len, Some(7.into())));
            }
            assert_eq!(framing.announced(&(), &wire, &mut frame), Some(len as u64));
            assert_eq!((frame.content_len(), frame.len()), (0, wire.len() - len));
        }
        let other = with_id("no", 10);
        assert_eq!(framing.announced(&(), &other, &mut frame), Some(10));
        assert!(framing.predict(&(), &other, &mut frame), "it was learnt");
        assert_eq!(framing.id(&Message::new(&other, &frame)), None);
    }

    #[test]
    fn do_headers_nobody_sends_any_more_give_way() {
        let mut framing = JsonHeader::default();
        for round in 0..100 {
            framing.find(&wire(&format!("old {}", round % 8), 10)).unwrap();
        }
        // Two that alternate must not keep each other out.
        for round in 0..50 {
            framing.find(&wire(&format!("now {}", round % 2), 10)).unwrap();
        }
        assert!(is_predicted(&mut framing, &wire("now 0", 10)));
        assert!(is_predicted(&mut framing, &wire("now 1", 10)));
    }

    #[test]
    fn do_headers_seen_once_give_way_at_once() {
        let mut framing = JsonHeader::default();
        for round in 0..100 {
            framing.find(&wire(&format!("once {round}"), 10)).unwrap();
        }
        for _ in 0..20 {
            framing.find(&wire("often", 10)).unwrap();
        }
        assert!(is_predicted(&mut framing, &wire("often", 10)));
    }

    #[test]
    fn is_the_error_reply_what_clients_expect() {
        let mut framing = JsonHeader::default();
        let mut out = b"before".to_vec();
        framing.error_reply(&mut out, "HeaderNotJson", "no \"JSON\"\n").unwrap();
        let reply = out.strip_prefix(b"before").unwrap();
        let order = ByteOrder::NATIVE.name();
        let header = format!(
            r#"{{"byteorder": "{order}", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 34, "status": "error", "error": "HeaderNotJson"}}"#
        );
        assert_eq!(reply.get(2..2 + header.len()), Some(header.as_bytes()));
        assert!(reply.ends_with(br#"{"result": "Error: no \"JSON\"\n"}"#));

        let Ok(Some(frame)) = framing.find(reply) else { panic!() };
        assert_eq!(frame.len(), reply.len());
        assert_eq!(Message::new(reply, &frame).json().unwrap()["result"], "Error: no \"JSON\"\n");
    }

    #[test]
    fn is_the_echo_of_bytes_without_framing_alone_a_copy() {
        let mut wire = Vec::new();
        encode(&mut wire, &Head::json(), b"1").unwrap();
        let Ok(Some(framed)) = JsonHeader::default().find(&wire) else { panic!() };
        let Ok(Some(bare)) = Raw.find(&wire) else { panic!() };
        assert!(Raw.would_write(&Message::new(&wire, &bare)));
        assert!(!Raw.would_write(&Message::new(&wire, &framed)));
    }
}
