//! From `enqueue` to the ledger over a real HTTP rail: what the rail received, byte for byte, and what
//! the attempt row says of it. Faults of the rail are in `rail_answers`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use outbox_testkit::{CertFiles, Certs};
use rail_sim::{Received, Sim, SimConfig, TlsFiles};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::commands_binary::{OUTBOXD, end};
use crate::rig::{Daemon, RESEND, Rig};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Every byte value, behind a byte-order mark and between CRLFs.
fn hostile_payload() -> Vec<u8> {
    let mut payload = b"\xef\xbb\xbf\r\n".to_vec();
    payload.extend(0..=255_u8);
    payload.extend(b"\r\n\0\r\n");
    payload
}

/// Records one payment as a business transaction would.
pub(crate) async fn enqueue(rig: &Rig, instruction: &str, payload: &[u8]) -> Uuid {
    let sql = "select outbox_id from outbox.enqueue_payment_outbox('p', $1, $1, $2, $3, 'application/x-bank; v=\"1\"', \
               p_traceparent => $4)";
    let query = sqlx::query_scalar(sql).bind(instruction).bind(RESEND).bind(payload).bind(TRACEPARENT);
    query.fetch_one(&mut rig.db.connect_as("t_ingest").await.unwrap()).await.unwrap()
}

async fn attempt(rig: &Rig, id: Uuid, attempt_no: i32) -> PgRow {
    let sql = format!(
        "select a.*, i.created_at from outbox.payment_outbox_attempts a join outbox.payment_outbox_instructions i \
         using (outbox_id) where a.outbox_id = '{id}' and a.attempt_no = {attempt_no}"
    );
    rig.rows(&sql).await.remove(0)
}

/// The one request that the rail received with this key.
fn received(rig: &Rig, id: Uuid) -> Received {
    let all = rig.resend.received().unwrap();
    let mut ours = all.into_iter().filter(|received| received.key.as_deref() == Some(&*id.to_string()));
    let received = ours.next().unwrap();
    assert_eq!(ours.next(), None);
    received
}

/// SHA-256 over fields, each preceded by its length in 8 bytes, big-endian: the encoding of
/// `request_sha256` and `response_sha256` in docs/PROTOCOL.md, written anew.
fn fields_sha256(fields: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update(u64::try_from(field.len()).unwrap().to_be_bytes());
        hash.update(field);
    }
    hash.finalize().to_vec()
}

fn request_sha256(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let sorted: BTreeMap<String, &str> = headers.iter().map(|(name, value)| (name.to_lowercase(), *value)).collect();
    let count = u64::try_from(sorted.len()).unwrap().to_be_bytes();
    let mut fields: Vec<&[u8]> = vec![b"outbox-rail/request/1", b"POST", url.as_bytes(), &count];
    fields.extend(sorted.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
    fields.push(body);
    fields_sha256(&fields)
}

/// The hash of a certificate as TLS carries it.
pub(crate) fn der_sha256(pem: &Path) -> String {
    let text = fs::read_to_string(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    sha256(&base64::engine::general_purpose::STANDARD.decode(body).unwrap())
}

/// A rig whose rail `resend` is served over TLS with `server`, to clients of the right CA only.
async fn over_tls(key_header: &str, server: impl Fn(&Certs) -> CertFiles) -> (Rig, Certs) {
    let mut rig = Rig::start().await;
    let certs = Certs::new(rig.dir.path()).unwrap();
    let dir = rig.dir.path().join("tls");
    fs::create_dir(&dir).unwrap();
    rig.resend = tls_sim(&certs, server(&certs), &dir, key_header, ([127, 0, 0, 1], 0).into()).await;
    (rig, certs)
}

pub(crate) async fn tls_sim(
    certs: &Certs,
    server: CertFiles,
    dir: &Path,
    key_header: &str,
    listen: std::net::SocketAddr,
) -> Sim {
    let tls = TlsFiles { certificate: server.certificate, private_key: server.key, client_ca: Some(certs.ca.clone()) };
    let config = SimConfig { tls: Some(tls), key_header: key_header.to_owned(), listen, ..SimConfig::in_dir(dir) };
    Sim::start(config).await.unwrap()
}

fn secret(rig: &Rig, name: &str, text: &str) -> PathBuf {
    let path = rig.dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A daemon that trusts the CA and shows the client's certificate.
fn daemon(rig: &Rig, certs: &Certs, settings: &[String]) -> Daemon {
    let mut all = vec![
        format!("rails.resend.ca_file={}", certs.ca.display()),
        format!("rails.resend.client_cert_file={}", certs.client.certificate.display()),
        format!("rails.resend.client_key_file={}", certs.client.key.display()),
    ];
    all.extend_from_slice(settings);
    rig.daemon_with("a", rig.proxy.address(), &all)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rail_receives_the_bytes_the_headers_and_the_certificate_and_the_ledger_proves_it() {
    let (rig, certs) = over_tls("X-Payment-Key", |certs| certs.server.clone()).await;
    let token = secret(&rig, "token", "canary-one\n");
    let daemon = daemon(
        &rig,
        &certs,
        &[
            "rails.resend.key_header=X-Payment-Key".to_owned(),
            "rails.resend.key_format=bare".to_owned(),
            "rails.resend.headers={X-Participant = \"BANK\"}".to_owned(),
            format!(
                "rails.resend.secret_headers.Authorization={{file = \"{}\", prefix = \"Bearer \"}}",
                token.display()
            ),
        ],
    );
    let payload = hostile_payload();
    let id = enqueue(&rig, "first", &payload).await;
    rig.settled().await;

    let got = received(&rig, id);
    assert_eq!((got.path.as_str(), got.key_quoted), ("/payments", false));
    assert_eq!((got.body_sha256, got.body_bytes), (sha256(&payload), payload.len() as u64));
    assert_eq!(got.content_type.as_deref(), Some("application/x-bank; v=\"1\""));
    assert_eq!((got.content_encoding, got.traceparent.as_deref()), (None, Some(TRACEPARENT)));
    assert_eq!(got.authorization_sha256, Some(sha256(b"Bearer canary-one")));
    assert_eq!(got.client_certificate_sha256, Some(der_sha256(&certs.client.certificate)));

    // The ledger, recomputed from what was agreed.
    let row = attempt(&rig, id, 1).await;
    let url = format!("{}/payments", rig.resend.url());
    let key = id.to_string();
    let headers = [
        ("content-type", "application/x-bank; v=\"1\""),
        ("accept-encoding", "identity"),
        ("x-payment-key", &*key),
        ("traceparent", TRACEPARENT),
        ("x-participant", "BANK"),
    ];
    assert_eq!(row.get::<Vec<u8>, _>("request_sha256"), request_sha256(&url, &headers, &payload));
    let reference = rig.resend.effects().unwrap()[0].reference.clone();
    let answer = format!("{{\"reference\":\"{reference}\",\"status\":\"ACCEPTED\"}}");
    let status = 201_u16.to_be_bytes();
    let answered = fields_sha256(&[b"outbox-rail/response/1", &status, answer.as_bytes()]);
    assert_eq!(row.get::<Vec<u8>, _>("response_sha256"), answered);
    assert_eq!(
        (row.get::<String, _>("state"), row.get::<String, _>("rail_reference")),
        ("DISPATCHED".into(), reference)
    );
    assert_eq!(row.get::<String, _>("endpoint"), url);
    let time = |name: &str| row.get::<OffsetDateTime, _>(name);
    let times = ["created_at", "claimed_at", "first_byte_at", "last_byte_at", "completed_at"].map(time);
    assert!(times.is_sorted(), "{times:?}");

    // A rotated secret is in use from the next payment on, whether it was written over or renamed into place.
    secret(&rig, "token", "canary-two");
    let second = enqueue(&rig, "second", b"2").await;
    rig.settled().await;
    assert_eq!(received(&rig, second).authorization_sha256, Some(sha256(b"Bearer canary-two")));
    fs::rename(secret(&rig, "next", "canary-three"), &token).unwrap();
    let third = enqueue(&rig, "third", b"3").await;
    rig.settled().await;
    assert_eq!(received(&rig, third).authorization_sha256, Some(sha256(b"Bearer canary-three")));
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_with_another_name_gets_nothing_and_the_payment_waits_for_the_right_one() {
    let (mut rig, certs) = over_tls("Idempotency-Key", |certs| certs.server_other_name.clone()).await;
    let daemon = daemon(&rig, &certs, &[]);
    let id = enqueue(&rig, "first", b"1").await;
    rig.until(
        "three attempts",
        &format!("select count(*) >= 3 from outbox.payment_outbox_attempts where outbox_id = '{id}'"),
    )
    .await;
    assert_eq!((rig.resend.stats().requests, rig.resend.stats().bodies), (0, 0));
    let row = attempt(&rig, id, 1).await;
    let found = (row.get::<String, _>("state"), row.get::<String, _>("outcome"), row.get::<String, _>("error_class"));
    assert_eq!(found, ("RETRYABLE".into(), "NOT_SENT".into(), "tls".into()));
    assert!(row.get::<Option<OffsetDateTime>, _>("first_byte_at").is_none());
    let sql = "select disposition || ' ' || send_count from outbox.payment_outbox_pending";
    assert_eq!(rig.value::<String>(sql).await, "READY 0", "the rail's fault was counted against the payment");

    // The same address, with the right certificate.
    let listen = rig.resend.addr();
    let dir = rig.dir.path().join("tls");
    let spare = rig.dir.path().join("spare");
    fs::create_dir(&spare).unwrap();
    let spare = Sim::start(SimConfig::in_dir(&spare)).await.unwrap();
    std::mem::replace(&mut rig.resend, spare).stop().await;
    rig.resend = tls_sim(&certs, certs.server.clone(), &dir, "Idempotency-Key", listen).await;
    rig.settled().await;
    assert_eq!(received(&rig, id).client_certificate_sha256, Some(der_sha256(&certs.client.certificate)));
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_messages_arrives_file_by_file_and_byte_by_byte() {
    let rig = Rig::start().await;
    let daemon = rig.daemon("a");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages");
    let mut command = std::process::Command::new(OUTBOXD);
    command.arg("enqueue").arg(&fixtures).args(["--rail", RESEND, "--participant", "bank", "--output", "json"]);
    command.env_clear().env("HOME", rig.dir.path()).env("DATABASE_URL", rig.db.url("t_ingest"));
    assert_eq!(end(&mut command, b"").json()["enqueued"], 4);
    rig.settled().await;
    let mut messages: Vec<(String, u64)> = Vec::new();
    for entry in fs::read_dir(&fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            let bytes = fs::read(&path).unwrap();
            messages.push((sha256(&bytes), bytes.len() as u64));
        }
    }
    let got = rig.resend.received().unwrap();
    let mut arrived: Vec<(String, u64)> = got.iter().map(|r| (r.body_sha256.clone(), r.body_bytes)).collect();
    messages.sort();
    arrived.sort();
    assert_eq!(arrived, messages);
    assert!(got.iter().all(|r| r.content_type.as_deref() == Some("application/xml") && r.key_quoted));
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_in_a_header_is_one() {
    let rig = Rig::start().await;
    let settings = ["rails.resend.reference_json_pointer=/nowhere", "rails.resend.reference_header=Rail-Reference"];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    let id = rig.enqueue(RESEND, 1).await[0];
    rig.settled().await;
    let reference = rig.resend.effects().unwrap()[0].reference.clone();
    assert_eq!(attempt(&rig, id, 1).await.get::<String, _>("rail_reference"), reference);
    rig.all_dispatched().await;
    daemon.stop().await;
}
