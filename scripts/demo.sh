#!/usr/bin/env bash
# Payments through crashes, on this machine alone: three simulated rails, two dispatchers, one of them killed
# in mid-flight; then the rails' own ledgers are compared with the database.
#
#   scripts/demo.sh [--no-install] [--payments COUNT]
#
# As root on Debian it installs what is missing; with --no-install, or as another user, it says what to
# install. It starts a private Postgres, and stops by itself everything that it started. Needs no standard
# input and no terminal. The last line begins with RECONCILED, and the exit code is 0, only if every payment
# is accounted for; otherwise a line names each check that failed, and the logs are left in place.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/demo.sh
INSTALL=yes
PAYMENTS=5000
usage() {
  printf 'usage: scripts/demo.sh [--no-install] [--payments COUNT]; COUNT is 300 to 99999\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --no-install) INSTALL=no ;;
    --payments)
      if ! [[ "${2:-}" =~ ^[1-9][0-9]{2,4}$ ]] || [ "$2" -lt 300 ]; then usage; fi
      PAYMENTS=$2
      shift
      ;;
    *) usage ;;
  esac
  shift
done
# Another dispatcher in the place of the product's (see scripts/demo_mutants.sh).
MUTANT=${DEMO_MUTANT:-}
if [ -n "$MUTANT" ] && [ ! -f "scripts/demo/mutant_$MUTANT.sql" ]; then
  printf 'DEMO_MUTANT=%s: there is no such mutant\n' "$MUTANT" >&2
  exit 2
fi
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/demo_processes.sh
. scripts/lib/demo_progress.sh

# A developer's environment must not steer psql or the product.
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS DATABASE_URL OUTBOXD_CONFIG "${!OUTBOXD__@}"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# Programs that are built already (see scripts/demo_mutants.sh).
BIN=${DEMO_BIN:-${CARGO_TARGET_DIR:-target}/release}
DATABASE=payments
# The rail that does not know a key again: an unknown outcome waits for a person.
HOLD_RAIL=legacy
# Beyond it something is wrong: a lease is over after 13 s, and the slowest rail takes 100 payments a second.
SETTLE_LIMIT_S=$((120 + PAYMENTS / 50))

install_everything() {
  need_build_programs
  need_some_postgres
  install_missing
  [ -n "${DEMO_BIN:-}" ] || require_cargo
  ensure_some_postgres
}

build() {
  [ -z "${DEMO_BIN:-}" ] || return 0
  cargo build --release --locked --quiet -p outboxd -p rail-sim </dev/null
}

# as_dba ARGUMENT...: psql as the superuser of the private server.
as_dba() { psql -X -q -v ON_ERROR_STOP=1 -h "$WORK/pg" -p 5432 -U postgres -d "$DATABASE" "$@"; }

# ask SQL: its single value.
ask() { as_dba -At -c "$1" </dev/null; }

# url LOGIN: the database for a command of outboxd. In a URL the slashes of a directory are escaped.
url() {
  local dir="$WORK/pg"
  say "postgres://$1@${dir//\//%2F}:5432/$DATABASE"
}

start_database() {
  start_private_postgres "$WORK/pg"
  psql -X -q -h "$WORK/pg" -U postgres -d postgres -c "create database $DATABASE"
  as_dba -o "$WORK/bootstrap.log" -f scripts/db/bootstrap.sql
  "$BIN/outboxd" migrate --database-url "$(url outbox_migrator)"
  # Each program has a login of its own, with one role and nothing else.
  as_dba -c 'create role demo_producer login; grant outbox_ingest to demo_producer' \
    -c 'create role demo_operator login; grant outbox_operator to demo_operator' \
    -c 'create role demo_monitor login; grant outbox_monitor to demo_monitor' \
    -c 'create role demo_1 login; grant outbox_dispatcher to demo_1' \
    -c 'create role demo_2 login; grant outbox_dispatcher to demo_2' \
    -c 'create role demo_3 login; grant outbox_dispatcher to demo_3' \
    -f scripts/demo/reconcile_tables.sql
  if [ -n "$MUTANT" ]; then
    say "the dispatcher is a mutant: $MUTANT"
    as_dba -o "$WORK/mutant.log" -f "scripts/demo/mutant_$MUTANT.sql"
  fi
}

# set_contract RAIL OPTION...: times that fit the dispatchers' configuration (see scripts/lib/demo_processes.sh).
set_contract() {
  local rail=$1
  shift
  "$BIN/outboxd" rail set "$rail" --database-url "$(url demo_operator)" --rail-timeout 5s --lease-duration 13s \
    --backoff-base 100ms --backoff-cap 2s "$@" >/dev/null
}

start_rails() {
  start_rail sepa --seed 1 --latency-min-ms 5 --latency-max-ms 40 --oversize-bytes 262144 \
    --fault error_after=20 --fault error_before=10 --fault hang=4 --fault reset=10 --fault reset_before=10 \
    --fault throttle=20 --fault unavailable=20 --fault refuse=10 --fault interim=10 --fault truncate=10 \
    --fault oversize=3 --fault garbage=5 --fault slow=20
  start_rail "$HOLD_RAIL" --seed 2 --non-idempotent --latency-min-ms 50 --latency-max-ms 250 --oversize-bytes 262144 \
    --fault error_after=10 --fault error_before=5 --fault hang=3 --fault reset=5 --fault reset_before=5 \
    --fault throttle=20 --fault unavailable=20 --fault refuse=15 --fault interim=5 --fault truncate=5 \
    --fault oversize=2 --fault garbage=3 --fault slow=20
  start_rail slow --seed 3 --latency-min-ms 150 --latency-max-ms 450 --fault refuse=5
  set_contract sepa --on-unknown resend --idempotency-window 24h
  set_contract "$HOLD_RAIL" --on-unknown hold
  set_contract slow --on-unknown resend --idempotency-window 24h
}

# Of ten payments, five go over the idempotent rail, three over the one that is not, two over the slow one.
write_payments() {
  awk -v count="$PAYMENTS" -v hold_rail="$HOLD_RAIL" 'BEGIN {
    split("sepa sepa sepa sepa sepa " hold_rail " " hold_rail " " hold_rail " slow slow", rails, " ")
    for (i = 1; i <= count; i++) {
      amount = 100 + (i * 7919) % 1000000
      printf "{\"participant_id\":\"DEMOBANK\",\"instruction_id\":\"pay-%06d\",\"rail\":\"%s\",", i, rails[i % 10 + 1]
      printf "\"amount_minor\":%d,\"currency\":\"EUR\",\"content_type\":\"application/json\",", amount
      printf "\"payload\":\"{\\\"instruction\\\":\\\"pay-%06d\\\",\\\"amount_minor\\\":%d}\"}\n", i, amount
    }
  }' >"$WORK/payments.ndjson"
}

enqueue_payments() {
  write_payments
  "$BIN/outboxd" enqueue "$WORK/payments.ndjson" --database-url "$(url demo_producer)"
}

show_status() {
  "$BIN/outboxd" status --database-url "$(url demo_monitor)" </dev/null
}

# Waits until both dispatchers work and the first has payments of the hold rail under way. It waits inside the
# database, to be quick enough when there are few payments.
wait_for_mid_flight() {
  as_dba </dev/null -c "do \$\$
    begin
        for n in 1..3000 loop
            if (select count(*) from outbox.payment_outbox_pending p where p.rail = '$HOLD_RAIL' and p.claimed_by like 'demo_1/%') >= 4
               and exists (select from outbox.payment_outbox_pending p where p.claimed_by like 'demo_2/%')
               and (select count(*) from outbox.payment_outbox_attempts) >= $PAYMENTS / 20 then
                return;
            end if;
            perform pg_sleep(0.01);
        end loop;
        raise exception 'the dispatchers were not in mid-flight within 30 s';
    end
    \$\$"
}

# Kills the first dispatcher as a power cut would, and notes what it held.
kill_in_mid_flight() {
  local deadline=$((SECONDS + 30)) held_leases
  wait_for_mid_flight
  kill_dispatcher 1
  # A call under way when its caller dies is still carried out: what it leased counts.
  until [ "$(ask "select count(*) from pg_stat_activity where usename = 'demo_1'")" = 0 ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "the killed dispatcher's sessions did not end"
    sleep 0.02
  done
  as_dba -c "insert into reconcile.leases_at_kill
             select p.outbox_id, p.rail from outbox.payment_outbox_pending p where p.claimed_by like 'demo_1/%'"
  held_leases=$(ask "select count(*) from reconcile.leases_at_kill k where k.rail = '$HOLD_RAIL'")
  say "killed a dispatcher that held leases: $(ask 'select count(*) from reconcile.leases_at_kill')," \
    "$held_leases of them on the rail $HOLD_RAIL"
}

# What is neither terminal nor held is due, waiting, in flight or in doubt.
wait_until_settled() {
  local deadline=$((SECONDS + SETTLE_LIMIT_S))
  until [ "$(ask "select not exists (select from outbox.payment_outbox_pending p where p.disposition <> 'HELD')")" = t ]; do
    # Not the end of the script: the reconciliation names the payments.
    if [ "$SECONDS" -ge "$deadline" ]; then
      end_progress
      say "payments are still moving after $SETTLE_LIMIT_S s"
      return 0
    fi
    show_progress
    sleep 0.25
  done
  show_progress now
  end_progress
}

dispatch() {
  start_dispatcher 1
  start_dispatcher 2
  kill_in_mid_flight
  show_status
  start_dispatcher 3
  say 'started another'
  wait_until_settled
  show_status
  stop_dispatchers
  stop_rails
}

# load FILE TABLE [RAIL]: lines into a table, as they are: the two control characters are in no line of JSON.
load() {
  local format="with (format csv, delimiter e'\\x01', quote e'\\x02')"
  if [ "$#" -eq 3 ]; then
    sed "s/^/$3"$'\x01/' "$1" | as_dba -c "copy reconcile.$2 (rail, line) from stdin $format"
  else
    as_dba -c "copy reconcile.$2 (line) from stdin $format" <"$1"
  fi
}

reconcile() {
  local rail
  load "$WORK/payments.ndjson" input_lines
  for rail in "${RAILS[@]}"; do
    load "$WORK/$rail.ledger" ledger_lines "$rail"
    load "$WORK/$rail.answers" answer_lines "$rail"
  done
  as_dba -v hold_rail="$HOLD_RAIL" -f scripts/demo/reconcile.sql >"$WORK/verdict"
  if ! tail -n 1 "$WORK/verdict" | grep -q '^RECONCILED '; then
    cat "$WORK/verdict"
    return 1
  fi
}

end() {
  local code=$?
  trap '' INT TERM HUP
  trap - EXIT
  stop_everything
  case "$code" in
    # The verdict is the last thing said.
    0) tail -n 1 "$WORK/verdict" ;;
    129 | 130 | 143) say "$REPORT_NAME: interrupted in step '$REPORT_STEP'" ;;
    *) say "$REPORT_NAME: FAILED in step '$REPORT_STEP' with code $code" ;;
  esac
  # What a failure left is for whoever looks for its cause.
  rm -rf "$WORK/pg"
  if [ "$code" -eq 1 ] && compgen -G "$WORK/*.ledger" >/dev/null; then
    say "logs and ledgers are in $WORK"
  else
    rm -rf "$WORK"
  fi
  exit "$code"
}

WORK=$(mktemp -d -t outboxd-demo.XXXXXX)
# The server's account must come through to its own directory.
chmod 711 "$WORK"
trap end EXIT
# The path of a socket has at most 107 bytes.
[ "${#WORK}" -le 87 ] || die "TMPDIR is too long for the path of a socket: $WORK"

step install install_everything
step 'build (release)' build
umask 077
step 'private Postgres, schema and logins' start_database
step 'three rails and their contracts' start_rails
step "enqueue $PAYMENTS payments" enqueue_payments
step 'dispatch, with a dispatcher killed in mid-flight' dispatch
step 'reconcile the ledgers of the rails with the database' reconcile
say "all steps took $((SECONDS - REPORT_STARTED)) s"
