//! TLS on the command line: what a server shows, and what a client trusts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use myriapod::protocol::Framing;
use myriapod::{Client, ClientOptions, Error};
use myriapod_load::{Secure, Trusted};
use myriapod_tls::rustls::pki_types::pem::{self, PemObject as _};
use myriapod_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use myriapod_tls::rustls::{self, RootCertStore, ServerConfig};
use myriapod_tls::{
    Acceptor, ConfigError, Connector, DEFAULT_AWAKE, Identity, ToServer, Trust, client_config,
    fingerprint, server_config, server_config_for_clients,
};

use crate::failure::Failure;
use crate::rooms::ROOMS;
use crate::terminal::tell;

/// The heading of these flags in the help.
const HEADING: &str = "TLS";

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

/// Whom a client trusts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClientTls {
    /// Speak TLS 1.3; the certificate is checked with the system's authorities
    #[arg(long, help_heading = HEADING)]
    tls: bool,
    /// Check it with the authorities of this PEM file instead
    #[arg(long, value_name = "FILE", requires = "tls", help_heading = HEADING)]
    tls_ca: Option<PathBuf>,
    /// Take the certificate with this SHA-256, whatever its name and its dates
    #[arg(long, value_name = "HEX", requires = "tls", conflicts_with = "tls_ca",
        value_parser = parse_pin, help_heading = HEADING)]
    tls_pin: Option<String>,
    /// Take any certificate: for trying only
    #[arg(long, requires = "tls", conflicts_with_all = ["tls_ca", "tls_pin"],
        help_heading = HEADING)]
    tls_insecure: bool,
    /// The name that the certificate must have [default: HOST]
    #[arg(long, value_name = "NAME", requires = "tls", help_heading = HEADING)]
    tls_name: Option<String>,
    /// Show the certificates of this PEM file
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_key"], help_heading = HEADING)]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = HEADING)]
    tls_key: Option<PathBuf>,
}

/// Whom a server trusts that shares its rooms by a broker.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct BrokerTls {
    /// Check the broker's certificate with the authorities of this PEM file, not the system's
    #[arg(long, value_name = "FILE", requires = "broker", help_heading = ROOMS)]
    broker_tls_ca: Option<PathBuf>,
    /// Take the broker's certificate with this SHA-256, whatever its name and its dates
    #[arg(long, value_name = "HEX", requires = "broker", conflicts_with = "broker_tls_ca",
        value_parser = parse_pin, help_heading = ROOMS)]
    broker_tls_pin: Option<String>,
    /// Take any certificate of a broker: for trying only
    #[arg(long, requires = "broker", conflicts_with_all = ["broker_tls_ca", "broker_tls_pin"],
        help_heading = ROOMS)]
    broker_tls_insecure: bool,
    /// The name that the broker's certificate must have [default: its HOST]
    #[arg(long, value_name = "NAME", requires = "broker", help_heading = ROOMS)]
    broker_tls_name: Option<String>,
    /// Show the broker the certificates of this PEM file
    #[arg(long, value_name = "FILE", requires_all = ["broker", "broker_tls_key"],
        help_heading = ROOMS)]
    broker_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "broker_tls_cert", help_heading = ROOMS)]
    broker_tls_key: Option<PathBuf>,
}

impl BrokerTls {
    /// What makes connections to brokers, and the name that their certificates must have.
    pub(crate) fn connector(&self) -> Result<(Connector, Option<&str>), Failure> {
        let this = self.clone();
        let tls = ClientTls {
            tls: true,
            tls_ca: this.broker_tls_ca,
            tls_pin: this.broker_tls_pin,
            tls_insecure: this.broker_tls_insecure,
            tls_name: None,
            tls_cert: this.broker_tls_cert,
            tls_key: this.broker_tls_key,
        };
        Ok((tls.connector("--broker-tls")?, self.broker_tls_name.as_deref()))
    }

    /// Whether any of these flags was given.
    pub(crate) fn is_given(&self) -> bool {
        self.broker_tls_insecure
            || self.broker_tls_pin.is_some()
            || self.broker_tls_name.is_some()
            || self.broker_tls_ca.is_some()
            || self.broker_tls_cert.is_some()
    }
}

fn parse_pin(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(digits.to_ascii_lowercase())
    } else {
        Err("a pin is the SHA-256 of a certificate: 64 hexadecimal digits".to_owned())
    }
}

impl ClientTls {
    /// What each connection of a load does; nothing where TLS is not asked for. `None` as the host is
    /// a server of the load's own.
    pub(crate) fn load(&self, host: Option<&str>, resume: bool) -> Result<Option<Secure>, Failure> {
        if !self.tls {
            return Ok(None);
        }
        let ders = |certificates: Vec<CertificateDer<'static>>| {
            certificates.iter().map(|certificate| certificate.to_vec()).collect::<Vec<_>>()
        };
        let trust = match (host, &self.tls_pin, &self.tls_ca) {
            (None, ..) => Trusted::Any,
            (_, Some(pin), _) => Trusted::Pin(pin.clone()),
            _ if self.tls_insecure => {
                warn_of_insecure("--tls");
                Trusted::Any
            }
            (.., Some(path)) => Trusted::Certificates(ders(read_certificates(path)?)),
            _ => Trusted::Roots(ders(rustls_native_certs::load_native_certs().certs)),
        };
        if trust == Trusted::Roots(Vec::new()) {
            return Err(no_authorities("--tls"));
        }
        let identity = match self.tls_cert.as_deref().zip(self.tls_key.as_deref()) {
            Some((chain, key)) => {
                let (chain, key) = read_identity(chain, key)?;
                Some((ders(chain), key.secret_der().to_vec()))
            }
            None => None,
        };
        let name = self.name(host.unwrap_or("localhost")).to_owned();
        Ok(Some(Secure { trust, name, identity, resume }))
    }

    /// The name that the certificate must have.
    fn name<'a>(&'a self, host: &'a str) -> &'a str {
        let of_host = if host.starts_with("unix:") { "localhost" } else { host };
        self.tls_name.as_deref().unwrap_or(of_host)
    }

    /// What makes connections to this host; nothing where TLS is not asked for.
    pub(crate) fn to(&self, host: &str) -> Result<Option<ToServer>, Failure> {
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
    fn connector(&self, flags: &str) -> Result<Connector, Failure> {
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
    pub(crate) fn connect<F: Framing>(
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
pub(crate) fn explain(error: Error, host: &str, port: u16) -> Failure {
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

fn does_not_fit(error: &ConfigError, key: &str, certificate: &str) -> Failure {
    match error {
        ConfigError::Rustls(rustls::Error::InconsistentKeys(_)) => {
            Failure::new(format_args!("{key} does not fit {certificate}"))
                .with_next_step("give the key that the certificate was made for")
        }
        error => Failure::new(format_args!("{certificate}, {key}: {error}")),
    }
}

fn read_identity(chain: &Path, key: &Path) -> Result<Identity, Failure> {
    let certificates = read_certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unreadable(key, &error, "a private key (BEGIN PRIVATE KEY)"))?;
    Ok((certificates, private))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let what = "a certificate (BEGIN CERTIFICATE)";
    let read = |error| unreadable(path, &error, what);
    let certificates = CertificateDer::pem_file_iter(path).map_err(read)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(read)?;
    if certificates.is_empty() {
        return Err(unreadable(path, &pem::Error::NoItemsFound, what));
    }
    Ok(certificates)
}

fn read_roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| {
            Failure::new(format_args!("{}: not an authority: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

fn system_roots(flags: &str) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(no_authorities(flags));
    }
    Ok(roots)
}

fn no_authorities(flags: &str) -> Failure {
    let step = format!("{flags}-ca FILE names one, {flags}-pin HEX the certificate itself");
    Failure::new("the system names no authorities for certificates").with_next_step(step)
}

fn warn_of_insecure(flags: &str) {
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
