create or replace function outbox.dispatcher_preflight() returns table (
    login text, backend_pid integer, excess_privilege text, fsync boolean, full_page_writes boolean, synchronous_commit text,
    in_recovery boolean, read_only boolean, server_encoding text, server_version_num integer, api_min integer, api_max integer, db_now timestamptz)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what a dispatcher must know of its connection before it claims, in one row.
-- Results: excess_privilege, the first thing the login may do and should not, or null.
-- Hazard: not security definer, since it judges the login itself.
    select session_user::text, pg_backend_pid(), outbox.excess_privilege_of(session_user),
           current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean, current_setting('synchronous_commit'),
           pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean or current_setting('transaction_read_only')::boolean,
           current_setting('server_encoding'), current_setting('server_version_num')::integer, a.api_min, a.api_max, clock_timestamp()
      from outbox.read_api_range() as a
$$;
