//! [`Prefix`]: names of groups as names of channels, and back.

use std::fmt;
use std::str::FromStr;

/// Bytes of a channel's name. The limit of a line of NATS is 4,096.
const MAX_CHANNEL: usize = 1024;

/// What the channels of a cluster begin with: clusters that share a broker have one each.
///
/// It is followed by the group's name, in which everything but ASCII letters, digits, `-` and `_` is
/// written as `%` and two hexadecimal digits. So no group's name is a pattern, has a space in it, or
/// leaves the prefix.
///
/// ```
/// use myriapod_cluster::Prefix;
///
/// let prefix: Prefix = "chat.".parse()?;
/// assert_eq!(prefix.channel("lobby").as_deref(), Some("chat.lobby"));
/// assert_eq!(prefix.channel("a.*>").as_deref(), Some("chat.a%2E%2A%3E"));
/// assert_eq!(prefix.group("chat.a%2E%2A%3E").as_deref(), Some("a.*>"));
/// assert!("chat.*.".parse::<Prefix>().is_err());
/// # Ok::<(), myriapod_cluster::PrefixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Default for Prefix {
    /// `myriapod.`
    fn default() -> Self {
        Self("myriapod.".into())
    }
}

/// A prefix that could be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixError;

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a prefix has 1 to 64 ASCII letters, digits, '-', '_' and single dots, none in front",
        )
    }
}

impl std::error::Error for PrefixError {}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let is_one = |byte: u8| is_plain(byte) || byte == b'.';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_one);
        // A token of NATS has at least one character.
        if !fits || text.starts_with('.') || text.contains("..") {
            return Err(PrefixError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// The channel of a group; `None` where its name would be longer than 1,024 bytes.
    #[must_use]
    pub fn channel(&self, group: &str) -> Option<String> {
        let mut channel = String::from(&*self.0);
        for byte in group.bytes() {
            if is_plain(byte) {
                channel.push(char::from(byte));
            } else {
                let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or('0');
                channel.push('%');
                channel.push(digit(byte >> 4).to_ascii_uppercase());
                channel.push(digit(byte & 15).to_ascii_uppercase());
            }
        }
        if group.is_empty() {
            // A token has at least one character.
            channel.push('%');
        }
        (channel.len() <= MAX_CHANNEL).then_some(channel)
    }

    /// The group of a channel; `None` where it is none of this cluster's.
    #[must_use]
    pub fn group(&self, channel: &str) -> Option<String> {
        let name = channel.strip_prefix(&*self.0)?;
        if name == "%" {
            return Some(String::new());
        }
        let (mut left, mut group) = (name.bytes(), Vec::new());
        while let Some(byte) = left.next() {
            group.push(match byte {
                b'%' => {
                    let mut digit = || char::from(left.next()?).to_digit(16);
                    u8::try_from(digit()? * 16 + digit()?).ok()?
                }
                byte if is_plain(byte) => byte,
                _ => return None,
            });
        }
        let group = String::from_utf8(group).ok()?;
        // There is one way to write it.
        (self.channel(&group).as_deref() == Some(channel)).then_some(group)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_every_name_come_back_and_is_no_pattern() {
        let prefix = Prefix::default();
        let long = "x".repeat(1015);
        for group in
            ["", "a", "*", ">", "a.b", "a b", "é🐰", "%", "%2A", "\r\n", "$SYS", "[a]", &long]
        {
            let channel = prefix.channel(group).unwrap();
            let tail = channel.strip_prefix("myriapod.").unwrap();
            assert!(!tail.is_empty() && tail.bytes().all(|byte| is_plain(byte) || byte == b'%'));
            assert_eq!(prefix.group(&channel).as_deref(), Some(group), "{channel}");
        }
        assert_eq!(prefix.channel(&"x".repeat(1016)), None);
        for channel in ["", "other.a", "myriapod.", "myriapod.a.b", "myriapod.%4", "myriapod.%61"] {
            assert_eq!(prefix.group(channel), None, "{channel}");
        }
    }

    #[test]
    fn are_prefixes_that_are_patterns_refused() {
        for text in ["", ".a", "a..b", "a*", "a>", "a b", "é", "a%", &"x".repeat(65)] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError), "{text:?}");
        }
        for text in ["a", "a.b.", "A-1_2"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
    }
}
