create or replace function outbox.audit_payments(p_from timestamptz, p_slice integer, p_swept_from uuid, p_swept_to uuid)
returns table (kind text, outbox_id uuid, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: the promises that payments break, in the snapshot of the caller's statement. Internal to audit_outbox.
-- Parameters: p_from, examines what has left the queue since the last audit, what was broken then, and what was enqueued or has ended an
--   attempt since; null, all. Besides, of what changed by itself nothing: p_slice, a sixtieth of the queue; p_swept_*, history.
-- Results: nothing of months that have left by receipt, which audit_receipts looks at; one row for each broken promise; EXAMINED for each payment that was looked at; FAILED_BUT_ACCEPTED and ACCEPTED_TWICE, which
--   break none of ours.
-- Hazard: each look-up below is by key and cannot become a join that reads a whole table. What is in the queue and was at the last audit
--   has changed only with an attempt: to look at all of it each time costs minutes where the queue is long.
declare
    v_lo uuid := outbox.outbox_id_floor(coalesce(p_from, 'epoch'));
begin
    return query
    with gone as materialized (
        select g.ids_from, g.ids_before from outbox.detached_id_ranges() as g
    ), suspects as materialized (
        select o.outbox_id from outbox.audit_open o left join outbox.payment_outbox_pending p on p.outbox_id = o.outbox_id
         where o.is_broken or p.outbox_id is null
        union select p.outbox_id from outbox.payment_outbox_pending p where p_from is null or get_byte(uuid_send(p.outbox_id), 15) % 60 = p_slice
        union select i.outbox_id from outbox.payment_outbox_instructions i where i.outbox_id >= v_lo
        union select a.outbox_id from outbox.payment_outbox_attempts a where a.outbox_id >= v_lo
        union select a.outbox_id from outbox.payment_outbox_attempts a where a.completed_at >= p_from
        union select i.outbox_id from outbox.payment_outbox_instructions i where i.outbox_id > p_swept_from and i.outbox_id <= p_swept_to
        union select a.outbox_id from outbox.payment_outbox_attempts a where a.outbox_id > p_swept_from and a.outbox_id <= p_swept_to
        union select d.outbox_id from outbox.payment_outbox_identities d where p_from is null
    ), seen as materialized (
        select s.outbox_id, i.rail is not null as is_instructed, sha256(i.payload) = i.payload_sha256 as is_true, d.identity_sha256 is not null as is_identified,
               outbox.payment_identity_sha256(i.rail, sha256(i.payload), i.content_type, i.amount_minor, i.currency, i.not_before, i.not_after, i.ordering_key)
                   = d.identity_sha256 as is_itself,
               i.attestation_id is not null as is_attested, t.allows,
               exists (select from outbox.partition_receipts r where r.holds = 'ATTESTATIONS' and i.attestation_id >= r.ids_from and i.attestation_id < r.ids_before)
                   as is_attested_elsewhere,
               p.rail is not null as is_pending, p.attempt_count, p.lease_token is not null as is_leased, l.*
          from (select t.outbox_id from suspects t
                 where not exists (select from gone g where t.outbox_id >= g.ids_from and t.outbox_id < g.ids_before)) as s
          left join lateral (select n.* from outbox.payment_outbox_instructions n where n.outbox_id = s.outbox_id limit 1) as i on true
          left join lateral (select e.identity_sha256 from outbox.payment_outbox_identities e
                              where e.participant_id = i.participant_id and e.instruction_id = i.instruction_id
                                and e.outbox_id = s.outbox_id limit 1) as d on true
          left join lateral (select n.decision = 'ACCEPTED' and n.participant_id = i.participant_id and n.instruction_id = i.instruction_id
                                    and n.payload_sha256 = i.payload_sha256 as allows
                               from outbox.ingress_attestations n
                              where i.attestation_id is not null and n.attestation_id = i.attestation_id limit 1) as t on true
          left join lateral (select q.rail, q.attempt_count, q.lease_token from outbox.payment_outbox_pending q
                              where q.outbox_id = s.outbox_id limit 1) as p on true
         cross join lateral (
             select count(*) as attempts, min(a.attempt_no) as first_no, max(a.attempt_no) as last_no,
                    count(*) filter (where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')) as ends,
                    max(a.attempt_no) filter (where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')) as end_no,
                    count(*) filter (where a.state = 'DISPATCHED' and coalesce(a.rail_reference, '') = '') as unreferenced,
                    min(a.attempt_no) filter (where not outbox.follows_from_cause(a)) as uncaused_no
               from outbox.payment_outbox_attempts a where a.outbox_id = s.outbox_id) as l
    )
    select b.kind, s.outbox_id, b.detail
      from seen s
     cross join lateral (values
        ('EXAMINED', true, null),
        ('LOST', not s.is_pending and s.ends = 0, 'neither pending nor ended'),
        ('PENDING_AND_ENDED', s.is_pending and s.ends > 0, 'ended by attempt ' || s.end_no),
        ('ENDED_TWICE', s.ends > 1, s.ends || ' terminal attempts'),
        ('ENDED_BEFORE_LAST', s.end_no < s.last_no, 'ended by attempt ' || s.end_no || ' of ' || s.last_no),
        ('ATTEMPTS_WITH_GAPS', s.attempts > 0 and (s.first_no <> 1 or s.attempts <> s.last_no),
            s.attempts || ' attempts from ' || s.first_no || ' to ' || s.last_no),
        ('LEDGER_AND_FENCE_DIFFER', s.is_pending and s.attempt_count <> coalesce(s.last_no, 0) + s.is_leased::integer,
            'attempt_count ' || s.attempt_count || ', last attempt ' || coalesce(s.last_no, 0)),
        ('WITHOUT_INSTRUCTION', not s.is_instructed, 'there is no instruction'),
        ('WITHOUT_IDENTITY', s.is_instructed and not s.is_identified, 'there is no identity'),
        ('PAYLOAD_DIFFERS', not s.is_true, 'the payload is not what payload_sha256 says'),
        ('INSTRUCTION_DIFFERS', s.is_true and not s.is_itself, 'rail, payload, amount, currency, times or key are not those of the enqueue'),
        ('ATTESTATION_DIFFERS', s.is_attested and not coalesce(s.allows, s.is_attested_elsewhere),
            'its attestation is not there, or is of a rejected request or of another participant, instruction or payload'),
        ('STATE_WITHOUT_CAUSE', s.uncaused_no is not null,
            'attempt ' || s.uncaused_no || ': no outcome leads to its state, or no person''s action'),
        ('DISPATCHED_WITHOUT_REFERENCE', s.unreferenced > 0, 'dispatched, and no reference')) as b (kind, is_so, detail)
     where b.is_so
    union all
    select c.kind, c.outbox_id, c.detail from outbox.contradicted_payments() c
    union all
    select 'CANCELLED_BUT_ACCEPTED', c.outbox_id, 'it was cancelled as certainly never sent, and the rail accepted it'
      from outbox.contradicted_payments() c
     where c.kind = 'FAILED_BUT_ACCEPTED'
       and exists (select from outbox.payment_outbox_attempts a where a.outbox_id = c.outbox_id and a.state = 'CANCELLED');
end
$$;
