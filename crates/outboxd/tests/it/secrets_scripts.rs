//! The scripts that prepare a server of secrets and try what the role may do, against a server whose policies deny what they do
//! not name: the role that one makes is what the other asks for.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use outbox_testkit::workspace_root;

use crate::commands_binary::{Ended, end};
use crate::secrets_pull::Bench;
use crate::vault::{ROOT, Trouble};

/// Runs a script of `scripts/security`; nothing that it says may hold a secret.
async fn run(bench: &Bench, script: &str, arguments: &[&str]) -> Ended {
    let (dir, root) = (bench.dir.path(), workspace_root());
    fs::write(dir.join("root-token"), ROOT).unwrap();
    let mut command = Command::new(root.join("scripts/security").join(script));
    command.arg("--config").arg(dir.join("secrets.toml")).args(arguments);
    for name in ["BAO_ADDR", "BAO_TOKEN", "BAO_NAMESPACE", "BAO_CACERT", "VAULT_ADDR"] {
        command.env_remove(name);
    }
    command.env("BAO_TOKEN_FILE", dir.join("root-token"));
    let ended = tokio::task::spawn_blocking(move || end(&mut command, b"")).await.unwrap();
    assert!(!ended.out.contains("canary-") && !ended.err.contains("canary-"), "a secret is shown: {ended:?}");
    ended
}

async fn bootstrap(bench: &Bench, more: &[&str]) -> Ended {
    // Where the configuration has the role's ids.
    let out = bench.dir.path().to_str().unwrap().to_owned();
    run(bench, "openbao_bootstrap.sh", &[&["--out", &out], more].concat()).await
}

/// The verdict, which is the last line, and the record.
async fn smoke_test(bench: &Bench) -> (Option<i32>, String, String) {
    let record = bench.dir.path().join("record.txt");
    let ended = run(bench, "openbao_smoke_test.sh", &["--server", "tests", "--out", record.to_str().unwrap()]).await;
    let verdict = ended.out.lines().last().unwrap_or_default().to_owned();
    (ended.code, verdict, fs::read_to_string(record).unwrap())
}

/// A server without a role yet, and without what the tests of the pull have put there.
async fn bare() -> Bench {
    let bench = Bench::start().await;
    for name in ["role-id", "secret-id"] {
        fs::remove_file(bench.dir.path().join(name)).unwrap();
    }
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_bootstrap_makes_reads_what_is_configured_and_the_smoke_test_finds_no_more() {
    let bench = bare().await;
    let made = bootstrap(&bench, &[]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let expected = "path \"kv/data/outboxd/wire\" {\n  capabilities = [\"read\"]\n}\n\
                    path \"kv/data/outboxd/wire-identity\" {\n  capabilities = [\"read\"]\n}\n\
                    path \"kv1/outboxd/database\" {\n  capabilities = [\"read\"]\n}\n\
                    path \"auth/token/revoke-self\" {\n  capabilities = [\"update\"]\n}\n";
    assert_eq!(bench.vault.policy(), expected);
    for name in ["role-id", "secret-id"] {
        assert_eq!(fs::metadata(bench.dir.path().join(name)).unwrap().mode() & 0o7777, 0o400);
    }
    // The token has as many uses as the pull needs, and no more.
    let pulled = bench.pull(&["--output", "json"]).await;
    assert_eq!(pulled.json()["token_revoked"], true, "{pulled:?}");
    let (code, verdict, record) = smoke_test(&bench).await;
    assert_eq!((code, verdict.as_str()), (Some(0), "scripts/security/openbao_smoke_test.sh: PASS"), "{record}");
    assert_eq!(record.lines().last(), Some("PASS"));
    assert_eq!((record.matches("PASS  ").count(), record.matches("FAIL").count()), (11, 0), "{record}");
    assert!(record.starts_with("command: ") && record.contains("version as it says itself: of the tests"), "{record}");
    assert!(!record.contains("canary-"), "{record}");

    // To do it again changes nothing; another secret id ends the former.
    let former = fs::read(bench.dir.path().join("secret-id")).unwrap();
    let again = bootstrap(&bench, &[]).await;
    assert!(again.code == Some(0) && again.out.contains("secret-id: kept"), "{again:?}");
    assert_eq!(fs::read(bench.dir.path().join("secret-id")).unwrap(), former);
    assert_eq!(bootstrap(&bench, &["--new-secret-id"]).await.code, Some(0));
    assert_eq!(bench.pull(&[]).await.code, Some(0));
    fs::remove_file(bench.dir.path().join("secret-id")).unwrap();
    fs::write(bench.dir.path().join("secret-id"), former).unwrap();
    fs::set_permissions(bench.dir.path().join("secret-id"), fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(bench.pull(&[]).await.code, Some(77));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_enforces_no_policy_or_a_policy_that_allows_more_fails_the_smoke_test_by_name() {
    let bench = bare().await;
    assert_eq!(bootstrap(&bench, &[]).await.code, Some(0));
    bench.vault.trouble(Trouble::EnforcesNothing);
    let (code, verdict, record) = smoke_test(&bench).await;
    let all = "FAIL: policies are not enforced: reading kv/outboxd-forbidden gives HTTP 200; \
               writing kv/outboxd-forbidden gives HTTP 204; listing the mounts gives HTTP 200";
    assert_eq!((code, record.lines().last()), (Some(1), Some(all)), "{record}");
    assert!(verdict.ends_with(all), "{verdict}");

    bench.vault.trouble(None);
    bench.vault.allow("kv/data/outboxd-forbidden");
    let (code, verdict, _) = smoke_test(&bench).await;
    assert_eq!(code, Some(1));
    assert!(
        verdict.ends_with("FAIL: policies are not enforced: reading kv/outboxd-forbidden gives HTTP 200"),
        "{verdict}"
    );

    // A path that the role must read and may not is another fault.
    bench.vault.forbid("kv/data/outboxd-forbidden");
    bench.vault.forbid("kv1/outboxd/database");
    let (code, verdict, _) = smoke_test(&bench).await;
    assert_eq!(code, Some(1));
    assert!(verdict.contains(": FAIL: allowed: reading kv1/outboxd/database"), "{verdict}");
}
