//! Runs one command with a private Postgres server beside it: `testkit-pg VERSION COMMAND [ARG...]`.
//! The command finds the server through its environment, and its exit code becomes ours. Test runners
//! that start a process per test would otherwise start a server per test.

use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use outbox_testkit::{ChildGuard, HOST_VARIABLE, PORT_VARIABLE, PgServer, PgVersion};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(reason) => {
            let _ = writeln!(std::io::stderr().lock(), "testkit-pg: {reason}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: testkit-pg VERSION COMMAND [ARG...]";
    let version = arguments.next().and_then(|text| text.into_string().ok()).ok_or(usage)?;
    let program = arguments.next().ok_or(usage)?;
    let server = PgServer::start(PgVersion::parse(&version, "VERSION")?)?;
    let mut command = ChildGuard::spawn(Path::new(&program), Path::new("/dev/null"), |command| {
        command.args(arguments).stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        command.env(HOST_VARIABLE, server.socket_dir()).env("OUTBOXD_TEST_PG", &version);
        command.env_remove(PORT_VARIABLE);
    })?;
    let status = command.child().wait()?;
    // A command ended by a signal has no code of its own.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
