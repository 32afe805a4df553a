#!/bin/sh
# How much memory a process gives back by itself: zonal and its peers at their defaults.
#
#   returned.sh [LIBRARY]...     default: zonal, then every peer that is built or installed, then glibc
#   SECONDS_MORE=60 returned.sh  looks once more after that time (khugepaged must not undo it)
#   AFTERWARDS='sleeps spins'    what the thread does that freed the memory (returned.c); default: all there is
set -eu

home=$(cd "$(dirname "$0")" && pwd)
release=${CARGO_TARGET_DIR:-$home/target}/release
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
${CC:-cc} -O2 -Wall -o "$scratch/returned" "$home/returned.c" -lpthread

if [ $# -eq 0 ]; then
    set -- "${ZONAL_LIB:-$home/../target/release/libzonal.so}"
    for library in "$release"/libpeer_*.so /usr/lib/*-linux-gnu/libmimalloc.so.2 \
        /usr/lib/*-linux-gnu/libjemalloc.so.2 /usr/lib/*-linux-gnu/libtcmalloc_minimal.so.4; do
        [ ! -e "$library" ] || set -- "$@" "$library"
    done
    set -- "$@" ''
fi
for load in scatter worker; do
    for afterwards in ${AFTERWARDS:-sleeps rests spins hits replaces}; do
        for library in "$@"; do
            printf '%-8s %-9s %-24s ' "$load" "$afterwards" "$(basename "${library:-glibc}")"
            LD_PRELOAD="$library" "$scratch/returned" "$load" "$afterwards" ${SECONDS_MORE:-} ||
                echo "did not finish"
        done
    done
done
