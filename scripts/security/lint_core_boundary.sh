#!/usr/bin/env bash
# Refuses what would get into the crates that touch money without being read there: libraries that are not listed, renamed,
# patched or not from the registry; build scripts and macros of our own; files that are no Rust, links, modules and texts from
# elsewhere; code for which unsafe is not forbidden. Which crates and libraries: crates/tidy/src/boundary.rs. Scripts,
# documents and the other crates are free. First it shows that each way across is refused by its name.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/security/lint_core_boundary.sh
. scripts/lib/report.sh

ways_across() {
  local said
  said=$(cargo test --quiet --locked -p tidy --lib boundary::tests </dev/null 2>&1) || {
    say "$said"
    return 1
  }
  # A filter that finds no test is no success.
  grep -q '^test result: ok\. [1-9]' <<<"$said" || die "no test of the boundary ran: $said"
}

step 'each way across is refused' ways_across
step 'the boundary' cargo run --quiet --locked -p tidy -- boundary
