//! `outboxd evidence`: one file that says what was checked, with which result, and the fingerprints of what it was
//! checked on; and whether such a file is whole and still speaks of a tree and a database.

mod collect;
mod document;
mod fingerprint;
mod gates;
mod verify;

use std::io::Write;

use clap::Subcommand;

use crate::exit::Failure;

/// Collect and verify.
#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Write what the gates found, with the fingerprints of what they read and of the database, into one file
    Collect(collect::Collect),
    /// Look whether such a file is whole, and whether it speaks of this tree and this database
    Verify(verify::Verify),
}

/// Collects or verifies.
pub(crate) fn run(command: &Evidence, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Evidence::Collect(command) => collect::run(command, out),
        Evidence::Verify(command) => verify::run(command, out),
    }
}
