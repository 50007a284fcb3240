# shellcheck shell=bash
# What scripts that measure share: release programs, a private Postgres, its database, and an orderly end. Sourced
# after report.sh, evidence.sh, install.sh, postgres.sh and demo_processes.sh; the caller sets OUT and DATABASE.

unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS DATABASE_URL OUTBOXD_CONFIG "${!OUTBOXD__@}"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
# Programs that are built already, as for scripts/demo.sh.
BIN=${DEMO_BIN:-${CARGO_TARGET_DIR:-target}/release}

# build PACKAGE...: release programs.
build() {
  local packages=() package
  [ -z "${DEMO_BIN:-}" ] || return 0
  for package in "$@"; do packages+=(-p "$package"); done
  cargo build --release --locked --quiet "${packages[@]}" </dev/null
}

as_dba() { psql -X -q -v ON_ERROR_STOP=1 -h "$WORK/pg" -p 5432 -U postgres -d "$DATABASE" "$@"; }

# url_of LOGIN: the database's address for a login.
url_of() {
  local socket="$WORK/pg"
  printf 'postgres://%s@%s:5432/%s' "$1" "${socket//\//%2F}" "$DATABASE"
}

# A server, and DATABASE with all migrations.
make_database() {
  start_private_postgres "$WORK/pg"
  psql -X -q -h "$WORK/pg" -U postgres -d postgres -c "create database $DATABASE"
  as_dba -o "$WORK/bootstrap.log" -f scripts/db/bootstrap.sql
  "$BIN/outboxd" migrate --database-url "$(url_of outbox_migrator)" >"$WORK/migrate.log"
}

# The head of the file with figures: how they were made, of what, and where.
measured_header() {
  evidence_header "$COMMAND" "$("$BIN/outboxd" --version), $(if [ -n "${DEMO_BIN:-}" ]; then printf 'built before'; else printf release; fi)" \
    "$(as_dba -At -c 'show server_version'); files on $(stat -f -c %T "$WORK"); settings that differ from the default:"
  as_dba -At -F ' = ' -c "select '  ' || name, setting from pg_settings where source not in ('default', 'override', 'client')
                           and setting <> boot_val and name !~ '(_file|director|^lc_|^TimeZone|timezone)' order by name"
  printf '\n'
}

end_measure() {
  local code=$?
  trap '' INT TERM HUP
  trap - EXIT
  stop_everything
  if [ "$code" -eq 0 ]; then
    rm -rf "$WORK"
    say "$REPORT_NAME: measured in $((SECONDS - REPORT_STARTED)) s; figures in $OUT"
  else
    rm -rf "$WORK/pg"
    say "$REPORT_NAME: FAILED in step '$REPORT_STEP' with code $code; logs are in $WORK"
  fi
  exit "$code"
}

WORK=$(mktemp -d -t outboxd-measure.XXXXXX)
chmod 711 "$WORK"
trap end_measure EXIT
[ "${#WORK}" -le 87 ] || die "TMPDIR is too long for the path of a socket: $WORK"
find_postgres || die "no Postgres of version 15 to 18 runs as $(test_account)"
