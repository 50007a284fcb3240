//! The attestation that a payment names, as the audit finds it later; and the policy that judges an enqueue which waits.

use outbox_core::{OutboxId, Outcome};
use outbox_store::{ActionKind, AuditScope, Hint, NewPayment, enqueue_batch};
use serde_json::json;
use uuid::Uuid;

use crate::attestation::attestation;
use crate::audit::{audited, breaches, by_force};
use crate::control::Desk;
use crate::enqueue_identity::enqueue_sql;
use crate::policy::{Office, contract, document};
use crate::sql::{column, run};
use crate::steps::Actor;
use crate::world::{RAIL, World, lease, payment};

/// A payment with an attestation of its own.
async fn attested(world: &World, instruction_id: &str) -> OutboxId {
    let attested = [world.attested(instruction_id).await];
    enqueue_batch(&mut world.session("t_ingest"), &attested, Hint::Quiet).await.unwrap()[0].outbox_id
}

#[tokio::test]
async fn a_payment_whose_attestation_does_not_allow_it_is_found_by_the_audit() {
    let mut world = World::new().await;
    let id = attested(&world, "a").await;
    let mut of_other_bytes = attestation(&payment("a"));
    (of_other_bytes.request_id, of_other_bytes.payload_sha256) = ("other".to_owned(), [9; 32]);
    let of_other_bytes = world.attest(&of_other_bytes).await.attestation_id;
    let of_another = world.attest(&attestation(&payment("b"))).await.attestation_id;
    let mut auditor = world.session("t_auditor");
    assert_eq!(breaches(&audited(&mut auditor, AuditScope::Full).await), Vec::<String>::new());
    for forged in [of_other_bytes, of_another, Uuid::now_v7()] {
        let statement = format!("update outbox.payment_outbox_instructions set attestation_id = '{forged}'");
        by_force(&mut world.dba, &statement).await;
        for scope in [AuditScope::Changed, AuditScope::Full] {
            let found = breaches(&audited(&mut auditor, scope).await);
            assert_eq!(found, [format!("ATTESTATION_DIFFERS {id}")], "{forged}");
        }
    }
}

#[tokio::test]
async fn a_redriven_payment_and_one_whose_attestation_was_detached_are_no_finding() {
    let mut world = World::new().await;
    let id = attested(&world, "a").await;
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    worker.complete_one(lease(&claimed), Outcome::Refused).await;
    assert!(Desk::of(&world).does(ActionKind::Redrive, &[id]).await[0].applied);
    let mut auditor = world.session("t_auditor");
    assert_eq!(breaches(&audited(&mut auditor, AuditScope::Full).await), Vec::<String>::new());
    // As `partitions detach` leaves it: a receipt, and no rows.
    let detached = "alter table outbox.ingress_attestations disable trigger history_is_never_changed; delete from outbox.ingress_attestations; \
                    insert into outbox.partition_receipts select 'gone', 'ingress_attestations', 'ATTESTATIONS', date_trunc('month', now()), \
                    '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 1, null, sha256(''), '[]', 1, 'dba', now()";
    run(&mut world.dba, detached).await;
    let found = breaches(&audited(&mut auditor, AuditScope::Full).await);
    assert!(found.iter().all(|one| !one.starts_with("ATTESTATION_DIFFERS")), "{found:?}");
}

/// What an enqueue waits for.
#[derive(Clone, Copy)]
enum Behind {
    /// Another of its ordering key, which is recorded.
    OrderingKey,
    /// The same one, which comes to nothing.
    Itself,
}

/// What becomes of an enqueue without an attestation that waits while a policy that `asks` for attestations follows one that
/// does not, or the other way round; and under which version it is recorded.
async fn overtaken(asks: bool, behind: Behind) -> (Result<(), String>, Vec<Option<i32>>) {
    let mut world = World::new().await;
    let mut office = Office::of(&world);
    let before = contract(&mut world, json!({"require_attestation": !asks})).await;
    office.activates(&document(RAIL, &before)).await;
    let (held, key, end) = match behind {
        Behind::OrderingKey => ("first", ", p_ordering_key => 'account'", "commit"),
        Behind::Itself => ("second", "", "rollback"),
    };
    let first = NewPayment { payload: b"a".to_vec(), ..payment(held) };
    let attestation_id = world.attest(&attestation(&first)).await.attestation_id;
    let mut holder = Actor::enter(&world.db, "t_ingest", "holder").await;
    holder.does("begin").await;
    holder.does(&enqueue_sql(held, "k", "a", &format!("{key}, p_attestation_id => '{attestation_id}'"))).await;
    let mut waiting = Actor::enter(&world.db, "t_ingest", "waiting").await;
    waiting.starts(&enqueue_sql("second", "k", "a", key));
    waiting.waits(&mut world.dba).await;
    let after = contract(&mut world, json!({"require_attestation": asks})).await;
    office.activates(&document(RAIL, &after)).await;
    holder.does(end).await;
    let ended = waiting.ends().await.map(drop).map_err(|error| error.to_string());
    let versions = column(
        &mut world.dba,
        "select policy_version from outbox.payment_outbox_instructions where instruction_id = 'second'",
    );
    (ended, versions.await)
}

#[tokio::test]
async fn a_policy_that_is_put_in_force_while_an_enqueue_waits_judges_it_and_is_recorded() {
    for behind in [Behind::OrderingKey, Behind::Itself] {
        let (ended, versions) = overtaken(true, behind).await;
        assert!(ended.unwrap_err().contains("attestation_id is required by the contract of the rail"));
        assert_eq!(versions, []);
        assert_eq!(overtaken(false, behind).await, (Ok(()), vec![Some(2)]));
    }
}
