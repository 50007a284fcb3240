#!/usr/bin/env bash
# Searches for bytes on which a parser of outside bytes does not hold what crates/outbox-fuzz says of it: each target for a
# while under libFuzzer, one after the other, from its corpus. What was found once is replayed by the tests of that crate.
#
#   scripts/fuzz.sh [--seconds COUNT] [--keep] [--no-install] [--out FILE] [TARGET...]
#
# Ends with 1 if anything was found; the bytes are then in target/fuzz/found. With --keep, what reaches code that the
# committed corpus does not reach is put into it. Needs a nightly toolchain; installs cargo-fuzz under target/.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
REPORT_NAME=scripts/fuzz.sh
COMMAND="scripts/fuzz.sh${*:+ $*}"
SECONDS_EACH=60
KEEP=no
INSTALL=yes
OUT=evidence/fuzz.txt
CORPUS=crates/outbox-fuzz/corpus
usage() {
  printf 'usage: scripts/fuzz.sh [--seconds COUNT] [--keep] [--no-install] [--out FILE] [TARGET...]\n' >&2
  exit 2
}
while [ "$#" -gt 0 ]; do
  case "$1" in
    --seconds)
      [[ "${2:-}" =~ ^[1-9][0-9]{0,5}$ ]] || usage
      SECONDS_EACH=$2
      shift
      ;;
    --out)
      [ -n "${2:-}" ] || usage
      OUT=$2
      shift
      ;;
    --keep) KEEP=yes ;;
    --no-install) INSTALL=no ;;
    -*) usage ;;
    *) break ;;
  esac
  shift
done
ALL=()
for folder in "$CORPUS"/*/; do ALL+=("$(basename "$folder")"); done
TARGETS=("$@")
[ "$#" -gt 0 ] || TARGETS=("${ALL[@]}")
for target in "${TARGETS[@]}"; do [ -d "$CORPUS/$target" ] || usage; done
. scripts/lib/report.sh
. scripts/lib/evidence.sh
. scripts/lib/fuzzers.sh

WORK=target/fuzz
FIGURES=$(mktemp -t outboxd-fuzz.XXXXXX)
FOUND=()
EXECUTIONS=0

# fuzz TARGET ARGUMENT...: under libFuzzer, with nothing of it on the terminal.
fuzz() {
  local target=$1
  shift
  OUTBOXD_FUZZ_TARGET=$target RUST_BACKTRACE=0 nice -n 10 "$FUZZER" -timeout=10 -rss_limit_mb=2048 \
    "-artifact_prefix=$WORK/found/$target/" "$@" </dev/null
}

search() {
  local target=$1 log="$WORK/$1.log" code=0 line executions
  mkdir -p "$WORK/corpus/$target" "$WORK/found/$target"
  fuzz "$target" "-max_total_time=$SECONDS_EACH" -print_final_stats=1 -dict=crates/outbox-fuzz/words.dict \
    "$WORK/corpus/$target" "$CORPUS/$target" >"$log" 2>&1 || code=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  # The last line of progress: `#123 DONE   cov: 7 ft: 8 corp: 9/10Kb ...`.
  line=$(grep -a ' cov: ' "$log" | tail -n 1 || true)
  EXECUTIONS=$((EXECUTIONS + ${executions:-0}))
  if [ "$code" -ne 0 ]; then
    FOUND+=("$target")
    say "$target: found, and what it was is in $log:"
    grep -a -A 3 -e panicked -e ERROR "$log" | head -n 8 || true
  fi
  printf '%s executions=%s edges=%s features=%s corpus=%s committed=%s found=%s\n' "$target" "${executions:-0}" \
    "$(figure cov "$line")" "$(figure ft "$line")" "$(figure corp "$line")" \
    "$(find "$CORPUS/$target" -type f | wc -l)" "$([ "$code" -eq 0 ] && printf 0 || printf 1)" | tee -a "$FIGURES"
}

# figure NAME LINE: the figure behind `NAME: `.
figure() { printf '%s' "$2" | sed -n "s/.* $1: \([^ ]*\).*/\1/p"; }

# keep TARGET: the fewest small inputs that reach code which the committed corpus does not reach.
keep() {
  local target=$1 new="$WORK/new/$1" file count=0
  rm -rf "$new"
  mkdir -p "$new"
  cp -- "$CORPUS/$target"/* "$new"/
  fuzz "$target" -set_cover_merge=1 -use_counters=0 "$new" "$WORK/corpus/$target" >"$WORK/$target.keep.log" 2>&1
  for file in "$new"/*; do
    # What libFuzzer writes is named by its SHA-1.
    if [[ "$(basename "$file")" =~ ^[0-9a-f]{40}$ ]] && [ "$(stat -c %s "$file")" -le 2048 ]; then
      cp -- "$file" "$CORPUS/$target/reaches-more-$(basename "$file" | cut -c 1-10)"
      count=$((count + 1))
    fi
  done
  say "$target: $count kept"
}

write_evidence() {
  {
    evidence_header "$COMMAND" "the targets of crates/outbox-fuzz in one program, $(rustc "+$FUZZ_TOOLCHAIN" --version), cargo-fuzz $CARGO_FUZZ_VERSION" none
    printf 'Each target for %s s in one process. edges and features: as libFuzzer counts them, of everything that is linked;\n' "$SECONDS_EACH"
    printf 'corpus: inputs and their size at the end; committed: files that it began with, and that the tests replay.\n\n'
    cat "$FIGURES"
    summary
  } >"$OUT"
  rm -f "$FIGURES"
}

summary() {
  printf 'FUZZ targets=%s seconds=%s executions=%s found=%s\n' "${#TARGETS[@]}" "$SECONDS_EACH" "$EXECUTIONS" "${#FOUND[@]}"
}

step 'cargo-fuzz' ensure_cargo_fuzz
step 'build' build_fuzzer
for target in "${TARGETS[@]}"; do step "$target" search "$target"; done
if [ "$KEEP" = yes ]; then
  for target in "${TARGETS[@]}"; do step "keep $target" keep "$target"; done
fi
write_evidence
summary
[ "${#FOUND[@]}" -eq 0 ] || die "found something in: ${FOUND[*]}"
