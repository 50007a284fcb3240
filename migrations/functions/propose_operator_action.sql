create or replace function outbox.propose_operator_action(
    p_kind text, p_outbox_ids uuid[], p_reason text, p_evidence text default null, p_parameters jsonb default '{}'
) returns table (action_id uuid, member_count integer, members_sha256 bytea, amounts jsonb, needs_approval boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: records what a person wants done with a list of payments, and freezes the list.
-- Parameters: p_kind, see apply_to_payment; p_evidence, what proves it (a reference of the rail, a ticket), required
--   where the rail's word is replaced, and to redrive what was dispatched; p_parameters, `not_after` for RELEASE, RELEASE_AS_RESEND and REDRIVE: the new
--   one, null to drop it; `statement_id` for RESOLVE_DISPATCHED: each payment gets the reference that its break names.
-- Results: what a second person approves: how many, the hash of the ids in order, and the money by currency.
--   OB003: a bad value, or an id that nobody knows, by name.
-- Hazard: an attempt under way has its number already. How many had ended is frozen, so that one that was under way counts as made since.
declare
    v_ids uuid[] := array(select distinct c.id from unnest(p_outbox_ids) as c (id) order by c.id);
    v_unknown uuid;
begin
    p_evidence := nullif(btrim(p_evidence, E' \t\r\n'), '');
    if p_kind is null or p_kind not in ('HOLD', 'CANCEL', 'RETRY_NOW', 'RELEASE', 'RELEASE_AS_RESEND', 'RESOLVE_DISPATCHED', 'RESOLVE_FAILED', 'REDRIVE') then
        raise exception 'an action on payments cannot be %', coalesce(quote_literal(p_kind), 'null') using errcode = 'OB003';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'an action needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_kind in ('RELEASE_AS_RESEND', 'RESOLVE_DISPATCHED', 'RESOLVE_FAILED') and p_evidence is null then
        raise exception '% replaces the word of the rail: it needs evidence', p_kind using errcode = 'OB003', column = 'evidence';
    elsif cardinality(v_ids) not between 1 and 100000 or array_position(v_ids, null) is not null then
        raise exception 'an action has 1 to 100000 payments, this one %', cardinality(v_ids) using errcode = 'OB003';
    elsif p_parameters - (case p_kind when 'RESOLVE_DISPATCHED' then array['statement_id'] else array['not_after'] end) <> '{}' then
        raise exception 'these parameters are not known: %', p_parameters using errcode = 'OB003';
    end if;
    perform (p_parameters ->> 'not_after')::timestamptz;
    select c.id into v_unknown from unnest(v_ids) as c (id)
     where not exists (select from outbox.payment_outbox_instructions i where i.outbox_id = c.id) limit 1;
    if found then
        raise exception '%', coalesce(format('payment %s cannot be acted on: ', v_unknown) || outbox.detached_as(v_unknown),
            format('there is no payment %s', v_unknown)) using errcode = 'OB003', column = 'outbox_id';
    end if;
    if p_parameters ? 'statement_id' then
        select c.id into v_unknown from unnest(v_ids) as c (id)
         where (outbox.open_paid_break((p_parameters ->> 'statement_id')::uuid, c.id)).break_id is null limit 1;
        if found then
            raise exception 'no open break of the statement says that % was paid', v_unknown using errcode = 'OB003', column = 'outbox_id';
        end if;
    end if;
    action_id := outbox.new_outbox_id();
    insert into outbox.operator_action_members
    select action_id, c.id, p.disposition, p.hold_reason, p.first_sent_at is not null, coalesce(p.attempt_count - ((p.lease_expires_at > clock_timestamp()) is true)::integer, t.attempt_no, 0), i.amount_minor, i.currency
      from unnest(v_ids) as c (id)
     cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = c.id limit 1) as i
      left join lateral (select q.* from outbox.payment_outbox_pending q where q.outbox_id = c.id limit 1) as p on true
      left join lateral (select a.attempt_no from outbox.payment_outbox_attempts a
                          where a.outbox_id = c.id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true;
    member_count := cardinality(v_ids);
    members_sha256 := outbox.members_sha256(v_ids);
    amounts := (select coalesce(jsonb_object_agg(s.currency, s.amount), '{}')
                  from (select m.currency, sum(m.amount_minor) as amount from outbox.operator_action_members m
                         where m.action_id = propose_operator_action.action_id and m.currency is not null group by m.currency) as s);
    needs_approval := outbox.action_needs_approval(p_kind);
    insert into outbox.operator_actions values (action_id, p_kind, null, null, p_parameters, p_reason, p_evidence, needs_approval, member_count,
        members_sha256, amounts, session_user, clock_timestamp());
    return next;
end
$$;
