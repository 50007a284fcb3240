#!/usr/bin/env bash
# Shows that the demonstration can fail: dispatchers that do wrong must not come out as reconciled, and must
# be caught by the checks that are meant for them.
#
#   scripts/demo_mutants.sh [--no-install] [--payments COUNT]
#
# Options are handed to scripts/demo.sh; without --payments, 600.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
REPORT_NAME=scripts/demo_mutants.sh
. scripts/lib/report.sh

OPTIONS=(--payments 600 "$@")
if [ -z "${DEMO_BIN:-}" ]; then
  cargo build --release --locked --quiet -p outboxd -p rail-sim </dev/null
  export DEMO_BIN=${CARGO_TARGET_DIR:-target}/release
fi
WORK=$(mktemp -d -t outboxd-mutants.XXXXXX)
# The account of the demonstration's server must come through.
chmod 711 "$WORK"
# The logs of a failure that was asked for are of no use to anybody.
trap 'report_end; rm -rf "$WORK"' EXIT

# must_fail MUTANT CHECK...: the demonstration ends with 1, and each of these checks has failed.
must_fail() {
  local mutant=$1 code=0 check output="$WORK/$1.log"
  shift
  TMPDIR=$WORK DEMO_MUTANT=$mutant scripts/demo.sh "${OPTIONS[@]}" >"$output" 2>&1 || code=$?
  grep -e '^CHECK FAILED' -e 'RECONCILED ' "$output" || tail -n 20 "$output"
  [ "$code" -eq 1 ] || die "the mutant $mutant ended with code $code"
  grep -q '^NOT RECONCILED ' "$output" || die "the mutant $mutant did not get as far as the reconciliation"
  for check in "$@"; do
    grep -q "^CHECK FAILED $check:" "$output" || die "the mutant $mutant passed the check $check"
  done
}

# Beside each other: most of the time each waits for leases to run out.
declare -A RUNNING
start() {
  must_fail "$@" >"$WORK/$1.said" 2>&1 &
  RUNNING[$1]=$!
}

# All are waited for, whatever one says: none must go on after the end.
wait_for_all() {
  local mutant failed=()
  for mutant in "${!RUNNING[@]}"; do
    wait "${RUNNING[$mutant]}" || failed+=("$mutant")
    printf -- '--- %s\n' "$mutant"
    cat "$WORK/$mutant.said"
  done
  [ "${#failed[@]}" -eq 0 ] || die "not told from the product as they should be: ${failed[*]}"
}

start hold_everything held_at_most_unknown_answers_and_leases_at_kill every_held_payment_was_doubtful_or_leased_at_kill \
  every_other_payment_is_terminal
start send_twice no_key_has_two_effects
start fail_unknown every_effect_is_in_the_database no_failed_payment_has_an_effect
start lose identities_are_pending_or_terminal
step 'dispatchers that hold everything, send twice, take unknown for refused, and lose payments' wait_for_all
