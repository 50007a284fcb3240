//! The way of a log line from the thread that says it to where it goes: a bounded queue, and one thread
//! that writes. So a sink that is full, slow or gone costs lines, which are counted, and holds up nobody.
//! What a line says is not decided here.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a sink that takes nothing at the moment, without blocking, is asked again.
const NO_ROOM_WAIT: Duration = Duration::from_millis(20);

/// How many lines this process has not written, for the page of metrics.
pub(crate) static LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// How much a line matters when there is no room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// As much as any other.
    Usual,
    /// It may be the last: an eighth of the queue's room is for such lines alone.
    Grave,
}

/// Lines on their way.
#[derive(Debug)]
pub(crate) struct LogQueue {
    bytes_max: usize,
    state: Mutex<State>,
    said: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Waiting>,
    bytes: usize,
    /// Dropped after the last of `lines`.
    dropped: u64,
    /// Until half of the room is free again: one gap in the log is better than many.
    sheds: bool,
    is_writing: bool,
}

#[derive(Debug)]
struct Waiting {
    dropped_before: u64,
    /// `None`: none came after the dropped ones.
    line: Option<(Vec<u8>, Weight)>,
}

impl LogQueue {
    /// A queue with room for `bytes_max` bytes of lines.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), said: Condvar::new(), idle: Condvar::new() }
    }

    /// Takes a line, or drops and counts it; never waits for the sink.
    pub(crate) fn push(&self, line: &[u8], weight: Weight) {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(line.len());
        let room = match weight {
            Weight::Usual => {
                state.sheds |= bytes > self.bytes_max;
                if state.sheds { 0 } else { self.bytes_max }
            }
            Weight::Grave => self.bytes_max + self.bytes_max / 8,
        };
        if bytes > room {
            state.dropped += 1;
            LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
        } else {
            let dropped_before = std::mem::take(&mut state.dropped);
            state.bytes = bytes;
            state.lines.push_back(Waiting { dropped_before, line: Some((line.to_vec(), weight)) });
        }
        self.said.notify_one();
    }

    /// Waits until the sink was offered everything, at most for `limit`; returns whether it was.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let on_its_way = |state: &mut State| state.is_writing || !state.lines.is_empty() || state.dropped > 0;
        let waited = self.idle.wait_timeout_while(self.lock(), limit, on_its_way);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// What is to be written next; `None` when there is nothing for `patience`.
    fn next(&self, patience: Option<Duration>) -> Option<Waiting> {
        let mut state = self.lock();
        state.is_writing = false;
        self.idle.notify_all();
        let nothing = |state: &mut State| state.lines.is_empty() && state.dropped == 0;
        // Whoever flushes meanwhile waits for nothing.
        state = match patience {
            None => self.said.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.said.wait_timeout_while(state, limit, nothing).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let next = match state.lines.pop_front() {
            Some(waiting) => waiting,
            None if state.dropped > 0 => Waiting { dropped_before: std::mem::take(&mut state.dropped), line: None },
            None => return None,
        };
        state.bytes -= next.line.as_ref().map_or(0, |(line, _)| line.len());
        state.sheds &= state.bytes > self.bytes_max / 2;
        state.is_writing = true;
        Some(next)
    }

    /// The state is whole between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the lines' way.
pub(crate) struct LogWriter<W, N> {
    sink: W,
    /// The line that says how many were dropped.
    notice: N,
    /// After a failure the sink is left alone for so long, except by a grave line.
    retry: Duration,
    lost: u64,
    failed_at: Option<Instant>,
    /// A line was written in part.
    is_torn: bool,
}

impl<W: Write, N: Fn(u64) -> Vec<u8>> LogWriter<W, N> {
    pub(crate) const fn new(sink: W, retry: Duration, notice: N) -> Self {
        Self { sink, notice, retry, lost: 0, failed_at: None, is_torn: false }
    }

    /// Writes what `queue` has, for as long as the process lives.
    pub(crate) fn run(mut self, queue: &LogQueue) {
        loop {
            self.write_next(queue);
        }
    }

    fn write_next(&mut self, queue: &LogQueue) {
        let next = queue.next((self.lost > 0).then_some(self.retry));
        let (dropped, line) = next.map_or((0, None), |next| (next.dropped_before, next.line));
        self.lost += dropped;
        let is_grave = line.as_ref().is_some_and(|(_, weight)| *weight == Weight::Grave);
        let may_try = is_grave || self.failed_at.is_none_or(|at| at.elapsed() >= self.retry);
        // How many are missing is said where they are missing, before the line that follows them.
        if may_try && self.lost > 0 {
            let notice = (self.notice)(self.lost);
            if self.write(&notice) {
                self.lost = 0;
            }
        }
        if let Some((line, _)) = line
            && !(may_try && self.lost == 0 && self.write(&line))
        {
            self.lost += 1;
            LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line; returns whether the sink took all of it.
    fn write(&mut self, line: &[u8]) -> bool {
        let after_torn = [b"\n", line].concat();
        let text = if self.is_torn { &after_torn[..] } else { line };
        let mut rest = text;
        let taken = loop {
            match self.sink.write(rest) {
                Ok(count) if count == rest.len() => break true,
                Ok(0) => break false,
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NO_ROOM_WAIT),
                Err(_) => break false,
            }
        };
        self.is_torn = !taken && (self.is_torn || rest.len() < text.len());
        self.failed_at = (!taken).then(Instant::now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const ALWAYS: Duration = Duration::ZERO;

    /// What the next writes come to, in order; after the last of them each takes all it is given.
    type Answers = Vec<Result<usize, ErrorKind>>;

    /// A sink that answers as it was told, and is asked once for each permit if it has a gate.
    #[derive(Default)]
    struct Sink {
        answers: std::vec::IntoIter<Result<usize, ErrorKind>>,
        gate: Option<Receiver<()>>,
        text: Arc<Mutex<String>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            let count = self.answers.next().unwrap_or(Ok(bytes.len()))?;
            self.text.lock().unwrap().push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(count: u64) -> Vec<u8> {
        format!("-{count}\n").into_bytes()
    }

    /// What is written of `lines`, each said after the one before it was tried.
    fn written(answers: Answers, retry: Duration, lines: &[(&str, Weight)]) -> String {
        let text = Arc::default();
        let sink = Sink { answers: answers.into_iter(), gate: None, text: Arc::clone(&text) };
        let (queue, mut writer) = (LogQueue::new(1_000), LogWriter::new(sink, retry, notice));
        for (line, weight) in lines {
            queue.push(line.as_bytes(), *weight);
            writer.write_next(&queue);
        }
        text.lock().unwrap().clone()
    }

    fn usual<'l>(lines: &[&'l str]) -> Vec<(&'l str, Weight)> {
        lines.iter().map(|line| (*line, Weight::Usual)).collect()
    }

    /// A queue of 20 bytes whose sink takes nothing until there are permits, with one line at the sink.
    fn frozen() -> (Arc<LogQueue>, Sender<()>, Arc<Mutex<String>>) {
        let (permits, gate) = channel();
        let (queue, text) = (Arc::new(LogQueue::new(20)), Arc::default());
        let sink = Sink { gate: Some(gate), text: Arc::clone(&text), ..Sink::default() };
        let (taken_from, writer) = (Arc::clone(&queue), LogWriter::new(sink, ALWAYS, notice));
        thread::spawn(move || writer.run(&taken_from));
        queue.push(b"0\n", Weight::Usual);
        let mut state = queue.lock();
        while !state.is_writing {
            drop(state);
            thread::yield_now();
            state = queue.lock();
        }
        drop(state);
        (queue, permits, text)
    }

    #[test]
    fn lines_without_room_are_dropped_at_once_and_their_count_stands_in_their_place() {
        let (queue, permits, text) = frozen();
        for line in ["one.....\n", "two.....\n", "three...\n", "4\n"] {
            queue.push(line.as_bytes(), Weight::Usual);
        }
        assert!(!queue.flush(Duration::from_millis(50)), "a frozen sink took something");
        assert_eq!(*text.lock().unwrap(), "");
        // The first two make room; what is said now comes after the gap.
        drop(permits);
        assert!(queue.flush(LIMIT), "the sink was not offered everything");
        queue.push(b"five\n", Weight::Usual);
        assert!(queue.flush(LIMIT), "the sink was not offered everything");
        assert_eq!(*text.lock().unwrap(), "0\none.....\ntwo.....\n-2\nfive\n");
    }

    #[test]
    fn a_gap_goes_on_until_half_of_the_room_is_free() {
        let queue = LogQueue::new(20);
        let mut lines = Vec::new();
        let mut take = || lines.push(queue.next(Some(ALWAYS)).map(|next| (next.dropped_before, next.line.is_some())));
        for _ in 0..5 {
            queue.push(b"1234\n", Weight::Usual);
        }
        take();
        queue.push(b"1234\n", Weight::Usual);
        take();
        queue.push(b"1234\n", Weight::Usual);
        take();
        take();
        take();
        take();
        let line = |dropped_before| Some((dropped_before, true));
        assert_eq!(lines, [line(0), line(0), line(0), line(0), line(2), None]);
    }

    #[test]
    fn a_grave_line_has_room_where_usual_ones_have_none() {
        let (queue, permits, text) = frozen();
        for _ in 0..4 {
            queue.push(b"usual..\n", Weight::Usual);
        }
        queue.push(b"grave\n", Weight::Grave);
        queue.push(b"too much\n", Weight::Grave);
        drop(permits);
        assert!(queue.flush(LIMIT), "the sink was not offered everything");
        assert_eq!(*text.lock().unwrap(), "0\nusual..\nusual..\n-2\ngrave\n-1\n");
    }

    #[test]
    fn a_failing_sink_costs_the_lines_of_its_failure_and_no_others() {
        let full = || Err(ErrorKind::StorageFull);
        let lines = usual(&["a\n", "b\n", "c\n", "d\n"]);
        assert_eq!(written(vec![Ok(2), full(), full()], ALWAYS, &lines), "a\n-2\nd\n");
        // A torn line ends before the next begins.
        assert_eq!(written(vec![Ok(1), full(), full()], ALWAYS, &lines), "a\n-2\nc\nd\n");
        let again = vec![Ok(1), Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock), Ok(1)];
        assert_eq!(written(again, ALWAYS, &lines), "a\nb\nc\nd\n");
        assert_eq!(written(vec![Ok(0)], ALWAYS, &lines), "-1\nb\nc\nd\n");
    }

    #[test]
    fn a_sink_that_failed_is_left_alone_for_a_while_but_for_a_grave_line() {
        let gone = vec![Err(ErrorKind::BrokenPipe)];
        let lines = [("a\n", Weight::Usual), ("b\n", Weight::Usual), ("c\n", Weight::Grave), ("d\n", Weight::Usual)];
        assert_eq!(written(gone, LIMIT, &lines), "-2\nc\nd\n");
    }

    #[test]
    fn the_count_of_missing_lines_is_written_though_none_follows() {
        let text = Arc::default();
        let answers = vec![Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull)].into_iter();
        let sink = Sink { answers, gate: None, text: Arc::clone(&text) };
        let (queue, mut writer) = (LogQueue::new(20), LogWriter::new(sink, ALWAYS, notice));
        queue.push(b"a\n", Weight::Usual);
        for _ in 0..3 {
            writer.write_next(&queue);
        }
        assert_eq!(*text.lock().unwrap(), "-1\n");
    }
}
