# shellcheck shell=bash
# Runs tests by their names, for gates that are made of them: a name that matches no test is a failure. Sourced after
# report.sh and install.sh.

# run_named_tests PACKAGE NAME...: the tests of the package whose names contain one of the names, on a private Postgres 15.
run_named_tests() {
  local package=$1 listed name filter=
  shift
  cargo build --quiet -p outbox-testkit --bins </dev/null
  listed=$(cargo test --quiet -p "$package" --lib --tests -- --list 2>/dev/null </dev/null)
  for name in "$@"; do
    grep -qF "$name" <<<"$listed" || die "$package has no test that is named $name"
    filter="$filter${filter:+ or }test($name)"
  done
  if cargo nextest --version >/dev/null 2>&1; then
    target/debug/testkit-pg 15 cargo nextest run -p "$package" -E "$filter" </dev/null
  else
    target/debug/testkit-pg 15 cargo test -p "$package" --lib --tests -- "$@" </dev/null
  fi
}
