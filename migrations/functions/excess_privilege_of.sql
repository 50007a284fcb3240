create or replace function outbox.excess_privilege_of(p_login name) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the first thing that a dispatcher's login may do beyond what outbox_dispatcher may, in words that
--   follow its name; null if there is none. Membership counts whether its rights are inherited or not.
-- Hazard: whoever holds the dispatcher's password can do what its login can: forge history, or approve.
    select x.excess
      from (select 1 as place, 'is a superuser' as excess from pg_roles r where r.rolname = p_login and r.rolsuper
            union all
            select 2, 'may ' || case when r.rolcreaterole then 'create roles' when r.rolreplication then 'replicate' else 'bypass row security' end
              from pg_roles r where r.rolname = p_login and (r.rolcreaterole or r.rolreplication or r.rolbypassrls)
            union all
            select 3, 'is a member of ' || r.rolname || ', which ' ||
                      case when r.rolsuper then 'is a superuser' when r.rolcreaterole then 'may create roles' when r.rolreplication then 'may replicate'
                           else 'may bypass row security' end
              from pg_roles r
             where r.rolname <> p_login and (r.rolsuper or r.rolcreaterole or r.rolreplication or r.rolbypassrls) and pg_has_role(p_login, r.oid, 'member')
            union all
            select 3, 'is a member of ' || g.rolname
              from pg_roles g
             where g.rolname in ('outbox_owner', 'outbox_ingest', 'outbox_operator', 'outbox_approver', 'outbox_auditor',
                                 'outbox_monitor', 'pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program',
                                 'pg_read_server_files', 'pg_write_server_files')
               and pg_has_role(p_login, g.oid, 'member')
            union all
            select 4, 'has privileges on the table ' || c.oid::regclass::text
              from pg_class c
             where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
               and (has_table_privilege(p_login, c.oid, 'select,insert,update,delete,truncate,references,trigger')
                    or has_any_column_privilege(p_login, c.oid, 'select,insert,update,references'))
            union all
            select 5, 'may call ' || p.oid::regprocedure::text
              from pg_proc p
             where p.pronamespace = 'outbox'::regnamespace
               and has_function_privilege(p_login, p.oid, 'EXECUTE') and not has_function_privilege('outbox_dispatcher', p.oid, 'EXECUTE')
            union all
            select 6, 'may create objects in the schema outbox' where has_schema_privilege(p_login, 'outbox', 'create')) as x
     order by x.place, x.excess
     limit 1
$$;
