create or replace function outbox.record_statement_lines(
    p_statement_id uuid, p_line_nos bigint[], p_wire_keys text[], p_rail_references text[], p_amounts bigint[], p_currencies text[],
    p_booked_ats timestamptz[], p_statuses text[], p_paid boolean[]
) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records lines of a statement. A line that is there already stays as it is, so that an interrupted run goes on.
-- Parameters: arrays of one length; p_line_nos, where the line begins in the file; p_paid, whether its status says that
--   the money has left.
-- Results: how many lines were new. OB003: no such statement, or it was compared already.
declare
    v_recorded integer;
    v_rail text;
begin
    select s.rail into v_rail from outbox.reconcile_statements s where s.statement_id = p_statement_id
       and not exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id);
    if not found then
        raise exception 'there is no statement % that takes lines', p_statement_id using errcode = 'OB003', column = 'statement_id';
    end if;
    insert into outbox.reconcile_lines
    select p_statement_id, l.line_no, v_rail, l.wire_key,
           case when l.wire_key ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then l.wire_key::uuid end,
           l.rail_reference, l.amount_minor, l.currency, l.booked_at, l.status, l.is_paid
      from unnest(p_line_nos, p_wire_keys, p_rail_references, p_amounts, p_currencies, p_booked_ats, p_statuses, p_paid)
        as l (line_no, wire_key, rail_reference, amount_minor, currency, booked_at, status, is_paid)
    on conflict do nothing;
    get diagnostics v_recorded = row_count;
    return v_recorded;
end
$$;
