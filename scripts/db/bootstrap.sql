-- Run once for each database by a DBA, before the first migration. Safe to run again.
--
--   psql -v ON_ERROR_STOP=1 -d payments -f scripts/db/bootstrap.sql
--
-- Creates the roles (they belong to the whole cluster) and the schema `outbox` in the current
-- database. Nothing here has a password. Migrations then run as a login that is neither superuser
-- nor CREATEROLE: `outbox_migrator`, whose sessions act as `outbox_owner`. For another login:
--
--   grant outbox_owner to that_login;
--   alter role that_login set role = 'outbox_owner';
--
-- Give each program its own login and grant it one of the group roles:
--
--   create role pay_dispatcher login; grant outbox_dispatcher to pay_dispatcher;

-- Two databases of one cluster may be prepared at once: roles are created under a lock.
begin;
select pg_advisory_xact_lock(1869968482, 1);

do $$
declare
    v_role text;
begin
    foreach v_role in array array['outbox_owner', 'outbox_ingest', 'outbox_dispatcher', 'outbox_operator',
                                  'outbox_approver', 'outbox_auditor', 'outbox_monitor']
    loop
        if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
            execute format('create role %I nologin nosuperuser nocreatedb nocreaterole', v_role);
        end if;
    end loop;
    if not exists (select from pg_catalog.pg_roles r where r.rolname = 'outbox_migrator') then
        create role outbox_migrator login nosuperuser nocreatedb nocreaterole;
    end if;
    -- On managed Postgres the DBA is no superuser and must be a member to give the schema away.
    if not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) then
        execute format('grant outbox_owner to %I', current_user);
    end if;
    -- Every `alter role` and `grant` writes a shared catalogue: only when something would change.
    if not pg_catalog.pg_has_role('outbox_migrator', 'outbox_owner', 'member') then
        grant outbox_owner to outbox_migrator;
    end if;
    if not exists (select from pg_catalog.pg_db_role_setting s
                     join pg_catalog.pg_roles r on r.oid = s.setrole
                    where r.rolname = 'outbox_migrator' and s.setdatabase = 0
                      and 'role=outbox_owner' = any (s.setconfig)) then
        alter role outbox_migrator set role = 'outbox_owner';
    end if;
end
$$;

create schema if not exists outbox authorization outbox_owner;
commit;
