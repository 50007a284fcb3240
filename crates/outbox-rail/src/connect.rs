//! Connecting to a rail: name, TCP, TLS, HTTP handshake. Nothing of a payment is sent here, so every
//! failure here means that none was. No proxy, whatever the environment says.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Version;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::gate::{Gate, GatedSocket};
use crate::pool::{Connection, Sender};
use crate::tls::Tls;

/// How long a rail that asks for our certificate is given to refuse it, on top of three times what
/// the TCP handshake took. In TLS 1.3 that refusal comes after our side of the handshake is done; a
/// payment sent meanwhile would be unknown, and every payment would be. Longer only delays the first
/// payment of a connection, and only on rails that send no session ticket.
const REFUSAL_WAIT: Duration = Duration::from_millis(50);

/// Room for a rail's headers. More is no acknowledgement, and is not read.
const ANSWER_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Opens a connection before `until`.
pub(crate) async fn connect(endpoint: &Endpoint, tls: Option<&Tls>, until: Instant) -> Result<Connection, Fault> {
    let opening = open(endpoint, tls, until);
    timeout_at(until, opening).await.unwrap_or(Err(Fault::plain("connect_timeout")))
}

async fn open(endpoint: &Endpoint, tls: Option<&Tls>, until: Instant) -> Result<Connection, Fault> {
    let Reached { transport, version, gate, .. } = reach(endpoint, tls, until).await?;
    handshake(transport, version, gate).await
}

/// A rail that is connected to and has not heard of HTTP yet.
pub(crate) struct Reached {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    version: Version,
    gate: Arc<Gate>,
}

/// Name, TCP and TLS.
pub(crate) async fn reach(endpoint: &Endpoint, tls: Option<&Tls>, until: Instant) -> Result<Reached, Fault> {
    let addresses = resolve(endpoint).await?;
    let began = Instant::now();
    let tcp = connect_tcp(&addresses, until).await?;
    let round_trip = began.elapsed();
    tcp.set_nodelay(true).map_err(|error| Fault::io("connect", &error))?;
    let address = tcp.peer_addr().map_err(|error| Fault::io("connect", &error))?;
    let gate = Gate::new(tcp);
    let socket = GatedSocket::new(Arc::clone(&gate));
    let (transport, version) = match tls {
        None => (Transport::Plain(socket), Version::HTTP_11),
        Some(tls) => secure(tls, socket, round_trip).await?,
    };
    Ok(Reached { address, transport, version, gate })
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Fault> {
    let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let mut addresses: Vec<SocketAddr> = found.map_err(|error| Fault::io("dns", &error))?.collect();
    if endpoint.loopback_only {
        addresses.retain(|address| address.ip().is_loopback());
    }
    if addresses.is_empty() { Err(Fault::plain("dns")) } else { Ok(addresses) }
}

/// Tries the addresses one after the other, each with its share of the time that is left.
async fn connect_tcp(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Fault> {
    let mut last = Fault::plain("connect");
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(Instant::now()) / left;
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => Fault::io("connect", &error),
            Err(_) => Fault::plain("connect_timeout"),
        };
    }
    Err(last)
}

async fn secure(tls: &Tls, socket: GatedSocket, round_trip: Duration) -> Result<(Transport, Version), Fault> {
    let client = tls.current().map_err(|error| Fault::detailed("credential", error))?;
    let mut stream = TlsConnector::from(client)
        .connect(tls.server_name(), socket)
        .await
        .map_err(|error| Fault::detailed("tls", error))?;
    let connection = stream.get_ref().1;
    let version = if connection.alpn_protocol() == Some(b"h2") { Version::HTTP_2 } else { Version::HTTP_11 };
    let may_be_refused_late = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let mut heard = Bytes::new();
    if may_be_refused_late && tls.rail_asks_for_certificate() {
        let wait = round_trip.saturating_mul(3).saturating_add(REFUSAL_WAIT);
        heard = timeout(wait, await_verdict(&mut stream)).await.unwrap_or(Ok(Bytes::new()))?;
    }
    if !heard.is_empty() && version != Version::HTTP_2 {
        return Err(Fault::plain("unsolicited_answer"));
    }
    Ok((Transport::Tls { stream: Box::new(stream), heard }, version))
}

/// Waits for the rail's first word after the handshake. A session ticket or data says that it took our
/// certificate, an alert or the end of the connection that it did not. Returns the data.
async fn await_verdict(stream: &mut TlsStream<GatedSocket>) -> Result<Bytes, Fault> {
    let mut buffer = [0_u8; 4096];
    loop {
        let mut into = ReadBuf::new(&mut buffer);
        let read = std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *stream).poll_read(cx, &mut into) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
        });
        match read.await {
            Some(Ok(())) if into.filled().is_empty() => return Err(Fault::plain("tls_refused")),
            Some(Ok(())) => return Ok(Bytes::copy_from_slice(into.filled())),
            Some(Err(error)) => return Err(Fault::detailed("tls_refused", error)),
            None if stream.get_ref().1.tls13_tickets_received() > 0 => return Ok(Bytes::new()),
            None => stream.get_ref().0.readable().await.map_err(|error| Fault::io("tls_refused", &error))?,
        }
    }
}

async fn handshake(transport: Transport, version: Version, gate: Arc<Gate>) -> Result<Connection, Fault> {
    let is_plain = matches!(transport, Transport::Plain(_));
    let io = TokioIo::new(transport);
    let broken = |error: hyper::Error| Fault::http(&error);
    if version == Version::HTTP_2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(io).await.map_err(broken)?;
        return Ok(Connection::new(Sender::Http2(sender), gate, is_plain, connection));
    }
    let (sender, connection) =
        http1::Builder::new().max_buf_size(ANSWER_HEADER_BYTES_MAX).handshake(io).await.map_err(broken)?;
    Ok(Connection::new(Sender::Http1(sender), gate, is_plain, connection))
}

/// A connected byte stream, with what was read from it before HTTP began.
pub(crate) enum Transport {
    Plain(GatedSocket),
    Tls { stream: Box<TlsStream<GatedSocket>>, heard: Bytes },
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls { heard, .. } if !heard.is_empty() => {
                let count = heard.len().min(buf.remaining());
                buf.put_slice(&heard[..count]);
                heard.advance(count);
                Poll::Ready(Ok(()))
            }
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
