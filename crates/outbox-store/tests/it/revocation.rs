//! The deny lists: what a revoked credential is kept from, since when and for how long, and that looking it up goes by
//! the index whatever the planner believes.

use outbox_store::{
    AuthMethod, Decision, NewAttestation, TokenName, read_revoked_certs, revoke_client_cert, revoke_token,
};
use time::{Duration, OffsetDateTime};

use crate::attestation::attestation;
use crate::batch_plans::{plans_told, rows_handled};
use crate::sql::{column, refused, run, scalar};
use crate::steps::Actor;
use crate::world::{World, payment};

/// How a request was proved, each way that names its credential otherwise.
#[derive(Clone, Copy, Debug)]
enum Proof {
    Certificate,
    Key,
    Token,
    TokenOfIssuer,
}

const PROOFS: [Proof; 4] = [Proof::Certificate, Proof::Key, Proof::Token, Proof::TokenOfIssuer];

impl Proof {
    fn attested(self, instruction_id: &str) -> NewAttestation {
        let base = NewAttestation { client_cert_fingerprint: None, ..attestation(&payment(instruction_id)) };
        match self {
            Self::Certificate => NewAttestation { client_cert_fingerprint: Some([7; 32]), ..base },
            Self::Key => NewAttestation { auth_method: AuthMethod::ApiKey, key_id: Some("k-1".to_owned()), ..base },
            Self::Token => NewAttestation { auth_method: AuthMethod::Jwt, jti: Some("t-1".to_owned()), ..base },
            Self::TokenOfIssuer => {
                let jwt_iss = Some("https://issuer.example".to_owned());
                NewAttestation { auth_method: AuthMethod::Jwt, jti: Some("t-2".to_owned()), jwt_iss, ..base }
            }
        }
    }

    async fn revoke(self, world: &World) {
        let mut operator = world.session("t_operator");
        let token = |name: TokenName, issuer: Option<&'static str>| (name, issuer);
        let (name, issuer) = match self {
            Self::Certificate => {
                assert!(revoke_client_cert(&mut operator, &[7; 32], "lost", None).await.unwrap().created);
                return;
            }
            Self::Key => token(TokenName::KeyId("k-1".to_owned()), None),
            Self::Token => token(TokenName::Jti("t-1".to_owned()), None),
            Self::TokenOfIssuer => token(TokenName::Jti("t-2".to_owned()), Some("https://issuer.example")),
        };
        assert!(revoke_token(&mut operator, &name, issuer, "lost", None).await.unwrap().created);
    }
}

#[tokio::test]
async fn a_revoked_credential_is_rejected_whatever_the_caller_says() {
    for proof in PROOFS {
        let mut world = World::new().await;
        proof.revoke(&world).await;
        let said = world.attest(&proof.attested("i")).await;
        assert_eq!((said.decision, said.reason_code.as_deref()), (Decision::Rejected, Some("REVOKED")), "{proof:?}");
        let text = "select decision || ' ' || reason_code from outbox.ingress_attestations";
        assert_eq!(scalar::<String>(&mut world.dba, text).await, "REJECTED REVOKED", "{proof:?}");
        let brought = outbox_store::NewPayment { attestation_id: Some(said.attestation_id), ..payment("i") };
        assert_eq!(world.admit(&[brought]).await.unwrap_err().0, "OB021", "{proof:?}");
        for other in PROOFS.into_iter().filter(|other| format!("{other:?}") != format!("{proof:?}")) {
            let said = world.attest(&other.attested(&format!("{other:?}"))).await;
            assert_eq!(said.decision, Decision::Accepted, "{other:?} stands when {proof:?} is revoked");
        }
    }
}

#[tokio::test]
async fn a_credential_revoked_since_lets_no_new_payment_in_and_what_is_recorded_stays() {
    for proof in PROOFS {
        let mut world = World::new().await;
        let mut admitted = Vec::new();
        for instruction in ["before", "after"] {
            let said = world.attest(&proof.attested(instruction)).await;
            assert_eq!(said.decision, Decision::Accepted);
            admitted
                .push(outbox_store::NewPayment { attestation_id: Some(said.attestation_id), ..payment(instruction) });
        }
        assert_eq!(world.admit(&admitted[..1]).await, Ok(1));
        proof.revoke(&world).await;
        let (code, message) = world.admit(&admitted).await.unwrap_err();
        let named = "payment 2 of the batch: attestation_id rests on a credential that is revoked";
        assert_eq!((code.as_str(), message.as_str()), ("OB022", named), "{proof:?}");
        assert_eq!(world.admit(&admitted[..1]).await, Ok(0), "who repeats hears that it is recorded");
        // The caller that attests it again is told what holds now; history is not changed.
        let again = world.attest(&proof.attested("after")).await;
        assert_eq!(
            (again.created, again.decision, again.reason_code.as_deref()),
            (false, Decision::Rejected, Some("REVOKED"))
        );
        let kept: Vec<String> = column(&mut world.dba, "select decision from outbox.ingress_attestations").await;
        assert_eq!(kept, ["ACCEPTED", "ACCEPTED"]);
    }
}

#[tokio::test]
async fn a_revocation_of_one_issuer_leaves_the_same_name_of_another() {
    let world = World::new().await;
    Proof::TokenOfIssuer.revoke(&world).await;
    for (issuer, decision) in [
        (Some("https://other.example"), Decision::Accepted),
        (Some("https://issuer.example"), Decision::Rejected),
        (None, Decision::Rejected),
    ] {
        let jwt_iss = issuer.map(str::to_owned);
        let attested = NewAttestation { jwt_iss, ..Proof::TokenOfIssuer.attested(&format!("{issuer:?}")) };
        assert_eq!(world.attest(&attested).await.decision, decision, "{issuer:?}");
    }
}

#[tokio::test]
async fn an_entry_counts_until_it_expires_and_a_later_one_can_lengthen_it() {
    let mut world = World::new().await;
    let certificate = Proof::Certificate.attested("i");
    let ended = "insert into outbox.revoked_client_certs select gen_random_uuid(), decode(repeat('07', 32), 'hex'), now() - interval '2 hours', 'drill', 'dba', now() - interval '1 hour'";
    run(&mut world.dba, ended).await;
    assert_eq!(world.attest(&certificate).await.decision, Decision::Accepted);
    let mut operator = world.session("t_operator");
    assert!(read_revoked_certs(&mut operator, &[[7; 32]]).await.unwrap().is_empty());
    let soon = OffsetDateTime::now_utc() + Duration::hours(1);
    let later = soon + Duration::hours(1);
    let mut made = Vec::new();
    for until in [Some(later), Some(soon), Some(later), None, Some(later), None] {
        made.push(revoke_client_cert(&mut operator, &[7; 32], "lost", until).await.unwrap());
    }
    let created: Vec<bool> = made.iter().map(|entry| entry.created).collect();
    assert_eq!(created, [true, false, false, true, false, false], "only what counts longer is a new entry");
    assert_eq!((made[1].revocation_id, made[5].revocation_id), (made[0].revocation_id, made[3].revocation_id));
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.revoked_client_certs").await, 3);
    let found = read_revoked_certs(&mut operator, &[[8; 32], [7; 32]]).await.unwrap();
    assert_eq!((found.len(), found[0].fingerprint, found[0].revoked_at), (1, [7; 32], made[0].revoked_at));
    assert_eq!((found[0].reason.as_str(), found[0].revoked_by.as_str()), ("lost", "t_operator"));
    // Of one issuer, and then of all.
    let key = TokenName::KeyId("k".to_owned());
    let mut created = Vec::new();
    for issuer in [Some("a"), Some("b"), Some("a"), None, Some("c")] {
        created.push(revoke_token(&mut operator, &key, issuer, "lost", None).await.unwrap().created);
    }
    assert_eq!(created, [true, true, false, true, false]);
}

#[tokio::test]
async fn a_revocation_counts_from_its_commit_and_nobody_waits_for_it() {
    let world = World::new().await;
    let before = world.attested("i-1").await;
    let after = world.attested("i-2").await;
    let mut operator = Actor::enter(&world.db, "t_operator", "operator").await;
    operator.does("begin").await;
    operator.does("select outbox.revoke_client_cert(decode(repeat('01', 32), 'hex'), 'lost')").await;
    assert_eq!(world.admit(&[before]).await, Ok(1));
    operator.does("commit").await;
    assert_eq!(world.admit(&[after]).await.unwrap_err().0, "OB022");
}

#[tokio::test]
async fn a_bad_revocation_is_refused_by_column() {
    let world = World::new().await;
    let mut operator = world.db.connect_as("t_operator").await.unwrap();
    for (column, call) in [
        ("fingerprint", "revoke_client_cert('\\x00', 'lost')"),
        ("fingerprint", "revoke_client_cert(null, 'lost')"),
        ("reason", "revoke_client_cert(sha256('a'), null)"),
        ("reason", "revoke_client_cert(sha256('a'), '  ')"),
        ("expires_at", "revoke_client_cert(sha256('a'), 'lost', now() - interval '1 s')"),
        ("expires_at", "revoke_client_cert(sha256('a'), 'lost', 'infinity')"),
        ("jti", "revoke_token(null, null, null, 'lost')"),
        ("jti", "revoke_token('j', 'k', null, 'lost')"),
        ("jti", "revoke_token('', null, null, 'lost')"),
        ("jti", "revoke_token('j', null, '', 'lost')"),
        ("reason", "revoke_token('j', null, null, '')"),
        ("expires_at", "revoke_token('j', null, null, 'lost', 'infinity')"),
    ] {
        let refusal = refused(&mut operator, &format!("select outbox.{call}")).await;
        assert_eq!((refusal.code.as_str(), refusal.column.as_deref()), ("OB003", Some(column)), "{call}: {refusal:?}");
    }
}

/// Ways in which the planner is told to read a whole list.
const HOSTILE: [&str; 4] = [
    "random_page_cost = 10000",
    "enable_indexscan = off; enable_indexonlyscan = off",
    "enable_nestloop = off",
    "cpu_index_tuple_cost = 1000; plan_cache_mode = force_generic_plan",
];

#[tokio::test]
async fn a_look_up_goes_by_the_index_whatever_the_planner_is_told() {
    let mut world = World::new().await;
    // Statistics of empty lists, and then lists that are long.
    run(&mut world.dba, "vacuum analyze outbox.revoked_client_certs, outbox.revoked_tokens").await;
    run(
        &mut world.dba,
        "insert into outbox.revoked_client_certs select gen_random_uuid(), sha256(convert_to(n::text, 'UTF8')), now(), 'filled', 'dba', null from generate_series(1, 20000) n;
         insert into outbox.revoked_tokens select gen_random_uuid(), 'j' || n, null, null, now(), 'filled', 'dba', null from generate_series(1, 20000) n;
         insert into outbox.revoked_tokens select gen_random_uuid(), null, 'k' || n, null, now(), 'filled', 'dba', null from generate_series(1, 20000) n",
    )
    .await;
    let looked_up = "outbox.credential_revoked_at(sha256('7'), 'k7', null, 'j7')";
    let asked = "outbox.read_revoked_client_certs(array[sha256('7'), sha256('nobody')])";
    let name = world.db.name().to_owned();
    for settings in HOSTILE.into_iter().chain(["work_mem = '64kB'"]) {
        run(&mut world.dba, &format!("alter database {name} reset all")).await;
        for setting in settings.split("; ") {
            run(&mut world.dba, &format!("alter database {name} set {setting}")).await;
        }
        for call in [format!("select count({looked_up})"), format!("select count(*) from {asked}")] {
            let (rows, plans) = plans_told(&world.db, &call);
            assert_eq!(rows, "1", "{call}");
            assert!(plans.contains("revoked_client_certs_fingerprint"), "{settings}: {plans}");
            assert!(!plans.contains("Seq Scan on revoked"), "{settings}: {plans}");
            let (most, line) = rows_handled(&plans).into_iter().max().unwrap();
            assert!(most <= 4, "{settings}: {most} rows in `{line}`: {plans}");
        }
    }
}
