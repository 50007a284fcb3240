//! `outboxd man`: manual pages, made from the same words as `--help`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use crate::cli::Cli;
use crate::exit::Failure;

/// Where the pages go.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write outboxd.1 and a page for each command into this directory, instead of outboxd.1 to standard output
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// Writes the pages.
pub(crate) fn run(command: &Man, out: &mut dyn Write) -> Result<(), Failure> {
    let root = Cli::command();
    match &command.out {
        None => Page::new(root).render(out)?,
        Some(directory) => clap_mangen::generate_to(root, directory)?,
    }
    Ok(())
}
