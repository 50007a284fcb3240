#!/usr/bin/env bash
# Shows that the lints of migrations refuse what they should: every fixture of scripts/security/fixtures by the rule that it
# is named after and by no other, and every rule by a fixture.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/security/check_lints.sh
INSTALL=yes
. scripts/lib/report.sh
. scripts/lib/linters.sh

ensure_linters
step 'fixtures' "$LINTERS/python" -B scripts/security/check_fixtures.py "$LINTERS/squawk"
