//! `/livez`, `/readyz` and `/metrics` over HTTP/1.1: one request a connection, few connections at once, nothing
//! read but the request line and headers. What they answer is the business of `health` and `metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::clock::boot_now;
use crate::events;
use crate::exit::{Exit, Failure};
use crate::health::{HealthState, NotReady};
use crate::metrics::{self, Metrics};

/// Bounds the memory and the descriptors that probes, or somebody else, can take; later ones wait.
const CONNECTIONS_MAX: usize = 16;
/// A probe sends its request at once; whoever does not is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Bounds a connection as a whole, the answer's reader included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The smallest buffer hyper takes is 8 KiB, and no probe has longer headers.
const BUFFER_BYTES: usize = 8_192;
/// The pause after a failed accept, which is mostly a lack of descriptors that will not mend at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes the address at which health is to be served.
///
/// # Errors
/// An address that is taken or not this host's; a restart may help.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Failure::new(Exit::Unavailable, format!("health.listen: {address}: {error}")))
}

/// Serves `state` and `metrics` until the future is dropped.
pub async fn serve(listener: TcpListener, state: Arc<HealthState>, metrics: Arc<Metrics>) -> Infallible {
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(event = events::HEALTH_SERVING, address);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Ended connections are taken out of the set, which would grow otherwise.
        while connections.try_join_next().is_some() {}
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let (state, metrics) = (Arc::clone(&state), Arc::clone(&metrics));
                connections.spawn(async move {
                    answer_one(stream, state, metrics).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(event = events::HEALTH_ACCEPT_FAILED, %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer_one(stream: TcpStream, state: Arc<HealthState>, metrics: Arc<Metrics>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &state, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A probe that breaks off or says nonsense is its own problem, and no reason for a log line.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

fn respond(method: &Method, path: &str, state: &HealthState, metrics: &Metrics) -> Response<Full<Bytes>> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if path == "/metrics" && is_read {
        return response(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(metrics, state, boot_now()));
    }
    let (status, body) = match path {
        "/livez" | "/readyz" | "/metrics" if !is_read => {
            (StatusCode::METHOD_NOT_ALLOWED, json!({"error": "only GET and HEAD"}))
        }
        "/livez" => liveness(state),
        "/readyz" => readiness(state),
        _ => (StatusCode::NOT_FOUND, json!({"error": "there are /livez, /readyz and /metrics"})),
    };
    response(status, "application/json", format!("{body}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

fn liveness(state: &HealthState) -> (StatusCode, Value) {
    let stale = state.stale_loops(boot_now());
    let loops: Vec<Value> = stale
        .iter()
        .map(|stale| json!({"loop": stale.name, "age_ms": stale.age.0, "age_max_ms": stale.age_max.0}))
        .collect();
    (status(stale.is_empty()), json!({"live": stale.is_empty(), "stale": loops}))
}

fn readiness(state: &HealthState) -> (StatusCode, Value) {
    let reasons = state.reasons();
    let list = |reasons: &[NotReady]| -> Value {
        reasons.iter().map(|reason| json!({"subject": reason.subject, "reason": reason.reason})).collect()
    };
    let (off, open) = (list(&state.lanes_off()), list(&state.breakers_open()));
    let body = json!({"ready": reasons.is_empty(), "reasons": list(&reasons), "off": off, "open": open});
    (status(reasons.is_empty()), body)
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
