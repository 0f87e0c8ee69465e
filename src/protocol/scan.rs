//! One pass over the bytes of a header that was never seen.
//!
//! It finds the same as the [full parse](super::full_parse), and tests and fuzzing hold both against
//! each other. A header that it refuses is left to that one: so `serde_json` alone tells a peer what
//! is wrong.
//!
//! Peers choose their headers, so the worst one counts: nothing here costs more than its length, but
//! for keys that were made to have the same hash. These are sorted.

use super::frame::ByteOrder;
use super::full_parse::{Meaning, Parsed, Text};
use super::json_text::{Members, skip_space, text_of, unescape, validate};

/// So many further keys are compared each with each. Where there are more, a table tells.
const FEW: usize = 32;

/// The deepest nesting that `serde_json` accepts. The header's own object counts.
const DEEPEST: u32 = 127;

/// A number below ten to this power is finite, however it is rounded.
const FINITE_POWER: usize = 308;

/// What one header leaves for the next: memory, so that an ordinary header allocates nothing.
#[derive(Clone, Default, Debug)]
pub(super) struct Scanner {
    keys: Keys,
    /// A key that had escapes.
    unescaped: Vec<u8>,
    /// All that was read is as we would write it, but for escapes.
    is_ours: bool,
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
        Some(Parsed::new(Meaning {
            header,
            header_len,
            byteorder: found.byteorder?,
            content_type: found.content_type?,
            content_encoding: found.content_encoding?,
            digits: length.start..length.end,
            content_len: length.value,
            is_ours: self.is_ours,
        }))
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
        self.keys.note(hash.wrapping_add(len as u64), text.len());
        // The commonest value of a further key is a few digits, with their end in the word.
        let mut end = at;
        let first = word as u8;
        while (word as u8).wrapping_sub(b'0') <= 9 {
            word >>= 8;
            end += 1;
        }
        if end == at + 1 || end > at && first != b'0' {
            if word & 0xff_ffff == COMMA {
                return Some(Next::Key { start: end + 3 });
            }
            if matches!(word as u8, b',' | b'}') {
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
        if at + 1 == text.len() && word as u8 == b'}' {
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

/// The further keys of a header, as hashes.
#[derive(Clone, Debug)]
struct Keys {
    few: Vec<u64>,
    /// Where there are more: a table, at most six tenths full. A place whose lowest byte is not
    /// `round` is free: so the table is cleared once for 255 headers.
    table: Vec<u64>,
    /// One less than the table has places, which are a power of two.
    mask: usize,
    round: u64,
    /// Places of the table that may still be looked at in vain.
    looks: usize,
    /// Two hashes are the same, or too many are close to each other.
    doubtful: bool,
}

impl Default for Keys {
    fn default() -> Self {
        let few = Vec::with_capacity(FEW + 1);
        Self { few, table: Vec::new(), mask: 0, round: 0, looks: 0, doubtful: false }
    }
}

impl Keys {
    fn clear(&mut self) {
        self.few.clear();
        self.doubtful = false;
    }

    #[inline(always)]
    fn note(&mut self, hash: u64, header_len: usize) {
        if self.few.len() > FEW {
            return self.note_in_table(hash);
        }
        if self.few.len() == FEW {
            self.begin_table(header_len);
            return self.note_in_table(hash);
        }
        self.doubtful |= self.few.contains(&hash);
        self.few.push(hash);
    }

    #[inline(always)]
    fn note_in_table(&mut self, hash: u64) {
        let hash = hash & !0xff | self.round;
        let place = (hash >> 8) as usize;
        match self.table.get_mut(place & self.mask) {
            Some(slot) if (*slot ^ hash) as u8 != 0 => *slot = hash,
            _ => self.note_elsewhere(hash, place),
        }
    }

    /// Takes the first free place behind one that is taken.
    #[inline(never)]
    fn note_elsewhere(&mut self, hash: u64, mut place: usize) {
        while let Some(slot) = self.table.get_mut(place & self.mask) {
            if (*slot ^ hash) as u8 != 0 {
                *slot = hash;
                return;
            }
            if *slot == hash || self.looks == 0 {
                break;
            }
            self.looks -= 1;
            place += 1;
        }
        self.doubtful = true;
    }

    #[cold]
    #[inline(never)]
    fn begin_table(&mut self, header_len: usize) {
        // A member takes seven bytes and more, where so many are different.
        let len = (header_len / 4).next_power_of_two();
        self.round = (self.round + 1) & 0xff;
        if self.round == 0 || self.table.len() < len {
            self.table.clear();
            self.table.resize(len, 0);
            self.mask = len - 1;
            self.round = 1;
        }
        self.looks = header_len;
        for nth in 0..FEW {
            if let Some(&hash) = self.few.get(nth) {
                self.note_in_table(hash);
            }
        }
        // One more than there may be, so that this is done once.
        self.few.push(0);
    }
}

/// Whether two keys of a valid header are the same, for certain.
#[cold]
#[inline(never)]
fn have_twins(header: &[u8]) -> bool {
    let mut keys: Vec<_> = Members::of_object(header)
        .map(|member| unescape(text_of(header, member.key), member.key_escaped))
        .collect();
    keys.sort_unstable();
    keys.windows(2).any(|two| two.first() == two.last())
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

/// Where the value starts behind a key that ended at `at`.
#[inline(never)]
fn colon(text: &[u8], at: usize) -> Option<usize> {
    let mark = skip_space(text, at);
    (text.get(mark) == Some(&b':')).then(|| skip_space(text, mark + 1))
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

#[inline(always)]
fn digit(text: &[u8], at: usize) -> Option<u8> {
    text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9)
}

#[inline(always)]
fn skip_digits(text: &[u8], mut at: usize) -> usize {
    while digit(text, at).is_some() {
        at += 1;
    }
    at
}

/// The end of the value that starts at `at`.
#[inline(never)]
fn value(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at)? {
        b'{' | b'[' => nested(text, at),
        _ => scalar(text, at),
    }
}

#[inline(always)]
fn scalar(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at)? {
        b'"' => string(text, at),
        b'0'..=b'9' | b'-' => number(text, at),
        b't' => text.get(at..)?.starts_with(b"true").then_some(at + 4),
        b'f' => text.get(at..)?.starts_with(b"false").then_some(at + 5),
        b'n' => text.get(at..)?.starts_with(b"null").then_some(at + 4),
        _ => None,
    }
}

/// The end of the string that starts at `at`.
#[inline(always)]
fn string(text: &[u8], at: usize) -> Option<usize> {
    let (stop, _) = plain(text, at + 1);
    match *text.get(stop)? {
        b'"' => Some(stop + 1),
        _ => Some(end_of_escaped(text, stop)? + 1),
    }
}

/// The end of the number that starts at `at`.
#[inline(always)]
fn number(text: &[u8], at: usize) -> Option<usize> {
    let whole = if text.get(at) == Some(&b'-') { at + 1 } else { at };
    let end = match digit(text, whole)? {
        0 => whole + 1,
        _ => skip_digits(text, whole + 1),
    };
    let is_short = end - whole <= FINITE_POWER;
    if is_short && !matches!(text.get(end), Some(b'.' | b'e' | b'E')) {
        return Some(end);
    }
    long_number(text, at, whole, end)
}

/// The same of a number with many digits, or with digits behind those from `whole` to `end`.
#[inline(never)]
fn long_number(text: &[u8], start: usize, whole: usize, end: usize) -> Option<usize> {
    let mut power = end - whole;
    let mut at = end;
    if text.get(at) == Some(&b'.') {
        at = skip_digits(text, at + 1);
        if at < end + 2 {
            return None;
        }
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = text.get(at + 1).filter(|byte| matches!(byte, b'+' | b'-'));
        let digits = at + 1 + usize::from(sign.is_some());
        at = digits;
        let mut exponent = 0_usize;
        while let Some(digit) = digit(text, at) {
            exponent = exponent.saturating_mul(10).saturating_add(usize::from(digit));
            at += 1;
        }
        if at == digits {
            return None;
        }
        if sign != Some(&b'-') {
            power = power.saturating_add(exponent);
        }
    }
    // `serde_json` refuses what becomes infinite, and knows best what does.
    if power > FINITE_POWER {
        validate(str::from_utf8(text.get(start..at)?).ok()?).ok()?;
    }
    Some(at)
}

/// The end of the array or object that starts at `at`.
#[inline(never)]
fn nested(text: &[u8], mut at: usize) -> Option<usize> {
    // A bit for each that is open, the innermost lowest: set for an object.
    let mut objects = 1_u128;
    let mut depth = 1;
    loop {
        let open = *text.get(at)?;
        if let b'{' | b'[' = open {
            depth += 1;
            if depth > DEEPEST {
                return None;
            }
            let is_object = open == b'{';
            objects = objects << 1 | u128::from(is_object);
            at = skip_space(text, at + 1);
            // In ASCII, two behind the one that opens.
            if *text.get(at)? != open + 2 {
                if is_object {
                    at = nested_key(text, at)?;
                }
                continue;
            }
        } else {
            at = scalar(text, at)?;
            if text.get(at) == Some(&b',') && objects & 1 == 0 {
                at = skip_space(text, at + 1);
                continue;
            }
            at = skip_space(text, at);
        }
        // At a comma, or where something ends.
        loop {
            match (*text.get(at)?, objects & 1 == 1) {
                (b',', true) => {
                    at = nested_key(text, skip_space(text, at + 1))?;
                    break;
                }
                (b',', false) => {
                    at = skip_space(text, at + 1);
                    break;
                }
                (b'}', true) | (b']', false) => {
                    objects >>= 1;
                    depth -= 1;
                    if depth == 1 {
                        return Some(at + 1);
                    }
                    at = skip_space(text, at + 1);
                }
                _ => return None,
            }
        }
    }
}

/// Where the value starts whose key starts at `at`.
#[inline(always)]
fn nested_key(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    colon(text, string(text, at)?)
}

const ONES: u64 = u64::MAX / 255;

/// What we write around a key, as the low bytes of a word: `": ` and `, "`.
const COLON: u64 = u64::from_le_bytes(*b"\": \0\0\0\0\0");
const COMMA: u64 = u64::from_le_bytes(*b", \"\0\0\0\0\0");
/// The same without space, as others write it.
const COMPACT_COLON: u64 = u64::from_le_bytes(*b"\":\0\0\0\0\0\0");
const COMPACT_COMMA: u64 = u64::from_le_bytes(*b",\"\0\0\0\0\0\0");

/// Eight bytes of the text, the first of them lowest. Behind its end are zeros.
#[inline(always)]
fn eight(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_few(text.get(at..).unwrap_or_default()),
    }
}

/// All words at once, the last of them reaching back: so nothing is left to be done byte by byte.
#[inline]
fn is_ascii(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk() else { return text.is_ascii() };
    let mut all = u64::from_le_bytes(*last);
    let (blocks, rest) = text.as_chunks::<64>();
    for words in blocks.iter().map(|block| block.as_chunks().0).chain([rest.as_chunks().0]) {
        all = words.iter().fold(all, |all, word| all | u64::from_le_bytes(*word));
    }
    all & (ONES << 7) == 0
}

#[cold]
#[inline(never)]
fn last_few(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The top bit of each byte that ends plain text: a quote, a backslash, a control character. Only
/// the lowest of these bits is sure.
#[inline(always)]
fn stops(word: u64) -> u64 {
    // Turned over, a quote is behind the control characters, and a space in front of it.
    let quote_or_control = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (quote_or_control | backslash) & !word & (ONES << 7)
}

/// All bits up to the lowest that is set.
#[inline(always)]
fn up_to_first(stops: u64) -> u64 {
    stops ^ stops.wrapping_sub(1)
}

/// Where a string's text stops to be plain, and the hash of what is plain from `at` on, with what
/// stops it. Behind the text's end are control characters.
#[inline(never)]
fn plain(text: &[u8], at: usize) -> (usize, u64) {
    short_plain(text, at)
}

/// The same in line: most keys are short, and cost no loop.
#[inline(always)]
fn short_plain(text: &[u8], at: usize) -> (usize, u64) {
    let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) else {
        return long_plain(text, at, 0);
    };
    let word = u64::from_le_bytes(*bytes);
    let stops = stops(word);
    if stops == 0 {
        return long_plain(text, at + 8, mix(0, word));
    }
    (at + (stops.trailing_zeros() / 8) as usize, mix(0, word & up_to_first(stops)))
}

#[inline(never)]
fn long_plain(text: &[u8], at: usize, mut hash: u64) -> (usize, u64) {
    let mut rest = text.get(at..).unwrap_or_default();
    loop {
        let (word, behind) = match rest.split_first_chunk() {
            Some((bytes, behind)) => (u64::from_le_bytes(*bytes), behind),
            None => (last_few(rest), rest),
        };
        let stops = stops(word);
        if stops != 0 {
            let at = text.len() - rest.len() + (stops.trailing_zeros() / 8) as usize;
            return (at, mix(hash, word & up_to_first(stops)));
        }
        hash = mix(hash, word);
        rest = behind;
    }
}

/// Different for keys that peers choose without ill will. Where it is the same, the full parse
/// decides.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// The hash that [`plain`] gives these bytes with a quote behind them.
fn hash_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(hash, last_few(rest) | u64::from(b'"') << (8 * rest.len()))
}

/// The quote that ends a string which has a backslash at `at`.
#[inline(never)]
fn end_of_escaped(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = match *text.get(at)? {
            b'\\' => plain(text, escape(text, at)?.1).0,
            b'"' => return Some(at),
            _ => return None,
        };
    }
}

/// The same of a string that starts at `start`, whose text is appended to `unescaped`.
#[inline(never)]
fn unescape_string(
    text: &[u8],
    start: usize,
    mut at: usize,
    unescaped: &mut Vec<u8>,
) -> Option<usize> {
    unescaped.clear();
    unescaped.extend_from_slice(text.get(start..at)?);
    loop {
        match *text.get(at)? {
            b'\\' => {
                let (char, end) = escape(text, at)?;
                unescaped.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                at = plain(text, end).0;
                unescaped.extend_from_slice(text.get(end..at)?);
            }
            b'"' => return Some(at),
            _ => return None,
        }
    }
}

/// The character that the escape at `at` stands for, and where the escape ends.
#[inline(always)]
fn escape(text: &[u8], at: usize) -> Option<(char, usize)> {
    let char = match *text.get(at + 1)? {
        same @ (b'"' | b'\\' | b'/') => char::from(same),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text, at),
        _ => return None,
    };
    Some((char, at + 2))
}

#[inline(never)]
fn unicode_escape(text: &[u8], at: usize) -> Option<(char, usize)> {
    let unit = four_digits(text, at)?;
    if !(0xd800..0xdc00).contains(&unit) {
        // The second half of a pair alone is no character.
        return Some((char::from_u32(unit)?, at + 6));
    }
    let second = four_digits(text, at + 6).filter(|unit| (0xdc00..0xe000).contains(unit))?;
    Some((char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (second - 0xdc00))?, at + 12))
}

/// The number in `\u1234` at `at`.
fn four_digits(text: &[u8], at: usize) -> Option<u32> {
    let &[b'\\', b'u', ref digits @ ..] = text.get(at..)?.first_chunk::<6>()? else {
        return None;
    };
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
}

/// Reads the header both ways, which must agree. Returns whether it is valid.
#[cfg(any(test, fuzzing))]
pub(super) fn check(header: &[u8]) -> bool {
    let Ok(header_len) = u16::try_from(header.len()) else { return false };
    let scanned = Scanner::default().scan(header, header_len);
    let parsed = super::full_parse::parse(header, header_len).ok();
    assert_eq!(scanned, parsed, "{}", String::from_utf8_lossy(header));
    parsed.is_some()
}
