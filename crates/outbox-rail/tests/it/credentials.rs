//! Credential files: refused by name when they are of no use, read again when they change, never shown.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use outbox_core::{Millis, Outcome};
use outbox_rail::{
    ClientCertificate, HttpRail, HttpRailSettings, Rail, SecretHeader, Submission, TlsSettings, WorldReadable,
};

use crate::hostile::{ACCEPTED, Ending, Hostile, permitted, rail, send, settings, submission};

const SECRET: &str = "CANARY-SECRET-9f3b";
const PAYLOAD: &str = "CANARY-PAYLOAD-77aa";

fn file(directory: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(name);
    let mut file = std::fs::File::create(&path).expect("create");
    file.write_all(content).expect("write");
    file.set_permissions(std::fs::Permissions::from_mode(mode)).expect("mode");
    path
}

fn bearer(file: PathBuf) -> Vec<SecretHeader> {
    vec![SecretHeader { name: "Authorization".to_owned(), prefix: "Bearer ".to_owned(), file }]
}

#[test]
fn a_useless_credential_file_is_refused_by_its_path() {
    let directory = tempfile::tempdir().expect("directory");
    let at = directory.path();
    for (path, words) in [
        (at.join("missing"), "cannot be read"),
        (at.to_owned(), "is not a file"),
        (file(at, "empty", b"", 0o600), "is empty"),
        (file(at, "blank", b" \n\n", 0o600), "is empty"),
        (file(at, "public", b"x", 0o644), "may be read by everybody"),
        (file(at, "lines", b"a\r\nevil: 1\n", 0o600), "line break"),
        (file(at, "large", &[b'x'; 1024 * 1024 + 1], 0o600), "larger than"),
    ] {
        let settings = HttpRailSettings { secret_headers: bearer(path.clone()), ..settings("http://127.0.0.1:1/") };
        let error = HttpRail::new(settings).expect_err(words).to_string();
        assert!(error.contains(words) && error.contains(path.to_str().expect("utf-8")), "{error}");
    }
    let public = bearer(at.join("public"));
    let allowed = HttpRailSettings { world_readable: WorldReadable::Allow, ..settings("http://127.0.0.1:1/") };
    assert!(HttpRail::new(HttpRailSettings { secret_headers: public, ..allowed }).is_ok());
}

#[test]
fn useless_certificate_files_are_refused_by_their_path() {
    let directory = tempfile::tempdir().expect("directory");
    let at = directory.path();
    let junk = file(at, "junk.pem", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", 0o600);
    let own = ClientCertificate { certificate_file: at.join("missing.pem"), key_file: junk.clone() };
    for (tls, path) in [
        (TlsSettings { ca_file: Some(junk.clone()), ..TlsSettings::default() }, junk.clone()),
        (TlsSettings { client_certificate: Some(own), ..TlsSettings::default() }, at.join("missing.pem")),
    ] {
        let error = HttpRail::new(HttpRailSettings { tls, ..settings("https://localhost/") }).expect_err("refused");
        assert!(error.to_string().contains(path.to_str().expect("utf-8")), "{error}");
    }
}

#[tokio::test]
async fn a_secret_is_sent_without_its_newline_and_a_new_one_from_the_next_payment_on() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let directory = tempfile::tempdir().expect("directory");
    let path = file(directory.path(), "token", b"first\n", 0o600);
    let rail = rail(HttpRailSettings { secret_headers: bearer(path), ..settings(hostile.url()) });
    let first = send(&rail, "{}").await;
    file(directory.path(), "token", b"second one\n\n", 0o600);
    let second = send(&rail, "{}").await;
    let seen = hostile.requests();
    assert_eq!(seen[0].header("authorization"), ["Bearer first"]);
    assert_eq!(seen[1].header("authorization"), ["Bearer second one"]);
    assert_eq!(first.request_sha256, second.request_sha256, "the hash depends on a secret");
    std::fs::remove_file(directory.path().join("token")).expect("remove");
    let third = send(&rail, "{}").await;
    assert_eq!((third.outcome, third.error_class), (Outcome::NotSent, Some("credential")));
    assert_eq!(hostile.requests().len(), 2);
}

#[tokio::test]
async fn no_secret_and_no_payload_is_in_any_report_or_debug_text() {
    let directory = tempfile::tempdir().expect("directory");
    let path = file(directory.path(), "token", SECRET.as_bytes(), 0o600);
    let echo = |status: &str, rest: &str| {
        format!("HTTP/1.1 {status} {SECRET} {PAYLOAD}\r\nx-echo: {SECRET}\r\n{rest}{SECRET} {PAYLOAD}")
    };
    let answers = [
        echo("200", "content-length: 38\r\n\r\n"),
        echo("200", "content-length: 999\r\n\r\n"),
        echo("200", "content-encoding: gzip\r\ncontent-length: 38\r\n\r\n"),
        echo("422", "content-length: 38\r\n\r\n"),
        echo("500", "transfer-encoding: chunked\r\n\r\n"),
        echo("2x0", "\r\n"),
        echo("429", &format!("retry-after: {SECRET}\r\ncontent-length: 38\r\n\r\n")),
        String::new(),
    ];
    for answer in answers {
        let spoken = answer.clone();
        let hostile = Hostile::start(None, Ending::Orderly, move |_, mut peer| {
            let answer = spoken.clone();
            async move {
                peer.request().await;
                peer.write(answer.as_bytes()).await;
            }
        })
        .await;
        let settings = HttpRailSettings {
            secret_headers: bearer(path.clone()),
            timeout: Millis(2_000),
            connect_timeout: Millis(2_000),
            ..settings(format!("{}?key={SECRET}", hostile.url()))
        };
        let rail = rail(settings);
        let submission = Submission { content_type: "text/plain".to_owned(), ..submission(PAYLOAD) };
        let shown = format!("{submission:?} {rail:?}");
        let report = rail.submit(submission, permitted()).await;
        assert_eq!(hostile.requests()[0].header("authorization"), [format!("Bearer {SECRET}")]);
        let fields = (&report.endpoint, &report.rail_reference, &report.rail_code, &report.error_detail);
        let all = format!("{shown} {report:?} {:?} {fields:?}", report.error_class);
        assert!(!all.contains("CANARY"), "{answer:?} showed it: {all}");
    }
}
