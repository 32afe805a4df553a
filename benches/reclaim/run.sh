#!/usr/bin/env bash
# What giving memory back costs, and what it looks like over time, beside the peers at their defaults.
#
#   run.sh [cycle|latency|busy|visits|timeline]...     default: all of these; results go to the standard
#                                               output and the plot to ../results/reclaim.svg
#   RUNS=5 run.sh ...                           how often each figure is taken; the median counts
#   PAIRS=20 run.sh pairs                       the processor time of whole runs of cycles, with purging and
#                                               without: so many pairs of each period and of mixed ones, in
#                                               turns, each pair in the other order; median and quartiles
set -euo pipefail

home=$(cd "$(dirname "$0")" && pwd)
zonal=${ZONAL_LIB:-$home/../../target/release/libzonal.so}
peers=${CARGO_TARGET_DIR:-$home/../target}/release
[[ -n ${PEERS:-} ]] && peers=$PEERS
runs=${RUNS:-3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
${CC:-cc} -O2 -Wall -Werror -o "$scratch/reclaim" "$home/reclaim.c" -lpthread

# median COLUMN: the median of a column of the standard input.
median() {
    awk -v c="$1" '{ print $c }' | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# compare LOAD ARGUMENT...: runs with purging and without, in turns, so that noise falls on both.
compare() {
    : >"$scratch/on"
    : >"$scratch/off"
    for ((i = 0; i < runs; i++)); do
        LD_PRELOAD=$zonal ZONAL_CONF= "$scratch/reclaim" "$@" >>"$scratch/on"
        LD_PRELOAD=$zonal ZONAL_CONF=purge:off "$scratch/reclaim" "$@" >>"$scratch/off"
    done
}

# ratio COLUMN: of the medians, with purging to without.
ratio() {
    awk -v a="$(median "$1" <"$scratch/on")" -v b="$(median "$1" <"$scratch/off")" \
        'BEGIN { printf "%s / %s = %.2f", a, b, a / b }'
}

for load in ${@:-cycle latency busy visits timeline}; do
    case $load in
        cycle)
            for ms in 50 100 250 500 1000 2000; do
                compare cycle $ms
                printf 'cycle %4d ms: us of processor time with purging / without: median %s, mean %s\n' \
                    $ms "$(ratio 1)" "$(ratio 2)"
            done ;;
        pairs)
            python3 "$home/pairs.py" "$zonal" "$scratch/reclaim" "${PAIRS:-10}" \
                'cycle 50' 'cycle 100' 'cycle 250' 'cycle 500' 'cycle 1000' 'cycle 2000' 'mixed 1' 'mixed 2' ;;
        latency)
            compare latency
            printf 'malloc beside garbage, ns: median %s, 99 %% %s, 99.9 %% %s\n' \
                "$(ratio 1)" "$(ratio 2)" "$(ratio 3)" ;;
        busy)
            for ((i = 0; i < runs; i++)); do LD_PRELOAD=$zonal "$scratch/reclaim" busy; done |
                printf 'background thread: %s %% of a processor over 10 s\n' "$(median 1)" ;;
        visits)
            for nr in 2 4 8 64; do
                for ((i = 0; i < runs; i++)); do
                    LD_PRELOAD=$zonal ZONAL_CONF=stats:exit "$scratch/reclaim" visits $nr 2>&1
                done | awk -v nr=$nr '$2 > worst[$1] { worst[$1] = $2 }
                    END { printf "longest waits, %d threads: for a visitor %.1f ms, for a lock %.1f ms\n", nr,
                        worst["longest_block_ns"] / 1e6, worst["longest_lock_wait_ns"] / 1e6 }'
            done ;;
        timeline)
            lines=()
            take() {
                [[ $1 == glibc || -e $2 ]] || return 0
                LD_PRELOAD=$2 "$scratch/reclaim" timeline >"$scratch/$1"
                lines+=("$1=$scratch/$1")
                awk -v name="$1" '$2 > peak { peak = $2 } $3 == "idle" { idle = $2 }
                    END { printf "%-10s peak %4.0f MiB, at the end of the idle time %4.0f MiB\n", name, peak, idle }' \
                    "$scratch/$1"
            }
            take zonal "$zonal"
            take mimalloc "$peers/libpeer_mimalloc3.so"
            take jemalloc "$peers/libpeer_jemalloc.so"
            take tcmalloc "$(ls /usr/lib/*-linux-gnu/libtcmalloc_minimal.so.4 2>/dev/null | head -1)"
            take snmalloc "$peers/libpeer_snmalloc.so"
            take glibc ""
            python3 "$home/plot.py" "$home/../results/reclaim.svg" "${lines[@]}" ;;
        *) echo "run.sh: no load $load" >&2; exit 2 ;;
    esac
done
