//! What the proxy's connections obey and what they tell of themselves. The controls are set here; how a
//! connection follows them is the connection's own affair.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::PgAddress;
use crate::frame_count::FrameCount;
use crate::interception::{Intercepted, Interceptions};
use crate::pg_statements::Executed;

/// What happens to bytes in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Forward,
    /// They pass after this time.
    Delay(Duration),
    /// So many of them pass in a second.
    Trickle(u32),
    /// They wait, and so does the news that a side has closed: the connection is half-open.
    BlackHole,
    /// New connections are closed at once.
    Refuse,
}

/// How connections of now end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    Reset,
}

/// The proxy's controls.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) interceptions: Arc<Interceptions>,
    pub(crate) frames: Arc<FrameCount>,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    upstream: PgAddress,
    mode: Mode,
    opened: u64,
    open: HashMap<u64, Arc<Line>>,
}

/// One connection, as the controls see it.
#[derive(Debug)]
pub(crate) struct Line {
    number: u64,
    /// The server it goes to.
    pub(crate) upstream: PgAddress,
    pub(crate) passing: watch::Sender<Passing>,
    pub(crate) ending: watch::Sender<Option<Ending>>,
    executed: Mutex<HashSet<String>>,
    intercepted: Mutex<InterceptedAnswers>,
    cuts: Mutex<Vec<watch::Sender<bool>>>,
}

/// The answers of one connection that are not simply to pass.
#[derive(Debug, Default)]
struct InterceptedAnswers {
    /// One answer has one fate: a second interception waits for a statement with an answer of its own.
    last: Option<u64>,
    coming: VecDeque<(u64, Intercepted)>,
}

/// What one connection lets pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passing {
    pub(crate) mode: Mode,
    /// It alone has become a black hole, whatever the mode.
    pub(crate) silent: bool,
}

impl Passing {
    pub(crate) fn mode(self) -> Mode {
        if self.silent { Mode::BlackHole } else { self.mode }
    }
}

impl Control {
    pub(crate) fn new(upstream: &PgAddress) -> Arc<Self> {
        let lines = Lines { upstream: upstream.clone(), mode: Mode::Forward, opened: 0, open: HashMap::new() };
        Arc::new(Self { interceptions: Arc::default(), frames: Arc::default(), lines: Mutex::new(lines) })
    }

    pub(crate) fn set_upstream(&self, upstream: &PgAddress) {
        self.lines().upstream = upstream.clone();
    }

    /// Sets the mode of all connections; [`Mode::Forward`] gives those their voice back that were silenced.
    pub(crate) fn set_mode(&self, mode: Mode) {
        let mut lines = self.lines();
        lines.mode = mode;
        for line in lines.open.values() {
            line.passing.send_modify(|passing| {
                passing.mode = mode;
                passing.silent &= mode != Mode::Forward;
            });
        }
    }

    /// Silences the connections that have executed a statement containing `text`.
    pub(crate) fn silence(&self, text: &str) -> usize {
        let lines = self.lines();
        let matching = lines.open.values().filter(|line| line.has_executed(text));
        matching.map(|line| line.passing.send_modify(|passing| passing.silent = true)).count()
    }

    pub(crate) fn end_all(&self, ending: Ending) {
        for line in self.lines().open.values() {
            line.ending.send_replace(Some(ending));
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.lines().open.len()
    }

    /// Enters a new connection; `None` where it is refused.
    pub(crate) fn open_line(&self) -> Option<Arc<Line>> {
        let mut lines = self.lines();
        if lines.mode == Mode::Refuse {
            return None;
        }
        lines.opened += 1;
        let line = Arc::new(Line {
            number: lines.opened,
            upstream: lines.upstream.clone(),
            passing: watch::Sender::new(Passing { mode: lines.mode, silent: false }),
            ending: watch::Sender::new(None),
            executed: Mutex::default(),
            intercepted: Mutex::default(),
            cuts: Mutex::default(),
        });
        lines.open.insert(line.number, Arc::clone(&line));
        Some(line)
    }

    /// Strikes out a connection whose sockets are closed, and tells those who had it cut.
    pub(crate) fn close_line(&self, line: &Line) {
        self.lines().open.remove(&line.number);
        for reached in locked(&line.cuts).drain(..) {
            reached.send_replace(true);
        }
    }

    /// Takes note of a statement that is about to be forwarded on `line`.
    pub(crate) fn note(&self, line: &Line, statement: &Executed<'_>) {
        if !statement.again {
            let mut executed = locked(&line.executed);
            if !executed.contains(statement.text.as_ref()) {
                executed.insert(statement.text.clone().into_owned());
            }
        }
        let mut intercepted = locked(&line.intercepted);
        if intercepted.last != Some(statement.answer)
            && let Some(taken) = self.interceptions.take(&statement.text)
        {
            intercepted.last = Some(statement.answer);
            intercepted.coming.push_back((statement.answer, taken));
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        locked(&self.lines)
    }
}

impl Line {
    /// The next answer that is not simply to pass, and which answer that is.
    pub(crate) fn next_intercepted(&self) -> Option<(u64, Intercepted)> {
        locked(&self.intercepted).coming.pop_front()
    }

    /// Remembers whom to tell of the end.
    pub(crate) fn ends_for(&self, cuts: Vec<watch::Sender<bool>>) {
        locked(&self.cuts).extend(cuts);
    }

    fn has_executed(&self, text: &str) -> bool {
        locked(&self.executed).iter().any(|statement| statement.contains(text))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
