//! [`FramingSpec`]: the text that names a framing.

use std::fmt;
use std::str::FromStr;

use super::{ByteOrder, Delimited, Padded, PrefixWidth};

/// A framing by its name: what a person writes on a command line or into a file of settings, and
/// what [`AnyFraming`](super::AnyFraming) is made of.
///
/// | text | framing |
/// |---|---|
/// | `json-header` | [`JsonHeader`](super::JsonHeader) |
/// | `json-header:lenient` | [`JsonHeaderDialect::lenient`](super::JsonHeaderDialect::lenient) |
/// | `json-header:prefix=4be`, `2le`, `4le` | its header's length has 4 bytes, or is little-endian |
/// | `padded` | [`Padded`](super::Padded) |
/// | `padded:lenient`, `width=10`, `replies=padded`, `bytes` | its variants |
/// | `length:1`, `2be`, `2le`, `4be`, `4le`, `8be`, `8le` | [`LengthPrefix`](super::LengthPrefix) |
/// | `length:4be,inclusive` | its length counts itself |
/// | `lines` | [`Delimited::lines`](super::Delimited::lines) |
/// | `delimited:\r\n` | [`Delimited`](super::Delimited); `\r`, `\n`, `\t`, `\0`, `\\` and `\x1f` are escapes |
/// | `json` | [`JsonStream`](super::JsonStream) |
/// | `raw` | [`Raw`](super::Raw) |
///
/// Options behind the colon are separated by commas, in any order.
///
/// ```
/// use myriapod::protocol::FramingSpec;
///
/// let spec: FramingSpec = "padded:replies=padded,width=10".parse()?;
/// assert_eq!(spec.to_string(), "padded:width=10,replies=padded");
/// let error = "leng".parse::<FramingSpec>().unwrap_err();
/// assert!(error.to_string().starts_with("no framing is called \"leng\"; there are json-header,"));
/// # Ok::<(), myriapod::protocol::UnknownFraming>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FramingSpec {
    /// `json-header`.
    JsonHeader {
        /// Keys may be missing, or spelled otherwise.
        lenient: bool,
        /// How many bytes the header's length has: two or four.
        width: PrefixWidth,
        /// In which order they are.
        order: ByteOrder,
    },
    /// `padded`.
    Padded {
        /// Bytes of the header.
        width: u16,
        /// Its length may be what Python's `int()` takes.
        lenient: bool,
        /// Replies have a header.
        padded_replies: bool,
        /// Contents need not be text.
        bytes: bool,
    },
    /// `length`.
    LengthPrefix {
        /// How many bytes the length has.
        width: PrefixWidth,
        /// In which order they are.
        order: ByteOrder,
        /// It counts itself.
        inclusive: bool,
    },
    /// `lines`.
    Lines,
    /// `delimited`, with the delimiter: 1 to [`Delimited::MAX_DELIMITER_LEN`] bytes.
    Delimited(Box<[u8]>),
    /// `json`.
    JsonStream,
    /// `raw`.
    Raw,
}

impl FramingSpec {
    /// One text for each, and for each of their options.
    pub const ALL: [&str; 13] = [
        "json-header",
        "json-header:lenient",
        "json-header:prefix=4be",
        "padded",
        "padded:lenient",
        "padded:width=10,replies=padded",
        "length:4be",
        "length:2le",
        "length:4be,inclusive",
        "lines",
        "delimited:\\r\\n",
        "json",
        "raw",
    ];

    /// The tutorial's: what a [`Server`](crate::Server) speaks that is not told otherwise.
    pub const DEFAULT: Self =
        Self::JsonHeader { lenient: false, width: PrefixWidth::Two, order: ByteOrder::Big };

    /// Whether a message has a header that says what its content is.
    #[must_use]
    pub const fn has_header(&self) -> bool {
        matches!(self, Self::JsonHeader { .. })
    }
}

impl Default for FramingSpec {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A text names no framing. Its own text is one line that says which there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownFraming {
    text: String,
    /// What is wrong with its options, where the framing is known.
    reason: Option<&'static str>,
}

impl fmt::Display for UnknownFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.text.chars().take(100).collect();
        match self.reason {
            Some(reason) => write!(f, "{short:?}: {reason}")?,
            None => write!(f, "no framing is called {short:?}")?,
        }
        f.write_str("; there are ")?;
        for (place, text) in FramingSpec::ALL.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { ", " })?;
            f.write_str(text)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFraming {}

impl FromStr for FramingSpec {
    type Err = UnknownFraming;

    fn from_str(text: &str) -> Result<Self, UnknownFraming> {
        let (name, options) = match text.split_once(':') {
            Some((name, options)) => (name, Some(options)),
            None => (text, None),
        };
        let parsed = match (name, options) {
            ("json-header", options) => json_header(options),
            ("padded", options) => padded(options),
            ("length", options) => length(options),
            ("delimited", Some(escaped)) => delimited(escaped),
            ("delimited", None) => Err("the delimiter is missing: delimited:\\r\\n, say"),
            ("lines", None) => Ok(Self::Lines),
            ("json", None) => Ok(Self::JsonStream),
            ("raw", None) => Ok(Self::Raw),
            ("lines" | "json" | "raw", Some(_)) => Err("it has no options"),
            _ => return Err(UnknownFraming { text: text.to_owned(), reason: None }),
        };
        parsed.map_err(|reason| UnknownFraming { text: text.to_owned(), reason: Some(reason) })
    }
}

type Parsed = Result<FramingSpec, &'static str>;

fn each(options: Option<&str>) -> impl Iterator<Item = &str> {
    options.into_iter().flat_map(|options| options.split(','))
}

fn json_header(options: Option<&str>) -> Parsed {
    let (mut lenient, mut prefix) = (false, (PrefixWidth::Two, ByteOrder::Big));
    for option in each(options) {
        match option.strip_prefix("prefix=").map(width_and_order) {
            _ if option == "lenient" => lenient = true,
            Some(Some(given @ (PrefixWidth::Two | PrefixWidth::Four, _))) => prefix = given,
            Some(_) => return Err("prefix is 2be, 2le, 4be or 4le"),
            None => return Err("its options are lenient and prefix=4be"),
        }
    }
    let (width, order) = prefix;
    Ok(FramingSpec::JsonHeader { lenient, width, order })
}

fn padded(options: Option<&str>) -> Parsed {
    let (mut width, mut lenient, mut padded_replies, mut bytes) = (64, false, false, false);
    for option in each(options) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("lenient", "") => lenient = true,
            ("bytes", "") => bytes = true,
            ("text", "") => bytes = false,
            ("replies", "padded") => padded_replies = true,
            ("replies", "bare") => padded_replies = false,
            ("replies", _) => return Err("replies are padded or bare"),
            ("width", number) => match number.parse() {
                Ok(number @ 1..=Padded::MAX_WIDTH) => width = number,
                _ => return Err("width is a number of bytes from 1 to 1024"),
            },
            _ => return Err("its options are lenient, width=10, replies=padded and bytes"),
        }
    }
    Ok(FramingSpec::Padded { width, lenient, padded_replies, bytes })
}

fn length(options: Option<&str>) -> Parsed {
    const USAGE: &str = "its options are 1, 2be, 2le, 4be, 4le, 8be or 8le, and inclusive";
    let mut options = each(options);
    let (width, order) = options.next().and_then(width_and_order).ok_or(USAGE)?;
    let inclusive = match (options.next(), options.next()) {
        (None, _) => false,
        (Some("inclusive"), None) => true,
        _ => return Err(USAGE),
    };
    Ok(FramingSpec::LengthPrefix { width, order, inclusive })
}

fn width_and_order(text: &str) -> Option<(PrefixWidth, ByteOrder)> {
    let (width, order) = text.split_at_checked(1)?;
    let width = match width {
        "1" => PrefixWidth::One,
        "2" => PrefixWidth::Two,
        "4" => PrefixWidth::Four,
        "8" => PrefixWidth::Eight,
        _ => return None,
    };
    match order {
        "be" => Some((width, ByteOrder::Big)),
        "le" if width != PrefixWidth::One => Some((width, ByteOrder::Little)),
        "" | "le" if width == PrefixWidth::One => Some((width, ByteOrder::Big)),
        _ => None,
    }
}

fn delimited(escaped: &str) -> Parsed {
    const ESCAPES: &str = "the escapes are \\r, \\n, \\t, \\0, \\\\ and \\x with two hex digits";
    let mut delimiter = Vec::new();
    let mut rest = escaped.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'x', high, low, behind @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (high, low) = digit(high).zip(digit(low)).ok_or(ESCAPES)?;
                (u8::try_from(high * 16 + low).unwrap_or_default(), behind)
            }
            (b'\\', [letter, behind @ ..]) => {
                let byte = match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    b'\\' => b'\\',
                    _ => return Err(ESCAPES),
                };
                (byte, behind)
            }
            (b'\\', []) => return Err(ESCAPES),
            (byte, behind) => (*byte, behind),
        };
        delimiter.push(byte);
        rest = behind;
    }
    if Delimited::new(&delimiter).is_none() {
        return Err("a delimiter has 1 to 64 bytes");
    }
    Ok(FramingSpec::Delimited(delimiter.into()))
}

impl fmt::Display for FramingSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options: Vec<String> = Vec::new();
        let name = match self {
            Self::JsonHeader { lenient, width, order } => {
                options.extend(lenient.then(|| "lenient".to_owned()));
                if (*width, *order) != (PrefixWidth::Two, ByteOrder::Big) {
                    options.push(format!("prefix={}", shown(*width, *order)));
                }
                "json-header"
            }
            Self::Padded { width, lenient, padded_replies, bytes } => {
                options.extend(lenient.then(|| "lenient".to_owned()));
                options.extend((*width != 64).then(|| format!("width={width}")));
                options.extend(padded_replies.then(|| "replies=padded".to_owned()));
                options.extend(bytes.then(|| "bytes".to_owned()));
                "padded"
            }
            Self::LengthPrefix { width, order, inclusive } => {
                options.push(shown(*width, *order));
                options.extend(inclusive.then(|| "inclusive".to_owned()));
                "length"
            }
            Self::Lines => "lines",
            Self::Delimited(delimiter) => {
                f.write_str("delimited:")?;
                return delimiter.iter().try_for_each(|&byte| match byte {
                    b'\r' => f.write_str("\\r"),
                    b'\n' => f.write_str("\\n"),
                    b'\t' => f.write_str("\\t"),
                    b'\\' => f.write_str("\\\\"),
                    b' '..=b'~' => write!(f, "{}", char::from(byte)),
                    byte => write!(f, "\\x{byte:02x}"),
                });
            }
            Self::JsonStream => "json",
            Self::Raw => "raw",
        };
        f.write_str(name)?;
        for (place, option) in options.iter().enumerate() {
            f.write_str(if place == 0 { ":" } else { "," })?;
            f.write_str(option)?;
        }
        Ok(())
    }
}

fn shown(width: PrefixWidth, order: ByteOrder) -> String {
    let order = match order {
        _ if width == PrefixWidth::One => "",
        ByteOrder::Little => "le",
        ByteOrder::Big => "be",
    };
    format!("{}{order}", width.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_every_framing_shown_by_the_text_that_names_it() {
        let more =
            ["length:1", "length:8le,inclusive", "padded:lenient,width=1,replies=padded,bytes"];
        let further =
            ["delimited:|", "delimited:\\x00,\\\\ \\t\\xff", "json-header:lenient,prefix=2le"];
        for text in FramingSpec::ALL.iter().chain(&more).chain(&further) {
            assert_eq!(text.parse::<FramingSpec>().unwrap().to_string(), **text);
        }
        assert_eq!("json-header".parse(), Ok(FramingSpec::DEFAULT));
    }

    #[test]
    fn is_a_text_that_names_no_framing_told_which_there_are() {
        for (text, begins) in [
            ("", "no framing is called \"\"; there are json-header, json-header:lenient"),
            ("msgpack", "no framing is called \"msgpack\"; "),
            ("lines:x", "\"lines:x\": it has no options; "),
            ("length", "\"length\": its options are 1, 2be"),
            ("length:3be", "\"length:3be\": its options are"),
            ("length:4", "\"length:4\": its options are"),
            ("length:é", "\"length:é\": its options are"),
            ("length:4be,inclusive,inclusive", "\"length:4be,inclusive,inclusive\": its options"),
            ("padded:width=0", "\"padded:width=0\": width is a number"),
            ("padded:wide", "\"padded:wide\": its options are lenient"),
            ("padded:replies=all", "\"padded:replies=all\": replies are padded or bare"),
            ("json-header:prefix=8be", "\"json-header:prefix=8be\": prefix is 2be"),
            ("delimited", "\"delimited\": the delimiter is missing"),
            ("delimited:", "\"delimited:\": a delimiter has 1 to 64 bytes"),
            ("delimited:\\q", "\"delimited:\\\\q\": the escapes are"),
            ("delimited:\\x4", "\"delimited:\\\\x4\": the escapes are"),
            ("delimited:\\", "\"delimited:\\\\\": the escapes are"),
        ] {
            let error = text.parse::<FramingSpec>().unwrap_err().to_string();
            assert!(error.starts_with(begins) && error.ends_with("json, raw"), "{error}");
        }
    }
}
