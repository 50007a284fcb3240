//! Recording what attempts came to: batches by size or time, on a connection of its own, repeated
//! until the database has them. A result is never dropped to end sooner, short of the last deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::{BootTime, Millis, Outcome, WorkerId};
use outbox_store::{Class, Completion, CompletionVerdict, HeldLease};
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::event::{Event, Handle};
use super::leases::{Leases, OpenLease};
use crate::clock::boot_now;
use crate::events;
use crate::exit::{Exit, Failure};
use crate::health::{HealthState, Ticker};
use crate::metrics::Metrics;

/// How long a payment that somebody else has locked is left alone: long enough for a short
/// transaction of theirs, short enough for the lease.
const BUSY_WAIT: Millis = Millis(20);

/// The loop ticks at least this often.
const TICK: Millis = Millis(1_000);

/// What a send leaves behind.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// A result to record.
    Complete(Box<Completion>),
    /// A lease to give back: the payment was certainly not sent.
    Release(HeldLease),
}

impl Settlement {
    const fn lease(&self) -> HeldLease {
        match self {
            Self::Complete(completion) => completion.lease,
            Self::Release(lease) => *lease,
        }
    }
}

/// A settlement and the lease it is about.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) settlement: Settlement,
    /// When it was there.
    pub(crate) since: BootTime,
    pub(crate) lease: Arc<OpenLease>,
}

/// The limits of a completer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_size: usize,
    pub(crate) flush_interval: Millis,
    pub(crate) queue_max: usize,
}

/// The service.
pub(crate) struct Completer {
    pub(crate) connection: Connection,
    pub(crate) worker_id: WorkerId,
    pub(crate) queue: mpsc::Receiver<Settled>,
    pub(crate) limits: Limits,
    pub(crate) leases: Arc<Leases>,
    pub(crate) health: Arc<HealthState>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) handle: Handle,
    pub(crate) ticker: Ticker,
}

/// What waits to be recorded.
#[derive(Default)]
struct Backlog {
    items: VecDeque<Settled>,
    /// When the oldest came.
    since: Option<BootTime>,
    /// Since when the oldest of them is there.
    oldest: Option<BootTime>,
    /// Not before then, after a failure or for a locked payment.
    not_before: Option<BootTime>,
    /// How often the batch is halved: a database too slow for a whole batch within its time limit would be sent
    /// the same batch for ever, and every lease in it would run out.
    halvings: u32,
}

impl Backlog {
    /// Takes in what has arrived.
    fn take_in(&mut self, arrived: &mut Vec<Settled>) {
        if let Some(first) = arrived.first() {
            self.since.get_or_insert_with(boot_now);
            self.oldest.get_or_insert(first.since);
        }
        self.items.extend(arrived.drain(..));
    }

    /// How many are recorded in one call, at least one.
    fn batch_size(&self, limits: Limits) -> usize {
        limits.batch_size.checked_shr(self.halvings).unwrap_or(0).max(1)
    }

    /// When the next flush is due.
    fn due_at(&self, limits: Limits) -> Option<BootTime> {
        let since = self.since?;
        let by_size = self.items.len() >= limits.batch_size;
        let gathered = if by_size { since } else { since.plus(limits.flush_interval) };
        Some(self.not_before.map_or(gathered, |wait| wait.max(gathered)))
    }
}

impl Completer {
    /// Records until every sender is gone and everything is recorded, or until `give_up` ends. The leases
    /// of what is not recorded then stay open.
    pub(crate) async fn run(mut self, give_up: impl Future<Output = ()>) {
        let mut backlog = Backlog::default();
        let mut backoff = Backoff::default();
        let mut open = true;
        let mut arrived = Vec::new();
        tokio::pin!(give_up);
        while open || !backlog.items.is_empty() {
            self.ticker.tick();
            self.metrics.unrecorded(backlog.items.len() + self.queue.len(), backlog.oldest);
            let now = boot_now();
            if backlog.due_at(self.limits).is_some_and(|due| now >= due) {
                tokio::select! {
                    biased;
                    () = &mut give_up => break,
                    () = self.flush(&mut backlog, &mut backoff) => {}
                }
                continue;
            }
            if backlog.items.is_empty() && open {
                tokio::select! {
                    biased;
                    () = &mut give_up => break,
                    _ = self.connection.open_ahead() => {}
                }
            }
            let wait = backlog.due_at(self.limits).map_or(TICK, |due| due.since(now).min(TICK));
            let room = self.limits.queue_max.saturating_sub(backlog.items.len());
            tokio::select! {
                biased;
                () = &mut give_up => break,
                count = self.queue.recv_many(&mut arrived, room), if open && room > 0 => {
                    open = count > 0;
                    backlog.take_in(&mut arrived);
                },
                () = tokio::time::sleep(Duration::from(wait)) => {}
            }
        }
        self.connection.close().await;
    }

    /// One bounded pass: at most one batch.
    async fn flush(&mut self, backlog: &mut Backlog, backoff: &mut Backoff) {
        let size = backlog.items.len().min(backlog.batch_size(self.limits));
        match self.record(&backlog.items.range(..size).collect::<Vec<_>>()).await {
            Ok(verdicts) => {
                backoff.reset();
                backlog.halvings = backlog.halvings.saturating_sub(1);
                self.leases.set_unrecorded(false);
                self.health.ready("completions");
                let batch: Vec<Settled> = backlog.items.drain(..size).collect();
                let busy: Vec<Settled> =
                    batch.into_iter().zip(verdicts).filter_map(|(item, verdict)| self.settle(item, verdict)).collect();
                backlog.not_before = (!busy.is_empty()).then(|| boot_now().plus(BUSY_WAIT));
                backlog.items.extend(busy);
                backlog.oldest = backlog.items.iter().map(|item| item.since).min();
                backlog.since = (!backlog.items.is_empty()).then(boot_now);
            }
            Err(error) => {
                let corrupt = matches!(&error, ConnectionError::Store(store) if store.class() == Class::Corrupt);
                if corrupt {
                    let failure = Failure::new(Exit::InvariantBroken, format!("completing: {error}"));
                    self.handle.tell(Event::Broken(failure)).await;
                    // What the ledger does not take must not keep what is behind it from being recorded before the end.
                    backlog.items.rotate_left(size);
                }
                self.leases.set_unrecorded(true);
                if matches!(&error, ConnectionError::Store(store) if store.is_too_slow()) && size > 1 {
                    backlog.halvings += 1;
                }
                let wait = backoff.wait();
                let waiting = backlog.items.len() + self.queue.len();
                let error = error.in_full();
                tracing::warn!(event = events::COMPLETE_FAILED, error, waiting, retry_ms = wait.0);
                self.health.not_ready("completions", format!("{waiting} results are not recorded yet: {error}"));
                backlog.not_before = Some(boot_now().plus(wait));
            }
        }
    }

    /// The verdicts of `items`, in order.
    async fn record(&mut self, items: &[&Settled]) -> Result<Vec<CompletionVerdict>, ConnectionError> {
        let mut completions = Vec::new();
        let mut releases = Vec::new();
        for item in items {
            match &item.settlement {
                Settlement::Complete(completion) => completions.push(completion.as_ref()),
                Settlement::Release(lease) => releases.push(*lease),
            }
        }
        let session = self.connection.session().await?;
        let completed = outbox_store::complete(session, &self.worker_id, &completions).await;
        let mut released = Vec::new();
        // What the ledger does not take must not keep what was certainly not sent from being given back.
        let goes_on = completed.as_ref().map_or_else(|error| error.class() == Class::Corrupt, |_| true);
        if !releases.is_empty() && goes_on {
            // A completion is idempotent: if this fails, all of the batch is repeated.
            released = outbox_store::release_leases(session, &self.worker_id, &releases).await?;
        }
        let mut completed = completed?.into_iter();
        let mut released = released.into_iter();
        let verdicts = items.iter().map(|item| match &item.settlement {
            Settlement::Complete(_) => completed.next(),
            Settlement::Release(_) => released.next(),
        });
        // The store answers each question once, in order, or fails.
        Ok(verdicts.map(|verdict| verdict.unwrap_or(CompletionVerdict::Busy)).collect())
    }

    /// Notes a verdict; returns what has to be tried again.
    fn settle(&self, item: Settled, verdict: CompletionVerdict) -> Option<Settled> {
        let held = item.settlement.lease();
        self.metrics.rail(&item.lease.rail).completed(verdict);
        if verdict == CompletionVerdict::Busy {
            return Some(item);
        }
        self.leases.close(held);
        let rail = &item.lease.rail;
        let (outbox_id, attempt_no, worker_id) = (held.outbox_id, held.attempt_no, &self.worker_id);
        match verdict {
            CompletionVerdict::Applied { state, held: Some(reason), .. } => {
                let (state, reason) = (state.name(), reason.name());
                tracing::warn!(event = events::PAYMENT_HELD, %rail, %outbox_id, attempt_no = attempt_no.0, %worker_id, state, reason);
            }
            CompletionVerdict::Applied { state, .. } => {
                let state = state.name();
                tracing::info!(event = events::COMPLETE_APPLIED, %rail, %outbox_id, attempt_no = attempt_no.0, %worker_id, state);
            }
            CompletionVerdict::AlreadyApplied => {
                tracing::info!(event = events::COMPLETE_ALREADY_APPLIED, %rail, %outbox_id, attempt_no = attempt_no.0, %worker_id);
            }
            CompletionVerdict::Fenced => {
                let outcome = match &item.settlement {
                    Settlement::Complete(completion) => Outcome::name(completion.outcome),
                    Settlement::Release(_) => "RELEASED",
                };
                tracing::warn!(event = events::COMPLETE_FENCED, %rail, %outbox_id, attempt_no = attempt_no.0, %worker_id, outcome);
            }
            CompletionVerdict::Busy => {}
        }
        None
    }
}
