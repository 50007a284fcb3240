//! One comparison: the file is read once to be checked, and once more to be recorded, so that a bad line leaves nothing.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use outbox_core::{Millis, OutboxId, RailName};
use outbox_store::{
    ActionKind, Comparison, Proposal, Session, StatementHead, StatementLine, begin_reconcile, finish_reconcile,
    propose_action, record_lines,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::statement_file::{StatementFile, Summary, file_name};
use super::{breaks, open_or_done, show};
use crate::commands::control::act::{proposal_document, show_proposal};
use crate::commands::control::select::{id_of, parse_time};
use crate::commands::control::show::money;
use crate::commands::control::{confirmed, or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::{Output, hex, utc};
use crate::commands::rail::parse_rail;
use crate::exit::{Exit, Failure};

/// Lines that one call records: some hundred kilobytes.
const BATCH: usize = 5_000;

/// One comparison.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The statement
    #[arg(long, value_name = "FILE")]
    statement: PathBuf,
    /// The rail that wrote it
    #[arg(long, value_parser = parse_rail)]
    rail: RailName,
    /// The beginning of its period (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: OffsetDateTime,
    /// The end of its period, not included, and not in the future
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: OffsetDateTime,
    /// By how much the rail's booking may lie before the first byte or after the completion
    ///
    /// A payment that may have been booked in the next period is left to the next statement.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    slack: Duration,
    /// Values of the column status that mean that money has left; may be given several times
    #[arg(long, value_name = "STATUS")]
    paid_status: Vec<String>,
    /// Record no more breaks than this
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    breaks_max: u32,
    /// Propose that payments which are held or in doubt, and paid by the statement, are resolved as dispatched
    #[arg(long)]
    propose: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Check the file, and record and compare nothing
    #[arg(long)]
    dry_run: bool,
    /// With --propose, how many payments it is to be; without it, a terminal is asked
    #[arg(long, value_name = "COUNT", requires = "propose")]
    confirm: Option<usize>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Compare {
    /// Compares.
    pub(super) fn run(&self, database: &DatabaseArgs, out: &mut dyn Write) -> Result<(), Failure> {
        let slack =
            time::Duration::try_from(self.slack).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let booked = self.from.saturating_sub(slack)..self.until.saturating_add(slack);
        let (path, paid_statuses) = (self.statement.clone(), self.paid_status.clone());
        let file = StatementFile { path, paid_statuses, booked };
        let summary = file.read(|_| Ok(()))?;
        if self.output == Output::Table {
            self.introduce(&summary, out)?;
        }
        if self.dry_run {
            return if self.output == Output::Json {
                Ok(writeln!(out, "{}", self.described(&summary))?)
            } else {
                Ok(())
            };
        }
        with_session(database, async |session| {
            let (statement_id, recorded) = or_end(begin_reconcile(session, &self.head(&summary)?).await)?;
            if recorded < summary.lines {
                record(session, statement_id, file, &summary).await?;
            }
            let compared = or_end(finish_reconcile(session, statement_id, self.breaks_max).await)?;
            let open = breaks(session, true, Some(&self.rail)).await?;
            if self.output == Output::Table {
                report(statement_id, &compared, &open, out)?;
            }
            let proposed = match self.propose {
                true => self.resolve(session, (statement_id, &summary), &open).await,
                false => Ok(None),
            };
            match (self.output, &proposed) {
                (Output::Json, _) => {
                    let proposal =
                        proposed.as_ref().ok().and_then(Option::as_ref).map(proposal_document).transpose()?;
                    writeln!(out, "{}", self.document((statement_id, &summary), &compared, &open, proposal))?;
                }
                (Output::Table, Ok(Some(proposal))) => show_proposal(proposal, self.output, out)?,
                (Output::Table, _) => {}
            }
            proposed?;
            open_or_done(open.len(), &compared.gaps)
        })
    }

    fn head(&self, summary: &Summary) -> Result<StatementHead, Failure> {
        let sums: Vec<String> = summary.sums.iter().map(|(currency, sum)| format!("\"{currency}\":{sum}")).collect();
        let slack =
            u64::try_from(self.slack.as_millis()).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        Ok(StatementHead {
            rail: self.rail.clone(),
            booked_from: self.from,
            booked_until: self.until,
            slack: Millis(slack),
            file_name: file_name(&self.statement),
            file_sha256: summary.sha256.clone(),
            line_count: summary.lines,
            lines_sha256: summary.lines_sha256.clone(),
            paid_statuses: self.paid_status.clone(),
            sums: format!("{{{}}}", sums.join(",")),
            reason: self.reason.clone(),
        })
    }

    fn described(&self, summary: &Summary) -> Value {
        let sums: serde_json::Map<String, Value> =
            summary.sums.iter().map(|(currency, sum)| (currency.clone(), sum.to_string().into())).collect();
        json!({"rail": self.rail.to_string(), "from": utc(self.from), "until": utc(self.until), "file_sha256": hex(&summary.sha256),
               "lines": summary.lines, "paid_lines": summary.paid_lines, "sums": sums, "ignored_columns": summary.ignored_columns})
    }

    fn introduce(&self, summary: &Summary, out: &mut dyn Write) -> Result<(), Failure> {
        let (from, until) = (utc(self.from), utc(self.until));
        writeln!(
            out,
            "{} from {from} until {until}: {} lines, {} of them paid{}",
            self.rail,
            summary.lines,
            summary.paid_lines,
            money(&summary.sums)
        )?;
        if !summary.ignored_columns.is_empty() {
            let names = summary.ignored_columns.join(", ").escape_debug().to_string();
            writeln!(out, "columns that were not read: {names}")?;
        }
        Ok(())
    }

    fn document(
        &self,
        (statement_id, summary): (Uuid, &Summary),
        compared: &Comparison,
        open: &[Value],
        proposal: Option<Value>,
    ) -> Value {
        let Comparison { matched, at_the_edge, before_cover, found, closed, open_breaks, gaps } = compared;
        let gaps: Vec<Value> =
            gaps.iter().map(|(from, until)| json!({"from": utc(*from), "until": utc(*until)})).collect();
        let mut whole = self.described(summary);
        let answer = json!({"statement_id": statement_id.to_string(), "matched": matched, "at_the_edge": at_the_edge,
                            "before_cover": before_cover, "found": found, "closed": closed, "open_breaks": open_breaks,
                            "gaps": gaps, "breaks": open, "proposal": proposal});
        if let (Value::Object(whole), Value::Object(answer)) = (&mut whole, answer) {
            whole.extend(answer);
        }
        whole
    }

    async fn resolve(
        &self,
        session: &mut Session,
        (statement_id, summary): (Uuid, &Summary),
        open: &[Value],
    ) -> Result<Option<Proposal>, Failure> {
        let ids = resolvable(open, statement_id)?;
        if ids.is_empty() {
            return Ok(None);
        }
        confirmed(self.confirm, ActionKind::ResolveDispatched.name(), ids.len())?;
        let evidence = format!("statement {}", hex(&summary.sha256));
        let parameters = json!({"statement_id": statement_id.to_string()}).to_string();
        let kind = ActionKind::ResolveDispatched;
        let proposed = propose_action(session, kind, &ids, &self.reason, Some(&evidence), &parameters).await;
        or_end(proposed).map(Some)
    }
}

/// What was compared, for people.
fn report(statement_id: Uuid, compared: &Comparison, open: &[Value], out: &mut dyn Write) -> Result<(), Failure> {
    let Comparison { matched, at_the_edge, before_cover, found, closed, open_breaks, gaps } = compared;
    writeln!(
        out,
        "statement {statement_id}: {matched} matched, {at_the_edge} wait for another statement, {found} breaks found, \
         {closed} closed, {open_breaks} open"
    )?;
    if *before_cover > 0 {
        writeln!(out, "{before_cover} may have been booked before the first statement: they are not judged")?;
    }
    for (from, until) in gaps {
        writeln!(out, "no statement covers {} until {}", utc(*from), utc(*until))?;
    }
    if open.is_empty() { Ok(()) } else { show(open, out) }
}

/// Payments of its rail that are paid by this statement, wait for a person or are in doubt, and differ in nothing else.
fn resolvable(open: &[Value], statement_id: Uuid) -> Result<Vec<OutboxId>, Failure> {
    let statement_id = statement_id.to_string();
    let of_this = |one: &Value| {
        one["statement_id"].as_str() == Some(statement_id.as_str())
            && one["standing"].as_str().is_some_and(|standing| !standing.starts_with("ON_RAIL"))
    };
    let differs =
        |id: &Value| open.iter().any(|one| one["outbox_id"] == *id && one["kind"] != "PAID_BUT_NOT_DISPATCHED");
    let waits =
        |one: &Value| one["standing_now"].as_str().is_some_and(|now| now.starts_with("HELD") || now == "IN_DOUBT");
    let paid = open.iter().filter(|one| one["kind"] == "PAID_BUT_NOT_DISPATCHED" && of_this(one));
    paid.filter(|one| waits(one) && !differs(&one["outbox_id"])).map(id_of).collect()
}

/// Reads the file again and records its lines, batch by batch.
async fn record(
    session: &mut Session,
    statement_id: Uuid,
    file: StatementFile,
    checked: &Summary,
) -> Result<(), Failure> {
    // The file is read on a thread of its own; the channel holds two batches, and no more are in memory.
    let (send, mut batches) = mpsc::channel::<Vec<StatementLine>>(1);
    let reader = tokio::task::spawn_blocking(move || {
        let ended = || Failure::new(Exit::Failure, "the recording of lines ended");
        let mut batch = Vec::with_capacity(BATCH);
        let summary = file.read(|line| {
            batch.push(line);
            if batch.len() < BATCH {
                return Ok(());
            }
            send.blocking_send(std::mem::take(&mut batch)).map_err(|_| ended())
        })?;
        send.blocking_send(batch).map_err(|_| ended())?;
        Ok::<_, Failure>(summary)
    });
    while let Some(batch) = batches.recv().await {
        or_end(record_lines(session, statement_id, &batch).await)?;
    }
    let summary = reader.await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))??;
    if summary == *checked {
        Ok(())
    } else {
        Err(Failure::new(Exit::BadData, "the file changed while it was read: nothing was compared"))
    }
}
