#!/usr/bin/env bash
# Refuses an invariant that docs/invariants.toml calls implemented unless every test that verifies it ran and passed.
#
#   scripts/check_invariants.sh JUNIT    the report that cargo-nextest left of a run of all tests
#   scripts/check_invariants.sh --write  writes docs/INVARIANTS.md from docs/invariants.toml
#
# That the register is whole, the page is its page and promises point into it are tests of crates/tidy.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/check_invariants.sh
. scripts/lib/report.sh

case "${1:-}" in
  --write) step 'page' cargo run --quiet --locked -p tidy -- write-invariants ;;
  '') die 'usage: scripts/check_invariants.sh JUNIT | --write' ;;
  *) step 'implemented means verified' cargo run --quiet --locked -p tidy -- verified "$1" ;;
esac
