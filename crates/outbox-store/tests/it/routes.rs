//! The endpoint that a payment is bound to once it may have been executed there.

use outbox_core::{AttemptKind, OutboxId, Outcome};
use outbox_store::{ClaimBatch, ClaimRequest, claim};
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::seed::Seed;
use crate::sql::{fetch, run};
use crate::world::{Worker, World, lease};

const LIVES: u64 = 200;
const ATTEMPTS: usize = 14;

async fn claim_at(worker: &mut Worker, endpoint: &str) -> ClaimBatch {
    let request = ClaimRequest { endpoint: Some(endpoint.to_owned()), ..worker.request(10) };
    claim(&mut worker.session, &request).await.unwrap()
}

async fn endpoint_of(world: &mut World, id: OutboxId) -> Option<String> {
    world.pending(id).await.unwrap().get("endpoint")
}

#[tokio::test]
async fn payment_in_doubt_stays_at_the_endpoint_it_was_sent_to_and_one_that_is_not_follows_the_lane() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    for (endpoint, expected, outcome) in [
        ("first", "first", Some(Outcome::NotSent)),
        ("second", "second", Some(Outcome::NotExecuted)),
        ("first", "first", Some(Outcome::Unknown)),
        ("second", "first", Some(Outcome::NotSent)),
        ("second", "first", None),
        ("second", "first", Some(Outcome::Accepted)),
    ] {
        let batch = claim_at(&mut worker, endpoint).await;
        assert_eq!(batch.leased[0].endpoint.as_deref(), Some(expected), "before {outcome:?}");
        match outcome {
            Some(outcome) => {
                worker.complete_one(lease(&batch.leased[0]), outcome).await;
            }
            None => {
                world.lose_lease(id).await;
                claim_at(&mut worker, endpoint).await;
                assert_eq!(endpoint_of(&mut world, id).await.as_deref(), Some("first"));
            }
        }
    }
    let lost =
        fetch(&mut world.dba, "select endpoint from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'")
            .await;
    assert_eq!(lost[0].get::<Option<String>, _>("endpoint").as_deref(), Some("first"));
}

/// Where the payment of one random life was claimed for, and what may have happened there.
#[derive(Default)]
struct Seen {
    /// Where it may have been executed.
    bound: Option<&'static str>,
    last: Option<&'static str>,
    moves: usize,
    submits_after_doubt: usize,
    inquiries: usize,
}

/// Claims, ends attempts in every way, and looks at each claim where it leads, until the payment ends or is held.
async fn live(world: &mut World, worker: &mut Worker, seed: &mut Seed, id: OutboxId) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..ATTEMPTS {
        let chosen = *seed.pick(&["one", "two", "three"]);
        let batch = claim_at(worker, chosen).await;
        let Some(claimed) = batch.leased.first() else {
            // Settled as a lost lease just now, or over.
            let left = world.pending(id).await;
            if left.is_none_or(|row| row.get::<String, _>("disposition") == "HELD") {
                break;
            }
            continue;
        };
        let expected = seen.bound.unwrap_or(chosen);
        assert_eq!(claimed.endpoint.as_deref(), Some(expected), "attempt {}", claimed.attempt_no.0);
        seen.moves += usize::from(seen.last.is_some_and(|last| last != expected));
        seen.last = Some(expected);
        let is_submit = claimed.kind == AttemptKind::Submit;
        seen.submits_after_doubt += usize::from(is_submit && seen.bound.is_some());
        seen.inquiries += usize::from(!is_submit);
        if seed.below(6) == 0 {
            world.lose_lease(id).await;
            seen.bound = Some(expected);
            continue;
        }
        let outcome = *seed.pick(&Outcome::ALL);
        worker.complete_one(lease(claimed), outcome).await;
        let certainly_not_executed = matches!(
            outcome,
            Outcome::NotSent | Outcome::NotExecuted | Outcome::Throttled | Outcome::RailRefusedUs | Outcome::Refused
        );
        if is_submit && !certainly_not_executed {
            seen.bound = Some(expected);
        }
        // What was asked before the end of the quarantine proves nothing.
        if seed.below(2) == 0 {
            world.tamper(id, "quarantine_until = clock_timestamp() + (quarantine_until - quarantine_until)").await;
        }
        world.tamper(id, "next_attempt_at = least(next_attempt_at, clock_timestamp())").await;
    }
    seen
}

#[tokio::test]
async fn no_sequence_of_outcomes_reaches_a_second_endpoint_after_an_unknown() {
    for on_unknown in ["resend", "inquire"] {
        let mut world = World::new().await;
        let set = "p_idempotency_window_ms => 86400000, p_not_found_is_final => true, p_max_crashes => 100, \
                   p_max_inquiries => 100, p_max_sends => 100";
        run(&mut world.dba, &format!("select outbox.set_payment_rail('wire', '{on_unknown}', {set})")).await;
        let mut worker = world.worker("w");
        let (mut moved, mut resent, mut asked) = (0, 0, 0);
        let first_seed = Seed::of_this_run();
        for n in 0..LIVES {
            let seed = first_seed.wrapping_add(n);
            let id = world.enqueue(&format!("{n}-"), 1).await[0];
            let lived = live(&mut world, &mut worker, &mut Seed::new(seed), id).await;
            moved += lived.moves;
            resent += lived.submits_after_doubt;
            asked += lived.inquiries;
            // Out of the way of the next.
            world.tamper(id, "next_attempt_at = clock_timestamp() + interval '1 day'").await;
        }
        // The lives were such that a payment could have gone astray: OUTBOXD_TEST_SEED repeats them.
        assert!(moved > 0 && resent > 0, "seed {first_seed}: {moved} moved, {resent} resent");
        assert_eq!(asked > 0, on_unknown == "inquire", "seed {first_seed}");
        assert_conserved(&mut world.dba).await;
    }
}
