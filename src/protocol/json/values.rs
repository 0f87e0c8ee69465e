//! JSON, eight bytes at a time: where strings, numbers and other values end, by exactly the rules of
//! `serde_json`. Whatever breaks one of them is `None`.

use super::text::{skip_space, validate};

/// The deepest nesting that `serde_json` accepts. The header's own object counts.
const DEEPEST: u32 = 127;

/// A number below ten to this power is finite, however it is rounded.
const FINITE_POWER: usize = 308;

#[inline(always)]
pub(super) fn digit(text: &[u8], at: usize) -> Option<u8> {
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
pub(super) fn value(text: &[u8], at: usize) -> Option<usize> {
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

/// The first byte of a word.
#[inline(always)]
pub(super) const fn first_of(word: u64) -> u8 {
    word.to_le_bytes()[0]
}

/// Eight bytes of the text, the first of them lowest. Behind its end are zeros.
#[inline(always)]
pub(super) fn eight(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_few(text.get(at..).unwrap_or_default()),
    }
}

/// All words at once, the last of them reaching back: so nothing is left to be done byte by byte.
#[inline]
pub(super) fn is_ascii(text: &[u8]) -> bool {
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
pub(super) fn plain(text: &[u8], at: usize) -> (usize, u64) {
    short_plain(text, at)
}

/// The same in line: most keys are short, and cost no loop.
#[inline(always)]
pub(super) fn short_plain(text: &[u8], at: usize) -> (usize, u64) {
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
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(hash, last_few(rest) | u64::from(b'"') << (8 * rest.len()))
}

/// The quote that ends a string which has a backslash at `at`.
#[inline(never)]
pub(super) fn end_of_escaped(text: &[u8], mut at: usize) -> Option<usize> {
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
pub(super) fn unescape_string(
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

/// Where the value starts behind a key that ended at `at`.
#[inline(never)]
pub(super) fn colon(text: &[u8], at: usize) -> Option<usize> {
    let mark = skip_space(text, at);
    (text.get(mark) == Some(&b':')).then(|| skip_space(text, mark + 1))
}
