//! [`Redis`]: a Redis server as a broker, with version 2 of its protocol.
//!
//! Source: <https://redis.io/docs/latest/develop/pubsub/>.

use std::fmt;

use myriapod::protocol::Message;
use myriapod_tls::ToServer;

use crate::bounds::MAX_PAYLOAD;
use crate::dialect::{Dialect, Heard, Wire};
use crate::resp::Resp;

/// A Redis server, or what speaks its protocol.
///
/// Two connections are made to it: one that is subscribed can do nothing else. `PUBLISH` and
/// `SUBSCRIBE` reach all databases; which one is asked for decides whether the user may.
///
/// ```
/// use myriapod_cluster::Redis;
///
/// let redis = Redis::new("cache.internal", 6379).user("chat", "secret").database(1);
/// assert_eq!(redis.to_string(), "redis://cache.internal:6379");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Redis {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    user: Option<Box<str>>,
    password: Option<Box<str>>,
    database: Option<u32>,
    pub(crate) tls: Option<ToServer>,
}

impl Redis {
    /// One at this place. A host is a name, or an IPv4 or IPv6 address.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port, user: None, password: None, database: None, tls: None }
    }

    /// Behind a password (`requirepass`).
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// As a user of its access control lists.
    #[must_use]
    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.user = Some(user.into());
        self.password(password)
    }

    /// With this database selected.
    #[must_use]
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// Over TLS 1.3, with a server of this name.
    ///
    /// ```no_run
    /// use myriapod_cluster::Redis;
    /// use myriapod_tls::{Connector, Trust, client_config};
    /// # let roots = unimplemented!();
    ///
    /// let connector: Connector = Connector::new(client_config(Trust::Roots(roots), None)?)?;
    /// let broker = Redis::new("10.0.0.9", 6380).tls(connector.to("broker.internal".try_into()?));
    /// assert_eq!(broker.to_string(), "rediss://10.0.0.9:6380");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tls(mut self, to: ToServer) -> Self {
        self.tls = Some(to);
        self
    }

    pub(crate) fn dialect(&self) -> Box<dyn Dialect> {
        let mut hello = Vec::new();
        let mut count = 1;
        if let Some(password) = &self.password {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(self.user.as_ref().map(|user| user.as_bytes()));
            words.push(password.as_bytes());
            command(&words, &mut hello);
            count += 1;
        }
        if let Some(database) = self.database {
            command(&[b"SELECT", database.to_string().as_bytes()], &mut hello);
            count += 1;
        }
        command(&[b"PING"], &mut hello);
        Box::new(Speaking { hello, count, awaited: [count; 2] })
    }
}

/// Its place, without user and password.
impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}{}{}:{}", brackets.0, self.host, brackets.1, self.port)
    }
}

/// Its place, without user and password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({self})")
    }
}

/// One attempt at it.
struct Speaking {
    hello: Vec<u8>,
    /// Replies that `hello` has.
    count: usize,
    /// Replies to it that are still to come, by lane.
    awaited: [usize; 2],
}

const SUBSCRIBING: usize = 0;

impl Dialect for Speaking {
    fn lanes(&self) -> usize {
        2
    }

    fn framing(&self) -> Wire {
        Wire::Resp(Resp)
    }

    fn opened(&mut self, lane: usize) -> Vec<u8> {
        if let Some(awaited) = self.awaited.get_mut(lane) {
            *awaited = self.count;
        }
        self.hello.clone()
    }

    fn heard<'a>(&mut self, lane: usize, message: &Message<'a>) -> Heard<'a> {
        let first = message.part(0).unwrap_or_default();
        let is_error = message.tag() == u32::from(b'-');
        let Some(awaited) = self.awaited.get_mut(lane) else { return Heard::Nothing };
        if *awaited > 0 {
            if is_error {
                return Heard::Failed(String::from_utf8_lossy(first).into_owned());
            }
            *awaited -= 1;
            return if *awaited == 0 { Heard::Ready } else { Heard::Nothing };
        }
        if lane != SUBSCRIBING {
            return match message.tag() {
                // Nobody else publishes on this connection, so the order tells which one it is.
                tag if tag == u32::from(b':') => Heard::Published,
                _ if is_error => Heard::Refused,
                _ => Heard::Nothing,
            };
        }
        if is_error {
            return Heard::Complaint(String::from_utf8_lossy(first).into_owned());
        }
        match (first, message.part(1), message.part(2)) {
            (b"message", Some(channel), Some(payload)) => match std::str::from_utf8(channel) {
                Ok(channel) => Heard::Message { channel, payload },
                Err(_) => Heard::Nothing,
            },
            _ => Heard::Nothing,
        }
    }

    fn publish(&self, channel: &str, payload: &[u8], out: &mut Vec<u8>) {
        command(&[b"PUBLISH", channel.as_bytes(), payload], out);
    }

    fn max_payload(&self) -> usize {
        MAX_PAYLOAD
    }

    fn subscribe(&mut self, channel: &str, out: &mut Vec<u8>) {
        command(&[b"SUBSCRIBE", channel.as_bytes()], out);
    }

    fn unsubscribe(&mut self, channel: &str, out: &mut Vec<u8>) {
        command(&[b"UNSUBSCRIBE", channel.as_bytes()], out);
    }

    fn ping(&mut self, _lane: usize, out: &mut Vec<u8>) {
        command(&[b"PING"], out);
    }
}

/// A command as an array of strings.
fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use myriapod::protocol::{Decoder, Framing};

    use super::*;

    /// What each of these replies means on a lane.
    fn heard(dialect: &mut dyn Dialect, lane: usize, bytes: &[u8]) -> Vec<String> {
        let mut decoder = Decoder::new(dialect.framing());
        decoder.feed(bytes);
        let mut all = Vec::new();
        while let Some(message) = decoder.next_message().unwrap() {
            all.push(format!("{:?}", dialect.heard(lane, &message)));
        }
        all
    }

    #[test]
    fn is_a_lane_ready_once_all_of_its_greeting_is_answered() {
        let redis = Redis::new("h", 1).user("u", "p\r\n").database(3);
        let mut dialect = redis.dialect();
        let hello = dialect.opened(0);
        assert_eq!(
            String::from_utf8(hello).unwrap(),
            "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np\r\n\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n"
        );
        let all = heard(&mut *dialect, 0, b"+OK\r\n+OK\r\n+PONG\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        assert_eq!(all, ["Nothing", "Nothing", "Ready", "Nothing"]);
        dialect.opened(1);
        let all = heard(&mut *dialect, 1, b"-WRONGPASS no\r\n");
        assert_eq!(all, ["Failed(\"WRONGPASS no\")"]);
        assert_eq!(format!("{redis:?}"), "Redis(redis://h:1)", "no password");
    }

    #[test]
    fn does_each_lane_take_what_is_its_own() {
        let mut dialect = Redis::new("h", 1).dialect();
        for lane in 0..2 {
            dialect.opened(lane);
            assert_eq!(heard(&mut *dialect, lane, b"+PONG\r\n"), ["Ready"]);
        }
        let bytes = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
        let all = heard(&mut *dialect, 0, bytes);
        let message = "Message { channel: \"a\", payload: [104, 105] }";
        assert_eq!(all, ["Nothing", message]);
        let all = heard(&mut *dialect, 1, b":2\r\n-NOPERM no\r\n+PONG\r\n");
        assert_eq!(all, ["Published", "Refused", "Nothing"]);
        let mut out = Vec::new();
        dialect.publish("a", b"\r\n", &mut out);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\n\r\n\r\n");
        assert!(Wire::Resp(Resp).find(&out).unwrap().is_some());
    }
}
