-- Replaces a piece of the text of a function of the demonstration's own outbox, to see that the reconciliation
-- notices. Run by its superuser; the session ends after it.

create function pg_temp.mutate(p_function text, p_piece text, p_instead text) returns void
language plpgsql as $$
declare
    v_text text;
begin
    select pg_get_functiondef(f.oid) into strict v_text from pg_proc f
     where f.proname = p_function and f.pronamespace = 'outbox'::regnamespace;
    -- A mutant that changes nothing would pass for the product.
    if strpos(v_text, p_piece) = 0 then
        raise exception 'outbox.% does not contain: %', p_function, p_piece;
    end if;
    execute replace(v_text, p_piece, p_instead);
end
$$;
