//! What is compared after each step: payments, ledger, late outcomes, order, notes and actions as lines of text, once from the model
//! and once from the database, ids and tokens replaced by their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::model::{Attempt, Instant, Late, Life, Owed, Place, State, Word};
use super::queue::shown;
use super::system::Start;
use super::transition::Pay;

fn yes(fact: bool) -> &'static str {
    if fact { "t" } else { "f" }
}

impl State {
    fn shown(&self, time: Option<Instant>) -> String {
        time.map_or_else(|| "-".to_owned(), |at| self.relative(at))
    }

    /// Everything, in lines that are in order.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.lives.iter().map(|(pay, life)| self.line(*pay, life)).collect();
        lines.extend(self.order.values().enumerate().map(|(place, pay)| format!("order {} {pay}", place + 1)));
        lines.extend(self.owed.values().enumerate().map(|(place, owed)| self.owed_line(place + 1, owed)));
        lines.extend(self.actions.iter().map(|(name, action)| {
            let word = match action.word {
                Some(Word::Approved) => "APPROVED",
                Some(Word::Rejected) => "REJECTED",
                Some(Word::Withdrawn) => "WITHDRAWN",
                None => "-",
            };
            let mut line = format!("action a{name} {} {word} ", action.kind.name());
            for pay in self.by_birth(action.members.keys()) {
                let result = action.results.get(&pay).map_or("-", |result| result.split(' ').next().unwrap_or("-"));
                let _ = write!(line, "{pay} {} {result}, ", action.members[&pay]);
            }
            line
        }));
        lines.sort();
        lines
    }

    fn by_birth<'a>(&self, pays: impl Iterator<Item = &'a Pay>) -> Vec<Pay> {
        let mut born: BTreeMap<u32, Pay> = BTreeMap::new();
        born.extend(pays.map(|pay| (self.lives[pay].born, *pay)));
        born.into_values().collect()
    }

    fn owed_line(&self, place: usize, owed: &Owed) -> String {
        match owed {
            Owed::Key => format!("owed {place} key - - f"),
            Owed::Participant { participant, behind, has_skipped } => {
                let of = |born: u32| self.lives.iter().find(|(_, life)| life.born == born);
                let behind = behind.and_then(of).map_or_else(|| "-".to_owned(), |(pay, _)| pay.to_string());
                format!("owed {place} - c{participant} {behind} {}", yes(*has_skipped))
            }
        }
    }

    fn line(&self, pay: Pay, life: &Life) -> String {
        let mut line = format!("{pay} ");
        if life.ended.is_some() {
            line.push_str("ENDED");
        } else {
            let (place, reason) = match life.place {
                Place::Ready => ("READY", "-"),
                Place::InDoubt => ("IN_DOUBT", "-"),
                Place::Parked => ("PARKED", "-"),
                Place::Held(reason) => ("HELD", reason.name()),
            };
            let lease = life.lease.map_or_else(
                || "- - - -".to_owned(),
                |lease| {
                    let token = format!("t:{pay}#{}", life.attempt_count);
                    format!(
                        "w{} {token} {} {}",
                        lease.worker,
                        self.relative(lease.claimed),
                        self.relative(lease.expires)
                    )
                },
            );
            let _ = write!(
                line,
                "{place} {reason} n{} s{} c{} i{} sent {} doubt {} quarantine {} late {} hold {} dup {} redrive {} due {} until {} at {} lease {lease}",
                life.attempt_count,
                life.send_count,
                life.crash_count,
                life.inquiry_count,
                self.shown(life.first_sent),
                self.shown(life.in_doubt),
                self.shown(life.quarantine),
                yes(life.late_success),
                yes(life.hold_requested),
                yes(life.possible_duplicate),
                yes(life.is_redrive),
                self.relative(life.due),
                self.shown(life.not_after),
                shown(life.endpoint),
            );
        }
        let attempts = life.attempts.iter().enumerate().map(|(place, attempt)| self.attempt_line(place + 1, attempt));
        let attempts: Vec<String> = attempts.collect();
        let mut late: Vec<String> = life.late.iter().map(|late| self.late_line(late)).collect();
        late.sort();
        let _ = write!(line, " | {} | {}", attempts.join(", "), late.join(", "));
        line
    }

    fn attempt_line(&self, number: usize, attempt: &Attempt) -> String {
        format!(
            "{number} {} {} {} {} {} ref={} {}..{} {} {}",
            attempt.kind.map_or("OPERATOR", outbox_core::AttemptKind::name),
            attempt.state.name(),
            attempt.end.map_or("-", super::transition::End::name),
            attempt.by,
            attempt.token,
            attempt.reference.as_deref().unwrap_or("-"),
            self.relative(attempt.claimed),
            self.relative(attempt.completed),
            attempt.endpoint.as_deref().unwrap_or("-"),
            attempt.class.as_deref().unwrap_or("-"),
        )
    }

    fn late_line(&self, late: &Late) -> String {
        format!(
            "{} {} {} w{} ref={} {}",
            late.attempt_no,
            late.token,
            late.end.name(),
            late.worker,
            late.end.reference().unwrap_or("-"),
            self.relative(late.recorded),
        )
    }
}

/// The same lines from the database, of the participants `RAIL_c0` and so on, and of the actions `ACTIONS`.
const ROWS: &str = "
    select case when p.outbox_id is null then i.outbox_id || ' ENDED' else concat(i.outbox_id, ' ', p.disposition, ' ', coalesce(p.hold_reason, '-'),
        ' n', p.attempt_count, ' s', p.send_count, ' c', p.crash_count, ' i', p.inquiry_count, ' sent ', SPANS(p.first_sent_at),
        ' doubt ', SPANS(p.in_doubt_since), ' quarantine ', SPANS(p.quarantine_until), ' late ', p.late_success, ' hold ', p.hold_requested,
        ' dup ', p.possible_duplicate, ' redrive ', p.is_redrive, ' due ', SPANS(p.next_attempt_at), ' until ', SPANS(p.not_after),
        ' at ', coalesce(p.endpoint, '-'), ' lease ', coalesce(p.claimed_by, '-'), ' ', coalesce(p.lease_token::text, '-'), ' ',
        SPANS(p.claimed_at), ' ', SPANS(p.lease_expires_at)) end
        || ' | ' || coalesce((select string_agg(concat(a.attempt_no, ' ', a.kind, ' ', a.state, ' ', coalesce(a.outcome, '-'), ' ', a.worker_id, ' ',
            a.lease_token, ' ref=', coalesce(a.rail_reference, '-'), ' ', SPANS(a.claimed_at), '..', SPANS(a.completed_at), ' ', coalesce(a.endpoint, '-'), ' ',
            coalesce(a.error_class, '-')), ', ' order by a.attempt_no) from outbox.payment_outbox_attempts a where a.outbox_id = i.outbox_id and a.outbox_id between RANGE), '')
        || ' | ' || coalesce((select string_agg(concat(l.attempt_no, ' ', l.lease_token, ' ', l.outcome, ' ', l.worker_id, ' ref=',
            coalesce(l.rail_reference, '-'), ' ', SPANS(l.recorded_at)), ', ') from outbox.payment_outbox_late_outcomes l where l.outbox_id = i.outbox_id and l.outbox_id between RANGE), '') as line
      from outbox.payment_outbox_identities i left join outbox.payment_outbox_pending p using (outbox_id)
     where i.participant_id in ('RAIL_c0', 'RAIL_c1') and i.instruction_id in ('i0', 'i1', 'i2', 'i3')
    union all
    select concat('order ', row_number() over (order by o.place), ' ', o.outbox_id) from outbox.payment_outbox_order o where o.rail = 'RAIL'
    union all
    select concat('owed ', row_number() over (order by u.owed_no), ' ', case when u.ordering_key is null then '-' else 'key' end, ' ',
        coalesce(replace(u.participant_id, 'RAIL_', ''), '-'), ' ', coalesce(u.from_outbox_id::text, '-'), ' ', u.has_skipped)
      from outbox.payment_outbox_unparking u where u.rail = 'RAIL'
    union all
    select concat('action ', o.action_id, ' ', o.kind, ' ', coalesce(d.decision, '-'), ' ',
        (select string_agg(concat(m.outbox_id, ' ', m.attempt_count, ' ', coalesce(r.result, '-'), ', '), '' order by m.outbox_id)
           from outbox.operator_action_members m left join outbox.operator_action_results r using (action_id, outbox_id) where m.action_id = o.action_id))
      from outbox.operator_actions o left join outbox.operator_action_decisions d using (action_id) where o.action_id in (ACTIONS)";

/// The question for the lines of one rail; times as spans from now.
pub(super) fn question(rail: &str, start: Start, actions: &[String]) -> String {
    // A constant range of ids, so that the plan opens one month.
    let range = format!("'{}' and '{}'", start.id_floor(-12), start.id_floor(288));
    let actions = if actions.is_empty() { "null".to_owned() } else { actions.join(", ") };
    ROWS.replace("SPANS(", "pg_temp.spans(").replace("RANGE", &range).replace("RAIL", rail).replace("ACTIONS", &actions)
}

/// Makes the function that tells a time as spans from now, for the session that asks.
pub(super) const SPANS: &str = "create function pg_temp.spans(at timestamptz) returns text language sql volatile as $$
    select coalesce(round(extract(epoch from at - clock_timestamp()) / 300)::integer::text, '-') $$";

/// Without what differs from run to run: a time, an id.
pub(super) fn plain(line: &str) -> String {
    let mut line = line.to_owned();
    if let Some(at) = line.find("what was sent may still be under way") {
        line.replace_range(at.., "too early");
    }
    if let Some(at) = line.find("it was redriven already") {
        line.truncate(at + "it was redriven already".len());
    }
    line
}

/// Late outcomes have no order of their own; their names do.
pub(super) fn in_order(line: &str) -> String {
    let parts: Vec<&str> = line.split(" | ").collect();
    let [payment, attempts, late] = parts.as_slice() else { return line.to_owned() };
    let mut late: Vec<&str> = late.split(", ").collect();
    late.sort_unstable();
    format!("{payment} | {attempts} | {}", late.join(", "))
}
