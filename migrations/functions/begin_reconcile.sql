create or replace function outbox.begin_reconcile(
    p_rail text, p_booked_from timestamptz, p_booked_until timestamptz, p_slack_ms bigint, p_file_name text, p_file_sha256 bytea,
    p_line_count bigint, p_sums jsonb, p_reason text
) returns table (statement_id uuid, lines_recorded bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: puts a statement of a rail on record, before its lines.
-- Parameters: p_booked_from, p_booked_until, the period the statement is of, the end not included; p_slack_ms, by how
--   much a booking may lie before the first byte or after the completion, by the two clocks; p_sums, by currency.
-- Results: the statement; the same file for the same rail and period is the same statement, with the lines it has.
--   OB003: a bad value. OB004: no such rail.
begin
    if not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        raise exception 'there is no rail %', quote_nullable(p_rail) using errcode = 'OB004', column = 'rail';
    elsif coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reconciliation needs a reason' using errcode = 'OB003', column = 'reason';
    elsif not p_booked_from < p_booked_until then
        raise exception 'the period ends before it begins' using errcode = 'OB003', column = 'booked_until';
    end if;
    insert into outbox.reconcile_statements
    values (outbox.new_outbox_id(), p_rail, p_booked_from, p_booked_until, p_slack_ms, p_file_name, p_file_sha256, p_line_count, p_sums, p_reason,
            session_user, clock_timestamp())
    on conflict on constraint statement_is_recorded_once do nothing;
    if exists (select from outbox.reconcile_statements s
                where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256
                  and (s.slack_ms, s.line_count, s.sums) is distinct from (p_slack_ms, p_line_count, p_sums)) then
        raise exception 'this file is on record for this period with another slack, or other lines as paid'
            using errcode = 'OB003', column = 'file_sha256';
    end if;
    return query
    select s.statement_id, (select count(*) from outbox.reconcile_lines l where l.statement_id = s.statement_id)
      from outbox.reconcile_statements s
     where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256;
end
$$;
