# shellcheck shell=bash
# What every file under evidence/ begins with: how it was made, of what, and where. Sourced.

# evidence_header COMMAND PROGRAMS POSTGRES_VERSION
evidence_header() {
  local clean=clean
  git diff --quiet HEAD -- . ':!evidence' || clean='with changes'
  printf 'command: %s\n' "$1"
  printf 'commit: %s, %s\n' "$(git rev-parse HEAD)" "$clean"
  printf 'programs: %s\n' "$2"
  printf 'scripts/db/catalogue.txt: %s\n' "$(sha256sum scripts/db/catalogue.txt | cut -d ' ' -f 1)"
  printf 'postgres: %s\n' "$3"
  printf 'machine: %s processors (%s), %s, kernel %s\n' "$(nproc)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
    "$(awk '/^MemTotal/ { printf "%d MiB", $2 / 1024 }' /proc/meminfo)" "$(uname -r)"
  printf 'load at the end: %s\n\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"
}
