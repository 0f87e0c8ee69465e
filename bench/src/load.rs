//! A closed loop of clients: each connection has so many messages in flight, and sends another for
//! every reply.

use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use myriapod::protocol::{Decoder, JsonHeader};
use myriapod::sys::{self, Errno};
use myriapod::{Interest, Key, Selector};

use crate::Result;
use crate::servers::Running;

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message of 146 bytes, which is echoed byte for byte.
pub(crate) fn request() -> Vec<u8> {
    let content = br#"{"action": "search", "value": "morpheus"}"#;
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {}}}"#,
        content.len()
    );
    // 103 bytes.
    let len = u16::try_from(header.len()).unwrap_or_default().to_be_bytes();
    [&len, header.as_bytes(), content].concat()
}

/// What is sent, and what has to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The same bytes.
    Same,
    /// A message with this JSON content, however its header is written; always the same bytes.
    Json(&'static str),
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// The server's, for each request.
    pub(crate) cpu_time: Duration,
    pub(crate) requests_per_second: f64,
    /// The share of the time in which the server had work.
    pub(crate) busy: f64,
}

/// When to stop sending.
#[derive(Clone, Copy, Debug)]
enum Until {
    Sent(u64),
    Time(Instant),
}

/// The connections, each with the bytes of its present reply that have come.
pub(crate) struct Clients {
    selector: Selector<usize>,
    port: u16,
    request: Vec<u8>,
    reply: Vec<u8>,
    /// As many requests as can ever be due at once.
    burst: Vec<u8>,
    in_flight: usize,
    received: Vec<u8>,
}

impl Clients {
    /// Connects, and exchanges a message on each, so that nothing is done for the first time later.
    pub(crate) fn connect(port: u16, connections: u64, in_flight: usize) -> Result<Self> {
        let mut clients = Self::none(port, &request(), Expect::Same, in_flight)?;
        clients.grow(connections)?;
        Ok(clients)
    }

    /// Learns, on a connection of its own, which bytes are the reply.
    pub(crate) fn none(
        port: u16,
        request: &[u8],
        expect: Expect,
        in_flight: usize,
    ) -> Result<Self> {
        let mut clients = Self {
            selector: Selector::new()?,
            port,
            reply: reply(port, request, expect)?,
            burst: Vec::new(),
            request: request.to_vec(),
            in_flight,
            received: vec![0; 64 << 10],
        };
        clients.set_in_flight(in_flight);
        Ok(clients)
    }

    /// From now on, has so many messages in flight on each connection.
    pub(crate) fn set_in_flight(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
        self.burst = self.request.repeat(in_flight);
    }

    /// Messages that may be in flight, on all connections together.
    pub(crate) fn at_once(&self) -> u64 {
        (self.selector.len() * self.in_flight) as u64
    }

    /// Connects up to so many, and exchanges messages on all.
    pub(crate) fn grow(&mut self, connections: u64) -> Result<()> {
        for _ in self.selector.len() as u64..connections {
            self.open()?;
        }
        self.exchange(self.at_once())
    }

    fn open(&mut self) -> Result<Key> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(self.selector.register(stream, Interest::READABLE, 0)?)
    }

    /// Exchanges so many messages, with all connections at work.
    pub(crate) fn exchange(&mut self, requests: u64) -> Result<()> {
        self.exchange_until(Until::Sent(requests)).map(drop)
    }

    /// Exchanges messages, and tells how many.
    fn exchange_until(&mut self, until: Until) -> Result<u64> {
        let keys: Vec<_> = self.selector.iter().map(|(key, _)| key).collect();
        let (mut sent, mut come) = (0, 0);
        let mut may_send = |wanted: u64| {
            let now = match until {
                Until::Sent(all) => wanted.min(all - sent),
                Until::Time(end) if Instant::now() < end => wanted,
                Until::Time(_) => 0,
            };
            sent += now;
            (now, sent)
        };
        let mut due = 0;
        for key in keys {
            let (now, sent) = may_send(self.in_flight as u64);
            due = sent;
            self.send(key, now)?;
        }
        while come < due {
            if self.selector.select(Some(PATIENCE))? == 0 {
                return Err(format!("no reply within {PATIENCE:?}").into());
            }
            while let Some(ready) = self.selector.next_ready() {
                let whole = self.receive(ready.key)?;
                come += whole;
                let (now, sent) = may_send(whole);
                due = sent;
                self.send(ready.key, now)?;
            }
        }
        Ok(come)
    }

    /// Receives, and compares with what has to come; tells how many replies are now whole.
    fn receive(&mut self, key: Key) -> Result<u64> {
        let Some((socket, have)) = self.selector.entry_mut(key) else { return Ok(0) };
        let len = match sys::recv(socket, &mut self.received) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(len) => len,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(errno) => return Err(format!("recv: {errno}").into()),
        };
        let mut came = self.received.get(..len).unwrap_or_default();
        let mut whole = 0;
        while !came.is_empty() {
            let wanted = self.reply.get(*have..).unwrap_or_default();
            let (now, rest) = came.split_at(came.len().min(wanted.len()));
            if !wanted.starts_with(now) {
                return Err("a wrong reply".into());
            }
            *have += now.len();
            if *have == self.reply.len() {
                *have = 0;
                whole += 1;
            }
            came = rest;
        }
        Ok(whole)
    }

    fn send(&self, key: Key, requests: u64) -> Result<()> {
        let Some(socket) = self.selector.source(key) else { return Ok(()) };
        let len = usize::try_from(requests)? * self.request.len();
        if len == 0 {
            return Ok(());
        }
        let bytes = self.burst.get(..len).ok_or("more replies than requests")?;
        match sys::send(socket, bytes) {
            Ok(sent) if sent == len => Ok(()),
            sent => Err(format!("send of {len} bytes: {sent:?}").into()),
        }
    }

    /// As many messages on each connection as may be in flight: all are sent before `go` lets the
    /// server see them.
    pub(crate) fn round(&mut self, go: impl FnOnce() -> Result<()>) -> Result<()> {
        let keys: Vec<_> = self.selector.iter().map(|(key, _)| key).collect();
        for key in &keys {
            self.send(*key, self.in_flight as u64)?;
        }
        go()?;
        let (mut come, all) = (0, self.at_once());
        while come < all {
            if self.selector.select(Some(PATIENCE))? == 0 {
                return Err(format!("no reply within {PATIENCE:?}").into());
            }
            while let Some(ready) = self.selector.next_ready() {
                come += self.receive(ready.key)?;
            }
        }
        Ok(())
    }

    /// Exchanges so many messages and asks what that took of the server.
    pub(crate) fn measure(&mut self, server: &Running, requests: u64) -> Result<Measured> {
        measured(server, || self.exchange_until(Until::Sent(requests)))
    }

    /// Exchanges messages for so long and asks what that took of the server.
    pub(crate) fn measure_for(&mut self, server: &Running, time: Duration) -> Result<Measured> {
        measured(server, || self.exchange_until(Until::Time(Instant::now() + time)))
    }

    /// For so long, has `slots` connections that each carry one message, are closed from this side,
    /// and give way to the next.
    pub(crate) fn measure_short(
        &mut self,
        server: &Running,
        slots: u64,
        time: Duration,
    ) -> Result<Measured> {
        measured(server, || {
            let end = Instant::now() + time;
            let mut done = 0;
            for _ in 0..slots {
                let key = self.open()?;
                self.send(key, 1)?;
            }
            while !self.selector.is_empty() {
                if self.selector.select(Some(PATIENCE))? == 0 {
                    return Err(format!("no reply within {PATIENCE:?}").into());
                }
                while let Some(ready) = self.selector.next_ready() {
                    if self.receive(ready.key)? == 0 {
                        continue;
                    }
                    self.selector.close(ready.key);
                    done += 1;
                    if Instant::now() < end {
                        let key = self.open()?;
                        self.send(key, 1)?;
                    }
                }
            }
            Ok(done)
        })
    }
}

/// What the server needed for what `exchange` counts.
fn measured(server: &Running, exchange: impl FnOnce() -> Result<u64>) -> Result<Measured> {
    let (before, began) = (server.cpu_time()?, Instant::now());
    let requests = exchange()?;
    let (elapsed, used) = (began.elapsed(), server.cpu_time()?.saturating_sub(before));
    if requests == 0 {
        return Err("not one message".into());
    }
    Ok(Measured {
        cpu_time: used.div_f64(requests as f64),
        requests_per_second: requests as f64 / elapsed.as_secs_f64(),
        busy: used.as_secs_f64() / elapsed.as_secs_f64(),
    })
}

/// The reply to a request, once it is found to be right.
fn reply(port: u16, request: &[u8], expect: Expect) -> Result<Vec<u8>> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let Expect::Json(content) = expect else {
        let mut reply = vec![0; request.len()];
        stream.read_exact(&mut reply)?;
        return if reply == request { Ok(reply) } else { Err("a wrong reply".into()) };
    };
    let mut decoder = Decoder::new(JsonHeader::default());
    let mut bytes = Vec::new();
    loop {
        let mut received = [0; 4096];
        let len = stream.read(&mut received)?;
        let received = received.get(..len).unwrap_or_default();
        if received.is_empty() {
            return Err("the server closed a connection".into());
        }
        bytes.extend_from_slice(received);
        decoder.feed(received);
        if let Some(message) = decoder.next_message()? {
            let said = message.json()?.to_string();
            return if said == content {
                Ok(bytes)
            } else {
                Err(format!("a wrong reply: {said}").into())
            };
        }
    }
}
