//! [`ExtraHeaders`]: further header keys, encoded once.

/// Header keys beside the four that every header has, already encoded. Meant to
/// be kept and used again.
///
/// ```
/// use myriapod::protocol::{EncodeError, ExtraHeaders, Head, encode};
///
/// let mut extra = ExtraHeaders::new();
/// extra.push("request-id", &7)?;
/// assert!(matches!(extra.push("request-id", &8), Err(EncodeError::DuplicateHeader(_))));
/// assert!(matches!(extra.push("byteorder", "big"), Err(EncodeError::ReservedHeader(_))));
///
/// let mut wire = Vec::new();
/// encode(&mut wire, &Head { extra: &extra, ..Head::binary("image/png") }, b"")?;
/// assert!(wire.ends_with(br#""content-length": 0, "request-id": 7}"#));
/// # Ok::<(), EncodeError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ExtraHeaders {
    /// Members as they stand in a header, each behind `, `.
    pub(super) encoded: Vec<u8>,
}

/// How the key `id` begins.
const ID: &[u8] = b", \"id\": ";

/// No further keys.
pub(super) static NO_EXTRA: ExtraHeaders = ExtraHeaders::new();

impl ExtraHeaders {
    /// No keys, and no memory for any.
    #[must_use]
    pub const fn new() -> Self {
        Self { encoded: Vec::new() }
    }

    /// Removes all keys and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.encoded.clear();
    }

    /// The value of the first key where that is `id`, as JSON text: what the reply to a request
    /// [carries](super::Framing::id).
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        let value = self.encoded.strip_prefix(ID)?;
        // It is a scalar, so nothing but a string can hold a comma.
        let mut is_text = false;
        let mut is_escaped = false;
        let end = value.iter().position(|&byte| {
            if is_text {
                is_text = byte != b'"' || is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
                return false;
            }
            is_text = byte == b'"';
            byte == b','
        });
        value.get(..end.unwrap_or(value.len()))
    }

    /// Whether there is a key `id` somewhere.
    pub(crate) fn has_id(&self) -> bool {
        self.encoded.windows(ID.len()).any(|window| window == ID)
    }

    /// Puts the key `id` with this value, JSON text of a scalar, in front of all others. Nothing
    /// changes where there is such a key already in front. Returns how many bytes it takes.
    pub(crate) fn put_id(&mut self, value: &[u8]) -> usize {
        if self.encoded.starts_with(ID) {
            return 0;
        }
        self.encoded.splice(..0, ID.iter().chain(value).copied());
        ID.len() + value.len()
    }

    /// Takes so many bytes away again, which [`put_id`](Self::put_id) has put there.
    pub(crate) fn take_id(&mut self, len: usize) {
        self.encoded.drain(..len.min(self.encoded.len()));
    }

    /// Whether there are no keys.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }
}
