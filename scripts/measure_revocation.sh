#!/usr/bin/env bash
# How long it takes to look a credential up in deny lists of a million entries each: by itself, as a dispatcher asks for
# its own certificates, within record_ingress_attestation, and within an enqueue that brings an attestation, beside one
# that brings none. With statistics, and with the statistics of empty lists.
#
#   scripts/measure_revocation.sh [--entries COUNT] [--samples COUNT] [--out FILE]
#
# Half of the credentials looked up are revoked. Times are those of the server, call by call, without commit and without
# network; `control` adds up a thousand numbers and reads no table, and so shows what the machine itself adds. Needs no standard input and no terminal; installs nothing. Raw figures go to FILE.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/measure_revocation.sh
COMMAND="scripts/measure_revocation.sh $*"
ENTRIES=1000000
SAMPLES=10000
OUT=evidence/revocation.txt
usage() {
  printf 'usage: scripts/measure_revocation.sh [--entries COUNT] [--samples COUNT] [--out FILE]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --entries | --samples)
      [[ "${2:-}" =~ ^[1-9][0-9]{2,7}$ ]] || usage
      if [ "$1" = --entries ]; then ENTRIES=$2; else SAMPLES=$2; fi
      ;;
    --out)
      [ -n "${2:-}" ] || usage
      OUT=$2
      ;;
    *) usage ;;
  esac
  shift 2
done
# shellcheck disable=SC2034 # install.sh reads it
INSTALL=no
. scripts/lib/report.sh
. scripts/lib/evidence.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/demo_processes.sh

DATABASE=lists

# The lists. The entry of a certificate, a token and a key has an even number; those with odd ones are not revoked.
fill() {
  as_dba -o /dev/null -c "select outbox.set_payment_rail('r', 'hold', p_amount_required => false)" -c 'vacuum analyze' \
    -c 'set synchronous_commit = off' -c "
      insert into outbox.revoked_client_certs select outbox.new_outbox_id(), sha256(int4send(2 * n)), now(), 'filled', 'filled', null
        from generate_series(1, $ENTRIES) n" -c "
      insert into outbox.revoked_tokens select outbox.new_outbox_id(), 'j' || 2 * n, null, null, now(), 'filled', 'filled', null
        from generate_series(1, $ENTRIES / 2) n" -c "
      insert into outbox.revoked_tokens select outbox.new_outbox_id(), null, 'k' || 2 * n, null, now(), 'filled', 'filled', null
        from generate_series(1, $ENTRIES / 2) n" -c checkpoint
}

# sample STATISTICS: each call SAMPLES times, one after the other, with its own credential.
sample() {
  as_dba -o /dev/null -c "
      do \$\$
      declare
          v_at timestamptz;
          v_n integer;
          v_call text;
          v_id uuid;
      begin
          foreach v_call in array array['control', 'credential_revoked_at', 'read_revoked_client_certs', 'record_ingress_attestation', 'enqueue', 'enqueue_attested'] loop
              for n in 1..$SAMPLES loop
                  v_n := 1 + (random() * ($ENTRIES - 1))::integer;
                  if v_call = 'enqueue_attested' then
                      -- Of odd number: one that is revoked lets nothing in.
                      v_n := 2 * v_n + 1;
                      select a.attestation_id into v_id from outbox.record_ingress_attestation('$1-e' || n, 'p', '$1-a' || n, now(), sha256('x'),
                          'JWT', 'ACCEPTED', p_client_cert_fingerprint => sha256(int4send(v_n)), p_key_id => 'k' || v_n, p_jti => 'j' || v_n) a;
                  end if;
                  v_at := clock_timestamp();
                  case v_call
                      when 'control' then
                          perform sum(g.i) from generate_series(1, 1000) as g (i);
                      when 'credential_revoked_at' then
                          perform outbox.credential_revoked_at(sha256(int4send(v_n)), 'k' || v_n, 'issuer', 'j' || v_n);
                      when 'read_revoked_client_certs' then
                          perform from outbox.read_revoked_client_certs(array[sha256(int4send(v_n)), sha256(int4send(v_n + 1))]);
                      when 'record_ingress_attestation' then
                          perform from outbox.record_ingress_attestation('$1-r' || n, 'p', 'i', now(), sha256('x'), 'JWT', 'ACCEPTED',
                              p_client_cert_fingerprint => sha256(int4send(v_n)), p_key_id => 'k' || v_n, p_jti => 'j' || v_n);
                      when 'enqueue' then
                          perform from outbox.enqueue_payment_outbox('p', '$1-i' || n, 'k', 'r', 'x', 'text/plain', p_hint => false);
                      else
                          perform from outbox.enqueue_payment_outbox('p', '$1-a' || n, 'k', 'r', 'x', 'text/plain',
                              p_attestation_id => v_id, p_hint => false);
                  end case;
                  insert into samples values ('$1', v_call, extract(epoch from clock_timestamp() - v_at) * 1000000);
              end loop;
              commit;
          end loop;
      end \$\$"
}

measure() {
  as_dba -c 'create table samples (statistics text, call text, us double precision)'
  sample of_empty_lists
  # What was written in bulk is on disk before anything is timed.
  as_dba -c 'vacuum analyze' -c checkpoint
  sample as_they_are
}

write_evidence() {
  {
    measured_header
    printf 'entries: %s client certificates; %s tokens by jti and %s keys by key_id\n' "$ENTRIES" "$((ENTRIES / 2))" "$((ENTRIES / 2))"
    printf 'sizes: '
    as_dba -At -F ', ' -c "select pg_size_pretty(pg_total_relation_size('outbox.revoked_client_certs')), pg_size_pretty(pg_total_relation_size('outbox.revoked_tokens'))"
    printf 'statistics call samples min_us p50_us p90_us p99_us max_us\n'
    as_dba -At -F ' ' -c "select statistics, call, count(*), round(min(us)::numeric, 1), round(percentile_cont(0.5) within group (order by us)::numeric, 1),
        round(percentile_cont(0.9) within group (order by us)::numeric, 1),
        round(percentile_cont(0.99) within group (order by us)::numeric, 1), round(max(us)::numeric, 1) from samples group by 1, 2 order by 1, 2"
  } >"$OUT"
  tail -n 13 "$OUT"
}

. scripts/lib/measure.sh
step 'build (release)' build outboxd
umask 077
step 'private Postgres and database' make_database
step "lists of $ENTRIES" fill
step "$SAMPLES look-ups of each kind, twice" measure
step 'write the figures' write_evidence
