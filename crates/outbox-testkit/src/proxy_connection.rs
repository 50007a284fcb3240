//! One connection through the fault proxy: two pumps of whole frames that obey the proxy's mode and the
//! interceptions. Whatever ends one pump ends the connection.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::fault_proxy::{Control, Mode};
use crate::interception::Stage;
use crate::pg_frames::{Frame, Statements, read_first_packet, read_frame};

/// Ends the answer to a statement.
const READY_FOR_QUERY: u8 = b'Z';

/// The proxy's answer to a wish for encryption.
const ENCRYPTION_REFUSED: &[u8] = b"N";

/// What the two pumps of one connection share.
pub(crate) struct Passage<'a> {
    control: &'a Control,
    intercepted: Mutex<Option<watch::Sender<Stage>>>,
}

impl<'a> Passage<'a> {
    pub(crate) fn new(control: &'a Control) -> Self {
        Self { control, intercepted: Mutex::new(None) }
    }

    /// Returns once bytes may pass.
    async fn open(&self) {
        let mut mode = self.control.mode.subscribe();
        let now = mode.wait_for(|mode| *mode != Mode::BlackHole).await.map(|mode| *mode);
        if let Ok(Mode::Delay(delay)) = now {
            tokio::time::sleep(delay).await;
        }
    }

    fn intercept(&self, stage: watch::Sender<Stage>) {
        *self.intercepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    }

    fn intercepted(&self) -> Option<watch::Sender<Stage>> {
        self.intercepted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Serves one connection until a side closes it or an interception cuts it.
pub(crate) async fn serve<C, S>(client: C, server: S, passage: &Passage<'_>) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let Some(startup) = greet(&mut from_client, &mut to_client, passage).await? else {
        return Ok(());
    };
    to_server.write_all(&startup.raw).await?;
    let ended = tokio::select! {
        ended = pump_requests(&mut from_client, &mut to_server, passage) => ended,
        ended = pump_answers(&mut from_server, &mut to_client, passage) => ended,
    };
    // A close is news too: in a black hole the other side does not learn of it.
    passage.open().await;
    ended
}

/// Reads up to the startup packet, refusing encryption on the way.
async fn greet<R, W>(client: &mut R, answers: &mut W, passage: &Passage<'_>) -> io::Result<Option<Frame>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let first = read_first_packet(client).await?;
        passage.open().await;
        match first {
            Some(wish) if wish.asks_for_encryption() => answers.write_all(ENCRYPTION_REFUSED).await?,
            other => return Ok(other),
        }
    }
}

async fn pump_requests<R, W>(client: &mut R, server: &mut W, passage: &Passage<'_>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut statements = Statements::default();
    while let Some(frame) = read_frame(client).await? {
        passage.open().await;
        let matched = statements.executed_by(&frame).and_then(|text| passage.control.interceptions.take(&text));
        if let Some(stage) = matched {
            passage.intercept(stage);
        }
        server.write_all(&frame.raw).await?;
    }
    Ok(())
}

async fn pump_answers<R, W>(server: &mut R, client: &mut W, passage: &Passage<'_>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    while let Some(frame) = read_frame(server).await? {
        let Some(stage) = passage.intercepted() else {
            passage.open().await;
            client.write_all(&frame.raw).await?;
            continue;
        };
        let answer = rest_of_answer(server, frame).await?;
        stage.send_if_modified(|now| {
            let withhold = *now == Stage::Sent;
            if withhold {
                *now = Stage::Withheld;
            }
            withhold
        });
        let decided = stage.subscribe().wait_for(|now| *now != Stage::Withheld).await.map(|now| *now);
        if !matches!(decided, Ok(Stage::Released)) {
            return Ok(());
        }
        passage.open().await;
        client.write_all(&answer).await?;
    }
    Ok(())
}

/// Collects everything from `first` up to the frame that says the server is ready again.
async fn rest_of_answer(server: &mut (impl AsyncRead + Unpin), first: Frame) -> io::Result<Vec<u8>> {
    let mut answer = first.raw;
    let mut last_tag = first.tag;
    while last_tag != READY_FOR_QUERY {
        let Some(frame) = read_frame(server).await? else { break };
        last_tag = frame.tag;
        answer.extend(frame.raw);
    }
    Ok(answer)
}
