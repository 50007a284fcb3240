//! One connection through the fault proxy: two pumps of whole frames that obey the proxy's controls.
//! Whatever ends one pump ends the connection. Frames that have come together pass together: a frame
//! never waits for one that is not there yet.

use std::io;

use crate::interception::{Intercepted, Plan};
use crate::passage::Passage;
use crate::pg_frames::{FirstPacket, FrameBuffer};
use crate::pg_statements::Statements;
use crate::proxy_control::{Control, Line};
use crate::transport::{Reader, Transport, Writer};

/// Ends the result of a statement that went well.
const COMMAND_COMPLETE: u8 = b'C';
/// Ends the answer to a statement.
const READY_FOR_QUERY: u8 = b'Z';

/// The proxy's answer to a wish for encryption.
const ENCRYPTION_REFUSED: &[u8] = b"N";

/// Serves one connection until a side closes it or it is cut. `server` is where it puts the connection to
/// the server, made once the client's first packet has passed.
pub(crate) async fn serve(
    client: &mut Transport,
    server: &mut Option<Transport>,
    line: &Line,
    control: &Control,
) -> io::Result<()> {
    let (from_client, to_client) = client.halves();
    let mut requests = Requests { client: from_client, inbox: FrameBuffer::default(), line, control };
    let mut answers = Answers { client: to_client, inbox: FrameBuffer::default(), answered: 0, line, control };
    let (mut upwards, mut downwards) = (Passage::new(&line.passing), Passage::new(&line.passing));
    if !requests.greet(&mut answers.client, &mut upwards).await? {
        return Ok(());
    }
    let (from_server, to_server) = server.insert(Transport::connect(&line.upstream).await?).halves();
    let ended = tokio::select! {
        biased;
        ended = answers.pump(from_server, &mut downwards) => ended,
        ended = requests.pump(to_server, &mut upwards) => ended,
    };
    // A close is news too: in a black hole the other side does not learn of it.
    Passage::new(&line.passing).open().await;
    ended
}

/// From the client to the server.
struct Requests<'a> {
    client: Reader<'a>,
    inbox: FrameBuffer,
    line: &'a Line,
    control: &'a Control,
}

impl Requests<'_> {
    /// Reads up to the startup packet, refusing encryption on the way; `false` if the client has gone.
    async fn greet(&mut self, answers: &mut Writer<'_>, passage: &mut Passage) -> io::Result<bool> {
        loop {
            let Some(first) = self.inbox.first_packet()? else {
                if self.inbox.fill(&mut self.client).await? {
                    continue;
                }
                return Ok(false);
            };
            passage.open().await;
            match first {
                FirstPacket::Connection => return Ok(true),
                FirstPacket::Encryption => {
                    self.inbox.discard_scanned();
                    passage.pass(answers, ENCRYPTION_REFUSED).await?;
                }
            }
        }
    }

    async fn pump(&mut self, mut server: Writer<'_>, passage: &mut Passage) -> io::Result<()> {
        let mut statements = Statements::default();
        loop {
            while let Some(frame) = self.inbox.next()? {
                if let Some(statement) = statements.executed_by(&frame) {
                    self.control.note(self.line, &statement);
                }
            }
            if passage.pass(&mut server, self.inbox.scanned()).await.is_err() {
                // The server has closed. What it said before is still to pass, and its end ends the other pump.
                return std::future::pending().await;
            }
            self.inbox.discard_scanned();
            if !self.inbox.fill(&mut self.client).await? {
                return Ok(());
            }
            passage.open().await;
        }
    }
}

/// From the server to the client.
struct Answers<'a> {
    client: Writer<'a>,
    inbox: FrameBuffer,
    /// How many answers are over, the one to the startup included.
    answered: u64,
    line: &'a Line,
    control: &'a Control,
}

impl Answers<'_> {
    async fn pump(&mut self, mut server: Reader<'_>, passage: &mut Passage) -> io::Result<()> {
        let mut next_intercepted = None;
        while self.inbox.fill(&mut server).await? {
            loop {
                // A statement is noted before it is forwarded, so before its answer can be here.
                next_intercepted = next_intercepted.or_else(|| self.line.next_intercepted());
                let up_to = next_intercepted.as_ref().map(|(answer, _)| *answer);
                let frames = self.scan(up_to)?;
                self.pass(frames, passage).await?;
                match next_intercepted.take_if(|(answer, _)| *answer == self.answered) {
                    Some((_, intercepted)) => self.intercept(&intercepted, &mut server, passage).await?,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Looks at the frames that are here, up to the answer `up_to`, and returns how many they are.
    fn scan(&mut self, up_to: Option<u64>) -> io::Result<u64> {
        let mut frames = 0;
        while up_to != Some(self.answered) {
            let Some(frame) = self.inbox.next()? else { break };
            frames += 1;
            if frame.tag == READY_FOR_QUERY {
                self.answered += 1;
            }
        }
        Ok(frames)
    }

    /// Looks at the frames of `answer` that are here, up to its completion, and returns how many they are.
    fn scan_rows(&mut self, answer: u64) -> io::Result<u64> {
        let mut frames = 0;
        while self.answered == answer && !matches!(self.inbox.next_tag()?, None | Some(COMMAND_COMPLETE)) {
            let ends = self.inbox.next()?.is_some_and(|frame| frame.tag == READY_FOR_QUERY);
            frames += 1;
            self.answered += u64::from(ends);
        }
        Ok(frames)
    }

    /// Passes the `frames` looked at, and ends the connection after the one at which it is to be cut.
    async fn pass(&mut self, frames: u64, passage: &mut Passage) -> io::Result<()> {
        if frames == 0 {
            return Ok(());
        }
        passage.open().await;
        let admission = self.control.frames.admit(frames);
        if admission.cut.is_empty() {
            passage.pass(&mut self.client, self.inbox.scanned()).await?;
            self.inbox.discard_scanned();
            return Ok(());
        }
        self.line.ends_for(admission.cut);
        passage.pass(&mut self.client, self.inbox.scanned_frames(admission.frames)).await?;
        Err(cut())
    }

    async fn intercept(
        &mut self,
        intercepted: &Intercepted,
        server: &mut Reader<'_>,
        passage: &mut Passage,
    ) -> io::Result<()> {
        if intercepted.plan == Plan::SwallowCompletion {
            return self.swallow_completion(intercepted, server, passage).await;
        }
        let answer = self.answered;
        let mut frames = 0;
        while self.answered == answer {
            frames += self.scan(Some(answer + 1))?;
            if self.answered == answer && !self.inbox.fill(server).await? {
                // The server went in the middle of its answer: what there is of it is not what was asked for.
                return self.pass(frames, passage).await;
            }
        }
        intercepted.arrived();
        if intercepted.passes().await { self.pass(frames, passage).await } else { Err(cut()) }
    }

    /// Passes what comes before the completion, and nothing after that for good: a stream has no gaps.
    async fn swallow_completion(
        &mut self,
        intercepted: &Intercepted,
        server: &mut Reader<'_>,
        passage: &mut Passage,
    ) -> io::Result<()> {
        let answer = self.answered;
        loop {
            let frames = self.scan_rows(answer)?;
            self.pass(frames, passage).await?;
            if self.answered > answer {
                // It failed: there is no completion.
                return Ok(());
            }
            if self.inbox.next_tag()? == Some(COMMAND_COMPLETE) {
                break;
            }
            if !self.inbox.fill(server).await? {
                return Ok(());
            }
        }
        loop {
            self.scan(None)?;
            self.inbox.discard_scanned();
            if self.answered > answer {
                intercepted.arrived();
            }
            tokio::select! {
                read = self.inbox.fill(server) => if !read? { return Ok(()) },
                () = intercepted.is_cut() => return Err(cut()),
            }
        }
    }
}

/// The end of a connection that a control asked for.
fn cut() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
