//! [`Target`]: where a broker is, and what it speaks.

use std::fmt;

use myriapod_tls::rustls::pki_types::ServerName;
use myriapod_tls::{Connector, ToServer};

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
    /// It asks for TLS, and nobody said whom to trust:
    /// [`Remote::secure`](crate::Remote::secure) does.
    Tls {
        /// `rediss` or `tls`.
        scheme: &'static str,
    },
    /// No certificate can have the host's name.
    Name {
        /// The name.
        name: Box<str>,
    },
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { why } => {
                write!(
                    f,
                    "{why}: write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or nats://[USER:PASSWORD@]HOST[:PORT]; rediss:// or tls:// with TLS"
                )
            }
            Self::Tls { scheme } => {
                write!(f, "{scheme}:// asks for TLS, and nobody says which certificates to trust")
            }
            Self::Name { name } => write!(f, "{name:?} is no name for a certificate"),
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

    /// What its handshakes begin with; none where it is plain.
    pub(crate) fn caller(&self) -> Option<&ToServer> {
        match self {
            Self::Redis(redis) => redis.tls.as_ref(),
            Self::Nats(nats) => nats.tls.as_ref(),
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

/// Whom to trust, and the name that certificates must have where it is not the host's.
#[derive(Clone, Copy)]
pub(crate) struct Secure<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) name: Option<&'a str>,
}

impl Secure<'_> {
    fn to(self, host: &str) -> Result<ToServer, BrokerError> {
        let name = self.name.unwrap_or(host).to_owned();
        let named = ServerName::try_from(name.clone());
        let named = named.map_err(|_| BrokerError::Name { name: name.into() })?;
        Ok(self.connector.to(named))
    }
}

impl Target {
    /// What a text names; what is to be secure needs to know whom to trust.
    pub(crate) fn parse(text: &str, secure: Option<Secure<'_>>) -> Result<Self, BrokerError> {
        let refused = |why| BrokerError::Syntax { why };
        let (scheme, rest) = text.trim().split_once("://").ok_or(refused("no scheme"))?;
        let (scheme, secure) = match (scheme, secure) {
            ("redis" | "nats", _) => (scheme, None),
            ("rediss", Some(secure)) => ("redis", Some(secure)),
            ("tls", Some(secure)) => ("nats", Some(secure)),
            ("rediss", None) => return Err(BrokerError::Tls { scheme: "rediss" }),
            ("tls", None) => return Err(BrokerError::Tls { scheme: "tls" }),
            _ => return Err(refused("no such broker")),
        };
        let usual_port = if scheme == "redis" { 6379 } else { 4222 };
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
        let to = secure.map(|secure| secure.to(host)).transpose()?;
        if scheme == "redis" {
            let mut redis = Redis::new(host, port);
            redis.tls = to;
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
        let nats = match to {
            Some(to) => Nats::new(host, port).tls(to),
            None => Nats::new(host, port),
        };
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
    use myriapod_tls::{Trust, client_config};

    use super::*;

    #[test]
    fn is_what_names_a_broker_read_in_every_form() {
        let read = |text: &str| match Target::parse(text, None).unwrap() {
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
            let error = Target::parse(text, None).unwrap_err();
            assert!(matches!(error, BrokerError::Syntax { .. }), "{text:?}: {error}");
        }
        for text in ["rediss://h", "tls://h"] {
            let error = Target::parse(text, None).unwrap_err();
            assert!(matches!(error, BrokerError::Tls { .. }), "{text}");
        }
    }

    #[test]
    fn is_what_is_to_be_secure_so_and_nothing_else() {
        let config = client_config(Trust::Any, None).unwrap();
        let connector = &Connector::new(config).unwrap();
        let secure = |text, name| Target::parse(text, Some(Secure { connector, name }));
        for (text, is_secure) in [
            ("rediss://:p@h/1", true),
            ("tls://h:1", true),
            ("redis://h", false),
            ("nats://h", false),
        ] {
            let target = secure(text, None).unwrap();
            assert_eq!(target.caller().is_some(), is_secure, "{text}");
            assert!(target.to_string().starts_with(text.split_once("://").unwrap().0), "{target}");
        }
        assert!(matches!(secure("tls://a..b", None), Err(BrokerError::Name { .. })));
        assert!(secure("tls://a..b", Some("localhost")).is_ok());
    }
}
