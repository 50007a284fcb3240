#!/usr/bin/env bash
# Changes the money path in one place at a time and sees the tests notice: the core's decisions and the store's calls by
# cargo-mutants, and the database's functions, triggers and constraints by the list in scripts/mutants/sql.toml. A mutant that
# no test notices fails, unless scripts/mutants/rust.toml says why none can.
#
#   scripts/mutants.sh [--no-install] [core|store|sql]... [--only NAME]... [--search MODULE,...] [--out FILE]
#   scripts/mutants.sh --short
#
# Without a part, all three; the report is put together from the last run of each part and goes to evidence/mutants.txt if all
# were run, or to FILE. --only: mutants of that name alone, of which no report is made. --search: which tests of these modules
# of outbox-store notice a mutant of SQL. --short: the mutants of SQL that are marked so, for every build. Needs no standard input.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/mutants.sh
INSTALL=yes
PARTS=()
OUT=
CHOICE=()
usage() {
  printf 'usage: scripts/mutants.sh [--no-install] [core|store|sql]... [--only NAME]... [--search MODULE,...] [--out FILE] | --short\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    core | store | sql) PARTS+=("$1") ;;
    --no-install) INSTALL=no ;;
    --short)
      PARTS+=(sql)
      CHOICE+=(--short)
      ;;
    --only | --search)
      [ -n "${2:-}" ] || usage
      CHOICE+=("$1" "$2")
      shift
      ;;
    --out)
      [ -n "${2:-}" ] || usage
      OUT=$2
      shift
      ;;
    *) usage ;;
  esac
  shift
done
. scripts/lib/report.sh
. scripts/lib/evidence.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/mutants.sh

# A git hook or an editor's variables must not steer the tests' own git and Postgres.
unset GIT_DIR GIT_WORK_TREE PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE DATABASE_URL OUTBOXD_TEST_MUTANT
export CARGO_TERM_COLOR=never NEXTEST_HIDE_PROGRESS_BAR=1

if [ "${#PARTS[@]}" -eq 0 ]; then
  PARTS=(core store sql)
  [ "${#CHOICE[@]}" -gt 0 ] || OUT=${OUT:-evidence/mutants.txt}
fi

install_everything() {
  need psql postgresql-client
  need setpriv util-linux
  install_missing
  require_cargo
  ensure_postgres 15
  case " ${PARTS[*]} " in
    *' core '* | *' store '*)
      cargo nextest --version >/dev/null 2>&1 || die 'cargo-nextest is missing: the mutants of Rust are judged with it'
      ensure_cargo_mutants
      ;;
  esac
  mkdir -p target/mutants
}

# judge PART: leaves target/mutants/PART.txt with what was changed, and of what.
judge() {
  local part=$1 report=target/mutants/$1.txt head code=0
  # Before the run: it judges the tree as it is now.
  head=$(evidence_header "scripts/mutants.sh $part" "cargo-mutants $CARGO_MUTANTS, cargo-nextest" 'the 15 of scripts/test.sh' |
    sed '/^load at the end/d')
  case "$part" in
    core) python3 scripts/mutants/rust_mutants.py core --report "$report.new" "${CHOICE[@]}" || code=$? ;;
    store) target/debug/testkit-pg 15 python3 scripts/mutants/rust_mutants.py store --report "$report.new" "${CHOICE[@]}" || code=$? ;;
    sql) target/debug/testkit-pg 15 python3 scripts/mutants/sql_mutants.py --report "$report.new" "${CHOICE[@]}" || code=$? ;;
  esac
  if [ "${#CHOICE[@]}" -eq 0 ] && [ -e "$report.new" ]; then
    {
      printf '%s\nload at the end: %s\n\n' "$head" "$(cut -d ' ' -f 1-3 /proc/loadavg)"
      cat "$report.new"
    } >"$report"
  fi
  rm -f "$report.new"
  return "$code"
}

write_report() {
  local part
  for part in core store sql; do
    if [ -e "target/mutants/$part.txt" ]; then
      printf '== %s\n' "$part"
      cat "target/mutants/$part.txt"
      printf '\n'
    fi
  done >"$OUT"
  grep -E '^(core|store|sql): ' "$OUT"
}

step install install_everything
step build cargo build --quiet -p outbox-testkit --bins
for part in "${PARTS[@]}"; do
  step "mutants of $part" judge "$part"
done
if [ -n "$OUT" ]; then step report write_report; fi
