#!/usr/bin/env bash
# Does the role that `outboxd secrets pull` logs in with read what it must, and nothing else? Against any server with Vault's API
# (OpenBao, HashiCorp Vault), as scripts/security/openbao_bootstrap.sh has prepared it. Writes what it saw into a file.
#
#   scripts/security/openbao_smoke_test.sh --config secrets.toml [--credentials DIR] [--role NAME] [--server TEXT] [--out FILE]
#
# The paths are those of the file that the pull reads; DIR has role-id and secret-id, where the file names no files for them.
# BAO_ADDR is the server, where the file names none. TEXT says which server it is, for the record. Only a 403 counts as a
# refusal: a 404 would mean that the server looked. It reads no secret into the record, and writes nothing where the
# role's policy is enforced; where it is not, a canary. The last line is the verdict; the exit code is 0 for PASS, 1 for FAIL.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
NAME=scripts/security/openbao_smoke_test.sh
CONFIG=
CREDENTIALS=
ROLE=outboxd
SERVER='not said'
OUT=
usage() {
  printf 'usage: %s --config FILE [--credentials DIR] [--role NAME] [--server TEXT] [--out FILE]\n' "$NAME" >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --config) CONFIG=${2:-} && shift ;;
    --credentials) CREDENTIALS=${2:-} && shift ;;
    --role) ROLE=${2:-} && shift ;;
    --server) SERVER=${2:-} && shift ;;
    --out) OUT=${2:-} && shift ;;
    *) usage ;;
  esac
  shift
done
[ -n "$CONFIG" ] || usage
die() {
  printf '%s: FAIL: %s\n' "$NAME" "$*"
  exit 1
}
. "$ROOT/scripts/lib/openbao.sh"
. "$ROOT/scripts/lib/evidence.sh"
bao_file "$CONFIG"
[ -z "$CREDENTIALS" ] || { ROLE_ID_FILE=$CREDENTIALS/role-id && SECRET_ID_FILE=$CREDENTIALS/secret-id; }
for file in "$ROLE_ID_FILE" "$SECRET_ID_FILE"; do
  [ -r "$file" ] || die "cannot read the role's ids; name their directory with --credentials"
done
OUT=${OUT:-$ROOT/evidence/openbao-smoke-$(date -u +%Y%m%dT%H%M%SZ).txt}

SEEN=
# What failed, and of that, what says that policies are not enforced.
FAILED=()
UNENFORCED=()

# note RESULT WHAT: one line of the record.
note() {
  SEEN+="$1  $2: HTTP $BAO_STATUS"$'\n'
  printf '%s  %s: HTTP %s\n' "$1" "$2" "$BAO_STATUS"
}

# check WHAT STATUS...: the last answer must have one of these.
check() {
  local what=$1
  shift
  case " $* " in
    *" $BAO_STATUS "*) note PASS "$what" ;;
    *)
      note FAIL "$what"
      FAILED+=("$what")
      ;;
  esac
}

# forbidden WHAT: the last answer must be a refusal.
forbidden() {
  check "$1 is refused" 403
  [ "$BAO_STATUS" = 403 ] || UNENFORCED+=("$1 gives HTTP $BAO_STATUS")
}

# log_in SECRET_ID: takes its answer as the last.
log_in() {
  BAO_WITH=
  bao POST "auth/$APPROLE_MOUNT/login" "{\"role_id\":\"$(<"$ROLE_ID_FILE")\",\"secret_id\":\"$1\"}"
}

smoke() {
  local mount version path token first
  bao GET sys/seal-status
  check 'the server is there' 200
  [ "$BAO_STATUS" = 200 ] || return 0
  log_in 'not-the-secret-id'
  check 'a login with another secret id is refused' 400 401 403
  log_in "$(<"$SECRET_ID_FILE")"
  check 'the role logs in' 200
  token=$(bao_get auth client_token)
  [ -n "$token" ] || return 0
  BAO_WITH=$token
  while IFS=$'\t' read -r mount version path; do
    bao GET "$(bao_data_path "$mount" "$version" "$path")"
    check "allowed: reading $mount/$path" 200
  done <<<"$BAO_PATHS"
  bao POST auth/token/revoke-self
  check 'the token can be revoked' 200 204
  IFS=$'\t' read -r mount version path <<<"$BAO_PATHS"
  first=$(bao_data_path "$mount" "$version" "$path")
  bao GET "$first"
  check 'the token reads nothing once it is revoked' 403
  # Each with a token of its own: one that has had its number of uses is refused for that.
  log_in "$(<"$SECRET_ID_FILE")"
  BAO_WITH=$(bao_get auth client_token)
  bao GET "$(bao_data_path "$mount" "$version" "$ROLE-forbidden")"
  forbidden "reading $mount/$ROLE-forbidden"
  log_in "$(<"$SECRET_ID_FILE")"
  BAO_WITH=$(bao_get auth client_token)
  bao POST "$(bao_data_path "$mount" "$version" "$ROLE-forbidden")" "$(bao_wrapped "$version" '{"note":"written by the role"}')"
  forbidden "writing $mount/$ROLE-forbidden"
  log_in "$(<"$SECRET_ID_FILE")"
  BAO_WITH=$(bao_get auth client_token)
  bao GET sys/mounts
  forbidden 'listing the mounts'
}

join() {
  local IFS=';'
  printf '%s' "$*" | sed 's/;/; /g'
}

BAO_WITH=
bao GET sys/health
VERSION=$(bao_get version)
smoke
VERDICT=PASS
if [ "${#UNENFORCED[@]}" -gt 0 ]; then
  VERDICT="FAIL: policies are not enforced: $(join "${UNENFORCED[@]}")"
elif [ "${#FAILED[@]}" -gt 0 ]; then
  VERDICT="FAIL: $(join "${FAILED[@]}")"
fi
mkdir -p "$(dirname "$OUT")"
{
  (cd "$ROOT" && evidence_header "$NAME" 'curl, as a client' 'not asked')
  printf 'server: %s; its version as it says itself: %s\n' "$SERVER" "${VERSION:-none}"
  printf 'role: %s; paths: %s\n\n' "$ROLE" "$(wc -l <<<"$BAO_PATHS")"
  printf '%s\n%s\n' "$SEEN" "$VERDICT"
} >"$OUT.new"
mv -f "$OUT.new" "$OUT"
printf 'evidence: %s\n%s: %s\n' "$OUT" "$NAME" "$VERDICT"
[ "$VERDICT" = PASS ]
