//! Connections that cannot be made, or died unnoticed between two payments.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc;

use outbox_core::{Millis, Outcome};
use outbox_rail::{HttpRailSettings, PlainHttp, Rail};
use tokio::net::TcpSocket;

use crate::hostile::{
    ACCEPTED, Ending, Hostile, PATIENCE, always, impatient, permitted, rail, send, settings, submission, submit,
};
use crate::tls::Authority;

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_sent() {
    let anywhere = HttpRailSettings { plain_http: PlainHttp::Anywhere, ..settings("http://rail.invalid/pay") };
    let report = submit(anywhere).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("dns")), "{report:?}");
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let nobody = TcpSocket::new_v4().expect("socket");
    // Bound and never listening: the port can be nobody else's.
    nobody.bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    let url = format!("http://{}/pay", nobody.local_addr().expect("address"));
    let report = submit(settings(url)).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("connect")), "{report:?}");
    assert!(report.request_sha256.is_some(), "what would have been sent is known");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_answer_only() {
    let kept = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(kept.url()));
    for _ in 0..3 {
        assert_eq!(send(&rail, "{}").await.outcome, Outcome::Accepted);
    }
    assert_eq!((kept.connections(), kept.requests().len()), (1, 3));

    let cut = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{").await;
    let rail = crate::hostile::rail(settings(cut.url()));
    for _ in 0..2 {
        assert_eq!(send(&rail, "{}").await.outcome, Outcome::Unknown);
    }
    assert_eq!(cut.connections(), 2);
}

#[tokio::test]
async fn a_connection_with_a_request_that_has_not_left_whole_is_not_used_again() {
    // More than the socket buffers of both sides hold.
    let payload: &'static str = Box::leak("x".repeat(12_000_000).into_boxed_str());
    let hostile = Hostile::start(None, Ending::Orderly, |number, mut peer| async move {
        if number > 0 {
            return always(peer, Arc::new(ACCEPTED.to_vec())).await;
        }
        peer.more().await;
        peer.write(ACCEPTED).await;
        // Answered, and the rest of the request is left in the socket.
        std::future::pending().await
    })
    .await;
    let rail = rail(impatient(hostile.url()));
    assert_eq!(send(&rail, payload).await.outcome, Outcome::Accepted);
    let second = send(&rail, "{}").await;
    assert_eq!((second.outcome, hostile.connections()), (Outcome::Accepted, 2), "{second:?}");
}

#[tokio::test]
async fn without_an_idle_time_every_payment_has_its_own_connection() {
    let (closed, mut happened) = tokio::sync::mpsc::unbounded_channel();
    let hostile = Hostile::start(None, Ending::Orderly, move |number, peer| {
        let closed = closed.clone();
        async move {
            always(peer, Arc::new(ACCEPTED.to_vec())).await;
            closed.send(number).expect("the test listens");
        }
    })
    .await;
    let rail = rail(HttpRailSettings { pool_idle_timeout: Millis::ZERO, ..settings(hostile.url()) });
    for number in 0..2 {
        assert_eq!(send(&rail, "{}").await.outcome, Outcome::Accepted);
        let event = tokio::time::timeout(PATIENCE, happened.recv()).await.expect("closed in time");
        assert_eq!(event, Some(number));
    }
}

#[tokio::test]
async fn payments_in_flight_at_once_never_share_a_connection() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = Arc::new(rail(settings(hostile.url())));
    let together = Arc::new(tokio::sync::Barrier::new(8));
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (rail, together) = (Arc::clone(&rail), Arc::clone(&together));
        sends.spawn(async move {
            together.wait().await;
            rail.submit(submission("{}"), permitted()).await.outcome
        });
    }
    assert!(sends.join_all().await.iter().all(|outcome| *outcome == Outcome::Accepted));
    assert_eq!(hostile.requests().len(), 8);
}

/// A rail on a thread of its own that says `words` and closes its first connection when told to, so
/// that this is done before the test's runtime has a turn to notice.
fn farewell(words: &'static [u8]) -> (String, mpsc::Sender<()>, mpsc::Receiver<&'static str>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/pay", listener.local_addr().expect("address"));
    let (say, told) = mpsc::channel();
    let (events, happened) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in 0..2 {
            let (mut tcp, _) = listener.accept().expect("accept");
            let mut bytes = [0; 4096];
            assert_ne!(tcp.read(&mut bytes).expect("a request"), 0);
            tcp.write_all(ACCEPTED).expect("answer");
            if connection == 0 {
                told.recv_timeout(PATIENCE).expect("told to close");
                tcp.write_all(words).expect("farewell");
                drop(tcp);
                events.send("closed").expect("the test listens");
            }
        }
        events.send("answered twice").expect("the test listens");
    });
    (url, say, happened)
}

#[tokio::test]
async fn a_connection_that_the_rail_closed_between_payments_carries_no_second_payment() {
    for words in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", ACCEPTED] {
        let (url, say, happened) = farewell(words);
        let rail = rail(settings(url));
        let first = send(&rail, "{}").await;
        say.send(()).expect("the rail listens");
        // Blocks the runtime on purpose: it must not get to see the close by itself.
        assert_eq!(happened.recv_timeout(PATIENCE), Ok("closed"));
        let second = send(&rail, "{}").await;
        assert_eq!(happened.recv_timeout(PATIENCE), Ok("answered twice"));
        assert_eq!((first.outcome, second.outcome), (Outcome::Accepted, Outcome::Accepted), "{second:?}");
    }
}

#[tokio::test]
async fn an_answer_to_no_question_is_never_taken_for_the_next_payments() {
    let forged = b"HTTP/1.1 201 Created\r\ncontent-length: 12\r\n\r\n{\"id\":\"R-8\"}";
    let hostile = Hostile::answering([ACCEPTED, forged].concat()).await;
    let rail = rail(settings(hostile.url()));
    for payments in 1..=20 {
        let report = send(&rail, "{}").await;
        assert_eq!(report.rail_reference.as_deref(), Some("R-7"), "{report:?}");
        assert_eq!(hostile.requests().len(), payments);
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_not_sent() {
    let hostile = Hostile::start(None, Ending::Orderly, |_, mut peer| async move { peer.hang().await }).await;
    let authority = Authority::new();
    let url = hostile.url().replace("http:", "https:");
    let report = submit(HttpRailSettings { tls: authority.trusted(None), ..impatient(url) }).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("connect_timeout")), "{report:?}");
    assert!(hostile.requests().is_empty());
}

#[tokio::test]
async fn a_dropped_submission_sends_nothing_more() {
    // More than the socket buffers of both sides hold.
    const PAYLOAD_BYTES: usize = 16_000_000;
    let (events, mut happened) = tokio::sync::mpsc::unbounded_channel();
    let hostile = Hostile::start(None, Ending::Orderly, move |_, mut peer| {
        let events = events.clone();
        async move {
            events.send("connected").expect("the test listens");
            while peer.more().await.is_some() {
                if peer.unread().len() > PAYLOAD_BYTES {
                    events.send("all of it").expect("the test listens");
                }
            }
            events.send("ended").expect("the test listens");
        }
    })
    .await;
    let rail = rail(HttpRailSettings { timeout: Millis(60_000), ..settings(hostile.url()) });
    let sending = rail.submit(submission(vec![b'x'; PAYLOAD_BYTES]), permitted());
    tokio::select! {
        biased;
        event = happened.recv() => assert_eq!(event, Some("connected")),
        report = sending => panic!("it ended by itself: {report:?}"),
    }
    let event = tokio::time::timeout(PATIENCE, happened.recv()).await.expect("an end in time");
    assert_eq!(event, Some("ended"), "an abandoned payment was sent to its end");
}
