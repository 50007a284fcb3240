//! What people do to payments: choosing them, showing how many and how much, asking once more, and carrying it
//! out. What an action does is decided in the database, by two people where it has to be.

pub(crate) mod act;
pub(crate) mod decide;
pub(crate) mod failover;
pub(crate) mod list;
pub(crate) mod pause;
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
65 refused, with why; 69 no database; 76 no schema that this version knows; 77 the login is refused or may not do it.";

/// What every change has.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How many payments it is to be; without it, a terminal is asked
    #[arg(long, value_name = "COUNT")]
    confirm: Option<usize>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Change {
    /// Whether a person, or `--confirm`, says that it is `count` payments.
    ///
    /// # Errors
    /// Another count, or nobody to ask.
    fn confirmed(&self, what: &str, count: usize) -> Result<(), Failure> {
        confirmed(self.confirm, what, count)
    }
}

/// Whether a person, or what was given for `--confirm`, says that it is `count` payments.
///
/// # Errors
/// Another count, or nobody to ask.
pub(crate) fn confirmed(confirm: Option<usize>, what: &str, count: usize) -> Result<(), Failure> {
    confirmed_of(confirm, what, count, "payments")
}

/// The same of other things than payments.
///
/// # Errors
/// Another count, or nobody to ask.
pub(crate) fn confirmed_of(confirm: Option<usize>, what: &str, count: usize, things: &str) -> Result<(), Failure> {
    let given = match confirm {
        Some(given) => given,
        None if stdin().is_terminal() && stderr().is_terminal() => asked(what, count, things)?,
        None => {
            let message = format!("{what}: {count} {things}; to go on, say --confirm {count}");
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    if given == count {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, format!("{what}: it is {count} {things}, not {given}: nothing was done")))
}

fn asked(what: &str, count: usize, things: &str) -> Result<usize, Failure> {
    write!(stderr(), "{what}: {count} {things}. Type the number to go on: ")?;
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
