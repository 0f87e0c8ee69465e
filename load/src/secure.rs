//! [`Secure`]: TLS on the way to the server, as it is asked for.

use std::fmt;

use myriapod_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use myriapod_tls::rustls::{ClientConfig, RootCertStore};
use myriapod_tls::{Trust, client_config};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// TLS 1.3 on each connection. It is given whole, so that processes of the load need no files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secure {
    /// Which certificates are taken.
    pub trust: Trusted,
    /// The name that the server's certificate must have, and that the server is told.
    pub name: String,
    /// The client's certificates and their private key (PKCS #8, SEC1 or PKCS #1), each as DER.
    pub identity: Option<(Vec<Vec<u8>>, Vec<u8>)>,
    /// Resume sessions that the server has given tickets for, where connections come again. The
    /// connections then stay awake, since tickets come after the handshake.
    pub resume: bool,
}

/// Which certificates a load takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trusted {
    /// Those that lead to one of these authorities, each as DER, and have the name.
    Roots(Vec<Vec<u8>>),
    /// The same, and each of these itself where it has the name.
    Certificates(Vec<Vec<u8>>),
    /// The one whose SHA-256 is this: 64 hexadecimal digits, in lower case.
    Pin(String),
    /// Any. `None` as the host asks for it too, since that server is the load's own.
    Any,
}

impl Secure {
    /// What handshakes begin with, and the name of the server.
    pub(crate) fn config(&self) -> Result<(ClientConfig, ServerName<'static>)> {
        let owned = |ders: &[Vec<u8>]| -> Vec<_> {
            ders.iter().map(|der| CertificateDer::from(der.clone())).collect()
        };
        let trust = match &self.trust {
            Trusted::Roots(ders) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(owned(ders));
                Trust::Roots(roots)
            }
            Trusted::Certificates(ders) => Trust::Certificates(owned(ders)),
            Trusted::Pin(pin) => Trust::Pin(pin.clone()),
            Trusted::Any => Trust::Any,
        };
        let identity = match &self.identity {
            Some((chain, key)) => {
                let key = PrivateKeyDer::try_from(key.clone()).map_err(Error::usage)?;
                Some((owned(chain), key))
            }
            None => None,
        };
        let config = client_config(trust, identity).map_err(Error::usage)?;
        let name = ServerName::try_from(self.name.clone()).map_err(|_| {
            Error::usage(format_args!("{:?} is no name for a certificate", self.name))
        })?;
        Ok((config, name))
    }
}

/// Without the key.
impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust, name, identity, resume } = self;
        f.debug_struct("Secure")
            .field("trust", trust)
            .field("name", name)
            .field("identity", &identity.is_some())
            .field("resume", resume)
            .finish()
    }
}
