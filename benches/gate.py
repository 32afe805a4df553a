#!/usr/bin/env python3
"""Counts what does not depend on the machine's speed, and fails when zonal takes more than it may.

    gate.py             zonal against its bounds
    gate.py --peers     the same figures of every peer that is built or installed beside it

Hits: instructions of a malloc and of a free that miss nothing, by callgrind, the same while a
heap profile runs, of a large block that a thread keeps, of operator new and delete, and of a Rust
program's allocation and free together, its loop included. Slow paths, for each
million operations (an allocation and a free are two) of some loads: atomic read-modify-writes by
callgrind, which counts every instruction by its address (x86-64 only); system calls by strace; times
that a zone lock was taken, by zonal's own report; page faults, which the program of the row prints. Each
figure is the difference of a run of N and one of 2N operations, so that start-up does not count. Last, functions
that the first allocation of a process runs and that do not lie with the others: `layout.py`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import layout

HOME = Path(__file__).resolve().parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", HOME / "target")) / "release"
MAIN = Path(os.environ.get("CARGO_TARGET_DIR", HOME.parent / "target")) / "release"
ZONAL = Path(os.environ.get("ZONAL_LIB", MAIN / "libzonal.so"))
LOADS = RELEASE / "loads"
# The Rust loads on zonal, if they were built.
RUST = RELEASE / "rust-zonal"

# Instructions of malloc and free, the return included.
HIT_BOUNDS = (20, 26)
# And while a heap profile runs, at a rate that leaves the samples out, which come by chance: what keeps
# its cost for whole programs below 2 %.
PROFILED_BOUNDS = (52, 55)
SIZES = (16, 256, 1024)
# A large block that the thread keeps and hands out again, its slack and the claim of its free included.
KEPT_BOUNDS = (65, 140)
KEPT_SIZE = 50_000
# operator new and delete, without and with a size.
OPERATOR_BOUNDS = {"new": (22, 28), "sized": (22, 33)}
# A Box and its end in a Rust program, into which the hits are built.
BOX_BOUND = 72

# Arguments of `loads` (or of a program of `gate/`), N, operations in N, and bounds for each million of them: atomic
# read-modify-writes, system calls, zone locks, page faults. A zone lock in 1,000 operations is the promise.
SLOW = {
    "random, 4 threads": ("random -t 4", 400_000, 2, (10_000, 250, 1_000, 0)),
    "larson, 4 threads": ("larson -t 4", 400_000, 2, (10_000, 1_500, 1_000, 0)),
    "producer, consumer": ("prodcons -t 2", 400_000, 2, (60_000, 20_000, 500, 0)),
    "blocks that are kept": ("pairs -s 100000", 100_000, 2, (526_000, 250, 100, 0)),
    "blocks to 64 MiB": ("blocks", 3_000, 2, (2_700_000, 8_000, 700_000, 0)),
    "64 KiB to 64 MiB in turn, warm": ("turns", 100, 26, (3_600_000, 2_500, 500_000, 2_500)),
}
# Functions of the first allocation that may lie apart from the others.
APART_BOUND = 3
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


def compiled(folder):
    """The programs of `gate/`, and what they are missing."""
    made = {}
    for name, compiler in (("operators.cpp", "c++"), ("turns.c", "cc")):
        program = os.path.join(folder, name.split(".")[0])
        command = [compiler, "-O2", "-fno-builtin", str(HOME / "gate" / name), "-o", program]
        if not shutil.which(compiler):
            print(f"without gate/{name}: no {compiler}")
        elif subprocess.run(command).returncode:
            sys.exit(f"gate: gate/{name} does not compile")
        else:
            made[os.path.basename(program)] = program
    return made


def callgrind(library, command, out, *options, conf=""):
    tool = ["valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={out}"]
    run([*tool, *options, *command], library, ZONAL_CONF=conf)
    return open(out)


def hits(library, command, out, conf=""):
    """Instructions below the calls that the program itself makes to allocate and to free."""
    # One address has one name: identical functions share it, hence all of them.
    kinds = {name: 0 for name in ("malloc", "_Znwm", "_Znam")}
    kinds |= {name: 1 for name in ("free", "cfree", "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm")}
    spent = [0, 0]
    caller = callee = ""
    cost_follows = False
    for line in callgrind(library, command, out, "--compress-strings=no", conf=conf):
        key, _, value = line.rstrip("\n").partition("=")
        if cost_follows:
            cost_follows = False
            kind = kinds.get(callee.split("'")[0].split("@")[0])
            if caller == command[0] and kind is not None:
                spent[kind] += int(line.split()[-1])
        elif key == "ob":
            caller = value
        elif key == "cfn":
            callee = value
        elif key == "calls":
            cost_follows = True
    return spent


def of_pairs(size):
    """The program that allocates and frees so many blocks of that size."""
    return lambda pairs: [str(LOADS), "pairs", "-s", str(size), "-n", str(pairs)]


def hit_costs(library, program, bounds, out, conf):
    """Instructions of a malloc and of a free, and which of them are over their bounds."""
    pairs = 5_000
    least = [[float("inf")] * 2] * 2
    # Even at its largest rate a profile takes a sample in one run of a hundred.
    for _ in range(TRIES):
        counts = [hits(library, program(n), out, conf) for n in (pairs, 2 * pairs)]
        least = [[min(pair) for pair in zip(*both)] for both in zip(least, counts)]
        spent = [(b - a) / pairs for a, b in zip(*least)]
        over = [what for what, n, most in zip(("malloc", "free"), spent, bounds) if n > most + 0.5]
        if library != ZONAL or not over:
            return spent, []
    return spent, over


def box_cost(out):
    """Instructions of a Box of a Rust program from its allocation to the next one's."""
    pairs = 5_000
    totals = []
    for n in (pairs, 2 * pairs):
        lines = callgrind(None, [str(RUST), "pairs", "-n", str(n)], out)
        totals.append(next(int(line.split()[1]) for line in lines if line.startswith("totals:")))
    return (totals[1] - totals[0]) / pairs


def locked_instructions(library):
    """Addresses of the atomic read-modify-writes in a library."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)], capture_output=True, text=True
    ).stdout
    found = re.finditer(r"^\s*([0-9a-f]+):\s+(?:lock\b|xchg\s.*\()", text, re.MULTILINE)
    return {int(match[1], 16) for match in found}


def atomics(library, command, locked, out):
    # Threads take turns here, a long one each: whoever was visiting a heap when its turn ended is there
    # for all of its owner's, who works beside it, with other instructions. So nobody visits.
    lines = callgrind(library, command, out, *layout.BY_INSTRUCTION, conf="purge:off")
    return sum(count for address, count in layout.costs(lines, library) if address in locked)


def system_calls(library, command, out):
    run(["strace", "-f", "-c", "-o", out, "-E", f"LD_PRELOAD={library}", *command], None)
    total = [line for line in open(out) if line.split()[-1:] == ["total"]]
    return int(total[0].split()[3 if len(total[0].split()) > 4 else 2])


def reported(library, command, figure):
    """A figure of zonal's report, or of the program."""
    report = run(command, library, ZONAL_CONF="stats:exit")
    found = re.search(rf"^{figure} (\d+)", report, re.MULTILINE)
    return int(found[1]) if found else 0


def slow(name, library, locked, out, programs):
    arguments, n, factor, bounds = SLOW[name]
    per_million = 1e6 / (n * factor)
    program, *options = arguments.split()

    def command(n):
        if program in programs:
            return [programs[program], *options, str(n)]
        return [str(LOADS), program, *options, "-n", str(n)]

    def difference(count, bound):
        least = [float("inf")] * 2
        # A busy machine adds calls (threads that wait, timers that run), it takes none away: each
        # length counts by the least that it was seen to need.
        for _ in range(TRIES):
            for i in range(2):
                least[i] = min(least[i], count(command((i + 1) * n)))
            figure = max(least[1] - least[0], 0) * per_million
            if figure <= bound:
                break
        return figure

    counts = [
        (lambda command: atomics(library, command, locked, out)) if locked else None,
        (lambda command: system_calls(library, command, out)) if shutil.which("strace") else None,
        (lambda command: reported(library, command, "zone_lock")) if library == ZONAL else None,
        (lambda command: reported(library, command, "page_faults")) if program in programs else None,
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


def rust(out):
    """The hits in a Rust program; whether they are over the bound."""
    try:
        spent = box_cost(out)
    except (RuntimeError, OSError):
        print(f"without GlobalAlloc: {RUST.name} is not built, or knows no pairs")
        return False
    return show(["zonal, a Box in Rust", "64", f"{spent:.1f} in all", ""], ["both"] if spent > BOX_BOUND else [])


def first_allocation():
    """Whether too much of what a first allocation runs lies apart."""
    names, length = layout.first_allocation(ZONAL)
    print(f"\nA first allocation: {len(names)} functions lie apart ({APART_BOUND}), the others in", end=" ")
    print(f"{length / 1024:.1f} KiB ({layout.START_BOUND / 1024:.0f})")
    if names:
        print("not in the group `start` of ffi/preload/layout.txt: " + ", ".join(names))
    return len(names) > APART_BOUND or length > layout.START_BOUND


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
        programs = compiled(folder)
        print(f"Hits, instructions (bounds: malloc {HIT_BOUNDS[0]}, free {HIT_BOUNDS[1]};")
        print(f"with a heap profile: malloc {PROFILED_BOUNDS[0]}, free {PROFILED_BOUNDS[1]};")
        print(f"a kept block: malloc {KEPT_BOUNDS[0]}, free {KEPT_BOUNDS[1]};")
        print(f"operators: new {OPERATOR_BOUNDS['sized'][0]}, sized delete {OPERATOR_BOUNDS['sized'][1]};")
        print(f"a Box in Rust and its end, with the loop: {BOX_BOUND})\n")
        print("| allocator | bytes | malloc | free |\n|---|---|---|---|")
        profiled = f"profile:on,profile_rate:16M,profile_file:{folder}/heap"
        rows = [(name, library, size, of_pairs(size), HIT_BOUNDS, "") for name, library in libraries for size in SIZES]
        rows += [(name, library, KEPT_SIZE, of_pairs(KEPT_SIZE), KEPT_BOUNDS, "") for name, library in libraries]
        rows.append(("zonal, profiled", ZONAL, SIZES[0], of_pairs(SIZES[0]), PROFILED_BOUNDS, profiled))
        for kind, bounds in OPERATOR_BOUNDS.items() if "operators" in programs else ():
            program = lambda pairs, kind=kind: [programs["operators"], kind, "64", str(pairs)]
            rows += [(f"{name}, operators ({kind})", library, 64, program, bounds, "") for name, library in libraries]
        for name, library, size, program, bounds, conf in rows:
            try:
                spent, over = hit_costs(library, program, bounds, out, conf)
            except RuntimeError as error:
                failed |= gives_up(library, [name, str(size), "fails", "under valgrind"], error)
                continue
            failed |= show([name, str(size), *(f"{n:.1f}" for n in spent)], over)
        failed |= rust(out)
        print("\nSlow paths, for each million operations (bounds of zonal in brackets)\n")
        print("| load | allocator | atomic RMW | system calls | zone locks | page faults |")
        print("|---|---|---|---|---|---|")
        for load, (arguments, *_, bounds) in SLOW.items():
            if arguments == "turns" and "turns" not in programs:
                continue
            for name, library in libraries:
                locked = locked_instructions(library) if os.uname().machine == "x86_64" else None
                try:
                    figures = slow(load, library, locked, out, programs)
                except RuntimeError as error:
                    failed |= gives_up(library, [load, name, "fails"], error)
                    continue
                kinds = ("atomic RMW", "system calls", "zone locks", "page faults")
                limits = bounds if name == "zonal" else [None] * 4
                over = [k for k, n, most in zip(kinds, figures, bounds) if name == "zonal" and n and n > most]
                cells = [
                    "-" if n is None else f"{n:.0f}" + (f" ({most})" if most else "")
                    for n, most in zip(figures, limits)
                ]
                failed |= show([load, name, *cells], over)
    failed |= first_allocation()
    sys.exit(failed)


main()
