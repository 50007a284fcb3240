#!/usr/bin/env bash
# The tests that a version of Postgres can change, the database's, the checker's and the daemon's, on each version that is
# supported. scripts/test.sh runs all of them on 15, and on 18 all but the daemon's, which take the longest.
#
#   scripts/test_versions.sh [--no-install] [15|16|17|18]...
#
# Without a version on 15, 16, 17 and 18, about eight minutes each on two processors. As root on Debian it installs what is
# missing; with --no-install, or as another user, it says what to install. Needs no running Postgres and no standard input.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
REPORT_NAME=scripts/test_versions.sh
INSTALL=yes
VERSIONS=()
for argument in "$@"; do
  case "$argument" in
    --no-install) INSTALL=no ;;
    15 | 16 | 17 | 18) VERSIONS+=("$argument") ;;
    *)
      printf 'usage: scripts/test_versions.sh [--no-install] [15|16|17|18]...\n' >&2
      exit 2
      ;;
  esac
done
[ "${#VERSIONS[@]}" -gt 0 ] || VERSIONS=(15 16 17 18)
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/tests.sh

install_everything() {
  local version
  need_test_programs
  install_missing
  require_rust
  for version in "${VERSIONS[@]}"; do ensure_postgres "$version"; done
}

step install install_everything
step build cargo build --workspace --bins --quiet
for version in "${VERSIONS[@]}"; do
  step "Postgres $version" run_tests "$version" 'package(outbox-testkit) + package(outbox-store) + package(outbox-checker) + package(outboxd)'
done
