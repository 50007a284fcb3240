//! A connection's socket on either side of the proxy, over TCP or in the file system, for whoever reads
//! and writes it without knowing which. It says nothing of what passes.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::PgAddress;

pub(crate) type Reader<'a> = Box<dyn AsyncRead + Send + Unpin + 'a>;
pub(crate) type Writer<'a> = Box<dyn AsyncWrite + Send + Unpin + 'a>;

/// One socket, open until it is dropped.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Transport {
    pub(crate) async fn connect(server: &PgAddress) -> io::Result<Self> {
        match server.socket_file() {
            Some(file) => Ok(Self::Unix(UnixStream::connect(file).await?)),
            None => Self::over_tcp(TcpStream::connect((server.host(), server.port())).await?),
        }
    }

    /// A TCP connection that sends what it is given at once: the proxy adds no delay that it was not told to.
    pub(crate) fn over_tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Both directions, to be used at the same time.
    pub(crate) fn halves(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.split();
                (Box::new(reader), Box::new(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = stream.split();
                (Box::new(reader), Box::new(writer))
            }
        }
    }

    /// Closes with a reset where there is such a thing: what has not arrived is lost, and the peer gets an
    /// error instead of an end. In the file system it is a close.
    pub(crate) fn reset(self) {
        if let Self::Tcp(stream) = &self {
            // It fails only on a socket that is broken already.
            let _ = stream.set_zero_linger();
        }
    }
}
