//! [`Fault`] and [`ProtocolError`]: what is wrong with the bytes of a peer;
//! [`EncodeError`]: why a message of ours cannot be written.

use std::borrow::Cow;
use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $sentence:literal,)*) => {
        /// The kinds of fault that a peer's bytes can have, in the order in
        /// which they are looked for.
        ///
        /// A fault as a `usize` is its place in [`Fault::ALL`], so an array of
        /// `Fault::ALL.len()` counters counts by kind.
        ///
        /// ```
        /// use myriapod::protocol::Fault;
        ///
        /// let mut counts = [0_u64; Fault::ALL.len()];
        /// counts[Fault::HeaderNotJson as usize] += 1;
        /// assert_eq!(Fault::HeaderNotJson.name(), "HeaderNotJson");
        /// assert_eq!(Fault::ALL[Fault::HeaderNotJson as usize], Fault::HeaderNotJson);
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every fault, in order.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            /// The fault's name, as it stands in an error reply.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

faults! {
    /// The announced header is longer than the limit.
    HeaderTooLong: "the header is longer than the limit",
    /// The header is not UTF-8.
    HeaderNotUtf8: "the header is not UTF-8",
    /// The header is not one JSON value with nothing behind it.
    HeaderNotJson: "the header is not JSON",
    /// The header is JSON, but not an object.
    HeaderNotObject: "the header is not a JSON object",
    /// A key stands twice at the top level of the header.
    DuplicateHeader: "occurs twice in the header",
    /// One of the four required keys is not there.
    MissingHeader: "is missing from the header",
    /// One of the four required keys has a value that it cannot have.
    InvalidHeader: "has an invalid value in the header",
    /// The announced content is longer than the limit.
    ContentTooLong: "the content is longer than the limit",
    /// `content-encoding` names no known encoding of text.
    UnknownEncoding: "does not name a known encoding of text",
    /// The content is malformed in its `content-encoding`.
    ContentNotText: "the content is not text in its encoding",
    /// The content is text, but not one JSON value.
    ContentNotJson: "the content is not JSON",
    /// The content is JSON, but not of the type that was asked for.
    ContentMismatch: "the content has another form than expected",
    /// The length of a padded message is not decimal digits, then spaces.
    LengthNotDecimal: "the length is not a decimal number followed by spaces",
    /// The announced text of a padded message is longer than the limit.
    TextTooLong: "the text is longer than the limit",
    /// The text of a padded message is not UTF-8.
    TextNotUtf8: "the text is not UTF-8",
    /// A fault that a framing has [named](ProtocolError::named) by itself.
    Named: "the bytes are no message of this protocol",
}

impl Fault {
    /// Whether the connection cannot go on: where the next message starts is
    /// not known, or the protocol says so.
    ///
    /// Faults of the content alone do not end a connection.
    ///
    /// ```
    /// use myriapod::protocol::Fault;
    ///
    /// assert!(Fault::HeaderNotJson.ends_connection());
    /// assert!(!Fault::ContentNotJson.ends_connection());
    /// ```
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        !matches!(
            self,
            Self::UnknownEncoding
                | Self::ContentNotText
                | Self::ContentNotJson
                | Self::ContentMismatch
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Fault {}

/// A fault in the bytes of a peer, and where it is.
///
/// The text is one plain sentence that may be sent to the peer; what it quotes
/// of the peer's bytes is escaped and cut short.
///
/// ```
/// use myriapod::protocol::{Fault, Framing, JsonHeader};
///
/// let error = JsonHeader::default().find(b"\x00\x02[]").unwrap_err();
/// assert_eq!(error.kind(), Fault::HeaderNotObject);
/// assert_eq!(error.offset(), 0);
/// assert_eq!(error.to_string(), "the header is not a JSON object");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtocolError {
    pub(super) offset: u64,
    pub(super) detail: Option<Box<Detail>>,
    pub(super) kind: Fault,
}

/// What only some faults have, boxed so that a `Result` stays small.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Detail {
    pub(super) header: Option<Cow<'static, str>>,
    pub(super) reason: Option<String>,
    /// The name of a fault that is no [`Fault`] of ours, and what it says.
    pub(super) named: Option<(&'static str, Cow<'static, str>)>,
}

impl ProtocolError {
    /// A fault at offset 0, with neither key nor reason.
    #[must_use]
    #[cold]
    pub const fn new(kind: Fault) -> Self {
        Self { offset: 0, detail: None, kind }
    }

    /// A fault of one header key.
    #[cold]
    pub(super) fn of_header(kind: Fault, header: impl Into<Cow<'static, str>>) -> Self {
        let detail = Detail { header: Some(header.into()), ..Detail::default() };
        Self { offset: 0, detail: Some(Box::new(detail)), kind }
    }

    /// A fault of a framing's own, at offset 0: its name, for programs, in the form of
    /// [`Fault::name`]; and one plain sentence without a full stop, for people. The peer gets both.
    /// Its kind is [`Fault::Named`].
    ///
    /// ```
    /// use myriapod::protocol::{Fault, ProtocolError};
    ///
    /// let error = ProtocolError::named("BulkTooLong", "the bulk string is longer than the limit");
    /// assert_eq!((error.kind(), error.name()), (Fault::Named, "BulkTooLong"));
    /// assert_eq!(error.to_string(), "the bulk string is longer than the limit");
    /// ```
    #[must_use]
    #[cold]
    pub fn named(name: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        let detail = Detail { named: Some((name, text.into())), ..Detail::default() };
        Self { offset: 0, detail: Some(Box::new(detail)), kind: Fault::Named }
    }

    /// The name that the fault has in an error reply: its kind's, or the framing's own.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.detail
            .as_ref()
            .and_then(|detail| detail.named.as_ref())
            .map_or_else(|| self.kind.name(), |(name, _)| name)
    }

    /// Which fault it is.
    #[must_use]
    pub const fn kind(&self) -> Fault {
        self.kind
    }

    /// The header key that is meant, where one is.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        self.detail.as_ref()?.header.as_deref()
    }

    /// The first byte of the faulty message. [`Framing::decode`] counts from its
    /// input, so 0; [`Decoder`] counts from the start of the stream.
    ///
    /// [`Framing::decode`]: super::Framing::decode
    /// [`Decoder`]: super::Decoder
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The same fault at another offset.
    #[must_use]
    pub const fn with_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }
}

/// The longest piece of a peer's bytes that an error's text repeats, in characters.
const QUOTED: usize = 100;

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(header) = self.header() {
            write_short(f, header)?;
            f.write_str(" ")?;
        }
        match self.detail.as_ref().and_then(|detail| detail.named.as_ref()) {
            Some((_, text)) => write_short(f, text)?,
            None => f.write_str(self.kind.sentence())?,
        }
        if let Some(reason) = self.detail.as_ref().and_then(|detail| detail.reason.as_ref()) {
            f.write_str(": ")?;
            write_short(f, reason)?;
        }
        Ok(())
    }
}

/// Writes at most [`QUOTED`] characters, control characters escaped.
fn write_short(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;

    let mut chars = text.chars();
    for c in chars.by_ref().take(QUOTED) {
        if c.is_control() {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
}

impl std::error::Error for ProtocolError {
    /// The [`Fault`], so that it is found also where a box of somebody else hides this error.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}

/// Why a message, a header or a value cannot be written. Nothing of it is left
/// in the buffer then.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The header would be longer than 65,535 bytes, which is what the two bytes
    /// of its length can say.
    HeaderTooLong,
    /// A floating-point number is a NaN or an infinity, which JSON cannot say.
    NotFinite,
    /// The key is one of the four that every header has anyway.
    ReservedHeader(Box<str>),
    /// The key is there already.
    DuplicateHeader(Box<str>),
    /// The value cannot be written as JSON: a map key that is neither string nor
    /// number, say, or an error of its own `Serialize`. A `serde_json::Error`.
    Json(Box<dyn std::error::Error + Send + Sync>),
    /// The content is longer than the length in front of it can say.
    ContentTooLong,
    /// The content contains what ends a message.
    ContentHasDelimiter,
    /// The buffer was cut back behind the mark between `begin` and `finish`.
    MarkLost,
    /// The framing cannot write the head of a message before the content is there.
    NeedsContent,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderTooLong => f.write_str("the header is longer than 65,535 bytes"),
            Self::NotFinite => f.write_str("JSON has neither NaN nor infinity"),
            Self::ReservedHeader(key) => write!(f, "the header key {key:?} is set by the encoder"),
            Self::DuplicateHeader(key) => write!(f, "the header key {key:?} is there already"),
            Self::Json(error) => write!(f, "the value cannot be written as JSON: {error}"),
            Self::ContentTooLong => f.write_str("the content is longer than its length can say"),
            Self::ContentHasDelimiter => f.write_str("the content contains what ends a message"),
            Self::MarkLost => f.write_str("the buffer was cut back behind the mark"),
            Self::NeedsContent => f.write_str("this framing writes no head before the content"),
        }
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(&**error),
            _ => None,
        }
    }
}
