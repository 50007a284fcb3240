#!/usr/bin/env bash
# The model against SQL at length: so many random sequences of calls on each version of Postgres, a fourth of them on each contract, each
# step compared with the model (crates/outbox-store/tests/it/lives). `scripts/test.sh` runs the same tests with 500 for each contract.
#
#   scripts/state_machine.sh [--sequences COUNT] [--postgres 15|16|17|18]... [--out FILE]
#
# Without --postgres on 15 and on 18. What came of it is appended to FILE, evidence/state_machine.txt unless told otherwise.
#
# A failure ends with the shortest sequence that was found and with OUTBOXD_TEST_SEED=…, which makes it again:
#   OUTBOXD_TEST_SEED=… target/debug/testkit-pg 15 cargo test -p outbox-store --test it -- lives::NAME
# Needs what scripts/test.sh installs, and no standard input.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/state_machine.sh
COMMAND="scripts/state_machine.sh $*"
SEQUENCES=100000
OUT=evidence/state_machine.txt
VERSIONS=()
usage() {
  printf 'usage: scripts/state_machine.sh [--sequences COUNT] [--postgres 15|16|17|18]... [--out FILE]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --sequences)
      [[ "${2:-}" =~ ^[1-9][0-9]{1,7}$ ]] || usage
      SEQUENCES=$2
      ;;
    --postgres)
      [[ "${2:-}" =~ ^1[5-8]$ ]] || usage
      VERSIONS+=("$2")
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

FIGURES=$(mktemp -t outboxd-state-machine.XXXXXX)
run() {
  local started=$SECONDS
  : >"$FIGURES.$1"
  OUTBOXD_TEST_SEQUENCES=$(((SEQUENCES + 3) / 4)) OUTBOXD_TEST_SEQUENCES_OUT=$FIGURES.$1 RUST_BACKTRACE=0 \
    target/debug/testkit-pg "$1" cargo test -p outbox-store --test it -- --test-threads="$(nproc)" lives::random_lives </dev/null
  sort "$FIGURES.$1" | sed "s/^/$1 /" >>"$FIGURES"
  printf '%s in %s s\n' "$1" "$((SECONDS - started))" >>"$FIGURES.times"
}

write_evidence() {
  {
    evidence_header "$COMMAND" 'the tests of outbox-store' "${VERSIONS[*]}, those of scripts/test.sh"
    printf 'postgres contract sequences seed, differences that did not come again in five tries (moments), and how often what was\n'
    printf 'done or said. Other differences from the model: none, or no file\n'
    cat "$FIGURES" "$FIGURES.times"
    printf '\n'
  } >>"$OUT"
  rm -f "$FIGURES" "$FIGURES".*
  cat "$OUT"
}

build() {
  cargo build -p outbox-testkit --bins --quiet
  cargo test -p outbox-store --test it --no-run --quiet
}

step build build
[ "${#VERSIONS[@]}" -gt 0 ] || VERSIONS=(15 18)
for version in "${VERSIONS[@]}"; do
  step "$SEQUENCES sequences on Postgres $version" run "$version"
done
step evidence write_evidence
