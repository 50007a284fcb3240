#!/usr/bin/env bash
# Prepares a server with Vault's API (OpenBao, HashiCorp Vault) for `outboxd secrets pull`: the mounts for keys and values, a
# policy that reads the configured paths and nothing else, and an AppRole with it, whose ids it writes into files of mode 0400.
#
#   scripts/security/openbao_bootstrap.sh --config secrets.toml --out DIR [--role NAME] [--new-secret-id] [--without-policy]
#
# The paths are those of the file that the pull reads. BAO_ADDR is the server, where the file names none; BAO_TOKEN_FILE (or
# BAO_TOKEN) a token that may do all this; BAO_CACERT and BAO_NAMESPACE as bao has them. To run it again is safe: what is there is
# compared and kept, the secret id too, unless --new-secret-id, which makes another and destroys the one in DIR. It writes no
# secrets. A canary that the role may not read is written for scripts/security/openbao_smoke_test.sh.
# --without-policy goes on with a server that takes no policies, such as RustyVault 0.2.1: for tests, never for secrets.
# TOKEN_TTL (5m), SECRET_ID_TTL (720h) and SECRET_ID_NUM_USES (4000: one pull in eleven minutes) bound what the role can do.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
REPORT_NAME=scripts/security/openbao_bootstrap.sh
CONFIG=
OUT=
ROLE=outboxd
NEW_SECRET_ID=no
WITHOUT_POLICY=no
TOKEN_TTL=${TOKEN_TTL:-5m}
SECRET_ID_TTL=${SECRET_ID_TTL:-720h}
SECRET_ID_NUM_USES=${SECRET_ID_NUM_USES:-4000}
usage() {
  printf 'usage: %s --config FILE --out DIR [--role NAME] [--new-secret-id] [--without-policy]\n' "$REPORT_NAME" >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --config) CONFIG=${2:-} && shift ;;
    --out) OUT=${2:-} && shift ;;
    --role) ROLE=${2:-} && shift ;;
    --new-secret-id) NEW_SECRET_ID=yes ;;
    --without-policy) WITHOUT_POLICY=yes ;;
    *) usage ;;
  esac
  shift
done
[ -n "$CONFIG" ] && [ -n "$OUT" ] && [[ "$ROLE" =~ ^[a-z0-9_-]{3,64}$ ]] || usage
. "$ROOT/scripts/lib/report.sh"
. "$ROOT/scripts/lib/openbao.sh"

# expect WHAT STATUS...: the last answer has one of these.
expect() {
  local what=$1
  shift
  case " $* " in *" $BAO_STATUS "*) return 0 ;; esac
  die "$what: HTTP $BAO_STATUS${BAO_BODY:+, $(bao_get errors)$(bao_get error)}"
}

look() {
  bao GET sys/seal-status
  [ "$BAO_STATUS" != 000 ] || die "$BAO_ADDR gives no answer"
  expect 'is it initialized' 200
  [ "$(bao_get sealed)" = false ] || die "$BAO_ADDR is sealed"
  if [ -n "${BAO_TOKEN_FILE:-}" ]; then
    BAO_WITH=$(<"$BAO_TOKEN_FILE")
  else
    BAO_WITH=${BAO_TOKEN:-}
  fi
  [ -n "$BAO_WITH" ] || die 'set BAO_TOKEN_FILE, or BAO_TOKEN'
}

mounts() {
  local mount version there
  while IFS=$'\t' read -r mount version; do
    bao GET sys/mounts
    expect 'which mounts are there' 200
    if [ -z "$(bao_get "$mount/" type)" ]; then
      bao POST "sys/mounts/$mount" "{\"type\":\"kv\",\"options\":{\"version\":\"$version\"}}"
      expect "mounting $mount" 200 204
      say "$mount: mounted"
      bao GET sys/mounts
    fi
    # A mount without the option is of version 1.
    there=$(bao_get "$mount/" options version)
    there="$(bao_get "$mount/" type) version ${there:-1}"
    [ "$there" = "kv version $version" ] || die "$mount is $there, and the file says kv version $version"
    say "$mount: $there"
  done < <(cut -f 1,2 <<<"$BAO_PATHS" | sort -u)
}

policy_text() {
  local mount version path
  while IFS=$'\t' read -r mount version path; do
    printf 'path "%s" {\n  capabilities = ["read"]\n}\n' "$(bao_data_path "$mount" "$version" "$path")"
  done <<<"$BAO_PATHS"
  # The role has no default policy, which would allow this and more.
  printf 'path "auth/token/revoke-self" {\n  capabilities = ["update"]\n}\n'
}

policy() {
  local text body
  text=$(policy_text)
  body=$(python3 -c 'import json, sys; print(json.dumps({"policy": sys.stdin.read()}))' <<<"$text")
  bao PUT "sys/policies/acl/$ROLE" "$body"
  if [ "$BAO_STATUS" = 404 ] && [ "$WITHOUT_POLICY" = yes ]; then
    say "POLICIES ARE NOT ENFORCED: the server takes none (HTTP 404). Whoever has this role can read and write everything."
    return 0
  fi
  expect 'writing the policy' 200 204
  bao GET "sys/policies/acl/$ROLE"
  expect 'reading the policy' 200
  [ "$(bao_get data policy)" = "$text" ] || die 'the server has another policy than the one it was given'
  say "policy $ROLE:"
  say "$text"
}

role() {
  local reads
  reads=$(wc -l <<<"$BAO_PATHS")
  bao GET sys/auth
  expect 'which methods of login are there' 200
  if [ -z "$(bao_get "$APPROLE_MOUNT/" type)" ]; then
    bao POST "sys/auth/$APPROLE_MOUNT" '{"type":"approle"}'
    expect "enabling AppRole at $APPROLE_MOUNT" 200 204
  fi
  # A pull reads each path once, and revokes its token.
  bao POST "auth/$APPROLE_MOUNT/role/$ROLE" "{\"token_policies\":[\"$ROLE\"],\"token_no_default_policy\":true,
    \"token_ttl\":\"$TOKEN_TTL\",\"token_max_ttl\":\"$TOKEN_TTL\",\"token_num_uses\":$((reads + 1)),\"bind_secret_id\":true,
    \"secret_id_ttl\":\"$SECRET_ID_TTL\",\"secret_id_num_uses\":$SECRET_ID_NUM_USES}"
  expect 'writing the role' 200 204
  bao GET "auth/$APPROLE_MOUNT/role/$ROLE"
  expect 'reading the role' 200
  local has
  has="$(bao_get data token_policies) $(bao_get data token_no_default_policy) $(bao_get data token_num_uses)"
  [ "$has" = "[\"$ROLE\"] true $((reads + 1))" ] || die "the server has another role than the one it was given: $has"
  say "role $ROLE: a token for $((reads + 1)) requests within $TOKEN_TTL; a secret id for $SECRET_ID_NUM_USES logins within $SECRET_ID_TTL"
}

canary() {
  local mount version
  IFS=$'\t' read -r mount version _ <<<"$BAO_PATHS"
  bao POST "$(bao_data_path "$mount" "$version" "$ROLE-forbidden")" \
    "$(bao_wrapped "$version" '{"note":"the role must not be able to read this"}')"
  expect 'writing the canary' 200 204
}

# put NAME: standard input becomes the file NAME of OUT, whole or not at all.
put() {
  local beside="$OUT/.$1.new"
  rm -f "$beside"
  (umask 277 && cat >"$beside")
  mv -f "$beside" "$OUT/$1"
}

ids() {
  local former=
  [ -d "$OUT" ] || install -d -m 700 "$OUT"
  bao GET "auth/$APPROLE_MOUNT/role/$ROLE/role-id"
  expect 'reading the role id' 200
  bao_get data role_id | put role-id
  if [ -e "$OUT/secret-id" ] && [ "$NEW_SECRET_ID" = no ]; then
    say "$OUT/secret-id: kept; --new-secret-id makes another"
    return 0
  fi
  [ ! -e "$OUT/secret-id" ] || former=$(<"$OUT/secret-id")
  bao POST "auth/$APPROLE_MOUNT/role/$ROLE/secret-id" '{}'
  expect 'making a secret id' 200
  bao_get data secret_id | put secret-id
  say "$OUT/role-id and $OUT/secret-id: written"
  [ -n "$former" ] || return 0
  bao POST "auth/$APPROLE_MOUNT/role/$ROLE/secret-id/destroy" "{\"secret_id\":\"$former\"}"
  expect 'destroying the former secret id' 200 204
  say 'the former secret id: destroyed'
}

bao_file "$CONFIG"
step 'the server' look
step 'mounts' mounts
step 'policy' policy
step 'role' role
step 'canary' canary
step 'ids' ids
