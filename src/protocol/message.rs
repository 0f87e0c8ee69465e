//! [`Message`]: a view of one message; [`OwnedMessage`]: the same with its bytes.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::content;
use super::error::{Fault, ProtocolError};
use super::frame::{ByteOrder, Frame, FrameKind, Span};
use super::header::TEXT_JSON;
use super::json_text::{self, Members, unescape};

/// One message, borrowed from the buffer that it was received in.
///
/// The same for all framings: a message without a JSON header answers as if it
/// had one.
///
/// ```
/// use myriapod::protocol::{ByteOrder, Decoded, Framing, JsonHeader, Message};
///
/// let wire = b"\x00\x6e{\"byteorder\": \"big\", \"content-type\": \"text/json\", \
///     \"content-encoding\": \"utf-8\", \"content-length\": 8, \"id\": [7]}[1, \"a\"]";
/// let Decoded::Message(frame) = JsonHeader::default().decode(wire)? else { panic!() };
/// let message = Message::new(wire, &frame);
/// assert!(message.is_json());
/// assert_eq!(message.byteorder(), ByteOrder::Big);
/// assert_eq!(message.header("id"), Some(serde_json::json!([7])));
/// assert_eq!(message.json_as::<(u8, String)>()?, (1, "a".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    frame: &'a Frame,
    offset: u64,
}

macro_rules! read_numbers {
    ($($name:ident: $type:ident,)*) => {
        $(
            #[doc = concat!("Reads a `", stringify!($type), "` from the content at `offset`, in the sender's byte order.")]
            ///
            /// `None` if it does not lie within the content.
            #[must_use]
            pub fn $name(&self, offset: usize) -> Option<$type> {
                let bytes = self.content().get(offset..)?.first_chunk()?;
                Some(match self.frame.layout.byteorder {
                    ByteOrder::Little => $type::from_le_bytes(*bytes),
                    ByteOrder::Big => $type::from_be_bytes(*bytes),
                })
            }
        )*
    };
}

impl<'a> Message<'a> {
    /// The message that starts with `bytes`, of which `frame` was decoded. What
    /// stands behind the message is ignored.
    ///
    /// Given the bytes of another message, it shows the wrong parts of them;
    /// parts beyond their end are empty.
    #[must_use]
    #[inline]
    pub const fn new(bytes: &'a [u8], frame: &'a Frame) -> Self {
        Self { bytes, frame, offset: 0 }
    }

    /// The same message, known to start at `offset` of its stream: errors then
    /// say so.
    #[must_use]
    #[inline]
    pub const fn with_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Where the message starts in its stream; 0 if nobody has said so.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the whole message, prefix and header included.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes.get(..self.frame.len()).unwrap_or(self.bytes)
    }

    /// How the sender stores numbers. Of a message without a header: as this
    /// machine does.
    #[must_use]
    #[inline]
    pub const fn byteorder(&self) -> ByteOrder {
        self.frame.layout.byteorder
    }

    /// The `content-type`. Types are compared exactly.
    #[must_use]
    pub fn content_type(&self) -> &'a str {
        match (self.frame.layout.kind, &self.frame.unescaped) {
            (FrameKind::JsonHeader, None) if self.frame.layout.json => TEXT_JSON,
            (FrameKind::JsonHeader, None) => self.span(self.frame.layout.content_type),
            (FrameKind::JsonHeader, Some(unescaped)) => &unescaped.content_type,
            (FrameKind::Padded, _) => "text/plain",
            (FrameKind::Raw, _) => "application/octet-stream",
        }
    }

    /// The `content-encoding`: the character set of text, or `binary`.
    #[must_use]
    pub fn content_encoding(&self) -> &'a str {
        match (self.frame.layout.kind, &self.frame.unescaped) {
            (FrameKind::JsonHeader, None) => self.span(self.frame.layout.content_encoding),
            (FrameKind::JsonHeader, Some(unescaped)) => &unescaped.content_encoding,
            (FrameKind::Padded, _) => "utf-8",
            (FrameKind::Raw, _) => "binary",
        }
    }

    /// Which framing it came with.
    #[inline]
    pub(super) fn kind(&self) -> FrameKind {
        self.frame.layout.kind
    }

    /// Whether the message's bytes are what we would write for it: a JSON header in our order,
    /// with our spaces and escapes. Known from the header's prediction, so it costs nothing.
    #[must_use]
    #[inline]
    pub fn is_canonical(&self) -> bool {
        self.frame.layout.canonical
    }

    /// The content.
    #[must_use]
    #[inline]
    pub fn content(&self) -> &'a [u8] {
        let start = self.frame.content_start as usize;
        self.bytes.get(start..self.frame.len()).unwrap_or_default()
    }

    /// The bytes of the header as they came: a JSON object, the 64 bytes of a
    /// padded message, or nothing.
    #[must_use]
    #[inline]
    pub fn header_bytes(&self) -> &'a [u8] {
        let end = self.frame.content_start as usize;
        let start = end - self.frame.layout.header_len as usize;
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The value of one header key, one of the four or any other.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<Value> {
        let Some(header) = self.json_header() else {
            return self.headers().remove(key);
        };
        let member = Members::of_object(header.as_bytes()).find(|member| {
            header
                .get(member.key.clone())
                .is_some_and(|quoted| *unescape(quoted, member.key_escaped) == *key)
        })?;
        serde_json::from_str(header.get(member.value)?).ok()
    }

    /// Every header key with its value, the four included.
    #[must_use]
    pub fn headers(&self) -> Map<String, Value> {
        if self.frame.layout.kind == FrameKind::JsonHeader {
            return serde_json::from_slice(self.header_bytes()).unwrap_or_default();
        }
        let mut headers = Map::new();
        headers.insert("byteorder".to_owned(), self.byteorder().name().into());
        headers.insert("content-type".to_owned(), self.content_type().into());
        headers.insert("content-encoding".to_owned(), self.content_encoding().into());
        headers.insert("content-length".to_owned(), self.content().len().into());
        headers
    }

    /// Whether `content-type` is exactly `text/json`.
    #[must_use]
    #[inline]
    pub const fn is_json(&self) -> bool {
        self.frame.layout.json
    }

    /// The content as text in its `content-encoding`, whatever its type. Borrowed
    /// where the encoding is UTF-8 or the bytes are ASCII.
    ///
    /// # Errors
    ///
    /// [`Fault::UnknownEncoding`] (`binary` is one), [`Fault::ContentNotText`].
    pub fn text(&self) -> Result<Cow<'a, str>, ProtocolError> {
        if self.frame.layout.utf8 {
            return self.utf8().map(Cow::Borrowed);
        }
        content::decode(self.content_encoding(), self.content(), self.byteorder()).map_err(
            |fault| {
                let error = if fault == Fault::UnknownEncoding {
                    ProtocolError::of_header(fault, "content-encoding")
                } else {
                    ProtocolError::new(fault)
                };
                error.with_offset(self.offset)
            },
        )
    }

    /// The content as JSON, whatever its type.
    ///
    /// Integers from -2<sup>63</sup> to 2<sup>64</sup> - 1 are exact. Other numbers become an `f64`
    /// by `serde_json`, whose last bit may differ from the nearest unless its feature
    /// `float_roundtrip` is on somewhere in the program.
    ///
    /// # Errors
    ///
    /// Those of [`text`](Self::text), [`Fault::ContentNotJson`].
    pub fn json(&self) -> Result<Value, ProtocolError> {
        self.json_as()
    }

    /// The content as JSON of the form that `T` has, whatever its type and its
    /// encoding. [`json_borrowed`](Self::json_borrowed) saves the copies of strings.
    ///
    /// Members that `T` does not ask for are skipped, and checked less strictly
    /// than [`json`](Self::json) would.
    ///
    /// # Errors
    ///
    /// Those of [`text`](Self::text), [`Fault::ContentNotJson`], and
    /// [`Fault::ContentMismatch`] if it is JSON of another form.
    pub fn json_as<T: DeserializeOwned>(&self) -> Result<T, ProtocolError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| self.not_json(&text, &error))
    }

    /// As [`json_as`](Self::json_as), for a `T` that borrows strings: from the
    /// message where its content is UTF-8, else from `buffer`, which then holds
    /// the content as UTF-8.
    ///
    /// ```
    /// use myriapod::protocol::{Decoder, Head, JsonHeader, encode};
    ///
    /// let mut decoder = Decoder::new(JsonHeader::default());
    /// let head = Head { content_encoding: "utf-16-le", ..Head::json() };
    /// encode(decoder.buffer_mut(), &head, b"\"\0a\0\"\0")?;
    /// let message = decoder.next_message()?.expect("the message is whole");
    /// let mut buffer = String::new();
    /// let value: &str = message.json_borrowed(&mut buffer)?;
    /// assert_eq!(value, "a");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`json_as`](Self::json_as).
    pub fn json_borrowed<'b, T>(&self, buffer: &'b mut String) -> Result<T, ProtocolError>
    where
        T: Deserialize<'b>,
        'a: 'b,
    {
        let text: &'b str = match self.text()? {
            Cow::Borrowed(text) => text,
            Cow::Owned(text) => {
                *buffer = text;
                buffer
            }
        };
        serde_json::from_str(text).map_err(|error| self.not_json(text, &error))
    }

    read_numbers! {
        read_u16: u16,
        read_u32: u32,
        read_u64: u64,
        read_i16: i16,
        read_i32: i32,
        read_i64: i64,
        read_f32: f32,
        read_f64: f64,
    }

    /// A copy that may outlive the buffer.
    #[must_use]
    pub fn to_owned(&self) -> OwnedMessage {
        OwnedMessage { bytes: self.bytes().into(), frame: self.frame.clone(), offset: self.offset }
    }

    /// The JSON header, where there is one.
    pub(super) fn json_header(&self) -> Option<&'a str> {
        if self.frame.layout.kind != FrameKind::JsonHeader {
            return None;
        }
        std::str::from_utf8(self.header_bytes()).ok()
    }

    fn span(&self, span: Span) -> &'a str {
        let start = usize::from(span.start);
        self.header_bytes()
            .get(start..start + usize::from(span.len))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    fn utf8(&self) -> Result<&'a str, ProtocolError> {
        std::str::from_utf8(self.content())
            .map_err(|_| ProtocolError::new(Fault::ContentNotText).with_offset(self.offset))
    }

    /// Tells text that is not JSON from JSON that is not a `T`: the parser stops
    /// at whichever comes first.
    #[cold]
    fn not_json(&self, text: &str, error: &serde_json::Error) -> ProtocolError {
        let error = match json_text::validate(text) {
            Err(error) => ProtocolError::because(Fault::ContentNotJson, error),
            Ok(()) => ProtocolError::because(Fault::ContentMismatch, error),
        };
        error.with_offset(self.offset)
    }
}

/// A message with its own copy of its bytes, which may go to another thread.
///
/// ```
/// use myriapod::protocol::{Decoded, Framing, Message, Raw};
///
/// let owned = {
///     let received = b"abc".to_vec();
///     let Ok(Decoded::Message(frame)) = Raw.decode(&received) else { panic!() };
///     Message::new(&received, &frame).to_owned()
/// };
/// assert_eq!(owned.as_message().content(), b"abc");
/// ```
#[derive(Clone, Debug)]
pub struct OwnedMessage {
    bytes: Box<[u8]>,
    frame: Frame,
    offset: u64,
}

impl OwnedMessage {
    /// The view that everything is read through.
    #[must_use]
    pub const fn as_message(&self) -> Message<'_> {
        Message { bytes: &self.bytes, frame: &self.frame, offset: self.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, ExtraHeaders, Head, JsonHeader, encode};

    fn check(head: &Head<'_>, content: &[u8], check: impl FnOnce(Message<'_>)) {
        let mut decoder = Decoder::new(JsonHeader::default());
        encode(decoder.buffer_mut(), head, content).unwrap();
        check(decoder.next_message().unwrap().unwrap());
    }

    #[test]
    fn are_numbers_read_in_the_senders_order() {
        let content = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0xff];
        check(&Head { byteorder: ByteOrder::Big, ..Head::binary("x") }, &content, |message| {
            assert_eq!(message.read_u16(0), Some(0x0102));
            assert_eq!(message.read_i16(6), Some(0x07ff));
            assert_eq!(message.read_u32(4), Some(0x0506_07ff));
            assert_eq!(message.read_u64(0), Some(0x0102_0304_0506_07ff));
            assert_eq!(message.read_f32(0), Some(f32::from_bits(0x0102_0304)));
        });
        check(&Head { byteorder: ByteOrder::Little, ..Head::binary("x") }, &content, |message| {
            assert_eq!(message.read_u16(0), Some(0x0201));
            assert_eq!(message.read_i16(6), Some(-249));
            assert_eq!(message.read_i32(4), Some(0xff07_0605_u32.cast_signed()));
            assert_eq!(message.read_i64(0), Some(0xff07_0605_0403_0201_u64.cast_signed()));
            assert_eq!(message.read_f64(0), Some(f64::from_bits(0xff07_0605_0403_0201)));
            assert_eq!(message.read_u64(1), None);
            assert_eq!(message.read_u16(7), None);
            assert_eq!(message.read_u16(usize::MAX), None);
        });
    }

    #[test]
    fn is_json_of_another_form_told_from_what_is_no_json() {
        let kind = |content: &[u8]| {
            let mut found = None;
            check(&Head::json(), content, |message| {
                found = message.json_as::<Vec<u8>>().err().map(|error| error.kind());
            });
            found
        };
        assert_eq!(kind(b"[1, 2]"), None);
        assert_eq!(kind(b"{\"a\": 1}"), Some(Fault::ContentMismatch));
        // Another form is seen first, but it is no JSON at all.
        assert_eq!(kind(b"{\"a\": nope"), Some(Fault::ContentNotJson));
        assert_eq!(kind(b"[1, 2] x"), Some(Fault::ContentNotJson));
    }

    #[test]
    fn are_further_keys_found_and_copied_as_the_sender_wrote_them() {
        let header = r#"{ "z" : [1 ,2], "byteorder":"big","content-type":"","content-encoding":"","content-length":0,"\u0061":1e2}"#;
        let mut wire = vec![0, u8::try_from(header.len()).unwrap()];
        wire.extend(header.as_bytes());
        let mut decoder = Decoder::new(JsonHeader::default());
        decoder.feed(&wire);
        let message = decoder.next_message().unwrap().unwrap();
        assert_eq!(message.header("a"), Some(100.0.into()));
        assert_eq!(message.header("content-length"), Some(0.into()));
        assert_eq!(message.header("b"), None);
        assert_eq!(message.headers().len(), 6);

        let mut copied = ExtraHeaders::new();
        copied.push_raw_from(&message).unwrap();
        assert_eq!(copied.encoded(), br#", "z": [1 ,2], "\u0061": 1e2"#);
        // The same again is refused, and changes nothing.
        let before = copied.clone();
        assert!(copied.push_raw_from(&message).is_err());
        assert!(copied.push("a", &1).is_err());
        assert_eq!(copied, before);
    }

    #[test]
    fn is_a_frame_of_other_bytes_harmless() {
        let mut out = Vec::new();
        encode(&mut out, &Head::json(), b"[]").unwrap();
        let Ok(crate::protocol::Decoded::Message(frame)) =
            crate::protocol::Framing::decode(&mut JsonHeader::default(), &out)
        else {
            panic!()
        };
        for bytes in [&b""[..], b"\xff\xff\xff", &out[..out.len() - 1], &[0xff; 500]] {
            let message = Message::new(bytes, &frame);
            let _nothing = (message.content(), message.content_type(), message.headers());
            assert_eq!(message.header("byteorder"), message.headers().remove("byteorder"));
            assert!(message.json().is_err());
            assert!(ExtraHeaders::new().push_raw_from(&message).is_ok());
        }
    }

    #[test]
    fn do_texts_of_errors_quote_little() {
        let key = "k\n".repeat(200);
        let error = ProtocolError::of_header(Fault::DuplicateHeader, key.clone());
        assert_eq!(error.header(), Some(&*key));
        assert_eq!(error.to_string(), format!("{}… occurs twice in the header", "k\\n".repeat(50)));
    }
}
