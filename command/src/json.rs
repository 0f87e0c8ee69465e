//! [`Json`]: a JSON value that keeps the order of its keys; and lines of JSON.

use std::fmt;

use myriapod::protocol::{EncodeError, write_json};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Number;

use crate::failure::Failure;

/// A JSON value with the keys of its objects in the order in which they came. `serde_json` sorts
/// them, unless a feature is on that would spread to every crate in the program.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: a whole one within 64 bits, or the nearest that 64 bits can be.
    Number(Number),
    /// A text.
    String(String),
    /// Values in their order.
    Array(Vec<Self>),
    /// Keys and values in their order.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// The value of a key, where this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether every number in it is the one that stood in the text. See [`write_text_of`].
    pub fn is_exact(&self) -> bool {
        match self {
            Self::Number(number) => !number.is_f64(),
            Self::Array(items) => items.iter().all(Self::is_exact),
            Self::Object(members) => members.iter().all(|(_, value)| value.is_exact()),
            Self::Null | Self::Bool(_) | Self::String(_) => true,
        }
    }

    /// The text, where this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                serializer.collect_map(members.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// One line of JSON, spaced as everything that this program prints.
pub fn json_line<T: Serialize>(value: &T) -> Result<String, Failure> {
    let mut line = Vec::new();
    write_json(&mut line, value).map_err(Failure::new)?;
    line.push(b'\n');
    String::from_utf8(line).map_err(Failure::new)
}

/// Appends a value that was read from `text`, spaced as everything that this program prints. Where it
/// has numbers that 64 bits may not hold, such as 12345678901234567890123 or 0.10, that is the text
/// itself without its line breaks.
///
/// # Errors
///
/// None for values that were read from a text.
pub fn write_text_of(out: &mut Vec<u8>, value: &Json, text: &str) -> Result<(), EncodeError> {
    if value.is_exact() {
        return write_json(out, value);
    }
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            out.push(byte);
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' => out.extend_from_slice(b", "),
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
    Ok(())
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(without_repeats(members)))
    }
}

/// Of a key that stands there more than once, the last value counts, at the first one's place.
fn without_repeats(mut members: Vec<(String, Json)>) -> Vec<(String, Json)> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&one, &other| members[one].0.cmp(&members[other].0));
    let (mut swaps, mut dropped) = (Vec::new(), Vec::new());
    for same in order.chunk_by(|&one, &other| members[one].0 == members[other].0) {
        // The sort is stable, so these are in the order of their places.
        if let [first, .., last] = *same {
            swaps.push((first, last));
            dropped.extend(same.iter().skip(1).copied());
        }
    }
    if dropped.is_empty() {
        return members;
    }
    for (first, last) in swaps {
        members.swap(first, last);
    }
    dropped.sort_unstable();
    let mut place = 0..;
    members.retain(|_| place.next().is_none_or(|place| dropped.binary_search(&place).is_err()));
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        let json: Json = serde_json::from_str(text).unwrap();
        serde_json::to_string(&json).unwrap()
    }

    #[test]
    fn do_keys_keep_their_order() {
        let text = r#"{"b":[1,-2,2.5,null,true,"\n🐰"],"a":{"z":{},"y":[]}}"#;
        assert_eq!(round_trip(text), text);
    }

    #[test]
    fn are_numbers_shown_as_they_stood_there() {
        for (text, shown) in [
            ("12345678901234567890123", "12345678901234567890123"),
            ("[1e400, -0.10,\n 2.50E-3]", "[1e400, -0.10, 2.50E-3]"),
            (r#"{"a" : 1.0,"b:,":"\\\" :," }"#, r#"{"a": 1.0, "b:,": "\\\" :,"}"#),
            (r#"{"a":1,"b":[ 2]}"#, r#"{"a": 1, "b": [2]}"#),
        ] {
            let Ok(json) = serde_json::from_str::<Json>(text) else { continue };
            let mut out = Vec::new();
            write_text_of(&mut out, &json, text).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), shown);
        }
    }

    #[test]
    fn does_the_last_of_a_repeated_key_count() {
        assert_eq!(round_trip(r#"{"a":1,"b":2,"a":3,"c":4,"a":5}"#), r#"{"a":5,"b":2,"c":4}"#);
        assert_eq!(round_trip(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
    }

    #[test]
    fn is_every_value_the_one_that_serde_json_reads() {
        for text in ["18446744073709551615", "-9223372036854775808", "1e400", "\"\\ud800\"", "[1,]"]
        {
            let ours = serde_json::from_str::<Json>(text).ok();
            let theirs = serde_json::from_str::<serde_json::Value>(text).ok();
            let ours = ours.map(|value| serde_json::to_value(value).unwrap());
            assert_eq!(ours, theirs, "{text}");
        }
    }
}
