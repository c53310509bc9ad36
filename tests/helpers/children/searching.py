"""Say "ready" after two searches, search on until the input ends, then print what was seen: a JSON list a search.

python searching.py STORE
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path
from typing import NamedTuple

import bindsearch as bs

K = 1000
"""More than there are items."""


class SearchObservation(NamedTuple):
    """Observation of a search.

    The generations before and after it, the number of items it found, and the time this thread worked on it, without
    the time it waited for others on a busy machine.
    """

    before: int
    after: int
    hits: int
    worked_s: float


def look(store: bs.Store, n: int) -> SearchObservation:
    """Search for all texts, every other time with a filter that all of them pass."""
    started = time.thread_time()
    before = store._reader.current().manifest.generation
    hits = store.search("text number 7", to="text", k=K, filter="path like '%.txt'" if n % 2 else None)
    after = store._reader.current().manifest.generation
    assert len({hit.item_id for hit in hits}) == len(hits)
    return SearchObservation(before, after, len(hits), time.thread_time() - started)


def main() -> None:
    looks: list[SearchObservation] = []
    with bs.connect(Path(sys.argv[1]), encoder="null") as store:
        look(store, 0)
        look(store, 1)  # all modules are loaded
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], 0.005)[0]:
            looks.append(look(store, len(looks)))
    sys.stdout.write("".join(json.dumps(seen) + "\n" for seen in looks))


if __name__ == "__main__":
    main()
