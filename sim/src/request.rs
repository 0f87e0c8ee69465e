//! What peers ask, and what the only right answer to it is.

use std::fmt;

use myriapod::protocol::{
    ByteOrder, DecodeLimits, EncodeError, ExtraHeaders, Framing, Head, Message, Padded, encode,
    encode_padded,
};
use myriapod::sys::sim::Rng;

use crate::framing::FramingKind;

/// What a request asks the service to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Send it back as it is.
    Echo,
    /// Answer with so many bytes that only this request has.
    Sized(usize),
    /// Answer with JSON.
    Json,
    /// Answer nothing.
    Nothing,
    /// Answer later.
    Later,
    /// Promise an answer, and drop the promise.
    Abandon,
    /// Fail.
    Error,
    /// Send content that is no JSON although its header says so.
    BadJson,
    /// Answer, and close.
    Close,
    /// Answer later, and close then.
    CloseLater,
    /// Panic.
    Panic,
    /// Push, and answer; which of them the service does first is its affair.
    Push,
    /// Close at once.
    CloseNow,
    /// Close at once by a reset.
    Reset,
}

/// The only right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Bytes {
        content_type: &'static str,
        content: Vec<u8>,
    },
    Error {
        kind: &'static str,
    },
    /// Some error reply, whatever its kind.
    AnyError,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { content_type, content } => {
                let content = content.get(..60).unwrap_or(content);
                write!(f, "{:?} of type {content_type}", String::from_utf8_lossy(content))
            }
            Self::Error { kind } => write!(f, "the error {kind}"),
            Self::AnyError => f.write_str("an error"),
        }
    }
}

/// A request as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) wire: Vec<u8>,
    /// Bytes of the wire that are header.
    pub(crate) header_len: usize,
    pub(crate) answer: Option<Answer>,
    /// Whether the server closes the connection after it.
    pub(crate) ends: bool,
}

/// The bytes that answer one request of one peer, and no other.
pub(crate) fn answer_bytes(peer: u32, sequence: u32, len: usize) -> Vec<u8> {
    let mut bytes = format!("answer to {peer} {sequence}: ").into_bytes();
    let mut rng = Rng::new(u64::from(peer) << 32 | u64::from(sequence));
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.bits().to_le_bytes());
    }
    bytes
}

/// What a request says: who asks, the how-manieth question of theirs it is, and what they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) peer: u32,
    pub(crate) sequence: u32,
    pub(crate) verb: Verb,
}

impl Question {
    fn text(self) -> String {
        let (verb, number) = match self.verb {
            Verb::Echo => ("echo", 0),
            Verb::Sized(len) => ("sized", len),
            Verb::Json => ("json", 0),
            Verb::Nothing => ("nothing", 0),
            Verb::Later => ("later", 0),
            Verb::Abandon => ("abandon", 0),
            Verb::Error => ("error", 0),
            Verb::BadJson => ("bad", 0),
            Verb::Close => ("close", 0),
            Verb::CloseLater => ("closelater", 0),
            Verb::Panic => ("panic", 0),
            Verb::Push => ("push", 0),
            Verb::CloseNow => ("closenow", 0),
            Verb::Reset => ("reset", 0),
        };
        format!("{verb} {} {} {number}|", self.peer, self.sequence)
    }

    /// How long its content is, without padding.
    pub(crate) fn len(self) -> usize {
        self.text().len()
    }

    /// Reads what [`Request::new`] wrote, in content of either type.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let end = content.iter().position(|byte| *byte == b'|')?;
        let text = std::str::from_utf8(content.get(..end)?).ok()?;
        let mut words = text.trim_start_matches('"').split(' ');
        let verb = words.next()?;
        let peer = words.next()?.parse().ok()?;
        let sequence = words.next()?.parse().ok()?;
        let number: usize = words.next()?.parse().ok()?;
        let verb = match verb {
            "echo" => Verb::Echo,
            "sized" => Verb::Sized(number),
            "json" => Verb::Json,
            "nothing" => Verb::Nothing,
            "later" => Verb::Later,
            "abandon" => Verb::Abandon,
            "error" => Verb::Error,
            "bad" => Verb::BadJson,
            "close" => Verb::Close,
            "closelater" => Verb::CloseLater,
            "panic" => Verb::Panic,
            "push" => Verb::Push,
            "closenow" => Verb::CloseNow,
            "reset" => Verb::Reset,
            _ => return None,
        };
        Some(Self { peer, sequence, verb })
    }
}

impl Request {
    /// A request with `padding` further bytes of content.
    pub(crate) fn new(
        framing: FramingKind,
        question: Question,
        padding: usize,
        with_header: bool,
    ) -> Result<Self, EncodeError> {
        let Question { peer, sequence, verb } = question;
        let is_json = matches!(verb, Verb::Json | Verb::BadJson);
        let is_padded = framing == FramingKind::Padded;
        let mut content = question.text();
        // Text may arrive in the middle of a letter.
        content.extend((0..padding / 2).map(|_| if is_padded { "é" } else { ".." }));
        content.extend((0..padding % 2).map(|_| '.'));
        if is_json {
            content.insert(0, '"');
            if verb == Verb::Json {
                content.push('"');
            }
        }
        let content_type = if is_json { "text/json" } else { "sim/ask" };
        let mut wire = Vec::new();
        if is_padded {
            encode_padded(&mut wire, &content)?;
        } else {
            let mut extra = ExtraHeaders::new();
            if with_header {
                extra.push("request-id", &sequence)?;
            }
            let head = if is_json { Head::json() } else { Head::binary(content_type) };
            let head = Head { byteorder: ByteOrder::Little, extra: &extra, ..head };
            encode(&mut wire, &head, content.as_bytes())?;
        }
        let header_len = wire.len() - content.len();
        let sized = |len| {
            let content = answer_bytes(peer, sequence, len);
            Some(Answer::Bytes { content_type: "sim/answer", content })
        };
        let error = |kind, text: &str| match framing {
            FramingKind::JsonHeader => Some(Answer::Error { kind }),
            FramingKind::Padded | FramingKind::Raw => Some(Answer::bare_error(text)),
        };
        let answer = match verb {
            Verb::Echo => Some(Answer::Bytes { content_type, content: content.into_bytes() }),
            Verb::Sized(len) => sized(len),
            Verb::Later | Verb::Close | Verb::CloseLater | Verb::Push => sized(0),
            Verb::Json => {
                let content = format!("{{\"peer\": {peer}, \"sequence\": {sequence}}}").into();
                Some(Answer::Bytes { content_type: "text/json", content })
            }
            Verb::Nothing | Verb::Panic | Verb::CloseNow | Verb::Reset => None,
            Verb::Abandon => error("Abandoned", "the answer was abandoned"),
            Verb::Error => error("Refused", REFUSAL),
            Verb::BadJson => error("ContentNotJson", &complaint(&wire)),
        };
        let ends = matches!(
            verb,
            Verb::Close
                | Verb::CloseLater
                | Verb::Panic
                | Verb::Abandon
                | Verb::CloseNow
                | Verb::Reset
        );
        Ok(Self { verb, wire, header_len, answer, ends })
    }

    /// Bytes that are no message, in one of the ways there are.
    pub(crate) fn garbage(
        framing: FramingKind,
        rng: &mut Rng,
        max_header_len: usize,
        max_content_len: usize,
    ) -> Self {
        let (mut wire, header_len) = match framing {
            FramingKind::JsonHeader => garbled_json(rng, max_header_len, max_content_len),
            FramingKind::Padded | FramingKind::Raw => garbled_padded(rng, max_content_len),
        };
        let answer = match framing {
            FramingKind::JsonHeader => Answer::AnyError,
            FramingKind::Padded | FramingKind::Raw => {
                let limits = DecodeLimits { max_content_len, ..DecodeLimits::default() };
                let error = Padded::new(limits).find(&wire).err();
                Answer::bare_error(&error.map(|error| error.to_string()).unwrap_or_default())
            }
        };
        let more = rng.len(0, 300);
        wire.extend((0..more).map(|_| b'x'));
        Self { verb: Verb::Nothing, wire, header_len, answer: Some(answer), ends: true }
    }
}

/// What the service says where it is asked to fail.
pub(crate) const REFUSAL: &str = "not today";

impl Answer {
    /// An error as the padded framing tells of it.
    fn bare_error(text: &str) -> Self {
        let content = format!("Error: {text}").into_bytes();
        Self::Bytes { content_type: "text/plain", content }
    }
}

/// What reading a padded message's content as JSON fails with.
fn complaint(wire: &[u8]) -> String {
    let Ok(Some(frame)) = Padded::default().find(wire) else { return String::new() };
    let read = Message::new(wire, &frame).json();
    read.err().map(|error| error.to_string()).unwrap_or_default()
}

/// No message with a JSON header, and how long what says so is.
fn garbled_json(rng: &mut Rng, max_header_len: usize, max_content_len: usize) -> (Vec<u8>, usize) {
    let header = |text: &str| {
        let len = u16::try_from(text.len()).unwrap_or_default();
        [&len.to_be_bytes(), text.as_bytes()].concat()
    };
    let valid = |content_len: usize| {
        format!(
            "{{\"byteorder\": \"little\", \"content-type\": \"x\", \
             \"content-encoding\": \"binary\", \"content-length\": {content_len}}}"
        )
    };
    let wire = match rng.below(7) {
        0 => return (vec![0xff, 0xff], 2 + usize::from(u16::MAX)),
        1 => header("no JSON"),
        2 => header("[]"),
        3 => header("{\"byteorder\": \"little\"}"),
        4 => header(&valid(99_999_999)),
        // A byte more than is allowed.
        5 => header(&valid(max_content_len + 1)),
        _ => header(&format!("{:<1$}", valid(1), max_header_len + 1)),
    };
    let len = wire.len();
    (wire, len)
}

/// No padded message.
fn garbled_padded(rng: &mut Rng, max_content_len: usize) -> (Vec<u8>, usize) {
    let too_long = (max_content_len + 1).to_string();
    let length = match rng.below(7) {
        0 => "no number",
        1 => "-5",
        2 => "05",
        3 => "5 5",
        // It has more than 64 bits.
        4 => "99999999999999999999999",
        // A byte more than is allowed.
        5 => &too_long,
        _ => "3",
    };
    let mut wire = format!("{length:<64}").into_bytes();
    let header_len = wire.len();
    // The header of the last one is good, and the text is none.
    wire.extend_from_slice(b"\xffno");
    (wire, header_len)
}
