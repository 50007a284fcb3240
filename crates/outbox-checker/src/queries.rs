//! What is asked of the database: plain SELECTs on the tables, none of the outbox's functions, so that the product does
//! not judge itself. Columns are in the order in which `reading` takes them.

/// The clock, before a snapshot is taken.
pub(crate) const CLOCK: &str = "select clock_timestamp()";

/// Of the snapshot: its horizon, and the timeline. On a standby it is an error.
pub(crate) const SNAPSHOT: &str = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer";

/// The contracts.
pub(crate) const TERMS: &str = "select r.rail, r.lease_duration_ms, r.max_sends, r.max_crashes, r.max_inquiries, \
    r.idempotency_window_ms from outbox.payment_rails r";

/// Months that are gone, and what they held.
pub(crate) const RECEIPTS: &str =
    "select r.ids_from, r.ids_before from outbox.partition_receipts r where r.holds = 'PAYMENTS'";

/// The tables of identities, instructions and late outcomes that have rows, with their length in pages.
pub(crate) const GROWING: &str = "select c.oid::regclass::text, p.relname::text, pg_relation_size(c.oid) / 8192
      from pg_class p
      left join pg_inherits h on h.inhparent = p.oid
      join pg_class c on c.oid = coalesce(h.inhrelid, p.oid)
     where p.relnamespace = 'outbox'::regnamespace
       and p.relname in ('payment_outbox_identities', 'payment_outbox_instructions', 'payment_outbox_late_outcomes')
       and pg_relation_size(c.oid) > 0";

// Columns by name: a migration that adds one changes no history. A test compares them with the schema.
pub(crate) const IDENTITY: &str = "d.outbox_id, \
     hashtextextended(row(d.participant_id, d.instruction_id, d.generation, d.idempotency_key, d.outbox_id, \
     d.identity_sha256)::text, 0)";
pub(crate) const INSTRUCTION: &str = "i.outbox_id, i.rail, substr(i.payload_sha256, 1, 8), i.created_at, \
     hashtextextended(row(i.outbox_id, i.participant_id, i.instruction_id, i.rail, i.payload, i.content_type, \
     i.payload_sha256, i.amount_minor, i.currency, i.attestation_id, i.not_before, i.not_after, i.ordering_key, \
     i.traceparent, i.enqueued_by, i.created_at, i.policy_version)::text, 0)";
pub(crate) const LATE: &str = "l.outbox_id, l.attempt_no, l.outcome, l.rail_reference, l.recorded_at, l.worker_id";

const ATTEMPTS: &str = "select a.outbox_id, a.attempt_no, a.kind, a.state, a.outcome,
           coalesce(a.error_class in ('timeout', 'body_timeout'), false), a.worker_id, a.lease_token, a.claimed_at,
           a.first_byte_at, a.completed_at, a.rail_reference,
           hashtextextended(row(a.outbox_id, a.attempt_no, a.rail, a.kind, a.state, a.outcome, a.worker_id,
           a.lease_token, a.claimed_at, a.first_byte_at, a.last_byte_at, a.completed_at, a.endpoint,
           a.request_sha256, a.response_sha256, a.rail_reference, a.rail_code, a.error_class, a.error_detail,
           a.policy_version)::text, 0)
      from outbox.payment_outbox_attempts a";

/// All ids that are pending, in one value: as rows they would cost ten times as much.
pub(crate) const PENDING_IDS: &str =
    "select coalesce(string_agg(uuid_send(p.outbox_id), ''::bytea), ''::bytea) from outbox.payment_outbox_pending p";

const PENDING: &str = "select p.outbox_id, p.rail, p.disposition, p.hold_reason, p.attempt_count, p.send_count,
           p.crash_count, p.inquiry_count, p.first_sent_at is not null, p.in_doubt_since is not null, p.late_success,
           p.is_redrive, p.not_after, p.claimed_by, p.lease_token, p.claimed_at, p.lease_expires_at
      from outbox.payment_outbox_pending p";

const APPLIED: &str = "select r.outbox_id, a.kind, a.action_id
      from outbox.operator_action_results r join outbox.operator_actions a on a.action_id = r.action_id
     where r.result = 'APPLIED'";

/// History besides that of the payments themselves, with the time of each row where it has one.
pub(crate) const OTHER_HISTORY: &[(&str, &str)] = &[
    ("payment_outbox_late_outcomes", "recorded_at"),
    ("operator_actions", "proposed_at"),
    ("operator_action_members", "null::timestamptz"),
    ("operator_action_decisions", "decided_at"),
    ("operator_action_results", "applied_at"),
    ("outbox_cluster", "recorded_at"),
    ("partition_seals", "sealed_at"),
    ("partition_receipts", "recorded_at"),
    ("audit_checkpoints", "audited_at"),
    ("policy_documents", "proposed_at"),
    ("policy_decisions", "decided_at"),
    ("policy_activations", "activated_at"),
    ("reconcile_statements", "run_at"),
    ("reconcile_lines", "null::timestamptz"),
    ("reconcile_matches", "matched_at"),
    ("reconcile_comparisons", "compared_at"),
    ("reconcile_voidings", "voided_at"),
    ("reconcile_breaks", "found_at"),
    ("reconcile_resolutions", "resolved_at"),
    ("revoked_client_certs", "revoked_at"),
    ("revoked_tokens", "revoked_at"),
    ("ingress_attestations", "recorded_at"),
    ("ingress_requests", "null::timestamptz"),
];

/// How many rows each table of the other history has; null where counting would take long.
pub(crate) fn counts() -> String {
    let each = OTHER_HISTORY.iter().zip(0..).map(|((table, _), number)| {
        format!(
            "select {number}::integer, case when (select coalesce(sum(pg_relation_size(t.relid)), 0)::bigint \
                from pg_partition_tree('outbox.{table}') t) + pg_relation_size('outbox.{table}') < {COUNTED_BYTES_MAX} \
             then (select count(*) from outbox.{table}) end"
        )
    });
    each.collect::<Vec<_>>().join(" union all ")
}

/// Tables that are longer are counted, and their rows compared, only when everything is read.
const COUNTED_BYTES_MAX: u64 = 4 << 20;

/// The rows of one table of the other history.
pub(crate) fn other_history(number: usize) -> String {
    let (table, time) = OTHER_HISTORY[number];
    format!("select hashtextextended(t::text, 0), {time} from outbox.{table} t")
}

/// What was added to one of the growing tables since the horizon `xid`, looking at its pages from `page` on. Rows are
/// only ever added, and what a snapshot did not show has a later transaction than its horizon.
pub(crate) fn added(columns: &str, alias: &str, table: &str, page: i64, xid: u32) -> String {
    format!(
        "select {columns} from {table} {alias} \
          where {alias}.ctid >= '({page},0)'::tid and age({alias}.xmin) <= age('{xid}'::xid)"
    )
}

/// Pending rows that changed since the horizon `xid`; all, without one.
pub(crate) fn pending(xid: Option<u32>) -> String {
    match xid {
        Some(xid) => format!("{PENDING} where age(p.xmin) <= age('{xid}'::xid)"),
        None => PENDING.to_owned(),
    }
}

pub(crate) fn attempts(ids: Option<&str>) -> String {
    match ids {
        Some(ids) => format!("{ATTEMPTS} where a.outbox_id = any ({ids})"),
        None => ATTEMPTS.to_owned(),
    }
}

pub(crate) fn instructions(ids: Option<&str>) -> String {
    let from = format!("select {INSTRUCTION} from outbox.payment_outbox_instructions i");
    match ids {
        Some(ids) => format!("{from} where i.outbox_id = any ({ids})"),
        None => from,
    }
}

/// Identities, found by their instructions; all, without ids.
pub(crate) fn identities(ids: Option<&str>) -> String {
    match ids {
        Some(ids) => format!(
            "select {IDENTITY} from outbox.payment_outbox_instructions i
               join outbox.payment_outbox_identities d
                 on d.participant_id = i.participant_id and d.instruction_id = i.instruction_id and d.outbox_id = i.outbox_id
              where i.outbox_id = any ({ids})"
        ),
        None => format!("select {IDENTITY} from outbox.payment_outbox_identities d"),
    }
}

pub(crate) fn applied(ids: Option<&str>) -> String {
    match ids {
        Some(ids) => format!("{APPLIED} and r.outbox_id = any ({ids})"),
        None => APPLIED.to_owned(),
    }
}

pub(crate) fn lates() -> String {
    format!("select {LATE} from outbox.payment_outbox_late_outcomes l")
}
