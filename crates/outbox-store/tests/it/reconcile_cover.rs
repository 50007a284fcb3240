//! What the statements of a rail cover together: a payment is judged once, when they cover all its time, in whatever order
//! they come.

use outbox_core::{Millis, OutboxId};
use outbox_store::{Comparison, Session, begin_reconcile, finish_reconcile, record_lines, void_statement};
use time::{Duration, OffsetDateTime};

use crate::reconcile::{Paper, open, refusal};
use crate::sql::scalar;
use crate::world::World;

/// Days that are over: `at(n, h)` is the hour `h` of the day `n`, of which 0 is the first.
fn at(day: i64, hour: i64) -> OffsetDateTime {
    let today = OffsetDateTime::now_utc().replace_time(time::Time::MIDNIGHT);
    today - Duration::days(10) + Duration::days(day) + Duration::hours(hour)
}

fn day(number: i64) -> Paper {
    let sha = u8::try_from(number).unwrap();
    Paper { slack: Millis(300_000), ..Paper::of(sha, at(number, 0), at(number + 1, 0)) }
}

async fn compared(paper: &Paper, session: &mut Session) -> Comparison {
    paper.compared(session).await.unwrap().1
}

fn missing(id: OutboxId) -> String {
    format!("MISSING_AT_RAIL {id} DISPATCHED")
}

/// Payments of which one was sent at the last minute of the day 0, one at noon of the day 1, and one at its last minute.
async fn three(world: &mut World) -> Vec<OutboxId> {
    let ids = world.dispatched(3).await;
    for (id, when) in ids.iter().zip([at(1, 0), at(1, 12), at(2, 0)]) {
        let when = when - Duration::minutes(1);
        world.attempted_at(*id, when, when).await;
    }
    ids
}

#[tokio::test]
async fn payment_at_the_edge_of_a_period_is_judged_whatever_the_order_of_the_statements() {
    for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 0, 2], [2, 0, 1], [1, 2, 0]] {
        let mut world = World::new().await;
        let ids = three(&mut world).await;
        let mut session = world.session("t_operator");
        let mut found = 0;
        for number in order {
            found += compared(&day(number), &mut session).await.found;
        }
        let mut all = open(&mut session).await.0;
        let mut expected: Vec<String> = ids.into_iter().map(missing).collect();
        all.sort();
        expected.sort();
        assert_eq!((found, all), (3, expected), "{order:?}");
        let again = compared(&day(2), &mut session).await;
        assert_eq!((again.found, again.at_the_edge, again.open_breaks), (0, 0, 3), "{order:?}");
    }
}

#[tokio::test]
async fn day_without_a_statement_is_a_gap_that_is_named_and_what_lies_in_it_waits_for_it() {
    let mut world = World::new().await;
    three(&mut world).await;
    let mut session = world.session("t_operator");
    assert_eq!(compared(&day(0), &mut session).await.gaps, []);
    for number in [2, 3] {
        let later = compared(&day(number), &mut session).await;
        assert_eq!((later.gaps, later.at_the_edge, later.found), (vec![(at(1, 0), at(2, 0))], 3, 0));
    }
    let whole = compared(&day(1), &mut session).await;
    assert_eq!((whole.gaps, whole.at_the_edge, whole.found), (Vec::new(), 0, 3));
}

#[tokio::test]
async fn largest_slack_of_the_statements_judges_and_none_is_judged_by_a_smaller_one() {
    let mut world = World::new().await;
    let id = world.dispatched(1).await[0];
    let when = at(1, 0) - Duration::minutes(10);
    world.attempted_at(id, when, when).await;
    let mut session = world.session("t_operator");
    let first = Paper { slack: Millis(3_600_000), ..day(0) };
    assert_eq!(compared(&first, &mut session).await.at_the_edge, 1);
    let again = Paper { slack: Millis(0), ..day(0).corrected(9) };
    let again = compared(&again, &mut session).await;
    assert_eq!((again.at_the_edge, again.found), (1, 0));
    let next = Paper { slack: Millis(0), ..day(1) };
    assert_eq!(compared(&next, &mut session).await.found, 1);
}

#[tokio::test]
async fn payment_that_was_in_doubt_for_days_is_judged_when_all_of_them_are_covered() {
    let mut world = World::new().await;
    let id = world.dispatched(1).await[0];
    world.attempted_at(id, at(0, 12), at(2, 12)).await;
    let mut session = world.session("t_operator");
    assert_eq!(compared(&day(2), &mut session).await.before_cover, 1);
    assert_eq!(compared(&day(0), &mut session).await.at_the_edge, 1);
    assert_eq!(compared(&day(1), &mut session).await.found, 1);
    assert_eq!(open(&mut session).await.0, [missing(id)]);
}

#[tokio::test]
async fn period_that_is_not_over_is_refused() {
    let world = World::new().await;
    let mut session = world.session("t_operator");
    let now = OffsetDateTime::now_utc();
    let paper = Paper::of(1, now - Duration::hours(1), now + Duration::minutes(1));
    assert!(refusal(paper.compared(&mut session).await).contains("the period is not over"));
}

#[tokio::test]
async fn what_was_judged_is_not_read_again_unless_a_statement_of_that_time_comes_or_goes() {
    let mut world = World::new().await;
    let ids = three(&mut world).await;
    let mut session = world.session("t_operator");
    let judged = "select max(judged_until) from outbox.reconcile_comparisons";
    compared(&day(0), &mut session).await;
    // The payment of the last minute waits, and is where the next comparison begins.
    assert_eq!(scalar::<OffsetDateTime>(&mut world.dba, judged).await, at(1, 0) - Duration::minutes(1));
    let line = |number: i64, id| day(number).line(Some(id), None, 1_250);
    let (second, _) = line(1, ids[1]).compared(&mut session).await.unwrap();
    compared(&line(2, ids[2]), &mut session).await;
    assert_eq!(scalar::<OffsetDateTime>(&mut world.dba, judged).await, at(3, 0));
    let late = "select found from outbox.reconcile_comparisons order by compared_at desc limit 1";
    assert_eq!(scalar::<i32>(&mut world.dba, late).await, 0);
    // Without the statement of the day 1 nothing covers the time of its payment, and of the one that it found missing.
    void_statement(&mut session, second, "of another account").await.unwrap();
    let after = compared(&line(2, ids[2]), &mut session).await;
    assert_eq!((after.gaps, after.at_the_edge, after.found), (vec![(at(1, 0), at(2, 0))], 2, 0));
    let anew = compared(&day(1), &mut session).await;
    assert_eq!((anew.gaps, anew.at_the_edge, anew.found), (Vec::new(), 0, 2));
}

#[tokio::test]
async fn two_comparisons_at_once_find_each_break_once() {
    let mut world = World::new().await;
    let ids = three(&mut world).await;
    let (mut one, mut other) = (world.session("t_operator"), world.session("t_operator"));
    let mut papers = Vec::new();
    for sha in [1, 2] {
        let paper =
            Paper::of(sha, at(0, 0), at(3, 0)).raw(None, Some("NOTPROVIDED"), 5, "EUR").line(Some(ids[1]), None, 7);
        let (id, _) = begin_reconcile(&mut one, &paper.head()).await.unwrap();
        record_lines(&mut one, id, &paper.lines).await.unwrap();
        papers.push(id);
    }
    let (first, second) =
        tokio::join!(finish_reconcile(&mut one, papers[0], 100), finish_reconcile(&mut other, papers[1], 100));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.found + second.found, first.open_breaks.max(second.open_breaks)), (4, 4));
    assert_eq!(open(&mut one).await.0.len(), 4);
}
