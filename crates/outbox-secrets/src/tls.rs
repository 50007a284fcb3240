//! Whom we trust as the server: the operating system's authorities, or those of one file and then no others. There is no way
//! to trust everybody.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::SecretsError;

/// The configuration that trusts the authorities in `ca_pem`.
pub(crate) fn client(ca_pem: Option<&[u8]>) -> Result<ClientConfig, SecretsError> {
    let fault = |reason: &str| SecretsError::Setting { setting: "ca_file", reason: reason.to_owned() };
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| fault("holds a block of PEM that is broken or cut off"))?;
                roots.add(certificate).map_err(|_| fault("holds a certificate that is none"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(fault(
            "there is no authority to trust: it holds none, or is not set and the operating system has none",
        ));
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| fault(&error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
