create or replace function outbox.policy_contracts(p_document text) returns setof outbox.payment_rails
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the contracts of a policy's document as rows of payment_rails, by rail. Internal to what proposes, activates and audits policies.
--   A column of payment_rails is a key of the same name in each contract; a new column needs nothing here.
-- Results: raises where the document is no JSON, or a value is of another type.
    select c.*
      from jsonb_each(p_document::jsonb -> 'rails') as r (rail, decisions)
     cross join lateral jsonb_populate_record(null::outbox.payment_rails, r.decisions -> 'contract' || jsonb_build_object('rail', r.rail)) as c
     order by r.rail
$$;
