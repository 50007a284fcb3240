//! Named points, being down, and the control of both.

use std::io::ErrorKind;

use rail_sim::{Delivery, Point, Sim, SimConfig};
use tokio::net::TcpStream;

use crate::raw::{End, Raw, pay, request, within};

#[tokio::test]
async fn nothing_is_executed_before_the_body_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::BeforeBody);
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeBody, 1)).await;
    assert_eq!((sim.effects().unwrap().len(), sim.received().unwrap().len()), (0, 0));
    sim.release();
    assert_eq!(client.answer().await.status(), 201);
    sim.stop().await;
}

#[tokio::test]
async fn a_client_that_dies_in_mid_body_has_paid_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    let mut client = Raw::connect(sim.addr()).await;
    let whole = request("k", b"body");
    client.send(&whole[..whole.len() - 1]).await;
    within(sim.wait_for_requests(1)).await;
    drop(client);
    within(sim.wait_for_answers(1)).await;
    let answer = sim.answers().unwrap().remove(0);
    assert_eq!((answer.delivery, answer.executed), (Delivery::Abandoned, false));
    assert_eq!(sim.effects().unwrap(), []);
    sim.stop().await;
}

#[tokio::test]
async fn a_key_in_flight_is_a_conflict_until_it_has_its_result() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::BeforeExecution);
    let mut first = Raw::connect(sim.addr()).await;
    first.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeExecution, 1)).await;
    let second = pay(sim.addr(), "k", b"body").await;
    assert_eq!((second.status(), second.code().as_str()), (409, "IN_FLIGHT"));
    sim.release();
    assert_eq!(first.answer().await.status(), 201);
    assert_eq!(pay(sim.addr(), "k", b"body").await.status(), 200);
    assert_eq!(sim.effects().unwrap().len(), 1);
    sim.stop().await;
}

#[tokio::test]
async fn the_effect_is_in_the_ledger_before_any_byte_of_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::AfterExecution);
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::AfterExecution, 1)).await;
    assert_eq!(sim.effects().unwrap().len(), 1);
    assert_eq!(client.0.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    sim.release();
    assert_eq!(client.answer().await.status(), 201);
    sim.stop().await;
}

#[tokio::test]
async fn what_a_dead_client_asked_for_is_executed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::BeforeExecution);
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeExecution, 1)).await;
    drop(client);
    sim.release();
    within(sim.wait_for_answers(1)).await;
    assert_eq!(sim.effects().unwrap().len(), 1);
    sim.stop().await;
}

#[tokio::test]
async fn a_rail_that_is_down_refuses_connections_and_comes_back_on_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    let mut open = Raw::connect(sim.addr()).await;
    assert_eq!(open.pay("a", b"body").await.status(), 201);
    for round in 0..3 {
        sim.set_down(true).await.unwrap();
        let refused = within(TcpStream::connect(sim.addr())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(open.answer().await.end, End::Reset);
        sim.set_down(false).await.unwrap();
        open = Raw::connect(sim.addr()).await;
        assert_eq!(open.pay(&format!("b{round}"), b"body").await.status(), 201);
    }
    sim.stop().await;
}

#[tokio::test]
async fn going_down_resets_the_parked_and_what_they_asked_for_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::BeforeExecution);
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeExecution, 1)).await;
    sim.set_down(true).await.unwrap();
    assert_eq!(client.answer().await.end, End::Reset);
    sim.release();
    within(sim.wait_for_answers(1)).await;
    let answer = sim.answers().unwrap().remove(0);
    assert_eq!((answer.delivery, answer.executed, answer.unknown), (Delivery::Abandoned, true, true));
    sim.stop().await;
}

#[tokio::test]
async fn the_admin_listener_obeys_and_the_rail_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = SimConfig { admin: Some(([127, 0, 0, 1], 0).into()), ..SimConfig::in_dir(dir.path()) };
    let sim = Sim::start(cfg).await.unwrap();
    let admin = sim.admin_addr().unwrap();
    let control = async |command: &str, body: &str| {
        let head = format!("POST /_control/{command} HTTP/1.1\r\nhost: rail\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut client = Raw::connect(admin).await;
        client.send(format!("{head}{body}").as_bytes()).await;
        client.answer().await
    };
    assert_eq!(control("down", "").await.json()["down"], true);
    assert!(within(TcpStream::connect(sim.addr())).await.is_err());
    assert_eq!(control("up", "").await.json()["down"], false);

    assert_eq!(control("script", r#"{"order": ["refuse"], "keys": {"b": ["throttle"]}}"#).await.status(), 200);
    assert_eq!(pay(sim.addr(), "a", b"body").await.status(), 422);
    assert_eq!(pay(sim.addr(), "b", b"body").await.status(), 429);
    assert_eq!(control("faults", r#"{"forbidden": 1000}"#).await.status(), 200);
    assert_eq!(pay(sim.addr(), "c", b"body").await.status(), 403);
    assert_eq!(control("faults", r#"{"forbidden": 1001}"#).await.status(), 400);
    assert_eq!(control("faults", "{}").await.status(), 200);

    assert_eq!(control("park", r#"{"point": "after_execution"}"#).await.status(), 200);
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&request("d", b"body")).await;
    let parked = control("wait", r#"{"parked_after_execution": 1}"#).await;
    assert_eq!((parked.status(), &parked.json()["effects"]), (200, &1.into()));
    assert_eq!(control("release", "").await.status(), 200);
    assert_eq!(client.answer().await.status(), 201);
    assert_eq!(control("forget", "").await.status(), 200);
    assert_eq!(pay(sim.addr(), "d", b"body").await.status(), 201);

    assert_eq!(control("wait", r#"{"requests": 1000, "timeout_ms": 1}"#).await.status(), 408);
    assert_eq!(control("nothing", "").await.status(), 404);
    assert_eq!(control("park", r#"{"point": "nowhere"}"#).await.status(), 400);
    sim.stop().await;
}

#[tokio::test]
async fn a_stopped_rail_executes_nothing_that_was_parked() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = SimConfig::in_dir(dir.path());
    let ledger = cfg.ledger.clone();
    let sim = Sim::start(cfg).await.unwrap();
    sim.park(Point::BeforeExecution);
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeExecution, 1)).await;
    within(sim.stop()).await;
    assert_eq!(client.answer().await.end, End::Reset);
    assert_eq!(rail_sim::Ledger::read(&ledger).unwrap().effects, []);
}
