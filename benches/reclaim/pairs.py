"""What giving memory back costs a program that comes back: pairs of runs with purging and without.

    pairs.py ZONAL_LIBRARY RECLAIM_PROGRAM NR_PAIRS LOAD...

A load is the arguments of the program, as in "cycle 50". All loads have a pair before any has its second, and
the order within a pair changes from pair to pair. Prints for each load the ratio of processor time (user and
system, all threads of the process), with purging / without: median and quartiles, of the whole run and from the
third cycle on (the program prints what it took until then); and the page faults of both.
"""
import os
import sys


def run(library, settings, command):
    """Processor time in seconds, page faults, and processor time from the third cycle on, of one run."""
    output, written = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(written, 1)
        os.environ.update(LD_PRELOAD=library, ZONAL_CONF=settings)
        os.execv(command[0], command)
    os.close(written)
    with open(output) as lines:
        until_third_us = float(lines.read().split()[-1])
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"pairs.py: {' '.join(command)}: status {status}")
    worked = usage.ru_utime + usage.ru_stime
    return worked, usage.ru_minflt, worked - until_third_us / 1e6


def quantile(values, part):
    """Between the two values next to it."""
    values = sorted(values)
    at = part * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def main():
    library, program, nr_pairs, *loads = sys.argv[1:]
    library, program = os.path.abspath(library), os.path.abspath(program)
    settings = ["", "purge:off"]
    taken = {load: [] for load in loads}
    for i in range(int(nr_pairs)):
        for load in loads:
            order = settings[::-1] if i % 2 else settings
            pair = {s: run(library, s, [program, *load.split()]) for s in order}
            taken[load].append([pair[s] for s in settings])
    for load, pairs in taken.items():
        def spread(column):
            ratios = [on[column] / off[column] for on, off in pairs]
            low, median, high = (quantile(ratios, part) for part in (.25, .5, .75))
            return f"{median:.3f} [{low:.3f} {high:.3f}]"

        faults = [quantile([pair[side][1] for pair in pairs], .5) for side in (0, 1)]
        first = [quantile([on[0] / off[0] for on, off in pairs[side::2]], .5) for side in (0, 1) if pairs[side::2]]
        sides = ", ".join(f"{ratio:.2f}" for ratio in first)
        print(f"{load:<12} {spread(0)}, from the third cycle on {spread(2)}, of {len(pairs)} pairs (with purging "
              f"first, last: {sides}), faults {faults[0]:.0f} and {faults[1]:.0f}", flush=True)


main()
