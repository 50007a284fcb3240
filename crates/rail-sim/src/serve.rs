//! The listener and its connections: TLS, keep-alive, and being down. While the rail is down its port
//! stays reserved but nobody listens, so that connecting is refused; what is being executed goes on.

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, oneshot},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    answer::{AnswerBody, Reply},
    control, exchange,
    header::sha256,
    inquiry,
    rail::Rail,
    wire::{Cut, Wire},
};

/// Bounds a TLS handshake, so that a silent client does not hold a connection for ever.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted; above the senders of any test, so none is turned away.
const BACKLOG: u32 = 1024;

/// What is served on a listener.
#[derive(Clone)]
pub(crate) enum Service {
    /// Payments, and questions about them.
    Payments(Arc<Rail>),
    /// Control of the rail behind the gate, and the same questions.
    Admin(Arc<Rail>, Arc<Gate>),
}

/// A listener that can be taken down and brought back on the same address.
pub(crate) struct Gate {
    pub(crate) addr: SocketAddr,
    /// Bound and never listening: keeps the port ours while nobody listens on it.
    _reserved: TcpSocket,
    tls: Option<TlsAcceptor>,
    open: Mutex<Option<Accepting>>,
}

struct Accepting {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Gate {
    /// Reserves the address; nothing listens until `open`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(crate) fn reserve(addr: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let reserved = bind(addr)?;
        let addr = reserved.local_addr()?;
        Ok(Self { addr, _reserved: reserved, tls, open: Mutex::new(None) })
    }

    /// Starts to listen; does nothing if it does already.
    ///
    /// # Errors
    /// If the system does not let it listen.
    pub(crate) async fn open(&self, service: Service) -> io::Result<()> {
        let mut open = self.open.lock().await;
        if open.is_none() {
            let listener = bind(self.addr)?.listen(BACKLOG)?;
            let (stop, stopped) = oneshot::channel();
            let ended = tokio::spawn(accept(listener, self.tls.clone(), service, stopped));
            *open = Some(Accepting { stop, ended });
        }
        Ok(())
    }

    /// Stops listening and resets every connection; when it returns, none is left.
    pub(crate) async fn close(&self) {
        if let Some(accepting) = self.open.lock().await.take() {
            drop(accepting.stop);
            let _ = accepting.ended.await;
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, service: Service, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    let cut_all = Cut::default();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(boxed(stream, tls.clone(), service.clone(), cut_all.clone()));
                }
                // Out of file descriptors, or a client gone before it was accepted: the next may do better.
                Err(_) => tokio::task::yield_now().await,
            },
        }
    }
    drop(listener);
    cut_all.arm();
    connections.shutdown().await;
}

/// A connection can open the gate that accepts connections: without a box that type has no end.
fn boxed(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: Service,
    cut_all: Cut,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(connection(stream, tls, service, cut_all))
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, service: Service, cut_all: Cut) {
    if let Service::Payments(rail) = &service {
        rail.counters.change(|stats| stats.connections += 1);
    }
    // Answers are small and must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let cut = Cut::default();
    let wire = Wire::new(stream, cut.clone(), cut_all);
    let Some(tls) = tls else { return http(wire, service, cut, None).await };
    let Ok(Ok(wire)) = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(wire)).await else { return };
    let shown = wire.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|certificate| Arc::from(sha256(certificate)));
    http(wire, service, cut, certificate).await;
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin, service: Service, cut: Cut, certificate: Option<Arc<str>>) {
    let answer = service_fn(move |request| {
        let (service, cut, certificate) = (service.clone(), cut.clone(), certificate.clone());
        async move {
            match service {
                Service::Payments(rail) => payments(rail, request, certificate, cut).await,
                Service::Admin(rail, gate) => {
                    let reply = control::answer(&rail, &gate, request).await;
                    Ok::<_, Withheld>(reply.unwrap_or_else(|never: Infallible| match never {}))
                }
            }
        }
    });
    // An error here is a client that went away, or a fault that was meant.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// No answer is given; the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("no answer is given")]
struct Withheld;

async fn payments(
    rail: Arc<Rail>,
    request: Request<Incoming>,
    certificate: Option<Arc<str>>,
    cut: Cut,
) -> Result<Response<AnswerBody>, Withheld> {
    match *request.method() {
        Method::POST => {
            let (to, reply) = oneshot::channel();
            tokio::spawn(exchange::run(rail, request, certificate, to));
            respond(reply, cut).await
        }
        Method::GET => match request.uri().path().strip_prefix("/payments/") {
            Some(key) => {
                let (to, reply) = oneshot::channel();
                tokio::spawn(inquiry::run(rail, key.to_owned(), to));
                respond(reply, cut).await
            }
            None => Ok(control::question(&rail, request.uri().path()).await),
        },
        _ => Ok(Reply::coded(405, "METHOD").into_response(cut)),
    }
}

async fn respond(reply: oneshot::Receiver<Reply>, cut: Cut) -> Result<Response<AnswerBody>, Withheld> {
    match reply.await {
        Ok(reply) => Ok(reply.into_response(cut)),
        Err(_) => {
            cut.arm();
            Err(Withheld)
        }
    }
}
