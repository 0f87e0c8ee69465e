//! Messages: bytes in, messages out, and back. No sockets and no clock.
//!
//! A framing says where a message ends:
//!
//! - [`JsonHeader`]: two bytes with the length of a JSON header, the header,
//!   and as many bytes of content as the header says (with the feature `json`);
//! - [`Padded`]: 64 bytes with a decimal length and spaces, then UTF-8 text;
//! - [`LengthPrefix`]: a binary length of 1, 2, 4 or 8 bytes, then content;
//! - [`Delimited`]: content, then certain bytes, such as the end of a line;
//! - [`JsonStream`]: JSON values one after another (`json`);
//! - [`JsonHeaderDialect`]: as the first, less strict, or with another prefix (`json`);
//! - [`Raw`]: whatever has been received is a message.
//!
//! [`FramingSpec`] reads the name of one from text, and [`AnyFraming`] is any of them (`json`).
//! [`Framing`] is how to write another.
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

#[cfg(feature = "json")]
mod any;
#[cfg(feature = "encoding")]
mod code_page;
mod codec;
#[cfg(feature = "encoding")]
mod content;
#[cfg(not(feature = "encoding"))]
#[path = "utf8_content.rs"]
mod content;
mod decoder;
mod delimited;
mod error;
mod error_text;
mod extra;
#[cfg(feature = "json")]
mod find;
#[cfg(not(feature = "json"))]
#[path = "plain_find.rs"]
mod find;
mod frame;
mod framing;
mod head;
#[cfg(feature = "json")]
mod json;
mod length_prefix;
mod message;
mod message_head;
mod padded;
mod raw;
#[cfg(feature = "json")]
mod spec;
#[cfg(feature = "encoding")]
mod utf_7;
#[cfg(not(feature = "json"))]
mod without_json;

#[cfg(feature = "json")]
pub use any::{AnyFraming, AnyStream};
pub use decoder::Decoder;
pub use delimited::Delimited;
pub use error::{EncodeError, Fault, ProtocolError};
pub use extra::ExtraHeaders;
pub use frame::{ByteOrder, Frame};
pub use framing::{Decoded, Framing, Input};
pub(crate) use framing::{Missing, Writing};
pub use head::{Head, Mark};
#[cfg(all(fuzzing, feature = "json"))]
#[doc(hidden)]
pub use json::check_scan;
#[cfg(feature = "json")]
pub use json::{
    DefaultFraming, JsonHeader, JsonHeaderDialect, JsonScan, JsonStream, encode, encode_json,
    write_json,
};
pub use length_prefix::{LengthPrefix, PrefixWidth};
pub use message::{Message, OwnedMessage};
pub use message_head::MessageHead;
pub use padded::{Padded, encode_padded};
pub use raw::Raw;
#[cfg(feature = "json")]
pub use spec::{FramingSpec, UnknownFraming};
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
