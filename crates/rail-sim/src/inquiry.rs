//! A question after one payment, from its headers to its answer. It executes nothing and is not among the
//! recorded answers: those say what became of payments.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{answer::Reply, exchange::AnswerTo, fault::Fault, park::Point, rail::Rail};

/// What the rail knows of `key`: 200 with status and reference or code, 202 while it is being worked on,
/// 404 if no payment came of it.
pub(crate) fn look_up(rail: &Rail, key: &str) -> Reply {
    match rail.keys().state(key) {
        Some(state) if state.is_in_flight() => Reply::json(202, &json!(state)),
        Some(state) => Reply::json(200, &json!(state.called(&rail.executed_status()))),
        None => Reply::coded(404, "NOT_FOUND"),
    }
}

/// Answers one inquiry, unless a fault says otherwise.
pub(crate) async fn run(rail: Arc<Rail>, key: String, mut to: AnswerTo) {
    let fault = rail.asked();
    let reply = if fault.stops_at_the_door() {
        Reply::at_the_door(fault, &rail.cfg)
    } else {
        let known = look_up(&rail, &key);
        rail.parking.pass(Point::AfterLookUp, &rail.counters).await;
        match known.spoiled(fault, &rail.cfg) {
            Some(reply) => Some(reply),
            None => return until_gone(&rail, &mut to, None).await,
        }
    };
    if fault == Fault::Slow {
        until_gone(&rail, &mut to, Some(Duration::from_millis(rail.cfg.slow_ms))).await;
    }
    if let Some(reply) = reply {
        // A client that has gone is not answered.
        let _ = to.send(reply);
    }
}

/// Waits until the client has gone or the rail stops, and no longer than `at_most`.
async fn until_gone(rail: &Rail, to: &mut AnswerTo, at_most: Option<Duration>) {
    let mut stopping = rail.stopping.subscribe();
    let over = async {
        match at_most {
            Some(at_most) => tokio::time::sleep(at_most).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = to.closed() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}
