//! [`Service`]: what a server is asked, and what a right answer is.

use std::fmt::Write as _;

use myriapod::protocol::Padded;
use serde_json::Value;

/// What the server is said to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    /// Sends all bytes back as they come
    Echo,
    /// Texts behind a length of 64 bytes, each answered with "Msg received"
    Padded,
    /// Messages with a JSON header: a search, and its result
    Search,
}

/// One message and what has to come back.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) want: Want,
}

/// A right reply.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A message with a JSON header, whose content holds this text.
    Json(Option<String>),
}

/// How far a reply is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes are expected in all, where that is known already.
    More(Option<usize>),
    /// The first so many bytes are the reply.
    Done(usize),
    /// No reply to what was asked.
    Wrong(String),
}

impl Service {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Padded => "padded",
            Self::Search => "search",
        }
    }

    /// Message `nth`, all of one length. It holds letters of more than one byte.
    pub(super) fn message(self, nth: u64) -> Message {
        self.build(&format!("check-{:06}-é✓", nth % 1_000_000))
    }

    /// One with so many bytes of text more.
    pub(super) fn large(self, nth: u64, len: usize) -> Message {
        let mut text = format!("check-{:06}-é✓", nth % 1_000_000);
        let mut at = 0_u32;
        while text.len() < len {
            // Different at every place, so that bytes in the wrong order are seen.
            let _ = write!(text, " {at}");
            at += 1;
        }
        self.build(&text)
    }

    fn build(self, text: &str) -> Message {
        match self {
            Self::Echo => Message { bytes: text.into(), want: Want::Bytes(text.into()) },
            Self::Padded => Message {
                bytes: padded(text.len().to_string().as_bytes(), text.as_bytes()),
                want: Want::Bytes(Padded::RECEIVED.into()),
            },
            Self::Search => {
                let content = serde_json::json!({ "action": "search", "value": text }).to_string();
                let tag = text.chars().take(12).collect();
                Message {
                    bytes: with_header("text/json", "utf-8", content.as_bytes()),
                    want: Want::Json(Some(tag)),
                }
            }
        }
    }

    /// A whole message without content; `None` where there is no such thing.
    pub(super) fn empty(self) -> Option<Message> {
        match self {
            Self::Echo => None,
            Self::Padded => Some(Message {
                bytes: padded(b"0", b""),
                want: Want::Bytes(Padded::RECEIVED.into()),
            }),
            Self::Search => Some(Message {
                bytes: with_header("binary/custom-client-binary-type", "binary", b""),
                want: Want::Json(None),
            }),
        }
    }

    /// Announces a content that nobody can hold, and sends 100 bytes of it.
    pub(super) fn huge(self) -> Vec<u8> {
        match self {
            Self::Echo => Vec::new(),
            Self::Padded => padded(b"99999999999", &[b'x'; 100]),
            Self::Search => header_of("99999999999", &[b'x'; 100]),
        }
    }

    /// Headers that mean nothing, by the name that a report gives them.
    pub(super) fn nonsense(self) -> Vec<(&'static str, Vec<u8>)> {
        match self {
            Self::Echo => Vec::new(),
            Self::Padded => [
                ("-5", "-5".as_bytes()),
                ("1e3", b"1e3"),
                ("five", b"five"),
                ("5.0", b"5.0"),
                ("0x5", b"0x5"),
                ("5 5", b"5 5"),
                ("٤١ (Arabic digits)", "٤١".as_bytes()),
                ("bytes 0xff", &[0xff; 64]),
                ("bytes 0", &[0; 64]),
            ]
            .into_iter()
            .map(|(name, header)| (name, padded(header, b"hello")))
            .collect(),
            Self::Search => {
                let content = [b' '; 41];
                let length = |name: &'static str| (name, header_of(name, &content));
                vec![
                    length("-5"),
                    length("41.5"),
                    length("null"),
                    length("\"41\""),
                    length("[41]"),
                    ("{}", raw_header(b"{}", &content)),
                    ("[]", raw_header(b"[]", &content)),
                    ("no JSON", raw_header(b"content-length: 41", &content)),
                    ("bytes 0xff", raw_header(&[0xff; 40], &content)),
                    ("no header", raw_header(b"", &content)),
                ]
            }
        }
    }

    /// A request after which the server closes, with `tail` bytes more behind it; `None` where
    /// nothing makes it close.
    pub(super) fn last_request(self, nth: u64, tail: usize) -> Option<Message> {
        let mut message = match self {
            Self::Echo => return None,
            Self::Padded => self.build(Padded::DISCONNECT),
            Self::Search => self.message(nth),
        };
        // A header of length 0 is a fault too: a server that reads on closes then.
        message.bytes.resize(message.bytes.len() + tail, 0);
        Some(message)
    }
}

impl Want {
    /// Looks at what has come.
    pub(super) fn progress(&self, came: &[u8]) -> Progress {
        self.progress_from(came, &mut 0)
    }

    /// The same, where the first `right` bytes were found right before; it is moved on.
    pub(super) fn progress_from(&self, came: &[u8], right: &mut usize) -> Progress {
        match self {
            Self::Bytes(bytes) => {
                let both = came.len().min(bytes.len());
                let (one, other) = (came.get(*right..both), bytes.get(*right..both));
                if one == other {
                    *right = both;
                    return if both == bytes.len() {
                        Progress::Done(both)
                    } else {
                        Progress::More(Some(bytes.len()))
                    };
                }
                let differs = came.iter().zip(bytes).position(|(one, other)| one != other);
                let at = differs.unwrap_or(both);
                Progress::Wrong(format!(
                    "byte {} of the reply is {}, not {}",
                    super::words::number(at as u64 + 1),
                    excerpt(came, at),
                    excerpt(bytes, at)
                ))
            }
            Self::Json(tag) => json_progress(came, tag.as_deref()),
        }
    }

    /// Bytes of the reply, where that is known from the start.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::Json(_) => None,
        }
    }
}

/// A content of more is none of these services'.
const MAX_CONTENT: u64 = 64 << 20;

fn json_progress(came: &[u8], tag: Option<&str>) -> Progress {
    let Some((len, rest)) = came.split_first_chunk::<2>() else { return Progress::More(None) };
    let header_len = usize::from(u16::from_be_bytes(*len));
    let Some(header) = rest.get(..header_len) else { return Progress::More(None) };
    let header: Value = match serde_json::from_slice(header) {
        Ok(header) => header,
        Err(_) => {
            let shown = excerpt(came, 0);
            return Progress::Wrong(format!("the reply begins with {shown}: no JSON header"));
        }
    };
    let Some(content_len) = header["content-length"].as_u64().filter(|len| *len <= MAX_CONTENT)
    else {
        let told = &header["content-length"];
        return Progress::Wrong(format!("the reply's content-length is {told}"));
    };
    let whole = 2 + header_len + usize::try_from(content_len).unwrap_or(usize::MAX);
    let Some(content) = came.get(2 + header_len..whole) else {
        return Progress::More(Some(whole));
    };
    let text = String::from_utf8_lossy(content);
    match tag {
        Some(tag) if !text.contains(tag) => Progress::Wrong(format!(
            "the reply does not name what was searched for ({tag}): {}",
            excerpt(content, 0)
        )),
        _ => Progress::Done(whole),
    }
}

/// Some bytes as Python shows them.
fn excerpt(bytes: &[u8], at: usize) -> String {
    let part = bytes.get(at..).unwrap_or_default();
    let shown = part.get(..16.min(part.len())).unwrap_or_default().escape_ascii();
    format!("b'{shown}{}'", if part.len() > 16 { "…" } else { "" })
}

/// A header of 64 bytes, then a content.
fn padded(header: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(64, b' ');
    bytes.extend_from_slice(content);
    bytes
}

/// A message as it should be.
fn with_header(content_type: &str, encoding: &str, content: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "{content_type}", "content-encoding": "{encoding}", "content-length": {}}}"#,
        content.len()
    );
    raw_header(header.as_bytes(), content)
}

/// A message with this text for its length.
fn header_of(length: &str, content: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {length}}}"#
    );
    raw_header(header.as_bytes(), content)
}

fn raw_header(header: &[u8], content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_messages_of_one_length_and_told_apart() {
        for service in [Service::Echo, Service::Padded, Service::Search] {
            let (one, other) = (service.message(1), service.message(999_999));
            assert_eq!(one.bytes.len(), other.bytes.len());
            assert_ne!(one.bytes, other.bytes);
            assert!(one.bytes.iter().any(|byte| *byte >= 0x80), "a letter to cut in two");
        }
    }

    #[test]
    fn is_a_right_reply_told_from_a_wrong_one() {
        let want = Service::Echo.message(7).want;
        let Want::Bytes(right) = &want else { panic!("bytes") };
        assert_eq!(want.progress(&right[..5]), Progress::More(Some(right.len())));
        assert_eq!(want.progress(&[right, &b"more"[..]].concat()), Progress::Done(right.len()));
        let Progress::Wrong(text) = want.progress(b"check-x") else { panic!("wrong") };
        assert_eq!(text, "byte 7 of the reply is b'x', not b'000007-\\xc3\\xa9\\xe2\\x9c\\x93'");
    }

    #[test]
    fn is_a_json_reply_read_to_its_end_and_no_further() {
        let want = Want::Json(Some("check-000007".into()));
        let reply = with_header("text/json", "utf-8", br#"{"result": "no check-000007"}"#);
        for cut in 0..reply.len() {
            assert!(matches!(want.progress(&reply[..cut]), Progress::More(_)), "{cut}");
        }
        let two = [&reply[..], &reply[..]].concat();
        assert_eq!(want.progress(&two), Progress::Done(reply.len()));
        let other = with_header("text/json", "utf-8", br#"{"result": 1}"#);
        assert!(matches!(want.progress(&other), Progress::Wrong(_)));
        assert!(matches!(want.progress(b"\0\x02hi"), Progress::Wrong(_)));
    }
}
