//! [`TlsInfo`]: what a handshake has found out, as a handler sees it.

use std::fmt;

use super::Never;

/// What a handshake has found out, for as long as the connection opens.
pub trait Session: fmt::Debug + 'static {
    /// The version of the protocol, such as `TLSv1.3`.
    fn protocol(&self) -> &str;

    /// The cipher suite, by the name in IANA's registry.
    fn suite(&self) -> &str;

    /// The name of the server that the client asked for.
    fn server_name(&self) -> Option<&str>;

    /// The application's protocol that was agreed on.
    fn alpn(&self) -> Option<&[u8]>;

    /// The peer's certificates as DER: its own is number 0.
    fn certificate(&self, number: usize) -> Option<&[u8]>;

    /// Whether an earlier session was resumed.
    fn is_resumed(&self) -> bool;

    /// What the peer said in plain text before the handshake; empty in most protocols.
    fn preface(&self) -> &[u8] {
        &[]
    }

    /// Fills `out` with keying material that only both ends can know. Returns whether it could.
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool;
}

impl Session for Never {
    fn protocol(&self) -> &str {
        match *self {}
    }

    fn suite(&self) -> &str {
        match *self {}
    }

    fn server_name(&self) -> Option<&str> {
        match *self {}
    }

    fn alpn(&self) -> Option<&[u8]> {
        match *self {}
    }

    fn certificate(&self, _number: usize) -> Option<&[u8]> {
        match *self {}
    }

    fn is_resumed(&self) -> bool {
        match *self {}
    }

    fn export(&self, _label: &[u8], _context: &[u8], _out: &mut [u8]) -> bool {
        match *self {}
    }
}

/// What is known of a secure connection while it opens: [`View::tls`](crate::View::tls). Nothing of
/// it is kept for the connection; a handler keeps what it needs later in its own state.
#[derive(Clone, Copy)]
pub struct TlsInfo<'a>(pub(crate) &'a dyn Session);

impl<'a> TlsInfo<'a> {
    /// The version of the protocol, such as `TLSv1.3`.
    #[must_use]
    pub fn protocol(&self) -> &'a str {
        self.0.protocol()
    }

    /// The cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    #[must_use]
    pub fn suite(&self) -> &'a str {
        self.0.suite()
    }

    /// The name of the server that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&'a str> {
        self.0.server_name()
    }

    /// The application's protocol that was agreed on (ALPN).
    #[must_use]
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.0.alpn()
    }

    /// The certificates that the peer has shown, as DER, its own first. They are verified where the
    /// listener asks for certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let session = self.0;
        (0..).map_while(move |number| session.certificate(number))
    }

    /// Whether the session was resumed by a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.0.is_resumed()
    }

    /// What the server said in plain text before the handshake, where its protocol begins so. Nobody
    /// vouches for it.
    #[must_use]
    pub fn preface(&self) -> &'a [u8] {
        self.0.preface()
    }

    /// Fills `out` with keying material that only the two ends of this connection can know (RFC
    /// 8446, 7.5). Returns whether it could.
    #[must_use]
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool {
        self.0.export(label, context, out)
    }
}

impl fmt::Debug for TlsInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
