-- Judges a run from the records of its witnesses (see reconcile_tables.sql) and the tables of the outbox.
-- It calls no function of the outbox: the product does not judge itself.
--
--   psql -v hold_rail=NAME -f scripts/demo/reconcile.sql
--
-- Writes a line `CHECK FAILED name: …` for each check that fails, with up to five payments, and a last line
-- that begins with RECONCILED, or with NOT RECONCILED if a check failed.

-- Compiling a plan takes longer than running it here.
set jit = off;
analyze;

-- What the rails executed. The keys of a ledger are the outbox ids that were sent, as texts.
create temp table effect as
select l.rail, l.line::jsonb ->> 'key' as key, l.line::jsonb ->> 'reference' as reference, l.line::jsonb ->> 'body_sha256' as body_sha256
  from reconcile.ledger_lines l;
create temp table effect_by_key as
select e.key, count(*) as effects, min(e.rail) as rail, min(e.reference) as reference, min(e.body_sha256) as body_sha256
  from effect e group by e.key;
create unique index on effect_by_key (key);

-- The requests from whose answers a dispatcher cannot tell whether the payment was executed, in the rail's
-- own judgement. An answer may have two lines: as it was given, and that nobody was there to take it.
create temp table doubt as
select distinct a.rail, a.line::jsonb ->> 'request' as request, a.line::jsonb ->> 'key' as key
  from reconcile.answer_lines a
 where (a.line::jsonb ->> 'unknown')::boolean;
analyze effect, effect_by_key, doubt;

-- One row for each payment that was to be made or is in the outbox, and where each part of it stands.
create temp table payment as
with input as (
    select i.line::jsonb ->> 'instruction_id' as instruction_id, i.line::jsonb ->> 'rail' as rail,
           encode(sha256(convert_to(i.line::jsonb ->> 'payload', 'UTF8')), 'hex') as body_sha256
      from reconcile.input_lines i
), terminal as (
    select a.outbox_id, count(*) as attempts, min(a.state) as state, min(a.rail_reference) as reference
      from outbox.payment_outbox_attempts a
     where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')
     group by a.outbox_id
), identity as (
    select d.instruction_id, d.outbox_id, count(*) over (partition by d.instruction_id) as identities
      from outbox.payment_outbox_identities d
)
select coalesce(n.instruction_id, d.instruction_id) as name, n.rail, n.body_sha256, n.instruction_id is not null as given,
       d.outbox_id, d.outbox_id::text as key, coalesce(d.identities, 0) as identities, p.outbox_id is not null as pending, p.disposition, p.lease_token is not null as leased,
       coalesce(t.attempts, 0) as terminals, t.state, t.reference, coalesce(e.effects, 0) as effects, e.rail as effect_rail,
       e.reference as effect_reference, e.body_sha256 as effect_body_sha256,
       exists (select from doubt o where o.key = d.outbox_id::text) as doubtful,
       exists (select from reconcile.leases_at_kill k where k.outbox_id = d.outbox_id) as leased_at_kill
  from input n
  full join identity d on d.instruction_id = n.instruction_id
  left join outbox.payment_outbox_pending p on p.outbox_id = d.outbox_id
  left join terminal t on t.outbox_id = d.outbox_id
  left join effect_by_key e on e.key = d.outbox_id::text;

create unique index on payment (key);
analyze payment;

create temp table total as
select (select count(*) from reconcile.input_lines) as enqueued,
       (select count(*) from payment p where p.state = 'DISPATCHED') as dispatched,
       (select count(*) from payment p where p.state = 'FAILED') as failed,
       (select count(*) from payment p where p.disposition = 'HELD') as held,
       (select count(*) from payment p where p.disposition = 'HELD' and p.rail = :'hold_rail') as held_on_hold_rail,
       (select count(*) from doubt d where d.rail = :'hold_rail') as unknown_answers,
       (select count(*) from reconcile.leases_at_kill k where k.rail = :'hold_rail') as leases_at_kill,
       (select count(*) from effect) as effects,
       (select coalesce(sum(e.effects - 1), 0) from effect_by_key e) as duplicates,
       -- Lost: gone from the outbox, or dispatched in its books without an effect in the rail's.
       (select count(*) from payment p
         where p.identities = 0 or (not p.pending and p.terminals = 0) or (p.state = 'DISPATCHED' and p.effects = 0)) as lost;

-- A payment in a check's name fails it.
create temp table failure as
select 1 as place, 'identities_are_pending_or_terminal' as name, p.name as payment from payment p
 where not p.given or p.identities <> 1 or p.pending::integer + p.terminals <> 1
union all
select 2, 'no_key_has_two_effects', coalesce(p.name, e.key)
  from effect_by_key e left join payment p on p.key = e.key
 where e.effects > 1
union all
select 3, 'every_effect_is_in_the_database', coalesce(p.name, e.key)
  from effect e left join payment p on p.key = e.key
 where p.name is null or p.rail is distinct from e.rail
    or (p.state is distinct from 'DISPATCHED' and not (p.disposition is not distinct from 'HELD' and p.rail = :'hold_rail'))
union all
select 4, 'every_dispatched_payment_has_its_effect', p.name from payment p
 where p.state = 'DISPATCHED'
   and (p.effects <> 1 or p.effect_rail is distinct from p.rail or p.effect_reference is distinct from p.reference
        or p.effect_body_sha256 is distinct from p.body_sha256)
union all
select 5, 'no_failed_payment_has_an_effect', p.name from payment p
 where p.state in ('FAILED', 'CANCELLED') and p.effects > 0
union all
select 6, 'held_at_most_unknown_answers_and_leases_at_kill', p.name from payment p, total t
 where p.disposition = 'HELD' and p.rail = :'hold_rail' and t.held_on_hold_rail > t.unknown_answers + t.leases_at_kill
union all
select 7, 'every_held_payment_was_doubtful_or_leased_at_kill', p.name from payment p
 where p.disposition = 'HELD' and p.rail = :'hold_rail' and not p.doubtful and not p.leased_at_kill
union all
select 8, 'every_other_payment_is_terminal', p.name from payment p
 where p.pending and (p.disposition <> 'HELD' or p.rail <> :'hold_rail')
union all
select 9, 'the_dispatcher_was_killed_in_mid_flight', '(none was leased)' from total t where t.leases_at_kill = 0;

\pset tuples_only on
\pset format unaligned
select format('CHECK FAILED %s: %s, such as %s', f.name, count(*), array_to_string((array_agg(distinct f.payment))[1:5], ', '))
  from failure f group by f.place, f.name order by f.place;
select case when exists (select from failure) then 'NOT RECONCILED' else 'RECONCILED' end
    || format(' enqueued=%s dispatched=%s failed=%s held=%s unknown_answers=%s leases_at_kill=%s effects=%s duplicates=%s lost=%s',
              t.enqueued, t.dispatched, t.failed, t.held, t.unknown_answers, t.leases_at_kill, t.effects, t.duplicates, t.lost)
  from total t;
