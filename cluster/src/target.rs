//! [`Target`]: where a broker is, and what it speaks.

use std::fmt;
use std::str::FromStr;

use crate::dialect::Dialect;
use crate::nats::Nats;
use crate::redis::Redis;

/// Where a broker is, and what it speaks.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Redis(Redis),
    Nats(Nats),
}

/// A text that names no broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerError {
    /// It is written in another way than `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` or
    /// `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]`.
    Syntax {
        /// What is wrong.
        why: &'static str,
    },
    /// It asks for TLS, which is not there yet.
    Tls {
        /// `rediss` or `tls`.
        scheme: &'static str,
    },
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { why } => {
                write!(
                    f,
                    "{why}: write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or nats://[USER:PASSWORD@]HOST[:PORT]"
                )
            }
            Self::Tls { scheme } => {
                write!(
                    f,
                    "{scheme}:// asks for TLS, which brokers do not have here yet: use a tunnel"
                )
            }
        }
    }
}

impl std::error::Error for BrokerError {}

impl Target {
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Redis(redis) => &redis.host,
            Self::Nats(nats) => &nats.host,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Redis(redis) => redis.port,
            Self::Nats(nats) => nats.port,
        }
    }

    pub(crate) fn dialect(&self) -> Box<dyn Dialect> {
        match self {
            Self::Redis(redis) => redis.dialect(),
            Self::Nats(nats) => nats.dialect(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(redis) => redis.fmt(f),
            Self::Nats(nats) => nats.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let refused = |why| BrokerError::Syntax { why };
        let (scheme, rest) = text.trim().split_once("://").ok_or(refused("no scheme"))?;
        let usual_port = match scheme {
            "redis" => 6379,
            "nats" => 4222,
            "rediss" => return Err(BrokerError::Tls { scheme: "rediss" }),
            "tls" => return Err(BrokerError::Tls { scheme: "tls" }),
            _ => return Err(refused("no such broker")),
        };
        let (rest, database) = match rest.split_once('/') {
            Some((rest, "")) => (rest, None),
            Some((rest, number)) if scheme == "redis" => {
                (rest, Some(number.parse().map_err(|_| refused("a database is a number"))?))
            }
            Some(_) => return Err(refused("there is something behind the port")),
            None => (rest, None),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (host, port) = split_place(place).ok_or(refused("no host"))?;
        let port = match port {
            Some(port) => port.parse().map_err(|_| refused("a port is a number up to 65535"))?,
            None => usual_port,
        };
        let decoded = |text: &str| decoded(text).ok_or(refused("a % without two digits"));
        let login = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => None,
            Some(Ok((user, password))) => Some((decoded(user)?, Some(decoded(password)?))),
            Some(Err(alone)) => Some((decoded(alone)?, None)),
        };
        if scheme == "redis" {
            let mut redis = Redis::new(host, port);
            redis = match login {
                None => redis,
                Some((user, Some(password))) if user.is_empty() => redis.password(&password),
                Some((user, Some(password))) => redis.user(&user, &password),
                Some(_) => return Err(refused("a user without a password")),
            };
            return Ok(Self::Redis(match database {
                Some(database) => redis.database(database),
                None => redis,
            }));
        }
        let nats = Nats::new(host, port);
        Ok(Self::Nats(match login {
            None => nats,
            Some((user, Some(password))) => nats.user(&user, &password),
            Some((token, None)) => nats.token(&token),
        }))
    }
}

/// A host and maybe a port; an IPv6 address has brackets around it.
fn split_place(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        return (!host.is_empty()).then_some((host, port));
    }
    let (host, port) = match place.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    (!host.is_empty() && !host.contains(char::is_whitespace)).then_some((host, port))
}

/// Text in which `%` and two hexadecimal digits are a byte.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut left) = (Vec::new(), text.bytes());
    while let Some(byte) = left.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(left.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_names_a_broker_read_in_every_form() {
        let read = |text: &str| match text.parse::<Target>().unwrap() {
            Target::Redis(redis) => (format!("{redis}"), Some(redis), None),
            Target::Nats(nats) => (format!("{nats}"), None, Some(nats)),
        };
        let redis = Redis::new("h", 6379);
        for (text, expected) in [
            ("redis://h", redis.clone()),
            ("redis://h/", redis.clone()),
            (" redis://:p@h:6379", redis.clone().password("p")),
            ("redis://u:p%40%3a@h/3", redis.clone().user("u", "p@:").database(3)),
            ("redis://[::1]:7", Redis::new("::1", 7)),
        ] {
            assert_eq!(read(text).1, Some(expected), "{text}");
        }
        let nats = Nats::new("h", 4222);
        for (text, expected) in [
            ("nats://h", nats.clone()),
            ("nats://u:p@h", nats.clone().user("u", "p")),
            ("nats://t@h", nats.token("t")),
        ] {
            assert_eq!(read(text).2, Some(expected), "{text}");
        }
        assert_eq!(read("redis://u:p@[::1]:7").0, "redis://[::1]:7");
    }

    #[test]
    fn is_what_names_none_refused_by_name() {
        for text in [
            "",
            "h",
            "http://h",
            "redis://",
            "redis://h:x",
            "redis://h:99999",
            "redis://h/x",
            "redis://u@h",
            "redis://:%4@h",
            "nats://h/1",
            "redis://[::1",
            "redis://[::1]x",
            "redis://a b",
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(matches!(error, BrokerError::Syntax { .. }), "{text:?}: {error}");
        }
        for text in ["rediss://h", "tls://h"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.to_string().contains("TLS"), "{text}");
        }
    }
}
