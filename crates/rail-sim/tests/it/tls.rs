//! The rail over TLS: who it lets in, and that faults come through the encryption.

use std::path::PathBuf;

use rail_sim::{Delivery, Fault, Script, Sim, SimConfig, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity};
use tempfile::TempDir;

use crate::raw::within;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn client(&self, identity: Option<(String, String)>) -> Client {
        let root = Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        let mut builder = Client::builder().tls_certs_only([root]).no_proxy();
        if let Some((certificate, key)) = identity {
            builder = builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}

fn write(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

async fn rail(dir: &TempDir, authority: &Authority, client_ca: Option<&Authority>, script: Script) -> Sim {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (certificate, key) = authority.issue("localhost");
    let tls = Some(TlsFiles {
        certificate: write(dir, "rail.pem", &certificate),
        private_key: write(dir, "rail.key", &key),
        client_ca: client_ca.map(|authority| write(dir, "clients.pem", &authority.0.pem())),
    });
    Sim::start(SimConfig { tls, script, ..SimConfig::in_dir(dir.path()) }).await.unwrap()
}

async fn pay(client: &Client, sim: &Sim, key: &str) -> reqwest::Result<reqwest::Response> {
    let url = format!("https://localhost:{}/pay", sim.addr().port());
    within(client.post(url).header("Idempotency-Key", key).header("Authorization", "Bearer x").body("body").send())
        .await
}

#[tokio::test]
async fn a_payment_over_tls_is_executed_and_its_secret_header_is_only_hashed() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let sim = rail(&dir, &authority, None, Script::default()).await;
    assert!(sim.url().starts_with("https://"));
    assert_eq!(pay(&authority.client(None), &sim, "k").await.unwrap().status(), 201);
    let received = sim.received().unwrap().remove(0);
    // sha256("Bearer x"), from another implementation.
    assert_eq!(
        received.authorization_sha256.as_deref(),
        Some("b937a6fd6074f3650930dd9a8c3ea51fa502846a5301d74c252c768aef76dcda")
    );
    assert_eq!(received.client_certificate_sha256, None);
    let text = std::fs::read_to_string(dir.path().join("received.jsonl")).unwrap();
    assert!(!text.contains("Bearer"));
    sim.stop().await;
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_get_in() {
    let (dir, authority, clients) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let sim = rail(&dir, &authority, Some(&clients), Script::default()).await;
    assert!(pay(&authority.client(None), &sim, "a").await.is_err());
    let stranger = Authority::new().issue("stranger");
    assert!(pay(&authority.client(Some(stranger)), &sim, "b").await.is_err());
    assert_eq!((sim.effects().unwrap().len(), sim.received().unwrap().len()), (0, 0));
    let known = clients.issue("dispatcher");
    assert_eq!(pay(&authority.client(Some(known)), &sim, "c").await.unwrap().status(), 201);
    let received = sim.received().unwrap().remove(0);
    assert_eq!(received.client_certificate_sha256.map(|hash| hash.len()), Some(64));
    sim.stop().await;
}

#[tokio::test]
async fn faults_come_through_the_encryption() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let script = Script::by_order([Fault::Reset, Fault::Truncate, Fault::ResetBefore, Fault::None]);
    let sim = rail(&dir, &authority, None, script).await;
    let client = authority.client(None);
    for key in ["a", "b"] {
        let answer = pay(&client, &sim, key).await.unwrap();
        assert_eq!(answer.status(), 201);
        assert!(within(answer.bytes()).await.is_err());
    }
    assert!(pay(&client, &sim, "c").await.is_err());
    assert_eq!(pay(&client, &sim, "d").await.unwrap().status(), 201);
    let deliveries: Vec<_> = sim.answers().unwrap().iter().map(|answer| answer.delivery).collect();
    let expected = [Delivery::Reset, Delivery::Truncated, Delivery::ResetBefore, Delivery::Whole];
    assert_eq!(deliveries, expected);
    assert_eq!(sim.effects().unwrap().len(), 3);
    sim.stop().await;
}
