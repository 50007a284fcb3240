# shellcheck shell=bash
# cargo-fuzz, pinned, in a directory of its own under target/, and the build of the one program that holds every target.
# Sourced after report.sh by scripts/fuzz.sh; INSTALL is `yes` or `no`.

CARGO_FUZZ_VERSION=0.13.2
# Any nightly will do; another one by this variable.
FUZZ_TOOLCHAIN=${OUTBOXD_FUZZ_TOOLCHAIN:-nightly}

# ensure_cargo_fuzz: puts cargo-fuzz into PATH, or says what is missing.
ensure_cargo_fuzz() {
  local place="$ROOT/target/test-tools/cargo-fuzz-$CARGO_FUZZ_VERSION"
  rustup run "$FUZZ_TOOLCHAIN" rustc --version >/dev/null 2>&1 ||
    die "the toolchain $FUZZ_TOOLCHAIN is missing: rustup toolchain install $FUZZ_TOOLCHAIN --profile minimal"
  if [ ! -x "$place/bin/cargo-fuzz" ]; then
    [ "$INSTALL" = yes ] || die "cargo-fuzz is missing: run without --no-install"
    cargo install cargo-fuzz --version "$CARGO_FUZZ_VERSION" --locked --quiet --root "$place" </dev/null
  fi
  PATH="$place/bin:$PATH"
}

# build_fuzzer: sets FUZZER. Without a sanitizer: there is no unsafe code of ours, and what is looked for are panics.
build_fuzzer() {
  local target
  target=$(rustc -vV | sed -n 's/^host: //p')
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo "+$FUZZ_TOOLCHAIN" fuzz build --fuzz-dir crates/outbox-fuzz --sanitizer none --target "$target" \
    --target-dir target/fuzz target </dev/null
  # shellcheck disable=SC2034 # the caller uses it
  FUZZER="target/fuzz/$target/release/target"
}
