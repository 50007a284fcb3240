create or replace function outbox.hash_table_chunk(p_table regclass, p_chain bytea, p_after jsonb)
returns table (chain bytea, row_count bigint, last_key jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
-- Purpose: the next 1000 rows of a table, in the order of its primary key, taken into a hash. Called until row_count is 0, each time with what
--   it gave: a statement holds no snapshot for long, and memory is that of 1000 rows. It needs nothing else of this schema, so that an
--   archive with the same table can call it.
-- Parameters: p_chain and p_after, null at the beginning.
-- Results: chain = sha256(p_chain, then the digests of the rows), beginning with sha256 of nothing; the digest of a row is the sha256 of its text
--   as jsonb, with times in UTC and bytes as hex, so it does not depend on a setting or on the order of columns.
-- Hazard: the size of a chunk is part of the hash. Without enable_sort = off each chunk may sort the whole table.
declare
    v_columns text;
    v_texts text;
    v_bound text;
begin
    select string_agg(format('t.%I', a.attname), ', ' order by k.place), string_agg(format('t.%I::text', a.attname), ', ' order by k.place),
           string_agg(format('%L::%s', p_after ->> (k.place - 1)::integer, format_type(a.atttypid, a.atttypmod)), ', ' order by k.place)
      into v_columns, v_texts, v_bound
      from pg_index x
     cross join lateral unnest(x.indkey::smallint[]) with ordinality as k (attnum, place)
      join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
     where x.indrelid = p_table and x.indisprimary;
    if v_columns is null then
        raise exception '% has no primary key: its rows have no order', p_table using errcode = 'OB003';
    end if;
    p_chain := coalesce(p_chain, sha256(''));
    return query execute format(
        'select sha256($1 || coalesce(string_agg(r.digest, '''' order by r.place), '''')), count(*), (array_agg(r.key order by r.place desc))[1]
           from (select row_number() over () as place, q.* from (
                     select sha256(convert_to(to_jsonb(t)::text, ''UTF8'')) as digest, jsonb_build_array(%s) as key
                       from only %s t %s order by %s limit 1000) as q) as r having count(*) > 0',
        v_texts, p_table, case when p_after is not null then format('where (%s) > (%s)', v_columns, v_bound) else '' end, v_columns) using p_chain;
    if not found then
        return query select p_chain, 0::bigint, p_after;
    end if;
end
$$;
