"""objects.py FOLDER COMMAND: builds objects in threads on all processors, then writes what zonal and
the kernel say about it; the command, too, if there is one.
"""
import ctypes
import json
import os
import subprocess
import sys
import threading
import time

scratch, command = sys.argv[1:]
kept = []


def work(cpu):
    os.sched_setaffinity(0, {cpu})
    rows = [{"id": i, "name": f"row {i}", "values": list(range(i % 50))} for i in range(8_000)]
    assert json.loads(json.dumps(rows)) == rows
    kept.append((rows, bytearray(os.urandom(1 << 20)) * 24))


threads = [threading.Thread(target=work, args=(cpu,)) for cpu in sorted(os.sched_getaffinity(0))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(kept) == len(threads)


def stir():
    """Gives the library something to publish at: a thread that begins, for which no cache will do."""
    thread = threading.Thread(target=bytes, args=(1000,))
    thread.start()
    thread.join()


def outside():
    stats = [command, "stats", "--json", str(os.getpid())]
    done = subprocess.run(stats, stdout=subprocess.PIPE, check=True, env={"PATH": os.environ["PATH"]})
    return done.stdout


# Once before the time that counts: then neither needs more memory than is there, which a page that was
# taken in its midst would not know of.
stir()
if command:
    outside()
built = time.monotonic_ns()

# A slow machine publishes late, and a program at rest not at all: until the objects are in the page.
for turn in range(100):
    if not command or json.loads(outside().splitlines()[-1])["taken_ns"] >= built:
        break
    time.sleep(0.1)
    stir()
else:
    sys.exit("objects: nothing was published in 100 turns")
print(f"objects: published in turn {turn}")

zonal = ctypes.CDLL(None)
with open(f"{scratch}/python.stats", "wb", buffering=0) as stats:
    assert zonal.zonal_stats_print(stats.fileno(), 1) == 0
# Unbuffered, so that the memory is the same in both.
source = os.open("/proc/self/numa_maps", os.O_RDONLY)
target = os.open(f"{scratch}/python.maps", os.O_WRONLY | os.O_CREAT)
while part := os.read(source, 1 << 14):
    os.write(target, part)
if command:
    with open(f"{scratch}/python.outside", "wb") as file:
        file.write(outside())
