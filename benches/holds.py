#!/usr/bin/env python3
"""For how long and how often the zone lock is held, measured under loads, and at how many cores that would be
all the time.

    holds.py [ROW]...      rows as "random -t 4"; without any a choice of them

It builds the library with `--cfg zonal_holds`, in which each hold is measured by the processor's clock, and runs
`loads`. All figures are the difference of a run and one of four times the operations, so that beginnings and ends
do not count; medians of ROUNDS (5) such pairs. Holds of 16 us and more are told apart: their holder lost its
processor, or had a page fault. ZONAL_HOLDS names a library built so before, LOADS the loads.
"""
import os
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
ROWS = ["random -t 1", "random -t 4", "larson -t 4", "mstress -t 4", "exchange -t 4", "prodcons -t 4", "json -t 4",
        "tree -t 4", "stack -t 4", "frag -t 4", "burst -t 4", "calloc -t 4"]
LONG_NS = 16_000
FACTOR = 4


def built():
    env = dict(os.environ, RUSTFLAGS="--cfg zonal_holds", CARGO_TARGET_DIR=str(TARGET / "holds"))
    command = ["cargo", "build", "--release", "--quiet", "--package", "zonal-preload"]
    subprocess.run(command, cwd=HERE.parent, env=env, check=True)
    return TARGET / "holds/release/libzonal.so"


def operations(loads, pattern):
    listed = subprocess.run([loads, "list"], capture_output=True, text=True, check=True).stdout
    return int(re.search(rf"^{pattern} +(\d+) ", listed, re.M)[1])


def run(library, command):
    """Processor time, and of short and long holds the number and sum in seconds."""
    env = dict(os.environ, LD_PRELOAD=str(library), ZONAL_CONF="stats:exit")
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = child.stderr.read().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    if status:
        sys.exit(f"{command}: status {status}")
    holds = []
    for line in lines:
        if line.startswith("hold "):
            hold = tuple(map(float, line.split()[1:]))
            # Each snapshot prints them; the last one counts.
            if holds and hold[0] <= holds[-1][0]:
                holds = []
            holds.append(hold)
    if not holds:
        sys.exit(f"{library} measures no holds")
    sums = []
    for is_long in (False, True):
        chosen = [(nr, ns) for start, nr, ns in holds if (start >= LONG_NS) == is_long]
        sums += [sum(nr for nr, _ in chosen), sum(ns for _, ns in chosen) * 1e-9]
    return [usage.ru_utime + usage.ru_stime, *sums]


def main():
    library = os.environ.get("ZONAL_HOLDS") or built()
    loads = os.environ.get("LOADS", TARGET / "release/loads")
    rounds = int(os.environ.get("ROUNDS", 5))
    print(f"{'row':16}{'holds/1,000 ops':>17}{'holds/s':>10}{'ns':>8}{'held':>9}{'(least, most)':>20}"
          f"{'cores':>8}{'long':>7}")
    for row in sys.argv[1:] or ROWS:
        pattern, *options = row.split()
        nr = operations(loads, pattern)
        differences = []
        for _ in range(rounds):
            few, many = (run(library, [loads, pattern, *options, "-n", str(n)]) for n in (nr, FACTOR * nr))
            differences.append([b - a for a, b in zip(few, many)])
        cpu, holds, held, long, _ = (statistics.median(column) for column in zip(*differences))
        parts = sorted(d[2] / d[0] for d in differences)
        part = statistics.median(parts)
        spread = f"({parts[0] * 100:.2f}, {parts[-1] * 100:.2f})"
        print(f"{row:16}{holds / nr / (FACTOR - 1) * 1000:17.3f}{holds / cpu:10.0f}{held / holds * 1e9:8.0f}"
              f"{part * 100:8.2f}%{spread:>20}{1 / part:8.0f}{long:7.0f}")


if __name__ == "__main__":
    main()
