# shellcheck shell=bash
# The linters that come as Python packages, pinned by hash, in an environment of their own under target/.
# Sourced after install.sh; scripts/security/*.sh and scripts/test.sh use them.

# ensure_linters: sets LINTERS to the directory with squawk, zizmor, and a python that has pglast.
ensure_linters() {
  local environment list="$ROOT/scripts/lib/linters.txt"
  environment="$ROOT/target/test-tools/linters-$(sha256sum "$list" | cut -c 1-16)"
  LINTERS="$environment/bin"
  if [ -e "$environment/complete" ]; then return 0; fi
  [ "$INSTALL" = yes ] || die "squawk, zizmor and pglast are missing: run scripts/test.sh without --no-install"
  python3 -m venv "$environment"
  "$LINTERS/pip" install --quiet --disable-pip-version-check --only-binary=:all: --no-deps --require-hashes -r "$list"
  : >"$environment/complete"
}
