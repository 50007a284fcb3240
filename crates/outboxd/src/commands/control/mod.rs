//! What people do to payments: choosing them, showing how many and how much, asking once more, and carrying it
//! out. What an action does is decided in the database, by two people where it has to be.

pub(crate) mod act;
pub(crate) mod decide;
pub(crate) mod failover;
pub(crate) mod list;
pub(crate) mod pause;
mod pending;
pub(crate) mod revoke;
pub(crate) mod select;
pub(crate) mod show;

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin};

use clap::Args;
use outbox_store::Session;

use super::database::{DatabaseArgs, block_on};
use super::output::Output;
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};

/// The exit codes, alike for every command that changes something.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, or proposed; 1 some payments were skipped; 64 wrong words, or not confirmed; \
65 refused, with why; 66 no such action, payment or file; 69 no database; 76 no schema that this version knows; 77 the login is refused or may not do it.";

/// What every change has.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many are to be changed: payments, breaks, credentials, or differences of a policy; without it, a terminal is asked, except by `withdraw`
    #[arg(long, value_name = "COUNT")]
    pub(crate) confirm: Option<usize>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

impl Change {
    /// Whether a person, or `--confirm`, says that it is so many of these.
    ///
    /// # Errors
    /// Another count, or nobody to ask.
    pub(crate) fn confirmed(&self, what: &str, counted: (usize, &str)) -> Result<(), Failure> {
        confirmed(self.confirm, what, counted)
    }
}

/// Whether a person, or what was given for `--confirm`, says that it is so many of these.
///
/// # Errors
/// Another count, or nobody to ask.
pub(crate) fn confirmed(confirm: Option<usize>, what: &str, (count, of): (usize, &str)) -> Result<(), Failure> {
    let given = match confirm {
        Some(given) => given,
        None if stdin().is_terminal() && stderr().is_terminal() => asked(&format!("{what}: {count} {of}"))?,
        None => {
            let message = format!("{what}: {count} {of}; to go on, say --confirm {count}");
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    if given == count {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, format!("{what}: it is {count} {of}, not {given}: nothing was done")))
}

fn asked(what: &str) -> Result<usize, Failure> {
    write!(stderr(), "{what}. Type the number to go on: ")?;
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    line.trim().parse().map_err(|_| Failure::new(Exit::Usage, "not confirmed: nothing was done".to_owned()))
}

/// Runs `work` with a session of the person's login, and says goodbye.
pub(crate) fn with_session<T>(
    database: &DatabaseArgs,
    work: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let settings = database.settings()?.for_people();
    block_on(async {
        let mut session = Session::new(settings.into());
        let done = work(&mut session).await;
        session.close().await;
        done
    })
}

/// The answer of the store, or the end of the command.
pub(crate) fn or_end<T>(answer: Result<T, outbox_store::StoreError>) -> Result<T, Failure> {
    answer.map_err(|error| store_failure(&error))
}
