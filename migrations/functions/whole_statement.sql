create or replace function outbox.whole_statement(p_statement_id uuid) returns outbox.reconcile_statements
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a statement that can be compared: its lines are those that were announced, by number, money and hash. Internal to
--   finish_reconcile.
-- Results: OB003: no such statement, it is void, or its lines are others.
declare
    s outbox.reconcile_statements;
    v_lines bigint := (select count(*) from outbox.reconcile_lines l where l.statement_id = p_statement_id);
    v_sums jsonb := (select coalesce(jsonb_object_agg(c.currency, c.amount), '{}')
                       from (select l.currency, sum(l.amount_minor) as amount from outbox.reconcile_lines l
                              where l.statement_id = p_statement_id and l.is_paid group by l.currency) as c);
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    if not found then
        raise exception 'there is no statement %', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif exists (select from outbox.reconcile_voidings v where v.statement_id = p_statement_id) then
        raise exception 'statement % is void', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif v_lines <> s.line_count then
        raise exception 'statement % has % lines of %', p_statement_id, v_lines, s.line_count using errcode = 'OB003', column = 'statement_id';
    elsif v_sums <> s.sums then
        raise exception 'the paid lines of statement % are %, not %', p_statement_id, v_sums, s.sums using errcode = 'OB003', column = 'sums';
    elsif outbox.statement_lines_sha256(p_statement_id) <> s.lines_sha256 then
        raise exception 'the lines of statement % are not those of its file', p_statement_id using errcode = 'OB003', column = 'lines_sha256';
    end if;
    return s;
end
$$;
