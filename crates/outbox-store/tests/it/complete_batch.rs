//! A batch of completions: one bad, locked or repeated payment costs nobody else its lease.

use outbox_core::{AttemptState, Outcome};
use outbox_store::{Completion, CompletionVerdict};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::interleavings::complete_sql;
use crate::sql::{column, fetch, refused, scalar};
use crate::steps::Actor;
use crate::world::{World, completion, forged_lease, lease};

fn is_dispatched(verdict: &CompletionVerdict) -> bool {
    matches!(verdict, CompletionVerdict::Applied { state: AttemptState::Dispatched, .. })
}

/// `count` leased payments and the completions that dispatch them.
async fn accepted(world: &World, count: usize) -> Vec<Completion> {
    world.enqueue("a", count).await;
    let batch = world.worker("w").claim(u32::try_from(count).unwrap()).await;
    assert_eq!(batch.leased.len(), count);
    batch.leased.iter().map(|claimed| completion(lease(claimed), Outcome::Accepted)).collect()
}

#[tokio::test]
async fn one_locked_row_makes_only_itself_busy() {
    let mut world = World::new().await;
    let completions = accepted(&world, 100).await;
    let mut person = Actor::enter(&world.db, "postgres", "person").await;
    let locked = completions[41].lease.outbox_id;
    person
        .does(&format!("begin; select from outbox.payment_outbox_pending where outbox_id = '{locked}' for update"))
        .await;
    let mut worker = world.worker("w");
    let verdicts = worker.complete(&completions).await;
    assert_eq!(verdicts[41], CompletionVerdict::Busy);
    assert_eq!(verdicts.iter().filter(|verdict| is_dispatched(verdict)).count(), 99);
    person.does("rollback").await;
    assert!(is_dispatched(&worker.complete(&completions[41..42]).await[0]));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn repetition_inside_a_batch_is_answered_busy_and_then_already_applied() {
    let mut world = World::new().await;
    let mut completions = accepted(&world, 3).await;
    completions.push(completions[1].clone());
    let mut worker = world.worker("w");
    let verdicts = worker.complete(&completions).await;
    assert!(verdicts[..3].iter().all(is_dispatched));
    assert_eq!(verdicts[3], CompletionVerdict::Busy);
    assert_eq!(worker.complete(&completions[3..]).await, [CompletionVerdict::AlreadyApplied]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn contradicting_results_in_one_batch_apply_the_first_and_keep_the_second() {
    let mut world = World::new().await;
    let accepted = accepted(&world, 1).await.remove(0);
    let refused = completion(accepted.lease, Outcome::Refused);
    let mut worker = world.worker("w");
    let verdicts = worker.complete(&[accepted, refused.clone()]).await;
    assert!(is_dispatched(&verdicts[0]) && verdicts[1] == CompletionVerdict::Busy);
    assert_eq!(worker.complete(&[refused]).await, [CompletionVerdict::Fenced]);
    let late: Vec<String> = column(&mut world.dba, "select outcome from outbox.payment_outbox_late_outcomes").await;
    assert_eq!(late, ["REFUSED"]);
}

#[tokio::test]
async fn bad_text_of_one_rail_answer_costs_only_that_text() {
    let mut world = World::new().await;
    let mut completions = accepted(&world, 20).await;
    completions[7].error_detail = Some("not\0text".to_owned());
    completions[7].endpoint = Some("https://rail.example/\0".to_owned());
    completions[13].rail_reference = Some("R\0-13".to_owned());
    completions[15].rail_reference = Some("\0".to_owned());
    completions[15].rail_code = Some("AC\0".to_owned());
    let verdicts = world.worker("w").complete(&completions).await;
    assert!(verdicts.iter().all(is_dispatched), "{verdicts:?}");
    let text = format!(
        "select concat_ws(' ', rail_reference, error_class, error_detail) from outbox.payment_outbox_attempts \
         where outbox_id in ('{}', '{}', '{}') order by outbox_id = '{0}' desc, rail_reference desc",
        completions[7].lease.outbox_id, completions[13].lease.outbox_id, completions[15].lease.outbox_id
    );
    let kept: Vec<String> = column(&mut world.dba, &text).await;
    let reference = format!("ref-{} unrecordable_text", completions[7].lease.outbox_id);
    assert_eq!(kept, [reference.as_str(), "R-13 unrecordable_text", "? unrecordable_text"]);
    let untouched: i64 = scalar(
        &mut world.dba,
        "select count(*) from outbox.payment_outbox_attempts where error_class is null and endpoint is not null",
    )
    .await;
    assert_eq!(untouched, 17);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn overlong_free_text_is_cut_not_refused() {
    let mut world = World::new().await;
    let mut one = accepted(&world, 1).await.remove(0);
    let long = Some("\u{20ac}".repeat(10_000));
    one.endpoint.clone_from(&long);
    one.rail_reference.clone_from(&long);
    one.rail_code.clone_from(&long);
    one.error_class.clone_from(&long);
    one.error_detail = long;
    let mut worker = world.worker("w");
    assert!(is_dispatched(&worker.complete(std::slice::from_ref(&one)).await[0]));
    assert_eq!(worker.complete(&[one]).await, [CompletionVerdict::AlreadyApplied], "the cut counts for both");
    let lengths: String = scalar(
        &mut world.dba,
        "select concat_ws(' ', length(endpoint), length(rail_reference), length(rail_code), length(error_class), \
         length(error_detail)) from outbox.payment_outbox_attempts",
    )
    .await;
    assert_eq!(lengths, "500 256 256 100 500");
}

#[tokio::test]
async fn unknown_outcomes_missing_ids_and_uneven_arrays_are_refused_whole() {
    let mut world = World::new().await;
    let one = accepted(&world, 1).await.remove(0);
    let good = complete_sql(one.lease, Outcome::Accepted, Some("R1"));
    let mut connection = world.db.connect_as("t_dispatcher").await.unwrap();
    let token = format!("array['{}'::uuid]", one.lease.lease_token.0);
    for (what, bad) in [
        ("an outcome nobody knows", good.replace("'ACCEPTED'", "'PAID'")),
        ("a state as an outcome", good.replace("'ACCEPTED'", "'DISPATCHED'")),
        ("no outcome", good.replace("'ACCEPTED'", "null")),
        ("two delays", good.replace("array[0::bigint]", "array[0::bigint, 0]")),
        ("no array of delays", good.replace("array[0::bigint]", "null")),
        ("no token", good.replace(&token, "array[null::uuid]")),
        ("no array of tokens", good.replace(&token, "null")),
        ("no attempt number", good.replace("array[1]", "array[null::integer]")),
        ("no ids", good.replace(&format!("array['{}'::uuid]", one.lease.outbox_id), "null")),
    ] {
        assert_ne!(bad, good, "{what}");
        assert_eq!(refused(&mut connection, &bad).await.code, "OB003", "{what}");
    }
    // What is taken by its place would be that of another payment.
    let typed = good.replace("array['ACCEPTED']", "array['ACCEPTED'::text]");
    let lists: Vec<usize> = typed.match_indices("array[").map(|(at, _)| at).collect();
    assert_eq!(lists.len(), 14, "{typed}");
    for at in lists {
        let (before, list) = typed.split_at(at);
        let (value, after) = list["array[".len()..].split_once(']').unwrap();
        for shape in ["array[1], array[0]", "array[2], array[0]", "array[1, 1]"] {
            let moved = format!("{before}array_fill({value}, {shape}){after}");
            assert_eq!(refused(&mut connection, &moved).await.code, "OB003", "{moved}");
        }
    }
    let row = world.pending(one.lease.outbox_id).await.unwrap();
    assert_eq!(row.get::<i32, _>("attempt_count"), 1);
    assert_eq!(fetch(&mut connection, &good).await[0].get::<String, _>("verdict"), "applied");
}

/// A batch that names a payment twice is judged result by result; what it says of an acceptance is what the shorter way has to say.
#[tokio::test]
async fn an_acceptance_is_recorded_alike_alone_and_where_each_result_is_judged() {
    const ATTEMPTS: &str = "select (to_jsonb(a) - array['outbox_id', 'lease_token', 'completed_at'])::text from outbox.payment_outbox_attempts as a \
                            where state = 'DISPATCHED'";
    for doubt in
        ["late_success = false", "in_doubt_since = clock_timestamp(), disposition = 'IN_DOUBT', late_success = true"]
    {
        let mut world = World::new().await;
        world.contract("on_unknown = 'inquire'").await;
        for id in world.enqueue("a", 2).await {
            world.tamper(id, doubt).await;
        }
        let claimed = world.worker("w").claim(2).await.leased;
        let long = Some("\u{20ac}".repeat(600));
        let [alone, judged]: [Completion; 2] = [0, 1].map(|number| Completion {
            endpoint: long.clone(),
            rail_reference: long.clone(),
            rail_code: long.clone(),
            error_class: long.clone(),
            error_detail: long.clone(),
            first_byte_at: Some(OffsetDateTime::UNIX_EPOCH),
            last_byte_at: Some(OffsetDateTime::UNIX_EPOCH),
            response_sha256: Some([9; 32]),
            ..completion(lease(&claimed[number]), Outcome::Accepted)
        });
        world.tamper(alone.lease.outbox_id, "policy_version = 7").await;
        world.tamper(judged.lease.outbox_id, "policy_version = 7").await;
        let mut other = world.worker("other");
        assert!(is_dispatched(&other.complete(&[alone]).await[0]));
        let verdicts = other.complete(&[judged.clone(), judged]).await;
        assert!(is_dispatched(&verdicts[0]) && verdicts[1] == CompletionVerdict::Busy, "{verdicts:?}");
        let rows: Vec<String> = column(&mut world.dba, ATTEMPTS).await;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], rows[1]);
        for what in ["\"policy_version\": 7", "\"worker_id\": \"w/", "\"request_sha256\": \"", "\"first_byte_at\": \""]
        {
            assert!(rows[0].contains(what), "{what}: {}", rows[0]);
        }
    }
}

#[tokio::test]
async fn each_result_of_a_mixed_batch_is_answered_once_and_in_its_place() {
    let mut world = World::new().await;
    let mut completions = accepted(&world, 6).await;
    completions[1].outcome = Outcome::Refused;
    completions[3].lease = forged_lease(completions[3].lease.outbox_id, 1);
    completions[4].rail_reference = None;
    let verdicts = world.worker("w").complete(&completions).await;
    assert_eq!(verdicts.iter().map(is_dispatched).collect::<Vec<_>>(), [true, false, true, false, false, true]);
    assert!(matches!(verdicts[1], CompletionVerdict::Applied { state: AttemptState::Failed, .. }));
    assert_eq!(verdicts[3], CompletionVerdict::Fenced);
    assert!(matches!(verdicts[4], CompletionVerdict::Applied { state: AttemptState::InDoubt, .. }));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn empty_batches_are_answered_with_nothing() {
    let world = World::new().await;
    let mut worker = world.worker("w");
    assert!(worker.complete(&[]).await.is_empty());
    assert!(outbox_store::renew_leases(&mut worker.session, &worker.id, &[]).await.unwrap().is_empty());
    assert!(outbox_store::release_leases(&mut worker.session, &worker.id, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn ledger_that_already_has_a_terminal_attempt_is_a_broken_invariant_and_not_tried_for_ever() {
    let mut world = World::new().await;
    let completions = accepted(&world, 3).await;
    let id = completions[1].lease.outbox_id;
    let forged = format!(
        "insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, \
         claimed_at, completed_at) select outbox_id, 7, rail, 'SUBMIT', 'FAILED', 'REFUSED', 'nobody', gen_random_uuid(), \
         now(), now() from outbox.payment_outbox_pending where outbox_id = '{id}'"
    );
    crate::sql::run(&mut world.dba, &forged).await;
    let error = world.worker("w").try_complete(&completions).await.unwrap_err();
    assert_eq!(error.class(), outbox_store::Class::Corrupt, "{error}");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    // It costs nobody else a lease, behind it in the batch neither.
    for other in [&completions[0], &completions[2]] {
        assert_eq!(world.attempts(other.lease.outbox_id).await, ["1 DISPATCHED ACCEPTED"]);
    }
}
