//! [`JsonHeaderDialect`]: messages with a JSON header that other programs write otherwise.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::encoder::write_header;
use super::full_parse::{number, string};
use super::header::REQUIRED;
use super::text::{Members, first_byte, unescape, validate};
use crate::protocol::content::Encoding;
use crate::protocol::error::{Fault, ProtocolError};
use crate::protocol::error_text::error_text;
use crate::protocol::frame::{ByteOrder, Frame, FrameKind, Layout, Span, Unescaped};
use crate::protocol::head::TEXT_JSON;
use crate::protocol::{
    DecodeLimits, Decoded, EncodeError, ExtraHeaders, Framing, Head, Input, Mark, PrefixWidth,
};

/// The room that is left for a header, in bytes: most have about so many.
const HEADROOM: usize = 112;

/// As [`JsonHeader`](super::JsonHeader), for peers that do not quite speak it.
///
/// A [lenient](Self::lenient) one requires `content-length` alone; in its keys letter case does not
/// count, and `_` is `-`. A header without `content-type` is of `text/json`, one without
/// `content-encoding` of `utf-8`, and one without `byteorder` of this machine's. What is not missing
/// must be valid, and no key may be there twice, however it is spelled. The header's length may have
/// four bytes instead of two, in [either order](Self::prefix).
///
/// What it writes has that prefix too, and behind it the header of `JsonHeader`, with all four keys.
/// It costs several times what `JsonHeader` does: each header is parsed.
///
/// ```
/// use myriapod::protocol::{DecodeLimits, Decoder, JsonHeaderDialect};
///
/// let mut decoder = Decoder::new(JsonHeaderDialect::lenient(DecodeLimits::default()));
/// decoder.feed(b"\0\x15{\"Content_Length\": 2}[]");
/// let message = decoder.next_message()?.expect("it is whole");
/// assert_eq!(message.content(), b"[]");
/// assert_eq!(message.header("content-length"), Some(2.into()));
/// assert_eq!(message.content_type(), "text/json");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct JsonHeaderDialect {
    limits: DecodeLimits,
    prefix: PrefixWidth,
    order: ByteOrder,
    required: [bool; REQUIRED.len()],
    is_lenient: bool,
    scratch: Vec<u8>,
}

impl JsonHeaderDialect {
    /// The rules of [`JsonHeader`](super::JsonHeader), to be changed one by one.
    #[must_use]
    pub const fn strict(limits: DecodeLimits) -> Self {
        Self {
            limits,
            prefix: PrefixWidth::Two,
            order: ByteOrder::Big,
            required: [true; REQUIRED.len()],
            is_lenient: false,
            scratch: Vec::new(),
        }
    }

    /// The rules that most other programs keep.
    #[must_use]
    pub fn lenient(limits: DecodeLimits) -> Self {
        let strict = Self::strict(limits);
        Self { required: [false, false, false, true], is_lenient: true, ..strict }
    }

    /// The same, with a header's length of so many bytes in this order. No header is longer than
    /// 65,535 bytes all the same.
    #[must_use]
    pub const fn prefix(mut self, width: PrefixWidth, order: ByteOrder) -> Self {
        self.prefix = width;
        self.order = order;
        self
    }

    /// The same, but that of the four keys these must be there, and `content-length`.
    #[must_use]
    pub fn requiring(mut self, keys: &[&str]) -> Self {
        for (is_required, key) in self.required.iter_mut().zip(REQUIRED).take(3) {
            *is_required = keys.contains(&key);
        }
        self
    }

    fn look(&self, input: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        let width = self.prefix.bytes();
        let Some(header_len) = self.prefix.read(input, self.order) else {
            return Ok(Decoded::Incomplete { needed: width, in_content: false });
        };
        let header_len = u16::try_from(header_len)
            .ok()
            .filter(|&len| usize::from(len) <= self.limits.max_header_len)
            .ok_or_else(|| ProtocolError::new(Fault::HeaderTooLong))?;
        let start = width + usize::from(header_len);
        let Some(header) = input.get(width..start) else {
            return Ok(Decoded::Incomplete { needed: start, in_content: false });
        };
        let (found, content_len) = self.parse(header, header_len, start)?;
        let content_len = u32::try_from(content_len)
            .ok()
            .filter(|&len| len <= self.limits.content_len_in_32_bits())
            .ok_or_else(|| ProtocolError::new(Fault::ContentTooLong))?;
        let needed = start + content_len as usize;
        if input.len() < needed {
            return Ok(Decoded::Incomplete { needed, in_content: true });
        }
        frame.set_header(&found);
        frame.set_content_len(content_len);
        Ok(Decoded::Message)
    }

    /// In the order in which faults are looked for.
    fn parse(
        &self,
        header: &[u8],
        header_len: u16,
        content_start: usize,
    ) -> Result<(Frame, u64), ProtocolError> {
        let header =
            std::str::from_utf8(header).map_err(|_| ProtocolError::new(Fault::HeaderNotUtf8))?;
        validate(header).map_err(|error| ProtocolError::because(Fault::HeaderNotJson, error))?;
        if first_byte(header.as_bytes()) != b'{' {
            return Err(ProtocolError::new(Fault::HeaderNotObject));
        }
        let mut found = [const { None }; REQUIRED.len()];
        let mut keys = BTreeSet::new();
        for member in Members::of_object(header.as_bytes()) {
            let quoted = header.get(member.key.clone()).unwrap_or_default();
            let mut key = unescape(quoted, member.key_escaped);
            if self.is_lenient {
                key = Cow::Owned(usual_spelling(&key));
            }
            if let Some(place) = REQUIRED.iter().position(|required| *required == key) {
                found[place] = Some(member);
            }
            if let Some(key) = keys.replace(key) {
                return Err(ProtocolError::of_header(Fault::DuplicateHeader, key.into_owned()));
            }
        }
        let missing = found
            .iter()
            .zip(self.required)
            .position(|(found, is_required)| is_required && found.is_none());
        if let Some(missing) = missing {
            return Err(ProtocolError::of_header(Fault::MissingHeader, REQUIRED[missing]));
        }
        let text = |place: usize| -> Result<Option<Cow<'_, str>>, ProtocolError> {
            let Some(member) = &found[place] else { return Ok(None) };
            let text = string(header, member, REQUIRED[place])?;
            Ok(Some(text.unescaped(header.as_bytes())))
        };
        let byteorder = match text(0)?.as_deref() {
            None => ByteOrder::NATIVE,
            Some("little") => ByteOrder::Little,
            Some("big") => ByteOrder::Big,
            Some(_) => return Err(ProtocolError::of_header(Fault::InvalidHeader, REQUIRED[0])),
        };
        let content_type = text(1)?.unwrap_or(Cow::Borrowed(TEXT_JSON));
        let content_encoding = text(2)?.unwrap_or(Cow::Borrowed("utf-8"));
        let digits = found[3].take().map(|member| member.value).unwrap_or_default();
        let content_len = number(header, digits)
            .ok_or_else(|| ProtocolError::of_header(Fault::InvalidHeader, REQUIRED[3]))?;
        let layout = Layout {
            content_type: Span::default(),
            content_encoding: Span::default(),
            header_len,
            byteorder,
            kind: FrameKind::JsonHeader,
            json: content_type == TEXT_JSON,
            utf8: Encoding::by_name(&content_encoding) == Some(Encoding::Utf8),
            canonical: false,
            marks: if self.is_lenient { Layout::ANY_SPELLING } else { 0 },
        };
        let mut frame =
            Frame::with_header(layout, u32::try_from(content_start).unwrap_or(u32::MAX));
        frame.unescaped = Some(Arc::new(Unescaped {
            content_type: content_type.into(),
            content_encoding: content_encoding.into(),
        }));
        Ok((frame, content_len))
    }
}

/// A key as the four are written: in small letters, with `-` for `_`.
pub(super) fn usual_spelling(key: &str) -> String {
    key.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

impl Framing for JsonHeaderDialect {
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

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::with_headroom(out, HEADROOM))
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        let content_len = mark.content_len(out)?;
        let width = self.prefix.bytes();
        // The header is written behind two bytes; so many stand in front of those that are sent.
        let spare = width.saturating_sub(2);
        self.scratch.clear();
        self.scratch.resize(spare, 0);
        let written = write_header(&mut self.scratch, head, content_len);
        let header_len = (self.scratch.len() - spare).saturating_sub(2);
        let prefix = self.prefix.write(header_len as u64, self.order);
        let (Ok(_), Some(prefix)) = (written, prefix) else {
            out.truncate(mark.start());
            return Err(EncodeError::HeaderTooLong);
        };
        let surplus = (spare + 2).saturating_sub(width);
        let header = self.scratch.get_mut(surplus..).unwrap_or_default();
        for (to, from) in header.iter_mut().zip(prefix).take(width) {
            *to = from;
        }
        mark.write_header(out, header)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        let mut extra = ExtraHeaders::new();
        extra.push("status", "error")?;
        extra.push("error", kind)?;
        let head = Head { extra: &extra, ..Head::json() };
        self.encode(out, &head, error_text(kind, text).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, JsonHeader, Message};

    #[test]
    fn is_what_a_dialect_writes_the_strict_header_behind_its_prefix() {
        let mut extra = ExtraHeaders::new();
        extra.push("id", &7).unwrap();
        let head = Head { extra: &extra, ..Head::json() };
        let mut strict = Vec::new();
        JsonHeader::default().encode(&mut strict, &head, b"[1]").unwrap();
        let len = strict[1];
        for (width, order, prefix) in [
            (PrefixWidth::Two, ByteOrder::Big, &[0, len][..]),
            (PrefixWidth::Two, ByteOrder::Little, &[len, 0]),
            (PrefixWidth::Four, ByteOrder::Big, &[0, 0, 0, len]),
            (PrefixWidth::Four, ByteOrder::Little, &[len, 0, 0, 0]),
            (PrefixWidth::One, ByteOrder::Big, &[len]),
        ] {
            let limits = DecodeLimits::default();
            let mut framing = JsonHeaderDialect::strict(limits).prefix(width, order);
            let mut wire = Vec::new();
            framing.encode(&mut wire, &head, b"[1]").unwrap();
            assert_eq!(wire, [prefix, &strict[2..]].concat());
            let frame = framing.find(&wire).unwrap().unwrap();
            let message = Message::new(&wire, &frame);
            assert_eq!((message.content(), message.is_json()), (&b"[1]"[..], true));
            assert_eq!(message.header("id"), Some(7.into()));
        }
    }

    #[test]
    fn is_a_reply_with_a_spelling_of_its_own_written_once() {
        let mut decoder = Decoder::new(JsonHeaderDialect::lenient(DecodeLimits::default()));
        decoder.feed(b"\0\x20{\"Content_Length\":1,\"Other\":[1]}7");
        let message = decoder.next_message().unwrap().unwrap();
        assert_eq!(message.headers().len(), 5);
        let mut extra = ExtraHeaders::new();
        extra.push_raw_from(&message).unwrap();
        assert_eq!(extra.encoded(), br#", "Other": [1]"#);
    }
}
