#!/usr/bin/env bash
# Each contract under everything at once, at length: a fifth of the rail's answers faulty, three daemons, two
# kills, one restart of Postgres; and a rail that comes back with a long queue due (docs/RUNBOOK.md, day 1). The tests
# judge; their figures are written down. `scripts/test.sh` runs the same tests with 400 payments each.
#
#   scripts/outcomes.sh [--payments COUNT] [--backlog COUNT] [--out FILE]
#
# Needs what scripts/test.sh installs, and no standard input.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/outcomes.sh
COMMAND="scripts/outcomes.sh $*"
PAYMENTS=20000
BACKLOG=200000
OUT=evidence/outcomes.txt
usage() {
  printf 'usage: scripts/outcomes.sh [--payments COUNT] [--backlog COUNT] [--out FILE]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --payments | --backlog)
      [[ "${2:-}" =~ ^[1-9][0-9]{1,6}$ ]] || usage
      if [ "$1" = --payments ]; then PAYMENTS=$2; else BACKLOG=$2; fi
      ;;
    --out)
      [ -n "${2:-}" ] || usage
      OUT=$2
      ;;
    *) usage ;;
  esac
  shift 2
done
. scripts/lib/report.sh
. scripts/lib/evidence.sh

FIGURES=$(mktemp -t outboxd-outcomes.XXXXXX)
run() {
  OUTBOXD_TEST_OUTCOMES=$PAYMENTS OUTBOXD_TEST_BACKLOG=$BACKLOG OUTBOXD_TEST_OUTCOMES_OUT=$FIGURES RUST_BACKTRACE=0 \
    target/debug/testkit-pg 15 cargo test -p outboxd --test it -- --test-threads=1 "$1" </dev/null
}

backlog() {
  local started=$SECONDS
  run day_1
  DRAINED_S=$((SECONDS - started))
}

write_evidence() {
  {
    evidence_header "$COMMAND" 'outboxd, built for tests' 'the 15 of scripts/test.sh, a server for each contract'
    printf 'unknown: payments with an attempt whose outcome was unknown; held: at the end; open_at_kills: leased by a daemon that was\nkilled when it died, or when the database was killed and lost then\n'
    printf 'contract payments effects dispatched failed held unknown lost_leases open_at_kills requests inquiries\n'
    sort "$FIGURES"
    printf '\nday 1 of docs/RUNBOOK.md with %s payments due: passed in %s s, enqueueing included\n' "$BACKLOG" "$DRAINED_S"
  } >"$OUT"
  rm -f "$FIGURES"
  cat "$OUT"
}

step build cargo build --workspace --bins --tests --quiet
step "$PAYMENTS payments for each contract" run outcomes::
step "$BACKLOG payments due on a rail that is down" backlog
step evidence write_evidence
