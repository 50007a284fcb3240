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
-- Results: how many lines were new. OB003: no such statement, it was compared or voided already or another login began it, or a line
--   that was booked in another period.
declare
    s outbox.reconcile_statements;
    v_recorded integer;
    v_line record;
begin
    select r.* into s from outbox.reconcile_statements r where r.statement_id = p_statement_id
       and not exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = p_statement_id);
    if not found then
        raise exception 'there is no statement % that takes lines', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif s.run_by <> session_user then
        raise exception 'statement % was begun by %, who alone adds its lines', p_statement_id, s.run_by
            using errcode = 'OB003', column = 'statement_id', hint = 'begin it anew after: outboxd reconcile void';
    end if;
    select l.line_no, l.booked_at into v_line from unnest(p_line_nos, p_booked_ats) as l (line_no, booked_at)
     where l.booked_at < s.booked_from - s.slack_ms * interval '1 ms' or l.booked_at >= s.booked_until + s.slack_ms * interval '1 ms'
     order by l.line_no limit 1;
    if found then
        raise exception 'line % was booked at %, outside of the period', v_line.line_no, v_line.booked_at using errcode = 'OB003', column = 'booked_at';
    end if;
    insert into outbox.reconcile_lines
    select p_statement_id, l.line_no, s.rail, l.wire_key,
           -- With its dashes a UUID is longer than the 35 characters of ISO 20022.
           case when btrim(l.wire_key) ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' then btrim(l.wire_key)::uuid end,
           l.rail_reference, l.amount_minor, l.currency, l.booked_at, l.status, l.is_paid
      from unnest(p_line_nos, p_wire_keys, p_rail_references, p_amounts, p_currencies, p_booked_ats, p_statuses, p_paid)
        as l (line_no, wire_key, rail_reference, amount_minor, currency, booked_at, status, is_paid)
    on conflict do nothing;
    get diagnostics v_recorded = row_count;
    return v_recorded;
end
$$;
