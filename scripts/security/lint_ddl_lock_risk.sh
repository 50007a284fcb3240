#!/usr/bin/env bash
# Refuses migrations that make payments wait: indexes that are not built CONCURRENTLY on a table in use, or on a partitioned
# parent instead of its partitions; SET NOT NULL and rewriting ALTER outside expand and contract; rewrites of a table without
# a plan for a shadow copy; `create … partition of`; and look-ups in partitioned tables without a constant range of ids.
# squawk adds its own rules: the file .squawk.toml.
#
#   scripts/security/lint_ddl_lock_risk.sh [MIGRATION...]
#
# Without MIGRATION all of migrations/; one that is named, by its path from the root, is judged as the newest. What passes
# all the same is in scripts/security/lint_exceptions.toml, with a reason and until when.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/security/lint_ddl_lock_risk.sh
INSTALL=yes
. scripts/lib/report.sh
. scripts/lib/linters.sh

ensure_linters
files=("$@")
[ "$#" -gt 0 ] || files=(migrations/*.sql)
step squawk "$LINTERS/squawk" "${files[@]}"
step 'what waits' "$LINTERS/python" -B scripts/security/lint_migrations.py ddl-lock-risk "$@"
