//! TLS on the command line of clients: whom they trust, and what a failure means.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use myriapod::protocol::Framing;
use myriapod::{Client, ClientOptions, Error};
use myriapod_tls::rustls::pki_types::pem::{self, PemObject as _};
use myriapod_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use myriapod_tls::rustls::{self, RootCertStore};
use myriapod_tls::{ConfigError, Connector, Identity, ToServer, Trust, client_config};

use crate::failure::Failure;
use crate::terminal::tell;

/// The heading of these flags in the help.
pub const HEADING: &str = "TLS";

/// Whom a client trusts.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientTls {
    /// Speak TLS 1.3; the certificate is checked with the system's authorities
    #[arg(long, help_heading = HEADING)]
    pub tls: bool,
    /// Check it with the authorities of this PEM file instead
    #[arg(long, value_name = "FILE", requires = "tls", help_heading = HEADING)]
    pub tls_ca: Option<PathBuf>,
    /// Take the certificate with this SHA-256, whatever its name and its dates
    #[arg(long, value_name = "HEX", requires = "tls", conflicts_with = "tls_ca",
        value_parser = parse_pin, help_heading = HEADING)]
    pub tls_pin: Option<String>,
    /// Take any certificate: for trying only
    #[arg(long, requires = "tls", conflicts_with_all = ["tls_ca", "tls_pin"],
        help_heading = HEADING)]
    pub tls_insecure: bool,
    /// The name that the certificate must have [default: HOST]
    #[arg(long, value_name = "NAME", requires = "tls", help_heading = HEADING)]
    pub tls_name: Option<String>,
    /// Show the certificates of this PEM file
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_key"], help_heading = HEADING)]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = HEADING)]
    pub tls_key: Option<PathBuf>,
}

/// The SHA-256 of a certificate as it is typed, with or without colons: 64 hexadecimal digits.
///
/// # Errors
///
/// What a pin is.
pub fn parse_pin(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(digits.to_ascii_lowercase())
    } else {
        Err("a pin is the SHA-256 of a certificate: 64 hexadecimal digits".to_owned())
    }
}

impl ClientTls {
    /// The name that the certificate must have.
    pub fn name<'a>(&'a self, host: &'a str) -> &'a str {
        let of_host = if host.starts_with("unix:") { "localhost" } else { host };
        self.tls_name.as_deref().unwrap_or(of_host)
    }

    /// What makes connections to this host; nothing where TLS is not asked for.
    pub fn to(&self, host: &str) -> Result<Option<ToServer>, Failure> {
        if !self.tls {
            return Ok(None);
        }
        let name = self.name(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            Failure::usage(format_args!("{name:?} is no name for a certificate"))
                .with_next_step("--tls-name says which it must have")
        })?;
        Ok(Some(self.connector("--tls")?.to(name)))
    }

    /// What makes connections to any host; `flags` is what these flags begin with.
    pub fn connector(&self, flags: &str) -> Result<Connector, Failure> {
        let trust = if let Some(pin) = &self.tls_pin {
            Trust::Pin(pin.clone())
        } else if self.tls_insecure {
            warn_of_insecure(flags);
            Trust::Any
        } else if let Some(path) = &self.tls_ca {
            Trust::Certificates(read_certificates(path)?)
        } else {
            Trust::Roots(system_roots(flags)?)
        };
        let identity = match self.tls_cert.as_deref().zip(self.tls_key.as_deref()) {
            Some((chain, key)) => Some(read_identity(chain, key)?),
            None => None,
        };
        let config = client_config(trust, identity).map_err(|error| {
            let shown = |path: &Option<PathBuf>| {
                path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
            };
            does_not_fit(&error, &shown(&self.tls_key), &shown(&self.tls_cert))
        })?;
        Connector::new(config).map_err(Failure::new)
    }

    /// Connects, with TLS where it is asked for.
    pub fn connect<F: Framing>(
        tunnels: Option<&ToServer>,
        host: &str,
        port: u16,
        options: ClientOptions,
        framing: F,
    ) -> Result<Client<F>, Failure> {
        let client = match tunnels {
            Some(tunnels) => {
                Client::secure_with_framing(host, port, options, tunnels.clone(), framing)
            }
            None => Client::with_framing(host, port, options, framing),
        };
        client.map_err(|error| explain(error, host, port))
    }
}

/// Why a client could not connect, with what its user can do.
pub fn explain(error: Error, host: &str, port: u16) -> Failure {
    let Error::Link(fault) = &error else { return error.into() };
    let text = &fault.text;
    let has = |part: &str| text.contains(part);
    let step = if has("CaUsedAsEndEntity") {
        "its certificate is an authority's own, as `openssl req -x509` makes them: --tls-ca names it"
    } else if fault.name == "NotARecord" {
        "leave out --tls, or start that server with --tls-cert"
    } else if has("UnknownIssuer") {
        "--tls-ca FILE names the authority, --tls-pin HEX the certificate itself"
    } else if has("expired") {
        "its certificate has expired: the server needs a new one, or --tls-pin HEX names it"
    } else if has("not valid for name") {
        "--tls-name NAME says which name its certificate must have"
    } else if has("ApplicationVerificationFailure") {
        return Failure::new(format_args!("{host} {port}: the certificate is not the pinned one"))
            .with_next_step("`serve --tls-self-signed` prints the SHA-256 of its certificate");
    } else if has("certificate_required") || has("CertificateRequired") {
        "that server asks for a certificate: --tls-cert FILE --tls-key FILE"
    } else if has("protocol_version") || has("PeerIncompatible") {
        "that server does not speak TLS 1.3, which is all that is spoken here"
    } else {
        return Failure::new(format_args!("{host} {port}: {text}"));
    };
    Failure::new(format_args!("{host} {port}: {text}")).with_next_step(step)
}

/// What to say of a certificate and its key that make no configuration.
#[must_use]
pub fn does_not_fit(error: &ConfigError, key: &str, certificate: &str) -> Failure {
    match error {
        ConfigError::Rustls(rustls::Error::InconsistentKeys(_)) => {
            Failure::new(format_args!("{key} does not fit {certificate}"))
                .with_next_step("give the key that the certificate was made for")
        }
        error => Failure::new(format_args!("{certificate}, {key}: {error}")),
    }
}

/// Reads a chain of certificates and its private key, PEM files both.
///
/// # Errors
///
/// A file that cannot be read, or that does not hold what it should.
pub fn read_identity(chain: &Path, key: &Path) -> Result<Identity, Failure> {
    let certificates = read_certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unreadable(key, &error, "a private key (BEGIN PRIVATE KEY)"))?;
    Ok((certificates, private))
}

/// Reads the certificates of a PEM file, at least one.
///
/// # Errors
///
/// A file that cannot be read, or that holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let what = "a certificate (BEGIN CERTIFICATE)";
    let read = |error| unreadable(path, &error, what);
    let certificates = CertificateDer::pem_file_iter(path).map_err(read)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(read)?;
    if certificates.is_empty() {
        return Err(unreadable(path, &pem::Error::NoItemsFound, what));
    }
    Ok(certificates)
}

/// Reads authorities from a PEM file.
///
/// # Errors
///
/// A file that cannot be read, and a certificate that cannot be an authority's.
pub fn read_roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| {
            Failure::new(format_args!("{}: not an authority: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

/// The certificates of the authorities that the system trusts.
#[must_use]
pub fn system_certificates() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

fn system_roots(flags: &str) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_certificates());
    if roots.is_empty() {
        return Err(no_authorities(flags));
    }
    Ok(roots)
}

/// The system has none, and no flag names one; `flags` is what these flags begin with.
#[must_use]
pub fn no_authorities(flags: &str) -> Failure {
    let step = format!("{flags}-ca FILE names one, {flags}-pin HEX the certificate itself");
    Failure::new("the system names no authorities for certificates").with_next_step(step)
}

/// Warns on stderr that any certificate is taken.
pub fn warn_of_insecure(flags: &str) {
    let warning = "takes any certificate; anybody may read and change this";
    tell(format_args!("warning: {flags}-insecure {warning}"));
}

fn unreadable(path: &Path, error: &pem::Error, what: impl fmt::Display) -> Failure {
    let name = path.display();
    match error {
        pem::Error::Io(error) => {
            let failure = Failure::io("open", name, error);
            if error.kind() == io::ErrorKind::PermissionDenied {
                return failure.with_next_step("may this user read it?");
            }
            failure
        }
        pem::Error::NoItemsFound => Failure::new(format_args!("{name}: there is not {what} in it")),
        error => Failure::new(format_args!("{name}: no PEM file with {what}: {error}")),
    }
}
