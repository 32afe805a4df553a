#!/usr/bin/env python3
"""Which functions of the library lie apart from those that run with them: `ffi/preload/layout.txt` is to name them.

    layout.py                   what a first allocation runs outside of the group `start`, and where that ends
    layout.py PROGRAM [ARG]...  what that program runs outside of the groups `start` and `usual`

By callgrind. ZONAL_LIB names another library.
"""

import bisect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parent
# All of the group is to lie in what the kernel maps around the first page, with some room.
START_BOUND = 60 << 10


class Symbols:
    """The functions of a library and the ends of its groups, by address."""

    def __init__(self, library):
        lines = subprocess.run(["nm", "-C", library], capture_output=True, text=True, check=True).stdout
        rows = [line.split(maxsplit=2) for line in lines.splitlines()]
        rows = sorted((int(row[0], 16), row[2]) for row in rows if len(row) == 3 and row[1] in "tTwW")
        self.groups = {name: at for at, name in rows if name.startswith("zonal_layout_")}
        self.rows = [row for row in rows if row[1] not in self.groups]

    def name_at(self, address):
        found = bisect.bisect(self.rows, (address, chr(sys.maxunicode))) - 1
        return self.rows[found][1] if found >= 0 else "what begins the code"


# So that callgrind tells costs by instruction, as `costs` reads them.
BY_INSTRUCTION = ("--dump-instr=yes", "--dump-line=no", "--compress-pos=no", "--compress-strings=no")


def costs(lines, library):
    """Address and count of each instruction of the library, callees left out, by the lines of callgrind's output."""
    ours = cost_follows = False
    for line in lines:
        if cost_follows:
            cost_follows = False
        elif line.startswith("ob="):
            ours = line[3:].strip() == str(Path(library).resolve())
        elif line.startswith("calls="):
            cost_follows = True
        elif ours and line.startswith("0x"):
            address, count = line.split()[:2]
            yield int(address, 16), int(count)


def executed(library, command):
    """Addresses of instructions of the library that the program ran."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *BY_INSTRUCTION]
        environment = dict(os.environ, LD_PRELOAD=str(library))
        quiet = subprocess.DEVNULL
        subprocess.run([*tool, *command], env=environment, stdin=quiet, stdout=quiet, stderr=quiet, check=True)
        return {address for address, _ in costs(open(out, errors="replace"), library)}


def apart(library, command, group):
    """The functions that a program runs behind that group, and how long the code up to there is, from the first
    page on."""
    symbols = Symbols(library)
    end = symbols.groups[f"zonal_layout_{group}"]
    ran = executed(library, command)
    if not ran:
        raise RuntimeError(f"{command[0]} ran nothing of {library}")
    return sorted({symbols.name_at(at) for at in ran if at >= end}), end - min(ran) // 4096 * 4096


def first_allocation(library):
    """The same for a program that allocates once."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "first")
        subprocess.run(["cc", "-O1", "-fno-builtin", HOME / "gate/first.c", "-o", program], check=True)
        return apart(library, [program], "start")


def main():
    target = os.environ.get("CARGO_TARGET_DIR", HOME.parent / "target")
    library = os.environ.get("ZONAL_LIB", Path(target) / "release/libzonal.so")
    command = sys.argv[1:]
    names, length = apart(library, command, "usual") if command else first_allocation(library)
    print("\n".join(names) or "nothing lies apart")
    print(f"the groups end {length / 1024:.1f} KiB behind the first page")
    sys.exit(bool(names) and not command)


if __name__ == "__main__":
    main()
