//! Random lives of a few payments between two workers, each step compared with the model: what is said to
//! the worker, the row in the queue, and every attempt in the ledger.

use std::collections::BTreeMap;
use std::io::Write as _;

use outbox_core::{Millis, OnUnknown, OutboxId, Outcome, RailContract, RailName};
use outbox_store::{
    ClaimRequest, CompletionVerdict, HeldLease, Hint, NewPayment, RenewVerdict, Session, claim, enqueue_batch,
    release_leases, renew_leases,
};
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::model::{self, Answer, End, Life};
use crate::seed::Seed;
use crate::sql::{fetch, run};
use crate::world::{Worker, World, lease, payment};

const SEQUENCES: u64 = 160;
const STEPS: usize = 16;
const PAYMENTS: usize = 3;

fn contract(rail: &RailName, on_unknown: OnUnknown) -> RailContract {
    RailContract {
        rail: rail.clone(),
        on_unknown,
        idempotency_window: Some(Millis(86_400_000)),
        not_found_is_final: false,
        rail_timeout: Millis(30_000),
        processing_bound: Millis(60_000),
        max_sends: 4,
        max_inquiries: 3,
        max_sends_per_s: None,
        max_crashes: 3,
        backoff_base: Millis(500),
        backoff_cap: Millis(300_000),
        lease_duration: Millis(60_000),
        fallback: false,
        paused: false,
    }
}

/// One sequence: its rail, its payments as the model has them, and every lease that was ever granted.
struct Sequence<'a> {
    world: &'a mut World,
    ingest: &'a mut Session,
    workers: &'a mut [Worker; 2],
    seed: Seed,
    contract: RailContract,
    lives: BTreeMap<OutboxId, Life>,
    leases: Vec<(usize, HeldLease)>,
}

impl Sequence<'_> {
    async fn step(&mut self) -> String {
        match self.seed.below(14) {
            0 => self.enqueue().await,
            1..=3 => self.claim().await,
            4 => self.renew().await,
            5 | 6 => self.lose_lease().await,
            7 => self.request_hold().await,
            8 => self.release().await,
            9 => self.end_quarantine().await,
            _ => self.complete().await,
        }
    }

    /// A new payment, or one that is known already.
    async fn enqueue(&mut self) -> String {
        let n = self.seed.below(PAYMENTS);
        let rail = self.contract.rail.clone();
        let one = NewPayment { participant_id: rail.to_string(), rail, ..payment(&n.to_string()) };
        let done = enqueue_batch(self.ingest, &[one], Hint::Wake).await.unwrap().remove(0);
        assert_eq!(done.created, !self.lives.contains_key(&done.outbox_id));
        self.lives.entry(done.outbox_id).or_default();
        format!("enqueue {n}: {}", done.outbox_id)
    }

    async fn claim(&mut self) -> String {
        let (who, in_flight) = (self.seed.below(2), u32::try_from(self.seed.below(2)).unwrap());
        let worker = &mut self.workers[who];
        let request = ClaimRequest { rail: self.contract.rail.clone(), in_flight, ..worker.request(10) };
        let batch = claim(&mut worker.session, &request).await.unwrap();
        let expected = model::claim(&mut self.lives, &self.contract, in_flight);
        let held: BTreeMap<_, _> = batch.held.iter().map(|held| (held.outbox_id, held.reason)).collect();
        assert_eq!(
            (&held, batch.summary.expired, batch.summary.suspects),
            (&expected.held, expected.expired, expected.suspects)
        );
        let count = if expected.alone { 1 } else { expected.eligible.len() };
        assert_eq!(batch.leased.len(), count, "{expected:?} {batch:?}");
        for claimed in &batch.leased {
            assert!(expected.eligible.contains(&claimed.outbox_id), "{expected:?} {batch:?}");
            let life = self.lives.get_mut(&claimed.outbox_id).unwrap();
            life.grant(&self.contract, lease(claimed), claimed.kind, who);
            self.leases.push((who, lease(claimed)));
        }
        format!("worker {who} claims with {in_flight} in flight: {batch:?}")
    }

    /// Any lease that was ever granted, the last ones more often.
    fn some_lease(&mut self) -> Option<(usize, HeldLease)> {
        let recent = self.leases.len().saturating_sub(3);
        let from = if self.seed.below(3) == 0 { 0 } else { recent };
        (!self.leases.is_empty()).then(|| *self.seed.pick(&self.leases[from..]))
    }

    async fn renew(&mut self) -> String {
        let Some((_, held)) = self.some_lease() else { return "nothing to renew".to_owned() };
        let who = self.seed.below(2);
        let worker = &mut self.workers[who];
        let verdict = renew_leases(&mut worker.session, &worker.id, &[held]).await.unwrap().remove(0);
        let renews = self.lives[&held.outbox_id].renews(held, who);
        let expected = if renews { RenewVerdict::Renewed(Millis(60_000)) } else { RenewVerdict::Fenced };
        assert_eq!(verdict, expected, "worker {who} renews {held:?}");
        format!("worker {who} renews {held:?}: {verdict:?}")
    }

    async fn lose_lease(&mut self) -> String {
        let ids: Vec<OutboxId> = self.lives.keys().copied().collect();
        let lost: Vec<OutboxId> =
            ids.into_iter().filter(|id| self.lives.get_mut(id).is_some_and(Life::lose_lease)).collect();
        for id in &lost {
            self.world.lose_lease(*id).await;
        }
        format!("lose {lost:?}")
    }

    async fn end_quarantine(&mut self) -> String {
        let ids: Vec<OutboxId> = self.lives.keys().copied().collect();
        for id in &ids {
            self.lives.get_mut(id).unwrap().end_quarantine();
            // Over when the attempt under way was claimed, if there is one: its answer counts.
            let over = "quarantine_until = coalesce(claimed_at, clock_timestamp()), \
                        next_attempt_at = least(next_attempt_at, clock_timestamp())";
            self.world.tamper(*id, over).await;
        }
        "end the quarantines".to_owned()
    }

    async fn request_hold(&mut self) -> String {
        let ids: Vec<OutboxId> = self.lives.keys().copied().collect();
        if ids.is_empty() || self.seed.below(3) > 0 {
            return "no hold".to_owned();
        }
        let id = *self.seed.pick(&ids);
        if self.lives.get_mut(&id).is_some_and(Life::request_hold) {
            self.world.tamper(id, "hold_requested = true").await;
        }
        format!("hold {id}")
    }

    async fn release(&mut self) -> String {
        let Some((who, held)) = self.some_lease() else { return "nothing to release".to_owned() };
        let worker = &mut self.workers[who];
        let verdict = release_leases(&mut worker.session, &worker.id, &[held]).await.unwrap().remove(0);
        let answer = self.lives.get_mut(&held.outbox_id).unwrap().complete(&self.contract, held, End::Released);
        // A release names no hold; the row, which is compared after each step, does.
        let answer = match answer {
            Answer::Applied(state, _) => Answer::Applied(state, None),
            other => other,
        };
        assert_eq!(told(verdict), answer, "worker {who} releases {held:?}");
        format!("worker {who} releases {held:?}: {verdict:?}")
    }

    async fn complete(&mut self) -> String {
        let Some((who, held)) = self.some_lease() else { return "nothing to complete".to_owned() };
        let outcome = *self.seed.pick(&Outcome::ALL);
        let verdict = self.workers[who].complete_one(held, outcome).await;
        let answer = self.lives.get_mut(&held.outbox_id).unwrap().complete(&self.contract, held, End::Known(outcome));
        assert_eq!(told(verdict), answer, "worker {who} completes {held:?} with {outcome:?}");
        format!("worker {who} completes {held:?} with {outcome:?}: {verdict:?}")
    }

    /// Every payment as the database has it, in the model's form.
    async fn lines(&mut self) -> BTreeMap<OutboxId, String> {
        let text = format!(
            "select i.outbox_id, case when p.outbox_id is null then 'ENDED' else concat(p.disposition, ' ', coalesce(p.hold_reason, '-'), \
                 ' attempts=', p.attempt_count, ' sends=', p.send_count, ' crashes=', p.crash_count, ' inquiries=', p.inquiry_count, \
                 ' sent=', (p.first_sent_at is not null)::text, ' doubt=', (p.in_doubt_since is not null)::text, \
                 ' late=', p.late_success::text, ' requested=', p.hold_requested::text, ' lease=', coalesce(p.lease_token::text, '-')) end \
                 || ' | ' || coalesce((select string_agg(a.attempt_no || ' ' || a.state || ' ' || coalesce(a.outcome, '-'), ', ' order by a.attempt_no) \
                                         from outbox.payment_outbox_attempts a where a.outbox_id = i.outbox_id), '') \
               from outbox.payment_outbox_identities i left join outbox.payment_outbox_pending p using (outbox_id) \
              where i.participant_id = '{}'",
            self.contract.rail
        );
        let rows = fetch(&mut self.world.dba, &text).await;
        rows.iter().map(|row| (OutboxId(row.get(0)), row.get(1))).collect()
    }
}

fn told(verdict: CompletionVerdict) -> Answer {
    match verdict {
        CompletionVerdict::Applied { state, held, .. } => Answer::Applied(state, held),
        CompletionVerdict::AlreadyApplied => Answer::AlreadyApplied,
        CompletionVerdict::Fenced => Answer::Fenced,
        CompletionVerdict::Busy => panic!("busy, and nobody else is there"),
    }
}

/// What happened so far, and the seed that repeats it: told only if the sequence fails.
struct Story {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr().lock(), "OUTBOXD_TEST_SEED={} after {:#?}", self.seed, self.steps);
        }
    }
}

async fn random_lives(on_unknown: OnUnknown) {
    let mut world = World::new().await;
    let mut ingest = world.session("t_ingest");
    let mut workers = [world.worker("w0"), world.worker("w1")];
    let first_seed = Seed::of_this_run();
    for n in 0..SEQUENCES {
        let seed = first_seed.wrapping_add(n);
        let rail = RailName::new(format!("rail_{n}")).unwrap();
        let set = "p_idempotency_window_ms => 86400000, p_max_sends => 4, p_max_crashes => 3, p_max_inquiries => 3";
        run(&mut world.dba, &format!("select outbox.set_payment_rail('{rail}', '{}', {set})", on_unknown.name())).await;
        let not_found_is_final = n % 4 > 0;
        let text =
            format!("update outbox.payment_rails set not_found_is_final = {not_found_is_final} where rail = '{rail}'");
        run(&mut world.dba, &text).await;
        let contract = RailContract { not_found_is_final, ..contract(&rail, on_unknown) };
        let mut sequence = Sequence {
            world: &mut world,
            ingest: &mut ingest,
            workers: &mut workers,
            seed: Seed::new(seed),
            contract,
            lives: BTreeMap::new(),
            leases: Vec::new(),
        };
        let mut story = Story { seed, steps: Vec::new() };
        for step in 0..STEPS {
            let told = if step < 2 { sequence.enqueue().await } else { sequence.step().await };
            story.steps.push(told);
            let expected: BTreeMap<_, _> = sequence.lives.iter().map(|(id, life)| (*id, life.line())).collect();
            assert_eq!(sequence.lines().await, expected);
        }
    }
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn random_lives_on_a_resend_rail_go_as_the_model_says() {
    random_lives(OnUnknown::Resend).await;
}

#[tokio::test]
async fn random_lives_on_a_hold_rail_go_as_the_model_says() {
    random_lives(OnUnknown::Hold).await;
}

#[tokio::test]
async fn random_lives_on_an_inquire_rail_go_as_the_model_says() {
    random_lives(OnUnknown::Inquire).await;
}
