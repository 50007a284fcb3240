//! The last gate before the network. It sits on the socket, below TLS and HTTP, so it knows with
//! certainty whether a byte of a request was given to the kernel, and it lets none through that the
//! dispatcher does not permit. It does not know what the bytes mean.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::rail::MaySend;

/// Whether the rail may have written something that we have not read yet when a request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerSpeech {
    /// Session tickets or HTTP/2 frames are in order.
    Allowed,
    /// Nothing is in order: it would be an answer to no question, and could be taken for the answer
    /// to ours (load balancers write a 408 before they close an idle connection).
    OutOfTurn,
}

/// Why the gate stayed shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The dispatcher did not permit it.
    NotPermitted,
    /// The rail had closed the connection, or had spoken out of turn.
    Stale,
}

/// What passed since the gate was armed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    /// Bytes given to the kernel.
    pub(crate) bytes: u64,
    /// When the first of them was.
    pub(crate) first_byte_at: Option<SystemTime>,
    /// When the last byte passed, in either direction.
    pub(crate) last_byte_at: Option<SystemTime>,
    /// Why nothing passed.
    pub(crate) refusal: Option<Refusal>,
}

enum Phase {
    /// No request is on the connection: handshakes and keep-alive frames pass.
    Between,
    /// A request is ready; its first byte asks.
    Armed(MaySend, PeerSpeech),
    /// A request was let through.
    Open,
    /// Nothing passes any more.
    Shut,
}

struct State {
    phase: Phase,
    passed: Passed,
}

/// One connection's gate, and the connection behind it.
pub(crate) struct Gate {
    tcp: TcpStream,
    state: Mutex<State>,
}

impl Gate {
    pub(crate) fn new(tcp: TcpStream) -> Arc<Self> {
        Arc::new(Self { tcp, state: Mutex::new(State { phase: Phase::Between, passed: Passed::default() }) })
    }

    /// Whether the kernel knows already that a request must not begin here. The runtime's own view of
    /// the socket lags behind by a turn of its event loop, so the kernel is asked.
    pub(crate) fn is_stale(&self, speech: PeerSpeech) -> bool {
        let mut one = [0_u8; 1];
        match recv(&self.tcp, &mut one[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => true,
            Ok(_) => speech == PeerSpeech::OutOfTurn,
            Err(errno) => errno != Errno::WOULDBLOCK && errno != Errno::INTR,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking `may_send` leaves the phase as it was, armed: the next byte asks again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next byte ask `may_send`, and counts from zero.
    pub(crate) fn arm(&self, may_send: MaySend, speech: PeerSpeech) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Shut) {
            *state = State { phase: Phase::Armed(may_send, speech), passed: Passed::default() };
        }
    }

    /// What has passed so far.
    pub(crate) fn passed(&self) -> Passed {
        self.lock().passed
    }

    /// Shuts the gate for good and says what had passed: after this call the count is final.
    pub(crate) fn shut(&self) -> Passed {
        let mut state = self.lock();
        state.phase = Phase::Shut;
        state.passed
    }

    /// Gives `bytes` to the kernel, if the gate lets them.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // Held over the write, so that `shut` and the count can never be on different sides of a byte.
        let mut state = self.lock();
        let refusal = match &state.phase {
            Phase::Shut => return Err(refused()),
            Phase::Between | Phase::Open => None,
            Phase::Armed(_, speech) if self.is_stale(*speech) => Some(Refusal::Stale),
            Phase::Armed(may_send, _) if !may_send() => Some(Refusal::NotPermitted),
            Phase::Armed(..) => None,
        };
        if refusal.is_some() {
            state.phase = Phase::Shut;
            state.passed.refusal = refusal;
            return Err(refused());
        }
        let count = self.tcp.try_write(bytes)?;
        if count > 0 && !matches!(state.phase, Phase::Between) {
            let now = Some(SystemTime::now());
            state.phase = Phase::Open;
            state.passed.bytes = state.passed.bytes.saturating_add(count as u64);
            state.passed.first_byte_at = state.passed.first_byte_at.or(now);
            state.passed.last_byte_at = now;
        }
        Ok(count)
    }

    /// Ends the request: what passes from now on belongs to none.
    pub(crate) fn rest(&self) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Shut) {
            state.phase = Phase::Between;
        }
    }
}

/// The byte stream through a gate.
pub(crate) struct GatedSocket {
    gate: Arc<Gate>,
}

impl GatedSocket {
    pub(crate) const fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Waits until there is something to read, or the connection has ended.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.gate.tcp.readable().await
    }
}

impl AsyncRead for GatedSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.gate.tcp.poll_read_ready(cx))?;
            match self.gate.tcp.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    if count > 0 {
                        self.gate.lock().passed.last_byte_at = Some(SystemTime::now());
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for GatedSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.gate.tcp.poll_write_ready(cx))?;
            match self.gate.write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&self.gate.tcp, Shutdown::Write).map_err(io::Error::from))
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the gate before the network is shut")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener as StdListener, TcpStream as StdStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A gate, the way through it, and the rail's end, which blocks.
    async fn pair() -> (Arc<Gate>, GatedSocket, StdStream) {
        let listener = StdListener::bind("127.0.0.1:0").expect("bind");
        let tcp = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
        tcp.writable().await.expect("connected");
        let (rail, _) = listener.accept().expect("accept");
        let gate = Gate::new(tcp);
        let socket = GatedSocket::new(Arc::clone(&gate));
        (gate, socket, rail)
    }

    fn everything(mut rail: StdStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        rail.read_to_end(&mut bytes).expect("read");
        bytes
    }

    #[tokio::test]
    async fn the_first_byte_asks_and_the_rest_follow() {
        let (gate, mut socket, rail) = pair().await;
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        socket.write_all(b"hello").await.expect("between payments");
        assert_eq!(gate.passed().bytes, 0);
        let ask = move || count.fetch_add(1, Ordering::SeqCst) == 0;
        gate.arm(Arc::new(ask), PeerSpeech::OutOfTurn);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        socket.write_all(b"pay").await.expect("permitted");
        socket.write_all(b"ment").await.expect("permitted");
        let passed = gate.shut();
        assert_eq!((passed.bytes, passed.refusal, asked.load(Ordering::SeqCst)), (7, None, 1));
        assert!(passed.first_byte_at <= passed.last_byte_at && passed.first_byte_at.is_some());
        drop((gate, socket));
        assert_eq!(everything(rail), b"hellopayment");
    }

    #[tokio::test]
    async fn without_permission_nothing_passes_ever_after() {
        let (gate, mut socket, rail) = pair().await;
        gate.arm(Arc::new(|| false), PeerSpeech::Allowed);
        socket.write_all(b"payment").await.expect_err("refused");
        gate.rest();
        gate.arm(Arc::new(|| true), PeerSpeech::Allowed);
        socket.write_all(b"payment").await.expect_err("shut for good");
        let passed = gate.shut();
        assert_eq!((passed.bytes, passed.refusal), (0, Some(Refusal::NotPermitted)));
        drop((gate, socket));
        assert_eq!(everything(rail), b"");
    }

    #[tokio::test]
    async fn a_gate_once_shut_lets_nothing_through() {
        let (gate, mut socket, rail) = pair().await;
        gate.arm(Arc::new(|| true), PeerSpeech::Allowed);
        assert_eq!(gate.shut().bytes, 0);
        socket.write_all(b"payment").await.expect_err("shut");
        drop((gate, socket));
        assert_eq!(everything(rail), b"");
    }

    #[tokio::test]
    async fn a_rail_that_closed_gets_no_first_byte() {
        for speech in [PeerSpeech::Allowed, PeerSpeech::OutOfTurn] {
            let (gate, mut socket, rail) = pair().await;
            gate.arm(Arc::new(|| panic!("asked for nothing")), speech);
            rail.shutdown(std::net::Shutdown::Write).expect("close");
            socket.write_all(b"payment").await.expect_err("closed");
            drop((socket, rail));
            assert_eq!((gate.shut().bytes, gate.shut().refusal), (0, Some(Refusal::Stale)));
        }
    }

    #[tokio::test]
    async fn a_rail_that_spoke_out_of_turn_gets_no_first_byte() {
        for (speech, refusal) in [(PeerSpeech::Allowed, None), (PeerSpeech::OutOfTurn, Some(Refusal::Stale))] {
            let (gate, mut socket, mut rail) = pair().await;
            gate.arm(Arc::new(|| true), speech);
            rail.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("speak");
            assert_eq!(socket.write_all(b"payment").await.is_err(), refusal.is_some());
            assert_eq!(gate.shut().refusal, refusal);
        }
    }
}
