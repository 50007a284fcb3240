//! `pause` and `resume`: the kill switch, for everything, a rail, a participant, or a participant on a rail.

use std::collections::BTreeMap;
use std::io::{Write, stderr};

use clap::Args;
use outbox_core::RailName;
use outbox_store::{Pause as Paused, PaymentFilter, RailRow, Session, read_pauses, read_payment_rails, set_pause};
use serde_json::{Value, json};

use super::pending::each_waiting;
use super::{EXIT_CODES, or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::{Output, printable, utc};
use crate::commands::rail::parse_rail;
use crate::exit::{Exit, Failure};

/// Payments that are counted once it is done: whoever pauses is in a hurry. A dry run counts all.
const COUNTED_MAX: usize = 100_000;

/// Stop claiming, and give back what is leased and not begun; what is on the wire goes on to its end.
///
/// `resume` lets go on what was paused with the same scope. Nobody is asked to confirm: a kill switch has to work at once.
/// How many payments it is for is counted afterwards, up to 100000; --dry-run counts all, and does nothing.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Pause {
    /// Everything
    #[arg(long, conflicts_with_all = ["rail", "participant"])]
    all: bool,
    /// A rail
    #[arg(long, value_parser = parse_rail)]
    rail: Option<RailName>,
    /// A participant, on all rails or on the one named
    #[arg(long, value_name = "PARTICIPANT")]
    participant: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Show what is paused already, and how many payments it would be for; do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What a pause keeps back, and what goes on without it.
#[derive(Debug, Default)]
struct Kept {
    /// Neither held nor under way, by rail.
    rails: BTreeMap<String, u64>,
    due: u64,
    leased: u64,
    /// Kept back by another pause whatever becomes of this one.
    by_others: u64,
    seen: u64,
    is_whole: bool,
}

impl Kept {
    fn payments(&self) -> u64 {
        self.rails.values().sum()
    }

    fn document(&self) -> Value {
        json!({"payments": self.payments(), "due": self.due, "rails": self.rails, "leased": self.leased,
               "kept_back_by_others": self.by_others, "counted_all": self.is_whole})
    }

    /// In words: `done` such as `are kept back`.
    fn words(&self, done: &str, is_pause: bool) -> String {
        let at_least = if self.is_whole { "" } else { "at least " };
        let mut text = format!("{at_least}{} payments {done}", self.payments());
        if is_pause {
            text += &format!(", {} of them due", self.due);
        }
        if is_pause && self.leased > 0 {
            text += &format!("; {} more are leased: what has not begun is given back", self.leased);
        }
        if self.by_others > 0 {
            text += &format!("; {} more are kept back by another pause", self.by_others);
        }
        text
    }
}

/// Pauses, or lets go on.
pub(crate) fn run(command: &Pause, paused: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if !command.all && command.rail.is_none() && command.participant.is_none() {
        return Err(Failure::new(Exit::Usage, "say what: --all, --rail or --participant".to_owned()));
    }
    with_session(&command.database, async |session| {
        if command.dry_run {
            command.shown(paused, session, out).await
        } else {
            command.done(paused, session, out).await
        }
    })
}

async fn rails_and_pauses(session: &mut Session) -> Result<(Vec<RailRow>, Vec<Paused>), Failure> {
    Ok((or_end(read_payment_rails(session).await)?, or_end(read_pauses(session).await)?))
}

impl Pause {
    async fn done(&self, paused: bool, session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
        let (rail, participant) = (self.rail.as_ref(), self.participant.as_deref());
        let action_id = or_end(set_pause(session, rail, participant, paused, &self.reason).await)?;
        if self.output == Output::Table {
            let verb = if paused { "paused" } else { "resumed" };
            writeln!(out, "{verb}: {} (action {action_id})", self.scope())?;
            out.flush()?;
        }
        // It is done, whatever becomes of the count.
        let counted = match rails_and_pauses(session).await {
            Ok((rails, pauses)) => self.kept(session, &rails, &pauses, COUNTED_MAX).await,
            Err(failure) => Err(failure),
        };
        let kept = counted.map_err(|failure| {
            let warning = format!("warning: how many payments it is for is not known: {}", failure.message);
            let _ = writeln!(stderr().lock(), "{warning}");
        });
        match (self.output, &kept) {
            (Output::Json, _) => {
                let mut document = kept.as_ref().map_or_else(|()| json!({"payments": null}), Kept::document);
                document["action_id"] = action_id.to_string().into();
                document["paused"] = paused.into();
                writeln!(out, "{document}")?;
            }
            (Output::Table, Ok(kept)) => {
                writeln!(out, "{}", kept.words(if paused { "are kept back" } else { "go on" }, paused))?;
            }
            (Output::Table, Err(())) => {}
        }
        if let (true, Some(name), Ok(Kept { seen: 0, .. })) = (paused, participant, &kept) {
            let warning = format!("warning: no payment of participant {name} is in the queue now: is the name right?");
            let _ = writeln!(stderr().lock(), "{warning}");
        }
        Ok(())
    }

    async fn shown(&self, paused: bool, session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
        let (rails, pauses) = rails_and_pauses(session).await?;
        if let Some(rail) = self.rail.as_ref().filter(|rail| !rails.iter().any(|row| row.rail == **rail)) {
            return Err(Failure::new(Exit::BadData, format!("rail {rail} has no contract")));
        }
        if !paused && !pauses.iter().any(|one| self.is_this(one)) {
            let message = format!("there is no pause of {}: each is lifted by its own scope", self.scope());
            return Err(Failure::new(Exit::BadData, message));
        }
        let kept = self.kept(session, &rails, &pauses, usize::MAX).await?;
        let by_contract: Vec<&str> =
            rails.iter().filter(|row| is_paused_by_contract(row)).map(|row| row.rail.as_str()).collect();
        if self.output == Output::Json {
            let mut document = kept.document();
            document["dry_run"] = if paused { "PAUSE" } else { "RESUME" }.into();
            document["paused_by_contract"] = json!(by_contract);
            let pauses = pauses.iter().map(|one| {
                json!({"rail": one.rail, "participant_id": one.participant_id, "paused_by": one.paused_by,
                       "paused_at": utc(one.paused_at), "reason": one.reason})
            });
            document["pauses"] = pauses.collect();
            return Ok(writeln!(out, "{document}")?);
        }
        let would = if paused { "would be kept back" } else { "would go on" };
        writeln!(out, "{}: {}", self.scope(), kept.words(would, paused))?;
        for (rail, count) in &kept.rails {
            writeln!(out, "  {rail}: {count}")?;
        }
        for one in &pauses {
            let (by, since, reason) = (&one.paused_by, utc(one.paused_at), printable(&one.reason));
            let scope = scope(one.rail.as_deref(), one.participant_id.as_deref());
            writeln!(out, "paused already: {scope}, by {by} since {since}: {reason}")?;
        }
        for rail in &by_contract {
            writeln!(out, "paused already: rail {rail}, by its contract")?;
        }
        if pauses.is_empty() && by_contract.is_empty() {
            writeln!(out, "nothing is paused")?;
        }
        Ok(())
    }

    fn scope(&self) -> String {
        scope(self.rail.as_ref().map(RailName::as_str), self.participant.as_deref())
    }

    fn is_this(&self, pause: &Paused) -> bool {
        pause.rail.as_deref() == self.rail.as_ref().map(RailName::as_str) && pause.participant_id == self.participant
    }

    /// Counts what this pause keeps back.
    async fn kept(
        &self,
        session: &mut Session,
        rails: &[RailRow],
        pauses: &[Paused],
        max: usize,
    ) -> Result<Kept, Failure> {
        let (rail, participant_id) = (self.rail.as_ref().map(ToString::to_string), self.participant.clone());
        let filter = PaymentFilter { rail, participant_id, ..PaymentFilter::default() };
        let others: Vec<&Paused> = pauses.iter().filter(|one| !self.is_this(one)).collect();
        let by_contract: Vec<&str> =
            rails.iter().filter(|row| is_paused_by_contract(row)).map(|row| row.rail.as_str()).collect();
        let mut kept = Kept::default();
        kept.is_whole = each_waiting(session, filter, max, |one| {
            let is_of = |pause: &&Paused| {
                pause.rail.as_deref().is_none_or(|rail| rail == one.rail())
                    && pause.participant_id.as_deref().is_none_or(|name| name == one.participant())
            };
            kept.seen += 1;
            if one.is_held() {
                return;
            }
            if others.iter().any(is_of) || by_contract.contains(&one.rail()) {
                kept.by_others += 1;
            } else if one.is_leased() {
                kept.leased += 1;
            } else {
                *kept.rails.entry(one.rail().to_owned()).or_default() += 1;
                kept.due += u64::from(one.is_due() && !one.is_parked());
            }
        })
        .await?;
        Ok(kept)
    }
}

fn is_paused_by_contract(row: &RailRow) -> bool {
    row.contract.as_ref().is_some_and(|contract| contract.paused)
}

fn scope(rail: Option<&str>, participant: Option<&str>) -> String {
    let rail = rail.map_or_else(|| "all rails".to_owned(), |rail| format!("rail {rail}"));
    participant.map_or_else(|| rail.clone(), |name| format!("{rail}, participant {}", printable(name)))
}
