//! That nobody alone makes a break vanish: who adds lines, who closes, what is voided, and which statement proves what.

use outbox_core::{OutboxId, Outcome};
use outbox_store::{
    ActionKind, apply_action, begin_reconcile, decide_action, finish_reconcile, propose_action, read_action_members,
    record_lines, resolve_breaks, void_statement,
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::reconcile::{Paper, open, refusal};
use crate::sql::{run, scalar};
use crate::world::{World, lease};

/// A second person who operates. Roles outlive a database, so two tests may make it at once.
const SECOND: &str = "
do $$ begin create role t_second_operator login; exception when duplicate_object or unique_violation then null; end $$;
do $$ begin grant outbox_operator to t_second_operator; exception when unique_violation then null; end $$;
";

#[tokio::test]
async fn lines_that_are_not_those_of_the_file_are_not_compared() {
    let mut world = World::new().await;
    let ids = world.dispatched(2).await;
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).line(Some(ids[0]), Some("R-1"), 1_250);
    // Another amount, and another payment with the same money.
    for (sha, forged, why) in [
        (1, paper.corrected(0).line(Some(ids[0]), Some("R-1"), 1_249), "the paid lines of statement"),
        (2, paper.corrected(0).line(Some(ids[1]), Some("R-1"), 1_250), "are not those of its file"),
    ] {
        let (id, _) = begin_reconcile(&mut session, &Paper { sha, ..paper.clone() }.head()).await.unwrap();
        record_lines(&mut session, id, &forged.lines).await.unwrap();
        assert!(refusal(finish_reconcile(&mut session, id, 100).await).contains(why), "{why}");
    }
    // And each field counts, as the program and the database hash it.
    let mut full = Paper { sha: 3, ..paper };
    full.lines[0].booked_at = Some(full.from + Duration::microseconds(1_234_567));
    full.lines[0].status = Some("GEBÜCHT".to_owned());
    let unpaid = outbox_store::StatementLine { line_no: 9, is_paid: false, amount_minor: 0, ..full.lines[0].clone() };
    full.lines.push(unpaid);
    assert_eq!(full.compared(&mut session).await.unwrap().1.matched, 1);
}

#[tokio::test]
async fn only_who_began_a_statement_adds_its_lines() {
    let mut world = World::new().await;
    run(&mut world.dba, SECOND).await;
    let (mut session, mut second) = (world.session("t_operator"), world.session("t_second_operator"));
    let paper = Paper::new(1).raw(None, Some("X"), 5, "EUR");
    let (id, _) = begin_reconcile(&mut session, &paper.head()).await.unwrap();
    assert_eq!(begin_reconcile(&mut second, &paper.head()).await.unwrap(), (id, 0));
    let refused = refusal(record_lines(&mut second, id, &paper.lines).await);
    assert!(refused.contains("was begun by t_operator, who alone adds its lines"), "{refused}");
    // After a voiding it is begun anew.
    void_statement(&mut second, id, "anna is ill").await.unwrap();
    assert!(refusal(record_lines(&mut session, id, &paper.lines).await).contains("takes lines"));
    let (anew, compared) = paper.compared(&mut second).await.unwrap();
    assert!(anew != id && compared.found == 1);
}

#[tokio::test]
async fn line_that_was_booked_in_another_period_is_refused_by_its_number() {
    let world = World::new().await;
    let mut session = world.session("t_operator");
    let paper = Paper::new(1).raw(None, Some("X"), 5, "EUR").raw(None, Some("Y"), 5, "EUR");
    let mut paper = Paper { slack: outbox_core::Millis(1_000), ..paper };
    let (slack, last) = (Duration::seconds(1), Duration::microseconds(1));
    for outside in [paper.from - slack - last, paper.until + slack] {
        paper.lines[1].booked_at = Some(outside);
        let refused = refusal(paper.compared(&mut session).await);
        assert!(refused.contains("line 3 was booked at") && refused.contains("outside of the period"), "{refused}");
        paper.sha += 1;
    }
    for inside in [paper.from - slack, paper.until + slack - last] {
        paper.lines[1].booked_at = Some(inside);
        assert_eq!(paper.compared(&mut session).await.unwrap().1.matched, 0);
        paper.sha += 1;
    }
}

#[tokio::test]
async fn break_is_closed_by_another_login_than_found_it_and_all_of_a_call_or_none() {
    let mut world = World::new().await;
    let ids = world.dispatched(2).await;
    let mut session = world.session("t_operator");
    Paper::new(1).raw(None, Some("X"), 5, "EUR").compared(&mut session).await.unwrap();
    let (_, breaks) = open(&mut session).await;
    assert_eq!(breaks.len(), 3);
    let alone = refusal(resolve_breaks(&mut session, &breaks, "trust me", None).await);
    assert!(alone.contains("another login closes it"), "{alone}");
    let mut other = world.session("t_approver");
    let proposed =
        propose_action(&mut session, ActionKind::Redrive, &ids[..1], "again", Some("LETTER"), "{}").await.unwrap();
    let action = Some(proposed.action_id);
    let sql = format!("select break_id from outbox.reconcile_breaks where outbox_id = '{}'", ids[0]);
    let its: Uuid = scalar(&mut world.dba, &sql).await;
    // What was only asked for has cleared nothing.
    let refused = refusal(resolve_breaks(&mut other, &[its], "paid anew", action).await);
    assert!(refused.contains("was not applied to the payment of break"), "{refused}");
    decide_action(&mut other, &proposed, true, "checked").await.unwrap();
    assert!(apply_action(&mut session, proposed.action_id, 10).await.unwrap().results[0].applied);
    // Nor has what found nothing to do.
    let skipped =
        propose_action(&mut session, ActionKind::ResolveFailed, &ids[1..], "no", Some("LETTER"), "{}").await.unwrap();
    decide_action(&mut other, &skipped, true, "checked").await.unwrap();
    assert!(!apply_action(&mut session, skipped.action_id, 10).await.unwrap().results[0].applied);
    let sql = format!("select break_id from outbox.reconcile_breaks where outbox_id = '{}'", ids[1]);
    let of_the_other: Uuid = scalar(&mut world.dba, &sql).await;
    let refused = refusal(resolve_breaks(&mut other, &[of_the_other], "failed", Some(skipped.action_id)).await);
    assert!(refused.contains("was not applied to the payment of break"), "{refused}");
    // One of the two payments, and the unknown line, are not of the action.
    let refused = refusal(resolve_breaks(&mut other, &breaks, "paid anew", action).await);
    assert!(refused.contains("was not applied to the payment of break"), "{refused}");
    let unknown = [&breaks[..], &[Uuid::now_v7()]].concat();
    assert!(refusal(resolve_breaks(&mut other, &unknown, "all", None).await).contains("there is no break"));
    assert_eq!(open(&mut session).await.1.len(), 3);
    assert_eq!(resolve_breaks(&mut other, &[its, its], "paid anew", action).await.unwrap(), 1);
    let refused = refusal(resolve_breaks(&mut other, &breaks, "all", None).await);
    assert!(refused.contains("1 of 3 breaks are closed already"), "{refused}");
    assert_eq!(open(&mut session).await.1.len(), 2);
}

#[tokio::test]
async fn statement_that_is_voided_counts_no_more_and_hides_nothing() {
    let mut world = World::new().await;
    let id = world.dispatched(1).await[0];
    let mut session = world.session("t_operator");
    let silent = Paper::new(1);
    silent.compared(&mut session).await.unwrap();
    let unknown = |paper: Paper| paper.raw(None, Some("X"), 5, "EUR");
    // It closes the break of the first, and its own stands for what the third finds as well.
    let wrong = unknown(silent.corrected(2).line(Some(id), None, 1_250));
    let (statement, compared) = wrong.compared(&mut session).await.unwrap();
    assert_eq!((compared.closed, compared.found), (1, 1));
    let third = unknown(silent.corrected(3));
    assert_eq!(third.compared(&mut session).await.unwrap().1.found, 0);
    assert_eq!(void_statement(&mut session, statement, "of another account").await.unwrap(), 1);
    assert!(refusal(void_statement(&mut session, statement, "again").await).contains("void already"));
    assert!(refusal(finish_reconcile(&mut session, statement, 100).await).contains("is void"));
    let (mut found, _) = open(&mut session).await;
    found.sort();
    let missing = format!("MISSING_AT_RAIL {id} DISPATCHED");
    assert_eq!(found, [missing.clone(), "UNKNOWN_TO_US X -".to_owned(), "UNKNOWN_TO_US X -".to_owned()]);
    // The same file again is another statement, and closes it again.
    let (anew, compared) = wrong.compared(&mut session).await.unwrap();
    assert!(anew != statement);
    assert_eq!((compared.matched, compared.closed), (1, 1));
}

#[tokio::test]
async fn same_file_with_other_statuses_as_paid_is_refused_until_it_is_voided() {
    let world = World::new().await;
    let mut session = world.session("t_operator");
    let paper = |paid: &[&str]| Paper {
        paid_statuses: paid.iter().map(|status| (*status).to_owned()).collect(),
        ..Paper::of(1, OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + Duration::hours(1))
    };
    let (first, _) = paper(&["BOOKED", "SETTLED"]).compared(&mut session).await.unwrap();
    assert_eq!(paper(&["SETTLED", "BOOKED", "BOOKED"]).compared(&mut session).await.unwrap().0, first);
    let refused = refusal(paper(&["BOOKED"]).compared(&mut session).await);
    assert!(refused.contains(&format!("other statuses or lines as paid: statement {first}")), "{refused}");
    void_statement(&mut session, first, "SETTLED is not paid").await.unwrap();
    assert!(paper(&["BOOKED"]).compared(&mut session).await.unwrap().0 != first);
}

async fn resolved(world: &World, statement: Uuid, ids: &[OutboxId]) -> Result<Uuid, String> {
    let parameters = format!("{{\"statement_id\": \"{statement}\"}}");
    let (mut session, kind) = (world.session("t_operator"), ActionKind::ResolveDispatched);
    let proposed = propose_action(&mut session, kind, ids, "r", Some("statement 01"), &parameters).await;
    let proposal = proposed.map_err(|error| error.to_string())?;
    decide_action(&mut world.session("t_approver"), &proposal, true, "checked").await.unwrap();
    Ok(proposal.action_id)
}

#[tokio::test]
async fn statement_proves_only_what_it_found_itself_of_its_own_rail_and_nobody_has_cleared() {
    let mut world = World::new().await;
    let held = world.unknown("u").await;
    let mut session = world.session("t_operator");
    let first = Paper::new(1).line(Some(held), Some("BANK-1"), 1_250);
    let (statement, _) = first.compared(&mut session).await.unwrap();
    let (other, compared) = first.corrected(2).with(&first.lines).compared(&mut session).await.unwrap();
    assert_eq!(compared.found, 0);
    let none = "no open break of the statement says that";
    assert!(resolved(&world, other, &[held]).await.unwrap_err().contains(none));
    // The statement of another rail that names the payment finds that it is paid, and proves nothing.
    run(&mut world.dba, "select outbox.set_payment_rail('sepa', 'hold')").await;
    let mut head = first.corrected(3).with(&first.lines).head();
    head.rail = outbox_core::RailName::new("sepa").unwrap();
    let (foreign, _) = begin_reconcile(&mut session, &head).await.unwrap();
    record_lines(&mut session, foreign, &first.lines).await.unwrap();
    assert_eq!(finish_reconcile(&mut session, foreign, 100).await.unwrap().found, 1);
    assert!(resolved(&world, foreign, &[held]).await.unwrap_err().contains(none));
    // What was cleared after the approval is not applied.
    let action = resolved(&world, statement, &[held]).await.unwrap();
    void_statement(&mut session, statement, "of another account").await.unwrap();
    let report = apply_action(&mut session, action, 10).await.unwrap();
    assert_eq!(report.results.iter().filter(|result| result.applied).count(), 0);
    assert!(world.pending(held).await.is_some());
}

#[tokio::test]
async fn payment_that_ended_without_success_and_is_booked_by_the_rail_is_among_those_to_recall() {
    let world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let mut session = world.session("t_operator");
    let action = propose_action(&mut session, ActionKind::Hold, &[id], "odd", None, "{}").await.unwrap().action_id;
    let claimed = lease(&worker.claim_one().await);
    worker.complete_one(claimed, Outcome::Refused).await;
    let sent = async |session: &mut outbox_store::Session| {
        let member = read_action_members(session, action, None, 10).await.unwrap().remove(0);
        serde_json::from_str::<serde_json::Value>(&member).unwrap()["sent"].as_bool()
    };
    assert_eq!(sent(&mut session).await, Some(false));
    let (statement, _) = Paper::new(1).line(Some(id), Some("R-1"), 1_250).compared(&mut session).await.unwrap();
    assert_eq!(sent(&mut session).await, Some(true));
    void_statement(&mut session, statement, "of another account").await.unwrap();
    assert_eq!(sent(&mut session).await, Some(false));
}
