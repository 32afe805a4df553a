#!/bin/sh
# Instructions per malloc hit and free hit, counted by callgrind: a gate that does not depend on the
# machine's speed. Two runs of the same load with N and 2N pairs; the difference divided by N leaves
# no start-up in the figure. Callgrind attributes instructions to functions, so the exported malloc and
# free are told apart, forwards of the peers included.
#
#   gate.sh [LIBRARY]...      default: zonal, then every peer that is built or installed
#
# Fails when zonal's malloc takes more than MALLOC_BOUND instructions or free more than FREE_BOUND,
# at any of the SIZES.
set -eu

MALLOC_BOUND=${MALLOC_BOUND:-20}
FREE_BOUND=${FREE_BOUND:-26}
SIZES=${SIZES:-"16 256 1024"}
PAIRS=${PAIRS:-20000}

home=$(cd "$(dirname "$0")" && pwd)
release=${CARGO_TARGET_DIR:-$home/target}/release
zonal=${ZONAL_LIB:-$home/../target/release/libzonal.so}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Instructions below the calls that `loads` itself makes to malloc and to free.
count() {
    env LD_PRELOAD="$1" valgrind --tool=callgrind --demangle=no --callgrind-out-file="$scratch/out" \
        "$release/loads" pairs -s "$2" -n "$3" >/dev/null 2>"$scratch/err" || return 1
    python3 - "$scratch/out" "$release/loads" <<'PYTHON'
import sys

# One address has one name: identical functions share it, hence the C++ operators.
KINDS = {name: 0 for name in ("malloc", "_Znwm", "_Znam")}
KINDS |= {name: 1 for name in ("free", "cfree", "_ZdlPv", "_ZdaPv")}
spent = [0, 0]
names = {}


def name(kind, text):
    """Callgrind writes `(7) name` once and `(7)` from then on."""
    number, _, full = text.partition(" ")
    if full:
        names[kind, number] = full
    return names.get((kind, number), "")


caller = callee = ""
cost_follows = False
for line in open(sys.argv[1]):
    key, _, value = line.rstrip("\n").partition("=")
    if cost_follows:
        cost_follows = False
        kind = KINDS.get(callee.split("'")[0].split("@")[0])
        if caller == sys.argv[2] and kind is not None:
            spent[kind] += int(line.split()[-1])
    elif key == "ob":
        caller = name("object", value)
    elif key == "cob":
        name("object", value)
    elif key == "fn":
        name("function", value)
    elif key == "cfn":
        callee = name("function", value)
    elif key == "calls":
        cost_follows = True
print(*spent)
PYTHON
}

one() { # name, library
    for size in $SIZES; do
        once=$(count "$2" "$size" "$PAIRS") || { echo "| $1 | $size | fails under valgrind | |"; return 0; }
        twice=$(count "$2" "$size" "$((2 * PAIRS))")
        set -- "$1" "$2" $once $twice
        malloc=$(awk "BEGIN { printf \"%.1f\", ($5 - $3) / $PAIRS }")
        free=$(awk "BEGIN { printf \"%.1f\", ($6 - $4) / $PAIRS }")
        verdict=
        if [ "$1" = zonal ]; then
            if awk "BEGIN { exit !($malloc > $MALLOC_BOUND + 0.5 || $free > $FREE_BOUND + 0.5) }"; then
                verdict="over the bound of $MALLOC_BOUND / $FREE_BOUND"
                failed=1
            fi
        fi
        echo "| $1 | $size | $malloc | $free | $verdict"
    done
}

failed=0
echo "| allocator | bytes | malloc | free |"
echo "|-----------|-------|--------|------|"
if [ $# -gt 0 ]; then
    for library; do one "$(basename "$library" .so)" "$library"; done
else
    one zonal "$zonal"
    for peer in mimalloc3 mimalloc2 snmalloc jemalloc rpmalloc; do
        [ ! -e "$release/libpeer_$peer.so" ] || one "$peer" "$release/libpeer_$peer.so"
    done
    for folder in /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib; do
        [ ! -e "$folder/libtcmalloc_minimal.so.4" ] || one tcmalloc "$folder/libtcmalloc_minimal.so.4"
    done
    one glibc ""
fi
exit "$failed"
