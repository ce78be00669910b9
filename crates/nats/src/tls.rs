//! What TLS is made of: authorities to trust, a certificate of ours and its key.
//!
//! Files are read as a whole and checked before they are used ([`Tls::load`]), so that a file which is just being
//! written ends no connection that could be made with what is known.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::options::Tls;

/// Why files of TLS cannot be used. It repeats nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// Which file; none for the system's authorities.
    pub file: Option<PathBuf>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for TlsFault {}

/// The content of the files, checked.
#[derive(Clone, Debug)]
pub struct Material {
    verifier: Arc<WebPkiServerVerifier>,
    client: Option<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads the files, or the system's authorities where none are named.
    ///
    /// # Errors
    /// [`TlsFault`], of the first file that cannot be used.
    pub fn load(&self) -> Result<Material, TlsFault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in certificates(ca)? {
                    roots.add(certificate).map_err(|error| fault(ca, &error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|error| match &self.ca {
            Some(ca) => fault(ca, &error),
            None => TlsFault { file: None, reason: format!("the system's authorities: {error}") },
        })?;
        let client = match &self.client {
            None => None,
            Some((certificate, key_file)) => {
                let certificates = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| fault(key_file, &error))?;
                let pair = CertifiedKey::from_der(certificates, key, &provider);
                Some(Arc::new(pair.map_err(|error| fault(key_file, &error))?))
            }
        };
        Ok(Material { verifier, client })
    }
}

fn fault(file: &Path, reason: &dyn fmt::Display) -> TlsFault {
    TlsFault { file: Some(file.to_owned()), reason: reason.to_string() }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| fault(file, &error))?;
    if certificates.is_empty() {
        return Err(fault(file, &"it holds no certificate"));
    }
    Ok(certificates)
}

/// Material that can be replaced while a client uses it; each handshake takes what is there then.
#[derive(Debug)]
pub struct Replaceable(RwLock<Material>);

impl Replaceable {
    /// With this to begin with.
    #[must_use]
    pub fn new(material: Material) -> Arc<Self> {
        Arc::new(Self(RwLock::new(material)))
    }

    /// From now on.
    pub fn replace(&self, material: Material) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = material;
    }

    /// Settings for a client.
    ///
    /// # Errors
    /// The versions of TLS do not go with the provider of cryptography.
    pub fn config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesClientCert>);
        // A session that is resumed proves nothing anew, to neither side.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).verifier)
    }

    fn client(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }
}

impl ServerCertVerifier for Replaceable {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

impl ResolvesClientCert for Replaceable {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.client()
    }

    fn has_certs(&self) -> bool {
        self.client().is_some()
    }
}
