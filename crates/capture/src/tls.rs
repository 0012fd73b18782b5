//! TLS to PostgreSQL with the meanings that libpq gives to `sslmode` and its companions.
//!
//! tokio-postgres knows three modes and verifies nothing itself; what a mode promises is built here
//! from rustls. Called by `connect.rs`.

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use thiserror::Error;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How much a connection insists on TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only where the server refuses to go without.
    Allow,
    /// Where the server offers it.
    Prefer,
    /// Always, with whoever answers; with a root certificate given, as [`SslMode::VerifyCa`].
    Require,
    /// Always, with a server that a trusted authority has certified.
    VerifyCa,
    /// The same, and the certificate names the host we asked for.
    VerifyFull,
}

impl SslMode {
    /// The mode of libpq's name for it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nothing was said: the authorities browsers trust.
    Unset,
    /// `sslrootcert=system`: the machine's own list, else the authorities browsers trust.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// A client certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A mode with everything it needs, ready to connect.
#[derive(Clone)]
pub struct Tls {
    mode: SslMode,
    connector: MakeRustlsConnect,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// TLS cannot be set up as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("read {what} from {}", path.display())]
    File {
        /// Which URL parameter named the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A PEM file holds nothing of use.
    #[error("{} holds no certificate (sslrootcert)", path.display())]
    NoRoots {
        /// The file.
        path: PathBuf,
    },
    /// `sslrootcert=system` with a mode that would not use it.
    #[error("sslrootcert=system needs sslmode=verify-full")]
    SystemRootsNeedVerifyFull,
    /// The certificate and key do not fit together, or a root is unusable.
    #[error("set up TLS")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Tls {
    /// Without TLS.
    #[must_use]
    pub fn disabled() -> Self {
        let config = builder(&provider())
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider())))
            .with_no_client_auth();
        Self {
            mode: SslMode::Disable,
            connector: MakeRustlsConnect::new(config),
        }
    }

    /// Reads the files named and builds what `mode` promises.
    pub(crate) fn new(
        mode: SslMode,
        roots: &Roots,
        identity: Option<&Identity>,
    ) -> Result<Self, TlsError> {
        if *roots == Roots::System && mode != SslMode::VerifyFull {
            return Err(TlsError::SystemRootsNeedVerifyFull);
        }
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = match (mode, roots) {
            (SslMode::Disable, _) => return Ok(Self::disabled()),
            (SslMode::Allow | SslMode::Prefer | SslMode::Require, Roots::Unset) => {
                Arc::new(Anyone(Arc::clone(&provider)))
            }
            (SslMode::VerifyFull, _) => chain_verifier(roots, &provider)?,
            (SslMode::Allow | SslMode::Prefer | SslMode::Require | SslMode::VerifyCa, _) => {
                Arc::new(AnyName(chain_verifier(roots, &provider)?))
            }
        };
        let builder = builder(&provider)
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates("sslcert", &identity.certificate)?;
                let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|source| {
                    TlsError::File {
                        what: "sslkey",
                        path: identity.key.clone(),
                        source,
                    }
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsError::Unusable(Box::new(error)))?
            }
        };
        Ok(Self {
            mode,
            connector: MakeRustlsConnect::new(config),
        })
    }

    /// What was asked for.
    #[must_use]
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// For `tokio_postgres::Config::connect`.
    pub(crate) fn connector(&self) -> MakeRustlsConnect {
        self.connector.clone()
    }
}

/// Named at every use: a process-wide default would panic once two providers are compiled in.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions")
}

fn certificates(
    what: &'static str,
    path: &PathBuf,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        what,
        path: path.clone(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// Where distributions keep the machine's list of authorities.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

fn chain_verifier(
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    let file = match roots {
        Roots::Unset => None,
        Roots::System => SYSTEM_BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists()),
        Roots::File(path) => Some(path.clone()),
    };
    match file {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let (usable, _unusable) =
                store.add_parsable_certificates(certificates("sslrootcert", &path)?);
            if usable == 0 {
                return Err(TlsError::NoRoots { path });
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Unusable(Box::new(error)))
}

/// Encrypts with whoever answers, as libpq does for `require` without a root certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain, not the host name: `verify-ca`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The inner verifier looks at the name last, so a complaint about it means a good chain.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
