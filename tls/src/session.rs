//! [`Session`]: what a handshake has found out, for as long as somebody asks.

use std::fmt;

use ring::{digest, hkdf};
use rustls::pki_types::CertificateDer;

use crate::heard::Secret;
use crate::schedule::expand_label;
use crate::suite::Suite;

/// What a handshake has found out. It is handed on once, when the connection opens; nothing of it is
/// kept for an idle connection.
pub struct Session {
    pub(crate) suite: Suite,
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) is_resumed: bool,
    pub(crate) exporter: Secret,
    pub(crate) preface: Vec<u8>,
}

impl Session {
    /// The version of the protocol: always `TLSv1.3`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        "TLSv1.3"
    }

    /// The cipher suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The name of the server that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The application's protocol that was agreed on (ALPN).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The certificates that the peer has shown, its own first, as DER.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether it continues an earlier session, by a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// What the server said in plain text before the handshake, without the end of the line.
    #[must_use]
    pub fn preface(&self) -> &[u8] {
        &self.preface
    }

    /// Fills `out` with keying material that only the two ends of this connection can know (RFC
    /// 8446, 7.5). Returns whether it could: `out` may have 255 times as many bytes as the hash.
    #[must_use]
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool {
        let algorithm = match self.suite.secret_len() {
            48 => &digest::SHA384,
            _ => &digest::SHA256,
        };
        let hash = |bytes: &[u8]| digest::digest(algorithm, bytes);
        let secret = hkdf::Prk::new_less_safe(self.suite.hkdf(), self.exporter.bytes());
        let mut derived = Secret::of_len(self.suite.secret_len());
        let is_derived =
            expand_label(&secret, label, hash(b"").as_ref(), derived.bytes_mut()).is_ok();
        let secret = hkdf::Prk::new_less_safe(self.suite.hkdf(), derived.bytes());
        is_derived && expand_label(&secret, b"exporter", hash(context).as_ref(), out).is_ok()
    }
}

/// Without its secret.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("suite", &self.suite)
            .field("server_name", &self.server_name)
            .field("certificates", &self.certificates.len())
            .field("is_resumed", &self.is_resumed)
            .finish_non_exhaustive()
    }
}
