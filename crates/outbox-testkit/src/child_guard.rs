//! Runs one of our programs and ends it with the test: at drop by its process id, and by a parent-death
//! signal when the test process itself is killed. It judges nothing about how the program behaves.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::io_context;
use crate::{TestkitError, wait_until_blocking};

/// A running program whose output goes to a file.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
    log: PathBuf,
}

impl ChildGuard {
    /// Starts `program`; `configure` adds arguments and environment. Its output goes to the file `log`,
    /// its input is empty unless `configure` says otherwise.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(program: &Path, log: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self, TestkitError> {
        let output = File::options().create(true).append(true).open(log).map_err(io_context("open a child's log"))?;
        let errors = output.try_clone().map_err(io_context("open a child's log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        configure(&mut command);
        let child = spawn_from_lasting_thread(command).map_err(io_context(format!("start {}", program.display())))?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process, for pipes that `configure` asked for.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<(), TestkitError> {
        // An ended child keeps its id until it is waited for, so the id cannot be another process's.
        kill_process(Pid::from_child(&self.child), signal).map_err(|e| io_context("signal a child")(e.into()))
    }

    /// Kills it outright, as a crash of the machine would, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus, TestkitError> {
        self.child.kill().map_err(io_context("kill a child"))?;
        self.child.wait().map_err(io_context("wait for a child"))
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn is_running(&mut self) -> Result<bool, TestkitError> {
        Ok(self.child.try_wait().map_err(io_context("wait for a child"))?.is_none())
    }

    /// Waits for its end, at most for `limit`.
    ///
    /// # Errors
    /// [`TestkitError::Deadline`] when it goes on running.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus, TestkitError> {
        let mut status = None;
        wait_until_blocking("end of a child", limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        Ok(status.expect("the wait ended because there is a status"))
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type SpawnOrder = (Command, Sender<io::Result<Child>>);

/// The kernel sends the parent-death signal when the *thread* that started the child ends, so children
/// are started by one thread that ends with the process.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<SpawnOrder>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<SpawnOrder>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, result) = channel();
    spawner.send((command, answer)).map_err(io::Error::other)?;
    result.recv().map_err(io::Error::other)?
}
