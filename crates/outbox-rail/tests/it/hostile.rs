//! A rail under the test's control, byte by byte: it reads requests off the wire, counts them, and
//! answers whatever the test says. It uses no HTTP library, so it sees what was really sent.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outbox_core::{Millis, OutboxId};
use outbox_rail::{HttpRail, HttpRailSettings, MaySend, Rail, Submission, WireReport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// An acceptance with a reference.
pub(crate) const ACCEPTED: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 12\r\n\r\n{\"id\":\"R-7\"}";

/// How long a test waits for what must come; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The values of a header, as they were written.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

#[derive(Default)]
struct Log {
    bytes: AtomicUsize,
    connections: AtomicUsize,
    requests: Mutex<Vec<Seen>>,
}

/// One connection at the rail.
pub(crate) struct Peer {
    wire: Box<dyn Wire>,
    log: Arc<Log>,
    unread: Vec<u8>,
}

impl Peer {
    /// The next request, or `None` if the connection ended before it was whole.
    pub(crate) async fn request(&mut self) -> Option<Seen> {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..head_end]).into_owned();
        let mut seen = Seen { head, body: Vec::new() };
        let length: usize = seen.header("content-length").first().map_or(0, |l| l.parse().expect("a length"));
        while self.unread.len() < head_end + length {
            self.more().await?;
        }
        let rest = self.unread.split_off(head_end + length);
        seen.body = self.unread.split_off(head_end);
        self.unread = rest;
        self.log.requests.lock().expect("log").push(seen.clone());
        Some(seen)
    }

    /// Reads something more, or `None` at the end.
    pub(crate) async fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 4096];
        let count = self.wire.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        self.log.bytes.fetch_add(count, Ordering::SeqCst);
        self.unread.extend_from_slice(&chunk[..count]);
        Some(())
    }

    /// Everything that has come and was not taken.
    pub(crate) fn unread(&mut self) -> &mut Vec<u8> {
        &mut self.unread
    }

    /// Counts requests that are read by other means than [`Peer::request`].
    pub(crate) fn counter(&self) -> impl Fn(String) + Send + use<> {
        let log = Arc::clone(&self.log);
        move |head| log.requests.lock().expect("log").push(Seen { head, body: Vec::new() })
    }

    /// Answers; a client that has gone is no matter.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        if self.wire.write_all(bytes).await.is_ok() {
            self.wire.flush().await.ok();
        }
    }

    /// Keeps the connection until the client ends it.
    pub(crate) async fn hang(&mut self) {
        while self.more().await.is_some() {}
    }

    /// The bytes underneath.
    pub(crate) fn into_wire(self) -> Box<dyn Wire> {
        self.wire
    }
}

/// How a dropped connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Orderly,
    Reset,
}

/// A rail on a loopback port.
pub(crate) struct Hostile {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Hostile {
    /// A rail that serves each connection with `serve`, which is given the connection's number.
    pub(crate) async fn start<F, S>(tls: Option<TlsAcceptor>, ending: Ending, serve: F) -> Self
    where
        F: Fn(usize, Peer) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let serve = Arc::new(serve);
        let accepting = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.expect("accept");
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                if ending == Ending::Reset {
                    tcp.set_zero_linger().expect("linger");
                }
                let (tls, log, serve) = (tls.clone(), Arc::clone(&shared), Arc::clone(&serve));
                tokio::spawn(async move {
                    let Some(wire) = secure(tls, tcp).await else { return };
                    serve(number, Peer { wire, log, unread: Vec::new() }).await;
                });
            }
        });
        Self { address, log, accepting }
    }

    /// A plain rail that answers every request with `answer` and keeps the connection.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(None, Ending::Orderly, move |_, peer| always(peer, Arc::clone(&answer))).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/pay", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.log.requests.lock().expect("log").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// Bytes read above TLS.
    pub(crate) fn bytes(&self) -> usize {
        self.log.bytes.load(Ordering::SeqCst)
    }
}

async fn secure(tls: Option<TlsAcceptor>, tcp: TcpStream) -> Option<Box<dyn Wire>> {
    match tls {
        None => Some(Box::new(tcp)),
        Some(acceptor) => acceptor.accept(tcp).await.ok().map(|stream| Box::new(stream) as Box<dyn Wire>),
    }
}

/// Answers each request on `peer` with `answer`.
pub(crate) async fn always(mut peer: Peer, answer: Arc<Vec<u8>>) {
    while peer.request().await.is_some() {
        peer.write(&answer).await;
    }
}

/// Settings for `url` with limits that suit a test.
pub(crate) fn settings(url: impl Into<String>) -> HttpRailSettings {
    HttpRailSettings { timeout: Millis(5_000), connect_timeout: Millis(3_000), ..HttpRailSettings::new(url) }
}

/// Settings with a timeout short enough to wait for, and long enough to connect in on a busy machine.
pub(crate) fn impatient(url: impl Into<String>) -> HttpRailSettings {
    HttpRailSettings { timeout: Millis(1_500), connect_timeout: Millis(1_500), ..settings(url) }
}

pub(crate) fn rail(settings: HttpRailSettings) -> HttpRail {
    HttpRail::new(settings).expect("settings")
}

pub(crate) fn submission(payload: impl Into<Bytes>) -> Submission {
    Submission {
        is_resend: false,
        outbox_id: OutboxId(uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0042)),
        payload: payload.into(),
        content_type: "application/json".to_owned(),
        traceparent: None,
    }
}

pub(crate) fn permitted() -> MaySend {
    Arc::new(|| true)
}

/// Submits a small payment to a rail with these settings.
pub(crate) async fn submit(settings: HttpRailSettings) -> WireReport {
    send(&rail(settings), "{}").await
}

/// Submits a payment; a rail that outlasts its own timeout by far fails the test.
pub(crate) async fn send(rail: &HttpRail, payload: &'static str) -> WireReport {
    tokio::time::timeout(PATIENCE, rail.submit(submission(payload), permitted())).await.expect("an end in time")
}
