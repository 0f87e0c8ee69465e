//! A closed loop of clients: each connection has so many messages in flight, and sends another for
//! every reply. `myriapod_load` makes them; here are the request, its reply, and the server's time.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use myriapod::protocol::{Decoder, JsonHeader};
use myriapod_load::{Content, Exchanged, Options, Service};

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

/// Connections to a server, a closed loop of messages, and a server's processor time meanwhile.
#[derive(Debug)]
pub(crate) struct Clients(myriapod_load::Clients);

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
        let options = options(port, request, expect)?;
        let in_flight = u32::try_from(in_flight)?;
        Ok(Self(myriapod_load::Clients::new(&Options { in_flight, ..options })?))
    }

    /// From now on, has so many messages in flight on each connection.
    pub(crate) fn set_in_flight(&mut self, in_flight: usize) -> Result<()> {
        Ok(self.0.set_in_flight(u32::try_from(in_flight)?)?)
    }

    /// Messages that may be in flight, on all connections together.
    pub(crate) fn at_once(&self) -> u64 {
        self.0.at_once()
    }

    /// Connects up to so many, and exchanges messages on all.
    pub(crate) fn grow(&mut self, connections: u64) -> Result<()> {
        Ok(self.0.grow(u32::try_from(connections)?)?)
    }

    /// Exchanges so many messages, with all connections at work.
    pub(crate) fn exchange(&mut self, requests: u64) -> Result<()> {
        self.0.exchange(requests)?;
        Ok(())
    }

    /// As many messages on each connection as may be in flight: all are sent before `go` lets the
    /// server see them.
    pub(crate) fn round(&mut self, go: impl FnOnce() -> Result<()>) -> Result<()> {
        Ok(self.0.round(go)?)
    }

    /// Exchanges so many messages and asks what that took of the server.
    pub(crate) fn measure(&mut self, server: &Running, requests: u64) -> Result<Measured> {
        measured(server, || self.0.exchange(requests))
    }

    /// Exchanges messages for so long and asks what that took of the server.
    pub(crate) fn measure_for(&mut self, server: &Running, time: Duration) -> Result<Measured> {
        measured(server, || self.0.exchange_for(time))
    }
}

/// For so long, has `slots` connections that each carry one message, are closed from this side, and
/// give way to the next.
pub(crate) fn measure_short(
    server: &Running,
    request: &[u8],
    expect: Expect,
    slots: u64,
    time: Duration,
) -> Result<Measured> {
    let options = options(server.port, request, expect)?;
    let options = Options { short: true, connections: slots, ..options };
    let mut clients = myriapod_load::Clients::new(&options)?;
    measured(server, || clients.exchange_for(time))
}

/// Exactly these bytes go out, and exactly one reply is right.
fn options(port: u16, request: &[u8], expect: Expect) -> Result<Options> {
    Ok(Options {
        host: Some(Ipv4Addr::LOCALHOST.to_string()),
        ports: vec![port],
        service: Service::Raw,
        content: Content::Exchange(request.to_vec(), reply(port, request, expect)?),
        timeout: PATIENCE,
        connect_timeout: PATIENCE,
        ..Options::default()
    })
}

/// What the server needed for what is exchanged.
fn measured(
    server: &Running,
    exchange: impl FnOnce() -> myriapod_load::Result<Exchanged>,
) -> Result<Measured> {
    let before = server.cpu_time()?;
    let Exchanged { messages, seconds } = exchange()?;
    let used = server.cpu_time()?.saturating_sub(before);
    if messages == 0 || seconds <= 0.0 {
        return Err("not one message".into());
    }
    Ok(Measured {
        cpu_time: used.div_f64(messages as f64),
        requests_per_second: messages as f64 / seconds,
        busy: used.as_secs_f64() / seconds,
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
