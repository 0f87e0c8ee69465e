//! [`Wire`]: what one connection keeps of TLS; [`Seal`], what all of a thread's share.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use myriapod_tls::rustls::client::Resumption;
use myriapod_tls::rustls::pki_types::ServerName;
use myriapod_tls::rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind};
use myriapod_tls::{
    Asleep, Ciphers, Connector, DEFAULT_AWAKE, End, Failure, Fault, Handshake, Opened, Step, Suite,
};

use super::tickets::Tickets;
use crate::error::{Error, Result};
use crate::secure::Secure;

/// TLS of one thread's connections.
#[derive(Debug)]
pub(super) struct Seal {
    maker: Maker,
    name: ServerName<'static>,
    ciphers: Ciphers,
    /// Memory that every record uses again.
    out: Vec<u8>,
    plain: Vec<u8>,
    received: Vec<u8>,
}

/// What begins handshakes.
#[derive(Debug)]
enum Maker {
    /// Connections fall asleep after them.
    Asleep(Connector),
    /// They stay awake, and take the server's tickets.
    Awake(Arc<ClientConfig>),
}

/// What one connection keeps.
#[derive(Debug)]
pub(super) struct Wire {
    state: State,
    /// The start of a record.
    sealed: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Shaking(Box<Handshake>),
    Asleep(Asleep),
    Awake(Box<ClientConnection>),
}

/// A handshake that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shaken {
    pub(super) resumed: bool,
    pub(super) suite: &'static str,
}

/// How far a handshake is.
pub(super) type Progress = std::result::Result<Option<Shaken>, Failure>;

impl Seal {
    pub(super) fn new(secure: &Secure, connections: u32) -> Result<Self> {
        let (mut config, name) = secure.config()?;
        let maker = if secure.resume {
            config.resumption = Resumption::store(Arc::new(Tickets::default()));
            Maker::Awake(Arc::new(config))
        } else {
            Maker::Asleep(Connector::new(config).map_err(Error::usage)?)
        };
        let awake = if secure.resume { 0 } else { DEFAULT_AWAKE.min(connections as usize) };
        let ciphers = Ciphers::new(awake).map_err(Error::new)?;
        Ok(Self { maker, name, ciphers, out: Vec::new(), plain: Vec::new(), received: Vec::new() })
    }

    /// Begins a handshake: what is to be sent first is in [`out`](Self::out).
    pub(super) fn begin(&mut self) -> std::result::Result<Wire, Failure> {
        self.out.clear();
        let name = self.name.clone();
        let state = match &self.maker {
            Maker::Asleep(connector) => {
                let mut handshake = connector.begin(name)?;
                handshake.begin(&mut self.out);
                State::Shaking(Box::new(handshake))
            }
            Maker::Awake(config) => {
                let mut connection = ClientConnection::new(Arc::clone(config), name)?;
                take_output(&mut connection, &mut self.out);
                State::Awake(Box::new(connection))
            }
        };
        Ok(Wire { state, sealed: Vec::new() })
    }

    /// Goes on with a handshake. What is to be sent is in [`out`](Self::out), also where it failed.
    pub(super) fn shake(&mut self, wire: &mut Wire, received: &[u8]) -> Progress {
        self.out.clear();
        wire.sealed.extend_from_slice(received);
        match &mut wire.state {
            State::Shaking(handshake) => {
                let step = handshake.advance(&wire.sealed, &mut self.out)?;
                let (Step::More { consumed, .. } | Step::Done { consumed }) = step;
                wire.sealed.drain(..consumed);
                if matches!(step, Step::More { .. }) {
                    return Ok(None);
                }
                wire.fall_asleep().map(Some)
            }
            State::Awake(connection) => {
                let fed = feed(connection, &mut wire.sealed, &mut self.plain);
                take_output(connection, &mut self.out);
                fed?;
                if connection.is_handshaking() {
                    return Ok(None);
                }
                let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
                let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
                Ok(Some(Shaken { resumed, suite: suite.map_or("", name_of) }))
            }
            State::Asleep(_) => Ok(None),
        }
    }

    /// What is to be sent.
    pub(super) fn out(&self) -> &[u8] {
        &self.out
    }

    /// Takes in records: what they carried is in [`plain`](Self::plain).
    ///
    /// # Errors
    ///
    /// Why nothing more can come; what came before it is there all the same.
    pub(super) fn open(
        &mut self,
        wire: &mut Wire,
        owner: u64,
        received: &[u8],
    ) -> std::result::Result<(), Fault> {
        // Only a connection with part of a record has memory of its own.
        let mut bytes = std::mem::take(if wire.sealed.is_empty() {
            &mut self.received
        } else {
            &mut wire.sealed
        });
        bytes.extend_from_slice(received);
        let came = match &mut wire.state {
            State::Asleep(asleep) => {
                let Opened { plain, consumed, end, .. } =
                    asleep.open(&mut self.ciphers, owner, &mut bytes);
                self.plain.extend_from_slice(bytes.get(..plain).unwrap_or_default());
                bytes.drain(..consumed);
                match end {
                    // The end of the stream follows, and that tells of it.
                    None | Some(End::Closed) => Ok(()),
                    Some(End::Fault(fault)) => Err(fault),
                }
            }
            State::Awake(connection) => {
                feed(connection, &mut bytes, &mut self.plain).map_err(|failure| failure.fault)
            }
            State::Shaking(_) => Err(Fault::UnexpectedMessage),
        };
        if bytes.is_empty() {
            self.received = bytes;
        } else {
            wire.sealed = bytes;
        }
        came
    }

    /// Plain bytes that were opened, for somebody to take and give back.
    pub(super) const fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// Puts records that carry `plain` in its place.
    pub(super) fn seal(
        &mut self,
        wire: &mut Wire,
        owner: u64,
        plain: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        self.out.clear();
        match &mut wire.state {
            State::Asleep(asleep) => {
                asleep.seal(&mut self.ciphers, owner, plain, &mut self.out)?;
            }
            State::Awake(connection) => {
                connection.set_buffer_limit(None);
                connection.writer().write_all(plain).map_err(|_| Fault::Exhausted)?;
                take_output(connection, &mut self.out);
            }
            State::Shaking(_) => return Err(Fault::UnexpectedMessage),
        }
        std::mem::swap(plain, &mut self.out);
        Ok(())
    }

    /// What says that nothing more follows is in [`out`](Self::out).
    pub(super) fn finish(&mut self, wire: &mut Wire, owner: u64) {
        self.out.clear();
        match &mut wire.state {
            // Where it cannot be sealed, the end of the stream says so.
            State::Asleep(asleep) => {
                let _sealed = asleep.finish(&mut self.ciphers, owner, &mut self.out);
            }
            State::Awake(connection) => {
                connection.send_close_notify();
                take_output(connection, &mut self.out);
            }
            State::Shaking(_) => {}
        }
    }

    /// A connection is over, and its number will be another's.
    pub(super) fn forget(&mut self, owner: u64) {
        self.ciphers.forget(owner);
    }
}

impl Wire {
    fn fall_asleep(&mut self) -> std::result::Result<Shaken, Failure> {
        let State::Shaking(handshake) =
            std::mem::replace(&mut self.state, State::Asleep(Asleep::PLAIN))
        else {
            return Err(Fault::UnexpectedMessage.into());
        };
        let (asleep, session) = handshake.finish::<32>()?;
        let suite = asleep.suite().map_or("", Suite::name);
        self.state = State::Asleep(asleep);
        Ok(Shaken { resumed: session.is_resumed(), suite })
    }
}

fn name_of(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Suite::Aes128Gcm.name(),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Suite::Aes256Gcm.name(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Suite::ChaCha20Poly1305.name(),
        _ => "",
    }
}

/// Gives what came to a connection that is awake, and takes what it carried.
fn feed(
    connection: &mut ClientConnection,
    sealed: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> std::result::Result<(), Failure> {
    let mut rest = &sealed[..];
    let fed = loop {
        if rest.is_empty() {
            break Ok(());
        }
        match connection.read_tls(&mut rest) {
            Ok(1..) => {}
            // Behind the peer's last word.
            Ok(0) => break Ok(()),
            Err(_) => break Err(Fault::RecordOverflow.into()),
        }
        if let Err(error) = connection.process_new_packets() {
            break Err(error.into());
        }
        // As much as there is; that the stream has ended, the socket says.
        let _ended = connection.reader().read_to_end(plain);
    };
    sealed.clear();
    fed
}

fn take_output(connection: &mut ClientConnection, out: &mut Vec<u8>) {
    while connection.wants_write() {
        // Writing to memory does not fail.
        if !matches!(connection.write_tls(out), Ok(1..)) {
            return;
        }
    }
}
