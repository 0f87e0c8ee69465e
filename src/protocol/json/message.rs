//! A message's header keys as JSON values, and its content as JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::dialect::usual_spelling;
use super::header::REQUIRED;
use super::text::{Members, unescape, validate};
use crate::protocol::error::{Fault, ProtocolError};
use crate::protocol::frame::FrameKind;
use crate::protocol::message::Message;

impl<'a> Message<'a> {
    /// The value of one header key, one of the four or any other. Of a
    /// [lenient](crate::protocol::JsonHeaderDialect::lenient) header, the four are found by their usual
    /// spelling, also those that are missing there.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<Value> {
        let header = match self.json_header() {
            Some(header) if !self.frame.layout.any_spelling() => header,
            _ => return self.headers().remove(key),
        };
        let member = Members::of_object(header.as_bytes()).find(|member| {
            header
                .get(member.key.clone())
                .is_some_and(|quoted| *unescape(quoted, member.key_escaped) == *key)
        })?;
        serde_json::from_str(header.get(member.value)?).ok()
    }

    /// The value of a further header key as it stands in the header: JSON text.
    pub(crate) fn raw_header(&self, key: &str) -> Option<&'a [u8]> {
        let header = self.json_header()?;
        let member = Members::of_object(header.as_bytes()).find(|member| {
            !member.key_escaped
                && header.get(member.key.clone()).is_some_and(|quoted| {
                    quoted.get(1..quoted.len().saturating_sub(1)) == Some(key)
                })
        })?;
        header.as_bytes().get(member.value)
    }

    /// Every header key with its value, the four included.
    #[must_use]
    pub fn headers(&self) -> Map<String, Value> {
        let mut headers = Map::new();
        if self.frame.layout.kind == FrameKind::JsonHeader {
            headers = serde_json::from_slice(self.header_bytes()).unwrap_or_default();
            if !self.frame.layout.any_spelling() {
                return headers;
            }
            headers.retain(|key, _| !REQUIRED.contains(&&*usual_spelling(key)));
        }
        headers.insert("byteorder".to_owned(), self.byteorder().name().into());
        headers.insert("content-type".to_owned(), self.content_type().into());
        headers.insert("content-encoding".to_owned(), self.content_encoding().into());
        headers.insert("content-length".to_owned(), self.content().len().into());
        headers
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

    /// The JSON header, where there is one.
    pub(super) fn json_header(&self) -> Option<&'a str> {
        if self.frame.layout.kind != FrameKind::JsonHeader {
            return None;
        }
        std::str::from_utf8(self.header_bytes()).ok()
    }

    /// Tells text that is not JSON from JSON that is not a `T`: the parser stops
    /// at whichever comes first.
    #[cold]
    fn not_json(&self, text: &str, error: &serde_json::Error) -> ProtocolError {
        let error = match validate(text) {
            Err(error) => ProtocolError::because(Fault::ContentNotJson, error),
            Ok(()) => ProtocolError::because(Fault::ContentMismatch, error),
        };
        error.with_offset(self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ByteOrder, Decoder, ExtraHeaders, Head, JsonHeader, encode};

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
        let frame = crate::protocol::Framing::find(&mut JsonHeader::default(), &out);
        let frame = frame.unwrap().unwrap();
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
