//! [`ToServer`]: connections to one server, from an event loop or from the blocking client of
//! `myriapod`. For the client, a connection of rustls stands between its socket and its messages: it
//! has one connection, so nothing has to sleep, and tickets are of use.

use std::io::{Read, Write};
use std::sync::Arc;

use myriapod::link::{LinkFault, Tunnel, TunnelMaker};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::config::Connector;
use crate::fault::Fault;
use crate::handshake::{Failure, Handshake};

/// Makes connections to one server, for [`Client::connect_secure`](myriapod::Client::connect_secure)
/// and [`Handle::connect_secure`](myriapod::Handle::connect_secure).
///
/// ```no_run
/// use std::time::Duration;
/// use myriapod::{Server, sys};
/// use myriapod_tls::{Connector, Tls, Trust, client_config};
/// # let roots = unimplemented!();
/// # let handler = |_: myriapod::Message<'_>, _: &mut myriapod::Reply<'_>| Ok(());
///
/// let connector: Connector = Connector::new(client_config(Trust::Roots(roots), None)?)?;
/// let mut server = Server::builder().link::<Tls>().answer(handler)?;
/// for address in sys::resolve("example.org", 443)? {
///     let to = connector.to("example.org".try_into()?);
///     server.handle().connect_secure(address, 0, Duration::from_secs(10), to)?;
/// }
/// server.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ToServer<const N: usize = 32> {
    connector: Connector<N>,
    name: ServerName<'static>,
    after_line: bool,
}

/// Those to one server with one configuration.
impl<const N: usize> PartialEq for ToServer<N> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.connector.config(), other.connector.config())
            && (&self.name, self.after_line) == (&other.name, other.after_line)
    }
}

impl<const N: usize> Eq for ToServer<N> {}

impl<const N: usize> ToServer<N> {
    /// The server says a line of plain text first, and the handshake follows: so does NATS.
    /// [`TlsInfo::preface`](myriapod::TlsInfo::preface) has it. From an event loop only.
    #[must_use]
    pub fn after_line(mut self) -> Self {
        self.after_line = true;
        self
    }

    /// Begins a handshake.
    pub(crate) fn begin(&self) -> Result<Handshake, Failure> {
        let config = Arc::clone(self.connector.config());
        let connection = ClientConnection::new(config, self.name.clone())?.into();
        Ok(if self.after_line {
            Handshake::behind_line(connection)
        } else {
            Handshake::new(connection)
        })
    }
}

impl<const N: usize> Connector<N> {
    /// Connections to the server of this name.
    #[must_use]
    pub fn to(&self, name: ServerName<'static>) -> ToServer<N> {
        ToServer { connector: self.clone(), name, after_line: false }
    }
}

impl<const N: usize> TunnelMaker for ToServer<N> {
    fn make(&self) -> Result<Box<dyn Tunnel>, LinkFault> {
        let config = Arc::clone(self.connector.config());
        let connection = ClientConnection::new(config, self.name.clone());
        let connection = connection.map_err(|error| fault(&error.into()))?;
        Ok(Box::new(Inside { connection, is_begun: false }))
    }
}

#[derive(Debug)]
struct Inside {
    connection: ClientConnection,
    /// The first bytes have come, and they were a record.
    is_begun: bool,
}

impl Tunnel for Inside {
    fn is_shaking_hands(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn receive(&mut self, mut received: &[u8], plain: &mut Vec<u8>) -> Result<(), LinkFault> {
        if !self.is_begun
            && let Some(first) = received.first()
        {
            if !(20..=23).contains(first) {
                let text = "the server does not speak TLS: its first bytes are no record";
                return Err(LinkFault::new(Fault::NotARecord.name(), text));
            }
            self.is_begun = true;
        }
        while !received.is_empty() {
            match self.connection.read_tls(&mut received.by_ref()) {
                Ok(1..) => {}
                // Behind the peer's last word.
                Ok(0) => break,
                Err(error) => return Err(LinkFault::new("RecordOverflow", error.to_string())),
            }
            let state = self.connection.process_new_packets();
            state.map_err(|error| fault(&error.into()))?;
            // As much as there is; that the stream has ended, the socket says.
            let _ended = self.connection.reader().read_to_end(plain);
        }
        Ok(())
    }

    fn send(&mut self, plain: &[u8]) -> Result<(), LinkFault> {
        self.connection.set_buffer_limit(None);
        let written = self.connection.writer().write_all(plain);
        written.map_err(|error| LinkFault::new(Fault::Exhausted.name(), error.to_string()))
    }

    fn output(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if !matches!(self.connection.write_tls(out), Ok(1..)) {
                return;
            }
        }
    }

    fn finish(&mut self) {
        self.connection.send_close_notify();
    }
}

fn fault(failure: &Failure) -> LinkFault {
    LinkFault::new(failure.fault.name(), failure.to_string())
}
