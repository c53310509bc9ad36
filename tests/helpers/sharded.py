"""What sharded stores and stores hold, in a form in which they can be compared."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import bindsearch as bs
from bindsearch.ingest.left_out import read_left_out
from bindsearch.operations.exchange.exchange_format import open_generation
from bindsearch.operations.index import IndexRequest
from bindsearch.reports import IndexReport
from bindsearch.search.generation import Generation
from bindsearch.shards.index import ShardOptions, index_shards
from bindsearch.shards.layout import SHARDS_FILE, new_shard_map, read_shard_map, shard_of, write_shard_map
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.catalog_file import CATALOG_FILE
from bindsearch.storage.session import NOTE_FILE
from bindsearch.types import DecodeIn, Hit

OPTIONS = ShardOptions(encoder="null", device="cpu", decode=DecodeIn.THREAD, workers=2)

Files = dict[str, Any]
"""What is known of each file, by its path."""


def make_shards(root: Path, n: int) -> Path:
    """Create a sharded store without content."""
    if not (root / SHARDS_FILE).exists():
        write_shard_map(root, new_shard_map(n, "2026-11-30T00:00:00Z"))
    return root


def index(root: Path, *paths: Path, options: ShardOptions = OPTIONS, **request: Any) -> IndexReport:
    """Index into a sharded store, all shards in this process."""
    return index_shards(root, paths, IndexRequest(**request), options)


def shard_paths(root: Path) -> list[Path]:
    """Return the folders of the shards that are there."""
    return [path for path in read_shard_map(root).paths(root) if (path / "store.json").exists()]


def vector_of(generation: Generation, segment: Mapping[str, Any]) -> bytes:
    """Return the bytes of the vector of a segment."""
    partition = generation.partitions[bs.Modality(segment["modality"])]
    return partition.rows.gather(partition.rows_of_vectors(np.array([segment["vector_id"]]))).tobytes()


def items_of(store: Path) -> Files:
    """Return what a store knows of each item: its row without ids, and its segments with their vectors."""
    _, generation = open_generation(store)
    snapshot = generation.snapshot
    items: Files = {}
    for row in snapshot.live_tables()[0].to_pylist():
        segments = snapshot.segments.take(snapshot.segments_of(row["item_id"])).to_pylist()
        vectors = [
            (
                segment["modality"],
                segment["start_s"],
                segment["end_s"],
                segment["text"],
                vector_of(generation, segment),
            )
            for segment in segments
        ]
        path = f"{snapshot.manifest.collections[row['collection_id']]}/{row['rel_path']}"
        kept = {name: value for name, value in row.items() if name not in ("item_id", "collection_id")}
        assert path not in items
        items[path] = (kept, sorted(vectors, key=repr))
    return items


def failures_of(store: Path) -> dict[str, str]:
    """Return the reason of each failure by path."""
    snapshot = open_generation(store)[1].snapshot
    rows = [] if snapshot.failures is None else snapshot.failures.to_pylist()
    return {f"{snapshot.manifest.collections[row['collection_id']]}/{row['rel_path']}": row["reason"] for row in rows}


def left_out_of(store: Path) -> dict[str, str]:
    """Return the reason of each file that was left out, by path."""
    roots = open_generation(store)[1].snapshot.manifest.collections
    return {
        f"{root}/{row['rel_path']}": row["reason"]
        for key, root in roots.items()
        for row in read_left_out(store, key).to_pylist()
    }


def states_of(store: Path) -> Files:
    """Return the state of each file and container by path, which tells whether it is read again."""
    with Catalog(store / CATALOG_FILE, read_only=True) as catalog:
        states: Files = {}
        for key, root in catalog.collections().items():
            known = catalog.known_files(key, ("",))
            states |= {f"{root}/{known.rel_path(row)}": known.file(row).state for row in range(known.n)}
            states |= {f"{root}/{path} (container)": state for path, state in catalog.containers(key).items()}
    return states


def union(parts: Iterable[Files]) -> Files:
    """Return the union of what shards know; each file is in one of them."""
    total: Files = {}
    for part in parts:
        assert not total.keys() & part.keys(), total.keys() & part.keys()
        total |= part
    return total


def assert_equal(root: Path, store: Path) -> None:
    """Check that a sharded store holds what a store does."""
    shards = shard_paths(root)
    for what in (items_of, failures_of, left_out_of):
        ours, single = union(map(what, shards)), what(store)
        assert ours == single, (what.__name__, {*ours.items()} ^ {*single.items()} if what is not items_of else None)


def in_other_shard(folder: Path, path: Path, n: int) -> Path:
    """Return a name in the folder of a file that belongs to another shard."""
    here = shard_of(path.relative_to(folder).as_posix(), n)
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(100))
    return next(name for name in names if shard_of(name.relative_to(folder).as_posix(), n) != here)


def shown(hits: Sequence[Hit]) -> list[tuple[object, ...]]:
    """Return what a list shows, without ids; copies are interchangeable with what they are copies of."""
    return [
        (
            sorted(map(str, (hit.path, *hit.copies))),
            hit.modality,
            round(hit.cosine, 4),
            round(hit.probability, 4),
            round(hit.z, 3),
            hit.text,
            hit.start_s,
            tuple(round(share, 4) for share in hit.contributions),
        )
        for hit in hits
    ]


def is_same(*lists: Sequence[Hit]) -> bool:
    """Return whether two lists have the same hits in the same order, with numbers that differ by rounding only."""
    shown = [[(hit.path, hit.copies, hit.modality, hit.text, hit.start_s, hit.end_s) for hit in hits] for hits in lists]
    first, second = (
        [value for hit in hits for value in (hit.cosine, hit.probability, hit.z / 10, *hit.contributions)]
        for hits in lists
    )
    return shown[0] == shown[1] and np.allclose(first, second, rtol=0, atol=1e-4)


def writers(root: Path) -> list[int]:
    """Return the processes that write to shards now."""
    found = []
    for folder in read_shard_map(root).paths(root):
        with suppress(OSError, ValueError):
            pid = json.loads((folder / NOTE_FILE).read_text())["pid"]
            os.kill(pid, 0)
            found.append(pid)
    return found


def counts(report: IndexReport) -> dict[str, Any]:
    """Return the numbers of a report that are the same for a sharded store."""
    return {
        "items": dict(report.items),
        "skipped": dict(report.skipped),
        "failures": Counter((failure.path, failure.reason) for failure in report.failures),
        "empty": Counter(failure.path for failure in report.without_content),
        **{name: getattr(report, name) for name in ("added", "changed", "unchanged", "removed", "moved")},
    }
