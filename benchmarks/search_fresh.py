"""Measurements in a fresh process: time from opening a store to its first answer, and its memory afterwards.

    python benchmarks/search_fresh.py open|memory STORE QUERIES.npz

It is started by search.py and prints JSON. `open`: every module of the package is imported before the clock starts.
`memory`: the resident size is the Rss of all mappings in /proc/self/smaps (RssAnon + RssFile) except those of the
store's rows, which are mapped (vector files, and the snapshot's items and segments; what of them counts as resident
is up to the page cache's folios), read before the store is opened and again after every pair of modalities was
searched; and the same with the snapshot's.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
import time
from pathlib import Path

import numpy as np

HEAVY = ("faiss", "duckdb", "pyarrow", "pyarrow.compute", "pyarrow.ipc")
SEARCHES_A_PAIR = 10
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$")


def main() -> int:
    """Run a measurement and print it."""
    what, store, queries = sys.argv[1:]
    store_path = Path(store).resolve()
    vectors = dict(np.load(queries))
    import_all()
    seen = time_to_first_answer(store_path, vectors) if what == "open" else memory(store_path, vectors)
    print(json.dumps(seen))
    return 0


def import_all() -> None:
    """Import what a search needs, so that it is neither timed nor counted."""
    import bindsearch
    import bindsearch.indexes
    import bindsearch.operations
    import bindsearch.search
    import bindsearch.storage

    for name in HEAVY:
        importlib.import_module(name)
    for package in (
        bindsearch,
        bindsearch.indexes,
        bindsearch.operations,
        bindsearch.search,
        bindsearch.storage,
    ):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def time_to_first_answer(store_path: Path, queries: dict[str, np.ndarray]) -> dict[str, float]:
    """Return milliseconds from `connect` to the hits of one text -> image search."""
    import bindsearch as bs

    started = time.perf_counter()
    store = bs.connect(store_path)
    hits = store.search(queries["text"][0], to="image", k=10)
    return {"ms": 1000 * (time.perf_counter() - started), "hits": len(hits)}


def memory(store_path: Path, queries: dict[str, np.ndarray]) -> dict[str, float]:
    """Return bytes resident before opening, after searching every pair, and after searching all modalities at once."""
    import bindsearch as bs

    rows = (store_path / "vectors", store_path / "snapshots")
    before, before_all = resident_bytes(*rows), resident_bytes(rows[0])
    store = bs.connect(store_path)
    for vectors in queries.values():
        for target in queries:
            for query in vectors[:SEARCHES_A_PAIR]:
                store.search(query, to=target, k=10)
    pairs, pairs_all = resident_bytes(*rows), resident_bytes(rows[0])
    for vectors in queries.values():
        for query in vectors[:SEARCHES_A_PAIR]:
            store.search(query, k=10)
    merged = resident_bytes(*rows)
    return {"pairs": pairs - before, "merged": merged - before, "pairs_with_snapshot": pairs_all - before_all}


def resident_bytes(*without: Path) -> int:
    """Return Rss over all mappings except those of files below any of the folders `without`."""
    left_out = tuple(f"{folder}/" for folder in without)
    total, counts = 0, True
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := _MAPPING.match(line):
            counts = not mapping.group(1).startswith(left_out)
        elif counts and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


if __name__ == "__main__":
    sys.exit(main())
