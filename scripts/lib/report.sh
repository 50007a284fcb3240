# shellcheck shell=bash
# How a script reports: named steps with their time, and one closing line that says how it ended.
# Sourced by scripts that have set `-euo pipefail`; the caller sets REPORT_NAME.

REPORT_STEP=start
REPORT_STARTED=$SECONDS

say() { printf '%s\n' "$*"; }

# step NAME COMMAND...: runs the command; a failure ends the script through the exit trap.
step() {
  local started=$SECONDS
  REPORT_STEP=$1
  shift
  say "=== $REPORT_STEP"
  "$@"
  say "=== $REPORT_STEP: $((SECONDS - started)) s"
}

# die MESSAGE...: ends the script with the reason on standard error.
die() {
  printf '%s: %s\n' "$REPORT_NAME" "$*" >&2
  exit 1
}

report_end() {
  local code=$?
  if [ "$code" -eq 0 ]; then
    say "$REPORT_NAME: all steps passed in $((SECONDS - REPORT_STARTED)) s"
  else
    say "$REPORT_NAME: FAILED in step '$REPORT_STEP' with code $code"
  fi
}
trap report_end EXIT
# Without these, a script that is interrupted would reach its end with code 0.
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
