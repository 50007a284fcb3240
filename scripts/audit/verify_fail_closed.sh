#!/usr/bin/env bash
# Drives the real dispatcher into distress of its database, and looks whether it fails closed (INV-028): it stops
# claiming, stays alive, says so at /readyz within 10 s, loses nothing, and goes on by itself when the distress is over.
# Meanwhile a producer with the timeouts that docs/OPERATIONS.md asks for is refused with a SQLSTATE instead of hanging.
#
#   scripts/audit/verify_fail_closed.sh [connections|lock|standby|disk]...
#
# Without words, all of them. `disk` mounts a small tmpfs and needs root for it. DEMO_BIN names the folder of programs that are
# built already. The last line says FAIL_CLOSED and what was seen; a promise that is not kept ends it with code 1. Starts a
# private Postgres and simulated rails on loopback, and ends what it starts.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/audit/verify_fail_closed.sh
DATABASE=fail_closed
# How soon /readyz has to say it (docs/OPERATIONS.md), in seconds, and a producer has to have its answer.
NOT_READY_WITHIN_S=10
REFUSED_WITHIN_S=12
RECOVERED_WITHIN_S=60
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/demo_processes.sh
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS DATABASE_URL OUTBOXD_CONFIG "${!OUTBOXD__@}"
BIN=${DEMO_BIN:-target/release}
WANTED=("$@")
[ "${#WANTED[@]}" -gt 0 ] || WANTED=(connections lock standby disk)
SEEN=()
HOGS=()
SMALL=
# What the producer's sessions ask for, as docs/OPERATIONS.md has it.
PRODUCER_OPTIONS='-c lock_timeout=2s -c statement_timeout=5s'

as_dba() { psql -X -q -v ON_ERROR_STOP=1 -h "$WORK/pg" -p 5432 -U postgres -d "$DATABASE" "$@"; }
ask() { as_dba -At -c "$1" </dev/null; }
url() { say "postgres://$1@${WORK//\//%2F}%2Fpg:5432/$DATABASE"; }

end() {
  local code=$?
  trap '' INT TERM HUP
  trap - EXIT
  for pid in "${HOGS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  stop_everything
  [ -z "$SMALL" ] || umount "$SMALL" 2>/dev/null || umount -l "$SMALL"
  if [ "$code" -eq 0 ]; then
    rm -rf "$WORK"
    say "FAIL_CLOSED ${SEEN[*]}"
  else
    rm -rf "$WORK/pg"
    say "$REPORT_NAME: FAILED in step '$REPORT_STEP' with code $code; logs are in $WORK"
  fi
  exit "$code"
}

build() { [ -n "${DEMO_BIN:-}" ] || cargo build --release --locked --quiet -p outboxd -p rail-sim </dev/null; }

make_database() {
  local where=
  if [ -n "$SMALL" ]; then
    psql -X -q -h "$WORK/pg" -U postgres -d postgres -c "create tablespace small location '$SMALL/data'"
    where='tablespace small'
  fi
  psql -X -q -h "$WORK/pg" -U postgres -d postgres -c "create database $DATABASE $where"
  as_dba -o "$WORK/bootstrap.log" -f scripts/db/bootstrap.sql
  "$BIN/outboxd" migrate --database-url "$(url outbox_migrator)" >"$WORK/migrate.log"
  as_dba -c 'create role producer login; grant outbox_ingest to producer' -c 'create role demo_1 login; grant outbox_dispatcher to demo_1' \
    -c 'create role operator login; grant outbox_operator to operator' -c 'create role auditor login; grant outbox_auditor to auditor'
  "$BIN/outboxd" rail set sepa --database-url "$(url operator)" --rail-timeout 5s --lease-duration 13s --on-unknown resend \
    --idempotency-window 24h --backoff-base 100ms --backoff-cap 1s >/dev/null
}

start_daemon() {
  {
    printf '[dispatcher]\nname = "demo_1"\ndrain_timeout = "10s"\nheartbeat_interval = "1s"\n'
    printf '[database]\nhost = "%s"\nname = "%s"\nuser = "demo_1"\n[health]\nlisten = "127.0.0.1:0"\n[log]\nformat = "json"\n' "$WORK/pg" "$DATABASE"
    rail_table sepa 8
  } >"$WORK/outboxd.toml"
  setpriv --pdeathsig KILL "$BIN/outboxd" run --config "$WORK/outboxd.toml" >"$WORK/outboxd.log" 2>&1 </dev/null &
  DISPATCHER_PIDS[1]=$!
  : >>"$WORK/outboxd.log"
  HEALTH=$(wait_for_line '"event":"health.serving"' "$WORK/outboxd.log" "$!" | sed -E 's/.*"address":"([^"]+)".*/\1/')
}

# readyz: the status that /readyz answers with.
readyz() {
  exec 3<>"/dev/tcp/${HEALTH%:*}/${HEALTH##*:}" || { say none; return; }
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
  head -n 1 <&3 | cut -d ' ' -f 2
  exec 3>&-
}

# within SECONDS WHAT COMMAND...: until the command succeeds; prints after how many milliseconds.
within() {
  local limit_ms=$(($1 * 1000)) what=$2 begun now
  shift 2
  begun=$(date +%s%3N)
  until "$@" >/dev/null 2>&1; do
    now=$(date +%s%3N)
    [ $((now - begun)) -lt "$limit_ms" ] || die "not within $((limit_ms / 1000)) s: $what"
    sleep 0.05
  done
  say $(($(date +%s%3N) - begun))
}

is_ready() { [ "$(readyz)" = 200 ]; }
is_not_ready() { [ "$(readyz)" = 503 ]; }
# What is neither ended nor held is still to be sent.
is_settled() { [ "$(ask "select count(*) from outbox.payment_outbox_pending where disposition <> 'HELD'")" = 0 ]; }
now() { date -u +%Y-%m-%dT%H:%M:%S.%6NZ; }

# enqueue COUNT: payments of their own names, as the producer; prints what psql says.
enqueue() {
  local batch
  # It runs in a subshell: a counter would stay where it is, and the same names are the same payments.
  batch=$(date +%s%N)
  PGOPTIONS=$PRODUCER_OPTIONS PGCONNECT_TIMEOUT=5 timeout 60 psql -X -q -At -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -h "$WORK/pg" -p 5432 -U producer \
    -d "$DATABASE" -c "select count(*) from generate_series(1, $1) n cross join lateral outbox.enqueue_payment_outbox_text('p', 'b$batch-' || n, 'k$batch-' || n,
      'sepa', repeat('x', 400), 'text/plain', p_amount_minor => n, p_currency => 'EUR')" </dev/null 2>&1
}

# refuses_producer: an enqueue is refused in time, and says with what.
refuses_producer() {
  local begun said code=0 took
  begun=$(date +%s%3N)
  said=$(enqueue 500) || code=$?
  took=$(($(date +%s%3N) - begun))
  [ "$code" -ne 0 ] || die "$1: an enqueue was accepted in the distress: it was none"
  [ "$code" -ne 124 ] && [ "$took" -le $((REFUSED_WITHIN_S * 1000)) ] || die "$1: an enqueue hung for $took ms"
  # With VERBOSITY=sqlstate psql prints the code alone, but not of a connection that it did not get.
  said=$(grep -oE -m 1 '\b(53300|53100|55P03|57014|25006|57P03)\b|too many clients|remaining connection slots|the database system is' <<<"$said") \
    || die "$1: an enqueue failed without a SQLSTATE that is known here: $said"
  case "$said" in *clients | *slots) said=53300 ;; *system*) said=57P03 ;; esac
  ENQUEUE_SAID="$said after $took ms"
}

# distress NAME BEGIN END: the promises, one after the other.
distress() {
  local name=$1 batches from until not_ready claimed recovered
  if ! is_ready; then within "$RECOVERED_WITHIN_S" "$name: ready before it begins" is_ready >/dev/null; fi
  # A full disk is noticed when something is to be written: there is work for longer than it takes to fill it.
  case "$name" in disk) batches=8 ;; *) batches=1 ;; esac
  for _ in $(seq 1 "$batches"); do
    [ "$(enqueue 400)" = 400 ] || die "$name: payments could not be enqueued before"
  done
  "$2"
  not_ready=$(within "$NOT_READY_WITHIN_S" "$name: /readyz says 503" is_not_ready)
  # What was under way when it began may still come; from here on nothing is claimed.
  from=$(now)
  refuses_producer "$name"
  is_not_ready || die "$name: it says that it is ready while the distress lasts"
  kill -0 "${DISPATCHER_PIDS[1]}" 2>/dev/null || die "$name: the dispatcher has ended"
  until=$(now)
  "$3"
  recovered=$(within "$RECOVERED_WITHIN_S" "$name: ready again" is_ready)
  [ "$(enqueue 50)" = 50 ] || die "$name: payments could not be enqueued afterwards"
  within "$RECOVERED_WITHIN_S" "$name: every payment has ended" is_settled >/dev/null
  claimed=$(ask "select count(*) from outbox.payment_outbox_attempts where claimed_at between '$from' and '$until'")
  [ "$claimed" = 0 ] || die "$name: $claimed payments were claimed after it said that it is not ready"
  nothing_lost "$name"
  say "$name: not ready after $not_ready ms, enqueue refused with $ENQUEUE_SAID, ready again after $recovered ms, $HELD_LATE held with a late success so far"
  SEEN+=("$name=${not_ready}ms/${ENQUEUE_SAID%% *}")
}

# Every payment that was committed is dispatched, or held because its result came when its lease had run out; the rail
# executed each once; and the audit finds nothing.
nothing_lost() {
  local identities ended held effects twice
  identities=$(ask 'select count(*) from outbox.payment_outbox_identities')
  ended=$(ask "select count(*) from outbox.payment_outbox_attempts where state = 'DISPATCHED'")
  held=$(ask "select count(*) from outbox.payment_outbox_pending where disposition = 'HELD' and hold_reason = 'LATE_SUCCESS'")
  # A line of the ledger is an effect.
  effects=$(grep -oE '"key":"[^"]+"' "$WORK/sepa.ledger" | sort -u | wc -l)
  twice=$(grep -oE '"key":"[^"]+"' "$WORK/sepa.ledger" | sort | uniq -d | wc -l)
  [ "$identities" = $((ended + held)) ] && [ "$identities" = "$effects" ] && [ "$twice" = 0 ] \
    || die "$1: $identities committed, $ended dispatched, $held held with a late success, $effects executed by the rail, $twice of them twice"
  "$BIN/outboxd" audit --full --database-url "$(url auditor)" >"$WORK/audit" || die "$1: $(cat "$WORK/audit")"
  HELD_LATE=$held
}

# Connections: other sessions take each one that is free, and the dispatcher's own break.
hog() { while :; do psql -X -q -h "$WORK/pg" -p 5432 -U hog -d postgres -c 'select pg_sleep(600)' >/dev/null 2>&1 || sleep 0.02; done; }
begin_connections() {
  local n
  for n in $(seq 1 40); do
    hog 2>/dev/null &
    HOGS+=("$!")
  done
  # Until the dispatcher has none left: what it gives up is taken by others.
  within 30 'the dispatcher has no connection left' no_connection_left >/dev/null
}
no_connection_left() {
  ask "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'demo_1'" >/dev/null
  [ "$(ask "select count(*) from pg_stat_activity where usename = 'demo_1'")" = 0 ] && [ "$(ask "select count(*) from pg_stat_activity where usename = 'hog'")" -ge 20 ]
}
end_connections() {
  local pid
  for pid in "${HOGS[@]}"; do
    pkill -KILL -P "$pid" 2>/dev/null || true
    kill -KILL "$pid" 2>/dev/null || true
    { wait "$pid"; } 2>/dev/null || true
  done
  HOGS=()
  ask "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hog'" >/dev/null
}

# Lock: a session of a DBA has the queue to itself, as a careless DDL statement would.
begin_lock() {
  as_dba -c 'begin; lock table outbox.payment_outbox_pending in access exclusive mode; select pg_sleep(600)' >/dev/null 2>&1 </dev/null &
  LOCKER=$!
  HOGS+=("$LOCKER")
}
end_lock() {
  ask "select pg_terminate_backend(l.pid) from pg_locks l where l.mode = 'AccessExclusiveLock' and l.granted and l.relation = 'outbox.payment_outbox_pending'::regclass" >/dev/null
  { wait "$LOCKER"; } 2>/dev/null || true
  HOGS=()
}

# Standby: the server comes back as one. It is never promoted: that is another story (docs/RUNBOOK.md, day 5).
restart_postgres() {
  kill -INT "$POSTGRES_PID"
  { wait "$POSTGRES_PID"; } 2>/dev/null || true
  run_private_postgres "$WORK/pg" "${SERVER_OPTIONS[@]}"
}
begin_standby() {
  install -o "$(test_account)" -m 600 /dev/null "$WORK/pg/data/standby.signal"
  restart_postgres
}
end_standby() {
  rm "$WORK/pg/data/standby.signal"
  restart_postgres
}

# Disk: the file system of the tables is full; that of the log is not, so that the server stays up.
begin_disk() { dd if=/dev/zero of="$SMALL/ballast" bs=64k status=none 2>/dev/null || true; }
end_disk() { rm "$SMALL/ballast"; }
mount_small() {
  [ "$(id -u)" -eq 0 ] || die 'disk: mounting a small file system needs root'
  SMALL=$WORK/small
  mkdir "$SMALL"
  mount -t tmpfs -o size=160m,mode=755 outboxd-small "$SMALL" || {
    SMALL=
    die 'disk: no small file system can be mounted here'
  }
  install -d -o "$(test_account)" -m 700 "$SMALL/data"
}

WORK=$(mktemp -d -t outboxd-closed.XXXXXX)
chmod 711 "$WORK"
trap end EXIT
[ "${#WORK}" -le 87 ] || die "TMPDIR is too long for the path of a socket: $WORK"
find_postgres || die "no Postgres of version 15 to 18 runs as $(test_account)"
# Few connections, so that they can be taken; a checkpointer that does not need the disk of the tables for long.
SERVER_OPTIONS=(-c max_connections=30 -c superuser_reserved_connections=3)

step 'programs' build
case " ${WANTED[*]} " in *' disk '*) step 'a small file system' mount_small ;; esac
step 'private Postgres' start_private_postgres "$WORK/pg" "${SERVER_OPTIONS[@]}"
psql -X -q -h "$WORK/pg" -U postgres -d postgres -c 'create role hog login'
step 'schema and logins' make_database
start_rail sepa --seed 1 --latency-min-ms 5 --latency-max-ms 40
step 'rail' true
start_daemon
for name in "${WANTED[@]}"; do
  case "$name" in
    connections | lock | standby | disk) step "$name" distress "$name" "begin_$name" "end_$name" ;;
    *) die "usage: scripts/audit/verify_fail_closed.sh [connections|lock|standby|disk]..." ;;
  esac
done
stop_dispatchers
stop_rails
