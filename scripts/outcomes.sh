#!/usr/bin/env bash
# Each contract under everything at once, at length: a fifth of the rail's answers faulty, three daemons, two
# kills, one restart of Postgres. The tests judge; their figures are written down. `scripts/test.sh` runs the same
# tests with 400 payments for each contract.
#
#   scripts/outcomes.sh [--payments COUNT] [--out FILE]
#
# Needs what scripts/test.sh installs, and no standard input.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/outcomes.sh
COMMAND="scripts/outcomes.sh $*"
PAYMENTS=20000
OUT=evidence/outcomes.txt
usage() {
  printf 'usage: scripts/outcomes.sh [--payments COUNT] [--out FILE]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --payments)
      [[ "${2:-}" =~ ^[1-9][0-9]{1,5}$ ]] || usage
      PAYMENTS=$2
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
  OUTBOXD_TEST_OUTCOMES=$PAYMENTS OUTBOXD_TEST_OUTCOMES_OUT=$FIGURES RUST_BACKTRACE=0 \
    target/debug/testkit-pg 15 cargo test -p outboxd --test it -- --test-threads=1 outcomes:: </dev/null
}

write_evidence() {
  {
    evidence_header "$COMMAND" 'outboxd, built for tests' 'the 15 of scripts/test.sh, a server for each contract'
    printf 'unknown: payments with an attempt whose outcome was unknown; held: at the end\n'
    printf 'contract payments effects dispatched failed held unknown lost_leases open_at_kills requests inquiries\n'
    sort "$FIGURES"
  } >"$OUT"
  rm -f "$FIGURES"
  cat "$OUT"
}

step build cargo build --workspace --bins --tests --quiet
step "$PAYMENTS payments for each contract" run
step evidence write_evidence
