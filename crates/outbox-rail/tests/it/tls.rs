//! TLS towards rails that cannot prove who they are, or do not take us for whom we are.

use std::path::PathBuf;
use std::sync::Arc;

use outbox_core::Outcome;
use outbox_rail::{ClientCertificate, HttpRailSettings, Rail, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::hostile::{ACCEPTED, Ending, Hostile, always, permitted, rail, send, settings, submission, submit};

/// An authority, and the files that a rail's settings name.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// Whether the rail asks for our certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    No,
    Yes,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        // Two authorities of one name would be told apart by their signatures only.
        params.distinguished_name.push(rcgen::DnType::CommonName, uuid::Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
        let directory = tempfile::tempdir().expect("directory");
        let authority = Self { issuer, directory };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        path
    }

    fn issue(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let key = KeyPair::generate().expect("key");
        (params.signed_by(&key, &self.issuer).expect("certificate"), key)
    }

    /// A rail's TLS with a certificate for `name`.
    pub(crate) fn acceptor(
        &self,
        name: &str,
        asks: Asks,
        versions: &[&'static SupportedProtocolVersion],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let (certificate, key) = self.issue(name, edit);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("versions");
        let builder = if asks == Asks::Yes {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        builder.with_single_cert(vec![certificate.der().clone()], key).expect("certificate")
    }

    /// Our side: this authority trusted, `client` presented.
    pub(crate) fn trusted(&self, client: Option<ClientCertificate>) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.directory.path().join("ca.pem")),
            client_certificate: client,
            server_name: None,
        }
    }

    fn client(&self) -> ClientCertificate {
        let (certificate, key) = self.issue("daemon.example", |_| {});
        ClientCertificate {
            certificate_file: self.write("client.pem", &certificate.pem()),
            key_file: self.write("client.key", &key.serialize_pem()),
        }
    }
}

const BOTH: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;
const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(crate) async fn secured(config: ServerConfig) -> Hostile {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Hostile::start(Some(acceptor), Ending::Orderly, |_, peer| always(peer, Arc::new(ACCEPTED.to_vec()))).await
}

pub(crate) fn https(hostile: &Hostile, tls: TlsSettings) -> HttpRailSettings {
    HttpRailSettings { tls, ..settings(format!("https://localhost:{}/pay", hostile.address.port())) }
}

async fn check_refused_by_us(hostile: &Hostile, tls: TlsSettings, words: &str) {
    let report = submit(https(hostile, tls)).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("tls")), "{report:?}");
    let detail = report.error_detail.unwrap_or_default();
    assert!(detail.to_lowercase().contains(words), "{detail}");
    assert_eq!(hostile.bytes(), 0);
}

#[tokio::test]
async fn a_rail_under_the_private_authority_is_paid() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        let hostile = secured(authority.acceptor("localhost", Asks::No, versions, |_| {})).await;
        let rail = rail(https(&hostile, authority.trusted(None)));
        for _ in 0..2 {
            let report = send(&rail, "{}").await;
            assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        }
        assert_eq!((hostile.connections(), hostile.requests().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_rail_under_another_authority_is_not_sent_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let hostile = secured(theirs.acceptor("localhost", Asks::No, BOTH, |_| {})).await;
    check_refused_by_us(&hostile, ours.trusted(None), "unknownissuer").await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_sent_to() {
    let authority = Authority::new();
    let hostile = secured(authority.acceptor("other.example", Asks::No, BOTH, |_| {})).await;
    check_refused_by_us(&hostile, authority.trusted(None), "not valid for name").await;
    let tls = TlsSettings { server_name: Some("other.example".to_owned()), ..authority.trusted(None) };
    assert_eq!(submit(https(&hostile, tls)).await.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn an_expired_certificate_is_not_sent_to() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let hostile = secured(authority.acceptor("localhost", Asks::No, BOTH, expired)).await;
    check_refused_by_us(&hostile, authority.trusted(None), "expired").await;
}

#[tokio::test]
async fn a_rail_that_speaks_no_tls_is_not_sent_to() {
    let authority = Authority::new();
    let hostile = Hostile::answering(ACCEPTED).await;
    let report = submit(HttpRailSettings {
        connect_timeout: outbox_core::Millis(500),
        ..https(&hostile, authority.trusted(None))
    })
    .await;
    assert_eq!(report.outcome, Outcome::NotSent, "{report:?}");
    assert!(hostile.requests().is_empty());
}

#[tokio::test]
async fn our_certificate_is_presented_and_read_again_when_it_changes() {
    let authority = Authority::new();
    let hostile = secured(authority.acceptor("localhost", Asks::Yes, BOTH, |_| {})).await;
    let client = authority.client();
    let key_file = client.key_file.clone();
    let settings = HttpRailSettings {
        pool_idle_timeout: outbox_core::Millis::ZERO,
        ..https(&hostile, authority.trusted(Some(client)))
    };
    let rail = rail(settings);
    assert_eq!(send(&rail, "{}").await.outcome, Outcome::Accepted);
    let other = KeyPair::generate().expect("key").serialize_pem();
    authority.write(key_file.file_name().expect("name").to_str().expect("utf-8"), &other);
    let report = send(&rail, "{}").await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("credential")), "{report:?}");
    authority.client();
    assert_eq!(send(&rail, "{}").await.outcome, Outcome::Accepted);
    assert_eq!(hostile.requests().len(), 2);
}

#[tokio::test]
async fn a_connection_of_a_certificate_that_was_replaced_is_not_used_again() {
    let authority = Authority::new();
    let hostile = secured(authority.acceptor("localhost", Asks::Yes, BOTH, |_| {})).await;
    let rail = rail(https(&hostile, authority.trusted(Some(authority.client()))));
    for (replaced, connections) in [(false, 1), (false, 1), (true, 2), (false, 2)] {
        if replaced {
            authority.client();
        }
        assert_eq!(send(&rail, "{}").await.outcome, Outcome::Accepted);
        assert_eq!(hostile.connections(), connections);
    }
}

#[tokio::test]
async fn a_rail_that_wants_our_certificate_and_gets_none_is_not_sent_to() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        let hostile = secured(authority.acceptor("localhost", Asks::Yes, versions, |_| {})).await;
        let rail = rail(https(&hostile, authority.trusted(None)));
        // In TLS 1.3 our side of the handshake is done before the rail refuses: without the wait for its
        // verdict, every payment would be unknown.
        let class = if versions[0].version == ProtocolVersion::TLSv1_3 { "tls_refused" } else { "tls" };
        for _ in 0..3 {
            let report = rail.submit(submission("{}"), permitted()).await;
            assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some(class)), "{report:?}");
            assert!(report.error_detail.is_some(), "the alert is named");
        }
        assert_eq!(hostile.bytes(), 0);
    }
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_not_sent_with() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let hostile = secured(theirs.acceptor("localhost", Asks::Yes, TLS13, |_| {})).await;
    let report = submit(https(&hostile, theirs.trusted(Some(ours.client())))).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("tls_refused")), "{report:?}");
    assert_eq!(hostile.bytes(), 0);
}
