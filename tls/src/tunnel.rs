//! [`Connector`] for the blocking client of `myriapod`: a connection of rustls between its socket and
//! its messages. A client has one connection, so nothing has to sleep, and tickets are of use.

use std::io::{Read, Write};
use std::sync::Arc;

use myriapod::link::{LinkFault, Tunnel, TunnelMaker};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::config::Connector;
use crate::fault::Fault;
use crate::handshake::Failure;

/// Makes connections to one server, for [`Client::connect_secure`](myriapod::Client::connect_secure).
#[derive(Clone, Debug)]
pub struct ToServer<const N: usize = 32> {
    connector: Connector<N>,
    name: ServerName<'static>,
}

impl<const N: usize> Connector<N> {
    /// Connections to the server of this name.
    #[must_use]
    pub fn to(&self, name: ServerName<'static>) -> ToServer<N> {
        ToServer { connector: self.clone(), name }
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
