//! The TLS side of the rail: its own certificate and, where wanted, a client certificate that must
//! be shown. One provider, *ring*; HTTP/1.1 alone.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use crate::{config::TlsFiles, error::SimError};

/// What accepts TLS connections with these certificates.
///
/// # Errors
/// If a file cannot be read or does not hold what it should.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, SimError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(fault)?;
    let builder = match &files.client_ca {
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.private_key).map_err(fault)?;
    let mut config = builder.with_single_cert(certificates(&files.certificate)?, key).map_err(fault)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn client_verifier(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, SimError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(fault)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(fault)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SimError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(fault)
}

fn fault(error: impl std::fmt::Display) -> SimError {
    SimError::Tls(error.to_string())
}
