//! `outboxd secrets`: what has to do with where the files of secrets come from. The daemon does not.

mod pull;

use std::io::Write;

use clap::Subcommand;

use crate::exit::Failure;

/// What is done with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Put secrets of OpenBao or Vault into files
    Pull(pull::Pull),
}

/// Does it.
pub(crate) fn run(command: &Secrets, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Secrets::Pull(command) => pull::run(command, out),
    }
}
