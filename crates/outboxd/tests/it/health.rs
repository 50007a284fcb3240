//! Health over real sockets: what is answered, and that nobody can keep the server busy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox_core::Millis;
use outboxd::health::HealthState;
use outboxd::health_server::{bind, serve};
use outboxd::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);

async fn server() -> (SocketAddr, Arc<HealthState>, tokio::task::JoinHandle<std::convert::Infallible>) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = HealthState::new();
    let serving = tokio::spawn(serve(listener, Arc::clone(&state), Metrics::new([])));
    (address, state, serving)
}

/// Everything the server says to `request` until it closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as a close.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("the server did not close in time")
}

async fn get(address: SocketAddr, path: &str) -> (u16, serde_json::Value) {
    let answer = exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let (address, state, _serving) = server().await;
    assert_eq!(
        get(address, "/readyz").await,
        (200, serde_json::json!({"ready": true, "reasons": [], "off": [], "open": []}))
    );
    state.not_ready("database", "connection refused");
    let reasons = serde_json::json!([{"subject": "database", "reason": "connection refused"}]);
    let expected = serde_json::json!({"ready": false, "reasons": reasons, "off": [], "open": []});
    assert_eq!(get(address, "/readyz").await, (503, expected));
    assert_eq!(get(address, "/livez").await.0, 200, "an outage of the database is no reason to be restarted");
    state.ready("database");
    assert_eq!(get(address, "/readyz").await.0, 200);
}

#[tokio::test]
async fn liveness_ends_with_a_loop_that_no_longer_ticks() {
    let (address, state, _serving) = server().await;
    let ticker = state.watch("claimer", Millis(0));
    let begun = Instant::now();
    let (status, body) = loop {
        let answer = get(address, "/livez").await;
        if answer.0 != 200 || begun.elapsed() > DEADLINE {
            break answer;
        }
    };
    assert_eq!((status, &body["stale"][0]["loop"]), (503, &serde_json::json!("claimer")));
    drop(ticker);
    assert_eq!(get(address, "/livez").await.0, 200);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (address, _state, _serving) = server().await;
    assert_eq!(get(address, "/").await.0, 404);
    assert_eq!(get(address, "/livez/").await.0, 404);
    let post = exchange(address, "POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[tokio::test]
async fn metrics_are_read_and_nothing_else() {
    let (address, state, _serving) = server().await;
    let ask = |method: &str| format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    let page = exchange(address, &ask("GET")).await;
    assert!(page.contains("content-type: text/plain; version=0.0.4") && page.contains("\noutboxd_ready 1\n"), "{page}");
    state.not_ready("database", "connection refused");
    assert!(exchange(address, &ask("GET")).await.contains("\noutboxd_ready 0\n"));
    let head = exchange(address, &ask("HEAD")).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(exchange(address, &ask("POST")).await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn one_connection_carries_one_request() {
    let (address, _state, _serving) = server().await;
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = exchange(address, &request.repeat(3)).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn silent_connections_do_not_keep_probes_out() {
    let (address, _state, _serving) = server().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/livez").await.0, 200);
    drop(silent);
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let (address, _state, _serving) = server().await;
    let answer = exchange(address, &format!("GET /livez HTTP/1.1\r\nX: {}", "y".repeat(100_000))).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}
