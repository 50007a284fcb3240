# shellcheck shell=bash
# Installs what the tests need and the machine lacks, from Debian's packages when run as root (or on a CI
# machine with sudo), and otherwise says exactly what to install. Sourced after report.sh; INSTALL is `yes` or `no`.

MISSING_PACKAGES=()

# need PROGRAM PACKAGE...: notes the packages when the program is not there.
need() {
  local program=$1
  shift
  command -v "$program" >/dev/null 2>&1 || MISSING_PACKAGES+=("$@")
}

# need_file PATTERN PACKAGE...: notes the packages when no file matches.
need_file() {
  local pattern=$1
  shift
  compgen -G "$pattern" >/dev/null || MISSING_PACKAGES+=("$@")
}

# What a build of the workspace and a session with its database need.
need_build_programs() {
  need cc gcc libc6-dev
  need psql postgresql-client
  need setpriv util-linux
}

# What the tests of the database and the daemon run, whatever else a script needs.
need_test_programs() {
  need_build_programs
  need git git
  need npm npm
  need pgbouncer pgbouncer
  need_file '/usr/lib/*/faketime/libfaketime.so.1' libfaketime
}

# Becomes root on a CI machine that allows it without a password; never on a person's machine.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install_packages() {
  [ "$INSTALL" = yes ] && command -v apt-get >/dev/null 2>&1 || return 1
  [ "$(id -u)" -eq 0 ] || { [ "${CI:-}" = true ] && sudo -n true 2>/dev/null; }
}

package_exists() {
  apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'
}

# Package scripts would start servers of their own (Postgres, pgbouncer); the tests start private ones.
without_services() {
  local policy=/usr/sbin/policy-rc.d ours=no code=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    ours=yes
  fi
  "$@" || code=$?
  if [ "$ours" = yes ]; then as_root rm -f "$policy"; fi
  return "$code"
}

# Debian would create and start a cluster named main as soon as a server package is installed.
without_main_cluster() {
  local dir=/etc/postgresql-common
  if [ ! -e "$dir/createcluster.conf" ]; then
    as_root mkdir -p "$dir"
    printf 'create_main_cluster = false\n' | as_root tee "$dir/createcluster.conf" >/dev/null
  fi
}

# install_missing: installs the noted packages, or names them and fails.
install_missing() {
  [ "${#MISSING_PACKAGES[@]}" -gt 0 ] || return 0
  if ! can_install_packages; then
    die "missing Debian packages; install them, or run as root without --no-install: ${MISSING_PACKAGES[*]}"
  fi
  say "installing ${MISSING_PACKAGES[*]}"
  without_main_cluster
  as_root apt-get -qq update
  without_services as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install -y --no-install-recommends "${MISSING_PACKAGES[@]}" >/dev/null
  MISSING_PACKAGES=()
}

# The Rust toolchain is not a Debian package of the right version, so it is only checked for.
require_cargo() {
  command -v cargo >/dev/null 2>&1 || die "cargo is missing: install rustup; rust-toolchain.toml names the version"
  local shown
  shown=$(cargo --version 2>&1) || die "the toolchain of rust-toolchain.toml is missing (rustup toolchain install): $shown"
}

# Cargo, and what checks the text of the code.
require_rust() {
  require_cargo
  cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || die "clippy is missing: rustup component add clippy"
}
