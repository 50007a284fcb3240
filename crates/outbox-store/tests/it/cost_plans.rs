//! The plans of the hot statements where all tables are long: 100,000 other payments have been enqueued, were tried once and wait
//! for an hour. What is asserted here is how many rows go through a plan, and that none of a table are sorted; by which ways the
//! plans go is in `cost`.

use std::collections::BTreeMap;

use crate::batch_plans::{KEEP, complete_all, plans_told, rows_handled};
use crate::cost::{BATCH, CLAIM, ENQUEUE_BATCH, RENEW};
use crate::enqueue_identity::enqueue_sql;
use crate::sql::run;
use crate::world::World;

/// The others, in every table that a payment has a row in.
const OTHERS: &str = "
    create table others as select outbox.new_outbox_id() as id, 'other-' || n as name, now() + interval '1 hour' + n * interval '1 ms' as due
      from generate_series(1, 100000) as n;
    insert into outbox.payment_outbox_identities (participant_id, instruction_id, idempotency_key, outbox_id, identity_sha256)
    select 'acme', name, name, id, sha256('x') from others;
    insert into outbox.payment_outbox_instructions (outbox_id, participant_id, instruction_id, rail, payload, content_type, payload_sha256,
           amount_minor, currency, enqueued_by, created_at)
    select id, 'acme', name, 'wire', 'x', 'text/plain', sha256('x'), 1, 'EUR', 'other', now() from others;
    insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, claimed_at, completed_at)
    select id, 1, 'wire', 'SUBMIT', 'RETRYABLE', 'NOT_SENT', 'other', id, now(), now() from others;
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, attempt_count, next_attempt_at, created_at)
    select id, 'wire', 'acme', 1, due, now() from others;
    analyze outbox.payment_outbox_identities, outbox.payment_outbox_instructions, outbox.payment_outbox_attempts, outbox.payment_outbox_pending";

/// The plans of each hot call on a batch, and of an enqueue, by the call's name, with the others waiting.
pub(crate) async fn hot_plans() -> BTreeMap<&'static str, String> {
    let mut world = World::new().await;
    run(&mut world.dba, OTHERS).await;
    world.enqueue("a", 1_000).await;
    let mut told = BTreeMap::new();
    let mut tell = |world: &World, name, call: &str, count: Option<u32>| {
        let (rows, plans) = plans_told(&world.db, call);
        assert!(count.is_none_or(|count| rows == count.to_string()), "{name}: {rows} rows");
        told.insert(name, plans);
    };
    // A claim has its summary.
    tell(&world, "claim", CLAIM, Some(BATCH + 1));
    run(&mut world.dba, KEEP).await;
    tell(&world, "renewal", RENEW, Some(BATCH));
    tell(&world, "completion", &complete_all("ACCEPTED"), Some(BATCH));
    tell(&world, "completion too late", &complete_all("UNKNOWN"), Some(BATCH));
    run(&mut world.dba, &format!("drop table kept; {CLAIM}")).await;
    run(&mut world.dba, KEEP).await;
    tell(&world, "completion as unknown", &complete_all("UNKNOWN"), Some(BATCH));
    // In the thirteenth of the tables that say who has been paid: who went through them in turn would not end with the first.
    let one = enqueue_sql("solo", "k", "x", "");
    tell(&world, "enqueue", &one, None);
    tell(&world, "enqueue again", &one, None);
    for name in ["enqueue of a batch", "enqueue of a batch again"] {
        tell(&world, name, ENQUEUE_BATCH, Some(BATCH));
    }
    told
}

/// What a node of a plan does, if the line is one: `Index Scan using … on …`.
fn node(line: &str) -> Option<&str> {
    let (name, _) = line.split_once("  (cost=")?;
    Some(name.trim_start().trim_start_matches("->  "))
}

/// The nodes that read a table; what is left out reads what another node or a function made, or what a test keeps.
pub(crate) fn table_scan(line: &str) -> Option<&str> {
    const OF_NO_TABLE: [&str; 4] = ["Function Scan", "CTE Scan", "Subquery Scan", "Values Scan"];
    let made = |name: &&str| OF_NO_TABLE.iter().any(|kind| name.starts_with(kind)) || name.ends_with(" on kept");
    node(line).filter(|name| name.contains(" Scan")).filter(|name| !made(name))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The scans of tables whose rows a sort gets: of what is below it its own input, not what is planned beside that (a CTE).
fn sorted_scans(plans: &str) -> Vec<&str> {
    let lines: Vec<&str> = plans.lines().collect();
    let mut scans = Vec::new();
    for (at, sort) in lines.iter().enumerate() {
        if !matches!(node(sort), Some("Sort" | "Incremental Sort")) {
            continue;
        }
        let input = indent(sort) + if sort.trim_start().starts_with("->") { 6 } else { 2 };
        let mut is_input = false;
        for line in lines[at + 1..].iter().take_while(|line| indent(line) >= input) {
            // The label of what is planned beside stands where the arrow of the input does.
            if indent(line) == input {
                is_input = line.trim_start().starts_with("->");
            }
            scans.extend(table_scan(line).filter(|_| is_input));
        }
    }
    scans
}

#[test]
fn a_sort_of_a_tables_rows_is_told_from_one_of_a_batch() {
    let of_a_batch = "Sort  (cost=1.0..2.0 rows=5 width=8) (actual rows=5 loops=1)
  Sort Key: d.ordinal
  CTE decided
    ->  Index Scan using payment_outbox_pending_pkey on payment_outbox_pending q  (cost=1.0..2.0 rows=5 width=8)
  ->  CTE Scan on decided d  (cost=1.0..2.0 rows=5 width=8) (actual rows=5 loops=1)
NOTICE:  duration: 1.0 ms  plan:
Index Scan using payment_rails_pkey on payment_rails r  (cost=1.0..2.0 rows=5 width=8)";
    assert!(sorted_scans(of_a_batch).is_empty());
    let of_a_table = "Limit  (cost=1.0..2.0 rows=5 width=8)
  ->  Incremental Sort  (cost=1.0..2.0 rows=5 width=8)
        Sort Key: p.next_attempt_at
        ->  Append  (cost=1.0..2.0 rows=5 width=8)
              ->  Seq Scan on payment_outbox_pending p  (cost=1.0..2.0 rows=5 width=8)";
    assert_eq!(sorted_scans(of_a_table), ["Seq Scan on payment_outbox_pending p"]);
}

#[tokio::test]
async fn hot_plans_sort_no_rows_of_a_table_and_handle_no_more_rows_than_a_batch_has_with_100_000_others_waiting() {
    for (call, plans) in hot_plans().await {
        assert!(sorted_scans(&plans).is_empty(), "{call} sorts the rows of {:?}", sorted_scans(&plans));
        let (most, line) = rows_handled(&plans).into_iter().max().unwrap();
        // What a claim returns has its summary.
        assert!(most <= BATCH as usize + 1, "{call}: {most} rows in `{line}`");
    }
}
