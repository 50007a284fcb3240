#!/usr/bin/env bash
# The database's and the daemon's tests against a Postgres service of CI, then the migrations through
# sqlx-cli. Tests that stop or freeze a server start their own of the same version.
#
#   OUTBOXD_TEST_PG_HOST=127.0.0.1 scripts/ci_postgres.sh VERSION [CONTAINER]
#
# CONTAINER is the service's docker container: it is restarted once, with the settings that the test kit
# gives to its own servers.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/ci_postgres.sh
INSTALL=yes
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh

VERSION=${1:?the major version of the service}
CONTAINER=${2:-}
HOST=${OUTBOXD_TEST_PG_HOST:?names the server: a socket directory or a host}
export OUTBOXD_TEST_PG="$VERSION"

install_everything() {
  need_test_programs
  install_missing
  require_rust
  ensure_postgres "$VERSION"
}

as_dba() { psql -X -q -v ON_ERROR_STOP=1 -h "$HOST" -p 5432 -U postgres -d postgres "$@"; }

right_version() {
  local served
  served=$(as_dba -At -c "select current_setting('server_version_num')::int / 10000")
  [ "$served" = "$VERSION" ] || die "the service is Postgres $served, not $VERSION"
}

configure_service() {
  [ -n "$CONTAINER" ] || return 0
  as_dba -c 'alter system set max_connections = 200' -c 'alter system set max_prepared_transactions = 20' \
    -c "alter system set timezone = 'UTC'"
  docker restart "$CONTAINER" >/dev/null
  local waited=0
  until pg_isready -q -h "$HOST" -p 5432; do
    [ "$waited" -lt 60 ] || die "the service did not come back within 60 s"
    waited=$((waited + 1))
    sleep 1
  done
}

step install install_everything
step 'right version' right_version
step 'configure the service' configure_service
step 'build' cargo build --workspace --bins --quiet
step "tests on the service, Postgres $VERSION" \
  cargo test -p outbox-testkit -p outbox-store -p outboxd --lib --bins --tests
step 'migrations through sqlx-cli' scripts/ci_migrations.sh
