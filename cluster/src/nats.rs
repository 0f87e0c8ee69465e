//! [`Nats`]: a NATS server as a broker.
//!
//! Source: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use myriapod::protocol::Message;
use myriapod_tls::ToServer;
use serde::{Deserialize, Serialize};

use crate::bounds::MAX_PAYLOAD;
use crate::dialect::{Dialect, Heard, Wire};
use crate::nats_framing::NatsLines;

/// A NATS server.
///
/// ```
/// use myriapod_cluster::Nats;
///
/// let nats = Nats::new("nats.internal", 4222).user("chat", "secret");
/// assert_eq!(nats.to_string(), "nats://nats.internal:4222");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Nats {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    user: Option<Box<str>>,
    password: Option<Box<str>>,
    token: Option<Box<str>>,
    pub(crate) tls: Option<ToServer>,
}

impl Nats {
    /// One at this place. A host is a name, or an IPv4 or IPv6 address.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port, user: None, password: None, token: None, tls: None }
    }

    /// As a user.
    #[must_use]
    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.user = Some(user.into());
        self.password = Some(password.into());
        self
    }

    /// With a token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Over TLS 1.3, with a server of this name. The server greets in plain text first, as it does unless it has `handshake_first`.
    ///
    /// ```no_run
    /// use myriapod_cluster::Nats;
    /// use myriapod_tls::{Connector, Trust, client_config};
    /// # let roots = unimplemented!();
    ///
    /// let connector: Connector = Connector::new(client_config(Trust::Roots(roots), None)?)?;
    /// let broker = Nats::new("10.0.0.9", 6380).tls(connector.to("broker.internal".try_into()?));
    /// assert_eq!(broker.to_string(), "tls://10.0.0.9:6380");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tls(mut self, to: ToServer) -> Self {
        self.tls = Some(to.after_line());
        self
    }

    pub(crate) fn dialect(&self) -> Box<dyn Dialect> {
        let connect = Connect {
            // A confirmation of each message, so that what is lost can be counted.
            verbose: true,
            pedantic: false,
            tls_required: self.tls.is_some(),
            echo: false,
            name: "myriapod",
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 0,
            user: self.user.as_deref(),
            pass: self.password.as_deref(),
            auth_token: self.token.as_deref(),
        };
        // Texts and flags are always JSON.
        let connect = serde_json::to_string(&connect).unwrap_or_default();
        Box::new(Speaking {
            connect,
            max_payload: MAX_PAYLOAD,
            confirmations: VecDeque::new(),
            is_ready: false,
            is_secure: self.tls.is_some(),
            last_number: 0,
            numbers: BTreeMap::new(),
        })
    }
}

/// Its place, without user, password and token.
impl fmt::Display for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let scheme = if self.tls.is_some() { "tls" } else { "nats" };
        write!(f, "{scheme}://{}{}{}:{}", brackets.0, self.host, brackets.1, self.port)
    }
}

/// Its place, without user, password and token.
impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nats({self})")
    }
}

#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    echo: bool,
    name: &'a str,
    lang: &'a str,
    version: &'a str,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
}

#[derive(Deserialize)]
struct Info {
    max_payload: Option<usize>,
    #[serde(default)]
    tls_required: bool,
}

/// What a `+OK` confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirms {
    Message,
    Other,
}

/// One attempt at it.
struct Speaking {
    connect: String,
    max_payload: usize,
    /// In the order in which they were sent.
    confirmations: VecDeque<Confirms>,
    is_ready: bool,
    is_secure: bool,
    last_number: u64,
    /// The number of each subscription.
    numbers: BTreeMap<Box<str>, u64>,
}

impl Dialect for Speaking {
    fn framing(&self) -> Wire {
        Wire::Nats(NatsLines)
    }

    fn opened(&mut self, _lane: usize) -> Vec<u8> {
        // The server speaks first.
        Vec::new()
    }

    fn preface(&mut self, line: &[u8]) -> Heard<'static> {
        match line.split_at_checked(5) {
            Some((word, info)) if word.eq_ignore_ascii_case(b"INFO ") => self.informed(info),
            _ => Heard::Failed("it does not speak NATS".to_owned()),
        }
    }

    fn heard<'a>(&mut self, _lane: usize, message: &Message<'a>) -> Heard<'a> {
        if message.tag() == NatsLines::MSG {
            let subject = message.part(0).map(std::str::from_utf8);
            return match (subject, message.part(1)) {
                (Some(Ok(channel)), Some(payload)) => Heard::Message { channel, payload },
                _ => Heard::Nothing,
            };
        }
        let line = message.content();
        let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        if word.eq_ignore_ascii_case(b"INFO") {
            self.informed(line.get(word.len()..).unwrap_or_default())
        } else if word.eq_ignore_ascii_case(b"PING") {
            Heard::Say(b"PONG\r\n".to_vec())
        } else if word.eq_ignore_ascii_case(b"PONG") {
            if std::mem::replace(&mut self.is_ready, true) { Heard::Nothing } else { Heard::Ready }
        } else if word.eq_ignore_ascii_case(b"+OK") {
            match self.confirmations.pop_front() {
                Some(Confirms::Message) => Heard::Published,
                _ => Heard::Nothing,
            }
        } else if word.eq_ignore_ascii_case(b"-ERR") {
            let text = String::from_utf8_lossy(line.get(word.len()..).unwrap_or_default());
            self.refused(text.trim())
        } else {
            Heard::Failed("it does not speak NATS".to_owned())
        }
    }

    fn publish(&self, channel: &str, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB {channel} {}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn subscribe(&mut self, channel: &str, out: &mut Vec<u8>) {
        if !self.numbers.contains_key(channel) {
            self.last_number += 1;
            let number = self.last_number;
            self.numbers.insert(channel.into(), number);
            out.extend_from_slice(format!("SUB {channel} {number}\r\n").as_bytes());
            self.confirmations.push_back(Confirms::Other);
        }
    }

    fn unsubscribe(&mut self, channel: &str, out: &mut Vec<u8>) {
        if let Some(number) = self.numbers.remove(channel) {
            out.extend_from_slice(format!("UNSUB {number}\r\n").as_bytes());
            self.confirmations.push_back(Confirms::Other);
        }
    }

    fn ping(&mut self, _lane: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn published(&mut self) {
        self.confirmations.push_back(Confirms::Message);
    }
}

impl Speaking {
    /// The server has said what it is.
    fn informed(&mut self, info: &[u8]) -> Heard<'static> {
        let Ok(info) = serde_json::from_slice::<Info>(info) else {
            return Heard::Failed("its INFO is no JSON".to_owned());
        };
        if let Some(max_payload) = info.max_payload {
            self.max_payload = max_payload.min(MAX_PAYLOAD);
        }
        if self.is_ready || !self.confirmations.is_empty() {
            // It says so again when something has changed.
            return Heard::Nothing;
        }
        if info.tls_required && !self.is_secure {
            return Heard::Failed("it requires TLS: name it with tls://".to_owned());
        }
        self.confirmations.push_back(Confirms::Other);
        Heard::Say(format!("CONNECT {}\r\nPING\r\n", self.connect).into_bytes())
    }

    /// The server refuses something. It goes on after what concerns one subject, and closes after
    /// anything else.
    fn refused(&mut self, text: &str) -> Heard<'static> {
        let text = text.trim_matches('\'');
        let is = |start: &str| {
            text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
        };
        let mut not_confirmed = |what| {
            let oldest = self.confirmations.iter().position(|it| *it == what);
            oldest.and_then(|oldest| self.confirmations.remove(oldest)).is_some()
        };
        if is("permissions violation for publish") || is("invalid publish subject") {
            return if not_confirmed(Confirms::Message) { Heard::Refused } else { Heard::Nothing };
        }
        if is("permissions violation for subscription") || is("invalid subject") {
            not_confirmed(Confirms::Other);
            return Heard::Complaint(text.to_owned());
        }
        Heard::Failed(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use myriapod::protocol::Decoder;

    use super::*;

    fn heard(dialect: &mut dyn Dialect, bytes: &[u8]) -> Vec<String> {
        let mut decoder = Decoder::new(dialect.framing());
        decoder.feed(bytes);
        let mut all = Vec::new();
        while let Some(message) = decoder.next_message().unwrap() {
            all.push(match dialect.heard(0, &message) {
                Heard::Say(bytes) => String::from_utf8(bytes).unwrap(),
                heard => format!("{heard:?}"),
            });
        }
        all
    }

    fn ready(nats: &Nats) -> Box<dyn Dialect> {
        let mut dialect = nats.dialect();
        assert!(dialect.opened(0).is_empty());
        heard(&mut *dialect, b"INFO {\"max_payload\": 100}\r\n");
        assert_eq!(heard(&mut *dialect, b"+OK\r\nPONG\r\n"), ["Nothing", "Ready"]);
        dialect
    }

    #[test]
    fn is_it_ready_once_it_has_answered() {
        let mut dialect = Nats::new("h", 1).user("u", "p").dialect();
        let said = heard(&mut *dialect, b"INFO {\"max_payload\": 100, \"x\": [1]}\r\n");
        assert_eq!(said.len(), 1);
        let (connect, ping) = said[0].split_once("\r\n").unwrap();
        let connect = connect.strip_prefix("CONNECT ").unwrap();
        let connect: serde_json::Value = serde_json::from_str(connect).unwrap();
        assert_eq!((&connect["user"], &connect["pass"]), (&"u".into(), &"p".into()));
        assert_eq!((&connect["echo"], &connect["verbose"]), (&false.into(), &true.into()));
        assert_eq!((connect.get("auth_token"), ping), (None, "PING\r\n"));
        assert_eq!(
            heard(&mut *dialect, b"+OK\r\nPONG\r\nPONG\r\n"),
            ["Nothing", "Ready", "Nothing"]
        );
        assert_eq!(dialect.max_payload(), 100);
        // A later one changes the limit and asks for nothing.
        assert_eq!(
            heard(&mut *dialect, b"INFO {\"max_payload\": 50}\r\nPING\r\n"),
            ["Nothing", "PONG\r\n"]
        );
        assert_eq!(dialect.max_payload(), 50);
        let said = heard(&mut *Nats::new("h", 1).token("t").dialect(), b"INFO {}\r\n");
        assert!(said[0].contains("\"auth_token\":\"t\""), "{}", said[0]);
    }

    #[test]
    fn does_each_confirmation_go_to_what_it_confirms() {
        let mut dialect = ready(&Nats::new("h", 1));
        let mut out = Vec::new();
        dialect.subscribe("a", &mut out);
        dialect.subscribe("a", &mut out);
        dialect.publish("a", b"x\r\n", &mut out);
        dialect.published();
        dialect.publish("b", b"", &mut out);
        dialect.published();
        dialect.unsubscribe("a", &mut out);
        dialect.unsubscribe("a", &mut out);
        let expected = "SUB a 1\r\nPUB a 3\r\nx\r\n\r\nPUB b 0\r\n\r\nUNSUB 1\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let bytes =
            b"+OK\r\n+OK\r\n-ERR 'Permissions Violation for Publish to \"b\"'\r\n+OK\r\n+OK\r\n";
        let all = heard(&mut *dialect, bytes);
        assert_eq!(all, ["Nothing", "Published", "Refused", "Nothing", "Nothing"]);
        let all = heard(&mut *dialect, b"MSG a 1 2\r\nhi\r\n-ERR 'Stale Connection'\r\n");
        let message = "Message { channel: \"a\", payload: [104, 105] }";
        assert_eq!(all, [message, "Failed(\"Stale Connection\")"]);
    }

    #[test]
    fn is_a_server_that_cannot_be_used_named() {
        for (bytes, why) in [
            (&b"INFO {\"tls_required\": true}\r\n"[..], "it requires TLS: name it with tls://"),
            (b"INFO x\r\n", "its INFO is no JSON"),
            (b"HTTP/1.1 400 Bad Request\r\n", "it does not speak NATS"),
            (b"-ERR 'Authorization Violation'\r\n", "Authorization Violation"),
        ] {
            let all = heard(&mut *Nats::new("h", 1).dialect(), bytes);
            assert_eq!(all, [format!("Failed({why:?})")]);
        }
    }
}
