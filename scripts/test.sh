#!/usr/bin/env bash
# Everything that must hold before a change lands: formatting, lints, every test on Postgres 15 and the
# database's tests again on 18, the service unit, the installation steps, the migrations' and the workflow's
# linters, a sample of the mutants in SQL, the demonstration with the mutants that it must tell from the product, each work of
# the benchmark once, and the nemesis with 20,000 payments and 300 faults.
#
#   scripts/test.sh [--no-install]
#
# As root on Debian it installs what is missing; with --no-install, or as another user, it says what to
# install. Needs no network after the first run, no running Postgres, no standard input.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/test.sh
INSTALL=yes
case "${1:-}" in
  '') ;;
  --no-install) INSTALL=no ;;
  *)
    printf 'usage: scripts/test.sh [--no-install]\n' >&2
    exit 2
    ;;
esac
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/linters.sh
. scripts/lib/tests.sh

# What the second Postgres version can change, and what only it can do. The daemon's other tests on it are in
# scripts/test_versions.sh.
DATABASE_TESTS='package(outbox-testkit) + package(outbox-store) + package(outbox-checker) + test(/^notification_queue::/)'

# The dispatcher of the nemesis that daemons change to: none older, since those leave a notification queue full that became so
# while all daemons were theirs. A clone without history does without.
OTHER_VERSION=02cd5cd

install_everything() {
  need_test_programs
  need pkg-config pkg-config
  need curl curl
  need systemd-analyze systemd
  python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || MISSING_PACKAGES+=(python3 python3-venv)
  if can_install_packages && [ ! -x /usr/lib/postgresql/15/bin/postgres ] && package_exists postgresql-15; then
    MISSING_PACKAGES+=(postgresql-15)
  fi
  install_missing
  require_rust
  ensure_postgres 15
  ensure_postgres 18
  ensure_linters
}

check_unit() {
  local verify_dir unit code=0
  verify_dir=$(mktemp -d)
  # The unit names the installed program; the build's own stands in for it, so that only the unit is judged.
  for unit in crates/outboxd/packaging/*.service crates/outboxd/packaging/*.timer; do
    sed "s|/usr/local/bin/outboxd|$ROOT/target/debug/outboxd|; s|/usr/bin/outboxd|$ROOT/target/debug/outboxd|" \
      "$unit" >"$verify_dir/$(basename "$unit")"
  done
  for unit in "$verify_dir"/*.service "$verify_dir"/*.timer; do
    # A template is checked as an instance of itself.
    local named=${unit/@.service/@example.service}
    if [ "$named" != "$unit" ]; then cp "$unit" "$named"; fi
    # An unknown directive is only printed: verify ends with 0 all the same.
    systemd-analyze verify "$named" >"$verify_dir/verify" 2>&1 || code=$?
    if [ -s "$verify_dir/verify" ]; then
      cat "$verify_dir/verify"
      code=1
    fi
    # A timer runs nothing itself.
    if [[ "$unit" == *.timer ]]; then continue; fi
    systemd-analyze security --offline=true --threshold=10 --no-pager "$named" >"$verify_dir/security" 2>&1 || code=$?
    tail -n 1 "$verify_dir/security"
    [ "$code" -eq 0 ] || break
  done
  rm -rf "$verify_dir"
  return "$code"
}

# The package with promtool is large and brings a server: where it is not there, the crate's own tests look at names alone.
check_alerts() {
  if ! command -v promtool >/dev/null 2>&1; then
    say "promtool is not installed (Debian package prometheus): the alert rules were not run"
    return 0
  fi
  promtool check rules crates/outboxd/packaging/alerts.yml
  promtool test rules crates/outboxd/packaging/alerts_test.yml
}

# After the tests of the whole workspace. Plain cargo test leaves no record of them.
check_invariants() {
  if [ -e "$JUNIT" ]; then
    scripts/check_invariants.sh "$JUNIT"
  elif cargo nextest --version >/dev/null 2>&1; then
    die "$JUNIT is missing after the tests"
  else
    say 'SKIPPED: without cargo-nextest nothing tells which tests ran; no invariant was shown to be implemented'
  fi
}

# On 18, which is the first with a notification queue that can be filled.
nemesis() {
  local options=(--no-install --seed "${NEMESIS_SEED:-1}" --postgres 18)
  if git cat-file -e "$OTHER_VERSION^{commit}" 2>/dev/null; then
    options+=(--other "$OTHER_VERSION")
  else
    say "SKIPPED: this clone has no $OTHER_VERSION; daemons do not change versions"
  fi
  scripts/nemesis.sh "${options[@]}"
}

step install install_everything
step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --quiet -- -D warnings
step build cargo build --workspace --bins --quiet
step 'service unit' check_unit
step 'installation steps' scripts/check_install_steps.sh --debug
step 'alert rules' check_alerts
step zizmor "$LINTERS/zizmor" --offline --no-progress --quiet .github/workflows
step 'database tests on Postgres 18' run_tests 18 "$DATABASE_TESTS"
step 'all tests on Postgres 15' run_tests 15
step 'implemented invariants' check_invariants
step 'gates, and their evidence' scripts/audit/run_all.sh
# On the programs built above: what they do is judged here, not how fast.
export DEMO_BIN=$ROOT/target/debug
step 'demonstration, short' scripts/demo.sh --no-install --payments 600
step 'demonstration, mutants' scripts/demo_mutants.sh --no-install
step 'mutants in SQL, short' scripts/mutants.sh --no-install --short
export BENCH_BIN=$ROOT/target/debug NEMESIS_BIN=$ROOT/target/debug
step 'benchmark, smoke' scripts/bench.sh smoke --no-install
step 'nemesis, short' nemesis
