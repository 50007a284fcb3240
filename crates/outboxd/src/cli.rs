//! The command line: its words, and which command each leads to. What a command does is in
//! `commands`, one file each.

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::config::{CONFIG_FILE, Host, Sources};
use crate::exit::{Exit, Failure};
use crate::logging;

/// Dispatches payments from a Postgres outbox to their rails.
#[derive(Debug, Parser)]
#[command(name = "outboxd", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Dispatch payments until SIGTERM or SIGINT
    Run(commands::run::Run),
    /// Check the configuration, files of secrets included, and show the values in force
    CheckConfig(commands::check_config::CheckConfig),
    /// Write a completion script for a shell to standard output
    Completions(commands::completions::Completions),
    /// Record payments from lines of JSON or a directory of messages
    Enqueue(commands::enqueue::Enqueue),
    /// Show everything known of a payment, as a timeline
    Inspect(commands::inspect::Inspect),
    /// Write manual pages
    Man(commands::man::Man),
    /// Apply the migrations that are missing, and make the partitions of the coming months
    Migrate(commands::migrate::Migrate),
    /// Show and set the contracts of rails; for development
    #[command(subcommand)]
    Rail(commands::rail::Rail),
    /// Show where the payments of each rail are
    Status(commands::status::Status),
}

impl Command {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Run(command) => commands::run::run(&command),
            Self::CheckConfig(command) => commands::check_config::run(&command, out),
            Self::Completions(command) => commands::completions::run(&command, out),
            Self::Enqueue(command) => commands::enqueue::run(&command, out),
            Self::Inspect(command) => commands::inspect::run(&command, out),
            Self::Man(command) => commands::man::run(&command, out),
            Self::Migrate(command) => commands::migrate::run(&command, out),
            Self::Rail(command) => commands::rail::run(&command, out),
            Self::Status(command) => commands::status::run(&command, out),
        }
    }
}

/// Where a command finds its configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(
        long,
        visible_alias = "file",
        value_name = "FILE",
        env = "OUTBOXD_CONFIG",
        hide_env_values = true,
        default_value = CONFIG_FILE
    )]
    config: PathBuf,
    /// Set one key over the file and the environment, such as dispatcher.poll_max=2s
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Accept a database that may forget a commit; for throw-away databases only
    #[arg(long)]
    allow_unsafe_durability: bool,
}

impl ConfigArgs {
    /// The sources named, with this process's environment and host.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let mut assignments = self.assignments.clone();
        if self.allow_unsafe_durability {
            assignments.push("database.allow_unsafe_durability=true".to_owned());
        }
        let host = Host {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        };
        Sources { file: self.config.clone(), environment: std::env::vars_os().collect(), assignments, host }
    }
}

/// Runs the command that `arguments` name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Where even this cannot be written, the exit code has to do.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let mut out = stdout();
    let is_daemon = matches!(cli.command, Command::Run(_));
    let ended = cli.command.run(&mut out).and_then(|()| out.flush().map_err(Failure::from));
    match ended {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            let text = format!("error: {failure}\n");
            if is_daemon {
                logging::last_words(text);
            } else if failure.exit != Exit::Ok {
                let _ = stderr().write_all(text.as_bytes());
            }
            failure.exit.into()
        }
    }
}
