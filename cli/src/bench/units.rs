//! Latencies, rates, ports and sources as they are typed.

use std::net::IpAddr;
use std::str::FromStr;

/// `500us`, `2ms`, `1.5s`; in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency(pub(crate) u64);

impl FromStr for Latency {
    type Err = String;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    fn from_str(text: &str) -> Result<Self, String> {
        // What another ends with stands behind it.
        let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
        let found = units.iter().find_map(|(unit, ns)| Some((text.strip_suffix(unit)?, ns)));
        let number = found.and_then(|(digits, ns)| Some(decimal(digits)? * ns));
        match number {
            Some(ns) if ns > 0.0 && ns < 1e15 => Ok(Self(ns as u64)),
            _ => Err("expected a time with its unit, such as 500us, 2ms or 1.5s".to_owned()),
        }
    }
}

/// Messages or connections per second: `5000`, `2.5k`, `1M`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PerSecond(pub(crate) f64);

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("k", 1e3), ("M", 1e6)];
        let found = units.iter().find_map(|(unit, one)| Some((text.strip_suffix(unit)?, *one)));
        let (digits, one) = found.unwrap_or((text, 1.0));
        match decimal(digits).map(|number| number * one) {
            Some(number) if number > 0.0 && number <= 1e9 => Ok(Self(number)),
            _ => Err("expected a number above 0, such as 500, 20k or 1.5M".to_owned()),
        }
    }
}

/// Digits with at most one point; no sign, no exponent.
fn decimal(digits: &str) -> Option<f64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { digits.parse().ok() } else { None }
}

/// `7000-7050`, one port, or a list of both: `7000,7010-7012`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports(pub(crate) Vec<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut ports = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) if first > 0 && first <= last => ports.extend(first..=last),
                _ => return Err("expected ports, such as 7000-7050 or 7000,7010-7012".to_owned()),
            }
        }
        Ok(Self(ports))
    }
}

/// `127.0.0.1,127.0.0.5-127.0.0.9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sources(pub(crate) Vec<IpAddr>);

/// More addresses are not asked for in one run.
const MOST_SOURCES: u128 = 65_536;

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected addresses, such as 127.0.0.1,127.0.0.10-127.0.0.20";
        let mut sources = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>()) else {
                return Err(expected.to_owned());
            };
            match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                    let (first, last) = (u32::from(first), u32::from(last));
                    if u128::from(last - first) >= MOST_SOURCES {
                        return Err(format!("must be at most {MOST_SOURCES} addresses"));
                    }
                    sources.extend((first..=last).map(|ip| IpAddr::V4(ip.into())));
                }
                (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                    let (first, last) = (u128::from(first), u128::from(last));
                    if last - first >= MOST_SOURCES {
                        return Err(format!("must be at most {MOST_SOURCES} addresses"));
                    }
                    sources.extend((first..=last).map(|ip| IpAddr::V6(ip.into())));
                }
                _ => return Err(expected.to_owned()),
            }
        }
        Ok(Self(sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_latencies_and_rates_read_with_their_units() {
        for (text, ns) in
            [("2ms", 2_000_000), ("500us", 500_000), ("1.5s", 1_500_000_000), ("7ns", 7)]
        {
            assert_eq!(text.parse(), Ok(Latency(ns)), "{text}");
        }
        for text in ["", "0ms", "2", "-1ms", "1e3s", "ms", "1.2.3s"] {
            assert!(text.parse::<Latency>().is_err(), "{text}");
        }
        for (text, number) in [("5000", 5e3), ("2.5k", 2500.0), ("1M", 1e6)] {
            assert_eq!(text.parse(), Ok(PerSecond(number)), "{text}");
        }
        for text in ["", "0", "-5", "inf", "1G", "k"] {
            assert!(text.parse::<PerSecond>().is_err(), "{text}");
        }
    }

    #[test]
    fn are_ranges_whole() {
        assert_eq!("7000-7002".parse(), Ok(Ports(vec![7000, 7001, 7002])));
        assert_eq!("80".parse(), Ok(Ports(vec![80])));
        assert_eq!("41001,80,7000-7001".parse(), Ok(Ports(vec![41_001, 80, 7000, 7001])));
        for text in ["", "0", "5-4", "1-70000", "a", "80,", "80,,81", "80 81"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        let sources = "127.0.0.255-127.0.1.1,::1".parse::<Sources>().unwrap().0;
        let shown: Vec<String> = sources.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.255", "127.0.1.0", "127.0.1.1", "::1"]);
        for text in ["", "127.0.0.2-127.0.0.1", "127.0.0.1-::1", "0.0.0.0-255.255.255.255", "x"] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }
}
