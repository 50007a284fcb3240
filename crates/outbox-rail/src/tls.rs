//! TLS towards a rail: whom we trust and as whom we present ourselves. Certificate and key files are
//! read again when they change, for the next connection. No early data: it may be replayed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretSlice};

use crate::credential::{self, Stamp};
use crate::error::RailError;
use crate::pem::{self, PemFault};
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
    /// How often the files were loaded before.
    generation: u64,
    client: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// The TLS configuration of one rail.
pub(crate) struct Tls {
    settings: TlsSettings,
    server_name: ServerName<'static>,
    world_readable: WorldReadable,
    was_asked: Arc<AtomicBool>,
    loaded: Mutex<Loaded>,
}

impl Tls {
    /// The configuration for a rail at `host`.
    pub(crate) fn load(settings: TlsSettings, host: &str, world_readable: WorldReadable) -> Result<Self, RailError> {
        let name = settings.server_name.as_deref().unwrap_or(host).to_owned();
        let server_name = ServerName::try_from(name).map_err(|_| RailError::Setting {
            setting: "server_name",
            reason: "is neither a name nor an address that a certificate can carry",
        })?;
        let was_asked = Arc::new(AtomicBool::new(false));
        let loaded = Mutex::new(load(&settings, world_readable, &was_asked)?);
        Ok(Self { settings, server_name, world_readable, was_asked, loaded })
    }

    /// The configuration with the files as they are now.
    pub(crate) fn current(&self) -> Result<Arc<ClientConfig>, RailError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps(&self.settings)? != loaded.stamps {
            let generation = loaded.generation + 1;
            *loaded = Loaded { generation, ..load(&self.settings, self.world_readable, &self.was_asked)? };
        }
        Ok(Arc::clone(&loaded.client))
    }

    /// Which loading of the files a connection is opened with now. Where they cannot be read, it is that of the last
    /// time: who opens a connection is told.
    pub(crate) fn generation(&self) -> u64 {
        drop(self.current());
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// What judges the rail's certificate, as of the last connection.
    pub(crate) fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner).verifier)
    }

    /// The name that the rail's certificate must carry.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
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
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| RailError::Tls { reason: error.to_string() })?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RailError::Tls { reason: error.to_string() })?
        .with_webpki_verifier(Arc::clone(&verifier))
        .with_client_cert_resolver(Arc::new(presenter));
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    client.enable_early_data = false;
    Ok(Loaded { stamps, generation: 0, client: Arc::new(client), verifier })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, RailError> {
    if let Some(path) = ca_file {
        return pem::authorities(read_public(path)?.expose_secret()).map_err(bad_pem(path));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(RailError::Tls {
            reason: "the operating system has no certificate authorities, and no ca_file is set".to_owned(),
        });
    }
    Ok(roots)
}

fn identity(
    settings: &TlsSettings,
    world_readable: WorldReadable,
    provider: &CryptoProvider,
) -> Result<Option<Arc<CertifiedKey>>, RailError> {
    let Some(ours) = &settings.client_certificate else { return Ok(None) };
    let certificate = read_public(&ours.certificate_file)?;
    pem::check_certificates(certificate.expose_secret()).map_err(bad_pem(&ours.certificate_file))?;
    let (key, _) = credential::read(&ours.key_file, world_readable)?;
    let identity = pem::identity(certificate.expose_secret(), key.expose_secret(), provider);
    Ok(Some(Arc::new(identity.map_err(bad_pem(&ours.key_file))?)))
}

/// Certificates are public; only the key is guarded.
fn read_public(path: &Path) -> Result<SecretSlice<u8>, RailError> {
    credential::read(path, WorldReadable::Allow).map(|(content, _)| content)
}

fn bad_pem(path: &Path) -> impl FnOnce(PemFault) -> RailError {
    move |fault| RailError::Pem { path: path.to_owned(), fault }
}
