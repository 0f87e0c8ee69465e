//! Encode, then decode: does what is written come back, by all ways of writing it?
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, Serializer};
use myriapod::protocol::{
    ByteOrder, DecodeLimits, Decoder, EncodeError, ExtraHeaders, Framing, Head, JsonHeader, encode,
    write_json,
};
use serde_json::{Map, Number, Value};

#[derive(Arbitrary, Debug)]
enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Natural(u64),
    Float(f64),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Integer(value) => to.serialize_i64(*value),
            Self::Natural(value) => to.serialize_u64(*value),
            Self::Float(value) => to.serialize_f64(*value),
            Self::Text(text) => to.serialize_str(text),
            Self::Array(items) => to.collect_seq(items),
            Self::Object(members) => to.collect_map(members),
        }
    }
}

/// `None` where JSON cannot say it.
fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Integer(value) => (*value).into(),
        Json::Natural(value) => (*value).into(),
        Json::Float(value) => {
            let number = Number::from_f64(*value)?;
            assert!(is_exact(*value));
            Value::Number(number)
        }
        Json::Text(text) => text.clone().into(),
        Json::Array(items) => Value::Array(items.iter().map(value).collect::<Option<_>>()?),
        Json::Object(members) => {
            let pairs = members.iter().map(|(key, member)| Some((key.clone(), value(member)?)));
            Value::Object(pairs.collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// Whether they are the same, numbers with a fraction as far as `serde_json` reads them: a few
/// units in the last place off, unless its feature `float_roundtrip` is on.
fn is_like(read: &Value, written: &Value) -> bool {
    match (read, written) {
        (Value::Number(read), Value::Number(written)) if written.is_f64() => {
            let bits = |number: &Number| number.as_f64().unwrap().to_bits();
            read.is_f64() && bits(read).abs_diff(bits(written)) <= 8
        }
        (Value::Array(read), Value::Array(written)) => {
            read.len() == written.len()
                && read.iter().zip(written).all(|(read, written)| is_like(read, written))
        }
        (Value::Object(read), Value::Object(written)) => {
            read.len() == written.len()
                && read
                    .iter()
                    .zip(written)
                    .all(|((key, read), (other, written))| key == other && is_like(read, written))
        }
        _ => read == written,
    }
}

/// Whether the text of a number is that number: the writer has no such excuse.
fn is_exact(number: f64) -> bool {
    let mut text = Vec::new();
    write_json(&mut text, &number).unwrap();
    let read: f64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
    read.to_bits() == number.to_bits()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[derive(Arbitrary, Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// One byte so often: the number of digits changes.
    Many(u8, u16),
    Json(Json),
}

#[derive(Arbitrary, Debug)]
struct Sent {
    is_big: bool,
    content_type: String,
    /// How often, so that headers can be too long.
    times: u8,
    content_encoding: String,
    extra: Vec<(String, Json)>,
    /// What is guessed when the message is begun, and turns out otherwise.
    guessed: (bool, String, String),
    content: Content,
}

const KEYS: [&str; 4] = ["byteorder", "content-type", "content-encoding", "content-length"];

fn order(is_big: bool) -> ByteOrder {
    if is_big { ByteOrder::Big } else { ByteOrder::Little }
}

/// The further keys, and what is to come back of them.
fn extra(pairs: &[(String, Json)]) -> (ExtraHeaders, Map<String, Value>) {
    let (mut extra, mut expected) = (ExtraHeaders::new(), Map::new());
    for (key, json) in pairs {
        let before = extra.clone();
        let is_there = expected.contains_key(key);
        let Some(value) = value(json) else { continue };
        match extra.push(key, &value) {
            Ok(()) => {
                assert!(!is_there && !KEYS.contains(&&**key));
                expected.insert(key.clone(), value);
            }
            Err(EncodeError::DuplicateHeader(_)) => assert!(is_there),
            Err(EncodeError::ReservedHeader(_)) => assert!(KEYS.contains(&&**key)),
            Err(EncodeError::HeaderTooLong) => {
                let all: usize = pairs.iter().map(|(key, _)| key.len() * 6 + 6).sum();
                let values: usize = expected.values().map(|value| value.to_string().len()).sum();
                // Spaces behind separators double it at most.
                assert!(all + 2 * (values + value.to_string().len()) > 65_535);
            }
            Err(error) => panic!("{error}"),
        }
        if extra == before {
            assert!(is_there || !expected.contains_key(key));
        }
    }
    (extra, expected)
}

/// What a header may take at most: each byte of a text is an escape, and spaces behind separators
/// double a value.
fn most_header_len(head: &Head<'_>, expected: &Map<String, Value>) -> usize {
    let texts = head.content_type.len() + head.content_encoding.len();
    let extra =
        expected.iter().map(|(key, value)| 6 * key.len() + 6 + 2 * value.to_string().len());
    150 + 6 * texts + extra.sum::<usize>()
}

fuzz_target!(|messages: Vec<Sent>| {
    let mut framing = JsonHeader::default();
    let limits = DecodeLimits { max_header_len: 65_535, max_content_len: 1 << 20 };
    let mut decoder = Decoder::new(JsonHeader::new(limits));
    for sent in &messages {
        let (extra, expected) = extra(&sent.extra);
        let sent_type = sent.content_type.repeat(sent.times.into());
        let head = Head {
            byteorder: order(sent.is_big),
            content_type: &sent_type,
            content_encoding: &sent.content_encoding,
            extra: &extra,
        };
        let mut json = None;
        let mut content = Vec::new();
        match &sent.content {
            Content::Bytes(bytes) => content.clone_from(bytes),
            Content::Many(byte, len) => content.resize((*len).into(), *byte),
            Content::Json(tree) => {
                json = value(tree);
                let result = write_json(&mut content, tree);
                // Not a null in place of what JSON cannot say.
                assert_eq!(result.is_ok(), json.is_some());
                match &json {
                    Some(value) => {
                        // `serde_json` reads no deeper than 127.
                        if depth(value) <= 127 {
                            let read: Value = serde_json::from_slice(&content).unwrap();
                            assert!(is_like(&read, value), "{read} and not {value}");
                        } else {
                            json = None;
                        }
                    }
                    None => assert!(content.is_empty()),
                }
            }
        }

        let mut out = b"before".to_vec();
        let written = encode(&mut out, &head, &content);
        if let Err(error) = &written {
            assert!(matches!(error, EncodeError::HeaderTooLong));
            assert!(most_header_len(&head, &expected) > 65_535);
            assert_eq!(out, b"before");
            assert!(framing.encode(&mut out, &head, &content).is_err());
            assert_eq!(out, b"before");
            continue;
        }
        let wire = out.split_off(b"before".len());
        // By a framing that remembers headers, and by one that was told another when it began.
        let mut again = Vec::new();
        framing.encode(&mut again, &head, &content).unwrap();
        assert_eq!(again, wire);
        again.clear();
        let (is_big, content_type, content_encoding) = &sent.guessed;
        let guessed =
            Head { byteorder: order(*is_big), content_type, content_encoding, ..Head::default() };
        if let Ok(mark) = framing.begin(&mut again, &guessed) {
            again.extend_from_slice(&content);
            assert_eq!(mark.content_len(&again).unwrap(), content.len());
            framing.finish(&mut again, mark, &head).unwrap();
            assert_eq!(again, wire);
        }

        decoder.feed(&wire);
        let depths = expected.values().map(depth).max().unwrap_or(0);
        if depths >= 127 {
            // Such a header is written, and nobody reads it: see `HeaderNotJson`.
            return;
        }
        let message = decoder.next_message().unwrap().expect("the message is whole");
        assert_eq!(message.bytes(), wire);
        assert_eq!(message.content(), content);
        assert_eq!(message.content_type(), sent_type);
        assert_eq!(message.content_encoding(), sent.content_encoding);
        assert_eq!(message.byteorder(), head.byteorder);
        let mut headers = message.headers();
        for key in KEYS {
            assert!(headers.remove(key).is_some());
        }
        assert!(is_like(&headers.into(), &expected.into()));
        if let Some(value) = &json {
            let text = Head { content_encoding: "utf-8", ..head };
            let mut wire = Vec::new();
            if encode(&mut wire, &text, &content).is_ok() {
                let mut decoder = Decoder::new(JsonHeader::new(limits));
                decoder.feed(&wire);
                let message = decoder.next_message().unwrap().unwrap();
                assert!(is_like(&message.json().unwrap(), value));
            }
        }
        assert_eq!(decoder.rest(), 0);
    }
});
