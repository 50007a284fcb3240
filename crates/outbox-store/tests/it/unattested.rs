//! A payment that got past the attestation that its policy asks for is a finding of the audit.

use outbox_core::OutboxId;
use outbox_store::{AuditScope, Hint, enqueue_batch};
use serde_json::json;

use crate::attestation::attestation;
use crate::audit::{audited, breaches, by_force};
use crate::policy::{Office, contract, document};
use crate::world::{RAIL, World, payment};

/// A policy that asks for attestations on the rail, and an attested payment.
async fn asked_for() -> (World, OutboxId) {
    let mut world = World::new().await;
    let asking = contract(&mut world, json!({"require_attestation": true})).await;
    Office::of(&world).activates(&document(RAIL, &asking)).await;
    let attested = [world.attested("a").await];
    let id = enqueue_batch(&mut world.session("t_ingest"), &attested, Hint::Quiet).await.unwrap()[0].outbox_id;
    (world, id)
}

#[tokio::test]
async fn a_payment_without_the_attestation_that_its_policy_asks_for_is_found_by_the_audit() {
    let (mut world, id) = asked_for().await;
    let mut other = attestation(&payment("b"));
    other.payload_sha256 = [9; 32];
    let other = world.attest(&other).await.attestation_id;
    let mut auditor = world.session("t_auditor");
    assert_eq!(breaches(&audited(&mut auditor, AuditScope::Full).await), Vec::<String>::new());
    for attestation_id in ["null".to_owned(), format!("'{other}'")] {
        let forged = format!("update outbox.payment_outbox_instructions set attestation_id = {attestation_id}");
        by_force(&mut world.dba, &forged).await;
        let found = breaches(&audited(&mut auditor, AuditScope::Full).await);
        assert_eq!(found, [format!("UNATTESTED {id}")], "{attestation_id}");
    }
}

#[tokio::test]
async fn what_came_in_before_the_policy_asked_for_attestations_is_no_finding() {
    let mut world = World::new().await;
    world.enqueue("before", 2).await;
    let same = contract(&mut world, json!({})).await;
    let mut office = Office::of(&world);
    office.activates(&document(RAIL, &same)).await;
    world.enqueue("under-the-first", 2).await;
    let asking = contract(&mut world, json!({"require_attestation": true})).await;
    office.activates(&document(RAIL, &asking)).await;
    let attested = [world.attested("a").await];
    let id = enqueue_batch(&mut world.session("t_ingest"), &attested, Hint::Quiet).await.unwrap()[0].outbox_id;
    by_force(&mut world.dba, "update outbox.payment_outbox_instructions set attestation_id = null").await;
    let report = audited(&mut world.session("t_auditor"), AuditScope::Full).await;
    assert_eq!((breaches(&report), &report["examined"]), (vec![format!("UNATTESTED {id}")], &5.into()));
}
