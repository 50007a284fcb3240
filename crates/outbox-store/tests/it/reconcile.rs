//! Statements of rails against the ledger: each kind of break, and that none is recorded twice.

use outbox_core::{Millis, OutboxId, Outcome, RailName};
use outbox_store::{
    ActionKind, Comparison, Hint, LinesHash, NewPayment, Session, StatementHead, StatementLine, StoreError,
    begin_reconcile, decide_action, enqueue_batch, finish_reconcile, propose_action, read_breaks, record_lines,
    resolve_breaks,
};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::sql::{run, scalar};
use crate::world::{RAIL, World, completion, lease, payment};

/// A statement under construction, of the hour before now unless it is moved.
#[derive(Clone)]
pub(crate) struct Paper {
    pub(crate) sha: u8,
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
    pub(crate) slack: Millis,
    pub(crate) paid_statuses: Vec<String>,
    pub(crate) lines: Vec<StatementLine>,
}

impl Paper {
    pub(crate) fn new(sha: u8) -> Self {
        let now = OffsetDateTime::now_utc();
        Self::of(sha, now - Duration::hours(1), now)
    }

    pub(crate) fn of(sha: u8, from: OffsetDateTime, until: OffsetDateTime) -> Self {
        Self { sha, from, until, slack: Millis(0), paid_statuses: Vec::new(), lines: Vec::new() }
    }

    /// The same period, and another file without lines yet.
    pub(crate) fn corrected(&self, sha: u8) -> Self {
        Self { sha, lines: Vec::new(), ..self.clone() }
    }

    pub(crate) fn with(self, lines: &[StatementLine]) -> Self {
        Self { lines: lines.to_vec(), ..self }
    }

    pub(crate) fn line(self, key: Option<OutboxId>, reference: Option<&str>, amount_minor: i64) -> Self {
        self.raw(key.map(|id| id.to_string()).as_deref(), reference, amount_minor, "EUR")
    }

    pub(crate) fn raw(mut self, key: Option<&str>, reference: Option<&str>, amount_minor: i64, currency: &str) -> Self {
        let line_no = i64::try_from(self.lines.len()).unwrap() + 2;
        self.lines.push(StatementLine {
            line_no,
            wire_key: key.map(str::to_owned),
            rail_reference: reference.map(str::to_owned),
            amount_minor,
            currency: currency.to_owned(),
            booked_at: None,
            status: None,
            is_paid: true,
        });
        self
    }

    pub(crate) fn head(&self) -> StatementHead {
        let mut hash = LinesHash::default();
        let mut sums = std::collections::BTreeMap::<&str, i64>::new();
        for line in &self.lines {
            hash.add(line);
            *sums.entry(&line.currency).or_default() += line.amount_minor;
        }
        StatementHead {
            rail: RailName::new(RAIL).unwrap(),
            booked_from: self.from,
            booked_until: self.until,
            slack: self.slack,
            file_name: "s.csv".to_owned(),
            file_sha256: vec![self.sha; 32],
            line_count: i64::try_from(self.lines.len()).unwrap(),
            lines_sha256: hash.done(),
            sums: serde_json::to_string(&sums).unwrap(),
            paid_statuses: self.paid_statuses.clone(),
            reason: "daily".to_owned(),
        }
    }

    pub(crate) async fn compared(&self, session: &mut Session) -> Result<(Uuid, Comparison), StoreError> {
        let (id, recorded) = begin_reconcile(session, &self.head()).await?;
        if recorded == 0 && !self.lines.is_empty() {
            record_lines(session, id, &self.lines).await?;
        }
        Ok((id, finish_reconcile(session, id, 100).await?))
    }
}

/// What is open, as `KIND subject standing`, and the breaks' ids.
pub(crate) async fn open(session: &mut Session) -> (Vec<String>, Vec<Uuid>) {
    let texts = read_breaks(session, true, None, None, 1_000).await.unwrap();
    let all: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let word = |one: &Value, name: &str| one[name].as_str().unwrap_or("-").to_owned();
    let shown = |one: &Value| {
        let id = one["outbox_id"].as_str().unwrap_or_else(|| one["rail_reference"].as_str().unwrap());
        format!("{} {id} {}", word(one, "kind"), word(one, "standing"))
    };
    let ids = all.iter().map(|one| word(one, "break_id").parse().unwrap()).collect();
    (all.iter().map(shown).collect(), ids)
}

impl World {
    /// `count` payments that the rail has accepted, with the references `R-1` and so on.
    pub(crate) async fn dispatched(&mut self, count: usize) -> Vec<OutboxId> {
        let references: Vec<String> = (1..=count).map(|place| format!("R-{place}")).collect();
        let payments: Vec<(&str, i64)> = references.iter().map(|reference| (reference.as_str(), 1_250)).collect();
        self.dispatched_as("d", &payments).await
    }

    /// Payments that the rail has accepted with these references and amounts.
    pub(crate) async fn dispatched_as(&mut self, prefix: &str, payments: &[(&str, i64)]) -> Vec<OutboxId> {
        let of = |(place, (_, amount)): (usize, &(&str, i64))| NewPayment {
            amount_minor: Some(*amount),
            ..payment(&format!("{prefix}-{place}"))
        };
        let new: Vec<NewPayment> = payments.iter().enumerate().map(of).collect();
        let recorded = enqueue_batch(&mut self.session("t_ingest"), &new, Hint::Wake).await.unwrap();
        let ids: Vec<OutboxId> = recorded.into_iter().map(|one| one.outbox_id).collect();
        let mut worker = self.worker("w");
        for claimed in worker.claim(100).await.leased {
            let place = ids.iter().position(|id| *id == claimed.outbox_id).unwrap();
            let mut done = completion(lease(&claimed), Outcome::Accepted);
            done.rail_reference = Some(payments[place].0.to_owned());
            worker.complete(&[done]).await;
        }
        ids
    }

    /// Lets all attempts of a payment have been made at another time, as nobody but a superuser can.
    pub(crate) async fn attempted_at(&mut self, id: OutboxId, first: OffsetDateTime, last: OffsetDateTime) {
        let (first, last) = (first.unix_timestamp_nanos() / 1_000, last.unix_timestamp_nanos() / 1_000);
        let sql = format!(
            "alter table outbox.payment_outbox_attempts disable trigger all;
             update outbox.payment_outbox_attempts set claimed_at = 'epoch'::timestamptz + {first} * interval '1 us',
                    completed_at = 'epoch'::timestamptz + {last} * interval '1 us' where outbox_id = '{id}'"
        );
        run(&mut self.dba, &sql).await;
    }

    pub(crate) async fn unknown(&mut self, prefix: &str) -> OutboxId {
        run(&mut self.dba, "update outbox.payment_rails set on_unknown = 'hold' where rail = 'wire'").await;
        let id = self.enqueue(prefix, 1).await[0];
        let mut worker = self.worker("w");
        let claimed = worker.claim_one().await;
        worker.complete_one(lease(&claimed), Outcome::Unknown).await;
        id
    }
}

pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn each_difference_is_named_and_nothing_else() {
    let mut world = World::new().await;
    let ids = world.dispatched(6).await;
    let held = world.unknown("u").await;
    let ready = world.enqueue("r", 1).await[0];
    let mut session = world.session("t_operator");
    let stranger = OutboxId(Uuid::now_v7());
    let paper = Paper::new(1)
        .line(Some(ids[0]), Some("R-1"), 1_250)
        .line(None, Some("R-2"), 1_250)
        .line(Some(ids[2]), None, 1_251)
        .line(Some(ids[3]), Some("R-4"), 1_250)
        .line(Some(ids[3]), Some("R-4b"), 1_250)
        .line(Some(stranger), Some("R-99"), 5)
        .line(Some(held), Some("R-7"), 1_250)
        .line(Some(ready), Some("R-8"), 1_250)
        .line(None, Some("R-6"), 1_250);
    let (_, compared) = paper.compared(&mut session).await.unwrap();
    let (mut found, _) = open(&mut session).await;
    found.sort();
    let mut expected = vec![
        format!("MISSING_AT_RAIL {} DISPATCHED", ids[4]),
        format!("AMOUNT_DIFFERS {} DISPATCHED", ids[2]),
        format!("TWICE_AT_RAIL {} DISPATCHED", ids[3]),
        "UNKNOWN_TO_US R-99 -".to_owned(),
        format!("PAID_BUT_NOT_DISPATCHED {held} HELD UNKNOWN"),
        format!("PAID_BUT_NOT_DISPATCHED {ready} READY"),
    ];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(
        compared,
        Comparison {
            matched: 4,
            at_the_edge: 0,
            before_cover: 0,
            found: 6,
            closed: 0,
            open_breaks: 6,
            gaps: Vec::new()
        }
    );
    // The same again records nothing, a person's resolution stays, and too many breaks are refused whole.
    let (_, ids_of_breaks) = open(&mut session).await;
    let (mut other, first) = (world.session("t_approver"), &ids_of_breaks[..1]);
    assert_eq!(resolve_breaks(&mut other, first, "cleared by phone", None).await.unwrap(), 1);
    assert!(refusal(resolve_breaks(&mut other, first, "again", None).await).contains("closed already"));
    let (_, again) = paper.compared(&mut session).await.unwrap();
    assert_eq!((again.found, again.closed, again.open_breaks), (0, 0, 5));
    let lines: i64 = scalar(&mut world.dba, "select count(*) from outbox.reconcile_lines").await;
    assert_eq!(lines, 9);
    let another = Paper { sha: 2, ..paper };
    let (id, _) = begin_reconcile(&mut session, &another.head()).await.unwrap();
    assert!(refusal(finish_reconcile(&mut session, id, 100).await).contains("0 lines of 9"));
    record_lines(&mut session, id, &another.lines).await.unwrap();
    let refused = refusal(finish_reconcile(&mut session, id, 0).await);
    assert!(refused.contains("1 new breaks, more than 0"), "{refused}");
    assert_eq!(open(&mut session).await.0.len(), 5);
}

#[tokio::test]
async fn break_closes_when_a_later_statement_agrees_and_not_before() {
    let mut world = World::new().await;
    let ids = world.dispatched(2).await;
    let mut session = world.session("t_operator");
    let first = Paper::new(1).line(Some(ids[0]), Some("R-1"), 1_000);
    assert_eq!(first.compared(&mut session).await.unwrap().1.found, 2);
    let silent = first.corrected(2);
    let (_, compared) = silent.compared(&mut session).await.unwrap();
    assert_eq!((compared.found, compared.closed, compared.open_breaks), (0, 0, 2));
    let corrected = first.corrected(3).line(Some(ids[0]), Some("R-1"), 1_250).line(None, Some("R-2"), 1_250);
    let (_, compared) = corrected.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found, compared.closed, compared.open_breaks), (2, 0, 2, 0));
    // The same payment under another reference in another statement is a second payment.
    let twice = corrected.corrected(4).line(Some(ids[0]), Some("R-1b"), 1_250);
    twice.compared(&mut session).await.unwrap();
    assert_eq!(open(&mut session).await.0, [format!("TWICE_AT_RAIL {} DISPATCHED", ids[0])]);
}

#[tokio::test]
async fn bulk_resolution_gives_each_payment_the_reference_of_its_line() {
    let mut world = World::new().await;
    let ids = [world.unknown("u").await, world.unknown("v").await];
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).line(Some(ids[0]), Some("BANK-1"), 1_250).line(Some(ids[1]), None, 1_250);
    let (statement, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!(compared.found, 2);
    let parameters = format!("{{\"statement_id\": \"{statement}\"}}");
    let kind = ActionKind::ResolveDispatched;
    let stranger = world.enqueue("s", 1).await[0];
    let refused = propose_action(&mut session, kind, &[ids[0], stranger], "r", Some("e"), &parameters).await;
    assert!(refusal(refused).contains(&format!("no open break of the statement says that {stranger} was paid")));
    let proposal = propose_action(&mut session, kind, &ids, "r", Some("statement 01"), &parameters).await.unwrap();
    assert!(proposal.needs_approval);
    decide_action(&mut world.session("t_approver"), &proposal, true, "checked").await.unwrap();
    outbox_store::apply_action(&mut session, proposal.action_id, 10).await.unwrap();
    for (id, reference) in [(ids[0], "BANK-1"), (ids[1], "statement 01")] {
        let sql = format!(
            "select rail_reference from outbox.payment_outbox_attempts where outbox_id = '{id}' and state = 'DISPATCHED'"
        );
        assert_eq!(scalar::<String>(&mut world.dba, &sql).await, reference);
    }
    let (_, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.closed, compared.open_breaks), (2, 2, 0));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn payment_that_is_booked_on_two_days_is_twice_at_the_rail_and_one_that_is_corrected_is_not() {
    let mut world = World::new().await;
    let ids = world.dispatched(2).await;
    let mut session = world.session("t_operator");
    let now = OffsetDateTime::now_utc();
    let noon = now - Duration::hours(1);
    // With a reference, and without one.
    let first = Paper::of(1, noon - Duration::hours(1), noon).line(Some(ids[0]), None, 1_250).line(
        Some(ids[1]),
        Some("R-2"),
        1_250,
    );
    let second = Paper { from: noon, until: now, ..first.clone() };
    assert_eq!(first.compared(&mut session).await.unwrap().1.found, 0);
    let (_, compared) = first.corrected(2).with(&first.lines).compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (2, 0));
    assert_eq!(second.compared(&mut session).await.unwrap().1.found, 2);
    let mut expected = [0, 1].map(|n| format!("TWICE_AT_RAIL {} DISPATCHED", ids[n]));
    let mut found = open(&mut session).await.0;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // What came first is not twice because of what came later.
    assert_eq!(first.compared(&mut session).await.unwrap().1.found, 0);
}

#[tokio::test]
async fn every_booking_that_nobody_here_knows_is_a_break_with_its_money() {
    let world = World::new().await;
    let mut session = world.session("t_operator");
    let now = OffsetDateTime::now_utc();
    let noon = now - Duration::hours(1);
    let named = |paper: Paper, amount, currency| paper.raw(None, Some("NOTPROVIDED"), amount, currency);
    let first = Paper::of(1, noon - Duration::hours(1), noon);
    let first = [(500, "EUR"), (9_000_000_000, "EUR"), (700, "USD"), (500, "EUR")]
        .iter()
        .fold(first, |paper, (amount, currency)| named(paper, *amount, currency));
    assert_eq!(first.compared(&mut session).await.unwrap().1.found, 4);
    // The next day has others, though they are called alike; a corrected statement has one more.
    let second = named(named(Paper::of(2, noon, now), 6_000_000_000, "EUR"), 500, "EUR");
    assert_eq!(second.compared(&mut session).await.unwrap().1.found, 2);
    let corrected = named(first.corrected(3).with(&first.lines), 500, "EUR");
    let (_, compared) = corrected.compared(&mut session).await.unwrap();
    assert_eq!((compared.found, compared.open_breaks), (1, 7));
}

#[tokio::test]
async fn line_of_a_shared_reference_covers_one_payment_and_the_one_with_its_money() {
    let mut world = World::new().await;
    let batch = ["a", "b"].map(|_| "BATCH-1");
    let ids = world.dispatched_as("d", &[(batch[0], 100), (batch[1], 250), ("BATCH-2", 7), ("BATCH-2", 7)]).await;
    let mut session = world.session("t_operator");
    let paper =
        Paper::new(1).line(None, Some("BATCH-1"), 250).line(None, Some("BATCH-1"), 100).line(None, Some("BATCH-2"), 7);
    let (_, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (3, 1));
    let (found, _) = open(&mut session).await;
    let missing = ids[2..].iter().map(|id| format!("MISSING_AT_RAIL {id} DISPATCHED"));
    assert!(missing.into_iter().any(|one| found == [one]), "{found:?}");
    // The corrected statement has both; a line more is a payment too many, and one with other money is of the one that is left.
    let corrected = paper.corrected(2).with(&paper.lines).line(None, Some("BATCH-2"), 7);
    let (_, compared) = corrected.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found, compared.closed, compared.open_breaks), (4, 0, 1, 0));
    let more = paper.corrected(3).line(None, Some("BATCH-1"), 100).line(None, Some("BATCH-1"), 999).line(
        None,
        Some("BATCH-1"),
        100,
    );
    more.compared(&mut session).await.unwrap();
    let mut found = open(&mut session).await.0;
    found.sort();
    let expected = [format!("AMOUNT_DIFFERS {} DISPATCHED", ids[1]), format!("TWICE_AT_RAIL {} DISPATCHED", ids[0])];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn payment_of_a_line_stays_what_it_was_when_the_line_was_compared() {
    let mut world = World::new().await;
    let first = world.dispatched_as("d", &[("SHARED", 100)]).await[0];
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).line(None, Some("SHARED"), 100);
    let (id, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!(compared.matched, 1);
    let second = world.dispatched_as("e", &[("SHARED", 100)]).await[0];
    let before = OffsetDateTime::now_utc() - Duration::minutes(30);
    world.attempted_at(second, before, before).await;
    let (_, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (1, 1));
    assert_eq!(open(&mut session).await.0, [format!("MISSING_AT_RAIL {second} DISPATCHED")]);
    let sql =
        format!("select string_agg(outbox_id::text, ' ') from outbox.reconcile_matches where statement_id = '{id}'");
    assert_eq!(scalar::<String>(&mut world.dba, &sql).await, first.to_string());
}

#[tokio::test]
async fn line_with_a_key_that_is_not_ours_is_not_found_by_its_reference() {
    let mut world = World::new().await;
    let id = world.dispatched(1).await[0];
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).raw(Some("theirs-7"), Some("R-1"), 1_250, "EUR");
    assert_eq!(paper.compared(&mut session).await.unwrap().1.matched, 0);
    let mut found = open(&mut session).await.0;
    found.sort();
    assert_eq!(found, [format!("MISSING_AT_RAIL {id} DISPATCHED"), "UNKNOWN_TO_US R-1 -".to_owned()]);
}

#[tokio::test]
async fn reference_that_differs_is_a_break_unless_the_statement_shows_references_of_another_kind() {
    let mut world = World::new().await;
    let ids = world.dispatched(3).await;
    let mut session = world.session("t_operator");
    let other_kind = Paper::new(1).line(Some(ids[0]), Some("ACCT-1"), 1_250).line(Some(ids[1]), Some("ACCT-2"), 1_250);
    let other_kind = other_kind.line(Some(ids[2]), Some("ACCT-3"), 1_250);
    let (statement, compared) = other_kind.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (3, 0));
    outbox_store::void_statement(&mut session, statement, "to see another").await.unwrap();
    let swapped = other_kind.corrected(2).line(Some(ids[0]), Some("R-2"), 1_250).line(Some(ids[1]), Some("R-1"), 1_250);
    let swapped = swapped.line(Some(ids[2]), Some("R-3"), 1_250);
    let (_, compared) = swapped.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (1, 2));
    let mut found = open(&mut session).await.0;
    found.sort();
    let mut expected = [0, 1].map(|n| format!("REFERENCE_DIFFERS {} DISPATCHED", ids[n]));
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn key_without_dashes_or_with_blanks_around_it_is_the_payments_key() {
    let mut world = World::new().await;
    let ids = world.dispatched(2).await;
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).raw(Some(&ids[0].0.simple().to_string()), None, 1_250, "EUR");
    let paper = paper.raw(Some(&format!(" {}  ", ids[1].to_string().to_uppercase())), None, 1_250, "EUR");
    let (_, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (2, 0));
}

#[tokio::test]
async fn another_currency_differs_though_the_number_is_the_same() {
    let mut world = World::new().await;
    let id = world.dispatched(1).await[0];
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).raw(Some(&id.to_string()), Some("R-1"), 1_250, "USD");
    assert_eq!(paper.compared(&mut session).await.unwrap().1.matched, 0);
    assert_eq!(open(&mut session).await.0, [format!("AMOUNT_DIFFERS {id} DISPATCHED")]);
}

#[tokio::test]
async fn reference_of_a_payment_that_ended_long_before_is_found_in_the_whole_ledger() {
    let mut world = World::new().await;
    let id = world.dispatched(1).await[0];
    let long_ago = OffsetDateTime::now_utc() - Duration::days(40);
    world.attempted_at(id, long_ago, long_ago).await;
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).line(None, Some("R-1"), 1_250).line(None, Some("R-2"), 1_250);
    let (_, compared) = paper.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found), (1, 1));
    assert_eq!(open(&mut session).await.0, ["UNKNOWN_TO_US R-2 -"]);
}

#[tokio::test]
async fn what_a_statement_says_was_paid_is_neither_sent_again_nor_failed() {
    let mut world = World::new().await;
    let failed = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = lease(&worker.claim_one().await);
    worker.complete_one(claimed, Outcome::Refused).await;
    let held = world.unknown("u").await;
    world.tamper(held, "quarantine_until = now() - interval '1 s'").await;
    let by_reference = Paper::new(9).line(Some(failed), Some("B-1"), 1_250).line(Some(held), Some("B-2"), 1_250);
    by_reference.compared(&mut world.session("t_operator")).await.unwrap();
    let mut desk = Desk::of(&world);
    for (kind, id) in
        [(ActionKind::Redrive, failed), (ActionKind::ReleaseAsResend, held), (ActionKind::ResolveFailed, held)]
    {
        let result = desk.does_by(kind, id, "MAIL-1").await;
        assert!(!result.applied && result.detail.unwrap().contains("says that it was paid"), "{kind:?}");
    }
    assert!(desk.does(ActionKind::ResolveDispatched, &[held]).await[0].applied);
    assert_conserved(&mut world.dba).await;
}
