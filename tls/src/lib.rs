//! TLS 1.3 for very many idle connections.
//!
//! After the handshake of TLS 1.3, nearly everything that a TLS library keeps can be derived from
//! little: two traffic secrets, two sequence numbers, the cipher suite. [`Asleep`] keeps these, in
//! 80 bytes, and nothing else is kept. When a record comes, key and nonce are derived, the record is
//! opened, and the woken ciphers stay for a while in a bounded cache that all connections of a loop
//! share ([`Ciphers`]).
//!
//! The handshake is rustls' own ([`Acceptor`], [`Connector`]). This crate performs no I/O, contains
//! no unsafe code, and allocates nothing for a record.
//!
//! ```
//! use myriapod_tls::{Asleep, Ciphers, Secrets, Side, Suite};
//!
//! // Both ends know the same secrets; here they are made up.
//! let (from_client, from_server) = ([1; 32], [2; 32]);
//! let secrets = Secrets { theirs: (&from_server, 0), ours: (&from_client, 0) };
//! let mut client = Asleep::<32>::new(Side::Client, Suite::Aes128Gcm, &secrets)?;
//! let secrets = Secrets { theirs: (&from_client, 0), ours: (&from_server, 0) };
//! let mut server = Asleep::<32>::new(Side::Server, Suite::Aes128Gcm, &secrets)?;
//!
//! let mut ciphers = Ciphers::new(16)?;
//! let mut sent = Vec::new();
//! client.seal(&mut ciphers, 0, b"hello", &mut sent)?;
//! let opened = server.open(&mut ciphers, 1, &mut sent);
//! assert_eq!(&sent[..opened.plain], b"hello");
//! # Ok::<(), myriapod_tls::Fault>(())
//! ```
//!
//! What is not here: TLS 1.2, early data, authentication after the handshake. A `KeyUpdate` that is
//! split over two records is refused, which RFC 8446 would allow.

#![forbid(unsafe_code)]

mod asleep;
mod ciphers;
mod config;
mod door;
mod fault;
mod handshake;
mod heard;
mod record;
mod schedule;
mod session;
mod suite;
mod tunnel;
mod verify;

pub use self::asleep::{Asleep, RECORDS_PER_SECRET, Secrets, Side};
pub use self::ciphers::{Ciphers, Counts, DEFAULT_AWAKE};
pub use self::config::{
    Acceptor, ConfigError, Connector, provider, provider_with_aes_256, server_config,
    server_config_for_clients,
};
pub use self::door::Tls;
pub use self::fault::{Fault, alert_name};
pub use self::handshake::{Failure, Handshake, Step, is_client_hello};
pub use self::record::{End, HEADER, MOST_PLAIN, MOST_SEALED, OVERHEAD, Opened, sealed_room};
pub use self::session::Session;
pub use self::suite::Suite;
pub use self::tunnel::ToServer;
pub use self::verify::{Identity, Trust, client_config, fingerprint};
/// The library that carries out handshakes.
pub use rustls;
