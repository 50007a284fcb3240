create or replace function outbox.refuse_unattested_payments(
    p_ids uuid[], p_first_ids uuid[], p_participant_ids text[], p_instruction_ids text[], p_rails text[], p_payloads bytea[], p_attestation_ids uuid[]
) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
-- Purpose: refuses a batch in which a new payment lacks an attestation that its rail requires, or has one that does not allow it, naming the
--   first. Internal to enqueue, and not called where no rail requires one and none is given.
-- Parameters: p_ids, p_first_ids: alike for what is new. What is recorded already is not judged again: who repeats an enqueue after a lost
--   reply has to hear that the payment is there, whatever was revoked since.
-- Results: nothing, or raises OB021 (none that allows this payment) or OB022 (its credential is revoked).
-- Hazard: the ids are given by a caller: a constant range of them lets the plan open the months it needs and no others.
declare
    v_sorted uuid[] := array(select a.id from unnest(p_attestation_ids) as a (id) where a.id is not null order by a.id);
    v_lo uuid := v_sorted[1];
    v_hi uuid := v_sorted[cardinality(v_sorted)];
    v_bad record;
begin
    select c.ordinal, f.fault into v_bad
      from unnest(p_ids, p_first_ids, p_participant_ids, p_instruction_ids, p_rails, p_payloads, p_attestation_ids) with ordinality
           as c (id, first_id, participant_id, instruction_id, rail, payload, attestation_id, ordinal)
      left join lateral (select n.attestation_id, n.participant_id, n.instruction_id, n.payload_sha256, n.decision,
                                n.client_cert_fingerprint, n.key_id, n.jwt_iss, n.jti
                           from outbox.ingress_attestations n
                          where n.attestation_id = c.attestation_id and n.attestation_id between v_lo and v_hi limit 1) as a on true
     cross join lateral (select case
         when c.attestation_id is null then (select 'is required by the contract of the rail' from outbox.payment_rails r
                                              where r.rail = c.rail and r.require_attestation)
         when a.attestation_id is null then 'names no attestation that is recorded'
         when a.decision <> 'ACCEPTED' then 'names a request that was rejected'
         when a.participant_id <> c.participant_id then 'is of another participant'
         when a.instruction_id <> c.instruction_id then 'is of another instruction'
         when a.payload_sha256 <> sha256(c.payload) then 'is of another payload'
         when outbox.credential_revoked_at(a.client_cert_fingerprint, a.key_id, a.jwt_iss, a.jti) is not null then 'rests on a credential that is revoked'
         end) as f (fault)
     where c.id = c.first_id and f.fault is not null
     order by c.ordinal
     limit 1;
    if found then
        raise exception 'payment % of the batch: attestation_id %', v_bad.ordinal, v_bad.fault
            using errcode = case when v_bad.fault like '%revoked' then 'OB022' else 'OB021' end, column = 'attestation_id', schema = 'outbox',
                  hint = 'nothing of the batch is recorded; see record_ingress_attestation';
    end if;
end
$$;
