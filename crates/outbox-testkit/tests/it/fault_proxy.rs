//! The proxy's faults are the ones it says, seen from both sides.

use std::time::Duration;

use outbox_testkit::{FaultProxy, wait_until};

use crate::proxied::{Fixture, LIMIT, SILENCE, write};

#[tokio::test]
async fn cut_reply_leaves_the_write_committed_and_the_client_with_an_error() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    let lost = fixture.proxy.intercept("insert into public.written");
    let (result, ()) = tokio::join!(write(&mut session, 1), async {
        lost.reached(LIMIT).await.unwrap();
        assert_eq!(fixture.written().await, 1, "the server had committed before its reply was lost");
        lost.cut();
    });
    assert!(result.is_err());
    assert_eq!(fixture.written().await, 1);
}

#[tokio::test]
async fn withheld_reply_is_silence_and_release_lets_it_pass() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    // The statement is prepared already, so that what is kept back is the answer to its execution.
    write(&mut session, 1).await.unwrap();
    let kept = fixture.proxy.intercept("insert into public.written");
    let mut writing = Box::pin(write(&mut session, 2));
    assert!(tokio::time::timeout(SILENCE, &mut writing).await.is_err());
    kept.reached(LIMIT).await.unwrap();
    assert_eq!(fixture.written().await, 2);
    kept.release();
    writing.await.unwrap();
    write(&mut session, 3).await.unwrap();
    assert_eq!(fixture.written().await, 3);
}

#[tokio::test]
async fn interception_matches_one_statement_once() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    let kept = fixture.proxy.intercept("no such text");
    write(&mut session, 1).await.unwrap();
    assert!(kept.reached(SILENCE).await.is_err());
}

#[tokio::test]
async fn black_hole_hides_the_clients_end_from_the_server() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    let mut watcher = fixture.database.connect_as("postgres").await.unwrap();
    let mut backend_exists = async || -> bool {
        let question = "select exists (select from pg_stat_activity where pid = $1)";
        sqlx::query_scalar(question).bind(backend).fetch_one(&mut watcher).await.unwrap()
    };
    let mut writer = fixture.through_proxy().await;
    fixture.proxy.black_hole();
    assert!(tokio::time::timeout(SILENCE, write(&mut writer, 1)).await.is_err());
    assert_eq!(fixture.written().await, 0);
    drop(session);
    let ended = wait_until("end of the backend", SILENCE, async || !backend_exists().await).await;
    assert!(ended.is_err(), "the server learnt of the client's end through a black hole");
    fixture.proxy.cut_all();
    wait_until("end of the backend", LIMIT, async || !backend_exists().await).await.unwrap();
}

#[tokio::test]
async fn cut_all_ends_sessions_and_the_next_one_works() {
    let fixture = Fixture::new().await;
    let mut session = fixture.through_proxy().await;
    fixture.proxy.wait_for_connections(1, LIMIT).await.unwrap();
    fixture.proxy.cut_all();
    fixture.proxy.wait_for_connections(0, LIMIT).await.unwrap();
    assert!(write(&mut session, 1).await.is_err());
    let mut session = fixture.through_proxy().await;
    write(&mut session, 2).await.unwrap();
    assert_eq!(fixture.written().await, 1);
}

#[tokio::test]
async fn refusing_proxy_lets_nobody_in_until_it_forwards_again() {
    let fixture = Fixture::new().await;
    fixture.proxy.refuse();
    assert!(fixture.proxy.address().connect(fixture.database.name(), "postgres").await.is_err());
    fixture.proxy.forward();
    write(&mut fixture.through_proxy().await, 1).await.unwrap();
}

#[tokio::test]
async fn delay_is_at_least_what_was_asked_for_in_each_direction() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    fixture.proxy.delay(Duration::from_millis(50));
    let started = std::time::Instant::now();
    wire.send(&["select 1"]).await;
    assert_eq!(wire.answer().await, "TDCZ");
    assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
}

#[tokio::test]
async fn forward_ends_a_delay_under_way() {
    let fixture = Fixture::new().await;
    let mut wire = fixture.wire().await;
    fixture.proxy.delay(Duration::from_secs(3_600));
    wire.send(&["select 1"]).await;
    assert!(wire.is_silent().await);
    fixture.proxy.forward();
    assert_eq!(wire.answer().await, "TDCZ");
}

#[tokio::test]
async fn loopback_proxy_carries_large_values_unchanged() {
    let fixture = Fixture::new().await;
    let inner = FaultProxy::on_loopback(fixture.database.address()).await.unwrap();
    let proxy = FaultProxy::on_loopback(inner.address()).await.unwrap();
    let mut session = proxy.address().connect(fixture.database.name(), "postgres").await.unwrap();
    let sent: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let back: Vec<u8> = sqlx::query_scalar("select $1::bytea").bind(&sent).fetch_one(&mut session).await.unwrap();
    assert_eq!(back, sent);
}
