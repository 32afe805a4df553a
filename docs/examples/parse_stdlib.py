"""Parses Python's standard library in threads.

Prints what it found and the memory it took, so that runs with and without zonal can be compared.
"""

import ast
import hashlib
import pathlib
import resource
import sys
import sysconfig
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import local

MAX_FILES = 400
cache = local()


def census(path):
    """Counts the syntax nodes of one file and prints the tree back to a string."""
    source = path.read_bytes()
    tree = ast.parse(source)
    # Each thread keeps its last tree, so that memory outlives the call that made it.
    cache.tree = tree
    nodes = Counter(type(node).__name__ for node in ast.walk(tree))
    return nodes, hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def main():
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "dist-packages", "lib2to3", "test"}
    files = [p for p in sorted(root.rglob("*.py")) if not skipped & set(p.parts)][:MAX_FILES]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(census, files))
    total = sum((nodes for nodes, _ in results), Counter())
    digest = hashlib.sha256("".join(text for _, text in results).encode()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    version = sys.version.split()[0]
    print(f"Python {version}: {len(files)} files, {total.total()} syntax nodes, digest {digest[:16]}")
    print(f"most common: {', '.join(f'{name} {n}' for name, n in total.most_common(5))}")
    print(f"peak resident memory: {peak} MiB")


main()
