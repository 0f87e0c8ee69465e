//! [`Codec`]: the encodings of text that Python has a name for, since Python programs are the peers.

use super::frame::ByteOrder;

/// The longest name in [`Codec::by_name`].
const LONGEST_NAME: usize = 21;

/// A codec of Python's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Codec {
    Utf8,
    /// Without an order: the mark's, else the sender's.
    Utf16(Option<ByteOrder>),
    /// Without an order: the mark's, else the sender's.
    Utf32(Option<ByteOrder>),
    Latin1,
    Ascii,
    Cp1252,
}

impl Codec {
    /// The codec that `name` means, by Python's names for it (`encodings/aliases.py`): case is
    /// ignored, and `-` and `_` are equal.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let mut normal = [0_u8; LONGEST_NAME];
        let normal = normal.get_mut(..name.len())?;
        for (to, from) in normal.iter_mut().zip(name.bytes()) {
            *to = if from == b'-' { b'_' } else { from.to_ascii_lowercase() };
        }
        Some(match &*normal {
            b"utf_8" | b"utf8" | b"u8" | b"utf" | b"utf8_ucs2" | b"utf8_ucs4" | b"cp65001" => {
                Self::Utf8
            }
            b"utf_16" | b"utf16" | b"u16" => Self::Utf16(None),
            b"utf_16_le" | b"utf_16le" | b"unicodelittleunmarked" => {
                Self::Utf16(Some(ByteOrder::Little))
            }
            b"utf_16_be" | b"utf_16be" | b"unicodebigunmarked" => Self::Utf16(Some(ByteOrder::Big)),
            b"utf_32" | b"utf32" | b"u32" => Self::Utf32(None),
            b"utf_32_le" | b"utf_32le" => Self::Utf32(Some(ByteOrder::Little)),
            b"utf_32_be" | b"utf_32be" => Self::Utf32(Some(ByteOrder::Big)),
            b"latin_1" | b"latin1" | b"latin" | b"l1" | b"iso_8859_1" | b"iso8859_1"
            | b"iso8859" | b"8859" | b"iso_8859_1_1987" | b"iso_8859_1:1987" | b"iso_ir_100"
            | b"cp819" | b"ibm819" | b"csisolatin1" => Self::Latin1,
            b"ascii" | b"us_ascii" | b"us" | b"646" | b"iso646_us" | b"iso_646.irv_1991"
            | b"iso_646.irv:1991" | b"iso_ir_6" | b"ansi_x3.4_1968" | b"ansi_x3_4_1968"
            | b"ansi_x3.4_1986" | b"cp367" | b"ibm367" | b"csascii" => Self::Ascii,
            b"cp1252" | b"windows_1252" | b"1252" => Self::Cp1252,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_longest_name_within_the_bound() {
        for name in ["unicodelittleunmarked", "unicodebigunmarked", "iso_646.irv:1991"] {
            assert!(Codec::by_name(name).is_some(), "{name}");
        }
    }
}
