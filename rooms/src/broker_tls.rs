//! [`BrokerTls`]: the certificate of a broker, on the command line.

use std::path::PathBuf;

use myriapod_command::failure::Failure;
use myriapod_command::tls::{ClientTls, parse_pin};
use myriapod_tls::Connector;

/// The heading of the flags of rooms in the help.
pub(crate) const ROOMS: &str = "Rooms (with --service rooms)";

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
