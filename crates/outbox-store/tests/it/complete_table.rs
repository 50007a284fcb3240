//! The truth table of an attempt's end, in SQL and in the core, on every combination: through the pure
//! functions, and through real claims and completions with the queue row looked at afterwards.

use std::collections::BTreeMap;

use outbox_core::after_attempt;
use outbox_core::decide::{attempt_state, counts_as_send};
use outbox_core::{
    AttemptKind, Decision, HoldReason, Millis, OnUnknown, OutboxId, Outcome, RailContract, RailName, Situation,
};
use outbox_store::{ClaimRequest, Completion, CompletionVerdict, HeldLease, Hint, NewPayment, claim, enqueue_batch};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::sql::{run, scalar};
use crate::world::{World, completion, lease, payment};

const MAX_SENDS: u32 = 3;
const MAX_INQUIRIES: u32 = 2;
const DELAY: Millis = Millis(90_000);

fn contract(on_unknown: OnUnknown) -> RailContract {
    RailContract {
        rail: RailName::new("wire").unwrap(),
        on_unknown,
        idempotency_window: Some(Millis(86_400_000)),
        not_found_is_final: false,
        rail_timeout: Millis(30_000),
        processing_bound: Millis(60_000),
        max_sends: MAX_SENDS,
        max_inquiries: MAX_INQUIRIES,
        max_sends_per_s: None,
        max_crashes: 3,
        backoff_base: Millis(1),
        backoff_cap: Millis(1),
        lease_duration: Millis(60_000),
        fallback: false,
        paused: false,
    }
}

/// Every combination that the decision depends on and that can occur: a payment is inquired after only
/// if it is in doubt or a late success is known.
fn combinations() -> Vec<(RailContract, Outcome, Situation)> {
    let mut all = Vec::new();
    let flags = [false, true];
    for (on_unknown, not_found_is_final) in OnUnknown::ALL.into_iter().flat_map(|o| flags.map(|f| (o, f))) {
        for (kind, outcome) in AttemptKind::ALL.into_iter().flat_map(|k| Outcome::ALL.map(|o| (k, o))) {
            for bits in 0..32_u8 {
                let [in_doubt, quarantine_over, in_key_window, late_success, hold_requested] =
                    [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
                if kind == AttemptKind::Inquire && !in_doubt && !late_success {
                    continue;
                }
                for (send_count, inquiry_count) in
                    [(0, 0), (MAX_SENDS - 1, MAX_INQUIRIES - 1), (MAX_SENDS, MAX_INQUIRIES)]
                {
                    let situation = Situation {
                        kind,
                        send_count,
                        inquiry_count,
                        in_doubt,
                        quarantine_over,
                        in_key_window,
                        late_success,
                        hold_requested,
                    };
                    all.push((RailContract { not_found_is_final, ..contract(on_unknown) }, outcome, situation));
                }
            }
        }
    }
    all
}

fn held(decision: Decision) -> Option<HoldReason> {
    match decision {
        Decision::Hold(reason) => Some(reason),
        Decision::Settle | Decision::Refuse | Decision::SendAfter(_) | Decision::InquireAfter(_) => None,
    }
}

/// The decision in one word a fact: what the SQL function says in its columns.
fn said_by_core(contract: &RailContract, outcome: Outcome, situation: &Situation) -> String {
    let decision = after_attempt(contract, situation, outcome, DELAY);
    let state = attempt_state(contract, situation, outcome);
    assert_eq!(
        state.is_terminal(),
        matches!(decision, Decision::Settle | Decision::Refuse),
        "{outcome:?} {situation:?}"
    );
    if state.is_terminal() {
        return state.name().to_owned();
    }
    let disposition = match decision {
        Decision::SendAfter(_) => "READY",
        Decision::InquireAfter(_) => "IN_DOUBT",
        _ => "HELD",
    };
    let counted = situation.send_count + u32::from(counts_as_send(situation.kind, outcome));
    format!("{} {disposition} {} {counted}", state.name(), held(decision).map_or("-", HoldReason::name))
}

#[tokio::test]
async fn sql_and_core_decide_alike_on_every_combination() {
    let mut world = World::new().await;
    let all = combinations();
    let given: Vec<serde_json::Value> = all
        .iter()
        .map(|(contract, outcome, situation)| {
            // Over by now in any case: what counts is whether it was when the attempt was claimed.
            let until = if situation.quarantine_over { "2000-01-01Z" } else { "2020-01-01Z" };
            serde_json::json!({
                "disposition": if situation.kind == AttemptKind::Inquire { "IN_DOUBT" } else { "READY" },
                "send_count": situation.send_count, "inquiry_count": situation.inquiry_count, "quarantine_until": until,
                "claimed_at": "2010-01-01Z", "idempotency_window_ms": 86_400_000,
                "first_sent_at": if situation.in_key_window { "2009-12-31T00:00:00.001Z" } else { "2009-12-31Z" },
                "in_doubt_since": situation.in_doubt.then_some("2000-01-01Z"), "late_success": situation.late_success,
                "hold_requested": situation.hold_requested, "on_unknown": contract.on_unknown.name(),
                "not_found_is_final": contract.not_found_is_final, "max_sends": MAX_SENDS, "max_inquiries": MAX_INQUIRIES,
                "rail_timeout_ms": 30_000, "processing_bound_ms": 60_000, "outcome": outcome.name(),
            })
        })
        .collect();
    let text = format!(
        "select case when n.state in ('DISPATCHED', 'FAILED') then n.state else concat_ws(' ', n.state, \
             case when n.hold_reason is null then n.disposition else 'HELD' end, coalesce(n.hold_reason, '-'), n.send_count) end \
         from jsonb_array_elements($json${}$json$) with ordinality as c (given, place) \
         cross join lateral outbox.after_attempt(jsonb_populate_record(null::outbox.payment_outbox_pending, c.given), \
             jsonb_populate_record(null::outbox.payment_rails, c.given), c.given ->> 'outcome', interval '90 s', clock_timestamp()) as n \
         order by c.place",
        serde_json::Value::from(given)
    );
    let said: Vec<String> = crate::sql::column(&mut world.dba, &text).await;
    assert_eq!(said.len(), all.len());
    for ((contract, outcome, situation), said) in all.iter().zip(said) {
        let expected = said_by_core(contract, *outcome, situation);
        assert_eq!(said, expected, "{:?} {outcome:?} {situation:?}", contract.on_unknown);
    }
}

/// A payment for each combination, leased, on a rail with that contract, in that situation.
async fn leased(world: &mut World, contract: &RailContract) -> Vec<(HeldLease, Outcome, Situation)> {
    let name = contract.on_unknown.name();
    let rail = RailName::new(name).unwrap();
    let set = format!(
        "select outbox.set_payment_rail('{name}', '{name}', p_idempotency_window_ms => 86400000, p_max_sends => {MAX_SENDS}, \
         p_max_inquiries => {MAX_INQUIRIES}, p_not_found_is_final => {})",
        contract.not_found_is_final
    );
    run(&mut world.dba, &set).await;
    let cases: Vec<_> = combinations().into_iter().filter(|(one, ..)| one == contract).collect();
    let payments: Vec<NewPayment> =
        (0..cases.len()).map(|n| NewPayment { rail: rail.clone(), ..payment(&format!("{name}-{n}")) }).collect();
    let ids = enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    let mut worker = world.worker("w");
    let request = ClaimRequest { rail, ..worker.request(2_000) };
    let claimed = claim(&mut worker.session, &request).await.unwrap().leased;
    let leases: BTreeMap<OutboxId, HeldLease> = claimed.iter().map(|one| (one.outbox_id, lease(one))).collect();
    let mut all = Vec::new();
    for ((_, outcome, situation), enqueued) in cases.into_iter().zip(ids) {
        let Situation { send_count, inquiry_count, late_success, hold_requested, .. } = situation;
        let disposition = if situation.kind == AttemptKind::Inquire { "IN_DOUBT" } else { "READY" };
        let doubt = if situation.in_doubt { "'2026-01-01Z'" } else { "null" };
        let quarantine = if situation.quarantine_over { "2026-01-01Z" } else { "2999-01-01Z" };
        let first_sent = if situation.in_key_window { "first_sent_at" } else { "claimed_at - interval '1 day'" };
        let assignments = format!(
            "first_sent_at = {first_sent}, send_count = {send_count}, inquiry_count = {inquiry_count}, late_success = {late_success}, \
             hold_requested = {hold_requested}, disposition = '{disposition}', in_doubt_since = {doubt}, \
             quarantine_until = '{quarantine}'"
        );
        world.tamper(enqueued.outbox_id, &assignments).await;
        all.push((leases[&enqueued.outbox_id], outcome, situation));
    }
    all
}

/// Compares the queue row after a completion that did not end the payment with what the core decided.
async fn check_row(world: &mut World, id: OutboxId, case: (&RailContract, Outcome, Situation)) {
    let (contract, outcome, before) = case;
    let row = world.pending(id).await.unwrap_or_else(|| panic!("{outcome:?} {before:?}: the payment left the queue"));
    let case = format!("{outcome:?} {before:?}");
    let time = |name: &str| row.get::<Option<OffsetDateTime>, _>(name);
    let outcome = if outcome.is_of(before.kind) { outcome } else { Outcome::Unknown };
    let said = said_by_core(contract, outcome, &before);
    let [state, disposition, reason, counted] = said.split(' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!(row.get::<String, _>("disposition"), disposition, "{case}");
    assert_eq!(row.get::<Option<String>, _>("hold_reason").as_deref().unwrap_or("-"), reason, "{case}");
    assert_eq!(row.get::<bool, _>("late_success"), before.late_success, "{case}");
    assert_eq!(row.get::<bool, _>("hold_requested"), before.hold_requested && disposition != "HELD", "{case}");
    assert_eq!(row.get::<i32, _>("send_count").to_string(), counted, "{case}");
    assert_eq!((row.get::<i32, _>("attempt_count"), row.get::<i32, _>("crash_count")), (1, 0), "{case}");
    let was_sent = before.kind == AttemptKind::Inquire || outcome != Outcome::NotSent || !before.in_key_window;
    assert_eq!(time("first_sent_at").is_some(), was_sent, "{case}");
    let found_to_be_free = outcome == Outcome::NotFound && state == "RETRYABLE";
    let stays = before.in_doubt || before.kind == AttemptKind::Inquire || state == "IN_DOUBT";
    assert_eq!(time("in_doubt_since").is_some(), stays && !found_to_be_free, "{case}");
    // It never ends earlier than it was said to.
    let quarantined_again = before.kind == AttemptKind::Submit && state == "IN_DOUBT" && before.quarantine_over;
    let far = time("quarantine_until").unwrap();
    assert_eq!(far != before_quarantine(&before), quarantined_again, "{case}: {far}");
    for name in ["claimed_by", "lease_token", "lease_expires_at"] {
        assert!(sqlx::ValueRef::is_null(&row.try_get_raw(name).unwrap()), "{case}: {name} is left");
    }
}

fn before_quarantine(before: &Situation) -> OffsetDateTime {
    let (then, far) = (time::macros::datetime!(2026-01-01 0:00 UTC), time::macros::datetime!(2999-01-01 0:00 UTC));
    if before.quarantine_over { then } else { far }
}

#[tokio::test]
async fn completions_leave_the_queue_row_as_the_core_decides() {
    let mut world = World::new().await;
    for on_unknown in OnUnknown::ALL {
        let contract = RailContract { not_found_is_final: true, ..contract(on_unknown) };
        let cases = leased(&mut world, &contract).await;
        let completions: Vec<Completion> = cases
            .iter()
            .map(|(lease, outcome, _)| Completion { delay: DELAY, ..completion(*lease, *outcome) })
            .collect();
        let verdicts = world.worker("w").complete(&completions).await;
        for ((lease, outcome, situation), verdict) in cases.into_iter().zip(verdicts) {
            let CompletionVerdict::Applied { state, held: why, next_attempt_at } = verdict else {
                panic!("{outcome:?} {situation:?}: {verdict:?}")
            };
            let decision = after_attempt(&contract, &situation, outcome, DELAY);
            assert_eq!(state, attempt_state(&contract, &situation, outcome), "{outcome:?} {situation:?}");
            assert_eq!(why, held(decision), "{outcome:?} {situation:?}");
            let goes_on = matches!(decision, Decision::SendAfter(_) | Decision::InquireAfter(_));
            assert_eq!(next_attempt_at.is_some(), goes_on);
            let recorded = format!("1 {} {}", state.name(), outcome.name());
            assert_eq!(world.attempts(lease.outbox_id).await, [recorded]);
            if state.is_terminal() {
                assert!(world.pending(lease.outbox_id).await.is_none());
            } else {
                check_row(&mut world, lease.outbox_id, (&contract, outcome, situation)).await;
            }
        }
    }
    let delayed: bool = scalar(
        &mut world.dba,
        "select bool_and(p.next_attempt_at = case when a.kind = 'INQUIRE' and a.outcome = 'NOT_FOUND' then greatest(a.completed_at + interval '90 s', \
             case when p.in_doubt_since is not null then p.quarantine_until end) else a.completed_at + interval '90 s' end) \
         from outbox.payment_outbox_pending p join outbox.payment_outbox_attempts a using (outbox_id) where p.disposition <> 'HELD'",
    )
    .await;
    assert!(delayed, "the wait counts from the completion's clock; a final not-found waits for the quarantine");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn delay_is_clamped_to_a_day_and_never_negative() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    let forever = Completion { delay: Millis(u64::MAX), ..completion(lease(&claimed), Outcome::NotExecuted) };
    worker.complete(&[forever]).await;
    let wait = "select p.next_attempt_at - a.completed_at = interval '{}' from outbox.payment_outbox_pending p \
                join outbox.payment_outbox_attempts a on a.outbox_id = p.outbox_id and a.attempt_no = p.attempt_count";
    assert!(scalar::<bool>(&mut world.dba, &wait.replace("{}", "86400 s")).await);
    world.tamper(id, "next_attempt_at = clock_timestamp()").await;
    let claimed = worker.claim_one().await;
    let text = crate::interleavings::complete_sql(lease(&claimed), Outcome::NotExecuted, None);
    let negative = text.replace("array[0::bigint]", "array[-5000::bigint]");
    run(&mut world.db.connect_as("t_dispatcher").await.unwrap(), &negative).await;
    assert!(scalar::<bool>(&mut world.dba, &wait.replace("{}", "0 s")).await);
}
