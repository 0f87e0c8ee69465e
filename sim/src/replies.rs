//! [`Replies`]: what comes back to a peer, taken apart and held against what it is owed.

use std::fmt;

use myriapod::protocol::{DecodeLimits, Decoder, JsonHeader, Message};

use crate::framing::FramingKind;
use crate::request::Answer;

/// What a push begins and ends with; no answer begins so, and no push has its end within.
const PUSH_START: u8 = 0x02;
const PUSH_END: u8 = 0x03;

/// What a padded peer is told for whose message there is no room.
const NO_ROOM: &[u8] = b"Error: the buffers of all connections are full; try again later";

/// To whom a push goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    All,
    /// All but this peer.
    AllBut(u32),
    Peer(u32),
    /// A peer, with a message of its own, before the answer to it.
    Asker(u32),
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::AllBut(peer) => write!(f, "but {peer}"),
            Self::Peer(peer) => write!(f, "to {peer}"),
            Self::Asker(peer) => write!(f, "asker {peer}"),
        }
    }
}

/// The content of a push: also where nothing but content is sent, it can be
/// told from an answer.
pub(crate) fn push_content(to: To, number: u64, padding: usize) -> Vec<u8> {
    let mut content = vec![PUSH_START];
    content.extend_from_slice(format!("{to} {number}|").as_bytes());
    content.resize(content.len() + padding, b'.');
    content.push(PUSH_END);
    content
}

/// The stream of replies of one connection.
#[derive(Debug)]
pub(crate) enum Replies {
    JsonHeader(Box<Decoder<JsonHeader>>),
    /// Without headers nothing says where an answer ends, but the peer knows what it must be.
    Bare {
        bytes: Vec<u8>,
        /// How many of them are done with.
        start: usize,
    },
}

/// What a whole reply was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The answer that was owed.
    Answer,
    /// A push, to several or to this peer alone, with its number.
    Push { is_to_all: bool, number: u64 },
    /// A push that came with the answer to the request of this number.
    PushBefore(u32),
    /// All buffers are full: nothing comes after that.
    Refused,
}

impl Replies {
    pub(crate) fn new(framing: FramingKind) -> Self {
        match framing {
            FramingKind::JsonHeader => {
                let framing = JsonHeader::new(DecodeLimits::default());
                Self::JsonHeader(Box::new(Decoder::new(framing)))
            }
            FramingKind::Padded | FramingKind::Raw => Self::Bare { bytes: Vec::new(), start: 0 },
        }
    }

    /// Appends what was received.
    pub(crate) fn feed(&mut self, received: &[u8]) {
        match self {
            Self::JsonHeader(decoder) => decoder.feed(received),
            Self::Bare { bytes, start } => {
                bytes.drain(..std::mem::take(start));
                bytes.extend_from_slice(received);
            }
        }
    }

    /// Whether the beginning of a reply has come, and not its end.
    pub(crate) fn has_half_a_reply(&self) -> bool {
        match self {
            Self::JsonHeader(decoder) => decoder.rest() > 0,
            Self::Bare { bytes, start } => *start < bytes.len(),
        }
    }

    /// The next whole reply, which is a push to this peer or what it is `owed`.
    pub(crate) fn next(
        &mut self,
        peer: u32,
        owed: Option<&Answer>,
    ) -> Result<Option<Came>, String> {
        match self {
            Self::JsonHeader(decoder) => match decoder.next_message() {
                Ok(Some(message)) if message.content_type() == "sim/push" => {
                    read_push(message.content(), peer).map(Some)
                }
                Ok(Some(message)) if message.error_kind().as_deref() == Some("BufferLimit") => {
                    Ok(Some(Came::Refused))
                }
                Ok(Some(message)) => answers(&message, peer, owed).map(|()| Some(Came::Answer)),
                Ok(None) => Ok(None),
                Err(error) => Err(format!("peer {peer}: no message: {error}")),
            },
            Self::Bare { bytes, start } => {
                let rest = bytes.get(*start..).unwrap_or_default();
                let (whole, came) = match (rest, owed) {
                    ([], _) => return Ok(None),
                    ([PUSH_START, ..], _) => {
                        let Some(end) = rest.iter().position(|byte| *byte == PUSH_END) else {
                            return Ok(None);
                        };
                        let push = rest.get(..=end).unwrap_or_default();
                        (push.len(), read_push(push, peer)?)
                    }
                    (_, Some(Answer::Bytes { content, .. })) => {
                        let len = content.len().min(rest.len());
                        if content.get(..len) != rest.get(..len) && is_refusal(rest) {
                            return Ok((rest.len() >= NO_ROOM.len()).then_some(Came::Refused));
                        }
                        if content.get(..len) != rest.get(..len) {
                            let (came, owed) = (show(rest), show(content));
                            return Err(format!("peer {peer}: {came} in place of {owed}"));
                        }
                        if len < content.len() {
                            return Ok(None);
                        }
                        (len, Came::Answer)
                    }
                    (_, _) if is_refusal(rest) => {
                        return Ok((rest.len() >= NO_ROOM.len()).then_some(Came::Refused));
                    }
                    (_, _) => return Err(format!("peer {peer}: nobody asked for {}", show(rest))),
                };
                *start += whole;
                Ok(Some(came))
            }
        }
    }
}

/// Whether this is, or begins, the reply to a message for which there is no room.
fn is_refusal(rest: &[u8]) -> bool {
    let len = rest.len().min(NO_ROOM.len());
    rest.get(..len) == NO_ROOM.get(..len)
}

fn show(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes.get(..60).unwrap_or(bytes)))
}

/// Whether a message is the answer that is owed.
fn answers(message: &Message<'_>, peer: u32, owed: Option<&Answer>) -> Result<(), String> {
    let it_is = |owed: &Answer| match owed {
        Answer::Bytes { content_type, content } => {
            message.content_type() == *content_type && message.content() == content
        }
        Answer::Error { kind } => message.error_kind().as_deref() == Some(*kind),
        Answer::AnyError => message.error_kind().is_some(),
    };
    let came = || format!("{} of type {}", show(message.content()), message.content_type());
    match owed {
        Some(owed) if it_is(owed) => Ok(()),
        Some(owed) => Err(format!("peer {peer}: {} in place of {owed}", came())),
        None => Err(format!("peer {peer}: nobody asked for {}", came())),
    }
}

/// Reads what [`push_content`] wrote.
fn read_push(content: &[u8], peer: u32) -> Result<Came, String> {
    let text = String::from_utf8_lossy(content);
    let text = text.trim_start_matches(char::from(PUSH_START));
    let head = text.split('|').next().unwrap_or_default();
    let mut words = head.rsplitn(2, ' ');
    let number: Option<u64> = words.next().and_then(|number| number.parse().ok());
    let to = words.next().unwrap_or_default();
    let is_but_others = to.starts_with("but ") && to != To::AllBut(peer).to_string();
    match number {
        Some(number) if to == "all" || is_but_others => Ok(Came::Push { is_to_all: true, number }),
        Some(number) if to == To::Peer(peer).to_string() => {
            Ok(Came::Push { is_to_all: false, number })
        }
        Some(number) if to == To::Asker(peer).to_string() => {
            Ok(Came::PushBefore(u32::try_from(number).unwrap_or(u32::MAX)))
        }
        _ => Err(format!("peer {peer}: a push to somebody else: {text}")),
    }
}
