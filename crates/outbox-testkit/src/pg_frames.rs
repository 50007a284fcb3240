//! Reads the Postgres wire protocol by the buffer and splits it into its frames, which stay where they
//! were read. It knows nothing of what the proxy does with them. Encrypted connections are not understood.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// No frame of a test is larger; a larger length means that the stream is not what we take it for.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Room for one read; what a server answers to a batch fits, and less room costs more calls of the system.
const READ_BYTES: usize = 16 * 1024;
/// The type byte of a frame.
const TAG_BYTES: usize = 1;
/// The length of a frame, itself included, follows the type byte in so many bytes.
const LENGTH_BYTES: usize = 4;

/// Code in the place of a protocol version: the client asks for TLS.
const SSL_REQUEST_CODE: u32 = 80_877_103;
/// Code in the place of a protocol version: the client asks for GSS encryption.
const GSS_REQUEST_CODE: u32 = 80_877_104;

/// One whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The type byte.
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: &'a [u8],
}

/// What the first packet of a client, which has no type byte, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstPacket {
    /// Encryption.
    Encryption,
    /// A session, or that the statement of another one be cancelled.
    Connection,
}

/// Bytes of one direction: looked at first, then passed or discarded.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    /// Up to here it has been looked at; whole frames only.
    scanned: usize,
}

impl FrameBuffer {
    /// Reads whatever has come, after what is there; `false` at the end of the stream.
    pub(crate) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<bool> {
        self.bytes.reserve(READ_BYTES);
        Ok(stream.read_buf(&mut self.bytes).await? > 0)
    }

    /// Looks at the first packet; `None` until all of it is here.
    pub(crate) fn first_packet(&mut self) -> io::Result<Option<FirstPacket>> {
        let Some(length) = self.whole(0)? else { return Ok(None) };
        let code = self.bytes.get(LENGTH_BYTES..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        self.scanned = length;
        Ok(Some(match code {
            Some(SSL_REQUEST_CODE | GSS_REQUEST_CODE) => FirstPacket::Encryption,
            _ => FirstPacket::Connection,
        }))
    }

    /// Looks at the next frame; `None` until all of it is here.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame<'_>>> {
        let Some(length) = self.whole(TAG_BYTES)? else { return Ok(None) };
        let raw = &self.bytes[self.scanned..self.scanned + length];
        self.scanned += length;
        Ok(Some(Frame { tag: raw[0], body: &raw[TAG_BYTES + LENGTH_BYTES..] }))
    }

    /// The type of the next frame, without looking past it; `None` until all of it is here.
    pub(crate) fn next_tag(&self) -> io::Result<Option<u8>> {
        Ok(self.whole(TAG_BYTES)?.map(|_| self.bytes[self.scanned]))
    }

    /// The frames looked at.
    pub(crate) fn scanned(&self) -> &[u8] {
        &self.bytes[..self.scanned]
    }

    /// The first `count` of the frames looked at.
    pub(crate) fn scanned_frames(&self, count: u64) -> &[u8] {
        let mut end = 0;
        for _ in 0..count {
            end += TAG_BYTES + self.length_at(end + TAG_BYTES).unwrap_or_default();
        }
        &self.bytes[..end.min(self.scanned)]
    }

    /// Forgets the frames looked at.
    pub(crate) fn discard_scanned(&mut self) {
        self.bytes.drain(..self.scanned);
        self.scanned = 0;
    }

    /// The length of the frame that comes next, if all of it is here.
    fn whole(&self, tag_bytes: usize) -> io::Result<Option<usize>> {
        let Some(length) = self.length_at(self.scanned + tag_bytes) else { return Ok(None) };
        if !(LENGTH_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let whole = tag_bytes + length;
        Ok((self.bytes.len() - self.scanned >= whole).then_some(whole))
    }

    fn length_at(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at + LENGTH_BYTES)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + LENGTH_BYTES).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_arrive() {
        let stream = [raw(b'Q', b"select 1\0"), raw(b'X', b""), raw(b'd', &[7; 40_000])].concat();
        for piece in [1, 3, 4_096, stream.len()] {
            let (mut buffer, mut passed, mut tags) = (FrameBuffer::default(), Vec::new(), Vec::new());
            for mut bytes in stream.chunks(piece) {
                while buffer.fill(&mut bytes).await.unwrap() {
                    while let Some(frame) = buffer.next().unwrap() {
                        tags.push((frame.tag, frame.body.len()));
                    }
                    passed.extend_from_slice(buffer.scanned());
                    buffer.discard_scanned();
                }
            }
            assert_eq!(tags, [(b'Q', 9), (b'X', 0), (b'd', 40_000)], "pieces of {piece}");
            assert_eq!(passed, stream, "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn some_of_the_frames_are_the_first_ones() {
        let mut buffer = FrameBuffer::default();
        buffer.fill(&mut &[raw(b'1', b""), raw(b'D', b"row"), raw(b'Z', b"I")].concat()[..]).await.unwrap();
        while buffer.next().unwrap().is_some() {}
        assert_eq!(buffer.scanned_frames(2), [raw(b'1', b""), raw(b'D', b"row")].concat());
        assert_eq!(buffer.scanned_frames(3), buffer.scanned());
    }

    #[tokio::test]
    async fn impossible_length_is_an_error() {
        let mut buffer = FrameBuffer::default();
        buffer.fill(&mut &[b'Q', 0, 0, 0, 3][..]).await.unwrap();
        assert!(buffer.next().is_err());
    }

    #[tokio::test]
    async fn wish_for_encryption_is_told_from_a_cancellation() {
        let kinds = [(80_877_103, FirstPacket::Encryption), (80_877_102, FirstPacket::Connection)];
        for (code, kind) in kinds {
            let mut buffer = FrameBuffer::default();
            let packet = [&[0, 0, 0, 8], &u32::to_be_bytes(code)[..]].concat();
            buffer.fill(&mut &packet[..7]).await.unwrap();
            assert_eq!(buffer.first_packet().unwrap(), None);
            buffer.fill(&mut &packet[7..]).await.unwrap();
            assert_eq!(buffer.first_packet().unwrap(), Some(kind));
            assert_eq!(buffer.scanned(), packet);
        }
    }
}
