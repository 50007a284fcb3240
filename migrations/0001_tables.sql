-- The tables of the outbox. Run as outbox_owner, after scripts/db/bootstrap.sql.

set local lock_timeout = '2s';

-- What is made as another role belongs to that role: the functions would then run with its rights.
do $$
begin
    if current_user <> 'outbox_owner' then
        raise exception 'migrations run as outbox_owner, not as %', current_user
            using errcode = 'OB010', hint = 'connect as outbox_migrator, or see scripts/db/bootstrap.sql for another login';
    end if;
end
$$;

-- The global form: the `in schema` form leaves EXECUTE with PUBLIC.
alter default privileges for role outbox_owner revoke execute on functions from public;
alter default privileges for role outbox_owner revoke usage on types from public;
revoke all on schema outbox from public;
grant usage on schema outbox to outbox_ingest, outbox_dispatcher, outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;

-- Each rail's contract: what may be done after an unknown outcome, and how often. Enforced inside
-- the claim and completion functions, so that a faulty dispatcher cannot go round it.
create table outbox.payment_rails (
    rail text primary key
        constraint rail_is_a_channel_name check (rail ~ '^[a-z0-9_]{1,40}$'),
    on_unknown text not null default 'hold'
        constraint on_unknown_is_known check (on_unknown in ('resend', 'inquire', 'hold')),
    idempotency_window_ms bigint
        constraint idempotency_window_is_positive check (idempotency_window_ms > 0),
    not_found_is_final boolean not null default false,
    rail_timeout_ms bigint not null default 30000
        constraint rail_timeout_is_bounded check (rail_timeout_ms between 1 and 3600000),
    processing_bound_ms bigint not null default 60000
        constraint processing_bound_is_bounded check (processing_bound_ms between 0 and 604800000),
    amount_required boolean not null default true,
    max_sends integer not null default 10
        constraint max_sends_is_positive check (max_sends > 0),
    max_inquiries integer not null default 100
        constraint max_inquiries_is_positive check (max_inquiries > 0),
    max_crashes integer not null default 3
        constraint max_crashes_is_positive check (max_crashes > 0),
    backoff_base_ms bigint not null default 500
        constraint backoff_base_is_positive check (backoff_base_ms > 0),
    backoff_cap_ms bigint not null default 300000
        constraint backoff_cap_is_bounded check (backoff_cap_ms between 1 and 86400000),
    lease_duration_ms bigint not null default 60000
        constraint lease_duration_is_bounded check (lease_duration_ms between 1 and 3600000),
    max_sends_per_s integer
        constraint max_sends_per_s_is_bounded check (max_sends_per_s between 1 and 100000),
    fallback boolean not null default false,
    paused boolean not null default false,
    require_attestation boolean not null default false,
    changed_at timestamptz not null,
    changed_by text not null,
    -- The policy whose document this contract is of.
    policy_version integer,
    constraint lease_outlasts_rail_timeout check (lease_duration_ms > rail_timeout_ms),
    constraint backoff_cap_not_below_base check (backoff_cap_ms >= backoff_base_ms),
    constraint resend_has_key_window check (on_unknown <> 'resend' or idempotency_window_ms is not null)
);

-- Who is this payment, for ever. Outlives the queue row: a key is never free again.
create table outbox.payment_outbox_identities (
    participant_id text not null,
    instruction_id text not null,
    generation integer not null default 0,
    idempotency_key text not null,
    outbox_id uuid not null,
    identity_sha256 bytea not null,
    constraint payment_outbox_identities_pkey primary key (participant_id, instruction_id, generation),
    constraint generation_not_negative check (generation >= 0),
    constraint identity_sha256_is_whole check (octet_length(identity_sha256) = 32)
) partition by hash (instruction_id);

-- What to pay, immutable, byte for byte.
create table outbox.payment_outbox_instructions (
    outbox_id uuid not null,
    participant_id text not null,
    instruction_id text not null,
    rail text not null,
    payload bytea not null,
    content_type text not null,
    payload_sha256 bytea not null,
    amount_minor bigint,
    currency text,
    attestation_id uuid,
    not_before timestamptz,
    not_after timestamptz,
    ordering_key text,
    traceparent text,
    enqueued_by text not null,
    created_at timestamptz not null,
    policy_version integer,
    constraint payment_outbox_instructions_pkey primary key (outbox_id),
    constraint amount_is_positive check (amount_minor > 0),
    constraint currency_is_iso_4217 check (currency ~ '^[A-Z]{3}$'),
    constraint amount_has_currency check ((amount_minor is null) = (currency is null)),
    constraint not_after_follows_not_before check (not_after > not_before)
) partition by range (outbox_id);

-- Whose request was let in or turned away at the entrance, by which proof and under which policy: hashes and names, never a
-- payload, never a secret. History.
create table outbox.ingress_attestations (
    attestation_id uuid not null,
    request_id text not null,
    instruction_id text,
    participant_id text not null,
    tenant_id text,
    received_at timestamptz not null,
    payload_sha256 bytea not null,
    auth_method text not null,
    client_cert_fingerprint bytea,
    key_id text,
    jwt_iss text,
    jti text,
    signature_alg text,
    signature bytea,
    decision text not null,
    reason_code text,
    policy_version text,
    recorded_by text not null,
    recorded_at timestamptz not null,
    constraint ingress_attestations_pkey primary key (attestation_id),
    constraint payload_sha256_is_whole check (octet_length(payload_sha256) = 32),
    constraint auth_method_is_known check (auth_method in ('MTLS', 'JWS', 'JWT', 'HTTPSIG', 'HMAC', 'APIKEY', 'SSH', 'NONE')),
    constraint fingerprint_is_sha256 check (octet_length(client_cert_fingerprint) = 32),
    constraint signature_is_bounded check (octet_length(signature) between 1 and 4096),
    constraint decision_is_known check (decision in ('ACCEPTED', 'REJECTED')),
    constraint rejected_has_a_reason check (decision = 'ACCEPTED' or reason_code is not null),
    constraint accepted_names_its_instruction check (decision = 'REJECTED' or instruction_id is not null),
    -- What is not named cannot be revoked.
    constraint accepted_names_its_credential check (decision = 'REJECTED' or auth_method = 'MTLS' and client_cert_fingerprint is not null
        or auth_method = 'JWT' and num_nonnulls(jti, key_id) > 0 or auth_method not in ('MTLS', 'JWT', 'NONE') and key_id is not null)
) partition by range (attestation_id);

-- Which attestation is that of a request, for ever: a request that comes again is not attested anew.
create table outbox.ingress_requests (
    participant_id text not null,
    request_id text not null,
    attestation_id uuid not null,
    content_sha256 bytea not null,
    constraint ingress_requests_pkey primary key (participant_id, request_id),
    constraint content_sha256_is_whole check (octet_length(content_sha256) = 32)
) partition by hash (request_id);

-- Credentials that are not trusted any more, whatever the PKI or the issuer says: a deny list over theirs. An entry counts
-- from its commit until expires_at, for ever without one; no entry is ever taken back. History.
create table outbox.revoked_client_certs (
    revocation_id uuid primary key,
    fingerprint bytea not null,
    revoked_at timestamptz not null,
    reason text not null,
    revoked_by text not null,
    expires_at timestamptz,
    constraint fingerprint_is_sha256 check (octet_length(fingerprint) = 32),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S'),
    constraint expires_after_its_beginning check (expires_at > revoked_at)
);
create index revoked_client_certs_fingerprint on outbox.revoked_client_certs (fingerprint);

-- One token (jti), or all that a key signs or is (key_id), of one issuer or of any.
create table outbox.revoked_tokens (
    revocation_id uuid primary key,
    jti text,
    key_id text,
    jwt_iss text,
    revoked_at timestamptz not null,
    reason text not null,
    revoked_by text not null,
    expires_at timestamptz,
    constraint token_or_key check (num_nonnulls(jti, key_id) = 1),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S'),
    constraint expires_after_its_beginning check (expires_at > revoked_at)
);
create index revoked_tokens_jti on outbox.revoked_tokens (jti) where jti is not null;
create index revoked_tokens_key_id on outbox.revoked_tokens (key_id) where key_id is not null;

-- The hot queue, narrow. fillfactor: all rows of a page are claimed together, so a page needs room
-- for a second version of each, which is longer by the lease (184 bytes after 104); above 36 claims stop
-- being HOT (at 45 a quarter of them). vacuum_truncate: truncation takes an exclusive lock, and an empty
-- queue is normal.
create table outbox.payment_outbox_pending (
    outbox_id uuid not null,
    rail text not null,
    participant_id text not null,
    disposition text not null default 'READY',
    hold_reason text,
    attempt_count integer not null default 0,
    send_count integer not null default 0,
    crash_count integer not null default 0,
    inquiry_count integer not null default 0,
    first_sent_at timestamptz,
    in_doubt_since timestamptz,
    quarantine_until timestamptz,
    late_success boolean not null default false,
    hold_requested boolean not null default false,
    is_ordered boolean not null default false,
    possible_duplicate boolean not null default false,
    is_redrive boolean not null default false,
    next_attempt_at timestamptz not null,
    not_after timestamptz,
    created_at timestamptz not null,
    endpoint text,
    claimed_by text,
    claimed_at timestamptz,
    lease_token uuid,
    lease_expires_at timestamptz,
    policy_version integer,
    constraint payment_outbox_pending_pkey primary key (outbox_id),
    constraint disposition_is_known check (disposition in ('READY', 'IN_DOUBT', 'HELD', 'PARKED')),
    constraint hold_reason_is_known check (hold_reason in
        ('UNKNOWN', 'EXHAUSTED', 'KEY_WINDOW', 'MISSED_WINDOW', 'LATE_SUCCESS', 'CONTRADICTION', 'REQUESTED')),
    constraint held_has_a_reason check ((disposition = 'HELD') = (hold_reason is not null)),
    constraint lease_is_whole check (num_nulls(claimed_by, claimed_at, lease_token, lease_expires_at) in (0, 4)),
    constraint only_claimable_rows_are_leased check (lease_token is null or disposition in ('READY', 'IN_DOUBT')),
    constraint counts_not_negative check (least(attempt_count, send_count, crash_count, inquiry_count) >= 0)
) with (
    fillfactor = 33,
    vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- The due-claim index. No lease column is in it, so that a claim is a HOT update.
create index payment_outbox_pending_due on outbox.payment_outbox_pending (rail, next_attempt_at, outbox_id)
    where disposition in ('READY', 'IN_DOUBT');

-- Parked payments, for what brings them back: never in the way of a claim.
create index payment_outbox_pending_parked on outbox.payment_outbox_pending (rail, participant_id, outbox_id)
    where disposition = 'PARKED';
create index payment_outbox_pending_parked_until on outbox.payment_outbox_pending (rail, not_after)
    where disposition = 'PARKED' and not_after is not null;

-- The payments that share an ordering key, in the order of their enqueue, until they have ended. Only the first of
-- a key is sent. The place is drawn under the key's lock.
create table outbox.payment_outbox_order (
    rail text not null,
    ordering_key text not null,
    place bigint generated always as identity,
    outbox_id uuid not null,
    constraint payment_outbox_order_pkey primary key (rail, ordering_key, place),
    constraint payment_outbox_order_once unique (outbox_id)
) with (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Parked payments that are to come back: the first of an ordering key, where another transaction had the key when
-- its turn came, or those of a participant that goes on, from an outbox_id on; has_skipped: before it some were locked,
-- and are owed still.
create table outbox.payment_outbox_unparking (
    rail text not null,
    ordering_key text,
    participant_id text,
    from_outbox_id uuid,
    owed_no bigint generated always as identity primary key,
    has_skipped boolean not null default false,
    constraint key_or_participant check (num_nonnulls(ordering_key, participant_id) = 1)
);

-- What may not be sent now: everything (both null), a rail, a participant, or a participant on a rail. Not history:
-- operator_actions is.
create table outbox.outbox_pauses (
    action_id uuid primary key,
    rail text,
    participant_id text,
    paused_by text not null,
    paused_at timestamptz not null,
    constraint one_pause_for_a_scope unique nulls not distinct (rail, participant_id)
);

-- When a rail with a rate may be sent to again, for all dispatchers together.
create table outbox.payment_rail_rates (
    rail text primary key,
    next_at timestamptz not null
) with (fillfactor = 50);

-- The epoch: which cluster, which timeline of it, and for which environment the payments are sent. The last row
-- is in force. History.
create table outbox.outbox_cluster (
    system_identifier bigint not null,
    timeline integer not null,
    environment text not null,
    lost_from timestamptz,
    action_id uuid,
    recorded_by text not null,
    recorded_at timestamptz not null,
    epoch_no integer generated always as identity primary key
);

-- The append-only ledger: every granted lease ends in exactly one row.
create table outbox.payment_outbox_attempts (
    outbox_id uuid not null,
    attempt_no integer not null,
    rail text not null,
    kind text not null,
    state text not null,
    outcome text,
    worker_id text not null,
    lease_token uuid not null,
    claimed_at timestamptz not null,
    first_byte_at timestamptz,
    last_byte_at timestamptz,
    completed_at timestamptz not null,
    endpoint text,
    request_sha256 bytea,
    response_sha256 bytea,
    rail_reference text,
    rail_code text,
    error_class text,
    error_detail text,
    policy_version integer,
    constraint payment_outbox_attempts_pkey primary key (outbox_id, attempt_no),
    constraint attempt_no_is_positive check (attempt_no > 0),
    constraint kind_is_known check (kind in ('SUBMIT', 'INQUIRE', 'OPERATOR')),
    constraint state_is_known check (state in
        ('DISPATCHED', 'FAILED', 'CANCELLED', 'RETRYABLE', 'IN_DOUBT', 'LEASE_EXPIRED', 'RELEASED')),
    constraint dispatched_has_a_reference check (state <> 'DISPATCHED' or coalesce(rail_reference, '') <> ''),
    constraint completed_outcome_is_recorded check (kind = 'OPERATOR' or (state = 'LEASE_EXPIRED') = (outcome is null)),
    constraint request_sha256_is_whole check (octet_length(request_sha256) = 32),
    constraint response_sha256_is_whole check (octet_length(response_sha256) = 32)
) partition by range (outbox_id);

-- The second line of defence behind the functions: one terminal attempt for each payment. It holds
-- for the whole ledger because outbox_id, the partition key, is in it.
create unique index payment_outbox_attempts_one_terminal on outbox.payment_outbox_attempts (outbox_id)
    where state in ('DISPATCHED', 'FAILED', 'CANCELLED');

-- What ended in a period, for reconciliation and audit. BRIN: rows lie in the order of their completion, and it costs a
-- completion next to nothing.
create index payment_outbox_attempts_completed on outbox.payment_outbox_attempts using brin (completed_at)
    with (pages_per_range = 32, autosummarize = on);

-- What a worker learned after it had lost its lease. Never thrown away.
create table outbox.payment_outbox_late_outcomes (
    outbox_id uuid not null,
    attempt_no integer not null,
    evidence_sha256 bytea not null,
    lease_token uuid not null,
    worker_id text not null,
    outcome text not null,
    first_byte_at timestamptz,
    last_byte_at timestamptz,
    recorded_at timestamptz not null,
    endpoint text,
    request_sha256 bytea,
    response_sha256 bytea,
    rail_reference text,
    rail_code text,
    error_class text,
    error_detail text,
    constraint payment_outbox_late_outcomes_pkey primary key (outbox_id, attempt_no, evidence_sha256),
    constraint evidence_sha256_is_whole check (octet_length(evidence_sha256) = 32)
);

-- One row for each life of a dispatcher. Not history: old rows are pruned by the heartbeat.
create table outbox.outbox_dispatchers (
    worker_id text primary key,
    version text not null,
    api_version integer not null,
    state text not null
        constraint state_is_known check (state in ('RUNNING', 'DRAINING', 'STOPPED')),
    lanes text[] not null,
    in_flight integer not null
        constraint in_flight_not_negative check (in_flight >= 0),
    heartbeat_interval_ms bigint not null
        constraint heartbeat_interval_is_positive check (heartbeat_interval_ms > 0),
    started_at timestamptz not null,
    heartbeat_at timestamptz not null,
    settled bigint[] not null default '{}'
) with (fillfactor = 50);

-- How many heartbeats each memory of a dispatcher (a state file) has made here. Only a heartbeat writes it, and none
-- is pruned: a dispatcher whose row is missing or lower than it remembers claims nothing.
create table outbox.outbox_dispatcher_memories (
    memory_id uuid primary key,
    beat bigint not null
        constraint beat_is_positive check (beat > 0),
    noted_at timestamptz not null
) with (fillfactor = 50);

-- What people asked for. History, as the three tables after it.
create table outbox.operator_actions (
    action_id uuid primary key,
    kind text not null,
    rail text,
    participant_id text,
    parameters jsonb not null,
    reason text not null,
    evidence text,
    needs_approval boolean not null,
    member_count integer not null,
    members_sha256 bytea not null,
    amounts jsonb not null,
    proposed_by text not null,
    proposed_at timestamptz not null,
    constraint kind_is_known check (kind in ('PAUSE', 'RESUME', 'HOLD', 'CANCEL', 'RETRY_NOW', 'RELEASE', 'RELEASE_AS_RESEND', 'RESOLVE_DISPATCHED',
        'RESOLVE_FAILED', 'REDRIVE', 'FAILOVER')),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S'),
    constraint evidence_is_bounded check (length(evidence) between 1 and 256),
    constraint members_sha256_is_whole check (octet_length(members_sha256) = 32)
);

-- The frozen list of an action, with how each payment stood.
create table outbox.operator_action_members (
    action_id uuid not null,
    outbox_id uuid not null,
    disposition text,
    hold_reason text,
    was_sent boolean,
    attempt_count integer not null,
    amount_minor bigint,
    currency text,
    primary key (action_id, outbox_id)
);
-- What people did to a payment.
create index operator_action_members_payment on outbox.operator_action_members (outbox_id);

-- The second person's word.
create table outbox.operator_action_decisions (
    action_id uuid primary key,
    decision text not null,
    reason text not null,
    decided_by text not null,
    decided_at timestamptz not null,
    constraint decision_is_known check (decision in ('APPROVED', 'REJECTED', 'WITHDRAWN')),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S')
);

-- What became of each payment of an action.
create table outbox.operator_action_results (
    action_id uuid not null,
    outbox_id uuid not null,
    result text not null,
    detail text,
    new_outbox_id uuid,
    applied_by text not null,
    applied_at timestamptz not null,
    primary key (action_id, outbox_id),
    constraint result_is_known check (result in ('APPLIED', 'SKIPPED'))
);
create index operator_action_results_payment on outbox.operator_action_results (outbox_id);

-- What a rail says it has booked in a period, line by line, and how that compares with what is here. History.
create table outbox.reconcile_statements (
    statement_id uuid primary key,
    rail text not null,
    booked_from timestamptz not null,
    booked_until timestamptz not null,
    slack_ms bigint not null,
    file_name text not null,
    file_sha256 bytea not null,
    line_count bigint not null,
    lines_sha256 bytea not null,
    sums jsonb not null,
    paid_statuses text[] not null,
    reason text not null,
    run_by text not null,
    run_at timestamptz not null,
    -- How often the same was recorded, and voided, before.
    edition integer not null,
    constraint statement_is_recorded_once unique (rail, booked_from, booked_until, file_sha256, edition),
    constraint period_is_not_empty check (booked_until > booked_from),
    constraint slack_is_bounded check (slack_ms between 0 and 604800000),
    constraint line_count_is_bounded check (line_count between 0 and 10000000),
    constraint file_sha256_is_whole check (octet_length(file_sha256) = 32),
    constraint lines_sha256_is_whole check (octet_length(lines_sha256) = 32),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S')
);

create table outbox.reconcile_lines (
    statement_id uuid not null,
    line_no bigint not null,
    rail text not null,
    wire_key text,
    outbox_id uuid,
    rail_reference text,
    amount_minor bigint not null,
    currency text not null,
    booked_at timestamptz,
    status text,
    is_paid boolean not null,
    constraint reconcile_lines_pkey primary key (statement_id, line_no),
    constraint line_names_a_payment check (num_nonnulls(wire_key, rail_reference) > 0)
);

-- Which payment each paid line was found to be of. What the ledger learns later does not change it.
create table outbox.reconcile_matches (
    statement_id uuid not null,
    line_no bigint not null,
    outbox_id uuid not null,
    matched_at timestamptz not null,
    constraint reconcile_matches_pkey primary key (statement_id, line_no)
);
create index reconcile_matches_payment on outbox.reconcile_matches (outbox_id);

-- A statement counts from its first comparison on; before that its lines may be incomplete. Of the payments that ended
-- before `judged_until`, none waits for another statement.
create table outbox.reconcile_comparisons (
    statement_id uuid not null,
    comparison_no integer not null,
    matched bigint not null,
    at_the_edge bigint not null,
    before_cover bigint not null,
    found integer not null,
    closed integer not null,
    judged_until timestamptz not null,
    compared_by text not null,
    compared_at timestamptz not null,
    primary key (statement_id, comparison_no)
);

-- A statement that should not have been recorded. Nothing of it counts any more, and what it judged is judged again; its
-- breaks stay.
create table outbox.reconcile_voidings (
    statement_id uuid primary key,
    reason text not null,
    judged_until timestamptz,
    voided_by text not null,
    voided_at timestamptz not null,
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S')
);

-- What differs. `subject` is the payment, or the booking: what the statement calls it, with its money, and the how many
-- alike it is. Open until it has a resolution.
create table outbox.reconcile_breaks (
    break_id uuid primary key,
    statement_id uuid not null,
    rail text not null,
    kind text not null,
    subject text not null,
    outbox_id uuid,
    wire_key text,
    rail_reference text,
    line_no bigint,
    our_amount_minor bigint,
    our_currency text,
    their_amount_minor bigint,
    their_currency text,
    standing text,
    found_at timestamptz not null,
    constraint break_is_found_once_in_a_statement unique (statement_id, kind, subject),
    constraint kind_is_known check (kind in
        ('MISSING_AT_RAIL', 'UNKNOWN_TO_US', 'AMOUNT_DIFFERS', 'REFERENCE_DIFFERS', 'TWICE_AT_RAIL', 'PAID_BUT_NOT_DISPATCHED'))
);
create index reconcile_breaks_subject on outbox.reconcile_breaks (rail, subject);

-- Who closed a break: a person, or a statement that agrees. When that statement is voided, the break is open again.
create table outbox.reconcile_resolutions (
    break_id uuid not null,
    reason text not null,
    action_id uuid,
    statement_id uuid,
    resolved_by text not null,
    resolved_at timestamptz not null,
    resolution_no integer not null,
    constraint reconcile_resolutions_pkey primary key (break_id, resolution_no),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S'),
    constraint person_or_statement check (action_id is null or statement_id is null)
);

-- The statements that count: compared, and not voided.
create view outbox.reconcile_counted as
    select s.* from outbox.reconcile_statements s
     where exists (select from outbox.reconcile_comparisons c where c.statement_id = s.statement_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = s.statement_id);

-- The resolutions that count.
create view outbox.reconcile_closed as
    select r.* from outbox.reconcile_resolutions r
     where not exists (select from outbox.reconcile_voidings v where v.statement_id = r.statement_id);

-- What an audit saw, and up to which transactions. The next one begins where an earlier one can have missed nothing. History.
create table outbox.audit_checkpoints (
    is_full boolean not null,
    changed_from timestamptz not null,
    snapshot_xmin xid8 not null,
    xact_id xid8 not null,
    examined bigint not null,
    pending bigint not null,
    identities bigint,
    detached bigint not null,
    swept_to uuid,
    breaches bigint not null,
    audited_by text not null,
    audited_at timestamptz not null,
    checkpoint_no integer generated always as identity primary key
);

-- A month that takes no further rows: sealed before it is counted, so that what is counted is what is detached. History.
create table outbox.partition_seals (
    holds text not null,
    month date not null,
    min_age_ms bigint not null,
    -- The last audit before it.
    checkpoint_no integer not null,
    sealed_by text not null,
    sealed_at timestamptz not null,
    constraint partition_seals_pkey primary key (holds, month),
    constraint month_is_its_first_day check (extract(day from month) = 1)
);

-- What a detached partition held: recorded before it is detached, never changed, and all that is left of it here once its table
-- is dropped. History.
create table outbox.partition_receipts (
    table_name text not null,
    parent_name text not null,
    holds text not null,
    month date not null,
    ids_from uuid not null,
    ids_before uuid not null,
    row_count bigint not null,
    -- How many payments were enqueued in the month; all had ended. Null where the table is not about payments.
    payment_count bigint,
    rows_sha256 bytea not null,
    -- Payments that money left for against our books, or twice: they stay in sight.
    contradictions jsonb not null,
    -- The full audit that saw the sealed month.
    checkpoint_no integer,
    recorded_by text not null,
    recorded_at timestamptz not null,
    constraint partition_receipts_pkey primary key (table_name),
    constraint table_has_one_receipt_a_month unique (parent_name, month),
    constraint counts_not_negative check (least(row_count, payment_count) >= 0),
    constraint rows_sha256_is_whole check (octet_length(rows_sha256) = 32)
);

-- The payments that were pending at the last audit, or broken: what is gone from the queue has to have ended. The
-- audit keeps it; not history.
create table outbox.audit_open (
    outbox_id uuid primary key,
    is_broken boolean not null
);

-- The decisions about money: contracts, tables of codes, endpoints of all rails, as canonical JSON. The checksum is over those
-- bytes. base_version: the version that was active when it was proposed. History, as the two tables after it.
create table outbox.policy_documents (
    version integer primary key,
    document text not null,
    checksum bytea not null,
    base_version integer,
    reason text not null,
    proposed_by text not null,
    proposed_at timestamptz not null,
    constraint checksum_is_of_document check (checksum = sha256(convert_to(document, 'UTF8'))),
    constraint document_is_bounded check (octet_length(document) <= 1048576),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S')
);

-- The second person's word on the document with that checksum.
create table outbox.policy_decisions (
    version integer primary key,
    decision text not null,
    checksum bytea not null,
    reason text not null,
    decided_by text not null,
    decided_at timestamptz not null,
    constraint decision_is_known check (decision in ('APPROVED', 'REJECTED')),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S')
);

-- Which version followed which. The last one is active: each version has one successor, so there is one last.
create table outbox.policy_activations (
    version integer primary key,
    base_version integer,
    checksum bytea not null,
    reason text not null,
    activated_by text not null,
    activated_at timestamptz not null,
    activation_no integer generated always as identity,
    constraint policy_activations_in_order unique (activation_no),
    constraint one_successor_of_a_version unique nulls not distinct (base_version),
    constraint reason_is_given check (length(reason) <= 1000 and reason ~ '\S')
);

-- RETIRED: it was active, or another was activated since it was proposed.
create view outbox.policy_versions as
    select d.version, encode(d.checksum, 'hex') as checksum, s.status, a.activated_at, s.status = 'ACTIVE' as is_active, d.base_version,
           d.proposed_by, d.proposed_at, c.decided_by, c.decided_at, a.activated_by
      from outbox.policy_documents d
      left join outbox.policy_decisions c on c.version = d.version
      left join outbox.policy_activations a on a.version = d.version
      left join (select l.version from outbox.policy_activations l order by l.activation_no desc limit 1) as n on true
     cross join lateral (select case when d.version = n.version then 'ACTIVE'
                                     when a.version is null and c.decision = 'REJECTED' then 'REJECTED'
                                     when a.version is not null or d.base_version is distinct from n.version then 'RETIRED'
                                     when c.decision = 'APPROVED' then 'APPROVED' else 'PROPOSED' end as status) as s;
