create or replace function outbox.refuse_bad_completions(p_size integer, p_outcomes text[], p_dims text[], p_has_nulls boolean) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses a batch of completions whose arrays are no lists of one length, from 1 on, or that has an outcome nobody
--   knows. Internal to complete.
-- Parameters: p_size, the length of the first array; p_dims, the dimensions of all;
--   p_has_nulls, whether an id, attempt number or token is null.
-- Results: nothing, or raises OB003.
declare
    v_outcome text;
begin
    -- Null if the array is, or is empty: `<>` would let that pass.
    if p_size is null or exists (select from unnest(p_dims) as l (dims) where l.dims is distinct from case when p_size > 0 then format('[1:%s]', p_size) end) then
        raise exception 'the arrays of a batch must be lists of one length, that of p_outbox_ids, and begin at 1' using errcode = 'OB003';
    end if;
    if p_has_nulls then
        raise exception 'a completion names its payment, attempt and lease token: none of them may be null' using errcode = 'OB003';
    end if;
    select c.outcome into v_outcome from unnest(p_outcomes) as c (outcome)
     where outbox.attempt_state_after(c.outcome, false, false, false) is null limit 1;
    if found then
        raise exception 'outcome % is not known', coalesce(quote_literal(v_outcome), 'null') using errcode = 'OB003';
    end if;
end
$$;
