#!/usr/bin/env bash
# Refuses migrations that open or end a transaction, in a body too; that leave a setting behind in the session; that build
# an index CONCURRENTLY inside a transaction; and released ones that were edited: migrations/released.sha256 has what was
# released.
#
#   scripts/security/lint_transaction_control.sh [MIGRATION...]
#
# Without MIGRATION all of migrations/; one that is named, by its path from the root, is judged as the newest. What passes
# all the same is in scripts/security/lint_exceptions.toml, with a reason and until when.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/security/lint_transaction_control.sh
INSTALL=yes
. scripts/lib/report.sh
. scripts/lib/linters.sh

ensure_linters
step 'who ends the transaction' "$LINTERS/python" -B scripts/security/lint_migrations.py transaction-control "$@"
