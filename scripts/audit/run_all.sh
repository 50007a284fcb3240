#!/usr/bin/env bash
# Runs every gate of scripts/audit/gates.txt and writes one file of evidence.
#
#   scripts/audit/run_all.sh [--out FILE]
#
# Without --out it is a file evidence/run-*.json, which git ignores. Starts a private Postgres 15 with the migrations, and simulated rails;
# ends what it starts. The last line is GATES pass=… fail=… evidence=PATH; the exit code is 0 only if no gate failed and the evidence
# says PASS. Of a tree with changes it cannot: then the gates alone decide about the exit code. Needs what scripts/test.sh installs.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/audit/run_all.sh
DATABASE=evidence
OUT=
case "${1:-}" in
  '') ;;
  --out) OUT=${2:?'--out needs a file'} ;;
  *)
    printf 'usage: scripts/audit/run_all.sh [--out FILE]\n' >&2
    exit 2
    ;;
esac
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/demo_processes.sh
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS DATABASE_URL OUTBOXD_CONFIG "${!OUTBOXD__@}"
export CARGO_TERM_COLOR=never DEMO_BIN=$ROOT/target/debug
[ -n "$OUT" ] || OUT=evidence/run-$(git rev-parse --short=12 HEAD 2>/dev/null || printf unknown).json
WORK=$(mktemp -d -t outboxd-gates.XXXXXX)
chmod 711 "$WORK"
PASSED=0
FAILED=0
SAID=

end() {
  local code=$?
  trap '' INT TERM HUP
  trap - EXIT
  stop_everything
  if [ "$FAILED" -eq 0 ] && [ "$code" -eq 0 ]; then rm -rf "$WORK"; else rm -rf "$WORK/pg"; fi
  if [ -n "$SAID" ]; then say "$SAID"; else say "$REPORT_NAME: FAILED in step '$REPORT_STEP' with code $code; logs are in $WORK"; fi
  exit "$code"
}
trap end EXIT

as_dba() { psql -X -q -v ON_ERROR_STOP=1 -h "$WORK/pg" -p 5432 -U postgres -d "$DATABASE" "$@"; }
url() { say "postgres://$1@${WORK//\//%2F}%2Fpg:5432/$DATABASE"; }

prepare() {
  find_postgres || die "no Postgres of version 15 to 18 runs as $(test_account)"
  cargo build --locked --quiet --workspace --bins </dev/null
  start_private_postgres "$WORK/pg"
  psql -X -q -h "$WORK/pg" -U postgres -d postgres -c "create database $DATABASE"
  as_dba -o "$WORK/bootstrap.log" -f scripts/db/bootstrap.sql
  target/debug/outboxd migrate --database-url "$(url outbox_migrator)" >"$WORK/migrate.log"
  as_dba -c 'create role auditor login; grant outbox_auditor to auditor'
}

# run_gate NAME COMMAND: its result as a line of JSON. Names and paths have no quotes and no backslashes.
run_gate() {
  local name=$1 command=$2 output started=$SECONDS code=0
  output="$WORK/$(printf '%s' "$name" | tr -c 'a-z0-9' '-').log"
  command=${command//'{database}'/"psql -X -q -v ON_ERROR_STOP=1 -h $WORK/pg -p 5432 -U postgres -d $DATABASE"}
  command=${command//'{auditor}'/"$(url auditor)"}
  (unset OUTBOXD_TEST_PG_HOST OUTBOXD_TEST_PG_PORT; bash -c "$command") >"$output" 2>&1 </dev/null || code=$?
  printf '{"gate":"%s","exit_code":%d,"seconds":%d,"output":"%s"}\n' "$name" "$code" $((SECONDS - started)) "$output" >>"$WORK/results"
  if [ "$code" -eq 0 ]; then
    PASSED=$((PASSED + 1))
    say "pass  $name ($((SECONDS - started)) s)"
  else
    FAILED=$((FAILED + 1))
    say "FAIL  $name ($((SECONDS - started)) s, code $code): $output"
    tail -n 5 "$output"
  fi
}

step prepare prepare
: >"$WORK/results"
while IFS=$'\t' read -r name _ command <&4; do
  case "$name" in '' | '#'*) continue ;; esac
  run_gate "$name" "$command"
done 4<scripts/audit/gates.txt
rm -f "$OUT"
code=0
scripts/audit/generate_evidence.sh "$WORK/results" "$OUT" "$(url auditor)" || code=$?
SAID="GATES pass=$PASSED fail=$FAILED evidence=$OUT"
[ "$FAILED" -eq 0 ] || exit 1
if [ "$code" -ne 0 ] && [ -n "$(git status --porcelain -- . ':!evidence' 2>/dev/null)" ]; then
  say 'the evidence is of a tree with changes: it is a failure, though no gate failed'
  exit 0
fi
exit "$code"
