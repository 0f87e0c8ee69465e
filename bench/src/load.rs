//! A closed loop of clients: each connection has so many messages in flight, and sends another for
//! every reply.

use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use myriapod::sys::{self, Errno};
use myriapod::{Interest, Selector};

use crate::Result;
use crate::servers::Running;

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

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// The server's, for each request.
    pub(crate) cpu_time: Duration,
    pub(crate) requests_per_second: f64,
}

/// The connections, each with the bytes of its present reply that have come.
pub(crate) struct Clients {
    selector: Selector<usize>,
    request: Vec<u8>,
    /// As many requests as can ever be due at once.
    burst: Vec<u8>,
    in_flight: usize,
    received: Vec<u8>,
}

impl Clients {
    /// Connects, and exchanges a message on each, so that nothing is done for the first time later.
    pub(crate) fn connect(port: u16, connections: u64, in_flight: usize) -> Result<Self> {
        let mut selector = Selector::new()?;
        for _ in 0..connections {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            selector.register(stream, Interest::READABLE, 0)?;
        }
        let request = request();
        let burst = request.repeat(in_flight);
        let received = vec![0; 64 << 10];
        let mut clients = Self { selector, request, burst, in_flight, received };
        clients.exchange(connections * in_flight as u64)?;
        Ok(clients)
    }

    /// Exchanges so many messages, with all connections at work.
    pub(crate) fn exchange(&mut self, requests: u64) -> Result<()> {
        let keys: Vec<_> = self.selector.iter().map(|(key, _)| key).collect();
        let mut to_send = requests;
        for key in keys {
            let now = to_send.min(self.in_flight as u64);
            to_send -= now;
            self.send(key, now)?;
        }
        let mut to_come = requests;
        while to_come > 0 {
            self.selector.select(None)?;
            while let Some(ready) = self.selector.next_ready() {
                let Some((socket, have)) = self.selector.entry_mut(ready.key) else { continue };
                let len = match sys::recv(socket, &mut self.received) {
                    Ok(0) => return Err("the server closed a connection".into()),
                    Ok(len) => len,
                    Err(Errno::EAGAIN) => continue,
                    Err(errno) => return Err(format!("recv: {errno}").into()),
                };
                let whole = (*have + len) / self.request.len();
                *have = (*have + len) % self.request.len();
                to_come -= whole as u64;
                let now = to_send.min(whole as u64);
                to_send -= now;
                self.send(ready.key, now)?;
            }
        }
        Ok(())
    }

    fn send(&self, key: myriapod::Key, requests: u64) -> Result<()> {
        let Some(socket) = self.selector.source(key) else { return Ok(()) };
        let len = usize::try_from(requests)? * self.request.len();
        let bytes = self.burst.get(..len).ok_or("more replies than requests")?;
        match sys::send(socket, bytes) {
            Ok(sent) if sent == len => Ok(()),
            sent => Err(format!("send of {len} bytes: {sent:?}").into()),
        }
    }

    /// Exchanges so many messages and asks what that took of the server.
    pub(crate) fn measure(&mut self, server: &Running, requests: u64) -> Result<Measured> {
        let per_request = u32::try_from(requests)?;
        let (before, began) = (server.cpu_time()?, Instant::now());
        self.exchange(requests)?;
        let (elapsed, used) = (began.elapsed(), server.cpu_time()? - before);
        Ok(Measured {
            cpu_time: used / per_request,
            requests_per_second: f64::from(per_request) / elapsed.as_secs_f64(),
        })
    }
}
