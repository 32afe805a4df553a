#!/usr/bin/env python3
"""Counts what does not depend on the machine's speed, and fails when zonal takes more than it may.

    gate.py             zonal against its bounds
    gate.py --peers     the same figures of every peer that is built or installed beside it

Hits: instructions of a malloc and of a free that miss nothing, by callgrind, the same while a
heap profile runs, and of a large block that a thread keeps. Slow paths, for each
million operations (an allocation and a free are two) of some loads: atomic read-modify-writes by
callgrind, which counts every instruction by its address; system calls by strace; times that a zone
lock was taken, by zonal's own report. Each figure is the difference of a run of N and one of 2N
operations, so that start-up does not count.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", HOME / "target")) / "release"
MAIN = Path(os.environ.get("CARGO_TARGET_DIR", HOME.parent / "target")) / "release"
ZONAL = Path(os.environ.get("ZONAL_LIB", MAIN / "libzonal.so"))
LOADS = RELEASE / "loads"

# Instructions of malloc and free, the return included.
HIT_BOUNDS = (20, 26)
# And while a heap profile runs, at a rate that leaves the samples out, which come by chance: what keeps
# its cost for whole programs below 2 %.
PROFILED_BOUNDS = (51, 55)
SIZES = (16, 256, 1024)
# A large block that the thread keeps and hands out again, its slack and the claim of its free included.
KEPT_BOUNDS = (140, 200)
KEPT_SIZE = 50_000

# Arguments of `loads`, N, operations in N, and bounds for each million of them: atomic
# read-modify-writes, system calls, zone locks. A zone lock in 1,000 operations is the promise.
SLOW = {
    "random, 4 threads": ("random -t 4", 400_000, 2, (10_000, 250, 1_000)),
    "larson, 4 threads": ("larson -t 4", 400_000, 2, (40_000, 1_500, 1_000)),
    "producer, consumer": ("prodcons -t 2", 400_000, 2, (60_000, 20_000, 500)),
    "blocks that are kept": ("pairs -s 100000", 100_000, 2, (520_000, 250, 100)),
    "blocks to 64 MiB": ("blocks", 3_000, 2, (4_000_000, 20_000, 1_500_000)),
}
# So often a load that is over a bound is run.
TRIES = 4


def run(command, library, **extra):
    env = dict(os.environ, **extra)
    if library:
        env["LD_PRELOAD"] = str(library)
    done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-200:])
    return done.stderr.decode(errors="replace")


def callgrind(library, load, out, *options, conf=""):
    command = ["valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={out}"]
    run([*command, *options, str(LOADS), *load.split()], library, ZONAL_CONF=conf)
    return open(out)


def hits(library, size, pairs, out, conf=""):
    """Instructions below the calls that `loads` itself makes to malloc and to free."""
    # One address has one name: identical functions share it, hence the C++ operators.
    kinds = {name: 0 for name in ("malloc", "_Znwm", "_Znam")}
    kinds |= {name: 1 for name in ("free", "cfree", "_ZdlPv", "_ZdaPv")}
    spent = [0, 0]
    caller = callee = ""
    cost_follows = False
    load = f"pairs -s {size} -n {pairs}"
    for line in callgrind(library, load, out, "--compress-strings=no", conf=conf):
        key, _, value = line.rstrip("\n").partition("=")
        if cost_follows:
            cost_follows = False
            kind = kinds.get(callee.split("'")[0].split("@")[0])
            if caller == str(LOADS) and kind is not None:
                spent[kind] += int(line.split()[-1])
        elif key == "ob":
            caller = value
        elif key == "cfn":
            callee = value
        elif key == "calls":
            cost_follows = True
    return spent


def hit_costs(library, size, bounds, out, conf):
    """Instructions of a malloc and of a free, and which of them are over their bounds."""
    pairs = 5_000
    least = [[float("inf")] * 2] * 2
    # Even at its largest rate a profile takes a sample in one run of a hundred.
    for _ in range(TRIES):
        counts = [hits(library, size, n, out, conf) for n in (pairs, 2 * pairs)]
        least = [[min(pair) for pair in zip(*both)] for both in zip(least, counts)]
        spent = [(b - a) / pairs for a, b in zip(*least)]
        over = [what for what, n, most in zip(("malloc", "free"), spent, bounds) if n > most + 0.5]
        if library != ZONAL or not over:
            return spent, []
    return spent, over


def locked_instructions(library):
    """Addresses of the atomic read-modify-writes in a library."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)], capture_output=True, text=True
    ).stdout
    found = re.finditer(r"^\s*([0-9a-f]+):\s+(?:lock\b|xchg\s.*\()", text, re.MULTILINE)
    return {int(match[1], 16) for match in found}


def atomics(library, load, locked, out):
    options = ["--dump-instr=yes", "--dump-line=no", "--compress-pos=no", "--compress-strings=no"]
    total = 0
    ours = cost_follows = False
    # Threads take turns here, a long one each: whoever was visiting a heap when its turn ended is there
    # for all of its owner's, who works beside it, with other instructions. So nobody visits.
    for line in callgrind(library, load, out, *options, conf="purge:off"):
        if cost_follows:
            cost_follows = False
        elif line.startswith("ob="):
            ours = line[3:].strip() == str(Path(library).resolve())
        elif line.startswith("calls="):
            cost_follows = True
        elif ours and line.startswith("0x"):
            address, count = line.split()[:2]
            total += int(count) if int(address, 16) in locked else 0
    return total


def system_calls(library, load, out):
    run(["strace", "-f", "-c", "-o", out, "-E", f"LD_PRELOAD={library}", str(LOADS), *load.split()], None)
    total = [line for line in open(out) if line.split()[-1:] == ["total"]]
    return int(total[0].split()[3 if len(total[0].split()) > 4 else 2])


def zone_locks(library, load):
    report = run([str(LOADS), *load.split()], library, ZONAL_CONF="stats:exit")
    found = re.search(r"^zone_lock (\d+)", report, re.MULTILINE)
    return int(found[1]) if found else 0


def slow(name, library, locked, out):
    arguments, n, factor, bounds = SLOW[name]
    per_million = 1e6 / (n * factor)

    def difference(count, bound):
        least = [float("inf")] * 2
        # A busy machine adds calls (threads that wait, timers that run), it takes none away: each
        # length counts by the least that it was seen to need.
        for _ in range(TRIES):
            for i in range(2):
                least[i] = min(least[i], count(f"{arguments} -n {(i + 1) * n}"))
            figure = max(least[1] - least[0], 0) * per_million
            if figure <= bound:
                break
        return figure

    counts = [
        (lambda load: atomics(library, load, locked, out)) if locked else None,
        (lambda load: system_calls(library, load, out)) if shutil.which("strace") else None,
        (lambda load: zone_locks(library, load)) if library == ZONAL else None,
    ]
    return [count and difference(count, bound) for count, bound in zip(counts, bounds)]


def peers():
    for name in ("mimalloc3", "mimalloc2", "snmalloc", "jemalloc", "rpmalloc"):
        yield name, RELEASE / f"libpeer_{name}.so"
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"):
        yield "tcmalloc", Path(folder) / "libtcmalloc_minimal.so.4"


def show(cells, over):
    print("| " + " | ".join(cells) + " |" + (f"   over the bound: {', '.join(over)}" if over else ""))
    sys.stdout.flush()
    return bool(over)


def gives_up(library, cells, error):
    """A peer may not run here; zonal has to."""
    return show(cells, [str(error)] if library == ZONAL else [])


def main():
    for tool in ("valgrind", "objdump"):
        if not shutil.which(tool):
            sys.exit(f"gate: {tool} is not installed")
    libraries = [("zonal", ZONAL)]
    if "--peers" in sys.argv:
        libraries += [(name, path.resolve()) for name, path in peers() if path.exists()]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        print(f"Hits, instructions (bounds: malloc {HIT_BOUNDS[0]}, free {HIT_BOUNDS[1]};")
        print(f"with a heap profile: malloc {PROFILED_BOUNDS[0]}, free {PROFILED_BOUNDS[1]};")
        print(f"a kept block: malloc {KEPT_BOUNDS[0]}, free {KEPT_BOUNDS[1]})\n")
        print("| allocator | bytes | malloc | free |\n|---|---|---|---|")
        profiled = f"profile:on,profile_rate:16M,profile_file:{folder}/heap"
        rows = [(name, library, size, HIT_BOUNDS, "") for name, library in libraries for size in SIZES]
        rows += [(name, library, KEPT_SIZE, KEPT_BOUNDS, "") for name, library in libraries]
        rows.append(("zonal, profiled", ZONAL, SIZES[0], PROFILED_BOUNDS, profiled))
        for name, library, size, bounds, conf in rows:
            try:
                spent, over = hit_costs(library, size, bounds, out, conf)
            except RuntimeError as error:
                failed |= gives_up(library, [name, str(size), "fails", "under valgrind"], error)
                continue
            failed |= show([name, str(size), *(f"{n:.1f}" for n in spent)], over)
        print("\nSlow paths, for each million operations (bounds of zonal in brackets)\n")
        print("| load | allocator | atomic RMW | system calls | zone locks |")
        print("|---|---|---|---|---|")
        for load, (*_, bounds) in SLOW.items():
            for name, library in libraries:
                locked = locked_instructions(library) if os.uname().machine == "x86_64" else None
                try:
                    figures = slow(load, library, locked, out)
                except RuntimeError as error:
                    failed |= gives_up(library, [load, name, "fails"], error)
                    continue
                kinds = ("atomic RMW", "system calls", "zone locks")
                limits = bounds if name == "zonal" else [None] * 3
                over = [k for k, n, most in zip(kinds, figures, bounds) if name == "zonal" and n and n > most]
                cells = [
                    "-" if n is None else f"{n:.0f}" + (f" ({most})" if most else "")
                    for n, most in zip(figures, limits)
                ]
                failed |= show([load, name, *cells], over)
    sys.exit(failed)


main()
