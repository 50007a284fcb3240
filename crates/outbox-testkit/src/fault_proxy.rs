//! Stands between a client and a test server and loses, cuts, keeps back or slows what passes. The faults
//! are those of a network: the proxy never changes a byte. A test steers it by named controls and waits
//! for their effect; it never has to guess how long something takes. Encryption is refused to the client.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use crate::error::io_context;
use crate::frame_count::Cut;
use crate::interception::{Interception, Plan};
use crate::proxy_connection::serve;
use crate::proxy_control::{Control, Ending, Mode};
use crate::transport::Transport;
use crate::{PgAddress, TestkitError, wait_until};

/// Between two attempts to accept where the system has no file left for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: PgAddress,
    control: Arc<Control>,
    listener: JoinHandle<()>,
    leftovers: Leftovers,
}

/// What a proxy leaves in the file system.
#[derive(Debug)]
enum Leftovers {
    Nothing,
    Socket(PathBuf),
    Dir(PathBuf),
}

impl FaultProxy {
    /// A proxy on a unix socket in a directory of its own.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn on_socket(upstream: &PgAddress) -> Result<Self, TestkitError> {
        let dir = tempfile::Builder::new().prefix("obx-proxy-").tempdir();
        let dir = dir.map_err(io_context("make the directory of a proxy"))?.keep();
        let mut proxy = Self::on_socket_in(&dir, upstream)?;
        proxy.leftovers = Leftovers::Dir(dir);
        Ok(proxy)
    }

    /// A proxy on a unix socket in `dir`, which stays; the port in the socket's name is that of `upstream`.
    ///
    /// # Errors
    /// When the socket cannot be made, for instance because there is one.
    pub fn on_socket_in(dir: &Path, upstream: &PgAddress) -> Result<Self, TestkitError> {
        let address = PgAddress::on_socket(dir, upstream.port());
        let file = address.socket_file().expect("an address on a socket has a socket's file");
        let listener = UnixListener::bind(&file).map_err(io_context("bind the socket of a proxy"))?;
        let control = Control::new(upstream);
        let shared = Arc::clone(&control);
        let accepting = tokio::spawn(async move {
            loop {
                let accepted = listener.accept().await.map(|(client, _)| Transport::Unix(client));
                take_in(accepted, &shared).await;
            }
        });
        Ok(Self { address, control, listener: accepting, leftovers: Leftovers::Socket(file) })
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
            loop {
                let accepted = listener.accept().await.and_then(|(client, _)| Transport::over_tcp(client));
                take_in(accepted, &shared).await;
            }
        });
        let address = PgAddress::on_tcp("127.0.0.1", port);
        Ok(Self { address, control, listener: accepting, leftovers: Leftovers::Nothing })
    }

    /// Where clients connect instead of to the server.
    #[must_use]
    pub fn address(&self) -> &PgAddress {
        &self.address
    }

    /// New connections go to this server from now on; those that exist stay where they are, also if they
    /// have not got through to their server yet.
    pub fn set_upstream(&self, upstream: &PgAddress) {
        self.control.set_upstream(upstream);
    }

    /// Keeps back the answer to the next statement whose text contains `text`; see [`Interception`].
    #[must_use]
    pub fn intercept(&self, text: &str) -> Interception {
        self.control.interceptions.add(text, Plan::Withhold)
    }

    /// Loses the answer to the next statement whose text contains `text`, once the server has answered in
    /// full, and closes its connection, both sides.
    #[must_use]
    pub fn lose_answer(&self, text: &str) -> Interception {
        self.control.interceptions.add(text, Plan::Lose)
    }

    /// Of the answer to the next statement whose text contains `text`, lets the rows pass and swallows its
    /// completion and whatever the server sends after that; the connection stays open, and what the client
    /// sends still passes. An answer that is an error passes.
    #[must_use]
    pub fn swallow_completion(&self, text: &str) -> Interception {
        self.control.interceptions.add(text, Plan::SwallowCompletion)
    }

    /// Closes the connection, both sides, that carries the `frames`-th frame from a server to a client from
    /// now on, all connections counted together, right after that frame; 0 is taken for 1.
    #[must_use]
    pub fn cut_after(&self, frames: u64) -> Cut {
        self.control.frames.cut_after(frames)
    }

    /// How many frames have passed from servers to clients so far; those being delayed or trickling included.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.control.frames.passed()
    }

    /// Lets everything pass, what waits in a black hole included.
    pub fn forward(&self) {
        self.control.set_mode(Mode::Forward);
    }

    /// Lets everything pass `delay` later, each direction on its own.
    pub fn delay(&self, delay: Duration) {
        self.control.set_mode(Mode::Delay(delay));
    }

    /// Lets `bytes_per_s` bytes a second pass, each direction of each connection on its own; 0 is taken for 1.
    pub fn trickle(&self, bytes_per_s: u32) {
        self.control.set_mode(Mode::Trickle(bytes_per_s));
    }

    /// Stops forwarding both ways and keeps the sockets open, as after a lost route.
    pub fn black_hole(&self) {
        self.control.set_mode(Mode::BlackHole);
    }

    /// Stops forwarding both ways on the connections that have executed a statement whose text contains
    /// `text`, until [`Self::forward`], and keeps their sockets open; the others go on. Returns how many.
    pub fn black_hole_matching(&self, text: &str) -> usize {
        self.control.silence(text)
    }

    /// Closes each new connection at once, as if nobody listened; those that exist go on.
    pub fn refuse(&self) {
        self.control.set_mode(Mode::Refuse);
    }

    /// Closes every connection of now, both sides.
    pub fn cut_all(&self) {
        self.control.end_all(Ending::Close);
    }

    /// Resets every connection of now, both sides: over TCP a peer gets an error instead of an end, and what
    /// was under way is lost. On a unix socket it is [`Self::cut_all`].
    pub fn reset_all(&self) {
        self.control.end_all(Ending::Reset);
    }

    /// How many connections pass through it now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.connections()
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
        let _ = match &self.leftovers {
            Leftovers::Nothing => Ok(()),
            Leftovers::Socket(file) => std::fs::remove_file(file),
            Leftovers::Dir(dir) => std::fs::remove_dir_all(dir),
        };
    }
}

/// Serves a new connection beside the others.
async fn take_in(accepted: std::io::Result<Transport>, control: &Arc<Control>) {
    let Ok(client) = accepted else {
        // The client gave up, or the system is short of files: neither ends the proxy.
        tokio::time::sleep(ACCEPT_RETRY).await;
        return;
    };
    let Some(line) = control.open_line() else { return };
    let control = Arc::clone(control);
    tokio::spawn(async move {
        let (mut client, mut server) = (client, None);
        let mut ending = line.ending.subscribe();
        let ended = tokio::select! {
            biased;
            ended = ending.wait_for(Option::is_some) => ended.ok().and_then(|ending| *ending),
            // An error on one side closes the other; the client sees what a broken network shows it.
            _ = serve(&mut client, &mut server, &line, &control) => None,
        };
        for socket in [Some(client), server].into_iter().flatten() {
            match ended {
                Some(Ending::Reset) => socket.reset(),
                Some(Ending::Close) | None => drop(socket),
            }
        }
        control.close_line(&line);
    });
}
