//! `outboxd secrets pull` against a server with Vault's API: what arrives, what does not, and what is never shown.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use outbox_testkit::Certs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commands_binary::{Ended, OUTBOXD, end};
use crate::vault::{ROLE_ID, SECRET_ID, Trouble, Vault};

/// No secret is to be seen anywhere but in its file.
const PASSWORD: &str = "canary-password-3c1e";
const TOKEN: &str = "canary-rail-token-80aa";

/// A server with secrets, a directory for them, and the file that says what to pull.
pub(crate) struct Bench {
    pub(crate) vault: Vault,
    pub(crate) dir: TempDir,
    pub(crate) certs: Certs,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certs = Certs::new(dir.path()).unwrap();
        Self::on(Vault::start().await, dir, certs)
    }

    fn on(vault: Vault, dir: TempDir, certs: Certs) -> Self {
        let bench = Self { vault, dir, certs };
        fs::create_dir(bench.to()).unwrap();
        fs::set_permissions(bench.to(), fs::Permissions::from_mode(0o700)).unwrap();
        bench.secret("role-id", ROLE_ID);
        bench.secret("secret-id", SECRET_ID);
        bench.put(PASSWORD, TOKEN, &bench.certs.client);
        bench.write("");
        bench
    }

    /// Puts all secrets on the server: the password into KV 1, the others into KV 2.
    pub(crate) fn put(&self, password: &str, token: &str, identity: &outbox_testkit::CertFiles) {
        self.vault.put_v1("kv1/outboxd/database", json!({"password": password}));
        self.vault.put_v2("kv", "outboxd/wire", json!({"token": token}));
        let identity = identity.read().unwrap();
        let fields = json!({"certificate": identity.certificate_pem, "key": identity.key_pem});
        self.vault.put_v2("kv", "outboxd/wire-identity", fields);
    }

    pub(crate) fn to(&self) -> PathBuf {
        self.dir.path().join("pulled")
    }

    fn secret(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// What is to be pulled; `server` is added to `[server]`.
    pub(crate) fn write(&self, server: &str) {
        let (dir, address) = (self.dir.path().display(), &self.vault.address);
        let text = format!(
            "[server]\naddress = \"{address}\"\nrole_id_file = \"{dir}/role-id\"\nsecret_id_file = \"{dir}/secret-id\"\n{server}\n\
             [files.database-password]\nmount = \"kv1\"\nkv = 1\npath = \"outboxd/database\"\nfield = \"password\"\n\
             [files.rail-token]\nmount = \"kv\"\npath = \"outboxd/wire\"\nfield = \"token\"\n\
             [files.\"rail.pem\"]\nmount = \"kv\"\npath = \"outboxd/wire-identity\"\nfield = \"certificate\"\nholds = \"certificates\"\n\
             [files.\"rail.key\"]\nmount = \"kv\"\npath = \"outboxd/wire-identity\"\nfield = \"key\"\nholds = \"key\"\nkey_of = \"rail.pem\"\n"
        );
        fs::write(self.dir.path().join("secrets.toml"), text).unwrap();
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(OUTBOXD);
        command.args(["secrets", "pull", "--to"]).arg(self.to()).arg("--config");
        command.arg(self.dir.path().join("secrets.toml")).args(more).env_clear().env("RUST_LOG", "trace");
        command
    }

    /// Runs the command to its end; nothing that it says may hold a secret.
    pub(crate) async fn pull(&self, more: &[&str]) -> Ended {
        let mut command = self.command(more);
        let ended = tokio::task::spawn_blocking(move || end(&mut command, b"")).await.unwrap();
        for canary in ["canary", "BEGIN", ROLE_ID] {
            assert!(!ended.out.contains(canary) && !ended.err.contains(canary), "{canary} is shown: {ended:?}");
        }
        ended
    }

    /// Runs the command, which must fail with `code` and say `what`.
    async fn fails(&self, more: &[&str], code: i32, what: &str) {
        let ended = self.pull(more).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.err.contains(what), "not {what}: {ended:?}");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.to().join(name)).unwrap()
    }

    /// Every file of the directory: name, text, inode.
    fn files(&self) -> Vec<(String, String, u64)> {
        let entries = fs::read_dir(self.to()).unwrap().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name.clone(), self.read(&name), entry.metadata().unwrap().ino())
            })
            .collect();
        files.sort();
        files
    }
}

fn changes(answer: &Value) -> Vec<&str> {
    answer["files"].as_array().unwrap().iter().map(|file| file["change"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secret_arrives_as_a_file_that_only_its_owner_can_read_and_the_token_is_revoked() {
    let bench = Bench::start().await;
    bench.write("namespace = \"payments\"");
    let ended = bench.pull(&["--output", "json"]).await;
    assert_eq!(changes(&ended.json()), ["created"; 4], "{ended:?}");
    assert_eq!(ended.json()["token_revoked"], true);
    assert_eq!(ended.err, "");

    assert_eq!((bench.read("database-password"), bench.read("rail-token")), (PASSWORD.to_owned(), TOKEN.to_owned()));
    let identity = bench.certs.client.read().unwrap();
    assert_eq!((bench.read("rail.pem"), bench.read("rail.key")), (identity.certificate_pem, identity.key_pem));
    for (name, ..) in bench.files() {
        assert_eq!(fs::metadata(bench.to().join(&name)).unwrap().mode() & 0o7777, 0o400, "{name}");
    }
    // The certificate and its key are of one version: their path was read once.
    let seen = bench.vault.seen();
    let expected = [
        "POST /v1/auth/approle/login in payments",
        "GET /v1/kv1/outboxd/database in payments",
        "GET /v1/kv/data/outboxd/wire in payments",
        "GET /v1/kv/data/outboxd/wire-identity in payments",
        "POST /v1/auth/token/revoke-self in payments",
    ];
    assert_eq!(seen, expected);
    assert_eq!(bench.vault.tokens(), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_written_again_and_a_dry_run_writes_nothing() {
    let bench = Bench::start().await;
    let dry = bench.pull(&["--dry-run", "--output", "json"]).await.json();
    assert_eq!((changes(&dry), &dry["dry_run"]), (vec!["created"; 4], &json!(true)));
    assert_eq!(bench.files(), []);

    bench.pull(&[]).await;
    let before = bench.files();
    let again = bench.pull(&["--output", "json"]).await.json();
    assert_eq!(changes(&again), ["unchanged"; 4]);
    assert_eq!(bench.files(), before);

    bench.put(PASSWORD, "another-token", &bench.certs.client);
    let dry = bench.pull(&["--dry-run"]).await;
    assert!(dry.out.contains("1 of 4 files would change: nothing was written"), "{dry:?}");
    assert_eq!(bench.files(), before);
    let pulled = bench.pull(&[]).await;
    assert!(pulled.out.contains("1 of 4 files changed"), "{pulled:?}");
    let changed: Vec<_> = bench.files().into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0].0.as_str(), changed[0].1.as_str()), ("rail-token", "another-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_one_secret_is_missing_refused_or_none_that_the_daemon_would_take() {
    let bench = Bench::start().await;
    bench.pull(&[]).await;
    let before = bench.files();
    let (ours, other) = (bench.certs.client.read().unwrap(), bench.certs.client_wrong_ca.read().unwrap());
    let identity = |certificate: &str, key: &str| json!({"certificate": certificate, "key": key});
    let cases: [(Value, i32, &str); 8] = [
        (
            identity(&ours.certificate_pem, &other.key_pem),
            65,
            "for rail.key: holds the private key of another certificate",
        ),
        (identity("canary", &ours.key_pem), 65, "for rail.pem: holds no certificate in PEM"),
        (identity(&ours.certificate_pem[..300], &ours.key_pem), 65, "broken or cut off"),
        (identity(&ours.certificate_pem, ""), 65, "kv/outboxd/wire-identity, field key, for rail.key: is empty"),
        (json!({"certificate": ours.certificate_pem}), 66, "kv/outboxd/wire-identity: has no field key"),
        (json!({"certificate": ours.certificate_pem, "key": 7}), 65, "kv/outboxd/wire-identity: field key is no text"),
        (json!("canary"), 65, "reading kv/outboxd/wire-identity: the answer is none of Vault's API"),
        (Value::Null, 66, "kv/outboxd/wire-identity: nothing is there"),
    ];
    for (fields, code, said) in cases {
        // The other secrets are new and in order.
        bench.put("next", "next", &bench.certs.client);
        bench.vault.put_v2("kv", "outboxd/wire-identity", fields);
        bench.fails(&[], code, said).await;
        assert_eq!(bench.files(), before, "{said}");
    }
    bench.put("next", "canary\nX-Evil: 1", &bench.certs.client);
    bench.fails(&[], 65, "field token, for rail-token: must hold one line of text").await;
    bench.put("next", "next", &bench.certs.client);
    bench.vault.remove("kv1/outboxd/database");
    bench.fails(&[], 66, "kv1/outboxd/database: nothing is there (HTTP 404)").await;
    bench.vault.forbid("kv1/outboxd/database");
    bench.fails(&[], 77, "reading kv1/outboxd/database is refused: HTTP 403").await;
    assert_eq!(bench.files(), before);
    assert_eq!(bench.vault.tokens().0, 0, "a pull that fails has left its token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_told_from_a_server_that_is_away() {
    let bench = Bench::start().await;
    fs::remove_file(bench.dir.path().join("secret-id")).unwrap();
    bench.secret("secret-id", "canary-wrong");
    bench.fails(&["--wait", "30s"], 77, "the login at auth/approle is refused: HTTP 400").await;
    bench.vault.trouble(Trouble::Status(429));
    bench.fails(&[], 69, "does not serve now: HTTP 429").await;
    bench.vault.trouble(Trouble::SealedFor(9));
    bench.fails(&[], 69, "is sealed").await;
    bench.vault.trouble(Trouble::Hangs);
    bench.write("timeout = \"300ms\"");
    bench.fails(&[], 69, "no answer within 300 ms").await;
    bench.vault.trouble(Trouble::Endless);
    bench.write("");
    bench.fails(&[], 65, "is larger than 1 MiB").await;
    let Bench { vault, dir, certs } = bench;
    let address = vault.address.clone();
    drop(vault);
    let gone = Bench { vault: Vault::start().await, dir, certs };
    let text = fs::read_to_string(gone.dir.path().join("secrets.toml")).unwrap();
    assert!(text.contains(&address));
    gone.fails(&[], 69, "cannot be reached").await;
    assert_eq!(gone.files(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_a_sealed_server_until_the_files_are_there_and_no_longer() {
    let bench = Bench::start().await;
    bench.vault.trouble(Trouble::SealedFor(2));
    let ended = bench.pull(&["--wait", "60s"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.err.matches("is sealed").count(), 1, "once is enough: {ended:?}");
    assert_eq!(bench.read("rail-token"), TOKEN);
    // A daemon that starts again goes on with these: it is not kept waiting.
    bench.vault.trouble(Trouble::SealedFor(2));
    bench.vault.seen();
    bench.fails(&["--wait", "1d"], 69, "is sealed").await;
    assert_eq!(bench.vault.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_revoked_is_said_and_the_secrets_are_there() {
    let bench = Bench::start().await;
    bench.vault.trouble(Trouble::KeepsTokens);
    let ended = bench.pull(&["--output", "json"]).await;
    assert_eq!(ended.json()["token_revoked"], false);
    assert!(ended.err.contains("the token of the login stays valid") && ended.err.contains("HTTP 405"), "{ended:?}");
    assert_eq!(bench.read("rail-token"), TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_neither_the_secret_id_nor_the_token_elsewhere() {
    let bench = Bench::start().await;
    let elsewhere = Vault::start().await;
    bench.vault.trouble(Trouble::SendsTo(elsewhere.address.clone()));
    bench.fails(&[], 78, "with a redirect (HTTP 307), which is not followed").await;
    assert_eq!(elsewhere.seen(), [""; 0]);
    assert_eq!(bench.files(), []);
    // Nor does a proxy of the environment.
    bench.vault.trouble(None);
    let mut command = bench.command(&[]);
    command.envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, &elsewhere.address)));
    let ended = tokio::task::spawn_blocking(move || end(&mut command, b"")).await.unwrap();
    assert_eq!((ended.code, elsewhere.seen()), (Some(0), Vec::new()), "{ended:?}");
}

async fn over_tls(certificate: impl Fn(&Certs) -> outbox_testkit::CertFiles) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new(dir.path()).unwrap();
    Bench::on(Vault::start_tls(&certificate(&certs)).await, dir, certs)
}

fn trusting(bench: &Bench, authority: &Path) {
    bench.write(&format!("ca_file = \"{}\"", authority.display()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_id_goes_to_a_server_whose_certificate_is_not_trusted() {
    let bench = over_tls(|certs| certs.server.clone()).await;
    trusting(&bench, &bench.certs.ca);
    assert_eq!(bench.pull(&[]).await.code, Some(0));
    assert_eq!(bench.vault.seen().len(), 5);
    trusting(&bench, &bench.certs.wrong_ca);
    bench.fails(&[], 78, "its certificate is not trusted").await;
    // Vault's own variables change nothing.
    let mut command = bench.command(&["--wait", "30s"]);
    command.env("VAULT_SKIP_VERIFY", "true").env("VAULT_CACERT", &bench.certs.ca);
    let ended = tokio::task::spawn_blocking(move || end(&mut command, b"")).await.unwrap();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert_eq!(bench.vault.seen(), [""; 0]);

    for wrong in [|certs: &Certs| certs.server_expired.clone(), |certs: &Certs| certs.server_other_name.clone()] {
        let bench = over_tls(wrong).await;
        trusting(&bench, &bench.certs.ca);
        bench.fails(&[], 78, "its certificate is not trusted").await;
        assert_eq!(bench.vault.seen(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_others_can_write_gets_no_secret() {
    let bench = Bench::start().await;
    fs::set_permissions(bench.to(), fs::Permissions::from_mode(0o770)).unwrap();
    bench.fails(&[], 1, "can be written by others than its owner").await;
    assert_eq!(bench.vault.seen(), [""; 0], "it asks for no secret that it cannot put anywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_the_files_and_else_the_environments() {
    let bench = Bench::start().await;
    let file = bench.dir.path().join("secrets.toml");
    let text = fs::read_to_string(&file).unwrap().replace(&format!("address = \"{}\"\n", bench.vault.address), "");
    fs::write(&file, text).unwrap();
    bench
        .fails(&[], 78, "secrets.toml:1: server.address: is missing, and neither BAO_ADDR nor VAULT_ADDR is set")
        .await;
    let elsewhere = Vault::start().await;
    for name in ["BAO_ADDR", "VAULT_ADDR"] {
        let mut command = bench.command(&[]);
        // The first of the two counts.
        command.env("VAULT_ADDR", &elsewhere.address).env(name, &bench.vault.address);
        let ended = tokio::task::spawn_blocking(move || end(&mut command, b"")).await.unwrap();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(elsewhere.seen(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_the_file_is_said_at_once_with_its_line_and_without_its_values() {
    let bench = Bench::start().await;
    let text = "[server]\naddress = \"http://bao.example:8200\"\nrole_id = \"canary\"\nsecret_id_credential = \"s\"\ntimeout = \"1h\"\n\
                [files.a]\nmount = \"kv\"\nkv = 3\npath = \"../sys\"\nfield = \"f\"\n\
                [files.\"../b\"]\nmount = \"/kv\"\npath = \"p\"\nholds = \"canary\"\n\
                [files.c]\nmount = \"kv\"\npath = \"p\"\nfield = \"f\"\nholds = \"key\"\nkey_of = \"a\"\nvalue = \"canary\"\n";
    fs::write(bench.dir.path().join("secrets.toml"), text).unwrap();
    let ended = bench.pull(&[]).await;
    assert_eq!(ended.code, Some(78));
    for said in [
        ":2: server.address: is plain http to another host",
        ":3: server.role_id: is not a key of",
        ":1: server.role_id_file: is missing",
        ":4: server.secret_id_credential: CREDENTIALS_DIRECTORY is not set",
        ":5: server.timeout: is 1h, and must be from 1ms to 2m",
        ":8: files.a.kv: is 3, and must be from 1 to 2",
        ":9: files.a.path: must be a path",
        ":11: files.\"../b\": is no name for a file of secrets",
        ":12: files.\"../b\".mount: must be a path",
        ":11: files.\"../b\".field: is missing",
        ":14: files.\"../b\".holds: must be",
        ":20: files.c.key_of: must be the name of a file here that holds certificates",
        ":21: files.c.value: is not a key of",
    ] {
        assert!(ended.err.contains(said), "not {said}: {}", ended.err);
    }
    fs::write(bench.dir.path().join("secrets.toml"), "[server]\nsecret_id = canary\n").unwrap();
    bench.fails(&[], 78, "secrets.toml:2").await;
    assert_eq!(bench.vault.seen(), [""; 0]);
}
