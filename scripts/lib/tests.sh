# shellcheck shell=bash
# Tests with one shared private server of a version beside them; sourced by scripts/test.sh and scripts/test_versions.sh.

# What cargo-nextest leaves of a run: .config/nextest.toml.
JUNIT=target/nextest/default/junit.xml

# A git hook or an editor's variables must not steer the tests' own git and Postgres.
unset GIT_DIR GIT_WORK_TREE PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE DATABASE_URL
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} NEXTEST_HIDE_PROGRESS_BAR=1
# The same random sequences in every build; scripts/state_machine.sh tries others.
export OUTBOXD_TEST_SEED=${OUTBOXD_TEST_SEED:-20261130}

# run_tests VERSION [FILTER]: the tests of the workspace that FILTER lets through. Of the workspace: for a few crates alone what they
# depend on would be built anew. Plain cargo test knows no filter, and runs all.
run_tests() {
  local version=$1 filter=${2:-all()}
  # What an earlier run left says nothing of this one.
  rm -f "$JUNIT"
  if cargo nextest --version >/dev/null 2>&1; then
    # One more than there are processors: most tests of a daemon wait.
    target/debug/testkit-pg "$version" cargo nextest run --workspace --test-threads "$(($(nproc) + 1))" -E "$filter" </dev/null
  else
    target/debug/testkit-pg "$version" cargo test --workspace --lib --bins --tests </dev/null
  fi
}
