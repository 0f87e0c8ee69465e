//! [`Handshake`]: rustls carries it out, one record at a time.

use std::fmt;
use std::io::Read;

use rustls::{ConnectionTrafficSecrets, Error, HandshakeKind};

use crate::asleep::{Asleep, Secrets, Side};
use crate::fault::{Fault, alert};
use crate::heard::{self, Heard, Secret};
use crate::record::{HEADER, MOST_SEALED};
use crate::schedule::Cipher;
use crate::session::Session;
use crate::suite::Suite;

/// A handshake under way.
///
/// Received bytes go in by [`advance`](Self::advance), what is to be sent comes out. Once that says
/// [`Step::Done`] and the output is sent, [`finish`](Self::finish) makes the connection.
pub struct Handshake {
    connection: rustls::Connection,
    heard: Heard,
    /// A line of plain text comes first, and has not come yet.
    waits_for_line: bool,
    preface: Vec<u8>,
}

/// Bytes of a line of plain text in front of a handshake.
const MOST_PREFACE: usize = 32 << 10;

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on with the next record: `consumed` bytes are done with, and `needed` bytes must be
    /// there behind them.
    More {
        /// Bytes at the front that are done with.
        consumed: usize,
        /// Bytes behind them that must be there.
        needed: usize,
    },
    /// It is over. What follows the `consumed` bytes belongs to the connection.
    Done {
        /// Bytes at the front that are done with.
        consumed: usize,
    },
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of it.
    pub fault: Fault,
    /// What happened, in words; empty where the fault says all.
    pub text: String,
}

impl Failure {
    fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => {
                Self { fault: Fault::PeerAlert(u8::from(*alert)), text: String::new() }
            }
            error => Self { fault: Fault::HandshakeFailed, text: error.to_string() },
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, text: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

impl Handshake {
    pub(crate) fn new(connection: rustls::Connection) -> Self {
        Self { connection, heard: Heard::NOTHING, waits_for_line: false, preface: Vec::new() }
    }

    /// The same behind one line of plain text that the server says first, as NATS does.
    pub(crate) fn behind_line(connection: rustls::Connection) -> Self {
        Self { waits_for_line: true, ..Self::new(connection) }
    }

    /// Takes the line in front of the handshake; returns its length, with its end, once it is whole.
    fn take_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let line = bytes.get(..MOST_PREFACE).unwrap_or(bytes);
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
            let text = "the line of plain text in front of the handshake has no end";
            return match bytes.len() {
                MOST_PREFACE.. => {
                    Err(Failure { fault: Fault::HandshakeFailed, text: text.to_owned() })
                }
                _ => Ok(None),
            };
        };
        self.preface.extend_from_slice(line.get(..end).unwrap_or_default());
        self.waits_for_line = false;
        Ok(Some(end + 1))
    }

    /// Which end we are.
    #[must_use]
    pub fn side(&self) -> Side {
        match self.connection {
            rustls::Connection::Client(_) => Side::Client,
            rustls::Connection::Server(_) => Side::Server,
        }
    }

    /// What is to be sent first: a client's greeting, nothing from a server, nor in front of the line
    /// that a server says first.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.waits_for_line {
            self.take_output(out);
        }
    }

    /// Goes on with the records that `bytes` begins with, and appends what is to be sent to `out`.
    /// It never takes in a record that follows the handshake.
    ///
    /// # Errors
    ///
    /// What the handshake fails for. `out` then ends with the alert that says so to the peer.
    pub fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Failure> {
        let mut consumed = 0;
        if self.waits_for_line {
            match self.take_line(bytes)? {
                Some(len) => consumed = len,
                None => return Ok(Step::More { consumed, needed: bytes.len() + 1 }),
            }
            self.take_output(out);
        }
        loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let len = match record_len(rest) {
                Ok(Some(len)) => len,
                Ok(None) => return Ok(Step::More { consumed, needed: HEADER }),
                Err(fault) => {
                    // A peer that does not speak TLS can tell by the first bytes that we do.
                    let code = fault.alert().unwrap_or(alert::UNEXPECTED_MESSAGE);
                    out.extend_from_slice(&[21, 3, 3, 0, 2, 2, code]);
                    return Err(fault.into());
                }
            };
            let Some(record) = rest.get(..len) else {
                return Ok(Step::More { consumed, needed: len });
            };
            let fed = self.feed(record);
            self.take_output(out);
            fed?;
            consumed += len;
            if !self.connection.is_handshaking() {
                return Ok(Step::Done { consumed });
            }
        }
    }

    fn feed(&mut self, mut record: &[u8]) -> Result<(), Failure> {
        let connection = &mut self.connection;
        while !record.is_empty() {
            match connection.read_tls(&mut record.by_ref()) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Fault::UnexpectedMessage.into()),
            }
        }
        heard::listen(&mut self.heard, || connection.process_new_packets())?;
        Ok(())
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // Writing to memory does not fail.
            if !matches!(self.connection.write_tls(out), Ok(1..)) {
                return;
            }
        }
    }

    /// The handshake is over: what is kept of the connection, and what was found out.
    ///
    /// The secrets that were heard are compared with the keys that rustls would use.
    ///
    /// # Errors
    ///
    /// [`Fault::SecretMismatch`] where they differ, or the suite has no room in this connection.
    pub fn finish<const N: usize>(self) -> Result<(Asleep<N>, Session), Fault> {
        let side = self.side();
        let Self { connection, heard, preface, .. } = self;
        let Heard { from_client, from_server, exporter } = heard;
        let server_name = match &connection {
            rustls::Connection::Server(server) => server.server_name().map(str::to_owned),
            rustls::Connection::Client(_) => None,
        };
        let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
        let certificates = connection.peer_certificates().unwrap_or_default();
        let certificates = certificates.iter().map(|one| one.clone().into_owned()).collect();
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let keys = connection.dangerous_extract_secrets().map_err(|_| Fault::SecretMismatch)?;
        let (ours, theirs) = match side {
            Side::Server => (from_server, from_client),
            Side::Client => (from_client, from_server),
        };
        let suite = check(&ours, &keys.tx.1)?;
        if check(&theirs, &keys.rx.1)? != suite {
            return Err(Fault::SecretMismatch);
        }
        let secrets =
            Secrets { theirs: (theirs.bytes(), keys.rx.0), ours: (ours.bytes(), keys.tx.0) };
        let asleep = Asleep::new(side, suite, &secrets)?;
        let session =
            Session { suite, server_name, alpn, certificates, is_resumed, exporter, preface };
        Ok((asleep, session))
    }
}

/// Whether a secret leads to these keys, and in which suite.
fn check(secret: &Secret, keys: &ConnectionTrafficSecrets) -> Result<Suite, Fault> {
    let (suite, key, iv) = match keys {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (Suite::ChaCha20Poly1305, key, iv)
        }
        _ => return Err(Fault::SecretMismatch),
    };
    let derived = Cipher::raw(suite, secret.bytes()).map_err(|_| Fault::SecretMismatch)?;
    let is_same = secret.bytes().len() == suite.secret_len()
        && derived.0.get(..suite.key_len()) == Some(key.as_ref())
        && derived.1 == iv.as_ref();
    if is_same { Ok(suite) } else { Err(Fault::SecretMismatch) }
}

/// The length of the record that `bytes` begins with, its header included; `None` where the header
/// is not whole.
fn record_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    // Text and other protocols are told by their first two bytes.
    let is_none = |at: usize, fits: fn(u8) -> bool| bytes.get(at).is_some_and(|byte| !fits(*byte));
    if is_none(0, |kind| (20..=23).contains(&kind)) || is_none(1, |major| major == 3) {
        return Err(Fault::NotARecord);
    }
    let Some([_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len > MOST_SEALED { Err(Fault::RecordOverflow) } else { Ok(Some(HEADER + len)) }
}

/// Whether bytes begin as a `ClientHello` does, so that a server without TLS can say what was sent to
/// it.
///
/// ```
/// assert!(myriapod_tls::is_client_hello(&[22, 3, 1, 2, 0, 1]));
/// assert!(!myriapod_tls::is_client_hello(b"\x00\x5e{\"by"));
/// ```
#[must_use]
pub fn is_client_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [22, 3, 0..=4, _, _, 1, ..])
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("side", &self.side()).finish_non_exhaustive()
    }
}
