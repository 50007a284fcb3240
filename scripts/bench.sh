#!/usr/bin/env bash
# What a payment costs and how fast it goes, beside a floor that is measured in the same run (crates/outbox-bench): on a durable
# Postgres of its own, through the daemon's own code. docs/PERFORMANCE.md says what each figure means.
#
#   scripts/bench.sh [smoke|short|full] [--no-install] [--postgres 15|16|17|18] [--only WORK]... [--set KEY=VALUE]... [--out FILE]
#
# short, which is the default, takes under six minutes; full has a queue of five million and ten minutes of payments that come and
# go; smoke does each work once, to see that it runs: its figures mean nothing, and are kept only if --out says where.
# --only: drain, enqueue, wakeup, depth, pinned, burst, http, partitions, scale-out, mixed or profile; --set: of the daemon's configuration.
# The raw figures go to evidence/bench/, under the name of the form, or to FILE, which --only needs. BENCH_BIN names a folder of programs that are built
# already. The last line begins with BENCH. No figure is a bound: nothing fails because a machine is slow, but what is lost or sent
# twice on the way does.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/bench.sh
COMMAND="scripts/bench.sh${*:+ $*}"
INSTALL=yes
FORM=short POSTGRES=15 OUT='' CHOICE=()
usage() {
  sed -n '/^#   scripts/,/^#$/s/^# *//p' "$0" >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    smoke | short | full) FORM=$1 ;;
    --no-install) INSTALL=no ;;
    --postgres | --only | --set | --out)
      [ -n "${2:-}" ] || usage
      case "$1" in
        --postgres) POSTGRES=$2 ;;
        --out) OUT=$2 ;;
        *) CHOICE+=("$1" "$2") ;;
      esac
      shift
      ;;
    *) usage ;;
  esac
  shift
done
[[ "$POSTGRES" =~ ^1[5-8]$ ]] || usage
if [[ " ${CHOICE[*]} " == *' --only '* ]] && [ -z "$OUT" ] && [ "$FORM" != smoke ]; then
  printf -- '--only is a part: --out says where its figures go, so that they do not replace those of the whole\n' >&2
  exit 2
fi
BIN=${BENCH_BIN:-${CARGO_TARGET_DIR:-target}/release}
. scripts/lib/report.sh
. scripts/lib/evidence.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh

# A developer's environment must not steer what is measured.
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS DATABASE_URL OUTBOXD_CONFIG "${!OUTBOXD__@}"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

install_everything() {
  need_build_programs
  need npm npm
  if can_install_packages && [ "$POSTGRES" = 15 ] && [ ! -x /usr/lib/postgresql/15/bin/postgres ] && package_exists postgresql-15; then
    MISSING_PACKAGES+=(postgresql-15)
  fi
  install_missing
  [ -n "${BENCH_BIN:-}" ] || require_cargo
  ensure_postgres "$POSTGRES"
}

build() {
  [ -n "${BENCH_BIN:-}" ] || cargo build --release --locked --quiet -p outbox-bench </dev/null
}

measure() {
  local head programs=release
  [ -z "${BENCH_BIN:-}" ] || programs='built before'
  mkdir -p "$(dirname "$OUT")"
  # The program adds the load at the end.
  head=$(evidence_header "$COMMAND" "outbox-bench, $programs" "$POSTGRES, durable" | sed 's/^load at the end/load at the start/')
  "$BIN/outbox-bench" "$FORM" --postgres "$POSTGRES" --dir "$WORK" --head "$head" --out "$OUT" \
    "${CHOICE[@]}" </dev/null | tee "$WORK/figures"
}

# On a disk, unless TMPDIR is none: a commit waits for it. The server's account has to enter.
WORK=$(mktemp -d -t outboxd-bench.XXXXXX)
chmod 755 "$WORK"
if [ -z "$OUT" ]; then
  if [ "$FORM" = smoke ]; then OUT=$WORK/smoke.json; else OUT=evidence/bench/$FORM.json; fi
fi
end() {
  local code=$?
  grep '^BENCH' "$WORK/figures" 2>/dev/null || true
  rm -rf "$WORK"
  exit "$code"
}
trap end EXIT
step install install_everything
step build build
step "$FORM" measure
