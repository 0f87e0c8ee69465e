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

    /// Whether there are no keys.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }
}
