//! Connections between payments. Each carries one payment at a time, also in HTTP/2: a connection that
//! breaks makes one payment unknown, and the gate's count belongs to it alone. Connecting is not done
//! here.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::gate::{Gate, PeerSpeech};
use crate::rail::MaySend;

/// How long a connection may take to become ready again after an answer was read whole: the turn of its
/// driver, below 0.1 ms in every test. Longer would delay the report of a payment; shorter would open
/// a connection for the next one where the driver's turn comes late.
const READY_WAIT: Duration = Duration::from_millis(20);

/// Where a request is given to HTTP.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection; dropped, it shuts its gate first, so that nothing leaves afterwards.
pub(crate) struct Connection {
    sender: Sender,
    gate: Arc<Gate>,
    driver: JoinHandle<()>,
    is_plain: bool,
    is_used: bool,
    /// The loading of our certificate that it was opened with, or an earlier one.
    generation: u64,
    /// The bytes of the body sent last.
    body_bytes: u64,
}

impl Connection {
    /// `driver` moves the bytes, and is run until it ends or the connection is dropped.
    pub(crate) fn new<D>(sender: Sender, gate: Arc<Gate>, is_plain: bool, driver: D) -> Self
    where
        D: Future<Output = hyper::Result<()>> + Send + 'static,
    {
        // Its error reaches the request in flight as well; between requests it only ends the connection.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Self { sender, gate, driver, is_plain, is_used: false, generation: 0, body_bytes: 0 }
    }

    /// The same, opened with that loading of our certificate.
    pub(crate) fn of(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    pub(crate) fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::HTTP_11,
            Sender::Http2(_) => Version::HTTP_2,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Sends `request` once, if the gate lets it.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        may_send: MaySend,
    ) -> hyper::Result<Response<Incoming>> {
        self.gate.arm(may_send, self.speech());
        self.is_used = true;
        self.body_bytes = request.body().size_hint().lower();
        match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }

    fn speech(&self) -> PeerSpeech {
        match self.sender {
            Sender::Http1(_) if self.is_plain || self.is_used => PeerSpeech::OutOfTurn,
            Sender::Http1(_) | Sender::Http2(_) => PeerSpeech::Allowed,
        }
    }

    fn is_alive(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Whether the request is out of our hands. A rail may answer before it has read it, and HTTP then takes the
    /// next one while this one's rest waits before it. Head and TLS count as body here: a rest that is
    /// shorter than they are is taken for gone.
    fn has_left_whole(&self) -> bool {
        self.gate.passed().bytes >= self.body_bytes
    }

    async fn is_ready_again(&mut self) -> bool {
        let ready = async {
            match &mut self.sender {
                Sender::Http1(sender) => sender.ready().await.is_ok(),
                Sender::Http2(sender) => sender.ready().await.is_ok(),
            }
        };
        timeout(READY_WAIT, ready).await.unwrap_or(false)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gate.shut();
        self.driver.abort();
    }
}

/// The unused connections of one rail. There are never more than there were payments in flight at once.
pub(crate) struct Pool {
    idle: Mutex<Vec<(Connection, Instant)>>,
    idle_timeout: Duration,
}

impl Pool {
    pub(crate) const fn new(idle_timeout: Duration) -> Self {
        Self { idle: Mutex::new(Vec::new()), idle_timeout }
    }

    /// The connection used last, if it is still good and of that generation; those of others, and those that lay too
    /// long, are closed.
    pub(crate) fn take(&self, generation: u64) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, since)| {
            since.elapsed() < self.idle_timeout && connection.generation == generation && connection.is_alive()
        });
        while let Some((connection, _)) = idle.pop() {
            if !connection.gate.is_stale(connection.speech()) {
                return Some(connection);
            }
        }
        None
    }

    /// Takes `connection` back after an answer that was read whole.
    pub(crate) async fn give_back(&self, mut connection: Connection) {
        if self.idle_timeout.is_zero() || !connection.has_left_whole() {
            return;
        }
        connection.gate.rest();
        if !connection.is_ready_again().await {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < self.idle_timeout);
        idle.push((connection, Instant::now()));
    }
}
