//! `secrets pull`: everything that is asked for is read and judged before the first file is touched. What the server says is
//! read in `outbox-secrets`, which writes the files as well.

use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use outbox_secrets::{AppRole, Change, Class, Directory, Pulled, SecretsError, Server, Wanted};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::cli;
use crate::commands::database::block_on;
use crate::commands::output::{Output, render, table};
use crate::config::model::SecretSource;
use crate::config::pulled::{self, ACCESS, PULLED_FILE, PulledConfig, PulledFile};
use crate::exit::{Exit, Failure};
use crate::secrets::{self, Content};

/// Between two tries: long enough for a server that starts, short enough not to be noticed by who waits.
const PAUSE: Duration = Duration::from_secs(1);

/// Put secrets of OpenBao or Vault into files
///
/// Logs in by AppRole, reads each path once, revokes the token, and replaces the files that differ, each by a rename; either
/// all that differ, or none. A daemon that runs takes them up by itself. No secret is an argument, in the environment or shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 a directory or file cannot be written, or others can write the directory; 64 wrong words; \
65 a secret is not what its file must hold, or an answer is not understood; 66 no such path or field; 69 the server cannot be reached, \
is sealed or too busy; 77 the login, or a read, is refused; 78 the file that says what to pull is refused, or the server's certificate \
is not trusted."
)]
pub(crate) struct Pull {
    /// The directory for the files; it must be there, and nobody but its owner may write it
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The file that says what is pulled from where; see packaging/secrets.example.toml
    #[arg(long, value_name = "FILE", env = "OUTBOXD_SECRETS", hide_env_values = true, default_value = PULLED_FILE)]
    config: PathBuf,
    /// Say which files would change, and change none
    #[arg(long)]
    dry_run: bool,
    /// How long to try again while the server cannot be reached, is sealed or too busy, and a file is not there yet
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Pulls.
pub(super) fn run(command: &Pull, out: &mut dyn Write) -> Result<(), Failure> {
    let address = ["BAO_ADDR", "VAULT_ADDR"].iter().find_map(|name| std::env::var(name).ok());
    let config = pulled::read(&command.config, &cli::host(), address);
    let config = config.map_err(|faults| Failure::new(Exit::BadConfiguration, faults.to_string()))?;
    let directory = Directory::open(&command.to).map_err(failure)?;
    if !command.dry_run {
        // From before the first read: a pull that is slow must not put older secrets over newer ones.
        directory.lock().map_err(failure)?;
    }
    // With all files there, nobody has to wait: a daemon goes on with them, and the next pull may find the server.
    let has_all = config.files.iter().all(|file| command.to.join(&file.name).exists());
    let wait = if has_all { Duration::ZERO } else { command.wait };
    let Pulled { texts, revoked } = block_on(asked(&config, wait))?;
    if let Err(error) = &revoked {
        writeln!(stderr(), "warning: the token of the login stays valid until its time is over: {error}")?;
    }
    let texts = texts.map_err(failure)?;
    let files: Vec<(&PulledFile, &SecretString)> = config.files.iter().zip(&texts).collect();
    judge(&files)?;
    let named: Vec<(&str, &SecretString)> = files.iter().map(|(file, text)| (file.name.as_str(), *text)).collect();
    let changes = if command.dry_run {
        named.iter().map(|(name, text)| directory.compare(name, text)).collect()
    } else {
        directory.put(&named)
    };
    show(command, &config, &changes.map_err(failure)?, revoked.is_ok(), out)
}

/// Asks the server, again and again while it is only not there.
async fn asked(config: &PulledConfig, wait: Duration) -> Result<Pulled, Failure> {
    let ca_pem = config.ca_file.as_deref();
    let ca_pem = ca_pem.map(|path| secrets::read_bytes(path, Content::Public, ACCESS)).transpose();
    let server = Server {
        address: config.address.clone(),
        ca_pem: ca_pem.map_err(|error| Failure::new(Exit::NoInput, error.to_string()))?,
        namespace: config.namespace.clone(),
        timeout: config.timeout,
    };
    let wanted: Vec<Wanted> = config.files.iter().map(|file| file.wanted.clone()).collect();
    let (began, mut said) = (Instant::now(), String::new());
    loop {
        let pulled = outbox_secrets::pull(&server, &role(config)?, &wanted).await;
        let passing = match &pulled {
            Ok(Pulled { texts: Err(error), .. }) | Err(error) if error.class() == Class::Transient => error.to_string(),
            _ => return pulled.map_err(failure),
        };
        if began.elapsed() + PAUSE > wait {
            return pulled.map_err(failure);
        }
        if passing != said {
            writeln!(stderr(), "waiting: {passing}")?;
            said = passing;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As whom to log in, by the files as they are now.
fn role(config: &PulledConfig) -> Result<AppRole, Failure> {
    let read = |path: &PathBuf| {
        let secret = secrets::read(&SecretSource { path: path.clone() }, ACCESS);
        secret.map_err(|error| Failure::new(Exit::NoInput, error.to_string()))
    };
    let (role_id, secret_id) = (read(&config.role_id)?, read(&config.secret_id)?);
    Ok(AppRole { mount: config.approle_mount.clone(), role_id, secret_id })
}

/// Whether the daemon would take every one of them. One that it refuses would stop a rail, or the next start.
fn judge(files: &[(&PulledFile, &SecretString)]) -> Result<(), Failure> {
    let by_name: BTreeMap<&str, &SecretString> = files.iter().map(|(file, text)| (file.name.as_str(), *text)).collect();
    let fault_of = |(file, text): &(&PulledFile, &SecretString)| {
        let certificate = file.key_of.as_deref().and_then(|of| by_name.get(of)).map(|text| text.expose_secret());
        let fault = file.judge(text.expose_secret(), certificate).err()?;
        Some(format!("{}, field {}, for {}: {fault}", file.wanted.place, file.wanted.field, file.name))
    };
    let faults: Vec<String> = files.iter().filter_map(fault_of).collect();
    if faults.is_empty() { Ok(()) } else { Err(Failure::new(Exit::BadData, faults.join("\n"))) }
}

fn show(
    command: &Pull,
    config: &PulledConfig,
    changes: &[Change],
    revoked: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let word = |change: &Change| match change {
        Change::Created => "created",
        Change::Replaced => "replaced",
        Change::Unchanged => "unchanged",
    };
    let lines = config.files.iter().zip(changes);
    match command.output {
        Output::Json => {
            let files = lines.map(|(file, change)| {
                let PulledFile { name, wanted, .. } = file;
                json!({"file": name, "path": wanted.place.to_string(), "field": wanted.field, "change": word(change)})
            });
            let files: Vec<_> = files.collect();
            let to = command.to.display().to_string();
            let answer = json!({"dry_run": command.dry_run, "to": to, "token_revoked": revoked, "files": files});
            Ok(writeln!(out, "{answer}")?)
        }
        Output::Table => {
            let mut shown = table(&["FILE", "PATH", "FIELD", "CHANGE"], 4);
            for (file, change) in lines {
                shown.add_row([&file.name, &file.wanted.place.to_string(), &file.wanted.field, word(change)]);
            }
            write!(out, "{}", render(&shown))?;
            let changed = changes.iter().filter(|change| **change != Change::Unchanged).count();
            let done = if command.dry_run { "would change: nothing was written" } else { "changed" };
            Ok(writeln!(out, "{changed} of {} files {done}", changes.len())?)
        }
    }
}

fn failure(error: SecretsError) -> Failure {
    let exit = match error.class() {
        Class::Transient => Exit::Unavailable,
        Class::Refused => Exit::WrongLogin,
        Class::Missing => Exit::NoInput,
        Class::Unfit => Exit::BadData,
        Class::Misconfigured => Exit::BadConfiguration,
        Class::Local => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}
