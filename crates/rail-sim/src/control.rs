//! Questions (`GET`) and control (`POST /_control/…`, on the admin listener only): what a test in
//! another process, or a person with curl, can ask of the rail and tell it to do.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, Response, body::Incoming};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    answer::{AnswerBody, Reply},
    fault::{Profile, Script},
    inquiry,
    ledger::Ledger,
    park::Point,
    rail::Rail,
    record::line_of,
    serve::{Gate, Service},
    stats::Stats,
    wire::Cut,
};

/// Bounds a control request; a script for 100,000 keys fits.
const CONTROL_MAX_BYTES: usize = 16 << 20;

/// Answers `GET /payments/{key}`, `/_ledger` and `/_stats`.
pub(crate) async fn question(rail: &Rail, path: &str) -> Response<AnswerBody> {
    let reply = match path {
        "/_stats" => Reply::json(200, &json!(rail.counters.now())),
        "/_ledger" => return ledger(rail).await,
        _ => match path.strip_prefix("/payments/") {
            Some(key) => inquiry::look_up(rail, key),
            None => Reply::coded(404, "NOT_FOUND"),
        },
    };
    reply.into_response(Cut::default())
}

async fn ledger(rail: &Rail) -> Response<AnswerBody> {
    let path = rail.cfg.ledger.clone();
    match tokio::task::spawn_blocking(move || Ledger::read(&path)).await {
        Ok(Ok(ledger)) => {
            let chunks = ledger.effects.iter().map(|effect| Bytes::from(line_of(effect))).collect();
            Response::new(AnswerBody::whole(chunks))
        }
        _ => Reply::coded(500, "LEDGER_UNREADABLE").into_response(Cut::default()),
    }
}

/// Answers a request on the admin listener.
pub(crate) async fn answer(
    rail: &Arc<Rail>,
    gate: &Gate,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET {
        return Ok(question(rail, &path).await);
    }
    let body = match Limited::new(request.into_body(), CONTROL_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(Reply::coded(400, "BODY").into_response(Cut::default())),
    };
    let reply = match path.strip_prefix("/_control/") {
        Some(command) => obey(rail, gate, command, &body).await,
        None => Err(Refusal::new(404, "NOT_FOUND")),
    };
    Ok(reply.unwrap_or_else(Refusal::into_reply).into_response(Cut::default()))
}

/// Why a control request is not obeyed.
struct Refusal {
    status: u16,
    code: &'static str,
    detail: Option<String>,
}

impl Refusal {
    fn new(status: u16, code: &'static str) -> Self {
        Self { status, code, detail: None }
    }

    fn into_reply(self) -> Reply {
        Reply::json(self.status, &json!({ "code": self.code, "detail": self.detail }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParkAt {
    point: Point,
}

async fn obey(rail: &Arc<Rail>, gate: &Gate, command: &str, body: &[u8]) -> Result<Reply, Refusal> {
    match command {
        "down" => {
            gate.close().await;
            rail.counters.change(|stats| stats.down = true);
        }
        "up" => {
            let opened = gate.open(Service::Payments(Arc::clone(rail))).await;
            opened.map_err(|_| Refusal::new(500, "CANNOT_LISTEN"))?;
            rail.counters.change(|stats| stats.down = false);
        }
        "park" => rail.parking.close(parse::<ParkAt>(body)?.point),
        "release" => rail.parking.open_all(),
        "forget" => rail.keys().forget(),
        "script" => rail.set_script(parse::<Script>(body)?),
        "faults" => {
            rail.set_profile(parse::<Profile>(body)?).map_err(|_| Refusal::new(400, "FAULTS"))?;
        }
        "wait" => return wait(rail, parse::<Wait>(body)?).await,
        _ => return Err(Refusal::new(404, "NOT_FOUND")),
    }
    Ok(Reply::json(200, &json!(rail.counters.now())))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal { detail: Some(error.to_string()), ..Refusal::new(400, "BODY") })
}

/// At least so many of each, within the time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wait {
    timeout_ms: u64,
    requests: u64,
    bodies: u64,
    inquiries: u64,
    effects: u64,
    answers: u64,
    parked_before_body: u64,
    parked_before_key: u64,
    parked_before_execution: u64,
    parked_after_execution: u64,
    parked_after_look_up: u64,
}

impl Default for Wait {
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            requests: 0,
            bodies: 0,
            inquiries: 0,
            effects: 0,
            answers: 0,
            parked_before_body: 0,
            parked_before_key: 0,
            parked_before_execution: 0,
            parked_after_execution: 0,
            parked_after_look_up: 0,
        }
    }
}

impl Wait {
    fn is_met(&self, stats: &Stats) -> bool {
        stats.requests >= self.requests
            && stats.bodies >= self.bodies
            && stats.inquiries >= self.inquiries
            && stats.effects >= self.effects
            && stats.answers >= self.answers
            && stats.parked_before_body >= self.parked_before_body
            && stats.parked_before_key >= self.parked_before_key
            && stats.parked_before_execution >= self.parked_before_execution
            && stats.parked_after_execution >= self.parked_after_execution
            && stats.parked_after_look_up >= self.parked_after_look_up
    }
}

async fn wait(rail: &Rail, wanted: Wait) -> Result<Reply, Refusal> {
    let met = rail.counters.wait_for(|stats| wanted.is_met(stats));
    match tokio::time::timeout(Duration::from_millis(wanted.timeout_ms), met).await {
        Ok(stats) => Ok(Reply::json(200, &json!(stats))),
        Err(_) => Err(Refusal::new(408, "TIMEOUT")),
    }
}
