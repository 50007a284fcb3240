//! Authorities, certificates and keys in PEM, and the name that a certificate must carry: whether they can
//! be used. A configuration is checked with the same functions. Reading files is not done here.

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// What is wrong with the content of a file. It shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PemFault {
    /// There is no certificate.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// A block has no end, or is not base64.
    #[error("holds a block of PEM that is broken or cut off")]
    Broken,
    /// A block that says it is a certificate holds something else.
    #[error("holds a certificate that is none")]
    NotACertificate,
    /// There is no key.
    #[error("holds no private key in PEM that is not encrypted")]
    NoKey,
    /// The key is of no kind that TLS signs with.
    #[error("holds a private key that cannot be used; RSA, ECDSA and Ed25519 can")]
    UnusableKey,
    /// The key is another certificate's.
    #[error("holds the private key of another certificate")]
    OtherKey,
}

/// Whether `pem` holds authorities to trust, and all of them can be used.
///
/// # Errors
/// The first [`PemFault`].
pub fn check_authorities(pem: &[u8]) -> Result<(), PemFault> {
    authorities(pem).map(drop)
}

/// Whether `pem` holds a chain of certificates to present. Only the first is looked into: what the others
/// say is for the other side to judge.
///
/// # Errors
/// The first [`PemFault`].
pub fn check_certificates(pem: &[u8]) -> Result<(), PemFault> {
    let chain = certificates(pem)?;
    ParsedCertificate::try_from(&chain[0]).map(drop).map_err(|_| PemFault::NotACertificate)
}

/// Whether `key_pem` holds a private key, and the one of the certificate in `certificate_pem`.
///
/// # Errors
/// The first [`PemFault`], the key's own first.
pub fn check_identity(certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), PemFault> {
    identity(certificate_pem, key_pem, &ring::default_provider()).map(drop)
}

/// SHA-256 over the first certificate of a chain, DER: by what it is known on deny lists.
///
/// # Errors
/// The first [`PemFault`].
pub fn fingerprint(certificate_pem: &[u8]) -> Result<[u8; 32], PemFault> {
    check_certificates(certificate_pem)?;
    Ok(Sha256::digest(&certificates(certificate_pem)?[0]).into())
}

/// Whether `name` is a name or an address that a certificate can carry.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore, PemFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|_| PemFault::NotACertificate)?;
    }
    Ok(roots)
}

pub(crate) fn identity(
    certificate_pem: &[u8],
    key_pem: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, PemFault> {
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| PemFault::NoKey)?;
    let chain = certificates(certificate_pem)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PemFault::OtherKey,
        rustls::Error::InvalidCertificate(_) => PemFault::NotACertificate,
        _ => PemFault::UnusableKey,
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = parsed.map_err(|_| PemFault::Broken)?;
    if certificates.is_empty() { Err(PemFault::NoCertificate) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["rail.example".to_owned()]).expect("certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_no_certificate_is_told_apart() {
        let (certificate, key) = issue();
        let cut = &certificate[..certificate.len() / 2];
        let other = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
        for (pem, fault) in [
            (certificate.clone(), None),
            (format!("{certificate}{certificate}"), None),
            (key, Some(PemFault::NoCertificate)),
            ("certificate".to_owned(), Some(PemFault::NoCertificate)),
            (cut.to_owned(), Some(PemFault::Broken)),
            (format!("{certificate}{cut}"), Some(PemFault::Broken)),
            (other.to_owned(), Some(PemFault::NotACertificate)),
        ] {
            assert_eq!(check_authorities(pem.as_bytes()).err(), fault, "{pem}");
            assert_eq!(check_certificates(pem.as_bytes()).err(), fault, "{pem}");
        }
        let second = format!("{certificate}{other}");
        assert_eq!(check_authorities(second.as_bytes()).err(), Some(PemFault::NotACertificate));
    }

    #[test]
    fn a_fingerprint_is_of_the_first_certificate_in_der() {
        let made =
            [(); 2].map(|()| rcgen::generate_simple_self_signed(vec!["rail.example".to_owned()]).expect("certificate"));
        let expected: [u8; 32] = Sha256::digest(made[0].cert.der()).into();
        let chain = format!("{}{}", made[0].cert.pem(), made[1].cert.pem());
        assert_eq!(fingerprint(chain.as_bytes()), Ok(expected));
        assert_eq!(fingerprint(made[0].signing_key.serialize_pem().as_bytes()), Err(PemFault::NoCertificate));
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_told_apart() {
        let ((certificate, key), (_, other_key)) = (issue(), issue());
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let unknown = "-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----\n";
        for (key, fault) in [
            (key.as_str(), None),
            (&other_key, Some(PemFault::OtherKey)),
            (&certificate, Some(PemFault::NoKey)),
            (&encrypted, Some(PemFault::NoKey)),
            (unknown, Some(PemFault::UnusableKey)),
        ] {
            assert_eq!(check_identity(certificate.as_bytes(), key.as_bytes()).err(), fault, "{fault:?}");
        }
        assert_eq!(check_identity(b"none", key.as_bytes()).err(), Some(PemFault::NoCertificate));
    }
}
