#!/usr/bin/env bash
# Faults by the thousand against a running outbox, dealt out from a seed: three dispatchers, a real Postgres behind proxies
# that lose and delay, five simulated rails, two people at their commands. outbox-checker, which shares no code with the
# dispatcher, judges all the while and at the end. docs/RELIABILITY.md has the kinds of fault and what each showed.
#
#   scripts/nemesis.sh [--no-install] [--seed N] [--payments N] [--faults N] [--postgres 15|16|17|18]
#                      [--only KIND]... [--other REVISION] [--mutant NAME] [--out FILE]
#
# --other builds the dispatcher of that revision as well, and daemons change between both; --mutant is one of
# scripts/demo/mutant_NAME.sql, a dispatcher that does wrong. --out appends what came of it to a file, under evidence/ for
# instance. NEMESIS_BIN names a folder of programs that are built already.
#
# As root on Debian it installs what is missing. The last line begins with NEMESIS; the exit code is 0 only if the checker
# found nothing and every payment has ended or is held. After a failure ledgers, logs and the journal are left in place.
# The disk of the database can be made full only as root, since that takes a file system of its own.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/nemesis.sh
COMMAND="scripts/nemesis.sh $*"
INSTALL=yes
SEED=1 PAYMENTS=20000 FAULTS=300 POSTGRES=15 OTHER='' MUTANT='' OUT='' ONLY=()
usage() {
  sed -n '/^#   scripts/,/^#$/s/^# *//p' "$0" >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --no-install)
      INSTALL=no
      shift
      continue
      ;;
    --seed) SEED=${2:-} ;;
    --payments) PAYMENTS=${2:-} ;;
    --faults) FAULTS=${2:-} ;;
    --postgres) POSTGRES=${2:-} ;;
    --only) ONLY+=(--only "${2:-}") ;;
    --other) OTHER=${2:-} ;;
    --mutant) MUTANT=${2:-} ;;
    --out) OUT=${2:-} ;;
    *) usage ;;
  esac
  [ "$#" -ge 2 ] || usage
  shift 2
done
[[ "$SEED$PAYMENTS$FAULTS" =~ ^[0-9]+$ && "$POSTGRES" =~ ^1[5-8]$ ]] || usage
if [ -n "$MUTANT" ] && [ ! -f "scripts/demo/mutant_$MUTANT.sql" ]; then
  printf -- '--mutant %s: there is no scripts/demo/mutant_%s.sql\n' "$MUTANT" "$MUTANT" >&2
  exit 2
fi
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/postgres.sh
. scripts/lib/evidence.sh

# A developer's environment must not steer the product.
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS DATABASE_URL OUTBOXD_CONFIG TMPDIR "${!OUTBOXD__@}"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

BIN=$(realpath -m "${NEMESIS_BIN:-${CARGO_TARGET_DIR:-target}/release}")
DISK='' OTHER_BIN=''

install_everything() {
  need_build_programs
  need npm npm
  need_file '/usr/lib/*/faketime/libfaketime.so.1' libfaketime
  if can_install_packages && [ "$POSTGRES" = 15 ] && [ ! -x /usr/lib/postgresql/15/bin/postgres ] && package_exists postgresql-15; then
    MISSING_PACKAGES+=(postgresql-15)
  fi
  install_missing
  [ -n "${NEMESIS_BIN:-}" ] || require_cargo
  ensure_postgres "$POSTGRES"
}

build() {
  [ -n "${NEMESIS_BIN:-}" ] ||
    cargo build --release --locked --quiet -p outboxd -p outbox-checker -p outbox-nemesis </dev/null
  [ -n "$OTHER" ] || return 0
  local profile=release options=(--release)
  if [ "$(basename "$BIN")" = debug ]; then profile=debug options=(); fi
  local tree=target/nemesis-other
  if [ ! -d "$tree" ]; then git clone -q --no-checkout . "$tree"; fi
  git -C "$tree" fetch -q origin
  git -C "$tree" checkout -q --detach "$(git rev-parse "$OTHER^{commit}")"
  # What both depend on is built once.
  if [ ! -d "$tree/target/$profile" ]; then
    mkdir -p "$tree/target/$profile"
    cp -al "$BIN/deps" "$BIN/build" "$BIN/.fingerprint" "$tree/target/$profile" || rm -rf "$tree/target/$profile"
  fi
  OTHER_BIN=$ROOT/$tree/target/$profile
  (cd "$tree" && env -u CARGO_TARGET_DIR cargo build "${options[@]}" --locked --quiet -p outboxd </dev/null)
}

# A file system of the database's own, which the harness makes as small as what it holds.
make_disk() {
  [ "$(id -u)" -eq 0 ] || return 0
  mkdir "$WORK/disk"
  if mount -t tmpfs -o size=90%,mode=755 outboxd-nemesis "$WORK/disk" 2>/dev/null; then
    DISK=$WORK/disk
  else
    say 'no file system can be mounted here: the disk will not be full'
  fi
}

nemesis() {
  local options=(--seed "$SEED" --payments "$PAYMENTS" --faults "$FAULTS" --postgres "$POSTGRES" --bin "$BIN" --dir "$WORK/run")
  [ -z "$DISK" ] || options+=(--disk "$DISK")
  [ -z "$OTHER_BIN" ] || options+=(--other-bin "$OTHER_BIN")
  if [ -n "$MUTANT" ]; then
    # The harness is no psql: it includes nothing.
    cat scripts/demo/mutate.sql "scripts/demo/mutant_$MUTANT.sql" | grep -v '^\\ir ' >"$WORK/mutant.sql"
    options+=(--mutant "$WORK/mutant.sql")
  fi
  setpriv --pdeathsig TERM "$BIN/outbox-nemesis" "${options[@]}" "${ONLY[@]}" </dev/null >"$WORK/verdict" 2>"$WORK/errors" &
  NEMESIS_PID=$!
  local code=0
  wait "$NEMESIS_PID" || code=$?
  cat "$WORK/verdict" "$WORK/errors"
  return "$code"
}

# With how often each kind of fault took effect, and what the checker counted.
write_evidence() {
  local programs=release
  [ -z "${NEMESIS_BIN:-}" ] || programs='built before'
  {
    evidence_header "$COMMAND" "outboxd, outbox-checker and outbox-nemesis, $programs" "$POSTGRES, durable"
    cat "$WORK/verdict"
    sed -n 's/.*"kind":"\([a-z_]*\)","no":.*/\1/p' "$WORK/run/faults.jsonl" | sort | uniq -c | awk '{ printf "%s=%s ", $2, $1 } END { print "" }'
    printf '\n'
  } >>"$OUT"
}

end() {
  local code=$?
  trap '' INT TERM HUP
  trap - EXIT
  if [ -n "${NEMESIS_PID:-}" ] && kill -0 "$NEMESIS_PID" 2>/dev/null; then
    kill -TERM "$NEMESIS_PID" 2>/dev/null || true
    { wait "$NEMESIS_PID"; } 2>/dev/null || true
  fi
  if [ -n "$DISK" ]; then umount -l "$DISK" || true; fi
  case "$code" in
    0) rm -rf "$WORK" ;;
    *)
      say "$REPORT_NAME: FAILED in step '$REPORT_STEP' with code $code; again: $COMMAND"
      say "ledgers, logs and the journal are in $WORK"
      ;;
  esac
  if grep -q '^NEMESIS ' "$WORK/verdict" 2>/dev/null; then tail -n 1 "$WORK/verdict"; fi
  exit "$code"
}

WORK=$(mktemp -d -t obxn.XXXXXX)
# The server's account must come through to its own directory.
chmod 711 "$WORK"
mkdir -m 711 "$WORK/run"
trap end EXIT

step install install_everything
step 'build' build
step 'a disk' make_disk
step "$PAYMENTS payments, $FAULTS faults, seed $SEED, Postgres $POSTGRES" nemesis
if [ -n "$OUT" ]; then write_evidence; fi
