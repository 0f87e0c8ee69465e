//! Writing messages with a JSON header: headers from templates.

use std::ops::Range;

use serde::Serialize;

use super::write::{write_json, write_json_string};
use crate::protocol::error::EncodeError;
use crate::protocol::frame::ByteOrder;
use crate::protocol::head::{Head, Mark, TEXT_JSON};

impl Head<'_> {
    /// JSON text in UTF-8, this machine's byte order, no further keys.
    #[must_use]
    #[inline]
    pub fn json() -> Self {
        Self { content_encoding: "utf-8", ..Self::binary(TEXT_JSON) }
    }
}

impl Default for Head<'_> {
    /// [`Head::json`].
    fn default() -> Self {
        Self::json()
    }
}

/// Templates kept by one loop; a power of two, so that an index needs no check.
const TEMPLATES: usize = 4;
/// The length of content that is guessed before any is known: two digits.
const FIRST_GUESS: usize = 10;

/// The headers written lately: the next are mostly the same but for the digits of
/// `content-length`.
#[derive(Clone, Default, Debug)]
pub(super) struct HeaderEncoder {
    templates: [Template; TEMPLATES],
    /// The one used last.
    latest: usize,
    /// The one replaced next.
    next: usize,
    /// Counts the templates made, so that a mark can tell its own.
    version: u32,
    /// A header that is not yet known to be short enough.
    scratch: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Template {
    byteorder: ByteOrder,
    content_type: String,
    content_encoding: String,
    extra: Vec<u8>,
    /// Prefix and header, with the digits of some length.
    bytes: Vec<u8>,
    digits: Range<usize>,
    /// The shortest and longest content with so many digits. In a template that is
    /// none, `bytes` is empty and no length is between them.
    shortest: usize,
    longest: usize,
    version: u32,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            byteorder: ByteOrder::NATIVE,
            content_type: String::new(),
            content_encoding: String::new(),
            extra: Vec::new(),
            bytes: Vec::new(),
            digits: 0..0,
            shortest: usize::MAX,
            longest: 0,
            version: 0,
        }
    }
}

impl Template {
    #[inline]
    fn has_lens_of(&self, head: &Head<'_>) -> bool {
        self.content_type.len() == head.content_type.len()
            && self.content_encoding.len() == head.content_encoding.len()
            && self.extra.len() == head.extra.encoded().len()
    }

    #[inline]
    fn is_of(&self, head: &Head<'_>) -> bool {
        self.byteorder == head.byteorder
            && same_name(&self.content_type, head.content_type)
            && same_name(&self.content_encoding, head.content_encoding)
            && (head.extra.is_empty() && self.extra.is_empty()
                || self.extra == head.extra.encoded())
    }

    /// Whether the length has as many digits as the template.
    #[inline]
    fn fits(&self, content_len: usize) -> bool {
        self.shortest <= content_len && content_len <= self.longest
    }

    /// Writes the number into a copy of the template that starts at `start`.
    #[inline]
    fn write_number(&self, out: &mut [u8], start: usize, content_len: usize) {
        let digits = start + self.digits.start..start + self.digits.end;
        if let Some(digits) = out.get_mut(digits) {
            write_decimal(digits, content_len);
        }
    }

    /// Becomes the template of `head`, whose header `bytes` hold.
    fn learn(&mut self, head: &Head<'_>, bytes: &[u8], digits: Range<usize>, version: u32) {
        self.byteorder = head.byteorder;
        self.content_type.clear();
        self.content_type.push_str(head.content_type);
        self.content_encoding.clear();
        self.content_encoding.push_str(head.content_encoding);
        self.extra.clear();
        self.extra.extend_from_slice(head.extra.encoded());
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let exponent = u32::try_from(digits.len()).unwrap_or(u32::MAX);
        self.shortest = if exponent == 1 { 0 } else { 10_usize.saturating_pow(exponent - 1) };
        self.longest = 10_usize.checked_pow(exponent).map_or(usize::MAX, |power| power - 1);
        self.digits = digits;
        self.version = version;
    }
}

impl HeaderEncoder {
    #[inline]
    pub(super) fn begin(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
    ) -> Result<Mark, EncodeError> {
        // Only lengths are compared here: `finish` compares the rest, and where that
        // differs the room is right all the same.
        let mut index = self.latest;
        if !self.templates[index % TEMPLATES].has_lens_of(head) {
            index = self.find_room(head)?;
        }
        let template = &self.templates[index % TEMPLATES];
        let start = out.len();
        out.extend_from_slice(&template.bytes);
        Ok(Mark { start, content: out.len(), template: index, version: template.version })
    }

    #[inline]
    pub(super) fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        let content_len = mark.content_len(out)?;
        let template = &self.templates[mark.template % TEMPLATES];
        if template.version == mark.version && template.fits(content_len) && template.is_of(head) {
            template.write_number(out, mark.start, content_len);
            self.latest = mark.template;
            return Ok(());
        }
        self.finish_anew(out, mark, head, content_len)
    }

    #[inline]
    pub(super) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        let mut template = &self.templates[self.latest % TEMPLATES];
        if !(template.fits(content.len()) && template.is_of(head)) {
            template = self.find(head, content.len())?;
        }
        let start = out.len();
        out.reserve(template.bytes.len() + content.len());
        out.extend_from_slice(&template.bytes);
        template.write_number(out, start, content.len());
        out.extend_from_slice(content);
        Ok(())
    }

    /// Writes a head alone, whose content follows later.
    pub(super) fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        let len = usize::try_from(content_len).map_err(|_| EncodeError::ContentTooLong)?;
        write_header(out, head, len).map(drop)
    }

    /// Writes the whole header where another one, or none, was expected.
    #[cold]
    #[inline(never)]
    fn finish_anew(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
        content_len: usize,
    ) -> Result<(), EncodeError> {
        let template = match self.find(head, content_len) {
            Ok(template) => template,
            Err(error) => {
                out.truncate(mark.start);
                return Err(error);
            }
        };
        let content_start = mark.start + template.bytes.len();
        if content_start > mark.content {
            out.resize(content_start + content_len, 0);
        }
        if content_start != mark.content {
            out.copy_within(mark.content..mark.content + content_len, content_start);
            out.truncate(content_start + content_len);
        }
        if let Some(header) = out.get_mut(mark.start..content_start) {
            header.copy_from_slice(&template.bytes);
        }
        template.write_number(out, mark.start, content_len);
        Ok(())
    }

    /// A template as long as the head's.
    #[cold]
    #[inline(never)]
    fn find_room(&mut self, head: &Head<'_>) -> Result<usize, EncodeError> {
        match self.templates.iter().position(|template| template.has_lens_of(head)) {
            Some(index) => Ok(index),
            None => self.learn(head, FIRST_GUESS, None),
        }
    }

    /// The template of the head for so much content. It becomes the latest.
    #[cold]
    #[inline(never)]
    fn find(&mut self, head: &Head<'_>, content_len: usize) -> Result<&Template, EncodeError> {
        let known = self.templates.iter().position(|template| template.is_of(head));
        let index = match known {
            Some(index) if self.templates[index].fits(content_len) => index,
            _ => self.learn(head, content_len, known)?,
        };
        self.latest = index;
        Ok(&self.templates[index])
    }

    /// Makes a template of the head, in place of a certain one or of the oldest.
    fn learn(
        &mut self,
        head: &Head<'_>,
        content_len: usize,
        place: Option<usize>,
    ) -> Result<usize, EncodeError> {
        self.scratch.clear();
        let digits = write_header(&mut self.scratch, head, content_len)?;
        let index = place.unwrap_or(self.next) % TEMPLATES;
        if place.is_none() {
            self.next = index + 1;
        }
        self.version = self.version.wrapping_add(1);
        self.templates[index].learn(head, &self.scratch, digits, self.version);
        Ok(index)
    }
}

/// Compares two short strings. Types and encodings mostly have 4 to 16 bytes: two
/// overlapping comparisons of a constant length are less than a call.
#[inline]
fn same_name(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    match left.len() {
        4..=8 => {
            left.first_chunk::<4>() == right.first_chunk()
                && left.last_chunk::<4>() == right.last_chunk()
        }
        9..=16 => {
            left.first_chunk::<8>() == right.first_chunk()
                && left.last_chunk::<8>() == right.last_chunk()
        }
        _ => left == right,
    }
}

/// Appends prefix and header, and says where the digits of the content's length
/// are, counted from the prefix.
pub(super) fn write_header(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    content_len: usize,
) -> Result<Range<usize>, EncodeError> {
    let start = out.len();
    out.extend_from_slice(b"\0\0{\"byteorder\": \"");
    out.extend_from_slice(head.byteorder.name().as_bytes());
    out.extend_from_slice(b"\", \"content-type\": ");
    write_json_string(out, head.content_type);
    out.extend_from_slice(b", \"content-encoding\": ");
    write_json_string(out, head.content_encoding);
    out.extend_from_slice(b", \"content-length\": ");
    let digits_start = out.len();
    out.resize(digits_start + count_digits(content_len), b'0');
    write_decimal(&mut out[digits_start..], content_len);
    let digits = digits_start - start..out.len() - start;
    out.extend_from_slice(head.extra.encoded());
    out.push(b'}');

    let Ok(header_len) = u16::try_from(out.len() - start - 2) else {
        out.truncate(start);
        return Err(EncodeError::HeaderTooLong);
    };
    out[start..start + 2].copy_from_slice(&header_len.to_be_bytes());
    Ok(digits)
}

fn count_digits(value: usize) -> usize {
    value.checked_ilog10().unwrap_or_default() as usize + 1
}

/// Fills `digits` with the last digits of `value`.
#[inline]
fn write_decimal(digits: &mut [u8], mut value: usize) {
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 10 is a digit")]
    let last = |value: usize| b'0' + (value % 10) as u8;
    if let [tens, units] = digits {
        // Two digits are what short contents have; the loop would take twice as long.
        *tens = last(value / 10);
        *units = last(value);
        return;
    }
    for digit in digits.iter_mut().rev() {
        *digit = last(value);
        value /= 10;
    }
}

/// Appends one whole message. Who writes many has it cheaper with
/// [`Framing::encode`](crate::protocol::Framing::encode), which remembers the header.
///
/// # Errors
///
/// [`EncodeError::HeaderTooLong`]; `out` is as it was.
///
/// ```
/// use myriapod::protocol::{ByteOrder, Head, encode};
///
/// let mut wire = Vec::new();
/// let head = Head { byteorder: ByteOrder::Big, ..Head::binary("x") };
/// encode(&mut wire, &head, b"abc")?;
/// assert_eq!(wire, b"\x00\x5c{\"byteorder\": \"big\", \"content-type\": \"x\", \
///     \"content-encoding\": \"binary\", \"content-length\": 3}abc");
/// # Ok::<(), myriapod::protocol::EncodeError>(())
/// ```
pub fn encode(out: &mut Vec<u8>, head: &Head<'_>, content: &[u8]) -> Result<(), EncodeError> {
    write_header(out, head, content.len())?;
    out.extend_from_slice(content);
    Ok(())
}

/// Appends one whole message with `value` as JSON in UTF-8. The head's encoding
/// should be a name of UTF-8, as in [`Head::json`].
///
/// # Errors
///
/// [`EncodeError::HeaderTooLong`] and those of [`write_json`]; `out` is as it was.
///
/// ```
/// use myriapod::protocol::{Head, encode_json};
///
/// let mut wire = Vec::new();
/// encode_json(&mut wire, &Head::json(), &["search", "ring"])?;
/// assert!(wire.ends_with(br#""content-length": 18}["search", "ring"]"#));
/// # Ok::<(), myriapod::protocol::EncodeError>(())
/// ```
pub fn encode_json<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    value: &T,
) -> Result<(), EncodeError> {
    let mut content = Vec::new();
    write_json(&mut content, value)?;
    encode(out, head, &content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ExtraHeaders, Framing, JsonHeader};

    fn plain(head: &Head<'_>, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, head, content).unwrap();
        out
    }

    #[test]
    fn are_the_bytes_the_same_however_wrong_the_guess_was() {
        let mut extra = ExtraHeaders::new();
        extra.push("id", &1).unwrap();
        let mut other = ExtraHeaders::new();
        other.push("id", &2).unwrap();
        let big =
            if ByteOrder::NATIVE == ByteOrder::Big { ByteOrder::Little } else { ByteOrder::Big };
        let heads = [
            Head::json(),
            Head::binary("text/jsox"),
            Head::binary("a \"type\"\n é"),
            Head { byteorder: big, ..Head::json() },
            Head { extra: &extra, ..Head::json() },
            Head { extra: &other, ..Head::json() },
            Head { content_encoding: "latin-1-and-much-longer", ..Head::json() },
            Head { content_encoding: "", ..Head::binary("") },
        ];
        let lens: &[usize] =
            if cfg!(miri) { &[0, 9, 10] } else { &[0, 1, 9, 10, 11, 99, 100, 999, 1000, 12_345] };
        let mut framing = JsonHeader::default();
        let mut expected = Vec::new();
        let mut out = Vec::new();
        for begun in &heads {
            for finished in &heads {
                for &len in lens {
                    let content: Vec<u8> = (0..len).map(|at| b"0123456"[at % 7]).collect();
                    expected.extend(plain(finished, &content));
                    let mark = framing.begin(&mut out, begun).unwrap();
                    assert_eq!(mark.content_start(), out.len());
                    out.extend(&content);
                    framing.finish(&mut out, mark, finished).unwrap();
                    assert!(out == expected, "{begun:?} {finished:?} {len}");

                    expected.extend(plain(begun, &content));
                    framing.encode(&mut out, begun, &content).unwrap();
                    assert!(out == expected, "{begun:?} {len}");
                }
            }
            out.clear();
            expected.clear();
        }
    }

    #[test]
    fn does_a_mark_survive_other_messages_in_between() {
        let mut framing = JsonHeader::default();
        let mut first = Vec::new();
        let mark = framing.begin(&mut first, &Head::json()).unwrap();
        first.extend_from_slice(b"[1, 2, 3, 4]");
        for len in 0..10 {
            let content_type = "x".repeat(len);
            framing.encode(&mut Vec::new(), &Head::binary(&content_type), b"").unwrap();
        }
        framing.finish(&mut first, mark, &Head::json()).unwrap();
        assert_eq!(first, plain(&Head::json(), b"[1, 2, 3, 4]"));
    }

    #[test]
    fn is_a_template_that_has_changed_since_the_mark_noticed() {
        let mut framing = JsonHeader::default();
        let mut out = Vec::new();
        let mark = framing.begin(&mut out, &Head::json()).unwrap();
        // The same head now has room for three digits, which the mark has not.
        framing.encode(&mut Vec::new(), &Head::json(), &[b'1'; 100]).unwrap();
        out.extend_from_slice(&[b'2'; 200]);
        framing.finish(&mut out, mark, &Head::json()).unwrap();
        assert_eq!(out, plain(&Head::json(), &[b'2'; 200]));
    }

    #[test]
    fn is_a_header_over_two_bytes_of_length_refused_and_cut_back() {
        let extra = |len: usize| {
            let mut extra = ExtraHeaders::new();
            extra.push("key", &"x".repeat(len)).unwrap();
            extra
        };
        let fixed = plain(&Head { extra: &extra(0), ..Head::json() }, b"").len() - 2;
        let (fits, over) = (extra(65_535 - fixed), extra(65_536 - fixed));
        is_cut_back(&Head { extra: &fits, ..Head::json() }, &Head { extra: &over, ..Head::json() });
        // Miri would take minutes, since these are escaped each time.
        if !cfg!(miri) {
            let fixed = plain(&Head::binary(""), b"").len() - 2;
            let over = "x".repeat(65_536 - fixed);
            is_cut_back(&Head::binary(&over[1..]), &Head::binary(&over));
        }
    }

    /// The first head is as long as one may be with no more than a digit of content.
    fn is_cut_back(fits: &Head<'_>, over: &Head<'_>) {
        let mut framing = JsonHeader::default();
        let mut out = b"before".to_vec();
        assert!(matches!(framing.begin(&mut out, over), Err(EncodeError::HeaderTooLong)));
        assert!(framing.encode(&mut out, over, b"").is_err());
        assert!(encode(&mut out, over, b"").is_err());
        assert_eq!(out, b"before");

        let mark = framing.begin(&mut out, &Head::json()).unwrap();
        out.extend_from_slice(b"content");
        assert!(framing.finish(&mut out, mark, over).is_err());
        assert_eq!(out, b"before");
        // One digit more than with no content: over again.
        assert!(framing.encode(&mut out, fits, &[0; 10]).is_err());
        assert_eq!(out, b"before");
        framing.encode(&mut out, fits, &[0; 9]).unwrap();
        assert_eq!(out.get(6..8), Some(&[0xff, 0xff][..]));
    }

    #[test]
    fn is_a_lost_mark_an_error() {
        let mut framing = JsonHeader::default();
        let mut out = Vec::new();
        let mark = framing.begin(&mut out, &Head::json()).unwrap();
        out.clear();
        assert!(matches!(
            framing.finish(&mut out, mark, &Head::json()),
            Err(EncodeError::MarkLost)
        ));
    }

    #[test]
    fn are_digits_counted_at_every_power_of_ten() {
        for exponent in 0..usize::MAX.ilog10() {
            let power = 10_usize.pow(exponent);
            for value in [power - 1, power, power + 1, usize::MAX] {
                let mut digits = vec![b'?'; count_digits(value)];
                write_decimal(&mut digits, value);
                assert_eq!(digits, value.to_string().as_bytes());
            }
        }
    }
}
