//! What the proxy does to single answers and after counted frames happens to those alone.

use outbox_testkit::wait_until;

use crate::proxied::{Fixture, LIMIT, SILENCE, write};

/// Answered with four frames: a description, a row, a completion, and that the server is ready.
const ONE_ROW: &str = "select 1";
const ONE_ROW_ANSWER: &str = "TDCZ";

#[tokio::test]
async fn connection_that_carries_the_counted_frame_ends_right_after_it_and_no_other_does() {
    let fixture = Fixture::new().await;
    let (mut other, mut struck) = (fixture.wire().await, fixture.wire().await);
    let before = fixture.proxy.frames();
    let cut = fixture.proxy.cut_after(6);
    other.send(&[ONE_ROW]).await;
    assert_eq!(other.answer().await, ONE_ROW_ANSWER);
    assert_eq!(fixture.proxy.frames() - before, 4);
    assert!(cut.reached(SILENCE).await.is_err());
    struck.send(&[ONE_ROW]).await;
    assert_eq!(struck.answer().await, "TD");
    cut.reached(LIMIT).await.unwrap();
    assert_eq!((fixture.proxy.frames() - before, fixture.proxy.connections()), (6, 1));
    other.send(&[ONE_ROW]).await;
    assert_eq!(other.answer().await, ONE_ROW_ANSWER);
}

#[tokio::test]
async fn dropped_cut_closes_nothing() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    drop(fixture.proxy.cut_after(1));
    wire.send(&[ONE_ROW]).await;
    assert_eq!(wire.answer().await, ONE_ROW_ANSWER);
}

#[tokio::test]
async fn lost_answer_leaves_the_write_committed_and_its_client_alone_with_an_error() {
    let fixture = Fixture::new().await;
    let (mut session, mut other) = (fixture.through_proxy().await, fixture.through_proxy().await);
    let lost = fixture.proxy.lose_answer("insert into public.written");
    assert!(write(&mut session, 1).await.is_err());
    lost.reached(LIMIT).await.unwrap();
    assert_eq!(fixture.written().await, 1);
    write(&mut other, 2).await.unwrap();
    assert_eq!(fixture.written().await, 2);
}

#[tokio::test]
async fn answer_that_came_before_the_lost_one_passes() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    let lost = fixture.proxy.lose_answer("insert into public.written");
    wire.send(&[ONE_ROW, "insert into public.written values (1)"]).await;
    assert_eq!((wire.answer().await.as_str(), wire.answer().await.as_str()), (ONE_ROW_ANSWER, ""));
    lost.reached(LIMIT).await.unwrap();
    assert_eq!(fixture.written().await, 1);
}

#[tokio::test]
async fn answer_that_the_server_did_not_finish_counts_as_not_reached_and_its_last_words_pass() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    let lost = fixture.proxy.lose_answer("pg_sleep");
    wire.send(&["select pg_sleep(600)"]).await;
    fixture.terminate(wire.backend()).await;
    // It may have described its rows before.
    assert_eq!(wire.answer().await.trim_start_matches('T'), "E");
    assert!(lost.reached(SILENCE).await.is_err());
}

#[tokio::test]
async fn dropped_interception_that_matched_nothing_is_disarmed() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    let proxy = &fixture.proxy;
    for armed in [proxy.intercept("insert"), proxy.lose_answer("insert"), proxy.swallow_completion("insert")] {
        drop(armed);
    }
    tokio::time::timeout(LIMIT, write(&mut session, 1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn swallowed_completion_leaves_the_rows_and_an_open_connection_that_says_nothing_more() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    let swallowed = fixture.proxy.swallow_completion("insert into public.written");
    wire.send(&["insert into public.written select generate_series(1, 3) returning n"]).await;
    let mut tags = Vec::new();
    for _ in 0..4 {
        tags.push(wire.frame().await.unwrap().0);
    }
    assert_eq!(tags, *b"TDDD");
    swallowed.reached(LIMIT).await.unwrap();
    assert_eq!(fixture.written().await, 3);
    // The other direction is open still.
    wire.send(&["insert into public.written values (4)"]).await;
    wait_until("the next statement", LIMIT, async || fixture.written().await == 4).await.unwrap();
    assert!(wire.is_silent().await);
    assert_eq!(fixture.proxy.connections(), 1);
    swallowed.cut();
    assert_eq!(wire.frame().await, None);
}

#[tokio::test]
async fn failed_statement_has_no_completion_to_swallow() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    let swallowed = fixture.proxy.swallow_completion("1 / 0");
    wire.send(&["select 1 / 0"]).await;
    assert_eq!(wire.answer().await, "EZ");
    assert!(swallowed.reached(SILENCE).await.is_err());
    wire.send(&[ONE_ROW]).await;
    assert_eq!(wire.answer().await, ONE_ROW_ANSWER);
}

#[tokio::test]
async fn cancellation_passes_and_ends_the_statement() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    let mut watcher = fixture.database.connect_as("postgres").await.unwrap();
    wire.send(&["select pg_sleep(600)"]).await;
    let question = "select exists (select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep')";
    wait_until("the statement", LIMIT, async || {
        sqlx::query_scalar(question).bind(wire.backend()).fetch_one(&mut watcher).await.unwrap()
    })
    .await
    .unwrap();
    wire.cancel(fixture.proxy.address()).await;
    // The statement may have sent its description before it was cancelled.
    assert_eq!(wire.answer().await.trim_start_matches('T'), "EZ");
}
