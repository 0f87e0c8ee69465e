//! TLS on the command line: what a server shows, and what the clients of a load trust.

use std::path::PathBuf;
use std::sync::OnceLock;

use myriapod_command::tls::{
    ClientTls, HEADING, does_not_fit, no_authorities, read_certificates, read_identity, read_roots,
    system_certificates, warn_of_insecure,
};
use myriapod_load::{Secure, Trusted};
use myriapod_tls::rustls::ServerConfig;
use myriapod_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use myriapod_tls::{
    Acceptor, ConfigError, DEFAULT_AWAKE, Identity, fingerprint, server_config,
    server_config_for_clients,
};

use crate::failure::Failure;

/// The certificates that `serve` shows, for SIGHUP to read again.
pub(crate) static SERVED: OnceLock<Certificates> = OnceLock::new();

/// What a server shows.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeTls {
    /// Serve TLS 1.3 with the certificates of this PEM file, the server's own first
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = HEADING)]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = HEADING)]
    tls_key: Option<PathBuf>,
    /// Serve TLS 1.3 with a certificate made now, for trying; its SHA-256 is printed
    #[arg(long, conflicts_with = "tls_cert", help_heading = HEADING)]
    tls_self_signed: bool,
    /// Ask clients for a certificate of the authorities in this PEM file
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    tls_client_ca: Option<PathBuf>,
    /// Connections whose ciphers stay awake, in each event loop, 1,120 bytes each; 0 for none
    #[arg(long, value_name = "N", default_value_t = DEFAULT_AWAKE, help_heading = HEADING)]
    tls_awake: usize,
    /// Serve clients without a certificate too
    #[arg(long, requires = "tls_client_ca", help_heading = HEADING)]
    tls_client_optional: bool,
}

/// A server's certificate, which can be read again while it serves.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    args: ServeTls,
    pub(crate) acceptor: Acceptor,
    /// The SHA-256 of a certificate that was made now.
    pub(crate) made: Option<String>,
}

impl ServeTls {
    /// Whether TLS is asked for.
    pub(crate) fn is_on(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed
    }

    /// Reads the files, or makes a certificate; nothing where TLS is not asked for.
    pub(crate) fn certificates(&self, host: Option<&str>) -> Result<Option<Certificates>, Failure> {
        if !self.is_on() {
            if self.tls_client_ca.is_some() {
                return Err(Failure::usage(
                    "--tls-client-ca needs --tls-cert or --tls-self-signed",
                ));
            }
            return Ok(None);
        }
        let (identity, made) = self.identity(host)?;
        let config = self.config(identity)?;
        let acceptor = Acceptor::new(config).map_err(|error| self.explain(&error))?;
        let acceptor = acceptor.awake(self.tls_awake);
        Ok(Some(Certificates { args: self.clone(), acceptor, made }))
    }

    fn identity(&self, host: Option<&str>) -> Result<(Identity, Option<String>), Failure> {
        if let Some((chain, key)) = self.tls_cert.as_deref().zip(self.tls_key.as_deref()) {
            return Ok((read_identity(chain, key)?, None));
        }
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names
            .extend(host.filter(|host| !host.is_empty() && !host.contains('/')).map(str::to_owned));
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|error| Failure::new(format_args!("--tls-self-signed: {error}")))?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|error| Failure::new(format_args!("--tls-self-signed: {error}")))?;
        let name = fingerprint(&certificate);
        Ok(((vec![certificate], key), Some(name)))
    }

    fn config(&self, (chain, key): Identity) -> Result<ServerConfig, Failure> {
        let config = match &self.tls_client_ca {
            Some(path) => {
                let roots = read_roots(path)?;
                server_config_for_clients(chain, key, roots, self.tls_client_optional)
            }
            None => server_config(chain, key),
        };
        config.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &ConfigError) -> Failure {
        let shown = |path: &Option<PathBuf>| match path {
            Some(path) => path.display().to_string(),
            None => "the certificate".to_owned(),
        };
        does_not_fit(error, &shown(&self.tls_key), &shown(&self.tls_cert))
    }
}

impl Certificates {
    /// Reads the files again, for new handshakes: a certificate that was renewed. Where that fails, the
    /// old one stays in force, and the error says so. A certificate that was made stays in any case.
    pub(crate) fn reload(&self) -> Result<(), Failure> {
        if self.args.tls_cert.is_none() {
            return Ok(());
        }
        let replaced = self.args.identity(None).and_then(|(identity, _)| {
            let config = self.args.config(identity)?;
            self.acceptor.replace(config).map_err(|error| self.args.explain(&error))
        });
        replaced.map_err(|failure| failure.with_next_step("the old certificate stays in force"))
    }
}

/// What each connection of a load does; nothing where TLS is not asked for. `None` as the host is
/// a server of the load's own.
pub(crate) fn of_load(
    tls: &ClientTls,
    host: Option<&str>,
    resume: bool,
) -> Result<Option<Secure>, Failure> {
    if !tls.tls {
        return Ok(None);
    }
    let ders = |certificates: Vec<CertificateDer<'static>>| {
        certificates.iter().map(|certificate| certificate.to_vec()).collect::<Vec<_>>()
    };
    let trust = match (host, &tls.tls_pin, &tls.tls_ca) {
        (None, ..) => Trusted::Any,
        (_, Some(pin), _) => Trusted::Pin(pin.clone()),
        _ if tls.tls_insecure => {
            warn_of_insecure("--tls");
            Trusted::Any
        }
        (.., Some(path)) => Trusted::Certificates(ders(read_certificates(path)?)),
        _ => Trusted::Roots(ders(system_certificates())),
    };
    if trust == Trusted::Roots(Vec::new()) {
        return Err(no_authorities("--tls"));
    }
    let identity = match tls.tls_cert.as_deref().zip(tls.tls_key.as_deref()) {
        Some((chain, key)) => {
            let (chain, key) = read_identity(chain, key)?;
            Some((ders(chain), key.secret_der().to_vec()))
        }
        None => None,
    };
    let name = tls.name(host.unwrap_or("localhost")).to_owned();
    Ok(Some(Secure { trust, name, identity, resume }))
}
