//! How bytes pass in one direction of a connection: at once, later, slowly or not at all, as the proxy's
//! mode of the moment says. A change of mode takes effect on what is under way, in the middle of a frame
//! too. It does not know what the bytes mean.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::proxy_control::{Mode, Passing};
use crate::transport::Writer;

/// Bytes that trickle pass in as many steps a second: more steps would only cost more.
const TRICKLE_STEPS_PER_S: u32 = 50;

/// One direction of one connection.
#[derive(Debug)]
pub(crate) struct Passage {
    passing: watch::Receiver<Passing>,
}

impl Passage {
    pub(crate) fn new(passing: &watch::Sender<Passing>) -> Self {
        Self { passing: passing.subscribe() }
    }

    /// Returns once something may pass.
    pub(crate) async fn open(&mut self) {
        loop {
            match self.mode() {
                Mode::BlackHole => self.changed().await,
                Mode::Delay(delay) if timeout(delay, self.changed()).await.is_ok() => {}
                _ => return,
            }
        }
    }

    /// Writes `bytes`, for which it has been open, as the mode lets them, and returns when the last one has
    /// passed.
    pub(crate) async fn pass(&mut self, to: &mut Writer<'_>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let step = match self.mode() {
                Mode::BlackHole => {
                    self.changed().await;
                    continue;
                }
                Mode::Trickle(bytes_per_s) => {
                    let (step, wait) = trickle_step(bytes_per_s, bytes.len());
                    if timeout(wait, self.changed()).await.is_ok() {
                        continue;
                    }
                    step
                }
                Mode::Forward | Mode::Delay(_) | Mode::Refuse => bytes.len(),
            };
            tokio::select! {
                biased;
                // Looked at first: in a black hole nothing goes because a reader has made room.
                () = self.changed() => {}
                written = to.write(&bytes[..step]) => match written? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => bytes = &bytes[count..],
                },
            }
        }
        Ok(())
    }

    fn mode(&mut self) -> Mode {
        self.passing.borrow_and_update().mode()
    }

    async fn changed(&mut self) {
        if self.passing.changed().await.is_err() {
            // Nobody can change it any more.
            std::future::pending().await
        }
    }
}

/// The next bytes of `left` that trickle, and how long before they do.
fn trickle_step(bytes_per_s: u32, left: usize) -> (usize, Duration) {
    let bytes_per_s = bytes_per_s.max(1);
    let step = (bytes_per_s / TRICKLE_STEPS_PER_S).max(1);
    let step = u32::try_from(left).unwrap_or(u32::MAX).min(step);
    let length = usize::try_from(step).unwrap_or(left);
    (length, Duration::from_secs(1) * step / bytes_per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn delay_is_over_once_the_passage_is_open() {
        let delay = Duration::from_secs(3_600);
        let passing = watch::Sender::new(Passing { mode: Mode::Delay(delay), silent: false });
        let mut passage = Passage::new(&passing);
        let (near, mut far) = tokio::io::duplex(16);
        let mut writer: Writer<'_> = Box::new(near);
        assert!(timeout(Duration::from_millis(50), passage.open()).await.is_err());
        passage.pass(&mut writer, b"bytes").await.unwrap();
        let mut passed = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut passed).await.unwrap();
        assert_eq!(&passed, b"bytes");
    }

    #[test]
    fn steps_of_a_trickle_add_up_to_its_rate() {
        assert_eq!(trickle_step(1_000, 5_000), (20, Duration::from_millis(20)));
        assert_eq!(trickle_step(1_000, 5), (5, Duration::from_millis(5)));
        assert_eq!(trickle_step(1, 5), (1, Duration::from_secs(1)));
        assert_eq!(trickle_step(0, 5), (1, Duration::from_secs(1)));
        assert_eq!(trickle_step(u32::MAX, usize::MAX).0, 85_899_345);
    }
}
