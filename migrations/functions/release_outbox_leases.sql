create or replace function outbox.release_outbox_leases(
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[]
) returns table (ordinal integer, verdict text)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: gives leases back whose payments were certainly not sent. Counts nothing; the payment keeps
--   its place in the queue, and the ledger gets a RELEASED attempt.
-- Parameters, results, locks: as complete_outbox_batch.
-- Hazard: a release of what was sent is a blind resend; the database cannot tell, only the caller can.
    select b.ordinal, b.verdict
      from outbox.complete_outbox_batch(p_worker_id, p_outbox_ids, p_attempt_nos, p_lease_tokens,
               array_fill('RELEASED'::text, array[cardinality(p_outbox_ids)]), array_fill(0::bigint, array[cardinality(p_outbox_ids)]),
               array_fill(null::timestamptz, array[cardinality(p_outbox_ids)]), array_fill(null::timestamptz, array[cardinality(p_outbox_ids)]),
               array_fill(null::text, array[cardinality(p_outbox_ids)]), array_fill(null::bytea, array[cardinality(p_outbox_ids)]),
               array_fill(null::bytea, array[cardinality(p_outbox_ids)]), array_fill(null::text, array[cardinality(p_outbox_ids)]),
               array_fill(null::text, array[cardinality(p_outbox_ids)]), array_fill(null::text, array[cardinality(p_outbox_ids)]),
               array_fill(null::text, array[cardinality(p_outbox_ids)])) as b
$$;
