//! Text without the feature `encoding`: UTF-8, and ASCII, under Python's names. Any other encoding is
//! an unknown one.

use std::borrow::Cow;

use super::codec::Codec;
use super::error::Fault;
use super::frame::ByteOrder;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Encoding {
    Utf8,
    Ascii,
}

impl Encoding {
    /// The encoding that `name` means; `None` for `binary` and unknown names.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match Codec::by_name(name)? {
            Codec::Utf8 => Some(Self::Utf8),
            Codec::Ascii => Some(Self::Ascii),
            Codec::Utf16(_) | Codec::Utf32(_) | Codec::Latin1 | Codec::Cp1252 => None,
        }
    }
}

/// Whether `name` is one of UTF-8's.
pub(super) fn is_utf8(name: &str) -> bool {
    Encoding::by_name(name) == Some(Encoding::Utf8)
}

/// `bytes` as text in the encoding that the header names. Neither of the two has a byte order.
pub(super) fn decode<'a>(
    name: &str,
    bytes: &'a [u8],
    _sender: ByteOrder,
) -> Result<Cow<'a, str>, Fault> {
    let is_text = match Encoding::by_name(name).ok_or(Fault::UnknownEncoding)? {
        Encoding::Utf8 => true,
        Encoding::Ascii => bytes.is_ascii(),
    };
    let text = if is_text { std::str::from_utf8(bytes).ok() } else { None };
    text.map(Cow::Borrowed).ok_or(Fault::ContentNotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_text_in_another_encoding_of_an_unknown_one() {
        for name in ["utf-16", "latin-1", "cp1252", "shift_jis", "binary", ""] {
            assert_eq!(decode(name, b"a", ByteOrder::Big), Err(Fault::UnknownEncoding), "{name}");
        }
    }

    #[test]
    fn is_text_that_is_malformed_a_fault() {
        assert_eq!(decode("UTF8", "é".as_bytes(), ByteOrder::Big).as_deref(), Ok("é"));
        assert_eq!(decode("utf-8", b"\xff", ByteOrder::Big), Err(Fault::ContentNotText));
        assert_eq!(decode("ascii", b"e", ByteOrder::Big).as_deref(), Ok("e"));
        assert_eq!(decode("ascii", "é".as_bytes(), ByteOrder::Big), Err(Fault::ContentNotText));
    }
}
