create or replace function outbox.read_active_policy(p_known bytea default null)
returns table (active_version integer, document text, checksum bytea, approved_checksum bytea, activated_checksum bytea)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the active policy, with the checksum as it is on record in each of its three rows. Whether they fit the document is judged by the reader.
-- Parameters: p_known, the SHA-256 of the document that the caller has; of that one the text is left out.
-- Results: a row, or none: no policy is active.
    select a.version, case when sha256(convert_to(d.document, 'UTF8')) is distinct from p_known then d.document end, d.checksum, c.checksum, a.checksum
      from (select * from outbox.policy_activations l order by l.activation_no desc limit 1) as a
      left join outbox.policy_documents d on d.version = a.version
      left join outbox.policy_decisions c on c.version = a.version and c.decision = 'APPROVED' and c.decided_by <> d.proposed_by
$$;
