#!/usr/bin/env bash
# Shows that the nemesis can fail: dispatchers that do wrong must be found by the checker, each by the check that is meant for it.
#
#   scripts/nemesis_mutants.sh [--no-install] [--out FILE] [MUTANT...]
#
# Without names, all of them. --out appends what found each to a file, under evidence/ for instance. NEMESIS_BIN names a folder of
# programs that are built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
REPORT_NAME=scripts/nemesis_mutants.sh
. scripts/lib/report.sh
. scripts/lib/evidence.sh

COMMAND="scripts/nemesis_mutants.sh $*"
OUT=''
OPTIONS=(--seed 11 --payments 4000)
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --no-install) OPTIONS+=(--no-install) ;;
    --out)
      OUT=${2:?--out needs a file}
      shift
      ;;
    *) die "there is no option $1" ;;
  esac
  shift
done
if [ -z "${NEMESIS_BIN:-}" ]; then
  cargo build --release --locked --quiet -p outboxd -p outbox-checker -p outbox-nemesis </dev/null
  export NEMESIS_BIN=${CARGO_TARGET_DIR:-target}/release
fi
# Which check finds which; the first that is said is enough.
declare -A FOUND_BY=(
  [hold_everything]='doubt_without_cause|held_without_cause'
  [send_twice]='resent_after_doubt|executed_twice'
  [forget_late]='late_evidence_forgotten'
  [fail_unknown]='failed_without_refusal|effect_of_ended'
  [lose]='lost_payment'
  [no_fence]='sent_outside_lease'
)
# Among all kinds a mutant may meet what it does wrong by chance alone: such a one gets the kinds that it is about.
declare -A FAULTS=([forget_late]='--faults 24 --only stop_past_lease')
OUTPUT=$(mktemp -t outboxd-nemesis-mutants.XXXXXX)
FOUND=$OUTPUT.found
trap 'report_end; rm -f "$OUTPUT" "$FOUND"' EXIT

must_be_found() {
  local mutant=$1 code=0 found folder faults
  read -ra faults <<<"${FAULTS[$mutant]:---faults 80}"
  scripts/nemesis.sh "${OPTIONS[@]}" "${faults[@]}" --mutant "$mutant" >"$OUTPUT" 2>&1 || code=$?
  found=$(grep -o 'FINDING [a-z_]*: .*' "$OUTPUT" | head -n 1 || true)
  [ "$code" -eq 1 ] || die "the mutant $mutant ended with code $code: $(tail -n 5 "$OUTPUT")"
  [[ "$found" =~ ^FINDING\ (${FOUND_BY[$mutant]}): ]] || die "the mutant $mutant was found as: $found"
  say "$mutant: $found" | tee -a "$FOUND"
  # The logs of a failure that was asked for are of no use to anybody.
  folder=$(sed -n 's/^ledgers, logs and the journal are in //p' "$OUTPUT")
  if [[ "$folder" == */obxn.* ]]; then rm -rf "$folder"; fi
}

MUTANTS=("$@")
[ "${#MUTANTS[@]}" -gt 0 ] || MUTANTS=(hold_everything send_twice forget_late fail_unknown lose no_fence)
for mutant in "${MUTANTS[@]}"; do
  [ -n "${FOUND_BY[$mutant]:-}" ] || die "there is no mutant $mutant; there are ${!FOUND_BY[*]}"
done
for mutant in "${MUTANTS[@]}"; do step "a dispatcher that does wrong: $mutant" must_be_found "$mutant"; done
if [ -n "$OUT" ]; then
  {
    evidence_header "$COMMAND" 'outboxd, outbox-checker and outbox-nemesis' '15, durable'
    cat "$FOUND"
    printf '\n'
  } >>"$OUT"
fi
