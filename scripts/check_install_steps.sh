#!/usr/bin/env bash
# Follows docs/OPERATIONS.md: runs its blocks marked `<!-- tried: NAME -->` as they stand, with DESTDIR on a
# directory of its own and a private Postgres, and looks at what they leave behind.
#
#   scripts/check_install_steps.sh [--debug]
#
# With --debug the debug build stands in for the release one. A Postgres that OUTBOXD_TEST_PG_HOST names is
# used instead; it must trust its superuser postgres and have no login of the names in the document. What is
# not tried is said at the end of that document. Needs no running systemd; ends what it starts.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/check_install_steps.sh
PROFILE=release
case "${1:-}" in
  '') ;;
  --debug) PROFILE=debug ;;
  *)
    printf 'usage: scripts/check_install_steps.sh [--debug]\n' >&2
    exit 2
    ;;
esac
if [ -z "${OUTBOXD_TEST_PG_HOST:-}" ]; then
  cargo build --quiet -p outbox-testkit --bins
  exec target/debug/testkit-pg 15 "$ROOT/scripts/check_install_steps.sh" "$@"
fi
. scripts/lib/report.sh

# The environment of a person must not steer psql and the commands.
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGSSLMODE DATABASE_URL OUTBOXD_CONFIG
WORK=$(mktemp -d)
export DESTDIR="$WORK/root"
mkdir -p "$DESTDIR"
DAEMON=

end() {
  local code=$?
  if [ -n "$DAEMON" ]; then kill -KILL "$DAEMON" 2>/dev/null || true; fi
  rm -rf "$WORK"
  # The report tells by the code that is in force when it begins.
  if (exit "$code"); then report_end; else report_end; fi
}
trap end EXIT

# block NAME: the text of the fenced block under `<!-- tried: NAME -->`.
block() {
  local text
  text=$(awk -v mark="<!-- tried: $1 -->" '
    $0 == mark { marked = 1; next }
    marked && /^```/ { if (inside) exit; inside = 1; next }
    inside { print }' docs/OPERATIONS.md)
  [ -n "$text" ] || die "docs/OPERATIONS.md has no block marked 'tried: $1'"
  printf '%s\n' "$text"
}

# follow NAME: runs such a block; any failing line ends it.
follow() {
  block "$1" >"$WORK/$1.sh"
  if [ "$PROFILE" = debug ]; then
    sed -i -e 's|cargo build --release|cargo build|' -e 's|target/release/|target/debug/|' "$WORK/$1.sh"
  fi
  bash -euo pipefail "$WORK/$1.sh"
}

install_drop_in() {
  local directory="$DESTDIR/etc/systemd/system/outboxd.service.d"
  mkdir -p "$directory"
  block drop-in >"$directory/site.conf"
}

user_is_there() {
  local user
  for user in outboxd outboxd-migrator; do
    grep -q "^$user:.*:/usr/sbin/nologin\$" "$DESTDIR/etc/passwd" || die "sysusers made no user $user without a shell"
  done
}

# verify UNIT: systemd only warns of a key that it does not know, so a warning counts.
verify() {
  local said
  said=$(systemd-analyze verify --root="$DESTDIR" "$1" 2>&1) || die "$1 does not load: $said"
  [ -z "$said" ] || die "$1: $said"
}

# The units that ours name are this machine's own.
units_load() {
  mkdir -p "$DESTDIR/usr/lib/systemd"
  cp -r /usr/lib/systemd/system "$DESTDIR/usr/lib/systemd/"
  systemctl --quiet --root="$DESTDIR" enable outboxd.service outboxd-partitions.timer
  [ -L "$DESTDIR/etc/systemd/system/multi-user.target.wants/outboxd.service" ] || die "the unit is not enabled"
  [ -L "$DESTDIR/etc/systemd/system/timers.target.wants/outboxd-partitions.timer" ] || die "the timer is not enabled"
  verify outboxd.service
  verify outboxd-partitions.timer
  verify outboxd-partitions.service
  verify outboxd-secrets.timer
  verify outboxd-secrets.service
  verify outboxd@shard.service
}

# The example names files of secrets, and a rail and a database that are elsewhere.
configuration_is_taken() {
  local secrets="$DESTDIR/etc/outboxd" name
  for name in database-password rail-token; do
    (umask 077 && printf 'not-a-secret\n' >"$secrets/$name")
  done
  CONFIG="$WORK/outboxd.toml"
  sed "s|\"/etc/outboxd/|\"$DESTDIR/etc/outboxd/|" "$DESTDIR/etc/outboxd/outboxd.toml" >"$CONFIG"
  SETTINGS=(--config "$CONFIG" --set "database.host=$OUTBOXD_TEST_PG_HOST"
    --set "database.port=${OUTBOXD_TEST_PG_PORT:-5432}" --set "database.name=$PGDATABASE"
    --set database.user=pay_dispatcher --set rails.sepa_instant.url=http://127.0.0.1:9/ --set health.listen=off)
  case "$OUTBOXD_TEST_PG_HOST" in
    /*) ;;
    *) SETTINGS+=(--set database.tls=disable) ;;
  esac
  outboxd check-config --config "$CONFIG" >/dev/null
  outboxd check-config "${SETTINGS[@]}" >/dev/null
}

prepare_database() {
  export PGHOST="$OUTBOXD_TEST_PG_HOST" PGPORT="${OUTBOXD_TEST_PG_PORT:-5432}" PGUSER=postgres
  export PGDATABASE="outbox_install_$$"
  psql -X -q -d postgres -c "create database $PGDATABASE"
}

# has_event NAME: whether the daemon has logged it.
has_event() { grep -q "\"event\":\"$1\"" "$WORK/log"; }

daemon_runs() {
  local waited=0 code=0
  outboxd run "${SETTINGS[@]}" >"$WORK/log" 2>&1 &
  DAEMON=$!
  # A lane is on when the contract that the document sets fits the example configuration.
  until has_event daemon.ready && has_event lane.on; do
    if [ "$waited" -ge 300 ] || ! kill -0 "$DAEMON" 2>/dev/null || has_event lane.off; then
      cat "$WORK/log" >&2
      die "the daemon did not become ready"
    fi
    waited=$((waited + 1))
    sleep 0.1
  done
  kill -TERM "$DAEMON"
  wait "$DAEMON" || code=$?
  DAEMON=
  if [ "$code" -ne 0 ] || ! has_event daemon.stopped; then
    cat "$WORK/log" >&2
    die "the daemon ended with code $code"
  fi
}

drop_database() {
  psql -X -q -d postgres -c "drop database $PGDATABASE with (force)" \
    -c 'drop role pay_app, pay_dispatcher, ops_anna'
}

step 'program, user and units' follow program
PATH="$DESTDIR/usr/bin:$PATH"
step 'user' user_is_there
step 'drop-in' install_drop_in
step 'units load and are enabled' units_load
prepare_database
step 'roles, schema and logins' follow database
step 'configuration' follow configuration
step 'configuration is taken' configuration_is_taken
step 'daemon starts, is ready and ends in order' daemon_runs
step 'clean up' drop_database
