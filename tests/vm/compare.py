"""compare.py STATS MAPS PERCENT: zonal's own figures for each node against the kernel's numa_maps.

zonal's memory is that which is bound to a node. What it counts as resident on a node, and what the
kernel finds there, may differ by PERCENT of all of it.
"""
import collections
import json
import re
import sys

stats, maps, percent = sys.argv[1:]
with open(stats) as file:
    nodes = json.loads(file.readlines()[-1])["nodes"]
counted = {node["node"]: node["memory"]["resident_bytes"] // 4096 for node in nodes}
found = collections.Counter()
with open(maps) as file:
    for line in file:
        if re.match(r"\S+ (prefer|bind)", line):
            for node, pages in re.findall(r" N(\d+)=(\d+)", line):
                found[int(node)] += int(pages)

total = sum(found.values())
worst = 0
for node in sorted(counted.keys() | found.keys()):
    ours, theirs = counted.get(node, 0), found[node]
    worst = max(worst, abs(ours - theirs))
    print(f"figures: node {node}: zonal {ours} pages, the kernel {theirs}")
print(f"figures: {100 * worst / total:.2f} % of {total} pages apart")
sys.exit(100 * worst > float(percent) * total)
