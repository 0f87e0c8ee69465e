//! One pass over the bytes of a header that was never seen.
//!
//! It finds the same as the [full parse](super::full_parse), and tests and fuzzing hold both against
//! each other. A header that it refuses is left to that one: so `serde_json` alone tells a peer what
//! is wrong.
//!
//! Peers choose their headers, so the worst one counts: nothing here costs more than its length, but
//! for keys that were made to have the same hash. These are sorted.

use super::full_parse::{Meaning, Parsed, Text};
use super::key_set::{Keys, have_twins};
use super::text::skip_space;
use super::values::{
    colon, digit, eight, end_of_escaped, first_of, hash_of, is_ascii, plain, short_plain,
    unescape_string, value,
};
use crate::protocol::frame::ByteOrder;

/// What we write around a key, as the low bytes of a word: `": ` and `, "`.
const COLON: u64 = u64::from_le_bytes(*b"\": \0\0\0\0\0");
const COMMA: u64 = u64::from_le_bytes(*b", \"\0\0\0\0\0");
/// The same without space, as others write it.
const COMPACT_COLON: u64 = u64::from_le_bytes(*b"\":\0\0\0\0\0\0");
const COMPACT_COMMA: u64 = u64::from_le_bytes(*b",\"\0\0\0\0\0\0");

/// What one header leaves for the next: memory, so that an ordinary header allocates nothing.
#[derive(Clone, Default, Debug)]
pub(super) struct Scanner {
    keys: Keys,
    /// A key that had escapes.
    unescaped: Vec<u8>,
    /// All that was read is as we would write it, but for escapes.
    is_ours: bool,
    /// There is a key `id`.
    has_id: bool,
}

/// The four members, as far as they were found.
#[derive(Default)]
struct Found {
    byteorder: Option<ByteOrder>,
    content_type: Option<Text>,
    content_encoding: Option<Text>,
    content_length: Option<Length>,
}

/// A number that is nothing but digits, and their place.
struct Length {
    start: usize,
    end: usize,
    value: u64,
}

impl Scanner {
    /// What a valid header says. `None` if the header is faulty.
    pub(super) fn scan(&mut self, header: &[u8], header_len: u16) -> Option<Parsed> {
        if !is_ascii(header) && std::str::from_utf8(header).is_err() {
            return None;
        }
        self.keys.clear();
        self.has_id = false;
        let mut found = Found::default();
        let at = opening(header, &mut found)?;
        self.is_ours = found.content_length.is_some();
        let mut next = match at {
            0 => first_key(header)?,
            at => self.key_behind(header, at)?,
        };
        while let Next::Key { start } = next {
            next = self.member(header, start, &mut found)?;
        }
        if self.keys.doubtful && have_twins(header) {
            return None;
        }
        let length = found.content_length?;
        let mut parsed = Parsed::new(Meaning {
            header,
            header_len,
            byteorder: found.byteorder?,
            content_type: found.content_type?,
            content_encoding: found.content_encoding?,
            digits: length.start..length.end,
            content_len: length.value,
            is_ours: self.is_ours,
        });
        parsed.frame.mark_id(self.has_id);
        Some(parsed)
    }

    /// Takes the member whose key starts behind the quote before `start`, and finds what follows.
    #[inline(always)]
    fn member(&mut self, text: &[u8], start: usize, found: &mut Found) -> Option<Next> {
        let (stop, hash) = short_plain(text, start);
        let word = eight(text, stop);
        let len = stop.wrapping_sub(start);
        // As we write it, as others do, or otherwise.
        if word & 0xff_ffff == COLON {
            return self.value(text, (start, len), hash, (stop + 3, word >> 24), found);
        }
        if word & 0xffff == COMPACT_COLON {
            self.is_ours = false;
            return self.value(text, (start, len), hash, (stop + 2, word >> 16), found);
        }
        self.odd_member(text, start, stop, hash, found)
    }

    /// The same of a member with an escape in its key, or with space behind it.
    #[cold]
    #[inline(never)]
    fn odd_member(
        &mut self,
        text: &[u8],
        start: usize,
        stop: usize,
        hash: u64,
        found: &mut Found,
    ) -> Option<Next> {
        if text.get(stop) == Some(&b'"') {
            self.is_ours = false;
            let at = colon(text, stop + 1)?;
            let key = (start, stop.wrapping_sub(start));
            return self.value(text, key, hash, (at, eight(text, at)), found);
        }
        let stop = unescape_string(text, start, stop, &mut self.unescaped)?;
        let at = colon(text, stop + 1)?;
        self.is_ours &= at == stop + 3 && eight(text, stop) & 0xff_ffff == COLON;
        if let Some(end) = required(&self.unescaped, text, at, found)? {
            return self.key_behind(text, end);
        }
        let hash = hash_of(&self.unescaped).wrapping_add(self.unescaped.len() as u64);
        self.keys.note(hash, text.len());
        self.key_behind(text, value(text, at)?)
    }

    /// Takes the member with a key at a place, of so many bytes. Its value starts at `at`, with the
    /// bytes of `word`, or behind space.
    #[inline(always)]
    fn value(
        &mut self,
        text: &[u8],
        (start, len): (usize, usize),
        hash: u64,
        (at, mut word): (usize, u64),
        found: &mut Found,
    ) -> Option<Next> {
        if matches!(len, 9 | 12 | 14 | 16) {
            let at = self.skip_space(text, at);
            if let Some(end) = required(text.get(start..start + len)?, text, at, found)? {
                return self.key_behind(text, end);
            }
        }
        self.has_id |= len == 2 && text.get(start..start + 2) == Some(b"id");
        self.keys.note(hash.wrapping_add(len as u64), text.len());
        // The commonest value of a further key is a few digits, with their end in the word.
        let mut end = at;
        let first = first_of(word);
        while first_of(word).wrapping_sub(b'0') <= 9 {
            word >>= 8;
            end += 1;
        }
        if end == at + 1 || end > at && first != b'0' {
            if word & 0xff_ffff == COMMA {
                return Some(Next::Key { start: end + 3 });
            }
            if matches!(first_of(word), b',' | b'}') {
                return self.key_behind(text, end);
            }
        }
        let at = self.skip_space(text, at);
        self.key_behind(text, value(text, at)?)
    }

    /// The same place, unless there is space, which we would not write.
    #[inline(always)]
    fn skip_space(&mut self, text: &[u8], at: usize) -> usize {
        let behind = skip_space(text, at);
        self.is_ours &= behind == at;
        behind
    }

    #[inline(always)]
    fn key_behind(&mut self, text: &[u8], at: usize) -> Option<Next> {
        let word = eight(text, at);
        if word & 0xff_ffff == COMMA {
            return Some(Next::Key { start: at + 3 });
        }
        if at + 1 == text.len() && first_of(word) == b'}' {
            return Some(Next::End);
        }
        self.is_ours = false;
        if word & 0xffff == COMPACT_COMMA {
            return Some(Next::Key { start: at + 2 });
        }
        key_or_end(text, at)
    }
}

/// Takes the value of one of the four keys. `Some(None)` if it is another key.
#[inline(never)]
fn required(key: &[u8], text: &[u8], at: usize, found: &mut Found) -> Option<Option<usize>> {
    Some(Some(match key {
        b"byteorder" if found.byteorder.is_none() => {
            let (value, end) = text_value(text, at)?;
            found.byteorder = Some(byteorder(text, value)?);
            end
        }
        b"content-type" if found.content_type.is_none() => {
            let (value, end) = text_value(text, at)?;
            found.content_type = Some(value);
            end
        }
        b"content-encoding" if found.content_encoding.is_none() => {
            let (value, end) = text_value(text, at)?;
            found.content_encoding = Some(value);
            end
        }
        b"content-length" if found.content_length.is_none() => {
            let value = length(text, at)?;
            let end = value.end;
            found.content_length = Some(value);
            end
        }
        // Twice.
        b"byteorder" | b"content-type" | b"content-encoding" | b"content-length" => return None,
        _ => return Some(None),
    }))
}

/// What stands behind a value, or opens the object.
enum Next {
    /// A key, whose quote is before `start`.
    Key { start: usize },
    /// The end of the header.
    End,
}

/// The first key of a header that does not begin as we would write it.
#[inline(never)]
fn first_key(text: &[u8]) -> Option<Next> {
    let brace = skip_space(text, 0);
    let quote = skip_space(text, brace + 1);
    (text.get(brace) == Some(&b'{') && text.get(quote) == Some(&b'"'))
        .then_some(Next::Key { start: quote + 1 })
}

#[inline(never)]
fn key_or_end(text: &[u8], at: usize) -> Option<Next> {
    let mark = skip_space(text, at);
    let behind = skip_space(text, mark + 1);
    match *text.get(mark)? {
        b',' if text.get(behind) == Some(&b'"') => Some(Next::Key { start: behind + 1 }),
        b'}' if behind == text.len() => Some(Next::End),
        _ => None,
    }
}

/// Finds the four members, or the first of them, in a header that begins as we would write it.
/// Returns where they end: 0 if there are none.
#[inline(always)]
fn opening(text: &[u8], found: &mut Found) -> Option<usize> {
    let behind = |at: usize, piece: &[u8]| {
        text.get(at..).filter(|text| text.starts_with(piece)).map(|_| at + piece.len())
    };
    let (byteorder, at) = if let Some(at) = behind(0, b"{\"byteorder\": \"little\"") {
        (ByteOrder::Little, at)
    } else if let Some(at) = behind(0, b"{\"byteorder\": \"big\"") {
        (ByteOrder::Big, at)
    } else {
        return Some(0);
    };
    found.byteorder = Some(byteorder);
    let Some(start) = behind(at, b", \"content-type\": \"") else { return Some(at) };
    let (content_type, at) = text_value(text, start - 1)?;
    found.content_type = Some(content_type);
    let Some(start) = behind(at, b", \"content-encoding\": \"") else { return Some(at) };
    let (content_encoding, at) = text_value(text, start - 1)?;
    found.content_encoding = Some(content_encoding);
    let Some(start) = behind(at, b", \"content-length\": ") else { return Some(at) };
    let Some(content_length) = length(text, start) else { return Some(at) };
    let at = content_length.end;
    found.content_length = Some(content_length);
    Some(at)
}

fn byteorder(text: &[u8], value: Text) -> Option<ByteOrder> {
    match text.get(value.start..value.end)? {
        b"little" => Some(ByteOrder::Little),
        b"big" => Some(ByteOrder::Big),
        _ if value.escaped => match &*value.unescaped(text) {
            "little" => Some(ByteOrder::Little),
            "big" => Some(ByteOrder::Big),
            _ => None,
        },
        _ => None,
    }
}

/// The string that starts at `at`, and where it ends.
#[inline(always)]
fn text_value(text: &[u8], at: usize) -> Option<(Text, usize)> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let start = at + 1;
    let (stop, _) = plain(text, start);
    if text.get(stop) == Some(&b'"') {
        return Some((Text { start, end: stop, escaped: false }, stop + 1));
    }
    let end = end_of_escaped(text, stop)?;
    Some((Text { start, end, escaped: true }, end + 1))
}

/// The length at `at`. What stands behind it is for the caller to check.
#[inline(always)]
fn length(text: &[u8], start: usize) -> Option<Length> {
    let mut value = 0_u64;
    let mut end = start;
    while let Some(digit) = digit(text, end) {
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        end += 1;
    }
    // JSON has no leading zeros.
    let is_number = end == start + 1 || end > start && text.get(start) != Some(&b'0');
    is_number.then_some(Length { start, end, value })
}

/// Reads the header both ways, which must agree. Returns whether it is valid.
#[cfg(any(test, fuzzing))]
pub(super) fn check(header: &[u8]) -> bool {
    let Ok(header_len) = u16::try_from(header.len()) else { return false };
    let mut scanned = Scanner::default().scan(header, header_len);
    if let Some(scanned) = &mut scanned {
        // The other leaves it to its caller to look for a key `id`.
        let found = memchr::memmem::find(header, b"\"id\"").is_some();
        assert!(found || !scanned.frame.may_have_id(), "{}", String::from_utf8_lossy(header));
        scanned.frame.layout.marks = 0;
    }
    let parsed = super::full_parse::parse(header, header_len).ok();
    assert_eq!(scanned, parsed, "{}", String::from_utf8_lossy(header));
    parsed.is_some()
}
