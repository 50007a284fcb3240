# shellcheck shell=bash
# Installs cargo-mutants in its pinned version below target/. Sourced after report.sh and install.sh.

CARGO_MUTANTS=27.1.0

# ensure_cargo_mutants: puts `cargo mutants` of that version first in PATH.
ensure_cargo_mutants() {
  local place="$ROOT/target/test-tools/cargo-mutants-$CARGO_MUTANTS"
  PATH="$place/bin:$PATH"
  if [ -x "$place/bin/cargo-mutants" ]; then return 0; fi
  [ "$INSTALL" = yes ] || die "cargo-mutants $CARGO_MUTANTS is missing: run without --no-install"
  say "installing cargo-mutants $CARGO_MUTANTS"
  # A target directory of the caller's would keep it; without optimisation it is built in half a minute.
  env -u CARGO_TARGET_DIR cargo install cargo-mutants --version "=$CARGO_MUTANTS" --locked --debug --quiet --root "$place" </dev/null
}
