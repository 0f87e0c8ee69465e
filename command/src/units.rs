//! Sizes, counts and times as they are typed: [`Size`], [`Count`], [`Timeout`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use myriapod::Overflow;
use myriapod::timer::{MAX_TICKS, TICK};

/// Bytes: `65536`, `64KiB`, `1MiB`; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// The units of sizes, the largest first.
const SIZES: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = SIZES.iter().find_map(|&(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
        let (digits, bytes) = unit.unwrap_or((text, 1));
        let number = whole_number(digits).ok_or("expected bytes, such as 65536, 64KiB or 1MiB")?;
        match usize::try_from(number).ok().and_then(|number| number.checked_mul(bytes)) {
            Some(0) => Err("must be at least 1".to_owned()),
            Some(size) => Ok(Self(size)),
            None => Err(format!("must be at most {}", usize::MAX)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZES.into_iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Bytes, or bytes a second, as [`Size`]; 0 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub usize);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" { Ok(Self(0)) } else { text.parse().map(|Size(size)| Self(size)) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.0).fmt(f)
    }
}

/// How many; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = whole_number(text).ok_or("expected a whole number")?;
        match usize::try_from(number) {
            Ok(0) => Err("must be at least 1".to_owned()),
            Ok(number) => Ok(Self(number)),
            Err(_) => Err(format!("must be at most {}", usize::MAX)),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many event loops: a count, or `auto` for one per processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// So many.
    Number(Count),
    /// One for each processor.
    Auto,
}

impl Threads {
    /// How many that is on this machine.
    pub fn number(self) -> usize {
        match self {
            Self::Number(count) => count.0,
            Self::Auto => myriapod::sys::available_cpus(),
        }
    }
}

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Number) }
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(count) => count.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected HOST:PORT, such as 127.0.0.1:9100 or [::1]:9100";
        let (host, port) = text.rsplit_once(':').ok_or(expected)?;
        let port = whole_number(port).and_then(|port| u16::try_from(port).ok()).ok_or(expected)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        // Brackets stand around what has colons, once, and around nothing else.
        if inner.is_some() != host.contains(':') || host.contains(['[', ']']) {
            return Err(expected.to_owned());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// `ADDRESS[:PORT]`: a client that a PROXY header is to name; without a port, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyFrom(pub SocketAddr);

impl FromStr for ProxyFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
        let address = alone.or_else(|_| text.parse());
        address.map(Self).map_err(|_| {
            "expected ADDRESS[:PORT], such as 192.0.2.7, 192.0.2.7:4000 or [2001:db8::7]:4000"
                .to_owned()
        })
    }
}

/// Permissions of a file in octal: `0660`, `600`; at most `0777`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self).ok_or_else(|| "expected octal digits up to 0777, such as 0660".to_owned())
    }
}

/// A time with its unit: `250ms`, `30s`, `5m`, `1h`; `0`, with or without one, means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

/// The units of times in milliseconds, the largest first. `ms` stands before `m` and `s`: what it
/// ends with would match first.
const TIMES: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

/// The longest time that the engine's timers can wait: 124 days.
const LONGEST: Duration = TICK.saturating_mul(MAX_TICKS);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let unit =
            TIMES.iter().find_map(|&(unit, millis)| Some((text.strip_suffix(unit)?, millis)));
        let number = unit.and_then(|(digits, millis)| Some((whole_number(digits)?, millis)));
        let (number, millis) =
            number.ok_or("expected a whole number and its unit, such as 250ms, 30s or 5m, or 0")?;
        let time = number.checked_mul(millis).map(Duration::from_millis);
        match time.filter(|&time| time <= LONGEST) {
            Some(time) => Ok(Self(time)),
            None => Err(format!("must be at most {}h", LONGEST.as_secs() / 3600)),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0");
        }
        let fits =
            |&(unit, length): &(&str, u64)| unit != "ms" && millis.is_multiple_of(length.into());
        match TIMES.into_iter().find(fits) {
            Some((unit, length)) => write!(f, "{}{unit}", millis / u128::from(length)),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// Digits and nothing else, no more than 64 bits hold.
fn whole_number(digits: &str) -> Option<u64> {
    // A sign would pass for a number.
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

/// What happens to a message that is pushed to a connection which has too much to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowPolicy(pub Overflow);

impl FromStr for OverflowPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("close-after=")) {
            ("drop-newest", _) => Ok(Self(Overflow::DropNewest)),
            ("drop-oldest", _) => Ok(Self(Overflow::DropOldest)),
            (_, Some(time)) => Ok(Self(Overflow::CloseAfter(time.parse::<Timeout>()?.0))),
            _ => Err("expected drop-newest, drop-oldest or close-after=TIME".to_owned()),
        }
    }
}

impl fmt::Display for OverflowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Overflow::DropNewest => f.write_str("drop-newest"),
            Overflow::DropOldest => f.write_str("drop-oldest"),
            Overflow::CloseAfter(time) => write!(f, "close-after={}", Timeout(time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_sizes_exact() {
        for (text, bytes) in
            [("1", 1), ("65536", 65536), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "0",
            "0KiB",
            "KiB",
            "-1",
            "+1",
            "1.5MiB",
            "1KB",
            "1kib",
            "1 KiB",
            "1K",
            "0x10",
            "18446744073709551615GiB",
            "18446744073709551617",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn do_times_need_a_unit() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(text.parse(), Ok(Timeout(Duration::from_millis(millis))), "{text}");
        }
        for text in [
            "",
            "5",
            "00",
            "ms",
            "-1s",
            "1.5s",
            "1 s",
            "1S",
            "1d",
            "1m30s",
            "99999999h",
            "18446744073709551617s",
        ] {
            assert!(text.parse::<Timeout>().is_err(), "{text}");
        }
        assert_eq!("2982h".parse(), Ok(Timeout(Duration::from_secs(2982 * 3600))));
        assert_eq!("2983h".parse::<Timeout>(), Err("must be at most 2982h".to_owned()));
    }

    #[test]
    fn is_zero_no_count() {
        assert_eq!("7".parse(), Ok(Count(7)));
        for text in ["", "0", "-1", "+7", "1KiB", "18446744073709551617"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }

    #[test]
    fn are_threads_a_count_or_one_for_each_processor() {
        assert_eq!("3".parse::<Threads>().map(Threads::number), Ok(3));
        let auto = "auto".parse::<Threads>().unwrap();
        assert_eq!(
            (auto.number(), auto.to_string()),
            (myriapod::sys::available_cpus(), "auto".into())
        );
        for text in ["", "0", "-1", "many"] {
            assert!(text.parse::<Threads>().is_err(), "{text}");
        }
    }

    #[test]
    fn has_a_place_a_host_and_a_port() {
        let place = |host: &str, port| Ok(Place { host: host.to_owned(), port });
        assert_eq!("127.0.0.1:9100".parse(), place("127.0.0.1", 9100));
        assert_eq!("[::1]:0".parse(), place("::1", 0));
        assert_eq!(":9100".parse(), place("", 9100));
        let bracketed = ["[host]:1", "[]:1", "[[::1]]:1", "[::1]]:1", "[::1:1", "a[b:1"];
        let others = ["", "9100", "::1:9100", "host:", "host:65536", "host:+1", "unix:/tmp/x"];
        for text in bracketed.into_iter().chain(others) {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn has_a_client_behind_a_proxy_an_address() {
        for (text, address) in [
            ("192.0.2.7", "192.0.2.7:0"),
            ("192.0.2.7:4000", "192.0.2.7:4000"),
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]:4000", "[2001:db8::7]:4000"),
        ] {
            assert_eq!(text.parse(), Ok(ProxyFrom(address.parse().unwrap())), "{text}");
        }
        for text in ["", "localhost", "192.0.2.7:", "192.0.2.7:65536", "[::1]", "unix:"] {
            assert!(text.parse::<ProxyFrom>().is_err(), "{text}");
        }
    }

    #[test]
    fn is_what_is_shown_what_was_typed() {
        for text in ["1", "4KiB", "1MiB", "256MiB", "1GiB", "1025"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["0", "250ms", "2s", "1500ms", "90s", "5m", "1h"] {
            assert_eq!(text.parse::<Timeout>().unwrap().to_string(), text);
        }
    }
}
