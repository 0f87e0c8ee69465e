//! [`Acceptor`] and [`Connector`]: what handshakes begin with.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};

use crate::ciphers::DEFAULT_AWAKE;
use crate::handshake::{Failure, Handshake};
use crate::heard::Ear;

/// Why a configuration cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// It offers a cipher suite that this crate does not have, or has no room for.
    Suite {
        /// The suite.
        name: String,
        /// How many bytes of a secret there is room for.
        secret_len: usize,
    },
    /// It offers no suite at all.
    NoSuite,
    /// rustls refuses it: a key that does not fit its certificate, for example.
    Rustls(rustls::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suite { name, secret_len: 32 } if name == "TLS13_AES_256_GCM_SHA384" => {
                write!(f, "{name} needs an acceptor or connector with room for 48 bytes: <48>")
            }
            Self::Suite { name, .. } => {
                write!(f, "{name} is not supported: take the suites of myriapod_tls::provider()")
            }
            Self::NoSuite => f.write_str("no cipher suite is offered"),
            Self::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rustls(error) => Some(error),
            Self::Suite { .. } | Self::NoSuite => None,
        }
    }
}

impl From<rustls::Error> for ConfigError {
    fn from(error: rustls::Error) -> Self {
        Self::Rustls(error)
    }
}

/// The provider of rustls for `ring`, with the suites whose secrets have 32 bytes:
/// `TLS_AES_128_GCM_SHA256` and `TLS_CHACHA20_POLY1305_SHA256`.
#[must_use]
pub fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| secret_len(suite.suite()) == Some(32));
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// The same with `TLS_AES_256_GCM_SHA384` too, for `Acceptor<48>` and `Connector<48>`.
#[must_use]
pub fn provider_with_aes_256() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| secret_len(suite.suite()).is_some());
    provider
}

/// How long the secrets of a suite are; `None` for one that this crate does not have.
fn secret_len(suite: CipherSuite) -> Option<usize> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => {
            Some(32)
        }
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(48),
        _ => None,
    }
}

fn check(provider: &CryptoProvider, room: usize) -> Result<(), ConfigError> {
    if provider.cipher_suites.is_empty() {
        return Err(ConfigError::NoSuite);
    }
    for suite in &provider.cipher_suites {
        if secret_len(suite.suite()).is_none_or(|len| len > room) {
            let name = format!("{:?}", suite.suite());
            return Err(ConfigError::Suite { name, secret_len: room });
        }
    }
    Ok(())
}

/// A server's configuration with the suites of [`provider`], with tickets for resumption, and without
/// certificates for clients.
///
/// # Errors
///
/// A key that does not fit the certificate, or that rustls cannot read.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, ConfigError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    // AES-128 costs a third of what the other does, where the processor has it.
    config.ignore_client_order = true;
    Ok(config)
}

/// The same for clients that show certificates of these authorities. With `is_optional`, they may come
/// without; what they show must be good in any case.
///
/// # Errors
///
/// As [`server_config`]; no authority at all.
pub fn server_config_for_clients(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: RootCertStore,
    is_optional: bool,
) -> Result<ServerConfig, ConfigError> {
    let provider = Arc::new(provider());
    let authorities = Arc::new(authorities);
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider));
    let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
    let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    // AES-128 costs a third of what the other does, where the processor has it.
    config.ignore_client_order = true;
    Ok(config)
}

/// What a server begins handshakes with. Clones are one and the same.
///
/// `N` is the room for a secret in each connection: see [`Asleep`](crate::Asleep).
#[derive(Clone)]
pub struct Acceptor<const N: usize = 32> {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    places: usize,
}

impl<const N: usize> Acceptor<N> {
    /// Takes a configuration of rustls. Its log of keys goes on hearing what it did; early data are
    /// switched off.
    ///
    /// # Errors
    ///
    /// A suite that this crate does not have. [`provider`] has the right ones.
    pub fn new(config: ServerConfig) -> Result<Self, ConfigError> {
        let config = Self::prepare(config)?;
        Ok(Self { config: Arc::new(RwLock::new(config)), places: DEFAULT_AWAKE })
    }

    /// New handshakes use this configuration from now on: another certificate, for example.
    /// Connections that are open do not notice. It may be called on any thread.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); the old configuration stays in force.
    pub fn replace(&self, config: ServerConfig) -> Result<(), ConfigError> {
        let config = Self::prepare(config)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// How many connections may have ciphers awake in each event loop, at 1,120 bytes each: rounded up
    /// to a power of two, [`DEFAULT_AWAKE`] where nothing is set. With 0 none has: each message wakes
    /// its ciphers anew.
    #[must_use]
    pub fn awake(mut self, places: usize) -> Self {
        self.places = places;
        self
    }

    pub(crate) fn places(&self) -> usize {
        self.places
    }

    fn prepare(mut config: ServerConfig) -> Result<Arc<ServerConfig>, ConfigError> {
        check(config.crypto_provider(), N)?;
        config.key_log = Ear::before(&config.key_log);
        config.enable_secret_extraction = true;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        Ok(Arc::new(config))
    }

    /// Begins a handshake with a client.
    ///
    /// # Errors
    ///
    /// What rustls says of the configuration.
    pub fn begin(&self) -> Result<Handshake, Failure> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let connection = rustls::ServerConnection::new(Arc::clone(&config))?;
        Ok(Handshake::new(connection.into()))
    }
}

impl<const N: usize> fmt::Debug for Acceptor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// What a client begins handshakes with. Clones are one and the same.
#[derive(Clone)]
pub struct Connector<const N: usize = 32> {
    config: Arc<ClientConfig>,
}

impl<const N: usize> Connector<N> {
    /// Takes a configuration of rustls. Its log of keys goes on hearing what it did; early data are
    /// switched off.
    ///
    /// A connection that was handed to [`Asleep`](crate::Asleep) passes tickets over, which come after
    /// the handshake: so a later one cannot resume it.
    ///
    /// # Errors
    ///
    /// A suite that this crate does not have. [`provider`] has the right ones.
    pub fn new(mut config: ClientConfig) -> Result<Self, ConfigError> {
        check(config.crypto_provider(), N)?;
        config.key_log = Ear::before(&config.key_log);
        config.enable_secret_extraction = true;
        config.enable_early_data = false;
        Ok(Self { config: Arc::new(config) })
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Begins a handshake with the server of this name.
    ///
    /// # Errors
    ///
    /// What rustls says of the configuration.
    pub fn begin(&self, name: ServerName<'static>) -> Result<Handshake, Failure> {
        let connection = rustls::ClientConnection::new(Arc::clone(&self.config), name)?;
        Ok(Handshake::new(connection.into()))
    }
}

impl<const N: usize> fmt::Debug for Connector<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
