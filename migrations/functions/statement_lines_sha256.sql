create or replace function outbox.statement_lines_sha256(p_statement_id uuid) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the hash of a statement's lines as they are recorded, which the program reckons from the file. Internal to finish_reconcile.
-- Results: SHA-256 over the SHA-256 of each line in order. A line is its fields in the order below with U+001F between them,
--   nothing for null, times in microseconds since 1970, t or f.
    select sha256(coalesce(string_agg(sha256(convert_to(concat(l.line_no, e'\x1f', l.wire_key, e'\x1f', l.rail_reference, e'\x1f', l.amount_minor, e'\x1f',
                l.currency, e'\x1f', (extract(epoch from l.booked_at) * 1000000)::bigint, e'\x1f', l.status, e'\x1f', l.is_paid), 'UTF8')),
            '' order by l.line_no), ''))
      from outbox.reconcile_lines l where l.statement_id = p_statement_id
$$;
