#!/usr/bin/env bash
# Writes one file of evidence: the results of gates, with the fingerprints of what they read, of this tree and of a database.
#
#   scripts/audit/generate_evidence.sh RESULTS OUT DATABASE_URL
#
# RESULTS: lines of JSON as scripts/audit/run_all.sh leaves them; OUT: a file that is not there yet; DATABASE_URL: as a login with
# outbox_auditor. OUTBOXD names the program. Ends with 0 only if the evidence says PASS. See evidence/README.md.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
if [ "$#" -ne 3 ]; then
  printf 'usage: scripts/audit/generate_evidence.sh RESULTS OUT DATABASE_URL\n' >&2
  exit 2
fi
known=()
if sha=$(git rev-parse HEAD 2>/dev/null); then
  known=(--git-sha "$sha" --dirty false)
  # What runs leave below evidence/ is no change of the tree that they ran on.
  [ -z "$(git status --porcelain -- . ':!evidence')" ] || known=(--git-sha "$sha" --dirty true)
fi
exec "${OUTBOXD:-target/debug/outboxd}" evidence collect --results "$1" --out "$2" --database-url "$3" "${known[@]}"
