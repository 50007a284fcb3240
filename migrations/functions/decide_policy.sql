create or replace function outbox.decide_policy(p_version integer, p_decision text, p_checksum text, p_reason text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the second person's word on a policy. Maker and checker are different database logins.
-- Parameters: p_decision, APPROVED or REJECTED; p_checksum, in hexadecimal, of the document that the checker saw: it binds the decision to it.
-- Results: nothing, or raises OB012 (the maker's own), OB013 (decided already), OB016 (another is active than when it was proposed), OB003
--   (another document, no such version, no reason).
declare
    v_policy outbox.policy_documents;
begin
    select * into v_policy from outbox.policy_documents d where d.version = p_version;
    if not found then
        raise exception 'there is no policy version %', p_version using errcode = 'OB003';
    elsif v_policy.proposed_by = session_user then
        raise exception 'policy version % was proposed by % and needs another person', p_version, session_user using errcode = 'OB012',
            hint = 'maker and checker are different database logins';
    elsif p_decision is null or p_decision not in ('APPROVED', 'REJECTED') then
        raise exception 'a decision is APPROVED or REJECTED' using errcode = 'OB003';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'a decision needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_checksum is distinct from encode(sha256(convert_to(v_policy.document, 'UTF8')), 'hex') then
        raise exception 'policy version % is not the document that was to be decided on', p_version using errcode = 'OB003',
            hint = 'look at it again: outboxd policy show VERSION';
    elsif p_decision = 'APPROVED' and v_policy.base_version is distinct from outbox.active_policy_version() then
        raise exception 'policy version % was proposed against %, which is not active any more', p_version, coalesce('version ' || v_policy.base_version, 'none')
            using errcode = 'OB016', hint = 'compare it with the active one, and propose it again: outboxd policy propose';
    end if;
    insert into outbox.policy_decisions values (p_version, p_decision, v_policy.checksum, p_reason, session_user, clock_timestamp())
        on conflict (version) do nothing;
    if not found then
        raise exception 'policy version % is decided already', p_version using errcode = 'OB013';
    end if;
end
$$;
