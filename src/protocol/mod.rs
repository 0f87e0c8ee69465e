//! Messages: bytes in, messages out, and back. No sockets and no clock.
//!
//! Three framings say where a message ends:
//!
//! - [`JsonHeader`]: two bytes with the length of a JSON header, the header,
//!   and as many bytes of content as the header says (with the feature `json`);
//! - [`Padded`]: 64 bytes with a decimal length and spaces, then UTF-8 text;
//! - [`Raw`]: whatever has been received is a message.
//!
//! [`Decoder`] and [`Framing::encode`] are the simple way in:
//!
//! ```
//! use myriapod::protocol::{Decoder, Framing, Head, JsonHeader};
//!
//! let mut wire = Vec::new();
//! JsonHeader::default().encode(&mut wire, &Head::json(), br#"{"action": "search"}"#)?;
//!
//! let mut decoder = Decoder::new(JsonHeader::default());
//! decoder.feed(&wire[..50]);
//! assert!(decoder.next_message()?.is_none());
//! decoder.feed(&wire[50..]);
//! let message = decoder.next_message()?.expect("the message is whole");
//! assert_eq!(message.content_type(), "text/json");
//! assert_eq!(message.json()?["action"], "search");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
#[cfg(feature = "encoding")]
mod content;
#[cfg(not(feature = "encoding"))]
#[path = "utf8_content.rs"]
mod content;
mod decoder;
mod error;
mod extra;
mod frame;
mod head;
#[cfg(feature = "json")]
mod json;
mod message;
mod padded;
mod raw;
#[cfg(not(feature = "json"))]
mod without_json;

pub use decoder::Decoder;
pub use error::{EncodeError, Fault, ProtocolError};
pub use extra::ExtraHeaders;
pub use frame::{ByteOrder, Frame};
pub use head::{Head, Mark};
#[cfg(all(fuzzing, feature = "json"))]
#[doc(hidden)]
pub use json::check_scan;
#[cfg(feature = "json")]
pub use json::{DefaultFraming, JsonHeader, encode, encode_json, write_json};
pub use message::{Message, OwnedMessage};
pub use padded::{Padded, encode_padded};
pub use raw::Raw;
#[cfg(not(feature = "json"))]
pub use without_json::DefaultFraming;

/// How long the parts of a message may be.
///
/// ```
/// use myriapod::protocol::DecodeLimits;
///
/// let limits = DecodeLimits::default();
/// assert_eq!((limits.max_header_len, limits.max_content_len), (4096, 1 << 20));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Bytes of the JSON header, 4,096 unless set. Two bytes say its length, so
    /// more than 65,535 is the same as 65,535.
    pub max_header_len: usize,
    /// Bytes of content, 1 MiB unless set. More than [`DecodeLimits::MAX_CONTENT_LEN`]
    /// is the same as that.
    pub max_content_len: usize,
}

impl DecodeLimits {
    /// The largest content that can be allowed, in bytes: 4 GiB less 128 KiB, so
    /// that every position in a message fits 32 bits.
    pub const MAX_CONTENT_LEN: usize = (u32::MAX - 0x1_ffff) as usize;

    /// The limit of content as a number that is compared with a length of 32 bits.
    fn content_len_in_32_bits(&self) -> u32 {
        u32::try_from(self.max_content_len.min(Self::MAX_CONTENT_LEN)).unwrap_or(u32::MAX)
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_header_len: 4096, max_content_len: 1 << 20 }
    }
}

/// What [`Framing::decode`] finds at the start of its input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// A whole message.
    Message(Frame),
    /// The start of a message. Not an error.
    Incomplete {
        /// The bytes, counted from the start of this message, that must be there
        /// before decoding again makes sense. More than the input had.
        needed: usize,
        /// The header is whole, only content is missing.
        in_content: bool,
    },
}

/// A way to find messages in a stream of bytes, and to write them into one.
///
/// What it learns from the messages it sees (the headers to predict) is its
/// state: one value serves all connections of a loop.
pub trait Framing {
    /// Works within these limits from now on. A server gives its own to its framing when it is
    /// built, and again when they change. It refuses longer messages also where the framing does not
    /// know better.
    fn set_limits(&mut self, limits: DecodeLimits) {
        let _ = limits;
    }

    /// Looks at the message that `input` starts with, and at nothing behind it.
    ///
    /// # Errors
    ///
    /// A fault of the framing, at offset 0. Faults of the content are found
    /// when [`Message::text`] or [`Message::json`] reads it.
    fn decode(&mut self, input: &[u8]) -> Result<Decoded, ProtocolError>;

    /// Whether `input` starts with a whole message, much like one before it, so that this can be told
    /// at little cost; `frame` is then what [`decode`](Self::decode) would find. If not, `decode` is
    /// to be asked, as it always may be. It keeps the limits that were [set](Self::set_limits):
    /// for a message that comes alone and in one piece (64 KiB at most), nobody else does.
    fn predict(&mut self, input: &[u8], frame: &mut Frame) -> bool {
        let _ = (input, frame);
        false
    }

    /// Whether this framing would write `message`, to the byte, as it came: its echo is then a copy.
    /// A framing that cannot tell says no.
    fn would_write(&self, message: &Message<'_>) -> bool {
        let _ = message;
        false
    }

    /// Leaves room for a header at the end of `out`. The caller then appends the
    /// content and calls [`finish`](Self::finish). The closer `head` is to the
    /// one given then, the less has to be moved.
    ///
    /// # Errors
    ///
    /// [`EncodeError::HeaderTooLong`]; `out` is as it was.
    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError>;

    /// Writes the header in front of the content: all that stands in `out` behind
    /// the room that [`begin`](Self::begin) left.
    ///
    /// # Errors
    ///
    /// [`EncodeError::HeaderTooLong`]; `out` is cut back to what it was before
    /// `begin`. [`EncodeError::MarkLost`] if `out` is shorter than `begin` left it.
    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, head: &Head<'_>)
    -> Result<(), EncodeError>;

    /// Appends the reply that tells a peer of an error: its kind, for programs,
    /// and a text, for people. A framing without such a reply appends nothing.
    ///
    /// # Errors
    ///
    /// [`EncodeError::HeaderTooLong`] for an absurdly long `kind`.
    fn error_reply(&mut self, out: &mut Vec<u8>, kind: &str, text: &str)
    -> Result<(), EncodeError>;

    /// Appends one whole message whose content is there already.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        let mark = self.begin(out, head)?;
        out.extend_from_slice(content);
        self.finish(out, mark, head)
    }
}

impl<F: Framing + ?Sized> Framing for Box<F> {
    fn set_limits(&mut self, limits: DecodeLimits) {
        (**self).set_limits(limits);
    }

    fn decode(&mut self, input: &[u8]) -> Result<Decoded, ProtocolError> {
        (**self).decode(input)
    }

    fn predict(&mut self, input: &[u8], frame: &mut Frame) -> bool {
        (**self).predict(input, frame)
    }

    fn would_write(&self, message: &Message<'_>) -> bool {
        (**self).would_write(message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        (**self).begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        (**self).finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        (**self).error_reply(out, kind, text)
    }

    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        (**self).encode(out, head, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_whole_message_without_a_json_header_told_at_little_cost() {
        fn check(framing: &mut impl Framing, wire: &[u8], whole: impl Fn(usize) -> bool) {
            for end in 0..=wire.len() {
                let (input, mut frame) = (wire.get(..end).unwrap(), Frame::NONE);
                assert_eq!(framing.predict(input, &mut frame), whole(end), "{end} bytes");
                if whole(end) {
                    assert_eq!(framing.decode(input), Ok(Decoded::Message(frame)), "{end} bytes");
                }
            }
        }
        check(&mut Raw, b"whatever comes", |len| len > 0);
        check(&mut Box::new(Raw), b"whatever comes", |len| len > 0);
        let mut wire = Vec::new();
        encode_padded(&mut wire, "Hello World!").unwrap();
        check(&mut Padded::default(), &wire, |len| len == Padded::HEADER_LEN + 12);
        wire[0] = b'-';
        check(&mut Padded::default(), &wire, |_| false);
    }
}
