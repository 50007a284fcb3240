create or replace function outbox.refuse_bad_completions(p_size integer, p_outcomes text[], p_lengths integer[], p_has_nulls boolean) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses a batch of completions whose arrays differ in length or that has an outcome nobody
--   knows. Internal to complete.
-- Parameters: p_size, the length of the first array; p_lengths, those of the others;
--   p_has_nulls, whether an id, attempt number or token is null.
-- Results: nothing, or raises OB003.
declare
    v_outcome text;
begin
    -- A length is null if the array is: `<>` would let that pass.
    if p_size is null or cardinality(p_outcomes) is distinct from p_size
       or exists (select from unnest(p_lengths) as l (size) where l.size is distinct from p_size) then
        raise exception 'the arrays of a batch must have one length, that of p_outbox_ids' using errcode = 'OB003';
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
