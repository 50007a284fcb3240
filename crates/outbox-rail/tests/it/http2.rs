//! HTTP/2: whatever the protocol says about repeating, a payment is on the wire once.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use outbox_core::Outcome;
use outbox_rail::WireReport;
use tokio_rustls::TlsAcceptor;

use crate::hostile::{Ending, Hostile, Peer, impatient, rail, send};
use crate::tls::{Asks, Authority, https};

const CLIENT_PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS_FRAME: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn http2_rail<F, S>(authority: &Authority, serve: F) -> Hostile
where
    F: Fn(usize, Peer) -> S + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let mut config = authority.acceptor("localhost", Asks::No, rustls::ALL_VERSIONS, |_| {});
    config.alpn_protocols = vec![b"h2".to_vec()];
    Hostile::start(Some(TlsAcceptor::from(Arc::new(config))), Ending::Orderly, serve).await
}

/// Reads frames up to a request's HEADERS and counts it.
async fn one_request(peer: &mut Peer) -> Option<()> {
    while peer.unread().len() < CLIENT_PREFACE {
        peer.more().await?;
    }
    if peer.unread().starts_with(b"PRI * HTTP/2.0") {
        peer.unread().drain(..CLIENT_PREFACE);
    }
    loop {
        while peer.unread().len() < FRAME_HEADER {
            peer.more().await?;
        }
        let header = peer.unread()[..FRAME_HEADER].to_vec();
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        while peer.unread().len() < FRAME_HEADER + length {
            peer.more().await?;
        }
        peer.unread().drain(..FRAME_HEADER + length);
        if header[3] == HEADERS {
            peer.counter()(String::new());
            return Some(());
        }
    }
}

/// A GOAWAY that says no stream was looked at, with words of the rail's own.
fn goaway(words: &[u8]) -> Vec<u8> {
    let length = u8::try_from(8 + words.len()).expect("short");
    [&[0, 0, length, 7, 0, 0, 0, 0, 0], &[0; 8][..], words].concat()
}

async fn check_refused(answer: Vec<u8>) -> WireReport {
    let authority = Authority::new();
    let answer = Arc::new(answer);
    let hostile = http2_rail(&authority, move |_, mut peer| {
        let answer = Arc::clone(&answer);
        async move {
            peer.write(SETTINGS_FRAME).await;
            while one_request(&mut peer).await.is_some() {
                peer.write(&answer).await;
            }
        }
    })
    .await;
    let rail = rail(https(&hostile, authority.trusted(None)));
    let mut last = None;
    for attempts in 1..=3 {
        let report = send(&rail, "{\"iban\":\"CANARY\"}").await;
        assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("http2")), "{report:?}");
        assert_eq!(hostile.requests().len(), attempts);
        last = Some(report);
    }
    last.expect("a report")
}

#[tokio::test]
async fn a_goaway_is_not_answered_with_a_second_request() {
    let report = check_refused(goaway(b"we got CANARY")).await;
    assert!(!format!("{:?}", report.error_detail).contains("CANARY"), "{report:?}");
}

#[tokio::test]
async fn a_refused_stream_is_not_answered_with_a_second_request() {
    let refused_stream = vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    check_refused(refused_stream).await;
}

#[tokio::test]
async fn a_goaway_after_an_answer_sends_the_next_payment_over_a_new_connection() {
    // HEADERS with `:status: 200` (static table entry 8), DATA with the end of the stream, GOAWAY.
    let headers = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
    let data = [&[0, 0, 12, 0, 1, 0, 0, 0, 1], &b"{\"id\":\"R-7\"}"[..]].concat();
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let answer = Arc::new([&headers[..], &data, &goaway].concat());
    let authority = Authority::new();
    let hostile = http2_rail(&authority, move |_, mut peer| {
        let answer = Arc::clone(&answer);
        async move {
            peer.write(SETTINGS_FRAME).await;
            while one_request(&mut peer).await.is_some() {
                peer.write(&answer).await;
            }
        }
    })
    .await;
    let rail = rail(https(&hostile, authority.trusted(None)));
    for payments in 1..=10 {
        let report = send(&rail, "{}").await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert_eq!((hostile.requests().len(), hostile.connections()), (payments, payments));
    }
}

/// Serves requests with a whole HTTP/2 implementation.
async fn serve_counted(peer: Peer, answer: &'static [u8]) {
    let count = peer.counter();
    let mut connection = h2::server::handshake(peer.into_wire()).await.expect("http/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        count(format!("{} {:?}", request.uri(), request.headers()));
        let response = http::Response::builder().status(201).body(()).expect("response");
        let mut body = respond.send_response(response, false).expect("headers");
        body.send_data(Bytes::from_static(answer), true).expect("body");
    }
}

#[tokio::test]
async fn a_payment_over_http2_is_accepted() {
    let authority = Authority::new();
    let hostile = http2_rail(&authority, |_, peer| serve_counted(peer, b"{\"id\":\"R-7\"}")).await;
    let rail = rail(https(&hostile, authority.trusted(None)));
    for _ in 0..3 {
        let report = send(&rail, "{}").await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert_eq!(report.rail_reference.as_deref(), Some("R-7"));
    }
    assert_eq!((hostile.connections(), hostile.requests().len()), (1, 3));
    let seen = &hostile.requests()[0].head;
    assert!(seen.contains("https://localhost") && seen.contains("\"idempotency-key\""), "{seen}");
}

#[tokio::test]
async fn a_silent_http2_rail_is_unknown_at_the_timeout() {
    let authority = Authority::new();
    let hostile = http2_rail(&authority, |_, mut peer| async move {
        peer.write(SETTINGS_FRAME).await;
        peer.hang().await;
    })
    .await;
    let settings = outbox_rail::HttpRailSettings {
        tls: authority.trusted(None),
        ..impatient(format!("https://localhost:{}/pay", hostile.address.port()))
    };
    let report = send(&rail(settings), "{}").await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("timeout")), "{report:?}");
}
