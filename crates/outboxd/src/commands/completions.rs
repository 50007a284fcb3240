//! `outboxd completions`: a completion script for a shell. Installing it is left to the packager.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Failure;

/// The shell to complete in.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Writes the script.
pub(crate) fn run(command: &Completions, out: &mut dyn Write) -> Result<(), Failure> {
    // The generator panics if it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "outboxd", &mut script);
    Ok(out.write_all(&script)?)
}
