#!/usr/bin/env bash
# How much a dead rail with a long queue delays another: the time from the enqueue of a payment to its first byte
# on rail b, with nothing due on rail a, and with 100,000 payments due there while it refuses connections or, another
# time, takes every request and never answers. They are measured in turns on one machine, so their ratio is what
# counts, not the milliseconds.
#
#   scripts/measure_isolation.sh [--rounds COUNT] [--seconds COUNT] [--out FILE]
#
# In a last kind of run connections are refused and the breaker of rail a never opens. Each run has a database of its own on
# one private Postgres. Needs no standard input and no terminal; installs nothing. Raw figures go to FILE.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/measure_isolation.sh
COMMAND="scripts/measure_isolation.sh $*"
ROUNDS=8
RUN_S=30
OUT=evidence/isolation.txt
usage() {
  printf 'usage: scripts/measure_isolation.sh [--rounds COUNT] [--seconds COUNT] [--out FILE]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --rounds | --seconds)
      [[ "${2:-}" =~ ^[1-9][0-9]{0,2}$ ]] || usage
      if [ "$1" = --rounds ]; then ROUNDS=$2; else RUN_S=$2; fi
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

DATABASE=empty
BACKLOG=100000
# Payments a second on rail b: well below what it takes alone, so that a queue is the other rail's doing.
RATE=100
# Half the port range of loopback is never listened on; connecting is refused.
DEAD_URL=http://127.0.0.1:1/payments

# enqueue_sql RAIL SERIES: a call that enqueues payment `n` of a series, for use inside PL/pgSQL.
enqueue_sql() {
  printf "perform outbox.enqueue_payment_outbox('m', '%s' || n, '%s' || n, '%s', convert_to('payment ' || n, 'UTF8'), 'text/plain')" \
    "$2" "$2" "$1"
}

# Two databases to copy: one with nothing due, one with the queue of rail a.
make_databases() {
  make_database
  as_dba -o /dev/null -c 'create role measured login; grant outbox_dispatcher to measured' \
    -c "select outbox.set_payment_rail('a', 'hold', p_rail_timeout_ms => 5000, p_lease_duration_ms => 13000, p_amount_required => false)" \
    -c "select outbox.set_payment_rail('b', 'hold', p_rail_timeout_ms => 5000, p_lease_duration_ms => 13000, p_amount_required => false)"
  psql -X -q -h "$WORK/pg" -U postgres -d postgres -c 'create database queued template empty'
  DATABASE=queued as_dba -c "do \$\$ begin for n in 1..$BACKLOG loop $(enqueue_sql a a); end loop; end \$\$" \
    -c 'vacuum analyze'
}

# start_measured URL FAILURES: a dispatcher that sends what is for rail a there, with a breaker that opens after so many.
start_measured() {
  {
    cat <<TABLES
[dispatcher]
name = "measured"
drain_timeout = "10s"
[database]
host = "$WORK/pg"
name = "$DATABASE"
user = "measured"
[health]
listen = "off"
[log]
format = "json"
filter = "warn"
[rails.a]
url = "$1"
timeout = "5s"
connect_timeout = "1s"
reference_json_pointer = "/reference"
[rails.a.breaker]
failures = $2
TABLES
    rail_table b 32
  } >"$WORK/measured.toml"
  setpriv --pdeathsig KILL "$BIN/outboxd" run --config "$WORK/measured.toml" >"$WORK/measured.log" 2>&1 </dev/null &
  DISPATCHER_PIDS[measured]=$!
}

# run KIND ROUND: one measured run; adds a line to the figures.
run() {
  local kind=$1 round=$2 template=queued url=$DEAD_URL failures=10
  [ "$kind" != alone ] || template=empty
  [ "$kind" != silent ] || url=http://${RAIL_ADDRESSES[silent]}/payments
  [ "$kind" != dead_without_breaker ] || failures=4294967295
  DATABASE="${kind}_$round"
  psql -X -q -h "$WORK/pg" -U postgres -d postgres -c "create database $DATABASE template $template" -c checkpoint
  start_measured "$url" "$failures"
  # At a steady rate, each payment in a transaction of its own; the first two seconds warm up and are not counted.
  as_dba -c "do \$\$ declare v_start timestamptz := clock_timestamp(); begin
      for n in 1..$((RATE * (RUN_S + 2))) loop
          $(enqueue_sql b b); commit;
          perform pg_sleep(extract(epoch from v_start - clock_timestamp()) + n / $RATE.0);
      end loop; end \$\$"
  as_dba -At -F ' ' -c "
      with measured as (
          select extract(epoch from a.first_byte_at - i.created_at) * 1000 as ms
            from outbox.payment_outbox_instructions i join outbox.payment_outbox_attempts a using (outbox_id)
           where i.rail = 'b' and a.attempt_no = 1
             and i.created_at > (select min(created_at) + interval '2 s' from outbox.payment_outbox_instructions where rail = 'b'))
      select '$kind', $round, count(*), round(percentile_cont(0.5) within group (order by ms)::numeric, 2),
             round(percentile_cont(0.99) within group (order by ms)::numeric, 2), round(max(ms)::numeric, 2),
             (select count(*) from outbox.payment_outbox_attempts where rail = 'a') from measured" | tee -a "$WORK/figures"
  end_orderly dispatcher "${DISPATCHER_PIDS[measured]}"
  unset 'DISPATCHER_PIDS[measured]'
}

# Over four rounds each kind follows each other once: a balanced square (Williams, 1949).
measure() {
  local round place kinds=(alone dead silent dead_without_breaker) orders=('0 1 3 2' '1 2 0 3' '2 3 1 0' '3 0 2 1')
  for ((round = 1; round <= ROUNDS; round++)); do
    for place in ${orders[(round - 1) % 4]}; do run "${kinds[place]}" "$round"; done
  done
}

# What KIND's p99 is against `alone` of the same round: the mean of all rounds, with two standard errors to both sides, by the
# logarithm of the ratios.
ratio() {
  awk -v kind="$1" '$1 == "alone" { base[$2] = $5 } $1 == kind { p99[$2] = $5 }
    END {
      for (r in p99) { x = log(p99[r] / base[r]); n++; sum += x; squares += x * x }
      mean = sum / n
      error = n > 1 ? sqrt((squares / n - mean * mean) / (n - 1)) : 0
      printf "%.2f (%.2f to %.2f)\n", exp(mean), exp(mean - 2 * error), exp(mean + 2 * error)
    }' "$WORK/figures"
}

write_evidence() {
  local kind
  {
    measured_header
    printf 'rail b: %s payments a second for %s s; rail a: nothing due (alone), or %s due and connections refused (dead) or requests never answered (silent)\n' \
      "$RATE" "$RUN_S" "$BACKLOG"
    printf 'milliseconds from the enqueue, before its commit, to the first byte\n'
    printf 'kind round payments p50 p99 max attempts_on_a\n'
    cat "$WORK/figures"
    printf '\np99 against alone of the same round: mean of %s rounds, and two standard errors to both sides\n' "$ROUNDS"
    for kind in dead silent dead_without_breaker; do printf '%s: %s\n' "$kind" "$(ratio "$kind")"; done
  } >"$OUT"
  tail -n 4 "$OUT"
}

. scripts/lib/measure.sh
step 'build (release)' build outboxd rail-sim
umask 077
step 'private Postgres and databases' make_databases
step 'a rail that answers' start_rail b --latency-min-ms 5 --no-sync
step 'one that never does' start_rail silent --fault hang=1000
step "measure $ROUNDS rounds" measure
step 'write the figures' write_evidence
