//! Configurations of clients: whom they trust, and how a certificate is named.

use std::fmt::Write as _;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::config::{ConfigError, provider};

/// The SHA-256 of a certificate's DER, which names it: 64 digits, lower case.
///
/// ```
/// let name = myriapod_tls::fingerprint(b"no certificate, but bytes");
/// assert_eq!(name.len(), 64);
/// ```
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, certificate).as_ref() {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

/// Whose certificates a client takes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// Those that lead to one of these authorities and have the server's name.
    Roots(RootCertStore),
    /// Those that lead to one of these authorities and have the server's name, and these certificates
    /// themselves with that name: what `openssl req -x509` makes is an authority of its own.
    Certificates(Vec<CertificateDer<'static>>),
    /// The one with this [`fingerprint`], whatever its chain, its name and its dates.
    Pin(String),
    /// Any. Who can change packets on their way can then read and change everything: for trying only.
    Any,
}

/// A client's certificate chain and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client's configuration with the suites of [`provider`].
///
/// # Errors
///
/// A key that does not fit its certificate, or no authority at all.
pub fn client_config(
    trust: Trust,
    identity: Option<Identity>,
) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match trust {
        Trust::Roots(roots) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
            let itself = Vec::new();
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Known { verifier, itself }))
        }
        Trust::Certificates(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in &certificates {
                roots.add(certificate.clone())?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
            let itself = certificates;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Known { verifier, itself }))
        }
        Trust::Pin(pin) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Named { pin: Some(pin), algorithms })),
        Trust::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Named { pin: None, algorithms })),
    };
    Ok(match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    })
}

/// Takes what leads to a known authority; and a known certificate itself, also where it is marked as an
/// authority's.
#[derive(Debug)]
struct Known {
    verifier: Arc<WebPkiServerVerifier>,
    itself: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(certificate, chain, name, ocsp, now);
        match &verified {
            // Its dates have been looked at by then; its name has not.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if format!("{other:?}").contains("CaUsedAsEndEntity")
                    && self.itself.iter().any(|known| known == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Takes the certificate with this fingerprint, or any. That the peer has the key is checked in any
/// case.
#[derive(Debug)]
struct Named {
    pin: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pin {
            Some(pin) if !pin.eq_ignore_ascii_case(&fingerprint(certificate)) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
