//! One exchange, a send or an inquiry: the last check before the first byte, and what goes to the completer. The
//! rail reads the wire and the core says what it means; nothing is decided here but whether to begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use outbox_core::outcome::honoured_retry_after;
use outbox_core::{AttemptKind, AttemptNo, BootTime, Millis, Outcome, RailContract, RailHealth, retry};
use outbox_rail::{Exchanging, Inquiry, MaySend, Rail, Submission, WireReport};
use outbox_store::{ClaimedPayment, Completion, HeldLease};
use time::OffsetDateTime;

use super::backoff::random_bits;
use super::completer::Settlement;
use super::event::{Handle, Phase};
use super::leases::OpenLease;
use crate::clock::boot_now;
use crate::events;
use crate::metrics::RailMetrics;

const NOT_ASKED: u8 = 0;
const GRANTED: u8 = 1;
const REFUSED: u8 = 2;

/// What was answered to the rail's question whether the first byte may leave.
#[derive(Debug, Default)]
struct Gate(AtomicU8);

/// One payment on its way.
pub(crate) struct Send {
    pub(crate) payment: ClaimedPayment,
    pub(crate) lease: Arc<OpenLease>,
    /// The boot clock just before the claim was sent.
    pub(crate) claimed_at: BootTime,
    pub(crate) rail: Arc<dyn Rail>,
    pub(crate) contract: Arc<RailContract>,
    pub(crate) metrics: Arc<RailMetrics>,
    pub(crate) handle: Handle,
}

/// What a send says about its rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) health: RailHealth,
    /// The class of the fault, or the outcome's name.
    pub(crate) reason: &'static str,
}

/// How a send ended.
pub(crate) struct End {
    pub(crate) settlement: Settlement,
    /// `None` if it says nothing about the rail.
    pub(crate) said: Option<Said>,
}

impl End {
    /// Nothing left, and nothing may now: the payment waits for its backoff. `class` says why.
    pub(crate) fn withheld(held: HeldLease, contract: &RailContract, endpoint: Option<String>, class: &str) -> Self {
        let delay = delay(held, contract, None);
        let completion = Completion { delay, ..unseen(held, Outcome::NotSent, endpoint, class) };
        Self { settlement: Settlement::Complete(Box::new(completion)), said: None }
    }

    /// Nothing left, for reasons of our own.
    pub(crate) const fn released(held: HeldLease) -> Self {
        Self { settlement: Settlement::Release(held), said: None }
    }
}

/// Sends one payment at most once. It ends when the rail's report is there, or, when the daemon's end
/// is over, with what is then known: an outcome that is unknown, or a lease to give back.
pub(crate) async fn send(mut send: Send) -> End {
    let gate = Arc::new(Gate::default());
    let began = boot_now();
    let _in_flight = send.metrics.send_begins();
    let may_send = permission(&send, Arc::clone(&gate));
    let rail = Arc::clone(&send.rail);
    let exchange = exchange(rail.as_ref(), &mut send.payment, may_send);
    let report = tokio::select! {
        biased;
        report = exchange => Some(report),
        () = send.handle.reached(Phase::Over) => None,
    };
    let held = send.lease.held;
    match (gate.0.load(Ordering::Acquire), report) {
        // Nothing left: the rail asked and was told no, or it was never even asked.
        (REFUSED, Some(report)) if report.outcome == Outcome::NotSent => End::released(held),
        (NOT_ASKED | REFUSED, None) => End::released(held),
        (_, Some(report)) => {
            let ended = boot_now();
            log_finished(&send, &report, ended.since(began));
            count(&send, &report, ended);
            let said = said(report.outcome, report.error_class, report.retry_after);
            let completion = completion(held, &send.contract, report);
            End { settlement: Settlement::Complete(Box::new(completion)), said }
        }
        // We stopped listening; what the rail would have said is not known.
        (_, None) => {
            let endpoint = Some(rail.endpoint().to_owned());
            let cut_off = unseen(held, Outcome::Unknown, endpoint, "drain_timeout");
            send.metrics.sent(send.payment.kind, Outcome::Unknown);
            End { settlement: Settlement::Complete(Box::new(cut_off)), said: None }
        }
    }
}

/// What a report says about the rail. Everything that keeps the next send from succeeding as well counts, a
/// credential of ours that cannot be read included; what is wrong with this one payment does not.
fn said(outcome: Outcome, error_class: Option<&'static str>, retry_after: Option<Millis>) -> Option<Said> {
    let ours = matches!(error_class, Some("content_type_invalid" | "not_configured" | "not_permitted"));
    if outcome == Outcome::NotSent && ours {
        return None;
    }
    Some(Said { health: RailHealth::after(outcome, retry_after), reason: error_class.unwrap_or(outcome.name()) })
}

fn exchange<'a>(rail: &'a dyn Rail, payment: &mut ClaimedPayment, may_send: MaySend) -> Exchanging<'a> {
    let (outbox_id, traceparent) = (payment.outbox_id, payment.traceparent.clone());
    match payment.kind {
        AttemptKind::Submit => {
            let payload = std::mem::take(&mut payment.payload).into();
            let (content_type, is_resend) = (payment.content_type.clone(), payment.is_resend);
            rail.submit(Submission { outbox_id, payload, content_type, traceparent, is_resend }, may_send)
        }
        AttemptKind::Inquire => rail.inquire(Inquiry { outbox_id, traceparent }, may_send),
    }
}

/// The answer to the rail's question, asked right before the first byte: the lease must outlast the
/// exchange and its completion, the payment must still be wanted, nobody may have paused it, and no stop may have
/// begun.
fn permission(send: &Send, gate: Arc<Gate>) -> MaySend {
    let lease = Arc::clone(&send.lease);
    let handle = send.handle.clone();
    let payment = (send.payment.outbox_id, send.payment.attempt_no, send.payment.traceparent.clone());
    // A question may be asked at any time.
    let not_after = send.payment.not_after.filter(|_| send.payment.kind == AttemptKind::Submit);
    let not_after = not_after.map(|not_after| time_left(not_after, send.payment.db_now));
    let (claimed_at, participant_id) = (send.claimed_at, send.payment.participant_id.clone());
    let kind = send.payment.kind;
    Arc::new(move || {
        let now = boot_now();
        let lease_allows = lease.may_begin(now);
        let in_time = not_after.is_none_or(|left| now.since(claimed_at) <= left);
        let paused = handle.pauses.stop(&lease.rail, &participant_id, kind);
        let allowed = lease_allows && in_time && !paused && handle.phase() == Phase::Running;
        gate.0.store(if allowed { GRANTED } else { REFUSED }, Ordering::Release);
        let (outbox_id, attempt_no, traceparent) = &payment;
        let event = if allowed { events::SEND_STARTED } else { events::SEND_WITHHELD };
        tracing::debug!(event, rail = %lease.rail, %outbox_id, attempt_no = attempt_no.0, kind = kind.name(), traceparent, lease_allows, in_time, paused);
        allowed
    })
}

fn time_left(not_after: OffsetDateTime, db_now: OffsetDateTime) -> Millis {
    Millis(u64::try_from((not_after - db_now).whole_milliseconds()).unwrap_or(0))
}

fn log_finished(send: &Send, report: &WireReport, latency: Millis) {
    let (outbox_id, attempt_no) = (send.payment.outbox_id, send.payment.attempt_no);
    tracing::info!(
        event = events::SEND_FINISHED,
        rail = %send.lease.rail,
        %outbox_id,
        attempt_no = attempt_no.0,
        kind = send.payment.kind.name(),
        outcome = report.outcome.name(),
        latency_ms = latency.0,
        error_class = report.error_class,
        traceparent = send.payment.traceparent,
    );
}

fn count(send: &Send, report: &WireReport, ended: BootTime) {
    send.metrics.sent(send.payment.kind, report.outcome);
    let Some(first_byte_at) = report.first_byte_at.filter(|_| send.payment.kind == AttemptKind::Submit) else { return };
    if send.payment.attempt_no == AttemptNo(1) {
        let since_first_byte = SystemTime::now().duration_since(first_byte_at).unwrap_or_default();
        // The database read its clock after the claim was sent: this is too long by the way there, at most.
        let since_claim = Duration::from(ended.since(send.claimed_at)).saturating_sub(since_first_byte);
        let due_before_claim = Duration::try_from(send.payment.db_now - send.payment.due_at).unwrap_or_default();
        send.metrics.first_byte_after(due_before_claim + since_claim);
    }
    if let Some(last_byte_at) = report.last_byte_at.filter(|_| report.response_sha256.is_some()) {
        send.metrics.answered_after(last_byte_at.duration_since(first_byte_at).unwrap_or_default());
    }
}

fn completion(held: HeldLease, contract: &RailContract, report: WireReport) -> Completion {
    let asked = honoured_retry_after(report.outcome, report.retry_after);
    Completion {
        lease: held,
        outcome: report.outcome,
        delay: delay(held, contract, asked),
        first_byte_at: report.first_byte_at.map(to_time),
        last_byte_at: report.last_byte_at.map(to_time),
        endpoint: Some(report.endpoint),
        request_sha256: report.request_sha256,
        response_sha256: report.response_sha256,
        rail_reference: report.rail_reference,
        rail_code: report.rail_code,
        error_class: report.error_class.map(str::to_owned),
        error_detail: report.error_detail,
    }
}

/// How long a payment waits before its next attempt, if there is one; `asked`: what its rail asked for.
fn delay(held: HeldLease, contract: &RailContract, asked: Option<Millis>) -> Millis {
    let attempt_no = u32::try_from(held.attempt_no.0).unwrap_or(1);
    retry::next_delay(contract.backoff_base, contract.backoff_cap, attempt_no, asked, random_bits())
}

/// The completion of an exchange of which nothing was seen.
fn unseen(held: HeldLease, outcome: Outcome, endpoint: Option<String>, class: &str) -> Completion {
    Completion {
        lease: held,
        outcome,
        delay: Millis::ZERO,
        first_byte_at: None,
        last_byte_at: None,
        endpoint,
        request_sha256: None,
        response_sha256: None,
        rail_reference: None,
        rail_code: None,
        error_class: Some(class.to_owned()),
        error_detail: None,
    }
}

fn to_time(at: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_one_payment_says_nothing_about_its_rail() {
        for class in ["content_type_invalid", "not_configured", "not_permitted"] {
            assert_eq!(said(Outcome::NotSent, Some(class), None), None, "{class}");
        }
    }

    #[test]
    fn what_keeps_the_next_send_from_succeeding_as_well_is_the_rails_failure() {
        for class in ["dns", "connect", "connect_timeout", "tls", "tls_refused", "connection_stale", "credential"] {
            let failing = Said { health: RailHealth::Failing, reason: class };
            assert_eq!(said(Outcome::NotSent, Some(class), None), Some(failing), "{class}");
        }
        let unknown = said(Outcome::Unknown, None, None).unwrap();
        assert_eq!((unknown.health, unknown.reason), (RailHealth::Failing, "UNKNOWN"));
        assert_eq!(said(Outcome::RailRefusedUs, None, None).unwrap().health, RailHealth::Shut);
        assert_eq!(said(Outcome::Refused, None, None).unwrap().health, RailHealth::Well);
    }
}
