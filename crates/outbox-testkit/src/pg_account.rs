//! Which account runs a test server: the server refuses root, so a test run as root lends it another.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use crate::TestkitError;
use crate::error::io_context;

/// Which account runs the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ServerAccount {
    /// This process is unprivileged: its own.
    Own,
    /// This process is root: `postgres`, or `nobody` where no package has created that.
    Unprivileged { uid: u32, gid: u32 },
}

impl ServerAccount {
    pub(crate) fn of_this_process() -> Result<Self, TestkitError> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        let accounts = fs::read_to_string("/etc/passwd").map_err(io_context("read the list of accounts"))?;
        let named = |name: &str| accounts.lines().find_map(|line| account_named(name, line));
        named("postgres").or_else(|| named("nobody")).ok_or(TestkitError::NoAccount)
    }

    pub(crate) fn give(self, path: &Path) -> Result<(), TestkitError> {
        match self {
            Self::Own => Ok(()),
            Self::Unprivileged { uid, gid } => chown(path, Some(uid), Some(gid))
                .map_err(io_context("give a directory to the account of a test server")),
        }
    }

    pub(crate) fn wrap(self, command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let mut wrapped: Vec<OsString> = match self {
            Self::Own => Vec::new(),
            Self::Unprivileged { uid, gid } => vec![
                "setpriv".into(),
                format!("--reuid={uid}").into(),
                format!("--regid={gid}").into(),
                "--clear-groups".into(),
            ],
        };
        wrapped.extend(command);
        wrapped
    }

    pub(crate) fn run_initdb(self, bin_dir: &Path, data: &Path) -> Result<(), TestkitError> {
        let initdb = [bin_dir.join("initdb").into_os_string(), "-D".into(), data.into()];
        let mut command = self.wrap(initdb);
        // No sync of the empty cluster: what the tests write later is synced by the server.
        command.extend(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"].map(OsString::from));
        let output = Command::new(&command[0])
            .args(&command[1..])
            .current_dir("/")
            .output()
            .map_err(io_context(format!("run {}", command[0].display())))?;
        if output.status.success() {
            return Ok(());
        }
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Err(TestkitError::Command { what: "initdb".to_owned(), output: text })
    }
}

/// Reads one line of the list of accounts.
fn account_named(name: &str, line: &str) -> Option<ServerAccount> {
    let mut fields = line.split(':');
    let matches = fields.next() == Some(name);
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    matches.then_some(ServerAccount::Unprivileged { uid, gid })
}
