//! Further header keys: encoded from values, or copied from a message.

use serde::Serialize;

use super::dialect::usual_spelling;
use super::header::REQUIRED;
use super::text::{Members, unescape};
use super::write::{write_json, write_json_string};
use crate::protocol::error::EncodeError;
use crate::protocol::extra::ExtraHeaders;
use crate::protocol::message::Message;

/// The longest header, in bytes: what the two bytes of its length can say.
const MAX_HEADER_LEN: usize = u16::MAX as usize;

impl ExtraHeaders {
    /// Appends a key.
    ///
    /// # Errors
    ///
    /// [`EncodeError::ReservedHeader`] for one of the four keys that every header
    /// has, [`EncodeError::DuplicateHeader`] for one that is there already,
    /// [`EncodeError::HeaderTooLong`] if all keys together would be longer than a
    /// header can be, and those of [`write_json`]. Nothing has changed then.
    pub fn push<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), EncodeError> {
        self.check_key(key)?;
        let start = self.encoded.len();
        self.encoded.extend_from_slice(b", ");
        write_json_string(&mut self.encoded, key);
        self.encoded.extend_from_slice(b": ");
        let result = write_json(&mut self.encoded, value);
        self.checked(start, result)
    }

    /// Appends the further keys of a received message in the sender's order, with
    /// keys and values as the sender wrote them.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// ```
    /// use myriapod::protocol::{Decoder, ExtraHeaders, Head, JsonHeader, encode};
    ///
    /// let mut sent = ExtraHeaders::new();
    /// sent.push("b", &1)?;
    /// sent.push("a", &[2.5])?;
    /// let mut decoder = Decoder::new(JsonHeader::default());
    /// encode(decoder.buffer_mut(), &Head { extra: &sent, ..Head::json() }, b"0")?;
    ///
    /// let mut copied = ExtraHeaders::new();
    /// copied.push_raw_from(&decoder.next_message()?.expect("the message is whole"))?;
    /// assert_eq!(copied, sent);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_raw_from(&mut self, message: &Message<'_>) -> Result<(), EncodeError> {
        let Some(header) = message.json_header() else { return Ok(()) };
        let start = self.encoded.len();
        // A message that was decoded has no key twice.
        let check = start > 0;
        let result = Members::of_object(header.as_bytes()).try_for_each(|member| {
            let quoted = header.get(member.key).unwrap_or_default();
            let key = unescape(quoted, member.key_escaped);
            let any_spelling = message.frame.layout.any_spelling();
            if REQUIRED.contains(&&*key)
                || any_spelling && REQUIRED.contains(&&*usual_spelling(&key))
            {
                return Ok(());
            }
            if check {
                self.check_key(&key)?;
            }
            for piece in [", ", quoted, ": ", header.get(member.value).unwrap_or_default()] {
                self.encoded.extend_from_slice(piece.as_bytes());
            }
            Ok(())
        });
        self.checked(start, result)
    }

    /// Appends the keys of another, in their order.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn append(&mut self, other: &Self) -> Result<(), EncodeError> {
        let start = self.encoded.len();
        let result = Members::of_list(&other.encoded).try_for_each(|member| {
            let quoted = other.encoded.get(member.key).unwrap_or_default();
            let quoted = std::str::from_utf8(quoted).unwrap_or_default();
            self.check_key(&unescape(quoted, member.key_escaped))
        });
        if result.is_ok() {
            self.encoded.extend_from_slice(&other.encoded);
        }
        self.checked(start, result)
    }

    /// The members as they stand in a header, each behind `, `.
    #[inline]
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    fn check_key(&self, key: &str) -> Result<(), EncodeError> {
        if REQUIRED.contains(&key) {
            return Err(EncodeError::ReservedHeader(key.into()));
        }
        let taken = Members::of_list(&self.encoded).any(|member| {
            self.encoded
                .get(member.key)
                .and_then(|quoted| std::str::from_utf8(quoted).ok())
                .is_some_and(|quoted| *unescape(quoted, member.key_escaped) == *key)
        });
        if taken { Err(EncodeError::DuplicateHeader(key.into())) } else { Ok(()) }
    }

    /// Cuts back to `start` unless all went well and still fits a header.
    fn checked(
        &mut self,
        start: usize,
        result: Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let result = match result {
            Ok(()) if self.encoded.len() > MAX_HEADER_LEN => Err(EncodeError::HeaderTooLong),
            result => result,
        };
        if result.is_err() {
            self.encoded.truncate(start);
        }
        result
    }
}
