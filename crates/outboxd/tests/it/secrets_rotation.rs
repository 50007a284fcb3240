//! What is rotated on the server of secrets reaches a daemon that is at work, by files alone: the password of its login, the
//! token of its rails, the certificate that it shows and the key to it. Nobody tells it, and nothing is lost by it.

use std::cell::Cell;
use std::collections::BTreeSet;

use outbox_testkit::{CertFiles, PgServer, PgVersion, wait_until};
use rail_sim::Callers;

use crate::end_to_end::{der_sha256, sha256, tls_sim};
use crate::launch::{cut_sessions, cut_until_it_says, says};
use crate::rig::{Daemon, HOLD, LIMIT, RAILS, RESEND, Rig};
use crate::secrets_pull::Bench;

/// What the server of secrets, the database and the rail agree on at one time.
struct Credentials {
    password: &'static str,
    token: &'static str,
    identity: CertFiles,
}

impl Credentials {
    fn authorization(&self) -> String {
        sha256(format!("Bearer {}", self.token).as_bytes())
    }

    fn certificate(&self) -> String {
        der_sha256(&self.identity.certificate)
    }
}

/// A database of its own that asks for passwords, a rail over TLS that takes clients of two authorities, and one without.
async fn world() -> (Rig, Bench) {
    let bench = Bench::start().await;
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let mut rig = Rig::start_on(server).await;
    let mut certs = bench.certs.clone();
    let both = [&certs.ca, &certs.wrong_ca].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    certs.ca = rig.dir.path().join("both.pem");
    std::fs::write(&certs.ca, both).unwrap();
    let dir = rig.dir.path().join("tls");
    std::fs::create_dir(&dir).unwrap();
    rig.resend = tls_sim(&certs, certs.server.clone(), &dir, "Idempotency-Key", ([127, 0, 0, 1], 0).into()).await;
    // A busy machine must not make an exchange unknown.
    for rail in RAILS {
        rig.contract(rail, "null, p_rail_timeout_ms => 5000, p_lease_duration_ms => 12000").await;
    }
    rig.server.as_ref().unwrap().set_hba("local all t_dispatcher scram-sha-256\nlocal all all trust\n").unwrap();
    (rig, bench)
}

fn daemon(rig: &Rig, bench: &Bench) -> Daemon {
    let pulled = |name: &str| bench.to().join(name).display().to_string();
    let token = |rail: &str| {
        let header = format!("{{file = \"{}\", prefix = \"Bearer \"}}", pulled("rail-token"));
        format!("rails.{rail}.secret_headers.Authorization={header}")
    };
    let settings = [
        format!("database.password_file={}", pulled("database-password")),
        format!("rails.resend.ca_file={}", bench.certs.ca.display()),
        format!("rails.resend.client_cert_file={}", pulled("rail.pem")),
        format!("rails.resend.client_key_file={}", pulled("rail.key")),
        token(RESEND),
        token(HOLD),
        "rails.resend.timeout=5s".to_owned(),
        "rails.hold.timeout=5s".to_owned(),
    ];
    rig.daemon_with("a", rig.db.address(), &settings)
}

/// The rails take whoever shows one of these.
fn admit(rig: &Rig, taken: &[&Credentials]) {
    let authorization_sha256: BTreeSet<String> = taken.iter().map(|one| one.authorization()).collect();
    let certificate_sha256 = taken.iter().map(|one| one.certificate()).collect();
    rig.hold.admit_only(Callers { authorization_sha256: authorization_sha256.clone(), ..Callers::default() });
    rig.resend.admit_only(Callers { authorization_sha256, certificate_sha256 });
}

async fn set_password(rig: &Rig, password: &str) {
    rig.run(&format!("alter role t_dispatcher password '{password}'")).await;
}

async fn pull(bench: &Bench, credentials: &Credentials) {
    bench.put(credentials.password, credentials.token, &credentials.identity);
    let ended = bench.pull(&[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Waits until payments executed since now were sent with these credentials, at both rails.
async fn in_use(rig: &Rig, credentials: &Credentials) {
    let seen = |rail: &str| rig.sim(rail).received().unwrap();
    let before = (seen(RESEND).len(), seen(HOLD).len());
    let (authorization, certificate) = (Some(credentials.authorization()), Some(credentials.certificate()));
    let both = async || {
        let resend = seen(RESEND).split_off(before.0);
        let hold = seen(HOLD).split_off(before.1);
        resend
            .iter()
            .any(|got| got.authorization_sha256 == authorization && got.client_certificate_sha256 == certificate)
            && hold.iter().any(|got| got.authorization_sha256 == authorization)
    };
    wait_until("payments with the new credentials", LIMIT, both).await.unwrap();
}

/// Payments for both rails, a few at a time, until `stop`; how many there were for each.
async fn load(rig: &Rig, stop: &Cell<bool>) -> usize {
    let mut count = 0;
    while !stop.get() {
        rig.enqueue(RESEND, 5).await;
        rig.enqueue(HOLD, 5).await;
        count += 5;
        // As fast as they are paid: what waits at the end is no more than this.
        rig.until("room for more", "select count(*) < 100 from outbox.payment_outbox_pending").await;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_secrets_are_pulled_under_load_and_no_payment_is_lost_held_or_made_twice() {
    let (rig, bench) = world().await;
    let certs = &bench.certs;
    let rounds = [
        Credentials { password: "first", token: "canary-token-1", identity: certs.client.clone() },
        Credentials { password: "second", token: "canary-token-2", identity: certs.client_wrong_ca.clone() },
        Credentials { password: "third", token: "canary-token-3", identity: certs.client.clone() },
    ];
    let stop = Cell::new(false);
    set_password(&rig, rounds[0].password).await;
    admit(&rig, &[&rounds[0]]);
    pull(&bench, &rounds[0]).await;
    let daemon = daemon(&rig, &bench);
    daemon.becomes_ready(true).await;

    let rotate = async {
        in_use(&rig, &rounds[0]).await;
        for pair in rounds.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            // A rail takes both for a while. The database has one password, and open sessions stay.
            admit(&rig, &[old, new]);
            set_password(&rig, new.password).await;
            pull(&bench, new).await;
            cut_sessions(&rig.db).await;
            in_use(&rig, new).await;
            admit(&rig, &[new]);
            in_use(&rig, new).await;
        }
        stop.set(true);
    };
    let (count, ()) = tokio::join!(load(&rig, &stop), rotate);
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.held(RESEND).await.len() + rig.held(HOLD).await.len(), 0);
    let count = i64::try_from(count).unwrap();
    assert_eq!((rig.count(RESEND, "DISPATCHED").await, rig.count(HOLD, "DISPATCHED").await), (count, count));
    assert_eq!(daemon.events("daemon.starting").len(), 1);
    assert!(!daemon.child.log().contains("canary"));

    // Whoever has the old ones has nothing: with them the daemon neither logs in nor pays, until they are put right.
    let before = (rig.resend.stats().effects, rig.hold.stats().effects);
    pull(&bench, &rounds[1]).await;
    cut_until_it_says(&rig.db, &daemon, "\"subject\":\"claims of rail resend\"").await;
    says(&daemon, "the database refused the login").await;
    rig.enqueue(RESEND, 3).await;
    rig.enqueue(HOLD, 3).await;
    pull(&bench, &Credentials { password: "third", token: rounds[1].token, identity: rounds[1].identity.clone() })
        .await;
    let refused = "select count(*) >= 2 from (select distinct rail from outbox.payment_outbox_attempts \
                   where error_detail like '%401%' or rail_code = 'UNAUTHORIZED') as refused";
    rig.until("refusals by both rails", refused).await;
    assert_eq!((rig.resend.stats().effects, rig.hold.stats().effects), before);
    pull(&bench, &rounds[2]).await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}
