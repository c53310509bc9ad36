"""The map of a collection: its segments in the plane, near each other where their vectors are, and the modality gap."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from bindsearch.arguments import to_absolute, to_number
from bindsearch.operations.exchange.exchange_format import open_generation
from bindsearch.types import Modality
from bindsearch.views.picture_cache import CACHE, keep, read_kept
from bindsearch.views.projection import project

if TYPE_CHECKING:
    from bindsearch.search.generation import Generation
    from bindsearch.types import PathLike

MIN_POINTS, MAX_POINTS = 10, 20_000
DEFAULT_POINTS = 5000
MAX_CACHE_BYTES = 32 << 20
VERSION = 1
"""Number of the way in which maps are made; maps of another one are not used."""


def collection_map(store: PathLike, max_points: int = DEFAULT_POINTS) -> dict[str, Any]:
    """Return the map of a store's newest generation, from its cache if it is there.

    Args:
        store: Folder of the store, or a `Store`.
        max_points: Maximum number of points; of more segments a sample is shown (see `sampled`).

    Returns:
        Lists of equal length, an entry for each point, by modality: `x`, `y` in -1..1; `modality`, `item_id`,
        `start_s`, `end_s` (None: not a span) and `path`. Further `generation`; `segments`, the number of all; and
        `gaps`: for each two modalities `a` and `b` the `distance` of the means of their unit vectors (Liang et al.
        2022, Mind the Gap, arXiv 2203.02053).

    Raises:
        StoreNotFoundError: there is no store.
        UsageError: `max_points` is not MIN_POINTS to MAX_POINTS.
    """
    expected = f"give {MIN_POINTS} to {MAX_POINTS} points"
    max_points = round(to_number(max_points, "max_points", expected, MIN_POINTS, MAX_POINTS))
    folder = to_absolute(store)
    _, generation = open_generation(folder)
    name = xxhash.xxh3_128_hexdigest(repr((VERSION, max_points, generation.snapshot.manifest)).encode(errors="replace"))
    path = folder / CACHE / "maps" / name
    if (kept := read_kept(path)) is not None:
        found: dict[str, Any] = json.loads(kept)
        return found
    made = _made(generation, max_points)
    keep(path, json.dumps(made).encode(), MAX_CACHE_BYTES)
    return made


def _made(generation: Generation, max_points: int) -> dict[str, Any]:
    """Return the map of a generation."""
    snapshot = generation.snapshot
    segments = {modality: snapshot.partition_segments(modality) for modality in Modality}
    counts = {modality: len(found.vector_ids) for modality, found in segments.items() if len(found.vector_ids)}
    chosen = sampled(counts, max_points)
    vectors, rows = [], [np.zeros(0, np.int64)]
    for modality, places in chosen.items():
        partition = generation.partitions[modality]
        ids = segments[modality].vector_ids[places]
        vectors.append(partition.rows.embeddings(partition.rows_of_vectors(ids)))
        rows.append(segments[modality].segment_rows[places])
    points = project(np.concatenate(vectors)) if vectors else np.zeros((0, 2), np.float32)
    facts = snapshot.facts(np.concatenate(rows))
    return {
        "generation": snapshot.manifest.generation,
        "segments": sum(counts.values()),
        "x": [round(value, 4) for value in points[:, 0].tolist()],
        "y": [round(value, 4) for value in points[:, 1].tolist()],
        "modality": [fact.modality.value for fact in facts],
        "item_id": [fact.item_id for fact in facts],
        "start_s": [fact.start_s for fact in facts],
        "end_s": [fact.end_s for fact in facts],
        "path": [fact.file for fact in facts],
        "gaps": modality_gaps(dict(zip(chosen, vectors, strict=True))),
    }


def sampled(counts: Mapping[Modality, int], max_points: int) -> dict[Modality, NDArray[np.int64]]:
    """Return which segments of each modality are shown, evenly spread: int64 (m,), ascending; of all, if they fit.

    Half of the points are shared equally, so that small modalities are kept; the rest in proportion to what is left.
    """
    total = sum(counts.values())
    if total <= max_points:
        return {modality: np.arange(count) for modality, count in counts.items()}
    floors = {modality: min(count, max(1, max_points // (2 * len(counts)))) for modality, count in counts.items()}
    left = max(0, max_points - sum(floors.values()))
    beyond = {modality: count - floors[modality] for modality, count in counts.items()}
    more = {modality: left * count // sum(beyond.values()) for modality, count in beyond.items()}
    sizes = {modality: floors[modality] + more[modality] for modality in counts}
    return {modality: np.arange(size) * counts[modality] // size for modality, size in sizes.items()}


def modality_gaps(vectors: Mapping[Modality, NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Return the distance between the means of the vectors (m, d) of each two modalities."""
    means = {modality: rows.mean(axis=0) for modality, rows in vectors.items()}
    return [
        {"a": a.value, "b": b.value, "distance": round(float(np.linalg.norm(means[a] - means[b])), 4)}
        for a, b in combinations(means, 2)
    ]
