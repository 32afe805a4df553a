#!/bin/sh
# What zonal and its peers add to the start of /bin/true and of a process that allocates 1 KiB, and
# how much memory is resident and dirty in the latter. The bound: 40 us for /bin/true.
#
#   startup.sh [LIBRARY]...      default: zonal, then every peer that is built or installed
set -eu

ROUNDS=${ROUNDS:-2000}
home=$(cd "$(dirname "$0")" && pwd)
release=${CARGO_TARGET_DIR:-$home/target}/release
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

${CC:-cc} -O2 -Wall -o "$scratch/startup" "$home/startup.c" -lm
${CC:-cc} -shared -fPIC -o "$scratch/empty.so" -x c /dev/null

if [ $# -eq 0 ]; then
    set -- "${ZONAL_LIB:-$home/../target/release/libzonal.so}"
    for library in "$release"/libpeer_*.so /usr/lib/*-linux-gnu/libmimalloc.so.2 \
        /usr/lib/*-linux-gnu/libjemalloc.so.2 /usr/lib/*-linux-gnu/libtcmalloc_minimal.so.4; do
        [ ! -e "$library" ] || set -- "$@" "$library"
    done
fi
for program in /bin/true -; do
    echo "program: $program"
    "$scratch/startup" -n "$ROUNDS" -c "$program" "$scratch/empty.so" "$@"
done
"$scratch/startup" -d '' "$scratch/empty.so" "$@"
