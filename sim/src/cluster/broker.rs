//! [`Broker`]: a simulated Redis or NATS, which loses connections, delays, and mixes publishers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use myriapod::SocketAddr;
use myriapod::sys::sim::{Remote, RemoteListener, Rng};

/// Bytes in front of each payload that say which node has sent it.
const ID_LEN: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Redis,
    Nats,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Hello,
    Ping,
    Subscribe(String, String),
    Unsubscribe(String),
    Publish(String, Vec<u8>),
}

struct Client {
    number: u64,
    remote: Remote,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Its channels, by what unsubscribes them: their names, or NATS' numbers.
    channels: BTreeMap<String, String>,
}

/// A channel, and what is for those who have subscribed to it.
type Carried = (String, Vec<u8>);

pub(super) struct Broker {
    kind: Kind,
    address: SocketAddr,
    listener: Option<RemoteListener>,
    clients: Vec<Client>,
    next: u64,
    /// What is on its way, by publishing node and subscribed client: each pair has an order.
    pending: BTreeMap<(Vec<u8>, u64), VecDeque<Carried>>,
    /// Payloads that it has taken, and the newest of each node.
    taken: BTreeSet<Vec<u8>>,
    newest: BTreeMap<Vec<u8>, u64>,
    pub(super) wrong: Option<String>,
}

/// The number of a payload, which ends with it.
fn number_of(payload: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(payload);
    text.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl Broker {
    pub(super) fn new(kind: Kind, address: SocketAddr) -> Self {
        Self {
            kind,
            address,
            listener: None,
            clients: Vec::new(),
            next: 0,
            pending: BTreeMap::new(),
            taken: BTreeSet::new(),
            newest: BTreeMap::new(),
            wrong: None,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.listener.is_some()
    }

    pub(super) fn rise(&mut self) -> Result<(), String> {
        let bound = RemoteListener::bind(&self.address, 64);
        self.listener = Some(bound.map_err(|errno| errno.to_string())?);
        Ok(())
    }

    /// It dies, with whatever it has in its hands.
    pub(super) fn fall(&mut self, rng: &mut Rng) {
        self.listener = None;
        for client in self.clients.drain(..) {
            if rng.chance(500) {
                client.remote.reset();
            }
        }
        self.pending.clear();
    }

    /// It loses one connection.
    pub(super) fn lose_one(&mut self, rng: &mut Rng) {
        let at = rng.index(self.clients.len());
        if at < self.clients.len() {
            let client = self.clients.remove(at);
            self.forget(client.number);
            if rng.chance(500) {
                client.remote.reset();
            }
        }
    }

    fn forget(&mut self, number: u64) {
        self.pending.retain(|(_, to), _| *to != number);
    }

    /// All channels that are subscribed, each as often as it is.
    pub(super) fn channels(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.clients.iter().flat_map(|client| client.channels.values().cloned()).collect();
        all.sort_unstable();
        all
    }

    /// Whether everything is done that it can do.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.clients.iter().all(|client| client.output.is_empty())
    }

    pub(super) fn has_taken(&self, payload: &[u8]) -> bool {
        self.taken.iter().any(|taken| taken.get(ID_LEN..) == Some(payload))
    }

    /// Takes somebody in, and works for one client, or for all.
    pub(super) fn act(&mut self, rng: &mut Rng, all: bool) {
        while let Some(remote) = self.listener.as_ref().and_then(RemoteListener::accept) {
            let info = b"INFO {\"max_payload\": 1048576, \"server_id\": \"x\"}\r\n";
            let output = if self.kind == Kind::Nats { info.to_vec() } else { Vec::new() };
            let (input, channels) = (Vec::new(), BTreeMap::new());
            self.clients.push(Client { number: self.next, remote, input, output, channels });
            self.next += 1;
        }
        if all {
            (0..self.clients.len()).rev().for_each(|at| self.serve(at, usize::MAX >> 1));
            while self.deliver(rng) {}
        } else {
            let (at, most) = (rng.index(self.clients.len()), rng.len(1, 2000));
            self.serve(at, most);
            if rng.chance(500) {
                self.deliver(rng);
            }
        }
    }

    /// Reads and writes so many bytes at the most.
    fn serve(&mut self, at: usize, most: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        match client.remote.recv(most) {
            Ok(bytes) if !bytes.is_empty() => client.input.extend(bytes),
            Err(errno) if errno.would_block() => {}
            _ => {
                let client = self.clients.remove(at);
                return self.forget(client.number);
            }
        }
        let mut input = std::mem::take(&mut client.input);
        let mut asked = Vec::new();
        loop {
            let one = if self.kind == Kind::Redis { redis(&input) } else { nats(&input) };
            match one {
                Ok(Some((what, len))) => {
                    input.drain(..len);
                    asked.push(what);
                }
                Ok(None) => break,
                Err(what) => {
                    self.wrong = Some(format!("{what}: {}", String::from_utf8_lossy(&input)));
                    break;
                }
            }
        }
        client.input = input;
        asked.into_iter().for_each(|what| self.answer(at, what));
        if let Some(client) = self.clients.get_mut(at) {
            let piece = client.output.get(..most).unwrap_or(&client.output);
            if let Ok(sent) = client.remote.send(piece) {
                client.output.drain(..sent);
            }
        }
    }

    fn answer(&mut self, at: usize, asked: Asked) {
        let kind = self.kind;
        let is_redis = kind == Kind::Redis;
        let Some(client) = self.clients.get_mut(at) else { return };
        let reply = match asked {
            Asked::Hello => "+OK\r\n".to_owned(),
            Asked::Ping if !is_redis => "PONG\r\n".to_owned(),
            Asked::Ping if client.channels.is_empty() => "+PONG\r\n".to_owned(),
            Asked::Ping => "*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_owned(),
            Asked::Subscribe(channel, by) => {
                if client.channels.values().any(|known| *known == channel) {
                    self.wrong = Some(format!("{channel} is subscribed twice"));
                }
                let count = client.channels.len() + 1;
                let reply = confirmation(kind, "subscribe", &channel, count);
                client.channels.insert(by, channel);
                reply
            }
            Asked::Unsubscribe(by) => {
                let channel = client.channels.remove(&by);
                if channel.is_none() {
                    self.wrong = Some(format!("{by} is unsubscribed, and was not subscribed"));
                }
                let count = client.channels.len();
                confirmation(kind, "unsubscribe", &channel.unwrap_or_default(), count)
            }
            Asked::Publish(channel, payload) => {
                self.publish(at, &channel, &payload);
                let reply = if is_redis { ":1\r\n" } else { "+OK\r\n" };
                reply.to_owned()
            }
        };
        if let Some(client) = self.clients.get_mut(at) {
            client.output.extend_from_slice(reply.as_bytes());
        }
    }

    fn publish(&mut self, at: usize, channel: &str, payload: &[u8]) {
        let node = payload.get(..ID_LEN).unwrap_or_default().to_vec();
        let newest = self.newest.entry(node.clone()).or_default();
        let number = number_of(payload);
        if self.taken.contains(payload) {
            self.wrong = Some(format!("sent twice: {}", String::from_utf8_lossy(payload)));
        }
        if number <= *newest {
            // It comes late, on a connection that its node has given up: as if it had never come.
            return;
        }
        *newest = number;
        self.taken.insert(payload.to_vec());
        let publisher = self.clients.get(at).map(|client| client.number);
        for client in &self.clients {
            // NATS is asked for no echo.
            let is_own = self.kind == Kind::Nats && Some(client.number) == publisher;
            if !is_own && client.channels.values().any(|known| known == channel) {
                let queue = self.pending.entry((node.clone(), client.number)).or_default();
                queue.push_back((channel.to_owned(), payload.to_vec()));
            }
        }
    }

    /// Hands on the next message of some node to some client.
    fn deliver(&mut self, rng: &mut Rng) -> bool {
        let at = rng.index(self.pending.len());
        let Some(pair) = self.pending.keys().nth(at).cloned() else { return false };
        let Some(queue) = self.pending.get_mut(&pair) else { return false };
        let message = queue.pop_front();
        if queue.is_empty() {
            self.pending.remove(&pair);
        }
        let client = self.clients.iter_mut().find(|client| client.number == pair.1);
        let (Some((channel, payload)), Some(client)) = (message, client) else { return true };
        let by = client.channels.iter().find(|(_, known)| **known == channel);
        // It may have unsubscribed meanwhile.
        let Some((by, _)) = by else { return true };
        let head = match self.kind {
            Kind::Redis => format!(
                "*3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n${}\r\n",
                channel.len(),
                payload.len()
            ),
            Kind::Nats => format!("MSG {channel} {by} {}\r\n", payload.len()),
        };
        client.output.extend_from_slice(head.as_bytes());
        client.output.extend_from_slice(&payload);
        client.output.extend_from_slice(b"\r\n");
        true
    }
}

fn confirmation(kind: Kind, word: &str, channel: &str, count: usize) -> String {
    match kind {
        Kind::Redis => {
            let (len, channel_len) = (word.len(), channel.len());
            format!("*3\r\n${len}\r\n{word}\r\n${channel_len}\r\n{channel}\r\n:{count}\r\n")
        }
        Kind::Nats => "+OK\r\n".to_owned(),
    }
}

/// A request at the front of some bytes, and how many of them it takes.
type Found = Result<Option<(Asked, usize)>, &'static str>;

/// Where the line that begins at `from` ends, and its text.
fn line(bytes: &[u8], from: usize) -> Option<(&str, usize)> {
    let rest = bytes.get(from..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some((std::str::from_utf8(rest.get(..end)?).unwrap_or_default(), from + end + 2))
}

fn redis(bytes: &[u8]) -> Found {
    let Some((head, mut at)) = line(bytes, 0) else { return Ok(None) };
    let count = head.strip_prefix('*').and_then(|count| count.parse::<usize>().ok());
    let mut words: Vec<Vec<u8>> = Vec::new();
    for _ in 0..count.ok_or("no array")? {
        let Some((head, start)) = line(bytes, at) else { return Ok(None) };
        let len = head.strip_prefix('$').and_then(|len| len.parse::<usize>().ok());
        let len = len.ok_or("no string")?;
        let Some(word) = bytes.get(start..start + len) else { return Ok(None) };
        if bytes.len() < start + len + 2 {
            return Ok(None);
        }
        words.push(word.to_vec());
        at = start + len + 2;
    }
    let text = |nth: usize| {
        words.get(nth).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
    };
    let asked = match (text(0).as_str(), words.len()) {
        ("AUTH" | "SELECT", _) => Asked::Hello,
        ("PING", 1) => Asked::Ping,
        ("SUBSCRIBE", 2) => Asked::Subscribe(text(1), text(1)),
        ("UNSUBSCRIBE", 2) => Asked::Unsubscribe(text(1)),
        ("PUBLISH", 3) => Asked::Publish(text(1), words.pop().unwrap_or_default()),
        _ => return Err("no such command"),
    };
    Ok(Some((asked, at)))
}

fn nats(bytes: &[u8]) -> Found {
    let Some((text, at)) = line(bytes, 0) else { return Ok(None) };
    let words: Vec<&str> = text.split(' ').collect();
    let asked = match words[..] {
        ["CONNECT", ..] => Asked::Hello,
        ["PING"] => Asked::Ping,
        ["SUB", channel, by] => Asked::Subscribe(channel.to_owned(), by.to_owned()),
        ["UNSUB", by] => Asked::Unsubscribe(by.to_owned()),
        ["PUB", channel, len] => {
            let len: usize = len.parse().map_err(|_| "no length")?;
            let Some(payload) = bytes.get(at..at + len) else { return Ok(None) };
            if bytes.len() < at + len + 2 {
                return Ok(None);
            }
            let asked = Asked::Publish(channel.to_owned(), payload.to_vec());
            return Ok(Some((asked, at + len + 2)));
        }
        _ => return Err("no such command"),
    };
    Ok(Some((asked, at)))
}
