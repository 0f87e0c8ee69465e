//! Redis' protocol by a framing of our own, driven by Redis' own tools.
//!
//! ```text
//! $ cargo run --release --example resp_server -- 127.0.0.1 6380
//! listening on 127.0.0.1:6380
//! $ redis-cli -p 6380 set name Neo
//! OK
//! $ redis-benchmark -p 6380 -t set,get -P 16 -q
//! ```
//!
//! It keeps strings, counts, and passes messages on to subscribers. Redis does far more with each
//! command: it expires, persists, replicates. So compare what the two cost with that in mind.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::HashMap;
use std::process::ExitCode;

use command::Stop;
use myriapod::protocol::{
    DecodeLimits, Decoded, EncodeError, Frame, Framing, Head, Input, Mark, ProtocolError,
};
use myriapod::sys::Signal;
use myriapod::{
    Cause, Handler, HandlerError, HandlerResult, Message, Outgoing, Reply, Server, SocketAddr, View,
};

#[path = "support/command.rs"]
mod command;

/// The most words of one command.
const MAX_WORDS: usize = 1 << 16;

/// The longest line, be it a command or a length, in bytes: as in Redis.
const MAX_LINE: usize = 64 << 10;

/// Commands as arrays of strings, or as words on a line. Each word is a part of the message.
///
/// <https://redis.io/docs/latest/develop/reference/protocol-spec/>
#[derive(Clone, Copy, Default)]
struct Resp {
    limits: DecodeLimits,
}

impl Resp {
    fn look(self, bytes: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
        frame.clear();
        if bytes.first() != Some(&b'*') {
            return inline(bytes, frame);
        }
        let Some((count, mut at)) = number(bytes, 1)? else { return Ok(UNFINISHED) };
        if count > MAX_WORDS {
            return Err(ProtocolError::named("TooManyWords", "invalid multibulk length"));
        }
        for _ in 0..count {
            match bytes.get(at) {
                None => return Ok(UNFINISHED),
                Some(b'$') => {}
                Some(_) => return Err(ProtocolError::named("NoString", "a string is expected")),
            }
            let Some((len, start)) = number(bytes, at + 1)? else { return Ok(UNFINISHED) };
            if len > self.limits.max_content_len {
                return Err(ProtocolError::named("StringTooLong", "invalid bulk length"));
            }
            at = start + len + 2;
            if bytes.len() < at {
                return Ok(Decoded::Incomplete { needed: at, in_content: true });
            }
            frame.push_part(start..start + len);
        }
        if count == 0 {
            return Ok(Decoded::Skip(at));
        }
        frame.set_bounds(0..at, at);
        Ok(Decoded::Message)
    }
}

const UNFINISHED: Decoded = Decoded::More { scanned: 0, in_content: false };

/// The number on the line that starts at `at`, and where the next line starts.
fn number(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut value = 0;
    for (nth, byte) in bytes.get(at..).unwrap_or_default().iter().enumerate() {
        match byte {
            b'0'..=b'9' if nth < 10 => value = value * 10 + usize::from(byte - b'0'),
            b'\r' if nth > 0 => {
                return Ok((at + nth + 1 < bytes.len()).then_some((value, at + nth + 2)));
            }
            _ => return Err(ProtocolError::named("NoNumber", "a length is expected")),
        }
    }
    Ok(None)
}

/// The words of a line.
fn inline(bytes: &[u8], frame: &mut Frame) -> Result<Decoded, ProtocolError> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return match bytes.len() < MAX_LINE {
            true => Ok(UNFINISHED),
            false => Err(ProtocolError::named("LineTooLong", "too big inline request")),
        };
    };
    let mut start = 0;
    for word in bytes[..end].split(u8::is_ascii_whitespace) {
        if !word.is_empty() {
            frame.push_part(start..start + word.len());
        }
        start += word.len() + 1;
    }
    frame.set_bounds(0..end, end + 1);
    let is_empty = bytes[..end].trim_ascii().is_empty();
    Ok(if is_empty { Decoded::Skip(end + 1) } else { Decoded::Message })
}

impl Framing for Resp {
    type Stream = ();

    fn set_limits(&mut self, limits: DecodeLimits) {
        self.limits = limits;
    }

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        self.look(input.bytes, frame)
    }

    fn predict(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> bool {
        self.look(input, frame) == Ok(Decoded::Message)
    }

    // A reply says itself what it is.
    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::bare(out.len()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        mark.content_len(out).map(drop)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        _kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(format!("-ERR {text}\r\n").as_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct Store {
    values: HashMap<Box<[u8]>, Vec<u8>>,
    /// How many are subscribed to a channel.
    subscribers: HashMap<Box<[u8]>, i64>,
}

/// What a command is answered with.
enum Answer<'a> {
    Simple(&'static str),
    Error(String),
    Number(i64),
    Bulk(&'a [u8]),
    Nil,
    /// Strings and numbers, one after another.
    Array(Vec<Answer<'a>>),
}

impl Answer<'_> {
    fn write(&self, append: &mut impl FnMut(&[u8])) {
        let counted = |append: &mut dyn FnMut(&[u8]), kind: u8, number: i64| {
            // Twenty digits and a sign are enough for any.
            let (mut line, mut at, mut left) = ([b'\n'; 24], 22, number.unsigned_abs());
            line[22] = b'\r';
            loop {
                at -= 1;
                line[at] = b'0' + u8::try_from(left % 10).unwrap_or_default();
                left /= 10;
                if left == 0 {
                    break;
                }
            }
            if number < 0 {
                at -= 1;
                line[at] = b'-';
            }
            line[at - 1] = kind;
            append(&line[at - 1..]);
        };
        match self {
            Self::Simple(text) => {
                append(b"+");
                append(text.as_bytes());
                append(b"\r\n");
            }
            Self::Error(text) => append(format!("-ERR {text}\r\n").as_bytes()),
            Self::Number(number) => counted(append, b':', *number),
            Self::Nil => append(b"$-1\r\n"),
            Self::Bulk(bytes) => {
                counted(append, b'$', length(bytes.len()));
                append(bytes);
                append(b"\r\n");
            }
            Self::Array(items) => {
                counted(append, b'*', length(items.len()));
                for item in items {
                    item.write(append);
                }
            }
        }
    }
}

fn length(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

impl Store {
    fn answer<'a>(&'a mut self, name: &[u8], words: &[&'a [u8]]) -> Option<Answer<'a>> {
        Some(match (name, words) {
            (b"PING", []) => Answer::Simple("PONG"),
            (b"PING" | b"ECHO", [text]) => Answer::Bulk(text),
            (b"GET", [key]) => {
                self.values.get(*key).map_or(Answer::Nil, |value| Answer::Bulk(value))
            }
            (b"SET", [key, value]) => {
                self.set(key, value);
                Answer::Simple("OK")
            }
            (b"INCR", [key]) => self.increment(key),
            (b"DEL", [_, ..]) => Answer::Number(length(
                words.iter().filter(|key| self.values.remove(**key).is_some()).count(),
            )),
            (b"EXISTS", [_, ..]) => Answer::Number(length(
                words.iter().filter(|key| self.values.contains_key(**key)).count(),
            )),
            (b"DBSIZE", []) => Answer::Number(length(self.values.len())),
            (b"FLUSHALL" | b"FLUSHDB", _) => {
                self.values.clear();
                Answer::Simple("OK")
            }
            // Nothing is configured; redis-benchmark asks all the same.
            (b"CONFIG", [_, name]) => Answer::Array(vec![Answer::Bulk(name), Answer::Bulk(b"")]),
            (b"COMMAND", _) => Answer::Array(Vec::new()),
            (b"CLIENT" | b"SELECT", _) => Answer::Simple("OK"),
            _ => return None,
        })
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.values.get_mut(key) {
            Some(old) => {
                old.clear();
                old.extend_from_slice(value);
            }
            None => {
                self.values.insert(key.into(), value.to_vec());
            }
        }
    }

    fn increment(&mut self, key: &[u8]) -> Answer<'static> {
        let old = self.values.get(key).map_or(Ok("0"), |value| std::str::from_utf8(value));
        let next = old.ok().and_then(|old| old.parse::<i64>().ok()?.checked_add(1));
        let Some(next) = next else {
            return Answer::Error("value is not an integer or out of range".to_owned());
        };
        self.set(key, next.to_string().as_bytes());
        Answer::Number(next)
    }
}

/// The channels that a connection is subscribed to.
type Channels = Vec<Box<[u8]>>;

/// The group of those that are subscribed to a channel.
fn group(channel: &[u8]) -> String {
    channel.escape_ascii().to_string()
}

/// PUBLISH, SUBSCRIBE and UNSUBSCRIBE, on groups of connections.
impl Store {
    fn publish(&self, channel: &[u8], text: &[u8], view: &View<'_>) -> Result<i64, HandlerError> {
        let mut push = Vec::new();
        let items = [&b"message"[..], channel, text].map(Answer::Bulk);
        Answer::Array(items.into()).write(&mut |piece| push.extend_from_slice(piece));
        view.handle().broadcast(&group(channel), Outgoing::binary("", push))?;
        Ok(self.subscribers.get(channel).copied().unwrap_or_default())
    }

    fn subscribe(&mut self, channel: &[u8], all: &mut Channels, view: &View<'_>) -> HandlerResult {
        if !all.iter().any(|known| **known == *channel) {
            view.handle().join(view.id(), &group(channel))?;
            all.push(channel.into());
            *self.subscribers.entry(channel.into()).or_default() += 1;
        }
        Ok(())
    }

    fn unsubscribe(&mut self, channel: &[u8], all: &mut Channels, view: &View<'_>) {
        let Some(nth) = all.iter().position(|known| **known == *channel) else { return };
        all.swap_remove(nth);
        if let Some(count) = self.subscribers.get_mut(channel) {
            *count -= 1;
        }
        self.subscribers.retain(|_, count| *count > 0);
        // An error here says that the event loop ends.
        let _ = view.handle().leave(view.id(), &group(channel));
    }
}

impl Handler for Store {
    type State = Channels;

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> Channels {
        Vec::new()
    }

    fn on_message(
        &mut self,
        subscribed: &mut Channels,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        // Most commands have few words.
        let (mut few, mut many) = ([&b""[..]; 8], Vec::new());
        let words: &[&[u8]] = if message.part_count() <= few.len() {
            for (place, word) in few.iter_mut().zip(message.parts()) {
                *place = word;
            }
            &few[..message.part_count()]
        } else {
            many.extend(message.parts());
            &many
        };
        let Some((name, words)) = words.split_first() else { return Ok(()) };
        let mut upper = [0; 16];
        let name = match upper.get_mut(..name.len()) {
            Some(upper) => {
                upper.copy_from_slice(name);
                upper.make_ascii_uppercase();
                upper
            }
            None => *name,
        };
        if name == b"QUIT" {
            reply.close();
            reply.binary("", b"+OK\r\n")?;
            return Ok(());
        }
        if let Some(answer) = self.answer(name, words) {
            return Ok(reply.binary_with("", |out| answer.write(&mut |piece| out.append(piece)))?);
        }
        let mut told = Vec::new();
        match (name, words) {
            (b"PUBLISH", [channel, text]) => {
                told.push(Answer::Number(self.publish(channel, text, reply.view())?));
            }
            (b"SUBSCRIBE" | b"UNSUBSCRIBE", [_, ..]) => {
                let subscribes = name == b"SUBSCRIBE";
                let kind: &[u8] = if subscribes { b"subscribe" } else { b"unsubscribe" };
                for channel in words {
                    if subscribes {
                        self.subscribe(channel, subscribed, reply.view())?;
                    } else {
                        self.unsubscribe(channel, subscribed, reply.view());
                    }
                    let count = Answer::Number(length(subscribed.len()));
                    told.push(Answer::Array(vec![
                        Answer::Bulk(kind),
                        Answer::Bulk(channel),
                        count,
                    ]));
                }
            }
            _ => {
                let name = String::from_utf8_lossy(name);
                told.push(Answer::Error(format!("unknown command '{name}', or its arguments")));
            }
        }
        Ok(reply.binary_with("", |out| {
            told.iter().for_each(|answer| answer.write(&mut |piece| out.append(piece)));
        })?)
    }

    fn on_close(&mut self, mut subscribed: Channels, view: &mut View<'_>, _cause: Cause) {
        for channel in subscribed.clone() {
            self.unsubscribe(&channel, &mut subscribed, view);
        }
    }
}

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| {
        let [host, port] = arguments else { return Err(Stop::Usage) };
        let mut server = Server::builder()
            .listen(host, command::port(port)?)
            .signals(&[Signal::Interrupt, Signal::Terminate])
            .build_with(Resp::default(), Store::default())?;
        for address in server.addresses() {
            println!("listening on {address}");
        }
        server.run()?;
        Ok(())
    })
}
