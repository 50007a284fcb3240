create or replace function outbox.audit_guards() returns table (kind text, outbox_id uuid, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the history tables and partitions whose append-only triggers are missing, or do not fire for everybody. Internal to
--   audit_outbox.
    select 'HISTORY_UNGUARDED', null::uuid, t.relid::regclass || ': ' || n.name || coalesce(' is ' || g.tgenabled::text, ' is missing')
      from unnest(array['payment_outbox_identities', 'payment_outbox_instructions', 'payment_outbox_attempts', 'payment_outbox_late_outcomes',
                        'outbox_cluster', 'operator_actions', 'operator_action_members', 'operator_action_decisions', 'operator_action_results',
                        'reconcile_statements', 'reconcile_lines', 'reconcile_comparisons', 'reconcile_breaks', 'reconcile_resolutions',
                        'audit_checkpoints']) as h (name)
     cross join lateral (select p.relid from pg_partition_tree(to_regclass('outbox.' || h.name)) as p
                         union select to_regclass('outbox.' || h.name)) as t (relid)
     cross join (values ('history_is_never_changed'), ('history_is_never_truncated')) as n (name)
      left join pg_trigger g on g.tgrelid = t.relid and g.tgname = n.name
     where g.tgenabled is distinct from 'A'
$$;
