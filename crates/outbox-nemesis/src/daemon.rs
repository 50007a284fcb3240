//! One daemon under test: the real program, its configuration, its way to the database through a proxy of its own, and
//! the signals it is sent. It is never judged here, but it must not end by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use outbox_testkit::{ChildGuard, PgAddress, Signal};
use serde_json::Value;

use crate::error::NemesisError;
use crate::journal::{Journal, now_us};
use crate::patience::Patience;
use crate::rails::{LEASE_MS, RAIL_TIMEOUT_MS, Rail};

/// Longer than a daemon needs to start, or to drain, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A maintenance pass of the configuration below.
const SETTLED_IN: Duration = Duration::from_secs(1);

/// Its slot: a daemon, the one after it, and so on, all by one name.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Its configured name.
    pub(crate) name: String,
    program: PathBuf,
    file: PathBuf,
    dir: PathBuf,
    starts: u32,
    child: ChildGuard,
    ready_since: Option<Instant>,
}

impl Daemon {
    /// Writes the configuration and starts it.
    ///
    /// # Errors
    /// When a file cannot be written or the program cannot be started.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        dir: &Path,
        way: &PgAddress,
        database: &str,
        rails: &[std::sync::Arc<Rail>],
        ca: &Path,
    ) -> Result<Self, NemesisError> {
        let file = dir.join(format!("{name}.toml"));
        let text = configuration(name, dir, way, database, rails, ca);
        fs::write(&file, text).map_err(NemesisError::io("write a configuration"))?;
        let child = spawn(program, &file, &dir.join(format!("{name}-0.log")))?;
        Ok(Self {
            name: name.to_owned(),
            program: program.to_owned(),
            file,
            dir: dir.to_owned(),
            starts: 0,
            child,
            ready_since: None,
        })
    }

    /// The worker id of this start; `None` until it is ready.
    #[must_use]
    pub(crate) fn worker_id(&self) -> Option<String> {
        let log = self.child.log();
        let line = log.lines().find(|line| line.contains("\"event\":\"daemon.ready\""))?;
        let event: Value = serde_json::from_str(line).ok()?;
        Some(event["worker_id"].as_str()?.to_owned())
    }

    /// Whether it has been ready for long enough to have looked after everything once.
    pub(crate) fn is_settled_in(&mut self) -> bool {
        if self.ready_since.is_none() && self.worker_id().is_some() {
            self.ready_since = Some(Instant::now());
        }
        self.ready_since.is_some_and(|since| since.elapsed() >= SETTLED_IN)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it never is.
    pub(crate) async fn ready(&mut self) -> Result<(), NemesisError> {
        let patience = Patience::of(LIMIT);
        while self.worker_id().is_none() {
            self.must_run()?;
            if !patience.again().await {
                return Err(self.failed("is never ready"));
            }
        }
        Ok(())
    }

    /// Fails if it ended by itself.
    ///
    /// # Errors
    /// [`NemesisError::Program`] with the end of its log.
    pub(crate) fn must_run(&mut self) -> Result<(), NemesisError> {
        if self.child.is_running()? {
            return Ok(());
        }
        Err(self.failed("ended by itself"))
    }

    fn failed(&self, what: &str) -> NemesisError {
        let log = self.child.log();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        NemesisError::Program {
            what: format!("daemon {} {what}", self.name),
            output: tail.into_iter().rev().collect::<Vec<_>>().join("\n"),
        }
    }

    /// Kills it as a power cut would, and starts it again after `pause`.
    ///
    /// # Errors
    /// When it had ended by itself before, or the next cannot be started.
    pub(crate) async fn kill(&mut self, journal: &Journal, pause: Duration) -> Result<(), NemesisError> {
        self.must_run()?;
        let worker = self.worker_id();
        self.child.kill()?;
        // One that was not ready yet had no lease.
        if let Some(worker) = worker {
            journal.killed(&worker, LEASE_MS);
        }
        tokio::time::sleep(pause).await;
        self.next()
    }

    /// Stops it where it stands, for `time`.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub(crate) async fn stand_still(&mut self, journal: &Journal, time: Duration) -> Result<(), NemesisError> {
        let from_us = now_us();
        self.freeze()?;
        tokio::time::sleep(time).await;
        self.thaw(journal, from_us)
    }

    /// Stops it where it stands.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub(crate) fn freeze(&mut self) -> Result<(), NemesisError> {
        self.must_run()?;
        Ok(self.child.signal(Signal::STOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn thaw(&mut self, journal: &Journal, from_us: i64) -> Result<(), NemesisError> {
        self.child.signal(Signal::CONT)?;
        journal.stopped(&self.name, from_us);
        Ok(())
    }

    /// Ends it in order and starts `program`, the same if `None`.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub(crate) async fn restart(&mut self, program: Option<&Path>) -> Result<(), NemesisError> {
        self.end().await?;
        if let Some(program) = program {
            program.clone_into(&mut self.program);
        }
        self.next()
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub(crate) async fn end(&mut self) -> Result<(), NemesisError> {
        self.must_run()?;
        self.child.signal(Signal::TERM)?;
        let patience = Patience::of(LIMIT);
        loop {
            let ended = self.child.child().try_wait().map_err(NemesisError::io("wait for a daemon"))?;
            match ended.map(|status| status.code()) {
                Some(Some(0)) => return Ok(()),
                Some(code) => return Err(self.failed(&format!("was told to end and did so with {code:?}"))),
                None if patience.again().await => {}
                None => return Err(self.failed("was told to end and did not")),
            }
        }
    }

    /// Whether it is this program.
    #[must_use]
    pub(crate) fn runs(&self, program: &Path) -> bool {
        self.program == program
    }

    fn next(&mut self) -> Result<(), NemesisError> {
        // The log of the one before says nothing that is needed, and a thousand of them fill a disk.
        let _ = fs::remove_file(self.log_file());
        self.starts += 1;
        self.ready_since = None;
        self.child = spawn(&self.program, &self.file, &self.log_file())?;
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join(format!("{}-{}.log", self.name, self.starts))
    }
}

fn spawn(program: &Path, file: &Path, log: &Path) -> Result<ChildGuard, NemesisError> {
    Ok(ChildGuard::spawn(program, log, |command: &mut Command| {
        command.args(["run", "--config"]).arg(file).env_clear();
    })?)
}

fn configuration(
    name: &str,
    dir: &Path,
    way: &PgAddress,
    database: &str,
    rails: &[std::sync::Arc<Rail>],
    ca: &Path,
) -> String {
    let (host, port, dir) = (way.host(), way.port(), dir.display());
    let mut text = format!(
        "[dispatcher]\nname = \"{name}\"\nstate_directory = \"{dir}\"\ndrain_timeout = \"3s\"\npoll_max = \"500ms\"\n\
         completion_flush_interval = \"5ms\"\ncompletion_budget = \"1600ms\"\nlease_margin = \"400ms\"\n\
         heartbeat_interval = \"1s\"\nlistener_probe_interval = \"1s\"\nmaintenance_interval = \"1s\"\n\
         [database]\nhost = \"{host}\"\nport = {port}\nname = \"{database}\"\nuser = \"t_dispatcher\"\ntls = \"disable\"\n\
         connect_timeout = \"1500ms\"\ncall_timeout = \"1500ms\"\nstatement_timeout = \"1200ms\"\n\
         [health]\nlisten = \"off\"\n[log]\nformat = \"json\"\nfilter = \"warn,outboxd::dispatch::start=info\"\n"
    );
    for rail in rails {
        let scheme = if rail.kind.has_certificate() { "https" } else { "http" };
        let (rail_name, addr) = (rail.kind.name, rail.addr());
        text.push_str(&format!(
            "[rails.{rail_name}]\nurl = \"{scheme}://{addr}/payments\"\nconcurrency = 16\ntimeout = \"{RAIL_TIMEOUT_MS}ms\"\n\
             connect_timeout = \"500ms\"\nreference_json_pointer = \"/reference\"\ncode_json_pointer = \"/code\"\n"
        ));
        if rail.kind.has_certificate() {
            text.push_str(&format!("ca_file = \"{}\"\n", ca.display()));
        }
        text.push_str(&format!("[rails.{rail_name}.breaker]\nopen_min = \"50ms\"\nopen_max = \"500ms\"\n"));
        text.push_str(&format!(
            "[[rails.{rail_name}.codes]]\nstatus = 503\ncode = \"NOT_EXECUTED\"\nmeans = \"not_executed\"\n"
        ));
        if rail.kind.on_unknown == "inquire" {
            text.push_str(&format!(
                "[rails.{rail_name}.inquiry]\npath = \"/payments/{{key}}\"\ncode_json_pointer = \"/status\"\n\
                 [[rails.{rail_name}.inquiry.codes]]\nstatus = 200\ncode = \"ACCEPTED\"\nmeans = \"accepted\"\n\
                 [[rails.{rail_name}.inquiry.codes]]\nstatus = 200\ncode = \"REFUSED\"\nmeans = \"refused\"\n"
            ));
        }
    }
    text
}
