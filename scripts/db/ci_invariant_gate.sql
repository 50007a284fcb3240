-- The invariants of the schema, asked of a migrated database. One line a check, `ok|FAIL name detail`; with a check
-- that fails psql ends with 3 and an error that names each. Reads catalogues only, but for the boot query, and writes
-- temporary tables alone. From the root of the repository, as any login that may make those:
--
--   psql -X -d payments -f scripts/db/ci_invariant_gate.sql
--
-- What is written about tables, indexes and rights is scripts/db/catalogue.txt, and about the text of functions
-- migrations/functions/: both are made by the same commit as the migrations, and there is no second list here. The one
-- list below is of the tables that may change: whatever else is in schema outbox is history, and has to be guarded.
-- From another directory: -v gate_dir=DIRECTORY_OF_THIS_FILE.
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
\if :{?gate_dir}
\else
    \set gate_dir scripts/db
\endif
\set record `cat :'gate_dir'/catalogue.txt`
\set found `cat :'gate_dir'/catalogue.sql`
\set function_texts `cat :'gate_dir'/../../migrations/functions/*.sql`

begin;
set local search_path = pg_catalog, pg_temp;
set local timezone = 'UTC';

-- A check with what it looked at: one that looked at nothing has failed.
create temporary table gate_checks (place integer generated always as identity, name text, looked_at bigint, of_what text) on commit drop;
create temporary table gate_findings (name text, detail text) on commit drop;
create temporary table gate_record (fact text) on commit drop;
create temporary table gate_found (fact text) on commit drop;
create temporary table gate_files (name text, body text) on commit drop;
insert into gate_record select l.line from regexp_split_to_table(:'record', E'\n') as l (line);
insert into gate_found select o.fact from (:found) as o;
insert into gate_files
select substring(t.text from '^(\w+)\('), substring(t.text from 'as \$\$(.*)\$\$;')
  from regexp_split_to_table(E'\n' || :'function_texts', E'\ncreate or replace function outbox\\.') as t (text)
 where t.text like '%$$%';

-- The tables that may change. Whoever adds one says here that it is not history.
create temporary table gate_mutable (name text) on commit drop;
insert into gate_mutable values
    ('audit_open'), ('outbox_dispatcher_memories'), ('outbox_dispatchers'), ('outbox_pauses'), ('payment_outbox_order'),
    ('payment_outbox_pending'), ('payment_outbox_unparking'), ('payment_rail_rates'), ('payment_rails'), ('schema_migrations');

-- Every table of the schema and every partition of one, wherever that lies.
create temporary table gate_tables (relid oid, name text, root text) on commit drop;
insert into gate_tables
select distinct t.relid, t.relid::regclass::text, r.relname
  from pg_class r
 cross join lateral (select r.oid as relid union select p.relid from pg_partition_tree(r.oid) as p) as t
 where r.relnamespace = to_regnamespace('outbox') and r.relkind in ('r', 'p') and not r.relispartition;

-- The group roles, and every login that has one. From 16 on whoever makes a role is a member of it too, without being able
-- to use or to become it: the DBA of a managed database.
select case when current_setting('server_version_num')::integer >= 160000 then 'usage, set' else 'member' end as has_it \gset
create temporary table gate_runtime_roles (oid oid, name text, is_group boolean) on commit drop;
insert into gate_runtime_roles
select r.oid, r.rolname, r.rolname = g.rolname
  from pg_roles g
  join pg_roles r on not r.rolsuper and pg_has_role(r.oid, g.oid, :'has_it')
 where g.rolname in ('outbox_ingest', 'outbox_dispatcher', 'outbox_operator', 'outbox_approver', 'outbox_auditor', 'outbox_monitor');

insert into gate_checks (name, looked_at, of_what)
select 'required_relations', count(*), 'relations on record' from gate_record r where r.fact like 'table %';
insert into gate_findings
select 'required_relations', substring(r.fact from '^table (\S+) ') || ' is missing or of another kind'
  from gate_record r
 where r.fact like 'table %'
   and not exists (select from pg_class c
                    where c.oid = to_regclass('outbox.' || substring(r.fact from '^table (\S+) '))
                      and c.relkind::text = substring(r.fact from '^table \S+ kind (.)'));

-- ---------------------------------------------------------------------------------------------------------------------
-- The boot query: what a dispatcher asks before anything else. Active as soon as outbox.policy_versions is there, and
-- not yet a required relation.
insert into gate_checks (name, looked_at, of_what) values ('boot_query', 1, 'query');
do $$
declare
    v_active bigint;
begin
    if to_regclass('outbox.policy_versions') is not null then
        execute 'select count(*) from (select version from outbox.policy_versions where is_active) as v' into v_active;
        if v_active > 1 then
            insert into gate_findings values ('boot_query', v_active || ' policy versions are active');
        end if;
    end if;
exception when others then
    insert into gate_findings values ('boot_query', sqlerrm);
end
$$;
-- ---------------------------------------------------------------------------------------------------------------------

create temporary table gate_objects (what text, owner oid, acl aclitem[]) on commit drop;
insert into gate_objects
select 'schema ' || n.nspname, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)) from pg_namespace n where n.nspname = 'outbox'
 union all
select 'relation ' || c.relname, c.relowner, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
  from pg_class c where c.relnamespace = to_regnamespace('outbox') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
 union all
select 'column ' || c.relname || '.' || a.attname, c.relowner, a.attacl
  from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relnamespace = to_regnamespace('outbox') and a.attacl is not null
 union all
select 'function ' || p.proname, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) from pg_proc p where p.pronamespace = to_regnamespace('outbox')
 union all
-- Row types too. An array has the rights of its element.
select 'type ' || t.typname, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
  from pg_type t
 where t.typnamespace = to_regnamespace('outbox') and not exists (select from pg_type e where e.typarray = t.oid);

insert into gate_checks (name, looked_at, of_what) select 'owner', count(*), 'objects' from gate_objects;
insert into gate_findings
select 'owner', o.what || ' belongs to ' || o.owner::regrole from gate_objects o
 where o.owner is distinct from to_regrole('outbox_owner');

insert into gate_checks (name, looked_at, of_what) select 'public_has_nothing', count(*), 'objects' from gate_objects;
insert into gate_findings
select 'public_has_nothing', 'PUBLIC has ' || a.privilege_type || ' on ' || o.what
  from gate_objects o
 cross join aclexplode(o.acl) as a
 where a.grantee = 0;

-- The same by the standard's own views: what they show is what most auditors ask for.
insert into gate_checks (name, looked_at, of_what) values ('public_has_nothing_in_information_schema', 5, 'views');
insert into gate_findings
select 'public_has_nothing_in_information_schema', 'PUBLIC has ' || v.privilege || ' on ' || v.what
  from (select t.table_schema, t.table_name::text, t.privilege_type, t.grantee from information_schema.table_privileges t
         union all select c.table_schema, c.table_name || '.' || c.column_name, c.privilege_type, c.grantee from information_schema.column_privileges c
         union all select r.routine_schema, r.routine_name, r.privilege_type, r.grantee from information_schema.routine_privileges r
         union all select u.udt_schema, u.udt_name, u.privilege_type, u.grantee from information_schema.udt_privileges u
         union all select g.object_schema, g.object_name, g.privilege_type, g.grantee from information_schema.usage_privileges g
       ) as v (schema, what, privilege, grantee)
 where v.schema = 'outbox' and v.grantee = 'PUBLIC';

-- A login may have a database of its own business; in schema outbox it makes nothing.
insert into gate_checks (name, looked_at, of_what) select 'runtime_roles_create_nothing', count(distinct r.oid), 'roles' from gate_runtime_roles r;
insert into gate_findings
select distinct 'runtime_roles_create_nothing', r.name || ' may create in schema outbox' from gate_runtime_roles r
 where has_schema_privilege(r.oid, to_regnamespace('outbox'), 'create')
 union
select 'runtime_roles_create_nothing', r.name || ' may create schemas' from gate_runtime_roles r
 where r.is_group and has_database_privilege(r.oid, current_database(), 'create');

insert into gate_checks (name, looked_at, of_what)
select 'roles_are_plain', count(*), 'roles' from pg_roles r where r.rolname ~ '^outbox_';
insert into gate_findings
select 'roles_are_plain', g.name || ' is missing'
  from (values ('outbox_owner'), ('outbox_ingest'), ('outbox_dispatcher'), ('outbox_operator'), ('outbox_approver'), ('outbox_auditor'),
               ('outbox_monitor')) as g (name)
 where to_regrole(g.name) is null
 union all
select 'roles_are_plain', r.rolname || ' may log in' from pg_roles r
 where r.rolcanlogin and (r.rolname = 'outbox_owner' or exists (select from gate_runtime_roles g where g.oid = r.oid and g.is_group))
 union all
select distinct 'roles_are_plain', r.rolname || ' is superuser, or may make roles or databases, replicate or bypass row security'
  from pg_roles r
 where (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls)
   and (r.rolname = 'outbox_owner' or exists (select from gate_runtime_roles g where g.oid = r.oid and g.is_group))
 union all
select distinct 'roles_are_plain', r.name || ' is a member of outbox_owner' from gate_runtime_roles r
 where to_regrole('outbox_owner') is not null and pg_has_role(r.oid, to_regrole('outbox_owner')::oid, :'has_it');

-- Tables and columns: the rights on record, and none for what is not there, months among it.
insert into gate_checks (name, looked_at, of_what) select 'table_grants', count(*), 'facts' from gate_found f where f.fact ~ '^(table|column) ';
insert into gate_findings
select 'table_grants', coalesce(f.what, r.what) || ' has rights ' || coalesce(f.rights, '-') || ', on record ' || coalesce(r.rights, '-')
  from (select substring(g.fact from '^(?:table|column) \S+(?: \d+ \S+)?') as what, coalesce(substring(g.fact from ' rights (.*)$'), '-') as rights
          from gate_found g where g.fact ~ '^(table|column) ') as f
  full join (select substring(g.fact from '^(?:table|column) \S+(?: \d+ \S+)?') as what, coalesce(substring(g.fact from ' rights (.*)$'), '-') as rights
               from gate_record g where g.fact ~ '^(table|column) ') as r on r.what = f.what
 where coalesce(f.rights, '-') <> coalesce(r.rights, '-')
 union all
select 'table_grants', t.name || ' gives ' || a.grantee::regrole || ' ' || a.privilege_type
  from gate_tables t
  join pg_class c on c.oid = t.relid and c.relispartition
 cross join lateral (select c.relacl union all select b.attacl from pg_attribute b where b.attrelid = c.oid) as l (acl)
 cross join aclexplode(l.acl) as a
 where a.grantee not in (0, c.relowner);

insert into gate_checks (name, looked_at, of_what)
select 'definer_search_path', count(*), 'functions run as their owner' from pg_proc p where p.pronamespace = to_regnamespace('outbox') and p.prosecdef;
-- A plain SQL function may be inlined into a caller with a pin of its own; one in another language may not go without.
insert into gate_findings
select 'definer_search_path', p.oid::regprocedure || ' does not pin pg_catalog, pg_temp'
  from pg_proc p
  join pg_language l on l.oid = p.prolang
 where p.pronamespace = to_regnamespace('outbox') and (p.prosecdef or l.lanname <> 'sql')
   and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false);

insert into gate_checks (name, looked_at, of_what) select 'function_grants', count(*), 'functions' from gate_found f where f.fact like 'function %';
insert into gate_findings
select 'function_grants', coalesce(substring(f.what from '^function (\w+)\('), substring(r.what from '^function (\w+)\(')) || case
           when f.what is null then ' on record is missing, or has other parameters'
           when r.what is null then ' is not on record'
           else ' has ' || f.rights || ', on record ' || r.rights end
  from (select substring(g.fact from '^(function .*) owner ') as what, substring(g.fact from '( definer)') as definer, substring(g.fact from ' rights (.*)$') as rights
          from gate_found g where g.fact like 'function %') as f
  full join (select substring(g.fact from '^(function .*) owner ') as what, substring(g.fact from '( definer)') as definer, substring(g.fact from ' rights (.*)$') as rights
               from gate_record g where g.fact like 'function %') as r
    on substring(r.what from '^(.*) returns ') = substring(f.what from '^(.*) returns ')
 where f.rights is distinct from r.rights or f.definer is distinct from r.definer;

insert into gate_checks (name, looked_at, of_what) select 'function_texts', count(*), 'functions on file' from gate_files;
insert into gate_findings
select 'function_texts', p.oid::regprocedure || ' is not the text of migrations/functions/' || p.proname || '.sql'
  from pg_proc p
 where p.pronamespace = to_regnamespace('outbox')
   and not exists (select from gate_files f where f.name = p.proname and f.body = p.prosrc);

-- History: a trigger before each row of an update and a delete (27), and one before each truncate (34), for all rows
-- and columns, in replica mode too; on every partition, since a parent's truncate trigger does not fire for it.
insert into gate_checks (name, looked_at, of_what)
select g.name, (select count(*) from gate_tables t where t.root not in (select m.name from gate_mutable m)), 'tables and partitions'
  from (values ('history_rows_are_guarded'), ('history_truncate_is_guarded')) as g (name);
insert into gate_findings
select g.name, t.name || case
           when s.enabled is null then ' has no such trigger, and is not among the tables that may change'
           when s.enabled <> 'A' then ' has its trigger enabled ' || s.enabled || ', not always'
           else ' has a trigger that does not fire for everything' end
  from gate_tables t
 cross join (values ('history_rows_are_guarded', 'history_is_never_changed', 27),
                    ('history_truncate_is_guarded', 'history_is_never_truncated', 34)) as g (name, called, fires)
  left join lateral (select x.tgenabled::text as enabled,
                            x.tgtype = g.fires and x.tgqual is null and cardinality(x.tgattr::smallint[]) = 0 as is_whole
                       from pg_trigger x
                      where x.tgrelid = t.relid and x.tgname = g.called and x.tgfoid = to_regproc('outbox.refuse_history_change')) as s on true
 where t.root not in (select m.name from gate_mutable m)
   and (s.enabled, s.is_whole) is distinct from ('A', true);

-- The indexes by their definition on record, and whether each is whole on every partition.
create temporary table gate_indexes (name text, def text, is_whole boolean, lacking text) on commit drop;
insert into gate_indexes
select c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid and i.indisready and i.indislive,
       (select string_agg(t.relid::regclass::text, ' ' order by t.relid::regclass::text)
          from pg_partition_tree(i.indrelid) as t
         where t.relid <> i.indrelid
           and not exists (select from pg_partition_tree(i.indexrelid) as p
                             join pg_index x on x.indexrelid = p.relid
                            where x.indrelid = t.relid and x.indisvalid and x.indisready and x.indisunique = i.indisunique))
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
 where c.relnamespace = to_regnamespace('outbox');

insert into gate_checks (name, looked_at, of_what)
select g.name, count(r.fact), 'indexes on record'
  from (values ('terminal_uniqueness', '^index CREATE UNIQUE INDEX payment_outbox_attempts_one_terminal '),
               ('due_claim_index', '^index CREATE INDEX payment_outbox_pending_due '),
               ('other_indexes', '^index CREATE (UNIQUE )?INDEX (?!payment_outbox_attempts_one_terminal |payment_outbox_pending_due )')) as g (name, called)
  left join gate_record r on r.fact ~ g.called
 group by g.name
 order by array_position(array['terminal_uniqueness', 'due_claim_index', 'other_indexes'], g.name);
insert into gate_findings
select g.name, substring(r.fact from 'INDEX (\S+)') || case
           when i.name is null then ' is missing' when not i.is_whole then ' is not valid'
           when i.lacking is not null then ' is missing or not valid on ' || i.lacking else ' is another: ' || i.def end
  from (values ('terminal_uniqueness', '^index CREATE UNIQUE INDEX payment_outbox_attempts_one_terminal '),
               ('due_claim_index', '^index CREATE INDEX payment_outbox_pending_due '),
               ('other_indexes', '^index CREATE (UNIQUE )?INDEX (?!payment_outbox_attempts_one_terminal |payment_outbox_pending_due )')) as g (name, called)
  join gate_record r on r.fact ~ g.called
  left join gate_indexes i on i.name = substring(r.fact from 'INDEX (\S+)')
 where i.name is null or not i.is_whole or i.lacking is not null
    or 'index ' || i.def <> r.fact;

insert into gate_checks (name, looked_at, of_what) select 'constraints', count(*), 'constraints on record' from gate_record r where r.fact like 'constraint %';
insert into gate_findings
select 'constraints', r.fact || ': missing, another, or not valid' from gate_record r
 where r.fact like 'constraint %' and not exists (select from gate_found f where f.fact = r.fact);

insert into gate_checks (name, looked_at, of_what)
select 'storage', count(*), 'tables with options on record' from gate_record r where r.fact ~ '^table .* options [^-]';
insert into gate_findings
select 'storage', o.name || ' has ' || o.found || ', on record ' || o.recorded
  from (select substring(r.fact from '^table (\S+)') as name,
               coalesce((select string_agg(x.option, ',' order by x.option) from unnest(c.reloptions) as x (option)), '-') as found,
               (select string_agg(x.option, ',' order by x.option) from regexp_split_to_table(substring(r.fact from ' options (\S+)'), ',') as x (option)) as recorded
          from gate_record r
          join pg_class c on c.oid = to_regclass('outbox.' || substring(r.fact from '^table (\S+)'))
         where r.fact like 'table %') as o
 where o.found <> o.recorded;

-- In the global form: that of a schema only adds, and leaves EXECUTE and USAGE with PUBLIC.
insert into gate_checks (name, looked_at, of_what) values ('default_privileges', 2, 'kinds of objects');
insert into gate_findings
select 'default_privileges', 'the owner''s global default for ' || k.what || ' leaves PUBLIC its right'
  from (values ('f'::"char", 'functions'), ('T', 'types')) as k (kind, what)
 where not exists (select from pg_default_acl d
                    where d.defaclrole = to_regrole('outbox_owner') and d.defaclnamespace = 0 and d.defaclobjtype = k.kind
                      and not exists (select from aclexplode(d.defaclacl) as a where a.grantee = 0))
 union all
select 'default_privileges', 'what ' || d.defaclrole::regrole || ' makes ' || case when d.defaclnamespace = 0 then 'anywhere' else 'in schema outbox' end
           || ' gives ' || case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end || ' ' || a.privilege_type
  from pg_default_acl d
 cross join aclexplode(d.defaclacl) as a
 where (d.defaclnamespace = to_regnamespace('outbox') or (d.defaclrole = to_regrole('outbox_owner') and d.defaclnamespace = 0))
   and a.grantee <> d.defaclrole;

insert into gate_findings
select c.name, 'there was nothing to look at' from gate_checks c where c.looked_at = 0;

-- The first findings of each check; the number of the others.
select case when f.said is null then 'ok' else 'FAIL' end || ' ' || c.name || ' ' || coalesce(f.said, c.looked_at || ' ' || c.of_what)
  from gate_checks c
  left join lateral (select string_agg(n.detail, '; ' order by n.no) filter (where n.no <= 10)
                            || case when count(*) > 10 then '; and ' || count(*) - 10 || ' more' else '' end as said
                       from (select replace(d.detail, E'\n', ' ') as detail, row_number() over (order by d.detail collate "C") as no
                               from gate_findings d where d.name = c.name) as n) as f on true
 order by c.place;

do $$
declare
    v_failed text;
begin
    select string_agg(c.name, ', ' order by c.place) into v_failed
      from gate_checks c where exists (select from gate_findings f where f.name = c.name);
    if v_failed is not null then
        raise exception 'invariants do not hold: %', v_failed using errcode = 'OB009';
    end if;
end
$$;
rollback;
