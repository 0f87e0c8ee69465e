//! Text in the encodings that a `content-encoding` header can name.
//!
//! Python's names come first ([`Codec`]). Behind them come the labels of the WHATWG
//! Encoding Standard (<https://encoding.spec.whatwg.org/>), except those of
//! `replacement`, which decodes nothing.
//!
//! The two disagree on three names. Python's meaning holds: `latin-1` is exactly
//! U+0000 to U+00FF, `ascii` ends at 0x7f, and `cp1252` (`windows-1252` is the
//! same codec) has no characters at 0x81, 0x8d, 0x8f, 0x90 and 0x9d. The label
//! `x-cp1252`, which only WHATWG knows, maps these five to C1 controls.
//!
//! Malformed text is an error everywhere, never replaced. A byte order mark
//! means something under the bare names `utf-16` and `utf-32` only.

use std::borrow::Cow;

use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::code_page::CodePage;
use super::codec::Codec;
use super::error::Fault;
use super::frame::ByteOrder;
use super::utf_7;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Encoding {
    Utf8,
    /// With or without a mark in front, which is no part of the text.
    Utf8Marked,
    /// Without an order: the mark's, else the sender's.
    Utf16(Option<ByteOrder>),
    /// Without an order: the mark's, else the sender's.
    Utf32(Option<ByteOrder>),
    Latin1,
    Ascii,
    Cp1252,
    Utf7,
    CodePage(CodePage),
    Whatwg(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// The encoding that `name` means; `None` for `binary` and unknown names.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Codec::by_name(name).map(Self::from).or_else(|| {
            let encoding = label(name).or_else(|| {
                let name = name.to_ascii_lowercase().replace('_', "-");
                label(&name).or_else(|| by_python(&name))
            });
            match encoding {
                Some(encoding) if encoding == encoding_rs::UTF_8 => Some(Self::Utf8),
                Some(encoding) => Some(Self::Whatwg(encoding)),
                None => match &*name.to_ascii_lowercase().replace('_', "-") {
                    "utf-8-sig" | "utf8-sig" => Some(Self::Utf8Marked),
                    "utf-7" | "utf7" | "u7" | "unicode-1-1-utf-7" => Some(Self::Utf7),
                    name => CodePage::by_name(name).map(Self::CodePage),
                },
            }
        })
    }

    /// `bytes` as text, borrowed where they are UTF-8 already; `None` if they are
    /// malformed.
    fn decode(self, bytes: &[u8], sender: ByteOrder) -> Option<Cow<'_, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Utf8Marked => {
                Self::Utf8.decode(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), sender)
            }
            Self::Utf16(Some(ByteOrder::Little)) => strict(UTF_16LE, bytes),
            Self::Utf16(Some(ByteOrder::Big)) => strict(UTF_16BE, bytes),
            Self::Utf16(None) => match bytes {
                [0xff, 0xfe, text @ ..] => strict(UTF_16LE, text),
                [0xfe, 0xff, text @ ..] => strict(UTF_16BE, text),
                text => Self::Utf16(Some(sender)).decode(text, sender),
            },
            Self::Utf32(Some(ByteOrder::Little)) => utf_32(bytes, u32::from_le_bytes),
            Self::Utf32(Some(ByteOrder::Big)) => utf_32(bytes, u32::from_be_bytes),
            Self::Utf32(None) => match bytes {
                [0xff, 0xfe, 0, 0, text @ ..] => utf_32(text, u32::from_le_bytes),
                [0, 0, 0xfe, 0xff, text @ ..] => utf_32(text, u32::from_be_bytes),
                text => Self::Utf32(Some(sender)).decode(text, sender),
            },
            Self::Latin1 => Some(encoding_rs::mem::decode_latin1(bytes)),
            Self::Ascii if bytes.is_ascii() => Self::Utf8.decode(bytes, sender),
            Self::Ascii => None,
            Self::Cp1252 if bytes.iter().any(|&byte| no_cp1252(byte)) => None,
            Self::Cp1252 => strict(WINDOWS_1252, bytes),
            Self::Utf7 => utf_7::decode(bytes).map(Cow::Owned),
            Self::CodePage(page) => Some(Cow::Owned(page.decode(bytes))),
            Self::Whatwg(encoding) => strict(encoding, bytes),
        }
    }
}

impl From<Codec> for Encoding {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::Utf8 => Self::Utf8,
            Codec::Utf16(order) => Self::Utf16(order),
            Codec::Utf32(order) => Self::Utf32(order),
            Codec::Latin1 => Self::Latin1,
            Codec::Ascii => Self::Ascii,
            Codec::Cp1252 => Self::Cp1252,
        }
    }
}

fn label(name: &str) -> Option<&'static encoding_rs::Encoding> {
    encoding_rs::Encoding::for_label_no_replacement(name.as_bytes())
}

/// An encoding of the WHATWG by a name that Python alone has, in small letters and with `-`.
///
/// The two have slightly different tables in places: that of the WHATWG knows more characters.
fn by_python(name: &str) -> Option<&'static encoding_rs::Encoding> {
    match name {
        "cp949" | "949" | "ms949" | "uhc" | "euckr" => Some(encoding_rs::EUC_KR),
        "cp932" | "932" | "ms932" | "mskanji" | "ms-kanji" => Some(encoding_rs::SHIFT_JIS),
        "mac-roman" | "macroman" => Some(encoding_rs::MACINTOSH),
        _ => None,
    }
}

/// Whether `name` is one of UTF-8's.
pub(super) fn is_utf8(name: &str) -> bool {
    Encoding::by_name(name) == Some(Encoding::Utf8)
}

/// `bytes` as text in the encoding that the header names.
pub(super) fn decode<'a>(
    name: &str,
    bytes: &'a [u8],
    sender: ByteOrder,
) -> Result<Cow<'a, str>, Fault> {
    let encoding = Encoding::by_name(name).ok_or(Fault::UnknownEncoding)?;
    encoding.decode(bytes, sender).ok_or(Fault::ContentNotText)
}

fn strict<'a>(encoding: &'static encoding_rs::Encoding, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    encoding.decode_without_bom_handling_and_without_replacement(bytes)
}

fn no_cp1252(byte: u8) -> bool {
    matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d)
}

fn utf_32(bytes: &[u8], number: fn([u8; 4]) -> u32) -> Option<Cow<'static, str>> {
    let (chars, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let text: Option<String> = chars.iter().map(|&bytes| char::from_u32(number(bytes))).collect();
    text.map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_binary_no_encoding_of_text() {
        for name in ["binary", "", "klingon", "replacement", "iso-2022-kr", "cp1", "utf-9"] {
            assert_eq!(Encoding::by_name(name), None, "{name}");
        }
    }

    #[test]
    fn do_the_names_of_whatwg_come_second() {
        assert_eq!(Encoding::by_name("Latin1"), Some(Encoding::Latin1));
        assert_eq!(Encoding::by_name("windows-1252"), Some(Encoding::Cp1252));
        assert_eq!(Encoding::by_name("x-cp1252"), Some(Encoding::Whatwg(WINDOWS_1252)));
        assert_eq!(Encoding::by_name("unicode-1-1-utf-8"), Some(Encoding::Utf8));
        assert_eq!(Encoding::by_name("Shift_JIS"), Some(Encoding::Whatwg(encoding_rs::SHIFT_JIS)));
    }

    #[test]
    fn are_names_known_that_python_alone_has() {
        let text = |name: &str, bytes: &[u8]| {
            let encoding = Encoding::by_name(name)?;
            encoding.decode(bytes, ByteOrder::Big).map(Cow::into_owned)
        };
        for name in ["utf-8-sig", "UTF_8_SIG"] {
            assert_eq!(text(name, b"\xef\xbb\xbf\xc3\xa9").as_deref(), Some("é"), "{name}");
            assert_eq!(text(name, b"a").as_deref(), Some("a"), "{name}");
        }
        for name in ["cp949", "euc_kr", "EUC-KR"] {
            assert_eq!(text(name, b"\xb0\xa1").as_deref(), Some("가"), "{name}");
        }
        assert_eq!(text("cp932", b"\x82\xa0").as_deref(), Some("あ"));
        assert_eq!(text("mac_roman", b"\x8e").as_deref(), Some("é"));
        assert_eq!(text("koi8_r", b"\xc1").as_deref(), Some("а"));
        assert_eq!(text("UTF_7", b"+AOk-").as_deref(), Some("é"));
        assert_eq!(text("cp437", b"\x82").as_deref(), Some("é"));
        assert_eq!(text("IBM850", b"\xd0").as_deref(), Some("ð"));
    }

    #[test]
    fn is_utf_32_strict() {
        let little = Encoding::Utf32(Some(ByteOrder::Little));
        assert_eq!(little.decode(b"a\0\0\0", ByteOrder::Big).as_deref(), Some("a"));
        assert_eq!(little.decode(b"a\0\0", ByteOrder::Big), None);
        assert_eq!(little.decode(&[0x00, 0xd8, 0, 0], ByteOrder::Big), None);
        assert_eq!(little.decode(&[0, 0, 0x11, 0], ByteOrder::Big), None);
    }

    #[test]
    fn does_a_mark_count_only_without_an_order() {
        let big_mark = [0xfe, 0xff, 0, b'a'];
        let decode = |encoding: Encoding| {
            encoding.decode(&big_mark, ByteOrder::Little).map(std::borrow::Cow::into_owned)
        };
        assert_eq!(decode(Encoding::Utf16(None)).as_deref(), Some("a"));
        assert_eq!(decode(Encoding::Utf16(Some(ByteOrder::Big))).as_deref(), Some("\u{feff}a"));
    }
}
