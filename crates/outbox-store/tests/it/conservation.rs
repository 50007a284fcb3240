//! The promise behind all others: no payment is lost, none is ended twice, no attempt is missing.

use sqlx::postgres::PgConnection;

use crate::sql::column;

/// Each line a broken promise; none if the database is in order.
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
    select 'without identity: ' || x.outbox_id
      from (select outbox_id from outbox.payment_outbox_pending union select outbox_id from terminal) as x
     where not exists (select from outbox.payment_outbox_identities i where i.outbox_id = x.outbox_id)
    union all
    select 'without instruction: ' || i.outbox_id from outbox.payment_outbox_identities i
     where not exists (select from outbox.payment_outbox_instructions n where n.outbox_id = i.outbox_id)
    union all
    select 'attempts with gaps: ' || outbox_id from ledger where first <> 1 or rows <> last
    union all
    select 'ledger and fence differ: ' || p.outbox_id
      from outbox.payment_outbox_pending p left join ledger l using (outbox_id)
     where p.attempt_count <> coalesce(l.last, 0) + (p.lease_token is not null)::integer
    union all
    select 'terminal is not last: ' || a.outbox_id from outbox.payment_outbox_attempts a join ledger l using (outbox_id)
     where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') and a.attempt_no <> l.last
    union all
    select 'a state without a cause: ' || a.outbox_id from outbox.payment_outbox_attempts a where not outbox.follows_from_cause(a)";

/// Panics with every broken promise.
pub(crate) async fn assert_conserved(dba: &mut PgConnection) {
    let broken: Vec<String> = column(dba, BROKEN).await;
    assert!(broken.is_empty(), "{broken:#?}");
}
