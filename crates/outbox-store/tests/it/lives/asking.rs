//! The statement of each call, and which login makes it. Answers come as lines; what follows a `~` is for the test alone.

use outbox_core::Outcome;

use super::model::{BEAT_INTERVAL, SPAN_MS};
use super::system::System;
use super::transition::{Change, Decided, End, Form, Item, LeaseName, Likeness, Op, Report, Window};

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Login {
    Ingest,
    Worker(u8),
    Maker,
    Checker,
}

impl Login {
    pub(super) const ALL: [Self; 5] = [Self::Ingest, Self::Worker(0), Self::Worker(1), Self::Maker, Self::Checker];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "t_ingest",
            Self::Worker(_) => "t_dispatcher",
            Self::Maker => "t_both",
            Self::Checker => "t_approver",
        }
    }

    pub(super) fn of(op: &Op) -> Self {
        match op {
            Op::Enqueue { .. } => Self::Ingest,
            Op::Claim { worker, .. }
            | Op::Renew { worker, .. }
            | Op::Complete { worker, .. }
            | Op::Release { worker, .. }
            | Op::Heartbeat { worker, .. } => Self::Worker(*worker),
            Op::Expire { .. } | Op::Unpark { .. } => Self::Worker(0),
            Op::Pause { .. } | Op::SetRail(_) | Op::Propose { .. } => Self::Maker,
            Op::Decide { decided: Decided::ByMaker | Decided::Withdrawn, .. } => Self::Maker,
            Op::Apply { by_checker: false, .. } => Self::Maker,
            Op::Decide { .. } | Op::Apply { .. } => Self::Checker,
        }
    }
}

/// A time as so many spans from now.
fn spans(at: &str) -> String {
    format!("coalesce(round(extract(epoch from {at} - clock_timestamp()) / 300)::integer::text, '-')")
}

fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("'{text}'"))
}

fn array(values: impl Iterator<Item = String>, kind: &str) -> String {
    format!("array[{}]::{kind}[]", values.collect::<Vec<_>>().join(", "))
}

impl System {
    /// The statement of a call.
    pub(super) fn statement(&mut self, op: &Op) -> String {
        match op {
            Op::Enqueue { form, items } => self.enqueue(*form, items),
            Op::Claim { worker, limit, in_flight, from_cursor, endpoint, short } => {
                let cursor = if *from_cursor { self.cursor(*worker) } else { "null, null".to_owned() };
                self.claim(*worker, *limit, *in_flight, &cursor, *endpoint, *short)
            }
            Op::Renew { worker, leases } => format!(
                "select r.verdict from outbox.renew_outbox_leases('w{worker}', {}) as r order by r.ordinal",
                self.leases(leases)
            ),
            Op::Release { worker, leases } => format!(
                "select r.verdict from outbox.release_outbox_leases('w{worker}', {}) as r order by r.ordinal",
                self.leases(leases)
            ),
            Op::Complete { worker, reports } => self.complete(*worker, reports),
            Op::Expire { limit, cursor_of } => {
                let cursor = cursor_of.map_or_else(|| "null, null".to_owned(), |worker| self.cursor(worker));
                format!(
                    "select case when e.outbox_id is null then concat('looked at ', e.examined, ' to ', {}, ' ' || e.last_id) \
                     else concat(e.outbox_id, '#', e.attempt_no, ' ', coalesce(e.hold_reason, '-')) end \
                     from outbox.expire_outbox_leases('{}', {limit}, {cursor}) as e",
                    spans("e.last_at"),
                    self.rail
                )
            }
            Op::Unpark { limit } => format!(
                "select case when u.outbox_id is null then concat('unparked ', u.unparked, ' full ', u.is_full::text) else 'HELD ' || u.outbox_id end \
                 from outbox.unpark_outbox_rows('{}', {limit}) as u",
                self.rail
            ),
            Op::Heartbeat { worker, stopped } => {
                let (state, seen) = (if *stopped { "STOPPED" } else { "RUNNING" }, self.beats[usize::from(*worker)]);
                format!(
                    "select case when b.worker_id is null then concat('beat ', b.beat, ' ' || b.fault) else 'silent ' || b.worker_id end \
                     from outbox.dispatcher_heartbeat('w{worker}', '1', 1, '{state}', array['{}'], 0, {}, \
                     p_settled => array[0], p_memory_id => '00000000-0000-0000-0000-00000000000{worker}', p_seen_beat => {seen}) as b",
                    self.rail,
                    BEAT_INTERVAL.unsigned_abs() * SPAN_MS
                )
            }
            Op::Pause { scope, paused } => {
                let rail = if scope.of_rail { quoted(Some(&self.rail)) } else { "null".to_owned() };
                let participant = scope.participant.map(|n| format!("{}_c{n}", self.rail));
                let participant = quoted(participant.as_deref());
                format!(
                    "select 'done' || left(outbox.set_outbox_pause({rail}, {participant}, {paused}, 'why')::text, 0)"
                )
            }
            Op::SetRail(change) => {
                format!("select outbox.set_payment_rail('{}', {})::text", self.rail, changed(*change))
            }
            Op::Propose { kind, members, evidence, window, .. } => {
                let members = array(members.iter().map(|pay| quoted(Some(&self.ids[pay]))), "uuid");
                let evidence = quoted(evidence.then_some("B-7"));
                let window = if *window == Window::Drop { r#"{"not_after": null}"# } else { "{}" };
                format!(
                    "select concat(p.member_count, ' ', p.needs_approval::text, '~', p.action_id, '~', encode(p.members_sha256, 'hex'), '~', p.member_count, '~', p.amounts) \
                     from outbox.propose_operator_action('{}', {members}, 'why', {evidence}, '{window}') as p",
                    kind.name()
                )
            }
            Op::Decide { action, decided } => self.decide(*action, *decided),
            Op::Apply { action, limit, .. } => format!(
                "select case when a.outbox_id is null then concat('remaining ', a.remaining) else concat_ws(' ', a.outbox_id, a.result, a.detail, a.new_outbox_id) end \
                 from outbox.apply_operator_action('{}', {limit}) as a",
                self.actions[action].id
            ),
        }
    }

    fn enqueue(&mut self, form: Form, items: &[Item]) -> String {
        let rail = self.rail.clone();
        // The first of a slot is what others are like, or not.
        let mut likenesses = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let is_recorded = self.ids.contains_key(&super::recording::first(item.slot));
            let is_first = !is_recorded && items[..place].iter().all(|other| other.slot != item.slot);
            if is_first {
                let times = [item.request.not_before, item.request.not_after].map(|at| self.start.at(at));
                self.requests.insert(item.slot, (item.request, times));
            }
            let is_bad = item.likeness == Likeness::Bad;
            likenesses.push(if is_first && !is_bad { Likeness::Same } else { item.likeness });
        }
        let items: Vec<Item> =
            items.iter().zip(likenesses).map(|(item, likeness)| Item { likeness, ..*item }).collect();
        let known: Vec<_> = items.iter().map(|item| &self.requests[&item.slot]).collect();
        let each = |value: &dyn Fn(&Item, usize) -> String| {
            items.iter().enumerate().map(|(n, item)| value(item, n)).collect::<Vec<_>>()
        };
        let bytes = |item: &Item| {
            let other = if item.likeness == Likeness::OtherBytes { "other" } else { "bytes" };
            format!("{other} of {}", item.slot)
        };
        let columns: Vec<(Vec<String>, &str)> = vec![
            (each(&|_, n| format!("'{rail}_c{}'", known[n].0.participant)), "text"),
            (each(&|item, _| format!("'i{}'", item.slot)), "text"),
            (
                each(&|item, _| {
                    format!("'{}{}'", if item.likeness == Likeness::OtherKey { "other" } else { "k" }, item.slot)
                }),
                "text",
            ),
            (each(&|_, _| format!("'{rail}'")), "text"),
            (
                each(&|item, _| match form {
                    Form::Text => format!("'{}'", bytes(item)),
                    Form::Single | Form::Batch => format!("convert_to('{}', 'UTF8')", bytes(item)),
                }),
                "bytea",
            ),
            (each(&|_, _| "'text/plain'".to_owned()), "text"),
            (each(&|item, _| if item.likeness == Likeness::Bad { "null" } else { "1250" }.to_owned()), "bigint"),
            (each(&|_, _| "'EUR'".to_owned()), "text"),
            (each(&|_, n| known[n].1[0].clone()), "timestamptz"),
            (each(&|_, n| known[n].1[1].clone()), "timestamptz"),
            (each(&|_, n| if known[n].0.ordered { "'key'" } else { "null" }.to_owned()), "text"),
        ];
        if form == Form::Batch {
            let arrays: Vec<String> =
                columns.into_iter().map(|(values, kind)| array(values.into_iter(), kind)).collect();
            let nulls = |kind| array(items.iter().map(|_| "null".to_owned()), kind);
            return format!(
                "select concat(e.outbox_id, ' ', e.created::text) from outbox.enqueue_payment_outbox_batch({}, {}, {}) as e order by e.ordinal",
                arrays.join(", "),
                nulls("text"),
                nulls("uuid")
            );
        }
        let values: Vec<String> = columns.into_iter().map(|(values, _)| values[0].clone()).collect();
        let function = if form == Form::Text { "enqueue_payment_outbox_text" } else { "enqueue_payment_outbox" };
        format!("select concat(e.outbox_id, ' ', e.created::text) from outbox.{function}({}) as e", values.join(", "))
    }

    fn claim(&self, worker: u8, limit: u8, in_flight: u8, cursor: &str, endpoint: u8, short: bool) -> String {
        let min_lease = if short { 3_600_000 } else { 1_000 };
        format!(
            "select case when c.kind = 'HELD' then concat('HELD ', c.outbox_id, '#', c.attempt_no, ' ', c.hold_reason) \
                  when c.kind = 'SUMMARY' then concat('SUMMARY at ', {due}, ' ' || c.outbox_id, ' next ', {next}, ' held ', c.held_count, ' expired ', c.expired_count, \
                       ' suspects ', c.suspect_count, ' parked ', c.parked_count, ' paused ', c.paused::text, '~', extract(epoch from c.due_at) * 1000000, '~', c.outbox_id) \
                  else concat(c.kind, ' ', c.outbox_id, '#', c.attempt_no, ' ', c.lease_token, ' due ', {due}, ' window ', {until}, ' at ', coalesce(c.endpoint, '-'), \
                       ' crashes ', c.crash_count, ' resend ', c.is_resend::text, ' ', \
                       case when c.payload is null then '-' else split_part(convert_from(c.payload, 'UTF8'), ' ', 1) end) end \
             from outbox.claim_outbox_batch('{rail}', 'w{worker}', {limit}, {min_lease}, {in_flight}, {cursor}, p_endpoint => 'e{endpoint}') as c",
            due = spans("c.due_at"),
            next = spans("c.next_due_at"),
            until = spans("c.not_after"),
            rail = self.rail
        )
    }

    /// Ids, numbers and tokens.
    fn leases(&self, leases: &[(LeaseName, bool)]) -> String {
        let ids = array(leases.iter().map(|(name, _)| quoted(Some(&self.ids[&name.pay]))), "uuid");
        let numbers = array(leases.iter().map(|(name, _)| name.attempt_no.to_string()), "integer");
        let token = |(name, forged): &(LeaseName, bool)| {
            quoted(Some(if *forged { super::system::FORGED } else { &self.tokens[name] }))
        };
        format!("{ids}, {numbers}, {}", array(leases.iter().map(token), "uuid"))
    }

    fn complete(&self, worker: u8, reports: &[Report]) -> String {
        let leases: Vec<(LeaseName, bool)> = reports.iter().map(|report| (report.lease, report.forged)).collect();
        let each = |value: &dyn Fn(&Report) -> String, kind| array(reports.iter().map(value), kind);
        let nulls = |kind| each(&|_| "null".to_owned(), kind);
        let outcome = |report: &Report| {
            let outcome = if report.end == End::AcceptedBare { Outcome::Accepted } else { report.end.outcome() };
            format!("'{}'", outcome.name())
        };
        let next = spans("r.next_attempt_at");
        format!(
            "select concat_ws(' ', r.verdict, r.state, case when r.verdict = 'applied' then coalesce(r.hold_reason, {next}) end) \
             from outbox.complete_outbox_batch('w{worker}', {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}) as r order by r.ordinal",
            self.leases(&leases),
            each(&outcome, "text"),
            each(&|report| (report.delay.unsigned_abs() * SPAN_MS).to_string(), "bigint"),
            nulls("timestamptz"),
            nulls("timestamptz"),
            each(&|_| "'there'".to_owned(), "text"),
            nulls("bytea"),
            nulls("bytea"),
            each(&|report| quoted(report.end.reference()), "text"),
            nulls("text"),
            nulls("text"),
            nulls("text"),
        )
    }

    fn decide(&self, action: u8, decided: Decided) -> String {
        let seen = &self.actions[&action];
        if decided == Decided::Withdrawn {
            return format!("select 'done' || outbox.withdraw_operator_action('{}', 'why')::text", seen.id);
        }
        let word = if decided == Decided::Rejected { "REJECTED" } else { "APPROVED" };
        let count = if decided == Decided::OfAnother { "99" } else { &seen.count };
        format!(
            "select 'done' || outbox.decide_operator_action('{}', '{word}', 'why', decode('{}', 'hex'), {count}, '{}')::text",
            seen.id, seen.hash, seen.amounts
        )
    }
}

fn changed(change: Change) -> String {
    match change {
        Change::OnUnknown(on_unknown) => format!("p_on_unknown => '{}'", on_unknown.name()),
        Change::NotFoundIsFinal(is_final) => format!("p_not_found_is_final => {is_final}"),
        Change::MaxSends(max) => format!("p_max_sends => {max}"),
        Change::MaxCrashes(max) => format!("p_max_crashes => {max}"),
        Change::MaxInquiries(max) => format!("p_max_inquiries => {max}"),
        Change::Paused(paused) => format!("p_paused => {paused}"),
    }
}
