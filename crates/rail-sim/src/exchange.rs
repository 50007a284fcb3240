//! One payment request from its headers to its answer: take in, execute, write down, answer. It runs
//! in a task of its own, so that a client that goes away stops nothing: real rails work like that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{Request, body::Incoming};
use tokio::sync::oneshot;

use crate::{
    answer::Reply,
    append::written,
    fault::Fault,
    header::{Noted, WireKey, sha256, wire_key},
    keys::{Begin, Verdict},
    ledger::{Effect, reference},
    park::Point,
    rail::{Arrival, Rail, now_us},
    record::{Answer, Delivery, Received},
};

/// Where the answer goes; closed when the client has gone. Dropping it resets the connection.
pub(crate) type AnswerTo = oneshot::Sender<Reply>;

struct Exchange {
    rail: Arc<Rail>,
    arrival: Arrival,
    key: Option<String>,
    executed: bool,
    replayed: bool,
}

/// Works on a request and sends its answer to `to`, unless a fault says otherwise.
pub(crate) async fn run(rail: Arc<Rail>, request: Request<Incoming>, certificate: Option<Arc<str>>, to: AnswerTo) {
    let (head, body) = request.into_parts();
    let found = wire_key(&head.headers, &rail.key_header);
    let arrival = match &found {
        Ok(found) => rail.arrive(&found.key),
        Err(_) => Arrival { request: rail.number(), at_us: now_us(), nth: 0, fault: Fault::None },
    };
    let key = found.as_ref().ok().map(|found| found.key.clone());
    let exchange = Exchange { rail, arrival, key, executed: false, replayed: false };
    exchange.pass(Point::BeforeBody).await;
    let body = match read_body(body, exchange.rail.cfg.body_max_bytes).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return exchange.give(Reply::coded(413, "TOO_LARGE"), to).await,
        Err(ReadError::Broken) => return exchange.note(Delivery::Abandoned, None, true).await,
    };
    let noted = Noted::from_headers(&head.headers);
    let received = exchange.received(head.uri.path(), found.as_ref().ok(), &body, &noted, certificate);
    exchange.rail.put_received(&received).await;
    exchange.pass(Point::BeforeKey).await;
    match found {
        Ok(found) => exchange.pay(&found.key, received, to).await,
        Err(code) => exchange.give(Reply::coded(400, code), to).await,
    }
}

enum ReadError {
    TooLarge,
    Broken,
}

async fn read_body(body: Incoming, max_bytes: usize) -> Result<Bytes, ReadError> {
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ReadError::TooLarge),
        Err(_) => Err(ReadError::Broken),
    }
}

impl Exchange {
    async fn pass(&self, point: Point) {
        self.rail.parking.pass(point, &self.rail.counters).await;
    }

    fn received(
        &self,
        path: &str,
        found: Option<&WireKey>,
        body: &Bytes,
        noted: &Noted,
        certificate: Option<Arc<str>>,
    ) -> Received {
        Received {
            request: self.arrival.request,
            at_us: self.arrival.at_us,
            path: path.to_owned(),
            key: self.key.clone(),
            key_quoted: found.is_some_and(|found| found.quoted),
            body_sha256: sha256(body),
            body_bytes: body.len() as u64,
            content_type: noted.content_type.clone(),
            content_encoding: noted.content_encoding.clone(),
            authorization_sha256: noted.authorization_sha256.clone(),
            traceparent: noted.traceparent.clone(),
            possible_duplicate: noted.possible_duplicate.clone(),
            client_certificate_sha256: certificate.map(|hash| hash.to_string()),
        }
    }

    async fn pay(mut self, key: &str, received: Received, mut to: AnswerTo) {
        if !self.rail.admits(&received) {
            return self.give(Reply::coded(401, "UNAUTHORIZED"), to).await;
        }
        let fault = self.arrival.fault;
        if fault.stops_at_the_door() {
            self.wait(key, &mut to).await;
            return match Reply::at_the_door(fault, &self.rail.cfg) {
                Some(reply) => self.give(reply, to).await,
                None => self.note(Delivery::ResetBefore, None, true).await,
            };
        }
        let begin = self.rail.keys().begin(key, &received.body_sha256, now_us());
        let verdict = match begin {
            Begin::Reused => return self.give(Reply::coded(422, "KEY_REUSED"), to).await,
            Begin::InFlight => return self.give(Reply::coded(409, "IN_FLIGHT"), to).await,
            Begin::Replay(verdict) => {
                self.replayed = true;
                verdict
            }
            Begin::Fresh { ordinal } => match self.execute(key, ordinal, &received).await {
                Some(verdict) => verdict,
                None => return self.note(Delivery::Withheld, None, true).await,
            },
        };
        if matches!(verdict, Verdict::Executed { .. }) {
            self.pass(Point::AfterExecution).await;
        }
        self.wait(key, &mut to).await;
        match Reply::verdict(&verdict, self.replayed, &self.rail.executed_status()).spoiled(fault, &self.rail.cfg) {
            Some(reply) => self.give(reply, to).await,
            None => {
                self.note(Delivery::Hung, None, true).await;
                self.hang(to).await;
            }
        }
    }

    /// Makes the effect, or refuses it; `None` if the effect could not be written down, so that nobody
    /// may be told of it.
    async fn execute(&mut self, key: &str, ordinal: u32, received: &Received) -> Option<Verdict> {
        self.pass(Point::BeforeExecution).await;
        if self.rail.is_stopping() {
            self.rail.keys().give_up(key);
            return None;
        }
        let cfg = &self.rail.cfg;
        let at_us = now_us();
        let verdict = if self.arrival.fault == Fault::Refuse {
            Verdict::Refused { status: cfg.refuse_status, code: cfg.refuse_code.clone() }
        } else {
            let mut effect = Effect {
                seq: 0,
                at_us,
                request: received.request,
                key: key.to_owned(),
                body_sha256: received.body_sha256.clone(),
                body_bytes: received.body_bytes,
                content_type: received.content_type.clone(),
                reference: reference(cfg.seed, key, ordinal),
                traceparent: received.traceparent.clone(),
            };
            if written(self.rail.ledger.append(&mut effect)).await.is_err() {
                // The key stays in flight: whether the line is on disk, nobody knows.
                self.rail.counters.change(|stats| stats.write_failed = true);
                return None;
            }
            self.executed = true;
            Verdict::Executed { reference: effect.reference }
        };
        self.rail.keys().settle(key, &received.body_sha256, at_us, verdict.clone());
        self.rail.counters.change(|stats| stats.effects += u64::from(self.executed));
        Some(verdict)
    }

    /// Waits for as long as the answer is delayed, at most until the client has gone.
    async fn wait(&self, key: &str, to: &mut AnswerTo) {
        let delay_ms = self.rail.latency_ms(key, self.arrival);
        if delay_ms == 0 {
            return;
        }
        let mut stopping = self.rail.stopping.subscribe();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
            () = to.closed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    async fn hang(self, mut to: AnswerTo) {
        let mut stopping = self.rail.stopping.subscribe();
        tokio::select! {
            () = to.closed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Puts the answer on record and gives it; if the client has gone, that is on record instead.
    async fn give(self, reply: Reply, to: AnswerTo) {
        if to.is_closed() {
            return self.note(Delivery::Abandoned, None, true).await;
        }
        self.note(reply.delivery, Some(&reply), true).await;
        let doubt = self.leaves_doubt(reply.delivery, Some(&reply));
        if to.send(reply).is_err() && !doubt {
            self.note(Delivery::Abandoned, None, false).await;
        }
    }

    fn leaves_doubt(&self, delivery: Delivery, reply: Option<&Reply>) -> bool {
        let (status, code) = (reply.map(|reply| reply.status), reply.and_then(|reply| reply.code.as_deref()));
        let has_reference = reply.is_some_and(|reply| reply.reference.is_some());
        Answer::leaves_doubt(delivery, status, code, has_reference, &self.rail.cfg.telling)
    }

    async fn note(&self, delivery: Delivery, reply: Option<&Reply>, first: bool) {
        let answer = Answer {
            request: self.arrival.request,
            at_us: now_us(),
            key: self.key.clone(),
            fault: self.arrival.fault,
            delivery,
            status: reply.map(|reply| reply.status),
            code: reply.and_then(|reply| reply.code.clone()),
            reference: reply.and_then(|reply| reply.reference.clone()),
            executed: self.executed,
            replayed: self.replayed,
            unknown: self.leaves_doubt(delivery, reply),
        };
        self.rail.put_answer(&answer, first).await;
    }
}
