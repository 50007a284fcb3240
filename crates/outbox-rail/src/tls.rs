//! TLS towards a rail: whom we trust and as whom we present ourselves. Certificate and key files are
//! read again when they change, for the next connection. No early data: it may be replayed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;

use crate::credential::{self, Stamp};
use crate::error::RailError;
use crate::settings::{TlsSettings, WorldReadable};

/// Presents our certificate, if any, and remembers that it was asked for one.
#[derive(Debug)]
struct Presenter {
    identity: Option<Arc<CertifiedKey>>,
    was_asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Presenter {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        // Asked even without a certificate, so that it is known that one was wanted.
        true
    }
}

struct Loaded {
    stamps: Vec<Stamp>,
    client: Arc<ClientConfig>,
}

/// The TLS configuration of one rail.
pub(crate) struct Tls {
    settings: TlsSettings,
    world_readable: WorldReadable,
    was_asked: Arc<AtomicBool>,
    loaded: Mutex<Loaded>,
}

impl Tls {
    pub(crate) fn load(settings: TlsSettings, world_readable: WorldReadable) -> Result<Self, RailError> {
        let was_asked = Arc::new(AtomicBool::new(false));
        let loaded = Mutex::new(load(&settings, world_readable, &was_asked)?);
        Ok(Self { settings, world_readable, was_asked, loaded })
    }

    /// The configuration with the files as they are now.
    pub(crate) fn current(&self) -> Result<Arc<ClientConfig>, RailError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps(&self.settings)? != loaded.stamps {
            *loaded = load(&self.settings, self.world_readable, &self.was_asked)?;
        }
        Ok(Arc::clone(&loaded.client))
    }

    /// The name that the rail's certificate must carry, where it is not the URL's host.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.settings.server_name.as_deref()
    }

    /// Whether this rail has ever asked for our certificate.
    pub(crate) fn rail_asks_for_certificate(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }
}

fn paths(settings: &TlsSettings) -> impl Iterator<Item = &Path> {
    let identity = settings.client_certificate.as_ref();
    settings
        .ca_file
        .as_deref()
        .into_iter()
        .chain(identity.map(|i| i.certificate_file.as_path()))
        .chain(identity.map(|i| i.key_file.as_path()))
}

fn stamps(settings: &TlsSettings) -> Result<Vec<Stamp>, RailError> {
    paths(settings).map(credential::stamp).collect()
}

fn load(
    settings: &TlsSettings,
    world_readable: WorldReadable,
    was_asked: &Arc<AtomicBool>,
) -> Result<Loaded, RailError> {
    // Before the files: one that changes meanwhile is then read once more, never missed.
    let stamps = stamps(settings)?;
    let provider = Arc::new(ring::default_provider());
    let roots = roots(settings.ca_file.as_deref())?;
    let identity = identity(settings, world_readable, &provider)?;
    let presenter = Presenter { identity, was_asked: Arc::clone(was_asked) };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RailError::Tls { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(presenter));
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    client.enable_early_data = false;
    Ok(Loaded { stamps, client: Arc::new(client) })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, RailError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|_| bad_pem(path, "holds a certificate that is none"))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(RailError::Tls {
                reason: "the operating system has no certificate authorities, and no ca_file is set".to_owned(),
            });
        }
    }
    Ok(roots)
}

fn identity(
    settings: &TlsSettings,
    world_readable: WorldReadable,
    provider: &CryptoProvider,
) -> Result<Option<Arc<CertifiedKey>>, RailError> {
    let Some(ours) = &settings.client_certificate else { return Ok(None) };
    let chain = certificates(&ours.certificate_file)?;
    let (pem, _) = credential::read(&ours.key_file, world_readable)?;
    let key = PrivateKeyDer::from_pem_slice(pem.expose_secret())
        .map_err(|_| bad_pem(&ours.key_file, "holds no private key in PEM"))?;
    let key =
        CertifiedKey::from_der(chain, key, provider).map_err(|error| RailError::Tls { reason: error.to_string() })?;
    Ok(Some(Arc::new(key)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RailError> {
    // Certificates are public; only the key is guarded.
    let (pem, _) = credential::read(path, WorldReadable::Allow)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret()).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(bad_pem(path, "holds no certificates in PEM")),
    }
}

fn bad_pem(path: &Path, reason: &'static str) -> RailError {
    RailError::Credential { path: path.to_owned(), reason, source: None }
}
