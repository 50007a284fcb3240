# shellcheck shell=bash
# A server with Vault's API (OpenBao, HashiCorp Vault), asked with curl. Sourced by scripts that have set `-euo pipefail` and
# have `die`. Neither a token nor a secret is ever an argument or in the environment of a program: curl reads the token from a
# file descriptor and bodies from standard input.

BAO_ADDR=${BAO_ADDR:-}
BAO_CACERT=${BAO_CACERT:-}
BAO_NAMESPACE=${BAO_NAMESPACE:-}
BAO_STATUS=000
BAO_BODY=
# The token of the requests; empty for those without one.
BAO_WITH=

# bao_file FILE: reads what `outboxd secrets pull` is told. Sets BAO_PATHS (mount, version and path, tab-separated, each once),
# APPROLE_MOUNT, BAO_ADDR and BAO_NAMESPACE and BAO_CACERT where the environment has none, ROLE_ID_FILE and SECRET_ID_FILE.
bao_file() {
  local read
  read=$(python3 - "$1" <<'PY'
import shlex, sys, tomllib

with open(sys.argv[1], "rb") as file:
    given = tomllib.load(file)
server = given.get("server", {})
places = sorted({(f["mount"], f.get("kv", 2), f["path"]) for f in given.get("files", {}).values()})
if not places:
    sys.exit("no [files.NAME] in the file")
for name, value in [
    ("BAO_PATHS", "\n".join("\t".join(map(str, place)) for place in places)),
    ("APPROLE_MOUNT", server.get("approle_mount", "approle")),
    ("FILE_ADDR", server.get("address", "")),
    ("FILE_NAMESPACE", server.get("namespace", "")),
    ("FILE_CACERT", server.get("ca_file", "")),
    ("ROLE_ID_FILE", server.get("role_id_file", "")),
    ("SECRET_ID_FILE", server.get("secret_id_file", "")),
]:
    print(f"{name}={shlex.quote(value)}")
PY
  ) || die "$1 cannot be read"
  eval "$read"
  BAO_ADDR=${BAO_ADDR:-${FILE_ADDR:-${VAULT_ADDR:-}}}
  BAO_ADDR=${BAO_ADDR%/}
  BAO_NAMESPACE=${BAO_NAMESPACE:-$FILE_NAMESPACE}
  BAO_CACERT=${BAO_CACERT:-$FILE_CACERT}
  [ -n "$BAO_ADDR" ] || die "set BAO_ADDR, such as https://bao.example:8200"
  case "$BAO_ADDR" in
    https://* | http://127.0.0.1:* | http://localhost:* | http://\[::1\]:*) ;;
    *) die "$BAO_ADDR is plain http to another host, or no address" ;;
  esac
}

# bao METHOD PATH [BODY]: one request, with the token in BAO_WITH; sets BAO_STATUS (000: no answer) and BAO_BODY. A refusal is
# an answer. BODY is JSON.
bao() {
  local method=$1 path=$2 answer
  # Not the environment's proxy, no redirect, no certificate that is not trusted.
  local options=(--silent --show-error --noproxy '*' --max-time 20 --request "$method" --write-out '\n%{http_code}')
  [ -z "$BAO_CACERT" ] || options+=(--cacert "$BAO_CACERT")
  [ -z "$BAO_NAMESPACE" ] || options+=(--header "X-Vault-Namespace: $BAO_NAMESPACE")
  [ "$#" -lt 3 ] || options+=(--header 'Content-Type: application/json' --data-binary @-)
  # printf is the shell's own: what it prints is in no list of processes.
  answer=$(printf '%s' "${3:-}" | curl --config <(printf 'header = "X-Vault-Token: %s"\n' "$BAO_WITH") \
    "${options[@]}" "$BAO_ADDR/v1/$path") || answer=$'\n000'
  BAO_STATUS=${answer##*$'\n'}
  BAO_BODY=${answer%$'\n'*}
}

# bao_get KEY...: the text in BAO_BODY at those keys; empty where there is none.
bao_get() {
  printf '%s' "$BAO_BODY" | python3 -c '
import json, sys
try:
    at = json.load(sys.stdin)
except ValueError:
    sys.exit(0)
for key in sys.argv[1:]:
    at = at.get(key) if isinstance(at, dict) else None
if at is not None:
    print(at if isinstance(at, str) else json.dumps(at, sort_keys=True))
' "$@"
}

# bao_data_path MOUNT VERSION PATH: where the API has it.
bao_data_path() {
  if [ "$2" = 2 ]; then printf '%s/data/%s' "$1" "$3"; else printf '%s/%s' "$1" "$3"; fi
}

# bao_wrapped VERSION JSON: fields as the API takes them.
bao_wrapped() {
  if [ "$1" = 2 ]; then printf '{"data":%s}' "$2"; else printf '%s' "$2"; fi
}
