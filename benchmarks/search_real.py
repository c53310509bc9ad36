"""Real media embedded with `mini`: recall of the index against exact search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from search_cases import Bench
from search_data import K
from search_engine import Engine
from search_timing import time_in_turn

import bindsearch as bs
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.storage.vector_files import VECTORS, open_vectors
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ROWS = 100
"""Modalities with fewer segments are skipped: they are too few for an index."""
QUERIES = 200


def real_embeddings(bench: Bench, media: Path) -> None:
    """Index `media`, force an index of each partition, and compare it with an exact search for every pair."""
    store_path = bench.folder / "real"
    with bs.connect(store_path, encoder="mini") as store:
        report = store.index(media)
        store.optimize(index_settings=IndexSettings(form=IndexForm.IVF_PQ), force=True)
        counts = {str(name): n for name, n in store.status().segments.items() if n >= LEAST_ROWS}
        dim = store.config.dim
    bench.note(f"real media: {report.added:,} items with mini, segments {counts}, indexes forced")
    engine = Engine(store_path)
    for source in counts:
        queries = stored_vectors(store_path, dim, Modality(source))
        for target in counts:
            compare(bench, engine, f"mini: {source} -> {target}", queries, target)


def compare(bench: Bench, engine: Engine, case: str, queries: NDArray[np.float32], target: str) -> None:
    """Measure recall over items of the index against a forced scan."""
    indexed, exact = (
        replace(engine.contender(to=target, strategy=strategy), rows=lambda hits: [hit.item_id for hit in hits])
        for strategy in ("probe", "scan")
    )
    results = [exact.rows(exact.ask(query)) for query in queries]
    truth = np.array([[*items, *[-1] * (K - len(items))] for items in results])
    timed, _ = bench.note_times(case, time_in_turn([indexed, exact], queries, truth, 1))
    bench.ask(f"{case}: recall@10 of the index", timed.recall, 0.98, "", at_most=False)


def stored_vectors(store_path: Path, dim: int, modality: Modality) -> NDArray[np.float32]:
    """Return an even sample of the store's vectors of a modality: float32 (nq, d)."""
    files = sorted((store_path / VECTORS / modality.value).glob("*.arrow"))
    rows = np.concatenate([open_vectors(path, dim).embeddings for path in files]).astype(np.float32)
    chosen = np.linspace(0, len(rows) - 1, min(QUERIES, len(rows))).astype(np.int64)
    return rows[chosen]
