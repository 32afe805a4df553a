#!/usr/bin/env bash
# Fuzzes every target for so many seconds (60), all at one time. See tests/fuzz/src/lib.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
export ZONAL_FUZZ_SECONDS=${1:-60}
# Files of texts are written and read thousands of times a second.
[[ -w /dev/shm ]] && export TMPDIR=/dev/shm

targets="
zonal-numa   --lib        topology::fuzz::sysfs_texts
zonal-numa   --lib        room::fuzz::cgroup_texts
zonal-settings --lib      tests::conf_texts
zonal-tests  --test=fuzz  calls
"

cargo test -q --no-run -p zonal-numa -p zonal-settings --lib
cargo test -q --no-run -p zonal-tests --test fuzz
running=()
while read -r package where test; do
    [[ -n $package ]] || continue
    cargo test -q -p "$package" "$where" "$test" -- --exact --nocapture &
    running+=($!)
done <<<"$targets"
failed=0
for pid in "${running[@]}"; do
    wait "$pid" || failed=1
done
exit "$failed"
