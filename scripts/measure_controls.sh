#!/usr/bin/env bash
# What the controls cost as history grows: `outboxd audit` after 1,000 new payments and in full, with more and more
# payments that have ended, and with a queue of 200,000 that wait; `outboxd reconcile` with a statement of a million lines, against a plain COPY of the same
# file; and the WAL that the index for both adds to recording attempts.
#
#   scripts/measure_controls.sh [--payments COUNT] [--lines COUNT] [--out FILE]
#
# COUNT payments have ended at last, after an eighth, a quarter and a half of them; history is filled by SQL, not
# dispatched. Needs no standard input and no terminal; installs nothing. Raw figures go to FILE.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/measure_controls.sh
COMMAND="scripts/measure_controls.sh $*"
PAYMENTS=4000000
LINES_COUNT=1000000
OUT=evidence/controls.txt
usage() {
  printf 'usage: scripts/measure_controls.sh [--payments COUNT] [--lines COUNT] [--out FILE]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --payments | --lines)
      [[ "${2:-}" =~ ^[1-9][0-9]{3,8}$ ]] || usage
      if [ "$1" = --payments ]; then PAYMENTS=$2; else LINES_COUNT=$2; fi
      ;;
    --out)
      [ -n "${2:-}" ] || usage
      OUT=$2
      ;;
    *) usage ;;
  esac
  shift 2
done
[ "$LINES_COUNT" -le "$PAYMENTS" ] || usage
# shellcheck disable=SC2034 # install.sh reads it
INSTALL=no
. scripts/lib/report.sh
. scripts/lib/evidence.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/demo_processes.sh

DATABASE=ledger
CHANGED=1000
WAITING=200000
# The payments of history are this far apart, up to an hour before this day.
APART_MS=100
FILLED=0

# fill COUNT: history up to so many ended payments, one accepted attempt each.
fill() {
  as_dba -c 'set synchronous_commit = off' -c "
      create temp table ids as
      select n, at, (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
                     || substr(md5(n::text), 4, 15))::uuid as id
        from (select n, date_trunc('day', now()) - interval '1 hour' - ($PAYMENTS - n) * interval '$APART_MS ms' as at
                from generate_series($((FILLED + 1)), $1) n) g" -c "
      insert into outbox.payment_outbox_identities select 'p', 'i' || n, 0, 'k' || n, id, outbox.payment_identity_sha256('r',
             sha256(convert_to(repeat('x', 400), 'UTF8')), 'text/plain', n, 'EUR', null, null, null) from ids" -c "
      insert into outbox.payment_outbox_instructions (outbox_id, participant_id, instruction_id, rail, payload, content_type,
             payload_sha256, amount_minor, currency, enqueued_by, created_at)
      select id, 'p', 'i' || n, 'r', convert_to(repeat('x', 400), 'UTF8'), 'text/plain',
             sha256(convert_to(repeat('x', 400), 'UTF8')), n, 'EUR', 'filled', at from ids" -c "
      insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token,
             claimed_at, completed_at, rail_reference)
      select id, 1, 'r', 'SUBMIT', 'DISPATCHED', 'ACCEPTED', 'filled', gen_random_uuid(), at, at, 'ref' || n from ids"
  as_dba -c 'vacuum analyze'
  FILLED=$1
}

# enqueue NAME COUNT: new payments, a thousand a call.
enqueue() {
  as_dba -o /dev/null -c "
      select count(e.outbox_id)
        from (select array_agg('q'::text) as who, array_agg('$1-' || n) as id, array_agg('r'::text) as rail, array_agg('x'::bytea) as payload,
                     array_agg('text/plain'::text) as type, array_agg(1::bigint) as amount, array_agg('EUR'::text) as currency,
                     array_agg(null::timestamptz) as never, array_agg(null::text) as none, array_agg(null::uuid) as no_id
                from generate_series(1, $2) n group by n / 1000) as b,
             lateral outbox.enqueue_payment_outbox_batch(who, id, id, rail, payload, type, amount, currency, never, never, none, none, no_id, false) as e"
}

# timed KIND COMMAND...: adds the kind, the payments that have ended and the milliseconds to the figures.
timed() {
  local kind=$1 began
  shift
  began=$(date +%s%N)
  "$@" >"$WORK/last.out"
  printf '%s %s %s\n' "$kind" "$FILLED" "$((($(date +%s%N) - began) / 1000000))" | tee -a "$WORK/figures"
}

audit() { "$BIN/outboxd" audit "$@" --database-url "$(url_of measured_auditor)"; }

audit_at() {
  local round
  [ "$1" -eq 0 ] || fill "$1"
  timed audit_full audit --full
  for round in 1 2 3; do
    enqueue "$1-$round" "$CHANGED"
    timed audit_incremental audit
    # They are cancelled, so that the queue is as long each time: not at all.
    as_dba -c "insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token,
             claimed_at, completed_at) select outbox_id, 1, 'r', 'OPERATOR', 'CANCELLED', null, 'filled', gen_random_uuid(),
             clock_timestamp(), clock_timestamp() from outbox.payment_outbox_pending" -c 'delete from outbox.payment_outbox_pending'
  done
}

# The last payments of history as the rail shows them: one is not there, one is not ours, one has another amount.
statement() {
  as_dba -At -F , -c "select 'wire_key,rail_reference,amount_minor,currency'" -c "
      select a.outbox_id, a.rail_reference, i.amount_minor + (i.amount_minor = $((PAYMENTS - 1)))::integer, i.currency
        from outbox.payment_outbox_attempts a join outbox.payment_outbox_instructions i using (outbox_id)
       where i.participant_id = 'p' and i.amount_minor > $((PAYMENTS - LINES_COUNT)) and i.amount_minor < $PAYMENTS
       order by i.amount_minor" -c "select 'not-ours,not-ours,1,EUR'" >"$WORK/statement.csv"
}

reconcile() {
  local today
  today=$(date -u +%Y-%m-%dT00:00:00Z)
  # Breaks are open afterwards, which is code 3.
  "$BIN/outboxd" reconcile --statement "$WORK/statement.csv" --rail r \
    --from "$(date -u -d "$today - $((LINES_COUNT * APART_MS / 1000 + 3600)) sec" +%Y-%m-%dT%H:%M:%SZ)" --until "$today" \
    --reason measured --database-url "$(url_of measured_operator)" || [ "$?" -eq 3 ]
}

copy_statement() {
  as_dba -c 'create table copied (wire_key text, rail_reference text, amount_minor bigint, currency text)' \
    -c "\\copy copied from '$WORK/statement.csv' with (format csv, header)"
}

measure_reconcile() {
  statement
  timed copy copy_statement
  timed reconcile reconcile
  cp "$WORK/last.out" "$WORK/reconciled"
}

# wal KIND: the bytes of WAL that recording attempts takes, in transactions of 500 as they are recorded, full-page
# images left out, because they depend on when the last checkpoint was.
wal() {
  as_dba -At -F ' ' -c 'checkpoint' -c "create temp table began as select pg_current_wal_insert_lsn() as lsn" -c "
      do \$\$ begin for n in 1..200 loop
        insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, claimed_at,
               completed_at, rail_reference)
        select outbox.new_outbox_id(), 1, 'r', 'SUBMIT', 'DISPATCHED', 'ACCEPTED', 'filled', gen_random_uuid(), clock_timestamp(),
               clock_timestamp(), 'ref' from generate_series(1, 500);
        commit; end loop; end \$\$" -c "
      select '$1', 100000, round((pg_current_wal_insert_lsn() - lsn) / 100000, 1) from began" | tee -a "$WORK/wal"
}

measure_wal() {
  local round
  as_dba -c "alter system set full_page_writes = off" -c "select pg_reload_conf()" -o /dev/null
  for round in 1 2 3; do
    as_dba -c 'create index if not exists payment_outbox_attempts_completed on outbox.payment_outbox_attempts using brin (completed_at)
               with (pages_per_range = 32, autosummarize = on)'
    wal with_index
    as_dba -c 'drop index outbox.payment_outbox_attempts_completed'
    wal without_index
  done
  as_dba -c 'alter system reset full_page_writes' -c 'select pg_reload_conf()' -o /dev/null
}

write_evidence() {
  {
    measured_header
    printf 'audit_incremental: after %s payments were enqueued; audit_full: of everything. Milliseconds of the whole command.\n' "$CHANGED"
    printf 'audit_of_queue: with %s payments that wait, enqueued long before; audit_first_of_queue: just after they were enqueued.\n' "$WAITING"
    printf 'copy, reconcile: %s lines\n' "$LINES_COUNT"
    printf 'what payments_ended ms\n'
    cat "$WORK/figures"
    printf '\nreconcile said:\n'
    tail -n 8 "$WORK/reconciled"
    printf '\nWAL bytes an attempt, without full-page images\nwhat attempts bytes\n'
    cat "$WORK/wal"
    printf '\naudit_incremental, middle of three, against none ended:'
    awk '$1 == "audit_incremental" { v[$2, ++n[$2]] = $3; if (n[$2] == 1) order[++k] = $2 }
         END { for (i = 1; i <= k; i++) { e = order[i]; a = v[e, 1]; b = v[e, 2]; c = v[e, 3]
               m = a > b ? (b > c ? b : (a > c ? c : a)) : (a > c ? a : (b > c ? c : b))
               if (i == 1) base = m; else printf " %d: %.2f", e, m / base } print "" }' "$WORK/figures"
    awk '$1 == "copy" { copy = $3 } $1 == "reconcile" { printf "reconcile against COPY of the same file: %.1f\n", $3 / copy }' "$WORK/figures"
    awk '{ sum[$1] += $3 } END { printf "WAL with the index against without: %.3f\n", sum["with_index"] / sum["without_index"] }' "$WORK/wal"
  } >"$OUT"
  tail -n 3 "$OUT"
}

audits() {
  local share round
  audit_at 0
  for share in 8 4 2 1; do audit_at $((PAYMENTS / share)); done
  enqueue waiting "$WAITING"
  as_dba -c 'vacuum analyze'
  timed audit_first_of_queue audit
  # What an audit looks at goes back to a time, so the first ones after the queue was filled look at it still.
  as_dba -c 'alter table outbox.audit_checkpoints disable trigger history_is_never_changed' \
    -c "update outbox.audit_checkpoints set audited_at = audited_at + interval '2 hours'" \
    -c 'alter table outbox.audit_checkpoints enable always trigger history_is_never_changed'
  for round in 1 2 3; do timed audit_of_queue audit; done
}

logins() {
  as_dba -o /dev/null -c 'create role measured_auditor login; grant outbox_auditor to measured_auditor' \
    -c 'create role measured_operator login; grant outbox_operator to measured_operator' \
    -c "select outbox.set_payment_rail('r', 'hold')"
}

. scripts/lib/measure.sh
step 'build (release)' build outboxd
umask 077
step 'private Postgres and database' make_database
step 'logins and a rail' logins
step "audits up to $PAYMENTS payments" audits
step "a statement of $LINES_COUNT lines" measure_reconcile
step 'the WAL of the index' measure_wal
step 'write the figures' write_evidence
