//! The promise behind all others, judged from outside: the database on one side, what the rails wrote
//! down and received on the other. It trusts nothing that the daemon says.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row as _;

use crate::rig::{HOLD, RAILS, RESEND, Rig};

/// Each line a promise that the database breaks by itself; none if it is in order.
const BROKEN: &str = "
    with terminal as (
        select outbox_id from outbox.payment_outbox_attempts where state in ('DISPATCHED', 'FAILED', 'CANCELLED')
    ), ledger as (
        select outbox_id, count(*) as rows, max(attempt_no) as last, min(attempt_no) as first
          from outbox.payment_outbox_attempts group by outbox_id
    )
    select 'lost: ' || i.outbox_id from outbox.payment_outbox_identities i
     where not exists (select from terminal t where t.outbox_id = i.outbox_id)
       and not exists (select from outbox.payment_outbox_pending p where p.outbox_id = i.outbox_id)
    union all
    select 'pending and terminal: ' || p.outbox_id from outbox.payment_outbox_pending p join terminal t using (outbox_id)
    union all
    select 'terminal twice: ' || outbox_id from terminal group by outbox_id having count(*) > 1
    union all
    select 'attempts with gaps: ' || outbox_id from ledger where first <> 1 or rows <> last
    union all
    select 'ledger and fence differ: ' || p.outbox_id
      from outbox.payment_outbox_pending p left join ledger l using (outbox_id)
     where p.attempt_count <> coalesce(l.last, 0) + (p.lease_token is not null)::integer
    union all
    select 'terminal is not last: ' || a.outbox_id from outbox.payment_outbox_attempts a join ledger l using (outbox_id)
     where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') and a.attempt_no <> l.last";

/// One payment as the database has it.
const PAYMENTS: &str = "
    select n.outbox_id::text, n.rail, encode(n.payload_sha256, 'hex') as payload_sha256,
           coalesce(p.disposition, '') as disposition, p.in_doubt_since is not null as in_doubt,
           (p.lease_token is not null)::integer + (select count(*) from outbox.payment_outbox_attempts a
             where a.outbox_id = n.outbox_id)::integer as attempts,
           coalesce((select a.state from outbox.payment_outbox_attempts a where a.outbox_id = n.outbox_id
             and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1), '') as terminal,
           (select a.rail_reference from outbox.payment_outbox_attempts a where a.outbox_id = n.outbox_id
             and a.state = 'DISPATCHED' limit 1) as reference
      from outbox.payment_outbox_instructions n left join outbox.payment_outbox_pending p using (outbox_id)";

struct Payment {
    rail: String,
    payload_sha256: String,
    disposition: String,
    in_doubt: bool,
    attempts: usize,
    terminal: String,
    reference: Option<String>,
}

impl Rig {
    /// Panics with every promise that is broken. To be asked when no send is under way.
    pub(crate) async fn conserved(&self) {
        let mut broken: Vec<String> = self.rows(BROKEN).await.iter().map(|row| row.get(0)).collect();
        let payments = self.payments().await;
        for rail in RAILS {
            broken.extend(self.broken_at(rail, &payments));
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }

    async fn payments(&self) -> BTreeMap<String, Payment> {
        let rows = self.rows(PAYMENTS).await;
        let read = rows.iter().map(|row| {
            let payment = Payment {
                rail: row.get("rail"),
                payload_sha256: row.get("payload_sha256"),
                disposition: row.get("disposition"),
                in_doubt: row.get("in_doubt"),
                attempts: usize::try_from(row.get::<i32, _>("attempts")).unwrap(),
                terminal: row.get("terminal"),
                reference: row.get("reference"),
            };
            (row.get("outbox_id"), payment)
        });
        read.collect()
    }

    /// What the rail knows against what the database knows.
    fn broken_at(&self, rail: &str, payments: &BTreeMap<String, Payment>) -> Vec<String> {
        let sim = self.sim(rail);
        let mut broken = Vec::new();
        let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for effect in sim.effects().unwrap() {
            effects.entry(effect.key).or_default().push(effect.reference);
        }
        let mut requests: BTreeMap<String, usize> = BTreeMap::new();
        for received in sim.received().unwrap() {
            let key = received.key.unwrap();
            *requests.entry(key.clone()).or_default() += 1;
            if payments.get(&key).is_none_or(|payment| payment.payload_sha256 != received.body_sha256) {
                broken.push(format!("{rail}: other bytes, or not ours: {key}"));
            }
        }
        let ours: BTreeSet<&String> = payments.iter().filter(|(_, p)| p.rail == rail).map(|(id, _)| id).collect();
        for key in effects.keys().chain(requests.keys()).filter(|key| !ours.contains(key)) {
            broken.push(format!("{rail}: a payment of another rail: {key}"));
        }
        let attempts: usize = ours.iter().map(|id| payments[*id].attempts).sum();
        let asked = usize::try_from(sim.stats().requests).unwrap();
        if asked > attempts {
            broken.push(format!("{rail}: {asked} requests and {attempts} attempts"));
        }
        for id in ours {
            let payment = &payments[id];
            let references = effects.get(id).map_or(&[][..], Vec::as_slice);
            if requests.get(id).copied().unwrap_or(0) > payment.attempts {
                broken.push(format!("{rail}: more requests than attempts: {id}"));
            }
            if references.len() > 1 {
                broken.push(format!("{rail}: executed {} times: {id}", references.len()));
            }
            match (payment.terminal.as_str(), references) {
                ("DISPATCHED", [reference]) if payment.reference.as_ref() == Some(reference) => {}
                ("DISPATCHED", _) => broken.push(format!("{rail}: dispatched, and not in the rail's ledger: {id}")),
                ("", [_, ..]) if payment.disposition != "HELD" && !payment.in_doubt => {
                    broken.push(format!("{rail}: executed, and nobody doubts it: {id}"));
                }
                ("FAILED" | "CANCELLED", [_, ..]) => broken.push(format!("{rail}: executed, and ended without: {id}")),
                _ => {}
            }
        }
        broken
    }

    /// Panics unless every payment is dispatched, with one effect each.
    pub(crate) async fn all_dispatched(&self) {
        let left: Vec<String> = self
            .rows("select concat_ws(' ', rail, disposition, hold_reason, count(*)) from outbox.payment_outbox_pending group by rail, disposition, hold_reason")
            .await
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        for rail in [RESEND, HOLD] {
            assert_eq!(self.count(rail, "FAILED").await, 0, "{rail}");
        }
        self.conserved().await;
    }
}
