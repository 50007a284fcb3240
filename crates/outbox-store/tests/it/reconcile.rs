//! Statements of a rail against the ledger: each kind of break, and that none is recorded twice.

use outbox_core::{Millis, OutboxId, Outcome, RailName};
use outbox_store::{
    ActionKind, Comparison, Session, StatementHead, StatementLine, StoreError, begin_reconcile, decide_action,
    finish_reconcile, propose_action, read_breaks, record_lines, resolve_break,
};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::sql::{run, scalar};
use crate::world::{RAIL, World, completion, lease};

/// A statement under construction, of the hour around now unless it is moved.
#[derive(Clone)]
struct Paper {
    sha: u8,
    from: OffsetDateTime,
    until: OffsetDateTime,
    slack: Millis,
    lines: Vec<StatementLine>,
}

impl Paper {
    fn new(sha: u8) -> Self {
        let now = OffsetDateTime::now_utc();
        let (from, until) = (now - Duration::hours(1), now + Duration::hours(1));
        Self { sha, from, until, slack: Millis(60_000), lines: Vec::new() }
    }

    fn line(mut self, key: Option<OutboxId>, reference: Option<&str>, amount_minor: i64) -> Self {
        let line_no = i64::try_from(self.lines.len()).unwrap() + 2;
        self.lines.push(StatementLine {
            line_no,
            wire_key: key.map(|id| id.to_string()),
            rail_reference: reference.map(str::to_owned),
            amount_minor,
            currency: "EUR".to_owned(),
            booked_at: None,
            status: None,
            is_paid: true,
        });
        self
    }

    fn head(&self) -> StatementHead {
        StatementHead {
            rail: RailName::new(RAIL).unwrap(),
            booked_from: self.from,
            booked_until: self.until,
            slack: self.slack,
            file_name: "s.csv".to_owned(),
            file_sha256: vec![self.sha; 32],
            line_count: i64::try_from(self.lines.len()).unwrap(),
            sums: "{}".to_owned(),
            reason: "daily".to_owned(),
        }
    }

    async fn compared(&self, session: &mut Session) -> Result<(Uuid, Comparison), StoreError> {
        let (id, recorded) = begin_reconcile(session, &self.head()).await?;
        if recorded == 0 && !self.lines.is_empty() {
            record_lines(session, id, &self.lines).await?;
        }
        Ok((id, finish_reconcile(session, id, 100).await?))
    }
}

/// What is open, as `KIND subject standing`, and the breaks' ids.
async fn open(session: &mut Session) -> (Vec<String>, Vec<Uuid>) {
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
    async fn dispatched(&mut self, count: usize) -> Vec<OutboxId> {
        let ids = self.enqueue("d", count).await;
        let mut worker = self.worker("w");
        for claimed in worker.claim(100).await.leased {
            let place = ids.iter().position(|id| *id == claimed.outbox_id).unwrap() + 1;
            let mut done = completion(lease(&claimed), Outcome::Accepted);
            done.rail_reference = Some(format!("R-{place}"));
            worker.complete(&[done]).await;
        }
        ids
    }

    async fn unknown(&mut self, prefix: &str) -> OutboxId {
        run(&mut self.dba, "update outbox.payment_rails set on_unknown = 'hold' where rail = 'wire'").await;
        let id = self.enqueue(prefix, 1).await[0];
        let mut worker = self.worker("w");
        let claimed = worker.claim_one().await;
        worker.complete_one(lease(&claimed), Outcome::Unknown).await;
        id
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
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
    assert_eq!(compared, Comparison { matched: 4, at_the_edge: 0, found: 6, closed: 0, open_breaks: 6 });
    // The same again records nothing, a person's resolution stays, and too many breaks are refused whole.
    let (_, ids_of_breaks) = open(&mut session).await;
    resolve_break(&mut session, ids_of_breaks[0], "cleared by phone", None).await.unwrap();
    assert!(refusal(resolve_break(&mut session, ids_of_breaks[0], "again", None).await).contains("closed already"));
    let (_, again) = paper.compared(&mut session).await.unwrap();
    assert_eq!((again.found, again.closed, again.open_breaks), (0, 0, 5));
    let lines: i64 = scalar(&mut world.dba, "select count(*) from outbox.reconcile_lines").await;
    assert_eq!(lines, 9);
    let another = Paper { sha: 2, ..paper };
    let (id, _) = begin_reconcile(&mut session, &another.head()).await.unwrap();
    assert!(refusal(finish_reconcile(&mut session, id, 100).await).contains("0 lines of 9"));
    record_lines(&mut session, id, &another.lines).await.unwrap();
    assert!(refusal(finish_reconcile(&mut session, id, 0).await).contains("1 new breaks, more than 0"));
    assert_eq!(open(&mut session).await.0.len(), 5);
}

#[tokio::test]
async fn break_closes_when_a_later_statement_agrees_and_not_before() {
    let mut world = World::new().await;
    let ids = world.dispatched(2).await;
    let mut session = world.session("t_operator");
    let first = Paper::new(1).line(Some(ids[0]), Some("R-1"), 1_000);
    assert_eq!(first.compared(&mut session).await.unwrap().1.found, 2);
    let silent = Paper { sha: 2, lines: Vec::new(), ..first.clone() };
    let (_, compared) = silent.compared(&mut session).await.unwrap();
    assert_eq!((compared.found, compared.closed, compared.open_breaks), (0, 0, 2));
    let corrected = Paper { sha: 3, lines: Vec::new(), ..first }.line(Some(ids[0]), Some("R-1"), 1_250).line(
        None,
        Some("R-2"),
        1_250,
    );
    let (_, compared) = corrected.compared(&mut session).await.unwrap();
    assert_eq!((compared.matched, compared.found, compared.closed, compared.open_breaks), (2, 0, 2, 0));
    // The same payment under another reference in another statement is a second payment.
    let twice = Paper { sha: 4, lines: Vec::new(), ..corrected }.line(Some(ids[0]), Some("R-1b"), 1_250);
    twice.compared(&mut session).await.unwrap();
    assert_eq!(open(&mut session).await.0, [format!("TWICE_AT_RAIL {} DISPATCHED", ids[0])]);
}

#[tokio::test]
async fn payment_at_the_edge_of_a_period_is_judged_by_the_statement_that_covers_all_its_time() {
    let mut world = World::new().await;
    world.dispatched(1).await;
    let mut session = world.session("t_operator");
    let now = OffsetDateTime::now_utc();
    let whole = Paper { slack: Millis(600_000), ..Paper::new(1) };
    // The rail may have booked it after the end of this period, or, for all that is known, before its beginning.
    let before = Paper { until: now + Duration::minutes(1), ..whole.clone() };
    let after = Paper { sha: 2, from: now - Duration::minutes(5), ..whole.clone() };
    for paper in [&after, &before] {
        let (_, compared) = paper.compared(&mut session).await.unwrap();
        assert_eq!((compared.at_the_edge, compared.found), (1, 0));
    }
    // Now the two together cover all the time in which it may have been booked.
    let (_, compared) = after.compared(&mut session).await.unwrap();
    assert_eq!((compared.at_the_edge, compared.found), (0, 1));
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
    assert!(refusal(refused).contains(&format!("no statement says that {stranger} was paid")));
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
