# shellcheck shell=bash
# The linters that come as Python packages, pinned, in an environment of their own under target/.
# Sourced after install.sh.

SQUAWK_VERSION=2.70.0
ZIZMOR_VERSION=1.32.0

# ensure_linters: sets LINTERS to the directory with squawk and zizmor.
ensure_linters() {
  local environment="$ROOT/target/test-tools/linters-$SQUAWK_VERSION-$ZIZMOR_VERSION"
  LINTERS="$environment/bin"
  if [ -x "$LINTERS/squawk" ] && [ -x "$LINTERS/zizmor" ]; then return 0; fi
  [ "$INSTALL" = yes ] || die "squawk and zizmor are missing: run without --no-install"
  python3 -m venv "$environment"
  "$LINTERS/pip" install --quiet --disable-pip-version-check \
    "squawk-cli==$SQUAWK_VERSION" "zizmor==$ZIZMOR_VERSION"
}
