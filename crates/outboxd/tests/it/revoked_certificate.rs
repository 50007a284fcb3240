//! A daemon whose own certificate is revoked leaves that rail alone, says so by name, and goes on when it has another.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use outbox_testkit::{CertFiles, Certs};

use crate::end_to_end::{der_sha256, tls_sim};
use crate::rig::{Daemon, HOLD, RESEND, Rig};

/// A rail `resend` that takes clients of two authorities, and what the daemon shows to it.
async fn rig_over_tls() -> (Rig, Certs) {
    let mut rig = Rig::start().await;
    let mut certs = Certs::new(rig.dir.path()).unwrap();
    let both = [&certs.ca, &certs.wrong_ca].map(|path| fs::read_to_string(path).unwrap()).concat();
    let bundle = rig.dir.path().join("both.pem");
    fs::write(&bundle, both).unwrap();
    certs.ca = bundle;
    let dir = rig.dir.path().join("tls");
    fs::create_dir(&dir).unwrap();
    rig.resend = tls_sim(&certs, certs.server.clone(), &dir, "Idempotency-Key", ([127, 0, 0, 1], 0).into()).await;
    (rig, certs)
}

/// Puts a certificate and its key where the daemon reads them, each by a rename.
fn put(rig: &Rig, files: &CertFiles) {
    for (from, name) in [(&files.certificate, "own.pem"), (&files.key, "own.key")] {
        let next = rig.dir.path().join("next");
        fs::copy(from, &next).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&next, rig.dir.path().join(name)).unwrap();
    }
}

fn daemon(rig: &Rig, certs: &Certs, name: &str) -> Daemon {
    let own = |file: &str| rig.dir.path().join(file).display().to_string();
    let settings = [
        format!("rails.resend.ca_file={}", certs.ca.display()),
        format!("rails.resend.client_cert_file={}", own("own.pem")),
        format!("rails.resend.client_key_file={}", own("own.key")),
    ];
    rig.daemon_with(name, rig.proxy.address(), &settings)
}

async fn revoke(rig: &Rig, certificate: &Path) {
    let fingerprint = der_sha256(certificate);
    rig.rows(&format!("select outbox.revoke_client_cert(decode('{fingerprint}', 'hex'), 'host was broken into')"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_turns_its_rail_off_by_name_while_the_daemon_runs_and_a_new_one_turns_it_on() {
    let (rig, certs) = rig_over_tls().await;
    put(&rig, &certs.client);
    let running = daemon(&rig, &certs, "a");
    rig.enqueue(RESEND, 2).await;
    rig.settled().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 2);

    revoke(&rig, &certs.client.certificate).await;
    let off = running.logged("lane.off", 1).await;
    assert_eq!(off["rail"], RESEND);
    let reason = off["reason"].as_str().unwrap();
    assert!(reason.contains(&der_sha256(&certs.client.certificate)), "{off}");
    assert!(reason.contains("revoked by postgres") && reason.contains("host was broken into"), "{off}");
    rig.enqueue(RESEND, 3).await;
    rig.enqueue(HOLD, 3).await;
    let others = format!("select not exists (select from outbox.payment_outbox_pending where rail = '{HOLD}')");
    rig.until("the end of another rail's payments", &others).await;
    let untouched =
        format!("select count(*) from outbox.payment_outbox_pending where rail = '{RESEND}' and attempt_count = 0");
    assert_eq!(rig.value::<i64>(&untouched).await, 3);
    assert_eq!(rig.resend.stats().requests, 2);
    running.becomes_ready(true).await;
    // One that starts now begins with that lane off.
    let starting = daemon(&rig, &certs, "b");
    let off = starting.logged("lane.off", 1).await;
    assert!(off["reason"].as_str().unwrap().contains("was revoked by"), "{off}");
    starting.stop().await;
    assert_eq!(rig.resend.stats().requests, 2);

    put(&rig, &certs.client_wrong_ca);
    rig.settled().await;
    rig.all_dispatched().await;
    running.stop().await;
}
