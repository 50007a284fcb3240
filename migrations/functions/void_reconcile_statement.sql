create or replace function outbox.void_reconcile_statement(p_statement_id uuid, p_reason text) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a statement that should not have been recorded counts no more: not for the cover, not as the other booking of a payment, not
--   for what it closed. What it judged is judged again, and statements that overlap are compared again. Its breaks stay open, for a
--   person to close: voiding hides nothing.
-- Results: how many breaks that it had closed are open again. OB003: a bad value, no such statement, or it is void already.
-- Locks taken: the one of comparisons.
-- Hazard: a payment may end a little before its booking by the two clocks, and was looked for up to 7 days around it.
declare
    s outbox.reconcile_statements;
    v_judged_until timestamptz;
begin
    perform pg_advisory_xact_lock(outbox.reconcile_lock_key());
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    if not found then
        raise exception 'there is no statement %', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'a voiding needs a reason' using errcode = 'OB003', column = 'reason';
    end if;
    if exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id) then
        v_judged_until := least(outbox.reconcile_judged_until(s.rail), s.booked_from - interval '7 days');
    end if;
    insert into outbox.reconcile_voidings values (p_statement_id, p_reason, v_judged_until, session_user, clock_timestamp()) on conflict do nothing;
    if not found then
        raise exception 'statement % is void already', p_statement_id using errcode = 'OB003', column = 'statement_id';
    end if;
    -- What it had found stood for the same in statements that overlap: they have to find it themselves.
    perform outbox.finish_reconcile(t.statement_id, 2147483647) from outbox.reconcile_counted t
      where t.rail = s.rail and t.booked_from < s.booked_until and t.booked_until > s.booked_from;
    return (select count(*) from outbox.reconcile_resolutions r where r.statement_id = p_statement_id);
end
$$;
