//! The command line: its words, and which command each leads to. What a command does is in
//! `commands`, one file each.

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands::{self, control};
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
    /// Go on with an action that is approved, or needs no approval
    Apply(commands::control::decide::Apply),
    /// Approve an action of another person, and carry it out
    Approve(commands::control::decide::Approve),
    /// Look whether a promise is broken
    Audit(commands::audit::Audit),
    /// End payments that were certainly never sent
    Cancel(commands::control::act::Cancel),
    /// Check the configuration, files of secrets included, and show the values in force
    CheckConfig(commands::check_config::CheckConfig),
    /// Write a completion script for a shell to standard output
    Completions(commands::completions::Completions),
    /// Look for what keeps payments from being sent
    Doctor(commands::doctor::Doctor),
    /// Record payments from lines of JSON or a directory of messages
    Enqueue(commands::enqueue::Enqueue),
    /// Collect and verify the evidence of an audit
    #[command(subcommand)]
    Evidence(commands::evidence::Evidence),
    /// Acknowledge a failover, a restore or a copy
    #[command(subcommand)]
    Failover(commands::control::failover::Failover),
    /// Keep payments from being sent
    Hold(commands::control::act::Hold),
    /// Show everything known of a payment, as a timeline
    Inspect(commands::inspect::Inspect),
    /// List payments, the payments of an action, or actions
    List(commands::control::list::List),
    /// Write manual pages
    Man(commands::man::Man),
    /// Apply the migrations that are missing, and make the partitions of the coming months
    Migrate(commands::migrate::Migrate),
    /// Make, list and detach the partitions of months
    #[command(subcommand)]
    Partitions(commands::partitions::Partitions),
    /// Stop sending: everything, a rail, a participant
    Pause(commands::control::pause::Pause),
    /// Propose, approve and put in force the decisions about money
    #[command(subcommand)]
    Policy(commands::policy::Policy),
    /// Show the contracts of rails, and set them where no policy is active; for development
    #[command(subcommand)]
    Rail(commands::rail::Rail),
    /// Compare a statement of a rail with what was dispatched
    Reconcile(commands::reconcile::Reconcile),
    /// Propose that ended payments are paid again, under new keys
    Redrive(commands::control::act::Redrive),
    /// Turn an action of another person down
    Reject(commands::control::decide::Reject),
    /// Propose that held payments are sent
    Release(commands::control::act::Release),
    /// Propose how payments in doubt have ended
    Resolve(commands::control::act::Resolve),
    /// Let go on what was paused
    Resume(commands::control::pause::Pause),
    /// Put credentials on the deny list: client certificates, tokens, keys
    #[command(subcommand)]
    Revoke(commands::control::revoke::Revoke),
    /// Make waiting payments due now
    RetryNow(commands::control::act::RetryNow),
    /// Put secrets of OpenBao or Vault into files
    #[command(subcommand)]
    Secrets(commands::secrets::Secrets),
    /// Show where the payments of each rail are
    Status(commands::status::Status),
    /// Take back an action of your own that nobody has decided on
    Withdraw(commands::control::decide::Withdraw),
}

impl Command {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Run(command) => commands::run::run(&command),
            Self::Apply(command) => control::decide::apply(&command, out),
            Self::Approve(command) => control::decide::approve(&command, out),
            Self::Audit(command) => commands::audit::run(&command, out),
            Self::Cancel(command) => control::act::run(&command, out),
            Self::Failover(command) => control::failover::run(&command, out),
            Self::Hold(command) => control::act::run(&command, out),
            Self::List(command) => control::list::run(&command, out),
            Self::Pause(command) => control::pause::run(&command, true, out),
            Self::Redrive(command) => control::act::run(&command, out),
            Self::Reject(command) => control::decide::reject(&command, out),
            Self::Release(command) => control::act::run(&command, out),
            Self::Resolve(command) => control::act::run(&command, out),
            Self::Resume(command) => control::pause::run(&command, false, out),
            Self::Revoke(command) => control::revoke::run(&command, out),
            Self::RetryNow(command) => control::act::run(&command, out),
            Self::Withdraw(command) => control::decide::withdraw(&command, out),
            Self::CheckConfig(command) => commands::check_config::run(&command, out),
            Self::Completions(command) => commands::completions::run(&command, out),
            Self::Doctor(command) => commands::doctor::run(&command, out),
            Self::Enqueue(command) => commands::enqueue::run(&command, out),
            Self::Evidence(command) => commands::evidence::run(&command, out),
            Self::Inspect(command) => commands::inspect::run(&command, out),
            Self::Man(command) => commands::man::run(&command, out),
            Self::Migrate(command) => commands::migrate::run(&command, out),
            Self::Policy(command) => commands::policy::run(&command, out),
            Self::Partitions(command) => commands::partitions::run(&command, out),
            Self::Rail(command) => commands::rail::run(&command, out),
            Self::Reconcile(command) => commands::reconcile::run(&command, out),
            Self::Secrets(command) => commands::secrets::run(&command, out),
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
        Sources { file: self.config.clone(), environment: std::env::vars_os().collect(), assignments, host: host() }
    }
}

/// What of this host a configuration depends on.
pub(crate) fn host() -> Host {
    Host {
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        // systemd.exec(5): several are separated by colons.
        state_directory: std::env::var_os("STATE_DIRECTORY").and_then(|all| std::env::split_paths(&all).next()),
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
