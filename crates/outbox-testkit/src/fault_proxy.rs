//! Stands between a client and a test server and loses, keeps back or delays what passes. The faults
//! are those of a network: the proxy never changes a byte. A test steers it by named controls and waits
//! for their effect; it never has to guess how long something takes. Encryption is refused to the client.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::io_context;
use crate::interception::{Interception, Interceptions};
use crate::proxy_connection::{Passage, serve};
use crate::{PgAddress, TestkitError, wait_until};

/// What happens to bytes in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Forward,
    /// They pass after this time.
    Delay(Duration),
    /// They wait, and so does the news that a side has closed: the connection is half-open.
    BlackHole,
    /// New connections are closed at once.
    Refuse,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: PgAddress,
    control: Arc<Control>,
    listener: JoinHandle<()>,
    socket_dir: Option<PathBuf>,
}

/// What the connections watch.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) upstream: PgAddress,
    pub(crate) mode: watch::Sender<Mode>,
    pub(crate) cuts: watch::Sender<u64>,
    pub(crate) interceptions: Interceptions,
    pub(crate) connections: AtomicUsize,
}

impl FaultProxy {
    /// A proxy on a unix socket in a directory of its own.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn on_socket(upstream: &PgAddress) -> Result<Self, TestkitError> {
        let dir = tempfile::Builder::new().prefix("obx-proxy-").tempdir();
        let dir = dir.map_err(io_context("make the directory of a proxy"))?.keep();
        let address = PgAddress::on_socket(&dir, upstream.port());
        let file = address.socket_file().expect("an address on a socket has a socket's file");
        let listener = UnixListener::bind(file).map_err(io_context("bind the socket of a proxy"))?;
        let control = Control::new(upstream);
        let shared = Arc::clone(&control);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accept(client, &shared);
            }
        });
        Ok(Self { address, control, listener: accepting, socket_dir: Some(dir) })
    }

    /// A proxy on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn on_loopback(upstream: &PgAddress) -> Result<Self, TestkitError> {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = bound.map_err(io_context("bind the port of a proxy"))?;
        let port = listener.local_addr().map_err(io_context("read the port of a proxy"))?.port();
        let control = Control::new(upstream);
        let shared = Arc::clone(&control);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accept(client, &shared);
            }
        });
        Ok(Self { address: PgAddress::on_tcp("127.0.0.1", port), control, listener: accepting, socket_dir: None })
    }

    /// Where clients connect instead of to the server.
    #[must_use]
    pub fn address(&self) -> &PgAddress {
        &self.address
    }

    /// Keeps back the answer to the next statement whose text contains `text`; see [`Interception`].
    #[must_use]
    pub fn intercept(&self, text: &str) -> Interception {
        self.control.interceptions.add(text)
    }

    /// Lets everything pass, what waits in a black hole included.
    pub fn forward(&self) {
        self.control.mode.send_replace(Mode::Forward);
    }

    /// Lets everything pass `delay` later, each direction on its own.
    pub fn delay(&self, delay: Duration) {
        self.control.mode.send_replace(Mode::Delay(delay));
    }

    /// Stops forwarding both ways and keeps the sockets open, as after a lost route.
    pub fn black_hole(&self) {
        self.control.mode.send_replace(Mode::BlackHole);
    }

    /// Closes each new connection at once, as if nobody listened; those that exist go on.
    pub fn refuse(&self) {
        self.control.mode.send_replace(Mode::Refuse);
    }

    /// Closes every connection of now, both sides.
    pub fn cut_all(&self) {
        self.control.cuts.send_modify(|count| *count += 1);
    }

    /// How many connections pass through it now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.connections.load(Ordering::SeqCst)
    }

    /// Waits until exactly `count` connections pass through it.
    ///
    /// # Errors
    /// [`TestkitError::Deadline`] when that never was so.
    pub async fn wait_for_connections(&self, count: usize, limit: Duration) -> Result<(), TestkitError> {
        wait_until("the number of connections through the proxy", limit, async || self.connections() == count).await
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut_all();
        if let Some(dir) = &self.socket_dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

impl Control {
    fn new(upstream: &PgAddress) -> Arc<Self> {
        Arc::new(Self {
            upstream: upstream.clone(),
            mode: watch::Sender::new(Mode::Forward),
            cuts: watch::Sender::new(0),
            interceptions: Interceptions::default(),
            connections: AtomicUsize::new(0),
        })
    }
}

fn accept<S>(client: S, control: &Arc<Control>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    if *control.mode.borrow() == Mode::Refuse {
        return;
    }
    let control = Arc::clone(control);
    // Subscribed before the connection is counted: a test that saw the count can cut it.
    let mut cuts = control.cuts.subscribe();
    control.connections.fetch_add(1, Ordering::SeqCst);
    tokio::spawn(async move {
        let passing = async {
            // An error on one side closes the other; the client sees what a broken network shows it.
            let _ = connect_and_serve(client, &control).await;
        };
        tokio::select! {
            () = passing => {}
            _ = cuts.changed() => {}
        }
        control.connections.fetch_sub(1, Ordering::SeqCst);
    });
}

async fn connect_and_serve<C>(client: C, control: &Control) -> std::io::Result<()>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let passage = Passage::new(control);
    match control.upstream.socket_file() {
        Some(file) => serve(client, UnixStream::connect(file).await?, &passage).await,
        None => {
            let server = TcpStream::connect((control.upstream.host(), control.upstream.port())).await?;
            serve(client, server, &passage).await
        }
    }
}
