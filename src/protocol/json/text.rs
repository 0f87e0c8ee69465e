//! JSON text: validated by `serde_json`, then walked member by member without
//! building a tree, because ranges are wanted.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memchr2;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// Whether `text` is one JSON value with nothing behind it, as strictly as
/// `serde_json::Value` would have it: lone surrogates, numbers out of range and
/// nesting over 127 are errors also in values that nobody reads. (`IgnoredAny`
/// accepts the first two.)
pub(super) fn validate(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Strict>(text).map(drop)
}

/// Reads any value through the same calls as `serde_json::Value`, and keeps nothing.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// The first byte that is not white space, or 0 where there is none.
pub(super) fn first_byte(text: &[u8]) -> u8 {
    text.get(skip_space(text, 0)).copied().unwrap_or_default()
}

/// A piece of valid text whose ends are those of characters.
pub(super) fn text_of(text: &[u8], place: Range<usize>) -> &str {
    std::str::from_utf8(text.get(place).unwrap_or_default()).unwrap_or_default()
}

/// Unescapes what stands between the quotes of a valid JSON string.
pub(super) fn unescape(quoted: &str, escaped: bool) -> Cow<'_, str> {
    if !escaped {
        return Cow::Borrowed(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
    }
    Cow::Owned(serde_json::from_str(quoted).unwrap_or_default())
}

/// One member of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// The key with its quotes.
    pub(super) key: Range<usize>,
    /// The key holds a backslash.
    pub(super) key_escaped: bool,
    /// The value, without the space around it.
    pub(super) value: Range<usize>,
    /// The value is a string that holds a backslash.
    pub(super) value_escaped: bool,
}

/// The members of the object that `text` is. The text must be valid JSON; over
/// any other it ends early, with members that mean nothing.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// The members of an object, braces included.
    pub(super) fn of_object(text: &'a [u8]) -> Self {
        Self { text, at: skip_space(text, 0) + 1 }
    }

    /// Members that each follow a comma, without braces.
    pub(super) fn of_list(text: &'a [u8]) -> Self {
        Self { text, at: 1 }
    }
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        let text = self.text;
        let key_start = skip_space(text, self.at);
        if text.get(key_start) != Some(&b'"') {
            return None;
        }
        let (key_end, key_escaped) = string_end(text, key_start)?;
        let colon = skip_space(text, key_end);
        let value_start = skip_space(text, colon + 1);
        let (value_end, value_escaped) = value_end(text, value_start)?;
        self.at = skip_space(text, value_end) + 1;
        Some(Member {
            key: key_start..key_end,
            key_escaped,
            value: value_start..value_end,
            value_escaped,
        })
    }
}

#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[inline]
pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(|&byte| is_space(byte)) {
        at += 1;
    }
    at
}

/// The end of the string whose opening quote is at `start`, and whether it holds
/// a backslash.
fn string_end(text: &[u8], start: usize) -> Option<(usize, bool)> {
    let mut at = start + 1;
    let mut escaped = false;
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(found) == Some(&b'"') {
            return Some((found + 1, escaped));
        }
        escaped = true;
        at = found + 2;
    }
}

/// The end of the value that starts at `start`.
fn value_end(text: &[u8], start: usize) -> Option<(usize, bool)> {
    match *text.get(start)? {
        b'"' => string_end(text, start),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            let mut at = start;
            loop {
                match *text.get(at)? {
                    b'"' => {
                        at = string_end(text, at)?.0;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some((at, false));
                }
            }
        }
        _ => {
            let rest = text.get(start..)?;
            let len = rest
                .iter()
                .position(|&byte| is_space(byte) || matches!(byte, b',' | b'}' | b']'))
                .unwrap_or(rest.len());
            (len > 0).then_some((start + len, false))
        }
    }
}
