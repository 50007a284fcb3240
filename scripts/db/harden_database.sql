-- Optional, by a DBA, and only in a database that outboxd has to itself: these revokes reach every
-- user of the database, and nothing in outboxd depends on them (its functions pin their search_path).
--
--   psql -v ON_ERROR_STOP=1 -d payments -f scripts/db/harden_database.sql

do $$
begin
    execute format('revoke temporary on database %I from public', current_database());
    execute format('revoke connect on database %I from public', current_database());
    execute format('grant connect on database %I to outbox_migrator, outbox_ingest, outbox_dispatcher, '
                   'outbox_operator, outbox_approver, outbox_auditor, outbox_monitor', current_database());
end
$$;
revoke create on schema public from public;
