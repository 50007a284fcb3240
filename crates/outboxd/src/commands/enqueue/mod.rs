//! `outboxd enqueue`: records payments from a file of lines, standard input or a directory of message
//! files. It reads and sends; what a payment may be is the database's decision.

mod batches;
mod directory;
pub(crate) mod fault;
mod fields;
pub(crate) mod ndjson;
mod progress;
mod retry;

use std::fs::File;
use std::io::{BufReader, Write, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use outbox_core::{Millis, RailName};
use outbox_store::{NewPayment, Session, read_payment_rails};
use serde_json::json;

use super::database::{DatabaseArgs, block_on};
use super::output::Output;
use super::rail::parse_rail;
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};
use batches::{Batches, Counts};
use directory::{Directory, Letter};
use fault::Fault;
use ndjson::{Defaults, Lines};
use progress::Progress;

/// The most bytes that one payment may have; the database refuses more as well.
const PAYLOAD_MAX_BYTES: usize = 1_048_576;

/// Shown of a bad file; whoever made it wrong a hundred times needs no hundred lines.
const FAULTS_SHOWN_MAX: usize = 20;

/// A batch over a slow line has this long; its statement and its locks less, so that the server gives up first.
const CALL_TIMEOUT: Millis = Millis(60_000);
const STATEMENT_TIMEOUT: Millis = Millis(45_000);
const LOCK_TIMEOUT: Millis = Millis(30_000);

/// What is recorded.
#[derive(Debug, Args)]
#[command(after_help = "A line is a JSON object: participant_id (or --participant), instruction_id, idempotency_key \
(instruction_id if it is not there), rail (or --rail), payload (text, sent as its UTF-8 bytes) or payload_base64 (any \
bytes), content_type (or --content-type), amount_minor and currency, not_before, not_after (RFC 3339), ordering_key, traceparent, \
attestation_id (of the request's record_ingress_attestation). \
What a line says goes before the option.\n\n\
A directory has one payment a file, in the order of the names, sent byte for byte; hidden files are left out. The \
instruction and the key are the name without its last extension (STEM). STEM.json beside it has amount_minor and \
currency, and may have not_before, not_after, ordering_key, traceparent and attestation_id; it may be missing if the contract of the rail requires \
no amount.\n\n\
It is safe to repeat after any end: what is recorded is not recorded twice.\n\n\
Exit codes: 0 all is recorded; 64 wrong words; 65 bad data, named by file and line; 66 the input cannot be read; 69 no \
database, or none for long enough; 76 no schema that this version knows; 77 the login is refused or may not do it.")]
pub(crate) struct Enqueue {
    /// A file with a payment a line (NDJSON), `-` for standard input, or a directory of messages
    #[arg(value_name = "FILE|-|DIR")]
    input: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The rail; a directory needs it
    #[arg(long, value_name = "NAME", value_parser = parse_rail)]
    rail: Option<RailName>,
    /// Who pays; a directory needs it
    #[arg(long, value_name = "PARTICIPANT")]
    participant: Option<String>,
    /// The media type; in a directory, .xml and .json have their own, and others application/octet-stream
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Payments in one transaction; input that never ends is recorded a whole batch at a time
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch_size: u16,
    /// The form of the summary
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// A payment, and where it was found.
pub(crate) struct Located {
    place: String,
    pub(crate) payment: NewPayment,
}

/// Payments in order, or why one of them is none.
type Payments = Box<dyn Iterator<Item = Result<Located, Fault>>>;

/// Records them.
pub(crate) fn run(command: &Enqueue, out: &mut dyn Write) -> Result<(), Failure> {
    let mut settings = command.database.settings()?.for_people();
    settings.call_timeout = CALL_TIMEOUT;
    settings.statement_timeout = STATEMENT_TIMEOUT;
    settings.lock_timeout = LOCK_TIMEOUT;
    block_on(async {
        let mut session = Session::new(settings.into());
        let (payments, progress) = open(command, &mut session).await?;
        let mut batches = Batches::new(session, command.batch_size, progress);
        let ended = record(command, payments, &mut batches).await;
        let counts = batches.close().await;
        summarise(command.output, counts, out)?;
        ended.map_err(|failure| with_counts(failure, counts))
    })
}

async fn open(command: &Enqueue, session: &mut Session) -> Result<(Payments, Progress), Failure> {
    let path = &command.input;
    if path == Path::new("-") {
        let progress = Progress::of_unknown_length();
        return Ok((Box::new(Lines::new(stdin().lock(), "standard input".to_owned(), defaults(command))), progress));
    }
    let unreadable = |error: std::io::Error| Failure::new(Exit::NoInput, format!("{}: {error}", path.display()));
    if path.metadata().map_err(unreadable)?.is_dir() {
        return open_directory(command, session).await;
    }
    let file = File::open(path).map_err(unreadable)?;
    let progress = Progress::of_bytes(file.metadata().map_err(unreadable)?.len());
    let lines = BufReader::new(progress.watching(file));
    Ok((Box::new(Lines::new(lines, path.display().to_string(), defaults(command))), progress))
}

fn defaults(command: &Enqueue) -> Defaults {
    Defaults {
        participant_id: command.participant.clone(),
        rail: command.rail.clone(),
        content_type: command.content_type.clone(),
    }
}

async fn open_directory(command: &Enqueue, session: &mut Session) -> Result<(Payments, Progress), Failure> {
    let (Some(rail), Some(participant_id)) = (command.rail.clone(), command.participant.clone()) else {
        return Err(Failure::new(Exit::Usage, "a directory needs --rail and --participant"));
    };
    let contracts = retry::patiently(session, async |session| read_payment_rails(session).await).await;
    let (contracts, _) = contracts.map_err(|error| store_failure(&error))?;
    let Some(contract) = contracts.into_iter().find(|row| row.rail == rail) else {
        return Err(Failure::new(Exit::BadData, format!("rail {rail} has no contract: an operator sets it")));
    };
    let letter = Letter {
        participant_id,
        rail,
        content_type: command.content_type.clone(),
        amount_required: contract.amount_required,
    };
    let directory = Directory::open(&command.input, letter).map_err(|faults| refused(&faults))?;
    let progress = Progress::of_payments(directory.len());
    Ok((Box::new(directory), progress))
}

/// Sends batch after batch. After a fault nothing more is sent; a file is read on for other faults.
async fn record(command: &Enqueue, payments: Payments, batches: &mut Batches) -> Result<(), Failure> {
    let ends = command.input != Path::new("-");
    let mut faults = Vec::new();
    for found in payments {
        match found {
            Ok(located) if faults.is_empty() => batches.push(located).await?,
            Ok(_) => {}
            Err(fault) => {
                let last = !ends || !fault.is_in_data();
                faults.push(fault);
                if last || faults.len() == FAULTS_SHOWN_MAX {
                    break;
                }
            }
        }
    }
    if faults.is_empty() { batches.send().await } else { Err(refused(&faults)) }
}

fn refused(faults: &[Fault]) -> Failure {
    let exit = if faults.iter().all(Fault::is_in_data) { Exit::BadData } else { Exit::NoInput };
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let more = if faults.len() == FAULTS_SHOWN_MAX { "\nand perhaps more" } else { "" };
    Failure::new(exit, format!("{}{more}", lines.join("\n")))
}

fn with_counts(failure: Failure, counts: Counts) -> Failure {
    let Counts { enqueued, already_recorded, .. } = counts;
    let message = format!(
        "{}\n{enqueued} payments enqueued, {already_recorded} already recorded, the rest not; \
         it is safe to repeat the command: what is recorded is not recorded twice",
        failure.message
    );
    Failure::new(failure.exit, message)
}

fn summarise(output: Output, counts: Counts, out: &mut dyn Write) -> Result<(), Failure> {
    let Counts { enqueued, already_recorded, repeated_batches } = counts;
    match output {
        Output::Table => {
            writeln!(out, "enqueued          {enqueued}")?;
            writeln!(out, "already recorded  {already_recorded}")?;
            if repeated_batches > 0 {
                writeln!(
                    out,
                    "batches repeated  {repeated_batches} (of these, `already recorded` may be from this run)"
                )?;
            }
        }
        Output::Json => {
            let counts = json!({
                "enqueued": enqueued, "already_recorded": already_recorded, "repeated_batches": repeated_batches
            });
            writeln!(out, "{counts}")?;
        }
    }
    Ok(())
}
