//! What peers ask, and what the only right answer to it is.

use std::fmt;

use myriapod::protocol::{ByteOrder, EncodeError, ExtraHeaders, Head, encode};
use myriapod::sys::sim::Rng;

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
            _ => return None,
        };
        Some(Self { peer, sequence, verb })
    }
}

impl Request {
    /// A request with `padding` further bytes of content.
    pub(crate) fn new(
        question: Question,
        padding: usize,
        with_header: bool,
    ) -> Result<Self, EncodeError> {
        let Question { peer, sequence, verb } = question;
        let is_json = matches!(verb, Verb::Json | Verb::BadJson);
        let mut content = question.text().into_bytes();
        content.resize(content.len() + padding, b'.');
        if is_json {
            content.insert(0, b'"');
            if verb == Verb::Json {
                content.push(b'"');
            }
        }
        let mut extra = ExtraHeaders::new();
        if with_header {
            extra.push("request-id", &sequence)?;
        }
        let content_type = if is_json { "text/json" } else { "sim/ask" };
        let head = if is_json { Head::json() } else { Head::binary(content_type) };
        let head = Head { byteorder: ByteOrder::Little, extra: &extra, ..head };
        let mut wire = Vec::new();
        encode(&mut wire, &head, &content)?;
        let sized = |len| {
            let content = answer_bytes(peer, sequence, len);
            Some(Answer::Bytes { content_type: "sim/answer", content })
        };
        let answer = match verb {
            Verb::Echo => Some(Answer::Bytes { content_type, content }),
            Verb::Sized(len) => sized(len),
            Verb::Later | Verb::Close | Verb::CloseLater => sized(0),
            Verb::Json => {
                let content = format!("{{\"peer\": {peer}, \"sequence\": {sequence}}}").into();
                Some(Answer::Bytes { content_type: "text/json", content })
            }
            Verb::Nothing | Verb::Panic => None,
            Verb::Abandon => Some(Answer::Error { kind: "Abandoned" }),
            Verb::Error => Some(Answer::Error { kind: "Refused" }),
            Verb::BadJson => Some(Answer::Error { kind: "ContentNotJson" }),
        };
        let ends = matches!(verb, Verb::Close | Verb::CloseLater | Verb::Panic | Verb::Abandon);
        Ok(Self { verb, wire, answer, ends })
    }

    /// Bytes that are no message, in one of the ways there are.
    pub(crate) fn garbage(rng: &mut Rng, max_header_len: usize, max_content_len: usize) -> Self {
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
        let mut wire = match rng.below(7) {
            0 => vec![0xff, 0xff],
            1 => header("no JSON"),
            2 => header("[]"),
            3 => header("{\"byteorder\": \"little\"}"),
            4 => header(&valid(99_999_999)),
            // A byte more than is allowed.
            5 => header(&valid(max_content_len + 1)),
            _ => header(&format!("{:<1$}", valid(1), max_header_len + 1)),
        };
        let more = rng.len(0, 300);
        wire.extend((0..more).map(|_| b'x'));
        Self { verb: Verb::Nothing, wire, answer: Some(Answer::AnyError), ends: true }
    }
}
