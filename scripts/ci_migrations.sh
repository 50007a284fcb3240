#!/usr/bin/env bash
# Applies migrations/ with sqlx-cli to a new database, as a DBA and a release pipeline would, and lets the
# daemon check the result: both must read one ledger.
#
#   OUTBOXD_TEST_PG_HOST=127.0.0.1 scripts/ci_migrations.sh
#   target/debug/testkit-pg 15 scripts/ci_migrations.sh
#
# The server must trust its superuser postgres. The database outbox_ci is dropped first and left behind.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/ci_migrations.sh
. scripts/lib/report.sh

SQLX_CLI_VERSION=0.9.0
SQLX="$ROOT/target/test-tools/sqlx-cli-$SQLX_CLI_VERSION/bin/sqlx"
HOST=${OUTBOXD_TEST_PG_HOST:?names the server: a socket directory or a host}
DATABASE=outbox_ci
# In a URL the slashes of a socket directory are escaped.
MIGRATOR_URL="postgres://outbox_migrator@${HOST//\//%2F}:5432/$DATABASE"

as_dba() { psql -X -q -v ON_ERROR_STOP=1 -h "$HOST" -p 5432 -U postgres "$@"; }

# Without the feature sqlx-toml the tool would ignore sqlx.toml and keep a ledger of its own.
install_sqlx_cli() {
  [ -x "$SQLX" ] || cargo install sqlx-cli --version "$SQLX_CLI_VERSION" --locked --no-default-features \
    --features postgres,rustls,sqlx-toml --root "${SQLX%/bin/sqlx}"
}

new_database() {
  as_dba -d postgres -c "drop database if exists $DATABASE with (force)" -c "create database $DATABASE"
  as_dba -d "$DATABASE" -f scripts/db/bootstrap.sql
}

only_our_ledger() {
  local stray
  stray=$(as_dba -d "$DATABASE" -At -c "select count(*) from pg_tables where tablename = '_sqlx_migrations'")
  [ "$stray" = 0 ] || die "sqlx-cli kept a second ledger: it did not read sqlx.toml"
}

step 'sqlx-cli' install_sqlx_cli
step 'daemon' cargo build --quiet -p outboxd
step 'new database' new_database
step 'sqlx migrate run' "$SQLX" migrate run --source migrations --database-url "$MIGRATOR_URL"
step 'one ledger' only_our_ledger
step 'sqlx migrate run again' "$SQLX" migrate run --source migrations --database-url "$MIGRATOR_URL"
step 'outboxd migrate --check' target/debug/outboxd migrate --check --database-url "$MIGRATOR_URL"
step 'invariant gate' as_dba -d "$DATABASE" -f scripts/db/ci_invariant_gate.sql
