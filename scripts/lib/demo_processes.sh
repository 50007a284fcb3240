# shellcheck shell=bash
# Starts and stops the rails and dispatchers of the demonstration; the database's server too is stopped
# here. All are children of the script and end with it, even if it is killed. Sourced by scripts/demo.sh,
# which sets WORK, BIN, DATABASE and HOLD_RAIL.

RAILS=()
declare -A RAIL_PIDS=() RAIL_ADDRESSES=() DISPATCHER_PIDS=()
POSTGRES_PID=

# wait_for_line PATTERN FILE PID: until the file has such a line; prints the first.
wait_for_line() {
  local waited=0
  until grep -m 1 -e "$1" "$2"; do
    kill -0 "$3" 2>/dev/null || die "a process ended at its start: $(tail -n 3 "$2")"
    [ "$waited" -lt 300 ] || die "no line '$1' in $2 within 30 s"
    waited=$((waited + 1))
    sleep 0.1
  done
}

# start_rail NAME OPTION...: a rail-sim on a free port of loopback.
start_rail() {
  local rail=$1 line
  shift
  setpriv --pdeathsig KILL "$BIN/rail-sim" --ledger "$WORK/$rail.ledger" --answers "$WORK/$rail.answers" \
    --telling 503:NOT_EXECUTED "$@" >"$WORK/$rail.log" 2>&1 </dev/null &
  RAIL_PIDS[$rail]=$!
  RAILS+=("$rail")
  line=$(wait_for_line '^LISTENING ' "$WORK/$rail.log" "${RAIL_PIDS[$rail]}")
  RAIL_ADDRESSES[$rail]=${line#LISTENING }
}

# rail_table NAME CONCURRENCY: a rail in the configuration of a dispatcher.
rail_table() {
  cat <<TABLE
[rails.$1]
url = "http://${RAIL_ADDRESSES[$1]}/payments"
concurrency = $2
timeout = "5s"
connect_timeout = "1s"
reference_json_pointer = "/reference"
code_json_pointer = "/code"
[[rails.$1.codes]]
status = 503
code = "NOT_EXECUTED"
means = "not_executed"
[[rails.$1.codes]]
status = 422
code = "KEY_REUSED"
means = "key_reused"
TABLE
}

# start_dispatcher NUMBER: the login, and the first half of the worker id, is demo_NUMBER.
start_dispatcher() {
  local number=$1
  {
    cat <<TABLES
[dispatcher]
name = "demo_$number"
drain_timeout = "10s"
heartbeat_interval = "1s"
[database]
host = "$WORK/pg"
name = "$DATABASE"
user = "demo_$number"
[health]
listen = "off"
[log]
format = "json"
TABLES
    rail_table sepa 16
    rail_table "$HOLD_RAIL" 12
    rail_table slow 16
  } >"$WORK/dispatcher_$number.toml"
  setpriv --pdeathsig KILL "$BIN/outboxd" run --config "$WORK/dispatcher_$number.toml" \
    >"$WORK/dispatcher_$number.log" 2>&1 </dev/null &
  DISPATCHER_PIDS[$number]=$!
}

# kill_dispatcher NUMBER: SIGKILL; it must not have ended before by itself.
kill_dispatcher() {
  local code=0
  kill -KILL "${DISPATCHER_PIDS[$1]}"
  # The shell would report the kill.
  { wait "${DISPATCHER_PIDS[$1]}"; } 2>/dev/null || code=$?
  unset "DISPATCHER_PIDS[$1]"
  [ "$code" -eq 137 ] || die "dispatcher $1 had ended before it was killed, with code $code"
}

# end_orderly WHAT PID: SIGTERM, and an exit code of 0.
end_orderly() {
  local code=0
  kill -TERM "$2" 2>/dev/null || true
  wait "$2" || code=$?
  [ "$code" -eq 0 ] || die "$1 ended with code $code"
}

stop_dispatchers() {
  local number
  for number in "${!DISPATCHER_PIDS[@]}"; do
    end_orderly "dispatcher $number" "${DISPATCHER_PIDS[$number]}"
    unset "DISPATCHER_PIDS[$number]"
  done
}

stop_rails() {
  local rail
  for rail in "${!RAIL_PIDS[@]}"; do
    end_orderly "rail $rail" "${RAIL_PIDS[$rail]}"
    unset "RAIL_PIDS[$rail]"
  done
}

# Whatever is still there, at once: at the end of the script nothing of it is needed any more.
stop_everything() {
  local pid
  for pid in "${DISPATCHER_PIDS[@]}" "${RAIL_PIDS[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
    { wait "$pid"; } 2>/dev/null || true
  done
  if [ -n "$POSTGRES_PID" ]; then
    # An immediate shutdown; the server takes its children and its shared memory along.
    kill -QUIT "$POSTGRES_PID" 2>/dev/null || true
    { wait "$POSTGRES_PID"; } 2>/dev/null || true
  fi
}
