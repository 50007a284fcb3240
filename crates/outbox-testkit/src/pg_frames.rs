//! Splits the Postgres wire protocol into its frames and finds out which statement a frame executes. It
//! knows nothing of what the proxy does with them. Encrypted connections are not understood.

use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// No frame of a test is larger; a larger length means that the stream is not what we take it for.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Code in the place of a protocol version: the client asks for TLS.
const SSL_REQUEST_CODE: u32 = 80_877_103;
/// Code in the place of a protocol version: the client asks for GSS encryption.
const GSS_REQUEST_CODE: u32 = 80_877_104;

/// One frame with its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The type byte; 0 for the first packets of a client, which have none.
    pub(crate) tag: u8,
    /// Everything to be forwarded, header included.
    pub(crate) raw: Vec<u8>,
}

impl Frame {
    /// Whether this first packet asks for encryption.
    pub(crate) fn asks_for_encryption(&self) -> bool {
        let code = self.raw.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        self.tag == 0 && matches!(code, Some(SSL_REQUEST_CODE | GSS_REQUEST_CODE))
    }

    fn body(&self) -> &[u8] {
        self.raw.get(5..).unwrap_or_default()
    }
}

/// Reads the untyped first packet of a client; `None` at the end of the stream.
pub(crate) async fn read_first_packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    read_after_tag(stream, 0, Vec::new()).await
}

/// Reads one typed frame; `None` at the end of the stream.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut tag = [0];
    if stream.read(&mut tag).await? == 0 {
        return Ok(None);
    }
    read_after_tag(stream, tag[0], tag.to_vec()).await
}

async fn read_after_tag(stream: &mut (impl AsyncRead + Unpin), tag: u8, mut raw: Vec<u8>) -> io::Result<Option<Frame>> {
    let mut length_bytes = [0; 4];
    match stream.read_exact(&mut length_bytes).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = usize::try_from(u32::from_be_bytes(length_bytes)).map_err(io::Error::other)?;
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    raw.extend_from_slice(&length_bytes);
    let header_length = raw.len();
    raw.resize(header_length + length - 4, 0);
    stream.read_exact(&mut raw[header_length..]).await?;
    Ok(Some(Frame { tag, raw }))
}

/// The statements that one client has prepared, by name.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    prepared: HashMap<Vec<u8>, String>,
}

impl Statements {
    /// Takes note of a client's frame and returns the statement's text if the frame makes it run.
    pub(crate) fn executed_by(&mut self, frame: &Frame) -> Option<String> {
        let mut parts = frame.body().split(|byte| *byte == 0);
        let first = parts.next().unwrap_or_default();
        let second = parts.next().unwrap_or_default();
        match frame.tag {
            b'Q' => Some(String::from_utf8_lossy(first).into_owned()),
            b'P' => {
                self.prepared.insert(first.to_vec(), String::from_utf8_lossy(second).into_owned());
                None
            }
            // Bind names the portal first, then the statement.
            b'B' => self.prepared.get(second).cloned(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        let mut raw = vec![tag];
        raw.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        raw.extend(body);
        Frame { tag, raw }
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let (one, two) = (frame(b'Q', b"select 1\0"), frame(b'X', b""));
        let mut stream: &[u8] = &[one.raw.clone(), two.raw.clone()].concat();
        assert_eq!(read_frame(&mut stream).await.unwrap(), Some(one));
        assert_eq!(read_frame(&mut stream).await.unwrap(), Some(two));
        assert_eq!(read_frame(&mut stream).await.unwrap(), None);
    }

    #[tokio::test]
    async fn impossible_length_is_an_error() {
        let mut stream: &[u8] = &[b'Q', 0, 0, 0, 3];
        assert!(read_frame(&mut stream).await.is_err());
    }

    #[test]
    fn only_bind_and_simple_query_run_a_statement() {
        let mut statements = Statements::default();
        assert_eq!(statements.executed_by(&frame(b'P', b"s1\0select f($1)\0\0\0")), None);
        assert_eq!(statements.executed_by(&frame(b'B', b"\0s1\0rest")), Some("select f($1)".to_owned()));
        assert_eq!(statements.executed_by(&frame(b'B', b"\0s2\0rest")), None);
        assert_eq!(statements.executed_by(&frame(b'Q', b"commit\0")), Some("commit".to_owned()));
        assert_eq!(statements.executed_by(&frame(b'S', b"")), None);
    }
}
