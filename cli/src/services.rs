//! [`Service`]: what `serve` answers with.

use std::borrow::Cow;
use std::fmt;

use myriapod::protocol::{Padded, write_json};
use myriapod::{Handler, HandlerResult, Message, Reply, SocketAddr, View};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// The applications that `serve` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    /// The tutorial's application: looks a value up, and tells the first bytes of anything binary.
    Search,
    /// The same over a framing without a header: every content is JSON text.
    #[value(skip)]
    SearchText,
    /// Sends each message back under its own header.
    Echo,
    /// Sends all bytes back as they come: no messages at all.
    Raw,
    /// The tutorial's first program: texts behind a length of 64 bytes, each of them received.
    Padded,
    /// Rooms whose members hear what is said; [`Rooms`](myriapod_rooms::Rooms) answers.
    Rooms,
}

impl Handler for Service {
    type State = ();

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) {}

    // Nothing is kept of a connection, so every one can go.
    fn hands_over(&self) -> bool {
        true
    }

    fn save(&mut self, (): &(), _saved: &mut Vec<u8>) -> bool {
        true
    }

    fn restore(&mut self, _: &[u8], _view: &mut View<'_>, _peer: &SocketAddr) -> Option<()> {
        Some(())
    }

    // A call of its own costs a tenth of an echo.
    #[inline(always)]
    fn on_message(
        &mut self,
        _state: &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        match self {
            Self::Search => search(&message, reply),
            Self::SearchText => search_json(&message, reply),
            Self::Echo | Self::Raw => Ok(reply.echo(&message)?),
            Self::Padded => padded(&message, reply),
            Self::Rooms => Ok(()),
        }
    }
}

/// Confirms a text; one of them ends the conversation.
fn padded(message: &Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    reply.binary("text/plain", Padded::RECEIVED.as_bytes())?;
    if message.content() == Padded::DISCONNECT.as_bytes() {
        reply.close();
    }
    Ok(())
}

/// Of a request with more bytes than this, lists and objects are checked, and not shown: one of a
/// mebibyte would take a hundred times as long to answer as all others.
const LONG: usize = 16 << 10;

/// Answers a request of `text/json`, and shows the first bytes of any other. A JSON content of
/// another form than an object is `ContentMismatch`.
#[inline(never)]
fn search(message: &Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    if !message.is_json() {
        let content = message.content();
        let shown = content.get(..10).unwrap_or(content);
        reply.binary_with("binary/custom-server-binary-type", |out| {
            out.append(b"First 10 bytes of request: ");
            out.append(shown);
        })?;
        return Ok(());
    }
    search_json(message, reply)
}

/// Answers a request that is JSON text.
#[inline]
fn search_json(message: &Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    let mut converted = String::new();
    let request = match message.text()? {
        Cow::Borrowed(text) => Request::predicted(text),
        Cow::Owned(_) => None,
    };
    let request = match request {
        Some(request) => request,
        None if message.content().len() > LONG => {
            message.json_borrowed::<LongRequest<'_>>(&mut converted)?.0
        }
        None => message.json_borrowed(&mut converted)?,
    };
    let answer = match &request.action {
        Shown::Text(action) if action == "search" => {
            if let Some(answer) = found(&request.value) {
                reply.json_with(|out| out.append(answer.as_bytes()))?;
                return Ok(());
            }
            Answer::NoMatch(&request.value)
        }
        action => Answer::InvalidAction(action),
    };
    reply.json(&answer)?;
    Ok(())
}

/// What the tutorial's server knows, letter case included, as the content of its answer.
fn found(value: &Shown<'_>) -> Option<&'static str> {
    let Shown::Text(value) = value else { return None };
    match &**value {
        "morpheus" => Some(r#"{"result": "Follow the white rabbit. 🐰"}"#),
        "ring" => Some(r#"{"result": "In the caves beneath the Misty Mountains. 💍"}"#),
        "🐶" => Some(r#"{"result": "🐾 Playing ball! 🏐"}"#),
        _ => None,
    }
}

/// The content of a request: a JSON object. Of a key that occurs twice the last value counts, and
/// one that does not occur is as null, as Python's `dict.get` has it.
struct Request<'a> {
    action: Shown<'a>,
    value: Shown<'a>,
}

impl<'a> Request<'a> {
    /// The request, if it is a search exactly as Python's `json.dumps` writes it with nothing to
    /// escape: most are, and this finds the value some ten times as fast as a parser.
    fn predicted(text: &'a str) -> Option<Self> {
        let value = text.strip_prefix(r#"{"action": "search", "value": ""#)?.strip_suffix("\"}")?;
        // Looks at every byte, so that it needs no branch for each.
        let special = |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
        if value.bytes().fold(false, special) {
            return None;
        }
        let text = |text| Shown::Text(Cow::Borrowed(text));
        Some(Self { action: text("search"), value: text(value) })
    }
}

/// A request of more than [`LONG`] bytes.
struct LongRequest<'a>(Request<'a>);

/// A value that is shown to the peer: text as it is, anything else as its JSON text, if it is not
/// part of a [`LongRequest`].
enum Shown<'a> {
    Text(Cow<'a, str>),
    Json(Value),
    /// What stands for a list or an object.
    Long(&'static str),
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Long(text) => f.write_str(text),
            Self::Json(value) => {
                let mut json = Vec::new();
                write_json(&mut json, value).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&json).map_err(|_| fmt::Error)?)
            }
        }
    }
}

/// `{"result": …}`, written without a copy of the text.
enum Answer<'a> {
    NoMatch(&'a Shown<'a>),
    InvalidAction(&'a Shown<'a>),
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::NoMatch(value) => {
                map.serialize_entry("result", &Sentence("No match for '", value, "'."))?;
            }
            Self::InvalidAction(action) => {
                let sentence = Sentence("Error: invalid action '", action, "'.");
                map.serialize_entry("result", &sentence)?;
            }
        }
        map.end()
    }
}

/// A value within a text.
struct Sentence<'a>(&'static str, &'a Shown<'a>, &'static str);

impl Serialize for Sentence<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}{}", self.0, self.1, self.2))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Request<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members { is_long: false })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LongRequest<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members { is_long: true }).map(Self)
    }
}

struct Members {
    is_long: bool,
}

impl<'de> Visitor<'de> for Members {
    type Value = Request<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request<'de>, A::Error> {
        let mut action = Shown::Json(Value::Null);
        let mut value = Shown::Json(Value::Null);
        let anything = Anything { is_long: self.is_long };
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Action => action = map.next_value_seed(anything)?,
                Key::Value => value = map.next_value_seed(anything)?,
                Key::Other => {
                    map.next_value::<Checked>()?;
                }
            }
        }
        Ok(Request { action, value })
    }
}

/// A value of which nothing is kept. Everything in it is checked, also what `IgnoredAny` passes over.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

enum Key {
    Action,
    Value,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "action" => Key::Action,
                    "value" => Key::Value,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_str(Name)
    }
}

/// Any value, to be shown.
#[derive(Clone, Copy)]
struct Anything {
    is_long: bool,
}

impl<'de> DeserializeSeed<'de> for Anything {
    type Value = Shown<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shown<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Shown<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Shown<'de>, E> {
        Ok(Shown::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Shown<'de>, E> {
        Ok(Shown::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Shown<'de>, E> {
        Ok(Shown::Json(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Shown<'de>, E> {
        Ok(Shown::Json(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Shown<'de>, E> {
        Ok(Shown::Json(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Shown<'de>, E> {
        Ok(Shown::Json(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Shown<'de>, E> {
        Ok(Shown::Json(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Shown<'de>, A::Error> {
        if self.is_long {
            return Checked.visit_seq(seq).map(|Checked| Shown::Long("[…]"));
        }
        Value::deserialize(SeqAccessDeserializer::new(seq)).map(Shown::Json)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Shown<'de>, A::Error> {
        if self.is_long {
            return Checked.visit_map(map).map(|Checked| Shown::Long("{…}"));
        }
        Value::deserialize(MapAccessDeserializer::new(map)).map(Shown::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &Request<'_>) -> (String, String) {
        (request.action.to_string(), request.value.to_string())
    }

    #[test]
    fn does_the_prediction_agree_with_the_parser() {
        let values = ["", "ring", "é🐶", "a b", "{}", "', '", "\u{7f}"];
        for value in values {
            let text = format!(r#"{{"action": "search", "value": "{value}"}}"#);
            let predicted = Request::predicted(&text).unwrap();
            assert_eq!(shown(&predicted), shown(&serde_json::from_str(&text).unwrap()), "{text}");
        }
        let others = [
            r#"{"action": "search", "value": "a\"}"#,
            r#"{"action": "search", "value": "\u0061"}"#,
            r#"{"action": "search", "value": "a", "value": "b"}"#,
            r#"{"action": "search", "value": "a"} "#,
            r#"{"action": "search", "value": ""#,
            r#"{"action": "search", "value": "}"#,
            r#"{"action": "search", "value": 1}"#,
            r#"{"action":"search","value":"a"}"#,
            "{\"action\": \"search\", \"value\": \"a\nb\"}",
        ];
        for text in others {
            assert!(Request::predicted(text).is_none(), "{text}");
        }
    }

    #[test]
    fn are_long_requests_checked_as_short_ones_and_not_shown() {
        let good = r#"{"a": [1e15, "x", {"b": null}], "action": "search", "value": [1, [2]]}"#;
        let LongRequest(request) = serde_json::from_str(good).unwrap();
        assert_eq!(shown(&request), ("search".to_owned(), "[…]".to_owned()));
        let LongRequest(request) = serde_json::from_str(r#"{"action": {"a": 1}}"#).unwrap();
        assert_eq!(shown(&request), ("{…}".to_owned(), "null".to_owned()));
        let nested = format!("{{\"value\": {}1{}}}", "[".repeat(200), "]".repeat(200));
        let bad = [
            r#"{"value": [1e999]}"#,
            r#"{"value": ["\ud800"]}"#,
            r#"{"other": [1,]}"#,
            r#"{"value": {"a" 1}}"#,
            "[1]",
            &nested,
        ];
        for text in bad {
            let short = serde_json::from_str::<Request<'_>>(text).err().unwrap().to_string();
            let long = serde_json::from_str::<LongRequest<'_>>(text).err().unwrap().to_string();
            assert_eq!(short, long, "{text}");
        }
    }
}
