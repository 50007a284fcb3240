#!/usr/bin/env bash
# `outboxd secrets pull`, scripts/security/openbao_bootstrap.sh and scripts/security/openbao_smoke_test.sh against a server that is not
# ours: RustyVault 0.2.1, in a directory and on a port of its own. It has AppRole and KV version 1, no KV version 2 (the form
# of whose answers is written into it by hand), takes no policies and revokes no token by itself. The smoke test has to say that.
#
#   scripts/security/test_openbao.sh [--no-install] [--out FILE]
#
# The first run builds the server from the crates registry, for some minutes: needs cc, pkg-config, libssl-dev. scripts/test.sh does
# not run this: it has tests against a server of their own. What was seen goes to FILE.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/security/test_openbao.sh
COMMAND="scripts/security/test_openbao.sh $*"
VERSION=0.2.1
INSTALL=yes
OUT=evidence/openbao.txt
while [ "$#" -gt 0 ]; do
  case "$1" in
    --no-install) INSTALL=no ;;
    --out) OUT=${2:?} && shift ;;
    *)
      printf 'usage: scripts/security/test_openbao.sh [--no-install] [--out FILE]\n' >&2
      exit 2
      ;;
  esac
  shift
done
# Nothing of a server that is at work.
unset BAO_ADDR BAO_TOKEN BAO_TOKEN_FILE BAO_NAMESPACE BAO_CACERT VAULT_ADDR
. scripts/lib/report.sh
. scripts/lib/install.sh
. scripts/lib/evidence.sh
. scripts/lib/openbao.sh
TOOL="$ROOT/target/test-tools/rvault-$VERSION"
OUTBOXD="$ROOT/target/debug/outboxd"
DIR=$(mktemp -d)
SERVER_PID=

end() {
  local code=$?
  # A server for one run has nothing to put in order.
  [ -z "$SERVER_PID" ] || kill -KILL "$SERVER_PID" 2>/dev/null || true
  rm -rf "$DIR"
  set +e
  (exit "$code")
  report_end
  exit "$code"
}
trap end EXIT

tools() {
  need cc gcc libc6-dev
  need pkg-config pkg-config
  need curl curl
  need python3 python3
  need_file '/usr/include/openssl/ssl.h' libssl-dev
  install_missing
  require_cargo
  cargo build --quiet -p outboxd
  [ ! -x "$TOOL/bin/rvault" ] || return 0
  [ "$INSTALL" = yes ] || die "rvault $VERSION is missing: run this without --no-install"
  cargo install --quiet --locked --root "$TOOL" --version "$VERSION" rusty_vault
}

start_server() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  BAO_ADDR=http://127.0.0.1:$port
  export BAO_ADDR
  mkdir "$DIR/data" "$DIR/work"
  printf 'storage "file" {\n  path = "%s/data"\n}\nlistener "tcp" {\n  address = "127.0.0.1:%s"\n  tls_disable = "true"\n}\n' \
    "$DIR" "$port" >"$DIR/server.hcl"
  printf 'api_addr = "%s"\nlog_level = "warn"\nlog_format = ""\nwork_dir = "%s/work"\n' "$BAO_ADDR" "$DIR" >>"$DIR/server.hcl"
  "$TOOL/bin/rvault" server --config "$DIR/server.hcl" >"$DIR/server.log" 2>&1 </dev/null &
  SERVER_PID=$!
  disown
  curl --silent --output /dev/null --retry 30 --retry-connrefused --retry-delay 1 "$BAO_ADDR/v1/sys/init" ||
    die "the server does not start: $(tail -n 3 "$DIR/server.log")"
}

# write_file VERSION MOUNT FILE: what is pulled.
write_file() {
  printf '[server]\nrole_id_file = "%s/ids/role-id"\nsecret_id_file = "%s/ids/secret-id"\n' "$DIR" "$DIR" >"$3"
  printf '[files.database-password]\nmount = "%s"\nkv = %s\npath = "outboxd/database"\nfield = "password"\n' "$2" "$1" >>"$3"
  printf '[files.rail-token]\nmount = "%s"\nkv = %s\npath = "outboxd/wire"\nfield = "token"\n' "$2" "$1" >>"$3"
}

SEEN=

# ends CODE WORDS COMMAND...: it ends with this code and says these words; the record has all three.
ends() {
  local code=$1 words=$2 got=0 said
  shift 2
  said=$("$@" 2>&1 </dev/null) || got=$?
  [ "$got" = "$code" ] || die "ended with $got instead of $code: $* $said"
  case "$said" in *"$words"*) ;; *) die "did not say '$words': $* $said" ;; esac
  say "$code, '$words': $*"
  SEEN+="$code, '$words': $*"$'\n'
}

# secrets MOUNT VERSION PASSWORD TOKEN: puts them on the server.
secrets() {
  bao POST "$(bao_data_path "$1" "$2" outboxd/database)" "$(bao_wrapped "$2" "{\"password\":\"$3\"}")"
  bao POST "$(bao_data_path "$1" "$2" outboxd/wire)" "$(bao_wrapped "$2" "{\"token\":\"$4\"}")"
  [ "$BAO_STATUS" = 204 ] || die "writing secrets: HTTP $BAO_STATUS"
}

# holds NAME TEXT: the file is there, whole, and for its owner alone.
holds() {
  [ "$(<"$DIR/to/$1")" = "$2" ] || die "$1 holds something else"
  [ "$(stat -c %a "$DIR/to/$1")" = 400 ] || die "$1 has another mode"
}

pull() { "$OUTBOXD" secrets pull --to "$DIR/to" --config "$DIR/$1" "${@:2}"; }
bootstrap() { scripts/security/openbao_bootstrap.sh --config "$DIR/one.toml" --out "$DIR/ids" "$@"; }
smoke() {
  scripts/security/openbao_smoke_test.sh --config "$DIR/one.toml" --server "RustyVault $VERSION" --out "$DIR/smoke.txt"
}

sealed() {
  local key
  install -d -m 700 "$DIR/to" "$DIR/ids"
  write_file 1 pay "$DIR/one.toml"
  write_file 2 pay-two "$DIR/two.toml"
  bao PUT sys/init '{"secret_shares":1,"secret_threshold":1}'
  key=$(bao_get keys | tr -d '[]"')
  (umask 077 && bao_get root_token >"$DIR/root-token")
  export BAO_TOKEN_FILE=$DIR/root-token
  printf 'x' >"$DIR/ids/role-id" && printf 'x' >"$DIR/ids/secret-id" && chmod 400 "$DIR"/ids/*
  ends 69 'is sealed' pull one.toml
  ends 1 'is sealed' bootstrap
  bao PUT sys/unseal "{\"key\":\"$key\"}"
  [ "$(bao_get sealed)" = false ] || die "it stays sealed: $BAO_BODY"
  BAO_WITH=$(<"$DIR/root-token")
}

prepared() {
  rm -f "$DIR"/ids/*
  ends 1 'writing the policy: HTTP 404' bootstrap
  ends 0 'POLICIES ARE NOT ENFORCED' bootstrap --without-policy
  ends 0 'secret-id: kept' bootstrap --without-policy
}

pulled() {
  ends 66 'pay/outboxd/database: nothing is there' pull one.toml
  secrets pay 1 password-1 token-1
  ends 0 '2 of 2 files changed' pull one.toml
  holds database-password password-1
  holds rail-token token-1
  secrets pay 1 password-1 token-2
  ends 0 '1 of 2 files changed' pull one.toml
  holds rail-token token-2
  ends 0 'the token of the login stays valid' pull one.toml
  # The engine is version 1; what is written has the form of version 2.
  bao POST sys/mounts/pay-two '{"type":"kv"}'
  secrets pay-two 2 password-3 token-3
  ends 0 '2 of 2 files changed' pull two.toml
  holds database-password password-3
  ends 66 'whether the mount is KV version 1' pull mixed.toml
  holds database-password password-3
}

refused() {
  cp "$DIR/ids/secret-id" "$DIR/former"
  ends 0 'the former secret id: destroyed' bootstrap --without-policy --new-secret-id
  ends 0 '2 of 2 files changed' pull one.toml
  mv -f "$DIR/former" "$DIR/ids/secret-id"
  ends 77 'is refused: HTTP 400' pull one.toml
  rm -f "$DIR/ids/secret-id"
  ends 0 'written' bootstrap --without-policy
}

smoked() {
  local last
  ends 1 'FAIL: policies are not enforced: ' smoke
  last=$(tail -n 1 "$DIR/smoke.txt")
  [ "$last" = 'FAIL: policies are not enforced: reading pay/outboxd-forbidden gives HTTP 200; writing pay/outboxd-forbidden gives HTTP 204; listing the mounts gives HTTP 200' ] ||
    die "the smoke test says: $last"
}

record() {
  {
    evidence_header "$COMMAND" 'debug build' 'not asked'
    printf 'server: RustyVault %s, from the crates registry\n\nEach command, with the code that it ended with and words that it said:\n\n%s\n' "$VERSION" "$SEEN"
    printf 'What scripts/security/openbao_smoke_test.sh saw:\n\n'
    sed -n '/^server: /,$p' "$DIR/smoke.txt"
  } >"$OUT"
}

step tools tools
step 'a server' start_server
step 'a sealed server' sealed
step 'a prepared server' prepared
write_file 1 pay-two "$DIR/mixed.toml"
step 'secrets are pulled' pulled
step 'who is refused' refused
step 'the smoke test' smoked
step 'what was seen' record
