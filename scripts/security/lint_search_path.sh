#!/usr/bin/env bash
# Refuses migrations in which a name could mean something else to another caller: functions without the pinned search_path,
# or that lose their pin later; a search_path set for a session or a role; names without their schema. It reads the syntax,
# so that spelling, line breaks and comments change nothing.
#
#   scripts/security/lint_search_path.sh [MIGRATION...]
#
# Without MIGRATION all of migrations/; one that is named, by its path from the root, is judged as the newest. What passes
# all the same is in scripts/security/lint_exceptions.toml, with a reason and until when.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/security/lint_search_path.sh
INSTALL=yes
. scripts/lib/report.sh
. scripts/lib/linters.sh

ensure_linters
step 'what a name means' "$LINTERS/python" -B scripts/security/lint_migrations.py search-path "$@"
