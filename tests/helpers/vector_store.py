"""Stores made of ready vectors: what a search is tested on without media files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders import load_encoder
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import SegmentOf
from bindsearch.storage.batch import StagedBatch, StagedItem
from bindsearch.storage.file_state import FileState
from bindsearch.storage.session import open_writer
from bindsearch.types import Metadata, Modality

ROOT = Path("/media/collection")
DIM = 64


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows (n, d) of unit length that fp16 keeps as they are."""
    rows = np.asarray(rows, np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def gap_vectors(rng: np.random.Generator, counts: Mapping[str, int], dim: int = DIM) -> dict[str, NDArray[np.float32]]:
    """Vectors of several modalities in clusters behind a gap: the n-th of each have the same shared content.

    Means and clusters are the same ones in every call.
    """
    space = np.random.default_rng(0)
    means = {modality.value: space.standard_normal(dim) for modality in Modality}
    centres = space.standard_normal((20, dim))
    shared = rng.standard_normal((max(counts.values()), dim))
    vectors = {}
    for modality, n in counts.items():
        own = 0.6 * rng.standard_normal((n, dim)) + 0.5 * centres[rng.integers(0, 20, n)]
        vectors[modality] = unit(0.8 * means[modality] + 0.7 * shared[:n] + own)
    return vectors


def write_items(
    store: Path,
    vectors: Mapping[str, NDArray[np.float32]],
    *,
    columns: Sequence[str | None] | None = None,
    metadata: Sequence[Metadata] | None = None,
    first: int = 0,
    remove: Sequence[int] = (),
    batch: int = 100_000,
) -> None:
    """Add an item of one segment for each vector, named <modality>/<number>, counted from `first`; remove by id."""
    with open_writer(store, load_encoder("null"), DecodeOptions()) as (_, catalog, writer):
        known = {root: key for key, root in catalog.collections().items()}
        collection = known.get(ROOT) or catalog.add_collection(ROOT)
        staged = StagedBatch(removed=list(remove))
        for modality, rows in vectors.items():
            for number, row in enumerate(rows, start=first):
                segment = SegmentOf(Modality(modality), row, None, None, None)
                staged.items.append(
                    StagedItem(
                        item_id=None,
                        collection_id=collection,
                        rel_path=f"{modality}/{number}",
                        modality=Modality(modality),
                        state=FileState(number, 1_700_000_000_000_000_000 + number, 0),
                        content_hash=f"{modality}-{number}",
                        fingerprint="",
                        segments=(segment,),
                        columns=None if columns is None else columns[number - first],
                        metadata=Metadata() if metadata is None else metadata[number - first],
                    )
                )
                if len(staged.items) >= batch:
                    writer.commit(staged)
                    staged = StagedBatch()
        if not staged.is_empty:
            writer.commit(staged)


def write_near_and_far(store: Path, kept: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Write 30,000 images, those nearest to four queries labelled "near", a share of `kept` labelled "far".

    Returns:
        The queries, float32 (4, d), and the numbers of the ten images nearest to each of those labelled "far".
    """
    rows = gap_vectors(np.random.default_rng(5), {"image": 30_000})["image"]
    asked = gap_vectors(np.random.default_rng(6), {"image": 4})["image"]
    cosines = asked @ rows.T
    is_far = cosines.max(axis=0) <= np.quantile(cosines.max(axis=0), kept)
    columns = [json.dumps({"label": "far" if far else "near"}) for far in is_far.tolist()]
    write_items(store, {"image": rows}, columns=columns)
    return asked, np.argsort(-np.where(is_far, cosines, -2), axis=1)[:, :10]
