//! The further fields of version 2: a kind, a length of two bytes, a value.

/// Kinds of fields.
pub mod kind {
    /// The protocol that was agreed on through ALPN, such as `h2`.
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// A name of the connection, given by the proxy; 128 bytes at most.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What is known of the client's TLS.
    pub const SSL: u8 = 0x20;
    /// Inside of it: the version, such as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// Inside of it: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Inside of it: the name of the cipher.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Inside of it: the algorithm that the certificate is signed with.
    pub const SSL_SIGNATURE: u8 = 0x24;
    /// Inside of it: the algorithm of the certificate's key.
    pub const SSL_KEY: u8 = 0x25;
    /// The name of the network namespace.
    pub const NETNS: u8 = 0x30;
}

/// The further fields of a header; none in version 1. Iterating gives each kind and value, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a> {
    /// Whole fields and nothing else.
    bytes: &'a [u8],
}

/// What is known of the client's TLS: the field [`kind::SSL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssl<'a> {
    client: u8,
    verify: u32,
    fields: Tlvs<'a>,
}

impl<'a> Tlvs<'a> {
    pub(super) const NONE: Self = Self { bytes: &[] };

    /// `None` where one runs over the end.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, _, rest) = split(rest)?;
        }
        Some(Self { bytes })
    }

    /// The value of the first field of a kind.
    #[must_use]
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        each(self.bytes).find(|(_, found, _)| *found == kind).map(|(_, _, value)| value)
    }

    /// The protocol that was agreed on through ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.get(kind::ALPN)
    }

    /// The host name that the client asked for, if it is UTF-8.
    #[must_use]
    pub fn authority(&self) -> Option<&'a str> {
        self.text(kind::AUTHORITY)
    }

    /// The name that the proxy gave the connection.
    #[must_use]
    pub fn unique_id(&self) -> Option<&'a [u8]> {
        self.get(kind::UNIQUE_ID)
    }

    /// What is known of the client's TLS. `None` where nothing is, or where its parts run over the
    /// end.
    #[must_use]
    pub fn ssl(&self) -> Option<Ssl<'a>> {
        let (&[client, a, b, c, d], fields) = self.get(kind::SSL)?.split_first_chunk::<5>()?;
        Some(Ssl { client, verify: u32::from_be_bytes([a, b, c, d]), fields: Tlvs::new(fields)? })
    }

    fn text(&self, kind: u8) -> Option<&'a str> {
        std::str::from_utf8(self.get(kind)?).ok()
    }
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { rest: self.bytes }
    }
}

/// Walks through the fields of a header.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, value, rest) = split(self.rest)?;
        self.rest = rest;
        Some((kind, value))
    }
}

impl<'a> Ssl<'a> {
    /// Whether the client connected with TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.client & 1 != 0
    }

    /// Whether the client showed a certificate on this connection.
    #[must_use]
    pub const fn has_certificate(&self) -> bool {
        self.client & 2 != 0
    }

    /// Whether it showed one at least once in its TLS session.
    #[must_use]
    pub const fn has_session_certificate(&self) -> bool {
        self.client & 4 != 0
    }

    /// Whether the certificate was found to be good.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.verify == 0 && (self.has_certificate() || self.has_session_certificate())
    }

    /// The version, such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'a str> {
        self.fields.text(kind::SSL_VERSION)
    }

    /// The common name of the client's certificate.
    #[must_use]
    pub fn common_name(&self) -> Option<&'a str> {
        self.fields.text(kind::SSL_CN)
    }

    /// The name of the cipher.
    #[must_use]
    pub fn cipher(&self) -> Option<&'a str> {
        self.fields.text(kind::SSL_CIPHER)
    }

    /// All fields inside.
    #[must_use]
    pub const fn fields(&self) -> Tlvs<'a> {
        self.fields
    }
}

/// Kind, value, and what is behind them; `None` where they run over the end.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, rest))
}

/// Where the value of each field begins, its kind, and the value.
pub(super) fn each(bytes: &[u8]) -> impl Iterator<Item = (usize, u8, &[u8])> {
    let mut at = 0;
    Iter { rest: bytes }.map(move |(kind, value)| {
        let begin = at + 3;
        at = begin + value.len();
        (begin, kind, value)
    })
}
