create or replace function outbox.refuse_bad_payments(
    p_participant_ids text[], p_instruction_ids text[], p_idempotency_keys text[], p_rails text[], p_payloads bytea[],
    p_content_types text[], p_amounts_minor bigint[], p_currencies text[], p_not_befores timestamptz[],
    p_not_afters timestamptz[], p_ordering_keys text[], p_traceparents text[], p_attestation_ids uuid[]
) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses a batch that has a bad value, naming the first bad payment and its column.
--   Internal to enqueue. All arrays are lists of one length, from 1 on.
-- Results: whether attestations are to be looked at, which is no fault yet; or raises OB003 (a value) or OB004 (an unknown rail).
declare
    v_bad record;
begin
    if (select bool_and(outbox.is_plain_payment(p_participant_ids[n.place], p_instruction_ids[n.place], p_idempotency_keys[n.place], p_payloads[n.place],
               p_content_types[n.place], p_amounts_minor[n.place], p_currencies[n.place], p_not_befores[n.place], p_not_afters[n.place],
               p_ordering_keys[n.place], p_traceparents[n.place], p_attestation_ids[n.place], r.amount_required, r.require_attestation))
          from generate_series(1, cardinality(p_rails)) as n (place)
          left join outbox.payment_rails r on r.rail = p_rails[n.place]) then
        return false;
    end if;
    select c.ordinal, c.rail, r.rail as known_rail, f.place, f.fault into v_bad
      from unnest(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
                  p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids) with ordinality
           as c (participant_id, instruction_id, idempotency_key, rail, payload, content_type, amount_minor, currency,
                 not_before, not_after, ordering_key, traceparent, attestation_id, ordinal)
      left join outbox.payment_rails r on r.rail = c.rail
     cross join lateral (values
        ('participant_id', case when coalesce(length(c.participant_id), 0) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('instruction_id', case when coalesce(length(c.instruction_id), 0) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('idempotency_key', case when coalesce(length(c.idempotency_key), 0) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('rail', case when r.rail is null then 'is not a rail with a contract in payment_rails' end),
        ('payload', case when c.payload is null then 'must not be null'
                         when octet_length(c.payload) > 1048576 then 'must have at most 1048576 bytes' end),
        ('content_type', case when coalesce(length(c.content_type), 0) not between 3 and 128
                                or c.content_type !~ '^[-!#$%&''*+.^_`|~0-9A-Za-z]+/[-!#$%&''*+.^_`|~0-9A-Za-z]+( *;[ -~]*[!-~])?$'
                              then 'must be a media type, type/subtype, of at most 128 visible ASCII characters (RFC 9110, 8.3.1)' end),
        ('amount_minor', case when c.amount_minor <= 0 then 'must be above zero'
                              when c.amount_minor is null and r.amount_required then 'is required by the contract of the rail'
                              when c.amount_minor is null and c.currency is not null then 'is missing beside a currency' end),
        ('currency', case when c.currency !~ '^[A-Z]{3}$' then 'must be three capital letters (ISO 4217)'
                          when c.currency is null and c.amount_minor is not null then 'is missing beside an amount' end),
        ('not_before', case when not isfinite(c.not_before) then 'must be a finite time' end),
        ('not_after', case when not isfinite(c.not_after) then 'must be a finite time'
                           when c.not_after <= c.not_before then 'must be later than not_before' end),
        ('ordering_key', case when length(c.ordering_key) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('traceparent', case when c.traceparent !~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
                             then 'must be a W3C trace context of version 00' end),
        ('attestation_id', case when r.require_attestation or c.attestation_id is not null then '' end)) as f (place, fault)
     where f.fault is not null
     order by f.place = 'attestation_id', c.ordinal
     limit 1;
    if found and v_bad.place <> 'attestation_id' then
        raise exception 'payment % of the batch: % %', v_bad.ordinal, v_bad.place, v_bad.fault
            using errcode = case when v_bad.place = 'rail' then 'OB004' else 'OB003' end, column = v_bad.place,
                  schema = 'outbox', hint = case when v_bad.place = 'rail'
                      then format('rail given: %L; an operator sets its contract with set_payment_rail', v_bad.rail)
                      else 'nothing of the batch is recorded' end;
    end if;
    return found;
end
$$;
