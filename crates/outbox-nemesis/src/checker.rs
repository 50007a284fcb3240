//! The judge, a program of its own: started beside the run, listened to, and asked for its verdict at the end.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use outbox_testkit::{ChildGuard, Signal};

use crate::error::NemesisError;
use crate::rails::LEASE_MS;
use crate::world::World;

/// Reading a million payments anew, on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// A recovery that takes longer is a finding, in milliseconds. Time in which nobody could work does not count.
const RECOVERY_MAX_MS: u64 = LEASE_MS + 2_000;

/// The running checker.
#[derive(Debug)]
pub(crate) struct Checker {
    child: std::sync::Mutex<ChildGuard>,
    report: PathBuf,
}

/// Its last line.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The line itself.
    pub line: String,
    /// Whether it found nothing.
    pub passed: bool,
    /// Its findings, as it said them.
    pub findings: Vec<String>,
    /// The payments of its findings.
    pub(crate) accused: Vec<String>,
    /// The longest time after a crash until the last lease of whoever crashed was settled, in seconds.
    pub recovered_max_s: f64,
    /// The same with the time in which nothing could be settled.
    pub recovered_with_outages_max_s: f64,
    /// Crashes that left a lease open.
    pub crashes: u64,
}

impl Verdict {
    /// A count of its last line.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        let mark = format!("{name}=");
        self.line.split_whitespace().find_map(|word| word.strip_prefix(&mark)?.parse().ok())
    }
}

impl Checker {
    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(world: &World) -> Result<Self, NemesisError> {
        let dir = &world.settings.dir;
        let report = dir.join("report.json");
        let program = world.settings.program("outbox-checker");
        let child = ChildGuard::spawn(&program, &dir.join("checker.log"), |command| {
            command.arg("--database").arg(world.url("postgres")).env_clear();
            command.arg("--recovery-max-ms").arg(RECOVERY_MAX_MS.to_string());
            command.arg("--faults").arg(dir.join("faults.jsonl")).arg("--report").arg(&report);
            for rail in &world.rails {
                let keys = if rail.kind.is_idempotent() { "idempotent" } else { "every" };
                command.arg("--rail").arg(format!(
                    "{},contract={},keys={keys},ledger={},answers={}",
                    rail.kind.name,
                    rail.kind.on_unknown,
                    rail.ledger().display(),
                    rail.answers().display()
                ));
            }
        })?;
        Ok(Self { child: std::sync::Mutex::new(child), report })
    }

    fn log(&self) -> String {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).log()
    }

    /// What it has found so far.
    #[must_use]
    pub(crate) fn finding(&self) -> Option<String> {
        self.log().lines().find(|line| line.starts_with("FINDING ")).map(str::to_owned)
    }

    /// The payments of its findings so far.
    pub(crate) fn accused(&self) -> Vec<String> {
        accused(&self.log())
    }

    /// Asks for the verdict and waits for it.
    ///
    /// # Errors
    /// When it could not check.
    pub(crate) async fn end(self) -> Result<Verdict, NemesisError> {
        let Self { child, report } = self;
        let mut child = child.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.signal(Signal::TERM)?;
        let ended =
            tokio::task::spawn_blocking(move || child.wait_exit(LIMIT).map(|status| (status.code(), child.log())));
        let (code, log) =
            ended.await.map_err(|_| NemesisError::Wrong("the checker was not waited for".to_owned()))??;
        let line = log.lines().rev().find(|line| line.starts_with("CHECKED ")).map(str::to_owned);
        let Some(line) = line.filter(|_| matches!(code, Some(0 | 1))) else {
            let output = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
            return Err(NemesisError::Program { what: format!("the checker ended with {code:?}"), output });
        };
        let told = File::open(&report).map_err(NemesisError::io("read the report"))?;
        let told: serde_json::Value = serde_json::from_reader(std::io::BufReader::new(told))
            .map_err(|error| NemesisError::Wrong(format!("the report is not JSON: {error}")))?;
        let figure = |name: &str| told[name].as_f64().unwrap_or(0.0);
        Ok(Verdict {
            line,
            passed: code == Some(0),
            findings: findings(&log),
            accused: accused(&log),
            recovered_max_s: figure("recovered_max_s"),
            recovered_with_outages_max_s: figure("recovered_with_outages_max_s"),
            crashes: told["crashes"].as_u64().unwrap_or(0),
        })
    }
}

/// Whatever may be the id of a payment in the findings.
fn accused(log: &str) -> Vec<String> {
    let found = findings(log);
    let words = found.iter().flat_map(|line| line.split([' ', '/', '@']));
    words.filter(|word| uuid::Uuid::try_parse(word).is_ok()).map(str::to_owned).collect()
}

fn findings(log: &str) -> Vec<String> {
    log.lines().filter(|line| line.starts_with("FINDING ")).map(str::to_owned).collect()
}
