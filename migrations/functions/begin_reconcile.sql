create or replace function outbox.begin_reconcile(
    p_rail text, p_booked_from timestamptz, p_booked_until timestamptz, p_slack_ms bigint, p_file_name text, p_file_sha256 bytea,
    p_line_count bigint, p_lines_sha256 bytea, p_sums jsonb, p_paid_statuses text[], p_reason text
) returns table (statement_id uuid, lines_recorded bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: puts a statement of a rail on record, before its lines.
-- Parameters: p_booked_from, p_booked_until, the period the statement is of, the end not included; p_slack_ms, by how
--   much a booking may lie before the first byte or after the completion, by the two clocks; p_lines_sha256, see
--   statement_lines_sha256; p_sums, of paid lines by currency; p_paid_statuses, which statuses mean paid.
-- Results: the statement; the same file for the same rail and period is the same statement, with the lines it has, unless it was
--   voided. OB003: a bad value, a period that is not over, or the file was read in another way before. OB004: no such rail.
declare
    v_paid_statuses text[] := array(select distinct u.status from unnest(p_paid_statuses) as u (status) order by 1);
    v_edition integer;
    v_known uuid;
begin
    if not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        raise exception 'there is no rail %', quote_nullable(p_rail) using errcode = 'OB004', column = 'rail';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'a reconciliation needs a reason' using errcode = 'OB003', column = 'reason';
    elsif not p_booked_from < p_booked_until then
        raise exception 'the period ends before it begins' using errcode = 'OB003', column = 'booked_until';
    elsif p_booked_until > clock_timestamp() then
        raise exception 'the period is not over: what is sent in the rest of it would be taken for missing' using errcode = 'OB003', column = 'booked_until';
    end if;
    v_edition := (select count(*) from outbox.reconcile_statements s join outbox.reconcile_voidings v on v.statement_id = s.statement_id
                   where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256);
    insert into outbox.reconcile_statements
    values (outbox.new_outbox_id(), p_rail, p_booked_from, p_booked_until, p_slack_ms, p_file_name, p_file_sha256, p_line_count, p_lines_sha256,
            p_sums, v_paid_statuses, p_reason, session_user, clock_timestamp(), v_edition)
    on conflict on constraint statement_is_recorded_once do nothing;
    select s.statement_id into v_known from outbox.reconcile_statements s
     where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256 and s.edition = v_edition
       and (s.slack_ms, s.line_count, s.lines_sha256, s.sums, s.paid_statuses)
           is distinct from (p_slack_ms, p_line_count, p_lines_sha256, p_sums, v_paid_statuses);
    if found then
        raise exception 'this file is on record for this period with another slack, or other statuses or lines as paid: statement %', v_known
            using errcode = 'OB003', column = 'file_sha256', hint = 'if that was wrong: outboxd reconcile void';
    end if;
    return query
    select s.statement_id, (select count(*) from outbox.reconcile_lines l where l.statement_id = s.statement_id)
      from outbox.reconcile_statements s
     where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256 and s.edition = v_edition;
end
$$;
