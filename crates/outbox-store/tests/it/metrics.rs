//! The figures for the page of metrics: counts, money, dispatchers, and what the database says of itself to a login
//! that may see little.

use std::collections::BTreeMap;

use outbox_core::{Millis, Outcome, RailName, WorkerId};
use outbox_store::{
    ActionKind, DispatcherState, Heartbeat, Hint, LaneBeat, Memory, NewPayment, RiskHorizon, dispatcher_heartbeat,
    enqueue_batch, read_metrics,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::control::Desk;
use crate::sql::{column, run};
use crate::world::{RAIL, World, lease, payment};

/// The figures as `name label…`, read by a monitor.
async fn figures(world: &World, horizons: &[RiskHorizon]) -> BTreeMap<String, f64> {
    let read = read_metrics(&mut world.session("t_monitor"), horizons).await.unwrap();
    let count = read.len();
    let named = |figure: outbox_store::Figure| {
        let words: Vec<String> = [figure.name].into_iter().chain(figure.labels).collect();
        (words.join(" "), figure.value)
    };
    let figures: BTreeMap<String, f64> = read.into_iter().map(named).collect();
    assert_eq!(figures.len(), count, "two figures are one: {figures:?}");
    figures
}

fn horizon(ahead_ms: u64) -> [RiskHorizon; 1] {
    [RiskHorizon { rail: RailName::new(RAIL).unwrap(), ahead: Millis(ahead_ms) }]
}

fn money(name: &str, amount_minor: i64, currency: &str) -> NewPayment {
    NewPayment { amount_minor: Some(amount_minor), currency: Some(currency.to_owned()), ..payment(name) }
}

#[tokio::test]
async fn payment_that_backs_off_again_and_again_has_an_age_though_it_is_never_due() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 5).await;
    let mut worker = world.worker("w");
    for claimed in worker.claim(5).await.leased {
        let outcome = if claimed.outbox_id == ids[3] { Outcome::Unknown } else { Outcome::Throttled };
        worker.complete_one(lease(&claimed), outcome).await;
    }
    for (place, change) in [
        (0, "created_at = now() - interval '2 hours'"),
        // What could not have been sent before a later time counts from then.
        (1, "created_at = now() - interval '9 hours'"),
        (2, "created_at = now() - interval '9 hours', disposition = 'HELD', hold_reason = 'REQUESTED'"),
        (3, "created_at = now() - interval '9 hours'"),
        (4, "created_at = now() - interval '9 hours', attempt_count = 0"),
    ] {
        world.tamper(ids[place], &format!("{change}, next_attempt_at = now() + interval '5 minutes'")).await;
    }
    run(
        &mut world.dba,
        &format!(
            "alter table outbox.payment_outbox_instructions disable trigger history_is_never_changed; \
             update outbox.payment_outbox_instructions set not_before = now() - interval '1 hour' where outbox_id = '{}'; \
             alter table outbox.payment_outbox_instructions enable always trigger history_is_never_changed",
            ids[1]
        ),
    )
    .await;
    let before = figures(&world, &[]).await;
    let age = before["oldest_retrying_age_seconds wire"];
    assert!((7_200.0..7_260.0).contains(&age), "{age}");
    assert_eq!(before["oldest_due_age_seconds wire"], 0.0);
    // What people released could be sent since then.
    world.tamper(ids[0], "disposition = 'HELD', hold_reason = 'REQUESTED', first_sent_at = null").await;
    assert!(Desk::of(&world).does(ActionKind::Release, &ids[..1]).await[0].applied);
    let age = figures(&world, &[]).await["oldest_retrying_age_seconds wire"];
    assert!((3_600.0..3_660.0).contains(&age), "the one that could be sent since an hour: {age}");
}

#[tokio::test]
async fn figures_count_payments_and_add_up_money_by_currency_and_reason() {
    let mut world = World::new().await;
    let payments: Vec<NewPayment> =
        (1..=9).map(|n| money(&format!("a-{n}"), 1 << n, if n % 2 == 0 { "EUR" } else { "USD" })).collect();
    let all = enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    let id = |n: usize| all[n - 1].outbox_id;
    let mut worker = world.worker("w");
    let claimed = worker.claim(9).await.leased;
    let of = |n| lease(claimed.iter().find(|one| one.outbox_id == id(n)).unwrap());
    worker.complete_one(of(1), Outcome::Accepted).await;
    for n in 2..=4 {
        worker.complete_one(of(n), Outcome::KeyReused).await;
    }
    worker.complete_one(of(5), Outcome::Unknown).await;
    world.lose_lease(id(6)).await;
    worker.complete_one(of(7), Outcome::NotSent).await;
    world.tamper(id(5), "next_attempt_at = now() + interval '1 hour'").await;
    world.tamper(id(7), "next_attempt_at = now() - interval '1 hour'").await;
    world.tamper(id(2), "created_at = now() - interval '2 hours'").await;
    run(&mut world.dba, "analyze outbox.payment_outbox_pending").await;

    let figures = figures(&world, &[]).await;
    for (name, expected) in [
        ("payments_due wire", 1.0),
        ("payments_waiting wire", 1.0),
        ("payments_leased wire", 2.0),
        ("payments_in_doubt wire", 2.0),
        ("payments_parked wire", 0.0),
        ("payments_held wire CONTRADICTION", 3.0),
        ("held_amount_minor wire CONTRADICTION EUR", 4.0 + 16.0),
        ("held_amount_minor wire CONTRADICTION USD", 8.0),
        ("in_doubt_amount_minor wire USD", 32.0),
        ("in_doubt_amount_minor wire EUR", 64.0),
        ("amounts_complete", 1.0),
        ("rail_paused wire", 0.0),
        ("participants_paused", 0.0),
        ("partition_headroom_months", 24.0),
    ] {
        assert_eq!(figures.get(name), Some(&expected), "{name} in {figures:?}");
    }
    for (name, at_least) in
        [("oldest_due_age_seconds wire", 3_600.0), ("oldest_held_enqueued_age_seconds wire CONTRADICTION", 7_200.0)]
    {
        assert!((at_least..at_least + 600.0).contains(&figures[name]), "{name}: {}", figures[name]);
    }
    assert!(!figures.contains_key("earliest_not_after_timestamp_seconds wire"));
}

#[tokio::test]
async fn amounts_at_risk_are_those_due_whose_not_after_the_forecast_does_not_reach() {
    let world = World::new().await;
    let after = |hours| Some(OffsetDateTime::now_utc() + time::Duration::hours(hours));
    let payments = [
        NewPayment { not_after: after(1), ..money("a", 100, "EUR") },
        NewPayment { not_after: after(3), ..money("b", 20, "EUR") },
        NewPayment { not_after: after(3), not_before: after(2), ..money("c", 3, "EUR") },
        money("d", 4_000, "EUR"),
    ];
    enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    for (ahead_ms, expected) in [(60_000, None), (7_200_000, Some(100.0)), (31_536_000_000, Some(120.0))] {
        let figures = figures(&world, &horizon(ahead_ms)).await;
        assert_eq!(figures.get("not_after_at_risk_amount_minor wire EUR").copied(), expected, "{ahead_ms} ms ahead");
        let payments = expected.map_or(0.0, |amount| if amount > 100.0 { 2.0 } else { 1.0 });
        assert_eq!(figures["payments_not_after_at_risk wire"], payments, "{ahead_ms} ms ahead");
        let earliest = figures["earliest_not_after_timestamp_seconds wire"];
        assert!((earliest - OffsetDateTime::now_utc().unix_timestamp() as f64 - 3_600.0).abs() < 600.0, "{earliest}");
    }
    let known: Vec<String> = figures(&world, &[]).await.into_keys().collect();
    assert!(!known.iter().any(|name| name.contains("not_after_at_risk")), "{known:?}");
}

#[tokio::test]
async fn what_waits_behind_another_or_past_its_not_after_is_at_risk_whatever_the_forecast() {
    let mut world = World::new().await;
    world.contract("amount_required = false").await;
    let after = |minutes| Some(OffsetDateTime::now_utc() + time::Duration::minutes(minutes));
    let ordered = |name: &str, amount, not_after| NewPayment {
        ordering_key: Some("k".to_owned()),
        not_after,
        ..money(name, amount, "EUR")
    };
    // Parked behind one that is held: for longer than is left, for less, without an end, and not before a later time.
    let later = NewPayment { not_before: after(40), ..ordered("later", 10_000, after(60)) };
    let waiting = NewPayment { not_after: after(30), ..money("waiting", 200, "EUR") };
    let payments = [
        ordered("first", 1, None),
        ordered("late", 20, after(1)),
        ordered("early", 3_000, after(60)),
        ordered("endless", 40_000, None),
        later,
        waiting,
        NewPayment { amount_minor: None, currency: None, not_after: after(50), ..payment("without an amount") },
    ];
    let all = enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    world.tamper(all[0].outbox_id, "disposition = 'HELD', hold_reason = 'UNKNOWN'").await;
    world.tamper(all[1].outbox_id, "next_attempt_at = now() - interval '2 minutes'").await;
    // Their next attempts come after their not_after.
    for waits in [&all[5], &all[6]] {
        world.tamper(waits.outbox_id, "next_attempt_at = now() + interval '1 hour'").await;
    }
    let figures = figures(&world, &horizon(0)).await;
    assert_eq!(
        (figures["payments_due wire"], figures["payments_waiting wire"], figures["payments_parked wire"]),
        (0.0, 2.0, 4.0)
    );
    assert_eq!(figures.get("not_after_at_risk_amount_minor wire EUR"), Some(&220.0), "{figures:?}");
    assert_eq!(figures.get("payments_not_after_at_risk wire"), Some(&3.0), "{figures:?}");
    let earliest = figures["earliest_not_after_timestamp_seconds wire"];
    assert!((earliest - OffsetDateTime::now_utc().unix_timestamp() as f64).abs() < 120.0, "{earliest}");
}

#[tokio::test]
async fn figures_of_dispatchers_are_those_of_the_last_life_of_each() {
    let mut world = World::new().await;
    let beat = |name: &str, state, settled| Heartbeat {
        worker_id: WorkerId::new(name, Uuid::new_v4()).unwrap(),
        version: "7".to_owned(),
        state,
        lanes: vec![LaneBeat { rail: RailName::new(RAIL).unwrap(), settled }],
        in_flight: 0,
        interval: Millis(1_000),
        environment: None,
        seen: Memory::default(),
    };
    use DispatcherState::{Running, Stopped};
    let mut session = world.session("t_dispatcher");
    for beat in
        [beat("one", Running, 10), beat("one", Running, 200), beat("two", Running, 3_000), beat("old", Stopped, 40_000)]
    {
        dispatcher_heartbeat(&mut session, &beat).await.unwrap();
        run(&mut world.dba, "update outbox.outbox_dispatchers set heartbeat_at = heartbeat_at - interval '1 minute'")
            .await;
    }
    let figures = figures(&world, &[]).await;
    assert_eq!(figures["settled wire"], 43_210.0, "what ended dispatchers did counts as well");
    let info: Vec<&str> =
        figures.keys().filter(|name| name.starts_with("dispatcher_info")).map(String::as_str).collect();
    assert_eq!(info, ["dispatcher_info one 7 RUNNING", "dispatcher_info two 7 RUNNING"]);
    assert_eq!(figures["dispatcher_lanes one"], 1.0);
    let age = figures["dispatcher_heartbeat_age_seconds one"];
    assert!((180.0..240.0).contains(&age), "the age of the later life: {age}");
}

#[tokio::test]
async fn an_old_snapshot_of_another_login_shows_to_a_monitor() {
    let mut world = World::new().await;
    let before = figures(&world, &[]).await["oldest_snapshot_age_transactions"];
    let mut old = world.db.connect_as("t_ingest").await.unwrap();
    run(&mut old, "begin isolation level repeatable read").await;
    let _: Vec<i32> = column(&mut old, "select 1").await;
    for _ in 0..50 {
        run(&mut world.dba, "select pg_current_xact_id()").await;
    }
    let age = figures(&world, &[]).await["oldest_snapshot_age_transactions"];
    // Other tests have databases of their own, and their transactions count as well.
    assert!(age >= 50.0, "{age}, and {before} before");
}
