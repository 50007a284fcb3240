//! What is left of a detached month: receipts that audits count, hashes that can be made again, and clear answers about
//! its payments.

use outbox_core::{OutboxId, Outcome};
use outbox_store::{
    ActionKind, AuditScope, Hint, StoreError, apply_action, decide_action, enqueue_batch, hash_table, propose_action,
    read_action_members, read_breaks, read_partitions, read_status, read_timelines,
};
use serde_json::Value;

use crate::control::Desk;
use crate::old_month::OldMonth;
use crate::reconcile::{Paper, open};
use crate::sql::{refused, run, scalar};
use crate::world::{completion, forged_lease, lease, payment};

#[tokio::test]
async fn audits_count_what_left_by_receipt_and_find_what_left_without() {
    let (mut old, _) = OldMonth::with(3).await;
    let new = old.world.enqueue("new", 3).await;
    old.detach().await;
    let mut worker = old.world.worker("w");
    let claimed = worker.claim(2).await.leased;
    worker.complete_one(lease(&claimed[0]), Outcome::Accepted).await;
    // Identities = pending + ended + detached by receipt.
    let report = old.audited(AuditScope::Full).await;
    let counts = ["identities", "pending", "detached", "breaches"].map(|name| report[name].as_i64().unwrap());
    assert_eq!(counts, [6, 2, 3, 0], "{report}");
    let lost = new.iter().find(|id| claimed.iter().all(|one| one.outbox_id != **id)).unwrap();
    run(&mut old.world.dba, &format!("delete from outbox.payment_outbox_pending where outbox_id = '{lost}'")).await;
    for scope in [AuditScope::Changed, AuditScope::Full] {
        assert_eq!(old.breaches(scope).await, [format!("LOST {lost}")], "{scope:?}");
    }
}

#[tokio::test]
async fn a_month_that_left_without_a_receipt_is_missed_by_every_audit_and_its_payments_by_a_full_one() {
    let (mut old, _) = OldMonth::with(3).await;
    old.detach().await;
    let id = old.world.enqueue("new", 1).await[0];
    old.dispatch().await;
    assert_eq!(old.breaches(AuditScope::Full).await, Vec::<String>::new());
    let this_month = "do $$ declare v text; begin
        foreach v in array array['outbox.payment_outbox_instructions', 'outbox.payment_outbox_attempts'] loop
            execute format('alter table %s detach partition %s', v, v || to_char(now() at time zone 'UTC', '\"_y\"YYYY\"m\"MM'));
        end loop; end $$";
    run(&mut old.world.dba, this_month).await;
    assert_eq!(old.breaches(AuditScope::Changed).await, ["MONTH_WITHOUT_RECEIPT -", "MONTH_WITHOUT_RECEIPT -"]);
    let all = old.breaches(AuditScope::Full).await;
    assert!(all.contains(&format!("LOST {id}")), "{all:?}");
}

#[tokio::test]
async fn a_receipt_whose_counts_lie_is_found() {
    for (lie, scopes) in [
        // Both lie alike: only the identities know.
        ("update outbox.partition_receipts set payment_count = 4, row_count = 4", &[AuditScope::Full][..]),
        ("update outbox.partition_receipts set payment_count = 2, row_count = 2", &[AuditScope::Full]),
        (
            "update outbox.partition_receipts set payment_count = 2 where parent_name like '%attempts'",
            &[AuditScope::Changed, AuditScope::Full],
        ),
        (
            "update outbox.partition_receipts set row_count = 2 where parent_name like '%instructions'",
            &[AuditScope::Changed, AuditScope::Full],
        ),
        (
            "delete from outbox.partition_receipts where parent_name like '%attempts'",
            &[AuditScope::Changed, AuditScope::Full],
        ),
    ] {
        let (mut old, _) = OldMonth::with(3).await;
        old.detach().await;
        old.by_force("partition_receipts", lie).await;
        for scope in scopes {
            let all = old.breaches(*scope).await;
            assert!(all.contains(&"RECEIPT_DIFFERS -".to_owned()), "{lie} {scope:?}: {all:?}");
        }
    }
}

#[tokio::test]
async fn an_identity_or_a_pending_row_that_comes_into_a_detached_month_is_found() {
    let (mut old, ids) = OldMonth::with(2).await;
    old.detach().await;
    let text = format!(
        "insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, next_attempt_at, created_at) \
         values ('{}', 'wire', 'acme', now(), now())",
        ids[0]
    );
    run(&mut old.world.dba, &text).await;
    assert_eq!(old.breaches(AuditScope::Changed).await, [format!("PENDING_BUT_DETACHED {}", ids[0])]);
    run(&mut old.world.dba, "delete from outbox.payment_outbox_pending").await;
    assert_eq!(old.breaches(AuditScope::Changed).await, Vec::<String>::new());
    let forged = "insert into outbox.payment_outbox_identities select participant_id, 'forged', 0, 'k', \
                  (left(outbox_id::text, 18) || right(gen_random_uuid()::text, 18))::uuid, identity_sha256 \
                  from outbox.payment_outbox_identities limit 1";
    run(&mut old.world.dba, forged).await;
    assert_eq!(old.breaches(AuditScope::Full).await, ["RECEIPT_DIFFERS -"]);
}

/// The hash on the receipt of `table`, and its count.
async fn receipt(old: &OldMonth, table: &str) -> (Vec<u8>, i64) {
    let all = read_partitions(&mut old.world.session("t_auditor")).await.unwrap();
    let receipt = all.into_iter().find(|row| row.table_name == table).unwrap().receipt.unwrap();
    (receipt.rows_sha256, receipt.row_count)
}

/// The same in one statement, by a session with settings of its own.
async fn hash_elsewhere(old: &OldMonth, table: &str) -> Vec<u8> {
    let mut session = old.world.db.connect_as("t_migrator").await.unwrap();
    run(&mut session, "set timezone = 'Pacific/Apia'; set datestyle = 'German'; set bytea_output = 'escape'").await;
    let text = format!(
        "with recursive chunks as (
             select c.* from outbox.hash_table_chunk('{table}', null, null) as c
             union all
             select n.* from chunks c cross join lateral outbox.hash_table_chunk('{table}', c.chain, c.last_key) as n where c.row_count > 0)
         select c.chain from chunks c where c.row_count = 0"
    );
    scalar(&mut session, &text).await
}

async fn hash(old: &OldMonth, table: &str) -> (Vec<u8>, i64) {
    let hashed = hash_table(&old.settings(0), table).await.unwrap();
    (hashed.rows_sha256, hashed.row_count)
}

#[tokio::test]
async fn the_hash_of_a_detached_table_is_that_of_its_receipt_and_any_change_of_an_archive_is_another() {
    // More than two chunks.
    let (mut old, _) = OldMonth::with(2_100).await;
    old.detach().await;
    run(&mut old.world.dba, "create schema archive authorization outbox_owner").await;
    for table in old.tables.clone() {
        let recorded = receipt(&old, &table).await;
        assert_eq!(recorded.1, 2_100, "{table}");
        assert_eq!(hash(&old, &format!("outbox.{table}")).await, recorded, "{table}");
        // As an archive has it: written in another order.
        let copy = format!(
            "create table archive.{table} (like outbox.{table} including all); alter table archive.{table} owner to outbox_owner;
             insert into archive.{table} select * from outbox.{table} order by random()"
        );
        run(&mut old.world.dba, &copy).await;
        let archived = format!("archive.{table}");
        assert_eq!(hash(&old, &archived).await, recorded, "{table}");
        assert_eq!(hash_elsewhere(&old, &archived).await, recorded.0, "{table}");
        let first = format!("(select min(outbox_id::text)::uuid from {archived})");
        let last = format!("(select max(outbox_id::text)::uuid from {archived})");
        for (change, undo) in [
            (
                format!("update {archived} set rail = 'wirf' where outbox_id = {first}"),
                format!("update {archived} set rail = 'wire'"),
            ),
            (
                format!(
                    "create temp table gone as select * from {archived} where outbox_id = {last}; delete from {archived} where outbox_id = {last}"
                ),
                format!("insert into {archived} select * from gone; drop table gone"),
            ),
        ] {
            run(&mut old.world.dba, &change).await;
            assert_ne!(hash(&old, &archived).await.0, recorded.0, "{change}");
            run(&mut old.world.dba, &undo).await;
            assert_eq!(hash(&old, &archived).await, recorded, "{undo}");
        }
    }
}

#[tokio::test]
async fn a_detached_table_cannot_be_rewritten_and_one_without_its_guard_is_named() {
    let (mut old, _) = OldMonth::with(2).await;
    old.detach().await;
    let mut owner = old.world.db.connect_as("t_migrator").await.unwrap();
    run(&mut old.world.dba, "set session_replication_role = replica").await;
    for table in old.tables.clone() {
        for statement in [
            format!("update outbox.{table} set rail = 'x'"),
            format!("delete from outbox.{table}"),
            format!("insert into outbox.{table} select * from outbox.{table}"),
            format!("truncate outbox.{table}"),
        ] {
            assert_eq!(refused(&mut owner, &statement).await.code, "OB009", "{statement}");
            assert_eq!(refused(&mut old.world.dba, &statement).await.code, "OB009", "{statement}");
        }
        run(&mut owner, &format!("alter table outbox.{table} disable trigger month_is_sealed")).await;
        assert_eq!(old.breaches(AuditScope::Changed).await, ["HISTORY_UNGUARDED -"]);
        run(&mut owner, &format!("alter table outbox.{table} enable always trigger month_is_sealed")).await;
    }
    let harmless = "create or replace function outbox.refuse_sealed_change() returns trigger language plpgsql as $$ begin return new; end $$";
    run(&mut owner, harmless).await;
    assert_eq!(old.breaches(AuditScope::Changed).await, ["HISTORY_UNGUARDED -"]);
}

#[tokio::test]
async fn a_payment_of_a_detached_month_is_known_and_never_paid_again() {
    let (mut old, ids) = OldMonth::with(1).await;
    old.detach().await;
    let mut ingest = old.world.session("t_ingest");
    let again = enqueue_batch(&mut ingest, &[payment("old-1")], Hint::Wake).await.unwrap();
    assert_eq!((again[0].outbox_id, again[0].created), (ids[0], false));
    let mut other = payment("old-1");
    other.amount_minor = Some(1);
    let refused = enqueue_batch(&mut ingest, &[other], Hint::Wake).await.unwrap_err();
    assert_eq!(refused.refusal(), Some("OB001"));
    assert!(old.world.worker("w").claim(10).await.leased.is_empty(), "nothing of it is due");
    let mut maker = old.world.session("t_operator");
    let refused = propose_action(&mut maker, ActionKind::Redrive, &ids, "why", Some("E"), "{}").await.unwrap_err();
    let StoreError::Refused { code, message, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(code, "OB003");
    let expected = format!(
        "payment {} cannot be acted on: its month {} was detached: see its receipt, {}",
        ids[0],
        &old.month.to_string()[..7],
        old.tables[0]
    );
    assert_eq!(message, expected);
    for id in [ids[0].to_string(), "old-1".to_owned()] {
        let found = read_timelines(&mut old.world.session("t_auditor"), &id, None).await.unwrap();
        assert_eq!(found.len(), 1, "{id}");
        let document: Value = serde_json::from_str(&found[0]).unwrap();
        assert_eq!(document["instruction_id"], "old-1");
        let named: Vec<&str> =
            document["detached"].as_array().unwrap().iter().map(|one| one["table_name"].as_str().unwrap()).collect();
        assert_eq!(named, [&old.tables[1], &old.tables[0]]);
    }
}

#[tokio::test]
async fn a_redrive_that_was_approved_before_its_month_left_is_skipped_by_name() {
    let (mut old, ids) = OldMonth::with(1).await;
    let mut desk = Desk::of(&old.world);
    let proposal = propose_action(&mut desk.maker, ActionKind::Redrive, &ids, "why", Some("E"), "{}").await.unwrap();
    decide_action(&mut desk.checker, &proposal, true, "checked").await.unwrap();
    // By force: a month with an open action is refused.
    old.by_force(
        "operator_action_results",
        &format!(
            "insert into outbox.operator_action_results values ('{}', '{}', 'SKIPPED', null, null, 'x', now())",
            proposal.action_id, ids[0]
        ),
    )
    .await;
    old.detach().await;
    old.by_force("operator_action_results", "delete from outbox.operator_action_results").await;
    let report = apply_action(&mut desk.maker, proposal.action_id, 10).await.unwrap();
    assert_eq!((report.remaining, report.results[0].applied), (0, false));
    assert!(report.results[0].detail.as_ref().unwrap().contains("was detached"), "{report:?}");
    assert_eq!(pending(&mut old).await, 0);
}

async fn pending(old: &mut OldMonth) -> i64 {
    scalar(&mut old.world.dba, "select count(*) from outbox.payment_outbox_pending").await
}

/// What every audit names that is no breach.
async fn named(old: &mut OldMonth) -> Vec<String> {
    let report = old.audited(AuditScope::Changed).await;
    assert_eq!(report["breaches"], 0, "{report}");
    let all = report["findings"].as_array().unwrap().iter();
    all.map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["outbox_id"].as_str().unwrap())).collect()
}

/// A payment of the old month that the rail refused, and said later to another worker that it had accepted.
async fn contradicted(old: &mut OldMonth) -> OutboxId {
    let id = old.enqueue("contradicted", 1).await[0];
    let mut worker = old.world.worker("w");
    let stale = lease(&worker.claim_one().await);
    old.world.lose_lease(id).await;
    worker.claim(10).await;
    let current = lease(&worker.claim_one().await);
    worker.complete_one(current, Outcome::Refused).await;
    worker.complete_one(stale, Outcome::Accepted).await;
    id
}

#[tokio::test]
async fn what_the_rail_accepted_against_our_books_stays_in_sight_when_its_month_is_gone() {
    let mut old = OldMonth::empty().await;
    let id = contradicted(&mut old).await;
    let quiet = old.enqueue("quiet", 1).await[0];
    old.dispatch().await;
    old.age(100).await;
    let expected = [format!("FAILED_BUT_ACCEPTED {id}")];
    assert_eq!(named(&mut old).await, expected);
    for steps in [1, 1, 1, 1, 1] {
        assert_eq!(old.steps(steps).await.unwrap(), Vec::<String>::new());
        assert_eq!(named(&mut old).await, expected, "{:?}", old.states().await);
    }
    let status = read_status(&mut old.world.session("t_monitor"), None).await.unwrap();
    assert_eq!(status[0].failed_but_accepted, 1);
    // What the rail says only now cannot be compared here any more, and is kept and named.
    let mut worker = old.world.worker("w");
    worker.complete(&[completion(forged_lease(quiet, 1), Outcome::Accepted)]).await;
    assert_eq!(named(&mut old).await, [format!("ACCEPTED_WHEN_DETACHED {quiet}"), expected[0].clone()]);
}

#[tokio::test]
async fn statements_breaks_and_actions_that_name_a_payment_of_a_detached_month_say_that_it_is() {
    let (mut old, ids) = OldMonth::with(1).await;
    let mut desk = Desk::of(&old.world);
    let proposal = desk.propose(ActionKind::Redrive, &ids).await;
    decide_action(&mut desk.checker, &proposal, false, "no").await.unwrap();
    let closed = "insert into outbox.reconcile_breaks (break_id, statement_id, rail, kind, subject, outbox_id, found_at) values \
                  ('01900000-0000-7000-8000-000000000001', gen_random_uuid(), 'wire', 'REFERENCE_DIFFERS', '{id}', '{id}', now()); \
                  insert into outbox.reconcile_resolutions values ('01900000-0000-7000-8000-000000000001', 'found', null, null, 'ben', now(), 1)";
    run(&mut old.world.dba, &closed.replace("{id}", &ids[0].to_string())).await;
    let standing = async |desk: &mut Desk| -> Value {
        let texts = read_breaks(&mut desk.maker, false, None, None, 10).await.unwrap();
        serde_json::from_str::<Value>(&texts[0]).unwrap()["standing_now"].clone()
    };
    let member = async |desk: &mut Desk| -> Value {
        let texts = read_action_members(&mut desk.maker, proposal.action_id, None, 10).await.unwrap();
        assert_eq!(texts.len(), 1, "no member is left out");
        serde_json::from_str::<Value>(&texts[0]).unwrap()["ended_as"].clone()
    };
    assert_eq!((standing(&mut desk).await, member(&mut desk).await), ("DISPATCHED".into(), "DISPATCHED".into()));
    old.detach().await;
    assert_eq!((standing(&mut desk).await, member(&mut desk).await), ("DETACHED".into(), "DETACHED".into()));
    // Booked once more by the rail, a year late: a person has to look, in the archive.
    Paper::new(1).line(Some(ids[0]), Some("AGAIN"), 1_250).compared(&mut desk.maker).await.unwrap();
    assert_eq!(open(&mut desk.maker).await.0, ["UNKNOWN_TO_US AGAIN DETACHED"]);
}
