//! What the tutorial's programs print, in Python's notation: `repr()` in a few lines.

#![allow(dead_code, reason = "not every program shows every kind of value")]

use std::fmt::{self, Write};

use myriapod::SocketAddr;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A socket's address as Python's `socket` module shows it: `('127.0.0.1', 65432)`.
pub(crate) fn address(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("('{}', {})", v4.ip(), v4.port()),
        SocketAddr::V6(v6) => {
            format!("('{}', {}, {}, {})", v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id())
        }
        SocketAddr::Unix(_) => text(address.to_string().trim_start_matches("unix:")),
    }
}

/// Bytes: `b'\x00d{"byteorder"…'`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    let mut out = format!("b{}", char::from(quote));
    for &byte in bytes {
        match byte {
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\\' => out.push_str("\\\\"),
            _ if byte == quote => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(char::from(quote));
    out
}

/// Text: `'Follow the white rabbit. 🐰'`.
pub(crate) fn text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => out.extend(['\\', c]),
            _ if is_printable(c) => out.push(c),
            _ => match u32::from(c) {
                code @ ..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
    out
}

/// Python's `str.isprintable`: no control, no invisible mark, no space but the plain one. The
/// standard library escapes the same; behind a letter it leaves marks that combine with it.
fn is_printable(c: char) -> bool {
    !format!("a{c}").escape_debug().to_string().starts_with("a\\u{")
}

/// Text as it is, but for control characters: a peer cannot print lines of its own, nor colours.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| {
        let escaped = c.is_control().then(|| c.escape_default().to_string());
        escaped.unwrap_or_else(|| c.to_string())
    };
    text.chars().map(shown).collect()
}

/// A JSON value as Python shows it after `json.loads`, in the sender's order:
/// `{'action': 'search', 'value': None}`. Made by deserializing into it.
pub(crate) struct Json(String);

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json("None".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json(if value { "True" } else { "False" }.to_owned()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json(text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut out = String::from("[");
        while let Some(item) = items.next_element::<Json>()? {
            let comma = if out.len() > 1 { ", " } else { "" };
            let _ = write!(out, "{comma}{item}");
        }
        out.push(']');
        Ok(Json(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut out = String::from("{");
        while let Some((key, value)) = members.next_entry::<Json, Json>()? {
            let comma = if out.len() > 1 { ", " } else { "" };
            let _ = write!(out, "{comma}{key}: {value}");
        }
        out.push('}');
        Ok(Json(out))
    }
}
