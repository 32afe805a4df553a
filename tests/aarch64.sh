#!/usr/bin/env bash
# Builds libzonal.so for aarch64 and runs C programs of tests/c on it under QEMU's user mode.
# Says what is missing, and ends well, where that cannot be done.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
root=/usr/aarch64-linux-gnu
skip() {
    echo "test-aarch64: skipped: $*"
    exit 0
}
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null ||
        skip "no $tool (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
done
[[ -d $(rustc --print sysroot)/lib/rustlib/$target ]] || skip "rustup target add $target"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
cargo build --release -p zonal-preload --target "$target"
library=$(realpath "${CARGO_TARGET_DIR:-target}/$target/release/libzonal.so")
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT

# Not what looks at its resident size, which is QEMU's here, nor what needs a real
# vfork, nor fork with threads, which QEMU 7.2 does not survive.
programs="
size
align
realloc
thread_exit
handoff
workload mib=8 threads=2
storm seconds=3 jump=0
info
libc_mix
early
world ifunc
world small_stacks
world kernel_copies
world raw_clone
"
failed=0
while read -r program arguments; do
    [[ -n $program ]] || continue
    [[ -x $dir/$program ]] ||
        aarch64-linux-gnu-gcc -O1 -w -o "$dir/$program" "tests/c/$program.c" -lpthread
    # shellcheck disable=SC2086 # words on purpose
    if timeout -s KILL 300 qemu-aarch64 -L "$root" -E LD_PRELOAD="$library" \
        "$dir/$program" $arguments >"$dir/output" 2>&1; then
        echo "ok      $program $arguments"
    else
        echo "FAILED  $program $arguments (status $?)"
        cat "$dir/output"
        failed=1
    fi
done <<<"$programs"
exit "$failed"
