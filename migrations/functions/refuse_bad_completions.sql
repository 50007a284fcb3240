create or replace function outbox.refuse_bad_completions(
    p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[], p_dims text[], p_missing integer
) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses a batch of completions whose arrays are no lists of one length, from 1 on, or that has an outcome nobody
--   knows. Internal to complete.
-- Parameters: p_dims, the dimensions of all lists; p_missing, how many lists are null.
-- Results: nothing, or raises OB003.
declare
    v_dims text := case when cardinality(p_outbox_ids) > 0 then format('[1:%s]', cardinality(p_outbox_ids)) end;
    v_outcome text;
begin
    if p_missing > 0 or exists (select from unnest(p_dims) as l (dims) where l.dims is distinct from v_dims) then
        raise exception 'the arrays of a batch must be lists of one length, that of p_outbox_ids, and begin at 1' using errcode = 'OB003';
    end if;
    if array_position(p_outbox_ids, null) is not null or array_position(p_attempt_nos, null) is not null or array_position(p_lease_tokens, null) is not null then
        raise exception 'a completion names its payment, attempt and lease token: none of them may be null' using errcode = 'OB003';
    end if;
    select c.outcome into v_outcome from unnest(p_outcomes) as c (outcome)
     where outbox.attempt_state_after(c.outcome, false, false, false) is null limit 1;
    if found then
        raise exception 'outcome % is not known', coalesce(quote_literal(v_outcome), 'null') using errcode = 'OB003';
    end if;
end
$$;
