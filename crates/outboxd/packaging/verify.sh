#!/bin/sh
# Has systemd check the units: that they are understood, and that their sandbox has an exposure of at most 1.0.
# Usage: verify.sh BINARY, where BINARY is an outboxd that exists, since systemd complains of one that does not.
set -eu
binary=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for unit in outboxd.service outboxd@.service; do
    sed "s#/usr/bin/outboxd#$binary#" "$here/$unit" >"$work/$unit"
    systemd-analyze verify "$work/$unit" 2>"$work/complaints" || true
    if [ -s "$work/complaints" ]; then
        cat "$work/complaints" >&2
        exit 1
    fi
done
# `security` takes no template.
cp "$work/outboxd@.service" "$work/outboxd@shard.service"
for unit in outboxd.service outboxd@shard.service; do
    systemd-analyze security --no-pager --offline=true --threshold=10 "$work/$unit" >"$work/report" || {
        cat "$work/report" >&2
        exit 1
    }
    tail -n 1 "$work/report"
done
