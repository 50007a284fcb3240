//! Who was let in: what is attested of a request, and that a payment needs the attestation of its own participant,
//! instruction and bytes where its rail requires one or it brings one. Revoked credentials are in `revocation`.

use outbox_store::{
    Attested, AuthMethod, Decision, Hint, NewAttestation, NewPayment, StoreError, enqueue_batch, record_attestation,
};
use outbox_testkit::LOGINS;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::history::unguarded;
use crate::partitions::{locked_by, make_older_months};
use crate::sql::{column, fetch, refused, run, scalar};
use crate::steps::Actor;
use crate::world::{World, payment};

/// An accepted request for the payment, proved by a client certificate.
pub(crate) fn attestation(payment: &NewPayment) -> NewAttestation {
    NewAttestation {
        request_id: format!("request-{}", payment.instruction_id),
        participant_id: payment.participant_id.clone(),
        instruction_id: Some(payment.instruction_id.clone()),
        tenant_id: None,
        received_at: OffsetDateTime::UNIX_EPOCH,
        payload_sha256: Sha256::digest(&payment.payload).into(),
        auth_method: AuthMethod::Mtls,
        client_cert_fingerprint: Some([1; 32]),
        key_id: None,
        jwt_iss: None,
        jti: None,
        signature_alg: None,
        signature: None,
        decision: Decision::Accepted,
        reason_code: None,
        policy_version: Some("2026-11".to_owned()),
    }
}

impl World {
    pub(crate) async fn attest(&self, attestation: &NewAttestation) -> Attested {
        record_attestation(&mut self.session("t_ingest"), attestation).await.unwrap()
    }

    /// The payment with an accepted attestation of its own.
    pub(crate) async fn attested(&self, instruction_id: &str) -> NewPayment {
        let payment = payment(instruction_id);
        let attested = self.attest(&attestation(&payment)).await;
        assert_eq!((attested.decision, attested.created), (Decision::Accepted, true));
        NewPayment { attestation_id: Some(attested.attestation_id), ..payment }
    }

    /// Enqueues, or the code of the refusal and what it says.
    pub(crate) async fn admit(&self, payments: &[NewPayment]) -> Result<usize, (String, String)> {
        match enqueue_batch(&mut self.session("t_ingest"), payments, Hint::Wake).await {
            Ok(done) => Ok(done.iter().filter(|enqueued| enqueued.created).count()),
            Err(StoreError::Refused { code, message, .. }) => Err((code, message)),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn count_of(&mut self, table: &str) -> i64 {
        scalar(&mut self.dba, &format!("select count(*) from outbox.{table}")).await
    }
}

fn refusal(code: &str, message: &str) -> Result<usize, (String, String)> {
    Err((code.to_owned(), message.to_owned()))
}

#[tokio::test]
async fn a_rail_that_requires_it_takes_no_new_payment_without_an_attestation() {
    let mut world = World::new().await;
    run(&mut world.dba, "select outbox.set_payment_rail('wire', p_require_attestation => true)").await;
    let batch = [world.attested("i-1").await, payment("i-2"), world.attested("i-3").await];
    let missing = "payment 2 of the batch: attestation_id is required by the contract of the rail";
    assert_eq!(world.admit(&batch).await, refusal("OB021", missing));
    assert_eq!(
        (world.count_of("payment_outbox_identities").await, world.count_of("payment_outbox_pending").await),
        (0, 0)
    );
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let named = refused(
        &mut ingest,
        "select outbox.enqueue_payment_outbox_text('acme', 'i-2', 'k', 'wire', 'x', 'text/plain', 1, 'EUR')",
    )
    .await;
    assert_eq!((named.code.as_str(), named.column.as_deref()), ("OB021", Some("attestation_id")));
    assert_eq!(world.admit(&[batch[0].clone(), batch[2].clone()]).await, Ok(2));
    run(&mut world.dba, "select outbox.set_payment_rail('wire', p_require_attestation => false)").await;
    assert_eq!(world.admit(&batch[1..2]).await, Ok(1));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn an_attestation_lets_in_its_own_participant_instruction_and_bytes_and_no_others_required_or_not() {
    for required in [true, false] {
        let mut world = World::new().await;
        world.contract(&format!("require_attestation = {required}")).await;
        let own = world.attested("i-1").await;
        let other = |change: fn(&mut NewPayment)| {
            let mut changed = own.clone();
            change(&mut changed);
            changed
        };
        for (round, (changed, fault)) in [
            (other(|p| p.participant_id = "other".to_owned()), "is of another participant"),
            (other(|p| p.instruction_id = "i-2".to_owned()), "is of another instruction"),
            (other(|p| p.payload = b"<pay id=\"i-1\"/> ".to_vec()), "is of another payload"),
            (other(|p| p.attestation_id = Some(Uuid::new_v4())), "names no attestation that is recorded"),
            (other(|p| p.attestation_id = Some(Uuid::now_v7())), "names no attestation that is recorded"),
        ]
        .into_iter()
        .enumerate()
        {
            let named = format!("payment 2 of the batch: attestation_id {fault}");
            let batch = [world.attested(&format!("first-{round}")).await, changed];
            assert_eq!(world.admit(&batch).await, refusal("OB021", &named));
        }
        assert_eq!(world.count_of("payment_outbox_identities").await, 0);
        assert_eq!(world.admit(std::slice::from_ref(&own)).await, Ok(1));
        let kept = "select attestation_id from outbox.payment_outbox_instructions where instruction_id = 'i-1'";
        assert_eq!(scalar::<Option<Uuid>>(&mut world.dba, kept).await, own.attestation_id);
    }
}

#[tokio::test]
async fn a_rejected_request_lets_nothing_in() {
    let mut world = World::new().await;
    let rejected = NewAttestation {
        decision: Decision::Rejected,
        reason_code: Some("SIGNATURE_INVALID".to_owned()),
        ..attestation(&payment("i"))
    };
    let attested = world.attest(&rejected).await;
    assert_eq!((attested.decision, attested.reason_code.as_deref()), (Decision::Rejected, Some("SIGNATURE_INVALID")));
    let brought = NewPayment { attestation_id: Some(attested.attestation_id), ..payment("i") };
    let named = "payment 1 of the batch: attestation_id names a request that was rejected";
    assert_eq!(world.admit(&[brought]).await, refusal("OB021", named));
    // One without a proof, and without an instruction that could be read.
    let bare = NewAttestation {
        request_id: "bare".to_owned(),
        instruction_id: None,
        auth_method: AuthMethod::Nothing,
        client_cert_fingerprint: None,
        ..rejected
    };
    assert!(world.attest(&bare).await.created);
    assert_eq!(world.count_of("ingress_attestations").await, 2);
}

#[tokio::test]
async fn a_repeated_enqueue_is_the_same_payment_whatever_attestation_it_brings() {
    let mut world = World::new().await;
    let before = payment("before");
    assert_eq!(world.admit(std::slice::from_ref(&before)).await, Ok(1));
    run(&mut world.dba, "select outbox.set_payment_rail('wire', p_require_attestation => true)").await;
    let first = world.attested("i").await;
    assert_eq!(world.admit(std::slice::from_ref(&first)).await, Ok(1));
    let again = NewAttestation { request_id: "again".to_owned(), ..attestation(&first) };
    let second = world.attest(&again).await.attestation_id;
    for attestation_id in [first.attestation_id, Some(second), None, Some(Uuid::now_v7())] {
        let repeated = [NewPayment { attestation_id, ..first.clone() }, before.clone()];
        assert_eq!(world.admit(&repeated).await, Ok(0), "{attestation_id:?}");
    }
    let kept: Vec<Option<Uuid>> =
        column(&mut world.dba, "select attestation_id from outbox.payment_outbox_instructions order by outbox_id")
            .await;
    assert_eq!(kept, [None, first.attestation_id]);
}

#[tokio::test]
async fn a_request_is_attested_once_and_never_with_other_content() {
    let mut world = World::new().await;
    let first = attestation(&payment("i"));
    let recorded = world.attest(&first).await;
    let later = NewAttestation { received_at: OffsetDateTime::now_utc(), ..first.clone() };
    assert_eq!(world.attest(&later).await, Attested { created: false, ..recorded.clone() });
    let other = |change: fn(&mut NewAttestation)| {
        let mut changed = first.clone();
        change(&mut changed);
        changed
    };
    for changed in [
        other(|a| a.instruction_id = Some("j".to_owned())),
        other(|a| a.tenant_id = Some("t".to_owned())),
        other(|a| a.payload_sha256 = [9; 32]),
        other(|a| {
            a.auth_method = AuthMethod::Jws;
            a.key_id = Some("k".to_owned());
        }),
        other(|a| a.client_cert_fingerprint = Some([2; 32])),
        other(|a| a.key_id = Some("k".to_owned())),
        other(|a| a.jwt_iss = Some("k".to_owned())),
        other(|a| a.jti = Some("k".to_owned())),
        other(|a| a.signature_alg = Some("k".to_owned())),
        other(|a| a.signature = Some(b"k".to_vec())),
        other(|a| {
            a.decision = Decision::Rejected;
            a.reason_code = Some("LATE".to_owned());
        }),
        other(|a| a.reason_code = Some("FINE".to_owned())),
        other(|a| a.policy_version = None),
    ] {
        let error = record_attestation(&mut world.session("t_ingest"), &changed).await.unwrap_err();
        assert_eq!(error.refusal(), Some("OB020"), "{changed:?}");
        assert!(error.to_string().contains(&recorded.attestation_id.to_string()), "{error}");
    }
    let elsewhere = NewAttestation { participant_id: "other".to_owned(), ..first };
    assert!(world.attest(&elsewhere).await.created, "a request_id is its participant's own");
    let rows = fetch(
        &mut world.dba,
        "select *, attestation_id::text as id from outbox.ingress_attestations order by attestation_id",
    )
    .await;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].get::<String, _>("recorded_by"), "t_ingest");
    assert_eq!(rows[0].get::<OffsetDateTime, _>("received_at"), OffsetDateTime::UNIX_EPOCH);
    assert_eq!(rows[0].get::<Option<String>, _>("policy_version").as_deref(), Some("2026-11"));
}

/// An attestation as a statement; `extra` are further named arguments, which go before those here.
fn record(request: &str, extra: &str) -> String {
    let named = [
        "p_auth_method => 'APIKEY'",
        "p_key_id => 'k-1'",
        "p_instruction_id => 'i'",
        "p_decision => 'ACCEPTED'",
        "p_payload_sha256 => sha256('x')",
    ];
    let kept = named.iter().filter(|one| !extra.contains(one.split(' ').next().unwrap()));
    let all: Vec<&str> = kept.copied().chain(extra.split("; ").filter(|one| !one.is_empty())).collect();
    format!(
        "select * from outbox.record_ingress_attestation('{request}', 'acme', p_received_at => now(), {})",
        all.join(", ")
    )
}

#[tokio::test]
async fn two_that_attest_one_request_at_once_record_it_once() {
    for (extra, code) in [("", None), ("p_key_id => 'k-2'", Some("OB020"))] {
        let mut world = World::new().await;
        let mut actors =
            [Actor::enter(&world.db, "t_ingest", "first").await, Actor::enter(&world.db, "t_ingest", "second").await];
        actors[0].does("begin").await;
        let first = actors[0].asks(&record("r", "")).await;
        actors[1].starts(&record("r", extra));
        actors[1].waits(&mut world.dba).await;
        actors[0].does("commit").await;
        let second = actors[1].ends().await;
        match code {
            None => {
                let second = second.unwrap();
                assert_eq!((first[0].get::<bool, _>("created"), second[0].get::<bool, _>("created")), (true, false));
                assert_eq!(first[0].get::<Uuid, _>("attestation_id"), second[0].get::<Uuid, _>("attestation_id"));
            }
            Some(code) => assert_eq!(crate::sql::refusal_of(&second.unwrap_err()).code, code),
        }
        assert_eq!(world.count_of("ingress_attestations").await, 1);
    }
}

#[tokio::test]
async fn a_bad_attestation_is_refused_by_column_and_no_token_or_payload_is_taken() {
    let mut world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhY21lIn0.c2lnbmF0dXJl";
    let with = |extra: String| record("r", &extra);
    for (column, statement) in [
        ("request_id", record("", "")),
        ("request_id", record(&"x".repeat(201), "")),
        ("participant_id", record("r", "").replace("'acme'", "null")),
        ("instruction_id", with("p_instruction_id => null".into())),
        ("tenant_id", with(format!("p_tenant_id => '{}'", "x".repeat(201)))),
        ("received_at", record("r", "").replace("now()", "'infinity'")),
        ("payload_sha256", with("p_payload_sha256 => '\\x00'".into())),
        ("payload_sha256", with("p_payload_sha256 => null".into())),
        ("auth_method", with("p_auth_method => 'PASSWORD'".into())),
        ("auth_method", with("p_auth_method => 'NONE'".into())),
        ("client_cert_fingerprint", with("p_client_cert_fingerprint => '\\x00'".into())),
        ("client_cert_fingerprint", with("p_auth_method => 'MTLS'".into())),
        ("jti", with("p_auth_method => 'JWT'; p_key_id => null".into())),
        ("key_id", with("p_key_id => null".into())),
        ("key_id", with(format!("p_key_id => '{token}'"))),
        ("jti", with(format!("p_jti => '{token}'"))),
        ("jwt_iss", with(format!("p_jwt_iss => '{token}'"))),
        ("signature", with(format!("p_signature => '{token}'::bytea"))),
        ("signature", with("p_signature => convert_to(repeat('x', 4097), 'UTF8')".into())),
        ("signature_alg", with(format!("p_signature_alg => '{}'", "x".repeat(65)))),
        ("decision", with("p_decision => 'MAYBE'".into())),
        ("reason_code", with("p_decision => 'REJECTED'".into())),
        ("reason_code", with("p_reason_code => 'because of that'".into())),
        ("policy_version", with(format!("p_policy_version => '{}'", "x".repeat(129)))),
    ] {
        let refusal = refused(&mut ingest, &statement).await;
        assert_eq!(
            (refusal.code.as_str(), refusal.column.as_deref()),
            ("OB003", Some(column)),
            "{statement}: {refusal:?}"
        );
        assert!(!refusal.message.contains("eyJ"), "{refusal:?}");
    }
    assert_eq!((world.count_of("ingress_requests").await, world.count_of("ingress_attestations").await), (0, 0));
    // A detached signature has no payload.
    run(
        &mut ingest,
        &record("r", "p_auth_method => 'JWS'; p_signature => 'eyJhbGciOiJFUzI1NiJ9..c2lnbmF0dXJl'::bytea"),
    )
    .await;
}

#[tokio::test]
async fn what_is_attested_or_revoked_is_changed_by_nobody() {
    let mut world = World::new().await;
    run(&mut world.dba, &record("r", "")).await;
    run(
        &mut world.dba,
        "select outbox.revoke_client_cert(sha256('a'), 'lost'), outbox.revoke_token('j', null, null, 'lost')",
    )
    .await;
    let tables: Vec<String> = column(
        &mut world.dba,
        "select 'outbox.' || t from unnest(array['ingress_attestations', 'ingress_requests', 'revoked_client_certs', 'revoked_tokens']) as t
         union select tableoid::regclass::text from outbox.ingress_attestations
         union select tableoid::regclass::text from outbox.ingress_requests",
    )
    .await;
    assert_eq!(tables.len(), 6, "{tables:?}");
    let mut sessions = vec![("superuser", world.db.connect_as("postgres").await.unwrap())];
    let mut replica = world.db.connect_as("postgres").await.unwrap();
    run(&mut replica, "set session_replication_role = replica").await;
    sessions.push(("superuser as replica", replica));
    for (login, _) in LOGINS {
        sessions.push((login, world.db.connect_as(login).await.unwrap()));
    }
    for (who, session) in &mut sessions {
        let may = *who == "t_migrator" || who.starts_with("superuser");
        for table in &tables {
            let first = if table.contains("requests") {
                "request_id"
            } else if table.contains("revoked") {
                "reason"
            } else {
                "decision"
            };
            for statement in [
                format!("update {table} set {first} = {first}"),
                format!("delete from {table}"),
                format!("truncate {table}"),
                format!("merge into {table} h using (select 1) as s on true when matched then delete"),
            ] {
                let code = if may { "OB009" } else { "42501" };
                assert_eq!(refused(session, &statement).await.code, code, "{who}: {statement}");
            }
        }
    }
}

#[tokio::test]
async fn a_month_of_attestations_made_later_is_guarded_like_the_first() {
    let mut world = World::new().await;
    let month = "select 'outbox.ingress_attestations' || to_char(date_trunc('month', clock_timestamp(), 'UTC') at time zone 'UTC' + interval '24 months', '\"_y\"YYYY\"m\"MM')";
    let month: String = scalar(&mut world.dba, month).await;
    run(&mut world.dba, &format!("drop table {month}")).await;
    assert_eq!(scalar::<i32>(&mut world.dba, "select outbox.partition_headroom_months()").await, 23);
    let mut owner = world.db.connect_as("t_migrator").await.unwrap();
    assert_eq!(scalar::<i32>(&mut owner, "select outbox.ensure_outbox_partitions()").await, 1);
    assert_eq!(unguarded(&mut world.dba).await, Vec::<String>::new());
    assert_eq!(refused(&mut owner, &format!("truncate {month}")).await.code, "OB009");
}

/// The tables of this part that a transaction of `t_ingest` has touched.
const TOUCHED: &str = "select distinct c.relname::text from pg_locks l join pg_stat_activity a using (pid) join pg_class c on c.oid = l.relation
      where a.datname = current_database() and a.usename = 't_ingest' and c.relname ~ '^(ingress|revoked)' and c.relkind in ('r', 'p') order by 1";

fn enqueue(instruction: &str, attestation: &str) -> String {
    format!(
        "select * from outbox.enqueue_payment_outbox_text('acme', '{instruction}', 'k', 'wire', 'x', 'text/plain', 1, 'EUR', \
         p_attestation_id => {attestation})"
    )
}

#[tokio::test]
async fn enqueue_looks_at_no_attestation_and_no_revocation_where_none_is_given_or_required() {
    let mut world = World::new().await;
    let mut ingest = Actor::enter(&world.db, "t_ingest", "ingest").await;
    ingest.does("begin").await;
    ingest.does(&enqueue("i-1", "null")).await;
    assert_eq!(column::<String>(&mut world.dba, TOUCHED).await, Vec::<String>::new());
    ingest.does("commit").await;
    let id: Uuid = ingest.asks(&record("r", "p_instruction_id => 'i-2'")).await[0].get("attestation_id");
    ingest.does("begin").await;
    ingest.does(&enqueue("i-2", &format!("'{id}'"))).await;
    let touched: Vec<String> = column(&mut world.dba, TOUCHED).await;
    assert_eq!(touched.len(), 4, "the parent, one month, and the two lists: {touched:?}");
    ingest.does("commit").await;
}

#[tokio::test]
async fn locks_of_an_attested_enqueue_do_not_grow_with_the_months() {
    let mut world = World::new().await;
    let mut ingest = Actor::enter(&world.db, "t_ingest", "ingest").await;
    let mut locked = Vec::new();
    for round in ["first", "second"] {
        ingest.does("begin").await;
        let id: Uuid =
            ingest.asks(&record(round, &format!("p_instruction_id => '{round}'"))).await[0].get("attestation_id");
        ingest.does(&record(round, &format!("p_instruction_id => '{round}'"))).await;
        ingest.does(&enqueue(round, &format!("'{id}'"))).await;
        locked.push(locked_by(&mut world.dba, "t_ingest").await);
        ingest.does("commit").await;
        if round == "first" {
            make_older_months(&mut world.dba, 94).await;
        }
    }
    // The names of the partitions of the identities differ with the instruction.
    assert_eq!(locked[0].len(), locked[1].len(), "{:#?} and then {:#?}", locked[0], locked[1]);
}
