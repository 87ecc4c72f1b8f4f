//! Whom a connection trusts: the CA that it was given, else those of the system.

use crate::Error;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{io, path::Path, sync::Arc};

/// A configuration that trusts the CAs in `ca_file` (PEM), or those of the system.
pub(crate) fn config(ca_file: Option<&Path>, is_insecure: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup("TLS", io::Error::other(error)))?;
    if is_insecure {
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth());
    }
    let roots = match ca_file {
        Some(path) => of_file(path)?,
        None => of_system(),
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn setup(what: impl Into<String>, source: io::Error) -> Error {
    Error::Setup {
        what: what.into(),
        source,
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, Error> {
    let what = || format!("the CA file {}", path.display());
    let pem = std::fs::read(path).map_err(|error| setup(what(), error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| setup(what(), io::Error::other(error)))?;
        roots
            .add(certificate)
            .map_err(|error| setup(what(), io::Error::other(error)))?;
    }
    if roots.is_empty() {
        return Err(setup(what(), io::Error::other("it holds no certificate in PEM form")));
    }
    Ok(roots)
}

/// A host without certificates can still use plain HTTP, so it is no error here; a TLS server is not trusted then.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    if ignored > 0 {
        tracing::debug!(ignored, "certificates of the system were left out");
    }
    roots
}

/// Accepts whatever the server shows; only signatures are checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _server: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
