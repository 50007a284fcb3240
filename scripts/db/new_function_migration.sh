#!/usr/bin/env bash
# Writes the next migration from the current texts of functions: edit migrations/functions/NAME.sql first,
# then
#
#   scripts/db/new_function_migration.sh WHAT NAME...
#
# makes migrations/NNNN_WHAT.sql. A new function needs its grants added by hand; a released migration is
# never edited. The list of files in crates/outbox-store/src/migrate.rs gets the new one too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ "$#" -lt 2 ]; then
  printf 'usage: scripts/db/new_function_migration.sh WHAT NAME...\n' >&2
  exit 2
fi
what=$1
shift
if ! [[ "$what" =~ ^[a-z0-9_]+$ ]]; then
  printf '%s: a name of a-z, 0-9 and _ is needed\n' "$what" >&2
  exit 2
fi
for name in "$@"; do
  if [ ! -f "migrations/functions/$name.sql" ]; then
    printf 'migrations/functions/%s.sql does not exist\n' "$name" >&2
    exit 2
  fi
done
last=$(find migrations -maxdepth 1 -name '[0-9]*_*.sql' -printf '%f\n' | sort | tail -n 1)
file=$(printf 'migrations/%04d_%s.sql' "$((10#${last%%_*} + 1))" "$what")
{
  printf -- '-- %s.\n\n' "${what//_/ }"
  printf "set local lock_timeout = '2s';\n"
  for name in "$@"; do
    printf '\n'
    cat "migrations/functions/$name.sql"
  done
} >"$file"
printf '%s\n' "$file"
