//! `outboxd status`: where the payments of each rail are, and which wait for another, once or again and again. It
//! reads, and it judges only one thing: that partitions for the coming months are there.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use clap::Args;
use outbox_core::Millis;
use outbox_store::{BlockedKey, RailStatus, Session, read_blocked_keys, read_status};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::database::{DatabaseArgs, block_on};
use super::output::{Output, age, printable, render, table, utc};
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};
use crate::shutdown;

/// Each look reads the whole queue; more often would load the database for no person's benefit.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// A watch is not to hang for ever on a connection whose other end is gone; it connects again.
const WATCH_CALL_TIMEOUT: Millis = Millis(30_000);

/// Half of what each `migrate` makes: below it, nobody has run one for a year. Below zero, this month has no partition
/// and enqueueing fails.
pub(super) const HEADROOM_MIN_MONTHS: i32 = 12;

/// The ordering keys that are shown, the worst first; more of them nobody reads.
const BLOCKED_KEYS_MAX: i32 = 20;

/// Clears a terminal and goes to its top left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What is shown.
#[derive(Debug, Args)]
#[command(
    after_help = "due: could be claimed now. waiting: not before a later time. in doubt: may have been executed, \
lost leases included, and not held. held: waits for a person. parked: behind another of its \
ordering key. late successes: pending, though the rail said yes to a \
worker that had lost its lease. dispatched, failed: of the payments enqueued since --since. failed but accepted: \
ended without success, of all time, though the rail said later that it had accepted them: ask it. accepted twice: the \
rail gave more than one reference for a payment, of all time: outboxd audit names each.\n\
Below: the ordering keys under which payments wait for an earlier one, held ones first, with how many wait and their \
money in minor units.\n\
Exit codes: 0 done; 64 wrong words; 69 no database; 76 no schema that this version knows; 77 the login is refused or \
may not do it."
)]
pub(crate) struct Status {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Look again every 2 s until interrupted
    #[arg(long)]
    watch: bool,
    /// Count dispatched and failed payments that were enqueued in this time, or `all`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_since)]
    since: Since,
    /// The form of the answer; with --watch, a line of JSON for each look
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How far back payments are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// To the beginning.
    All,
    /// As long as this.
    Last(Duration),
}

fn parse_since(text: &str) -> Result<Since, String> {
    match text {
        "all" => Ok(Since::All),
        length => humantime::parse_duration(length).map(Since::Last).map_err(|error| error.to_string()),
    }
}

impl Since {
    fn from(self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        match self {
            Self::All => None,
            // Longer ago than time goes back is the beginning.
            Self::Last(length) => time::Duration::try_from(length).ok().and_then(|length| now.checked_sub(length)),
        }
    }
}

/// Shows it.
pub(crate) fn run(command: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let mut settings = command.database.settings()?.for_people();
    if command.watch {
        settings.call_timeout = WATCH_CALL_TIMEOUT;
    }
    block_on(async {
        let mut session = Session::new(settings.into());
        if command.watch {
            return watch(command, &mut session, out).await;
        }
        let now = OffsetDateTime::now_utc();
        let seen = look(command, &mut session, now).await?;
        show(command, &seen, now, out)?;
        warn(headroom_warning(&seen.rails).as_deref());
        session.close().await;
        Ok(())
    })
}

async fn watch(command: &Status, session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(shutdown::requested()?);
    let mut warned = None;
    loop {
        let now = OffsetDateTime::now_utc();
        let looked = tokio::select! {
            looked = look(command, session, now) => looked,
            _ = &mut stop => return Ok(()),
        };
        match looked {
            Ok(seen) => {
                if command.output == Output::Table && stdout().is_terminal() {
                    out.write_all(CLEAR.as_bytes())?;
                }
                show(command, &seen, now, out)?;
                let warning = headroom_warning(&seen.rails);
                if warning != warned {
                    warn(warning.as_deref());
                    warned = warning;
                }
            }
            // Whoever watches wants to see the database come back.
            Err(failure) if failure.exit == Exit::Unavailable => warn(Some(&failure.message)),
            Err(failure) => return Err(failure),
        }
        out.flush()?;
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            _ = &mut stop => return Ok(()),
        }
    }
}

/// What one look saw.
struct Seen {
    rails: Vec<RailStatus>,
    blocked: Vec<BlockedKey>,
}

async fn look(command: &Status, session: &mut Session, now: OffsetDateTime) -> Result<Seen, Failure> {
    let seen = async {
        let rails = read_status(session, command.since.from(now)).await?;
        Ok(Seen { rails, blocked: read_blocked_keys(session, BLOCKED_KEYS_MAX).await? })
    };
    seen.await.map_err(|error| store_failure(&error))
}

fn headroom_warning(rails: &[RailStatus]) -> Option<String> {
    let months = rails.iter().map(|rail| rail.partition_headroom_months).min()?;
    (months < HEADROOM_MIN_MONTHS).then(|| {
        format!(
            "partitions exist for {months} months ahead, less than {HEADROOM_MIN_MONTHS}: run outboxd migrate, \
             which makes them; without them payments cannot be enqueued"
        )
    })
}

fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        // Nothing can be done for a reader who has closed the stream of warnings.
        let _ = writeln!(stderr().lock(), "warning: {warning}");
    }
}

fn show(command: &Status, seen: &Seen, now: OffsetDateTime, out: &mut dyn Write) -> Result<(), Failure> {
    let since = command.since.from(now);
    match command.output {
        Output::Json => {
            let rails: Vec<Value> = seen.rails.iter().map(rail_json).collect();
            let blocked: Vec<Value> = seen.blocked.iter().map(blocked_json).collect();
            let whole = json!({"at": utc(now), "since": since.map(utc), "rails": rails, "blocked_keys": blocked});
            writeln!(out, "{whole}")?;
        }
        Output::Table => {
            let since = since.map_or_else(|| "the beginning".to_owned(), utc);
            writeln!(out, "at {}; dispatched and failed since {since}", utc(now))?;
            out.write_all(rail_table(&seen.rails).as_bytes())?;
            if !seen.blocked.is_empty() {
                writeln!(out)?;
                out.write_all(blocked_table(&seen.blocked, now).as_bytes())?;
            }
        }
    }
    Ok(())
}

fn rail_table(rails: &[RailStatus]) -> String {
    let header = [
        "rail",
        "due",
        "oldest due",
        "waiting",
        "in flight",
        "in doubt",
        "oldest doubt",
        "held",
        "parked",
        "late successes",
        "dispatched",
        "failed",
        "failed but accepted",
        "accepted twice",
        "claims",
    ];
    let mut rows = table(&header, 1);
    for rail in rails {
        let count = |count: i64| count.to_string();
        rows.add_row([
            rail.rail.clone(),
            count(rail.due),
            rail.oldest_due.map_or_else(|| "-".to_owned(), age),
            count(rail.waiting),
            count(rail.in_flight),
            count(rail.in_doubt),
            rail.oldest_in_doubt.map_or_else(|| "-".to_owned(), age),
            count(rail.held),
            count(rail.parked),
            count(rail.late_successes),
            count(rail.dispatched),
            count(rail.failed),
            count(rail.failed_but_accepted),
            count(rail.accepted_twice),
            if rail.paused { "PAUSED" } else { "on" }.to_owned(),
        ]);
    }
    render(&rows)
}

fn blocked_table(blocked: &[BlockedKey], now: OffsetDateTime) -> String {
    let mut rows = table(&["rail", "ordering key", "first", "state", "since", "waiting for it", "their money"], 5);
    for key in blocked {
        // One that has just ended lets the next go on.
        let state = key.disposition.as_deref().unwrap_or("ENDED");
        let state = key.hold_reason.as_deref().map_or_else(|| state.to_owned(), |reason| format!("{state} {reason}"));
        let since = key.first_enqueued_at.and_then(|at| Duration::try_from(now - at).ok());
        let money: Vec<String> = money(key).iter().map(|(currency, amount)| format!("{amount} {currency}")).collect();
        rows.add_row([
            key.rail.clone(),
            printable(&key.ordering_key),
            key.first.to_string(),
            state,
            since.map_or_else(|| "-".to_owned(), |since| age(since.into())),
            key.blocked.to_string(),
            if money.is_empty() { "-".to_owned() } else { money.join(", ") },
        ]);
    }
    render(&rows)
}

/// The sums in minor units by currency.
fn money(key: &BlockedKey) -> serde_json::Map<String, Value> {
    serde_json::from_str(&key.amounts).unwrap_or_default()
}

fn blocked_json(key: &BlockedKey) -> Value {
    json!({
        "rail": key.rail,
        "ordering_key": key.ordering_key,
        "first_outbox_id": key.first.to_string(),
        "disposition": key.disposition,
        "hold_reason": key.hold_reason,
        "first_enqueued_at": key.first_enqueued_at.map(utc),
        "blocked": key.blocked,
        "amounts": money(key),
    })
}

fn rail_json(rail: &RailStatus) -> Value {
    json!({
        "rail": rail.rail,
        "paused": rail.paused,
        "due": rail.due,
        "oldest_due_ms": rail.oldest_due.map(|age| age.0),
        "waiting": rail.waiting,
        "in_flight": rail.in_flight,
        "in_doubt": rail.in_doubt,
        "oldest_in_doubt_ms": rail.oldest_in_doubt.map(|age| age.0),
        "held": rail.held,
        "parked": rail.parked,
        "late_successes": rail.late_successes,
        "dispatched": rail.dispatched,
        "failed": rail.failed,
        "failed_but_accepted": rail.failed_but_accepted,
        "accepted_twice": rail.accepted_twice,
        "partition_headroom_months": rail.partition_headroom_months,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn since_is_a_length_of_time_or_all() {
        let now = datetime!(2026-02-01 00:00 UTC);
        let from = |text| parse_since(text).map(|since| since.from(now));
        assert_eq!(from("24h"), Ok(Some(datetime!(2026-01-31 00:00 UTC))));
        assert_eq!(from("all"), Ok(None));
        assert_eq!(from("20000years"), Ok(None));
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn too_few_months_of_partitions_are_warned_of() {
        let rail = |months| RailStatus {
            rail: "r".to_owned(),
            paused: false,
            due: 0,
            waiting: 0,
            in_flight: 0,
            in_doubt: 0,
            held: 0,
            parked: 0,
            late_successes: 0,
            dispatched: 0,
            failed: 0,
            failed_but_accepted: 0,
            accepted_twice: 0,
            oldest_due: None,
            oldest_in_doubt: None,
            partition_headroom_months: months,
        };
        assert_eq!(headroom_warning(&[rail(12)]), None);
        assert_eq!(headroom_warning(&[]), None);
        assert!(headroom_warning(&[rail(11)]).is_some_and(|warning| warning.contains("11 months")));
    }
}
