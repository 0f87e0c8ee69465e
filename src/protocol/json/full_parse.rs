//! The full parse of a header, by `serde_json`: what it says, or what is wrong with it.
//!
//! Valid headers are left to [`scan`](super::scan), which costs a small part of this. This parse
//! reads what that one refuses, and it alone tells faults.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::header::REQUIRED;
use super::text::{Member, Members, first_byte, unescape, validate};
use super::write::write_json_string;
use crate::protocol::content::Encoding;
use crate::protocol::error::{Fault, ProtocolError};
use crate::protocol::frame::{ByteOrder, Frame, FrameKind, Layout, Span, Unescaped};
use crate::protocol::head::TEXT_JSON;

/// The commonest texts, as bytes of a header.
const JSON: &[u8] = TEXT_JSON.as_bytes();
const UTF_8: &[u8] = b"utf-8";

/// A header that has been read in full.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Parsed {
    /// All but the length of the content, which no limit has been asked about.
    pub(super) frame: Frame,
    pub(super) content_len: u64,
    /// Where the number is in the header.
    pub(super) digits: Range<usize>,
}

/// A string of a header: its place without the quotes.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub(super) start: usize,
    pub(super) end: usize,
    /// It holds a backslash.
    pub(super) escaped: bool,
}

impl Text {
    /// The place with the quotes.
    pub(super) fn quoted(self) -> Range<usize> {
        self.start - 1..self.end + 1
    }

    /// What it means.
    pub(super) fn unescaped(self, header: &[u8]) -> Cow<'_, str> {
        let quoted = header.get(self.quoted()).unwrap_or_default();
        unescape(std::str::from_utf8(quoted).unwrap_or_default(), self.escaped)
    }

    /// Within a header, so within 16 bits.
    fn span(self) -> Span {
        let small = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
        Span { start: small(self.start), len: small(self.end - self.start) }
    }
}

/// What the members of a valid header are, before it is looked into their texts.
pub(super) struct Meaning<'a> {
    pub(super) header: &'a [u8],
    pub(super) header_len: u16,
    pub(super) byteorder: ByteOrder,
    pub(super) content_type: Text,
    pub(super) content_encoding: Text,
    pub(super) digits: Range<usize>,
    pub(super) content_len: u64,
    /// We would write it so, but for escapes in the two texts.
    pub(super) is_ours: bool,
}

impl Parsed {
    #[inline]
    pub(super) fn new(meaning: Meaning<'_>) -> Self {
        let Meaning { header, content_type, content_encoding, .. } = meaning;
        let layout = Layout {
            content_type: content_type.span(),
            content_encoding: content_encoding.span(),
            header_len: meaning.header_len,
            byteorder: meaning.byteorder,
            kind: FrameKind::JsonHeader,
            json: header.get(content_type.start..content_type.end) == Some(JSON),
            utf8: header.get(content_encoding.start..content_encoding.end) == Some(UTF_8),
            canonical: meaning.is_ours,
            marks: 0,
        };
        let mut frame = Frame::with_header(layout, 2 + u32::from(meaning.header_len));
        if !frame.layout.utf8 || content_type.escaped {
            look_closer(&mut frame, header, content_type, content_encoding);
        }
        Self { frame, content_len: meaning.content_len, digits: meaning.digits }
    }
}

/// Completes the frame of a header with escapes in its texts, or with another encoding.
#[inline(never)]
fn look_closer(frame: &mut Frame, header: &[u8], content_type: Text, content_encoding: Text) {
    let encoding = content_encoding.unescaped(header);
    frame.layout.utf8 = Encoding::by_name(&encoding) == Some(Encoding::Utf8);
    if !content_type.escaped && !content_encoding.escaped {
        return;
    }
    let content_type_text = content_type.unescaped(header);
    frame.layout.json = content_type_text == TEXT_JSON;
    for (text, unescaped) in [(content_type, &content_type_text), (content_encoding, &encoding)] {
        let mut ours = Vec::new();
        write_json_string(&mut ours, unescaped);
        frame.layout.canonical &= header.get(text.quoted()) == Some(&ours);
    }
    frame.unescaped = Some(Arc::new(Unescaped {
        content_type: content_type_text.into(),
        content_encoding: encoding.into(),
    }));
}

/// The full parse, in the order in which faults are looked for.
#[cold]
#[inline(never)]
pub(super) fn parse(header: &[u8], header_len: u16) -> Result<Parsed, ProtocolError> {
    let header =
        std::str::from_utf8(header).map_err(|_| ProtocolError::new(Fault::HeaderNotUtf8))?;
    validate(header).map_err(|error| ProtocolError::because(Fault::HeaderNotJson, error))?;
    if first_byte(header.as_bytes()) != b'{' {
        return Err(ProtocolError::new(Fault::HeaderNotObject));
    }
    let [byteorder, content_type, content_encoding, content_length] = find_required(header)?;

    let order = string(header, &byteorder, REQUIRED[0])?;
    let byteorder = match &*order.unescaped(header.as_bytes()) {
        "little" => ByteOrder::Little,
        "big" => ByteOrder::Big,
        _ => return Err(ProtocolError::of_header(Fault::InvalidHeader, REQUIRED[0])),
    };
    let content_type = string(header, &content_type, REQUIRED[1])?;
    let content_encoding = string(header, &content_encoding, REQUIRED[2])?;
    let digits = content_length.value;
    let content_len = number(header, digits.clone())
        .ok_or_else(|| ProtocolError::of_header(Fault::InvalidHeader, REQUIRED[3]))?;
    let is_ours = is_ours(header, byteorder, content_type, content_encoding, digits.clone());
    Ok(Parsed::new(Meaning {
        header: header.as_bytes(),
        header_len,
        byteorder,
        content_type,
        content_encoding,
        digits,
        content_len,
        is_ours,
    }))
}

/// Whether a valid header is written as we would write it, but for escapes in two of its texts: the
/// four keys in their order, then the others, with our spaces.
fn is_ours(
    header: &str,
    byteorder: ByteOrder,
    content_type: Text,
    content_encoding: Text,
    digits: Range<usize>,
) -> bool {
    let mut ours = String::new();
    let piece = |place: Range<usize>| header.get(place).unwrap_or_default();
    for piece in [
        "{\"byteorder\": \"",
        byteorder.name(),
        "\", \"content-type\": ",
        piece(content_type.quoted()),
        ", \"content-encoding\": ",
        piece(content_encoding.quoted()),
        ", \"content-length\": ",
        piece(digits),
    ] {
        ours.push_str(piece);
    }
    if !header.starts_with(&ours) {
        return false;
    }
    for member in Members::of_object(header.as_bytes()).skip(REQUIRED.len()) {
        for piece in [", ", piece(member.key), ": ", piece(member.value)] {
            ours.push_str(piece);
        }
    }
    ours.push('}');
    ours == header
}

/// The four members that a header must have. No key may be there twice.
fn find_required(header: &str) -> Result<[Member; 4], ProtocolError> {
    let mut found = [const { None }; 4];
    let mut keys = BTreeSet::new();
    for member in Members::of_object(header.as_bytes()) {
        let quoted = header.get(member.key.clone()).unwrap_or_default();
        let key = unescape(quoted, member.key_escaped);
        if let Some(place) = REQUIRED.iter().position(|required| *required == key) {
            found[place] = Some(member);
        }
        if let Some(key) = keys.replace(key) {
            return Err(ProtocolError::of_header(Fault::DuplicateHeader, key.into_owned()));
        }
    }
    match found {
        [Some(byteorder), Some(content_type), Some(content_encoding), Some(content_length)] => {
            Ok([byteorder, content_type, content_encoding, content_length])
        }
        found => {
            let missing = found.iter().position(Option::is_none).unwrap_or_default();
            Err(ProtocolError::of_header(Fault::MissingHeader, REQUIRED[missing]))
        }
    }
}

/// The member's value, which must be a string.
pub(super) fn string(
    header: &str,
    member: &Member,
    key: &'static str,
) -> Result<Text, ProtocolError> {
    let Range { start, end } = member.value;
    if header.as_bytes().get(start) != Some(&b'"') {
        return Err(ProtocolError::of_header(Fault::InvalidHeader, key));
    }
    Ok(Text { start: start + 1, end: end - 1, escaped: member.value_escaped })
}

/// The number that `digits` are, if they are nothing but digits.
pub(super) fn number(header: &str, digits: Range<usize>) -> Option<u64> {
    let digits = header.get(digits)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}
