//! What a JSON header means, once more and in the plainest words, to hold the decoder against.
//! Tests and fuzzing use it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails as a test does")]

use std::collections::HashSet;
use std::fmt;

use myriapod::protocol::{
    ByteOrder, DecodeLimits, Decoded, Fault, Frame, Framing, Input, JsonHeader, Message,
    ProtocolError,
};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// What decoding says, in a form that two ways of decoding can be compared in.
#[derive(PartialEq, Debug)]
pub(crate) enum Said {
    Message { len: usize, header: Map<String, Value>, strings: [String; 2], order: ByteOrder },
    Incomplete { needed: usize, in_content: bool },
    Fault { kind: Fault, header: Option<String> },
}

/// What `framing` finds at the start of `input`.
pub(crate) fn look(
    framing: &mut JsonHeader,
    input: &[u8],
) -> Result<(Decoded, Frame), ProtocolError> {
    let (mut bytes, mut answer, mut frame) = (input.to_vec(), Vec::new(), Frame::new());
    let decoded = framing.decode(&mut (), Input::new(&mut bytes, &mut answer), &mut frame)?;
    assert!(bytes == input && answer.is_empty(), "it only reads");
    Ok((decoded, frame))
}

pub(crate) fn said(input: &[u8], result: Result<(Decoded, Frame), ProtocolError>) -> Said {
    match result {
        Ok((Decoded::Message, frame)) => {
            let message = Message::new(input, &frame);
            assert_eq!(message.is_json(), message.content_type() == "text/json");
            assert_eq!(message.bytes().len(), frame.len());
            Said::Message {
                len: frame.len(),
                header: message.headers(),
                strings: [message.content_type().into(), message.content_encoding().into()],
                order: message.byteorder(),
            }
        }
        Ok((Decoded::Incomplete { needed, in_content }, _)) => {
            Said::Incomplete { needed, in_content }
        }
        Ok((other, _)) => panic!("{other:?} is nothing that this framing says"),
        Err(error) => Said::Fault { kind: error.kind(), header: error.header().map(str::to_owned) },
    }
}

/// The keys at the top level, in order.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}

/// The rules once more, in the plainest words, over `serde_json`'s own tree.
pub(crate) fn plainly(limits: DecodeLimits, input: &[u8]) -> Said {
    const KEYS: [&str; 4] = ["byteorder", "content-type", "content-encoding", "content-length"];
    let fault =
        |kind, header: Option<&str>| Said::Fault { kind, header: header.map(str::to_owned) };

    if input.len() < 2 {
        return Said::Incomplete { needed: 2, in_content: false };
    }
    let header_len = usize::from(input[0]) * 256 + usize::from(input[1]);
    if header_len > limits.max_header_len {
        return fault(Fault::HeaderTooLong, None);
    }
    let content_start = 2 + header_len;
    if input.len() < content_start {
        return Said::Incomplete { needed: content_start, in_content: false };
    }
    let Ok(text) = std::str::from_utf8(&input[2..content_start]) else {
        return fault(Fault::HeaderNotUtf8, None);
    };
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return fault(Fault::HeaderNotJson, None);
    };
    let Value::Object(header) = value else {
        return fault(Fault::HeaderNotObject, None);
    };
    let mut seen = HashSet::new();
    for key in serde_json::from_str::<Keys>(text).unwrap().0 {
        if !seen.insert(key.clone()) {
            return fault(Fault::DuplicateHeader, Some(&key));
        }
    }
    if let Some(missing) = KEYS.into_iter().find(|key| !header.contains_key(*key)) {
        return fault(Fault::MissingHeader, Some(missing));
    }
    let order = match header["byteorder"].as_str() {
        Some("little") => ByteOrder::Little,
        Some("big") => ByteOrder::Big,
        _ => return fault(Fault::InvalidHeader, Some("byteorder")),
    };
    let mut strings = [String::new(), String::new()];
    for (string, key) in strings.iter_mut().zip(&KEYS[1..3]) {
        match header[*key].as_str() {
            Some(value) => value.clone_into(string),
            None => return fault(Fault::InvalidHeader, Some(key)),
        }
    }
    let Some(content_len) = header["content-length"].as_u64() else {
        return fault(Fault::InvalidHeader, Some("content-length"));
    };
    if content_len > limits.max_content_len as u64 {
        return fault(Fault::ContentTooLong, None);
    }
    let len = content_start + usize::try_from(content_len).unwrap();
    if input.len() < len {
        return Said::Incomplete { needed: len, in_content: true };
    }
    Said::Message { len, header, strings, order }
}
