-- What the catalogue knows of schema outbox, a line a fact, alike on every supported Postgres: the same
-- schema must come out of the migrations on each. Month partitions are left out (a test compares their
-- shape), and the owner's own rights, of which newer versions know more. Of a function's text it is the hash.
select o.fact from (
    select 'table ' || c.relname || ' kind ' || c.relkind::text || ' options ' || coalesce(array_to_string(c.reloptions, ','), '-')
           || ' partitioned ' || coalesce(pg_get_partkeydef(c.oid), '-') || ' bound ' || coalesce(pg_get_expr(c.relpartbound, c.oid), '-')
           || ' owner ' || c.relowner::regrole || ' rights ' || coalesce((select string_agg(a.grantee::regrole || ':' || a.privilege_type, ' ' order by a.grantee::regrole::text collate "C", a.privilege_type)
                                            from aclexplode(c.relacl) as a where a.grantee <> c.relowner), '-') as fact
      from pg_class c
     where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relname !~ '_y\d{4}m\d\d'
       and c.relname <> 'schema_migrations'
    union all
    select 'column ' || c.relname || ' ' || to_char(a.attnum, 'FM00') || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || case when a.attnotnull then ' not null' else '' end || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
           || coalesce(' rights ' || array_to_string(a.attacl, ' '), '')
      from pg_attribute a
      join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
       and c.relname !~ '_y\d{4}m\d\d' and c.relname <> 'schema_migrations'
    union all
    -- Postgres 18 keeps NOT NULL as a constraint too; it is said with the column.
    select 'constraint ' || k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || case when k.convalidated then '' else ' not valid' end
      from pg_constraint k
     where k.connamespace = 'outbox'::regnamespace and k.contype <> 'n' and k.conrelid::regclass::text !~ '_y\d{4}m\d\d'
       and k.conrelid::regclass::text <> 'outbox.schema_migrations'
    union all
    select 'index ' || pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
      from pg_index i
      join pg_class c on c.oid = i.indrelid
     where c.relnamespace = 'outbox'::regnamespace and c.relname !~ '_y\d{4}m\d\d' and c.relname <> 'schema_migrations'
    union all
    select 'trigger ' || pg_get_triggerdef(t.oid) || ' enabled ' || t.tgenabled::text
      from pg_trigger t
      join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = 'outbox'::regnamespace and not t.tgisinternal and c.relname !~ '_y\d{4}m\d\d'
    union all
    select 'trigger of a partition ' || c.relname || ' ' || t.tgname || ' enabled ' || t.tgenabled::text
      from pg_trigger t
      join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = 'outbox'::regnamespace and t.tgisinternal and c.relname !~ '_y\d{4}m\d\d'
    union all
    select 'function ' || p.proname || '(' || pg_get_function_arguments(p.oid) || ') returns ' || pg_get_function_result(p.oid)
           || ' language ' || l.lanname || ' ' || p.provolatile::text || case when p.prosecdef then ' definer' else '' end
           || case when p.proisstrict then ' strict' else '' end || ' settings ' || coalesce(array_to_string(p.proconfig, ' '), '-')
           || ' text ' || encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex')
           || ' owner ' || p.proowner::regrole || ' rights ' || coalesce((select string_agg(a.grantee::regrole || ':' || a.privilege_type, ' ' order by a.grantee::regrole::text collate "C", a.privilege_type)
                                            from aclexplode(p.proacl) as a where a.grantee <> p.proowner), '-')
      from pg_proc p
      join pg_language l on l.oid = p.prolang
     where p.pronamespace = 'outbox'::regnamespace
    union all
    select 'schema ' || n.nspname || ' owner ' || n.nspowner::regrole || ' rights ' || coalesce((select string_agg(a.grantee::regrole || ':' || a.privilege_type, ' ' order by a.grantee::regrole::text collate "C", a.privilege_type)
                                            from aclexplode(n.nspacl) as a where a.grantee <> n.nspowner), '-')
      from pg_namespace n
     where n.nspname = 'outbox'
    union all
    select 'default rights of ' || d.defaclrole::regrole || ' on ' || d.defaclobjtype::text || ' ' || coalesce(array_to_string(d.defaclacl, ' '), '-')
           || case when d.defaclnamespace = 0 then '' else ' in ' || d.defaclnamespace::regnamespace end
      from pg_default_acl d) as o
 order by o.fact collate "C"
