//! A small shell process between the test and its Postgres. The server is the guard's child, and the
//! guard reads its orders from a pipe whose only writer is the test process: when the test dies in any
//! way, SIGKILL included, the pipe closes, the guard stops the server and removes its directory.
//!
//! A parent-death signal alone would not do: it fires when the *thread* that started the child ends.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::TestkitError;
use crate::error::io_context;

/// `$1` is the directory to remove at the end, `$2` the log file, the rest the server's command line.
/// The server is continued before it is stopped, because a test may have left it in SIGSTOP.
const GUARD_SCRIPT: &str = r#"
dir=$1; log=$2; shift 2
child=
trap '' INT TERM HUP
while read -r order; do
  case $order in
    start) (trap - INT TERM HUP; exec "$@") </dev/null >>"$log" 2>&1 & child=$!; echo "$child" ;;
    wait) wait "$child"; echo "$?"; child= ;;
  esac
done
if [ -n "$child" ]; then
  kill -QUIT "$child" 2>/dev/null; kill -CONT "$child" 2>/dev/null; wait "$child"
fi
rm -rf "$dir"
"#;

/// The guard process and the two ends of the conversation with it.
#[derive(Debug)]
pub(crate) struct Guard {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts the guard alone; `command` runs at the first [`Guard::start`].
    pub(crate) fn new(dir: &Path, log: &Path, command: &[OsString]) -> Result<Self, TestkitError> {
        let mut process = Command::new("/bin/sh")
            .args(["-c", GUARD_SCRIPT, "outboxd-test-pg-guard"])
            .arg(dir)
            .arg(log)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Its own group, so that a signal to the test's group does not take the guard first.
            .process_group(0)
            .spawn()
            .map_err(io_context("start the guard of a test server"))?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().map(BufReader::new).expect("stdout was asked to be a pipe");
        Ok(Self { process, orders, answers })
    }

    /// Starts the server and returns its process id.
    pub(crate) fn start(&mut self) -> Result<i32, TestkitError> {
        self.ask("start")
    }

    /// Waits until the server has ended and returns its exit status.
    pub(crate) fn wait(&mut self) -> Result<i32, TestkitError> {
        self.ask("wait")
    }

    fn ask(&mut self, order: &str) -> Result<i32, TestkitError> {
        let orders = self.orders.as_mut().expect("the pipe is taken in drop only");
        writeln!(orders, "{order}").map_err(io_context("write to the guard of a test server"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(io_context("read from the guard of a test server"))?;
        answer
            .trim()
            .parse()
            .map_err(|_| TestkitError::Command { what: format!("{order} of a test server"), output: answer })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closing the pipe is the order to stop; waiting keeps the directory's removal inside the test.
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}
