"""The engine: a store filled in bulk through the writer, and searched through the public API."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import synthetic
from search_by_hand import HandSetting
from search_data import LABELS, Dataset, K
from search_timing import Ask, Contender

import bindsearch as bs
from bindsearch.indexes.types import IndexSettings
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DecodeHints, Media, SegmentOf
from bindsearch.search.engine import find_candidates, rank
from bindsearch.search.filter import make_filter
from bindsearch.search.plan import Plan, PlanFacts, Strategy
from bindsearch.search.planner import make_plan
from bindsearch.search.query import Query, make_query
from bindsearch.storage.batch import StagedBatch, StagedItem
from bindsearch.storage.file_state import FileState
from bindsearch.storage.session import open_writer
from bindsearch.types import Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_ROWS = 32768
CAPTION_BLOCK = 1000
"""The block of events that captions are embedded as: disjoint from stored events and queries."""
EXTENSIONS = {"text": "txt", "image": "jpg", "audio": "wav", "depth": "png", "thermal": "png", "imu": "csv"}
SEGMENT_S = {"audio": 2.0, "imu": 5.0}
YEAR_2020_NS = 1_577_836_800 * 10**9
DAY_NS = 86_400 * 10**9

SMALL, RECALL_SMALL = 200_000, 0.99
"""Up to this many vectors, this recall is required and set (`--recall`); above, the default."""


@dataclass(frozen=True)
class BuildFigures:
    """Cost of creating a store: seconds of committing (and those of a core), vectors a second, bytes on disk."""

    vectors: int
    commit_s: float
    commit_core_s: float
    vectors_per_s: float
    optimize_s: float
    bytes_on_disk: int


class SyntheticEncoder:
    """Stands in for the encoder of the vectors; it embeds texts only, each as some event."""

    name = "synthetic"
    digest = "0"
    max_tokens = 77
    wants = DecodeHints(picture_side_px=224, frames_per_s=1.0)
    options: Mapping[str, str | int | float | bool] = {}
    modalities = frozenset(Modality(name) for name in synthetic.SHARES)
    temperatures: Mapping[Modality, float] = dict.fromkeys(modalities, 1.0)

    def __init__(self, dim: int = 1024) -> None:
        """Create an encoder of `dim` dimensions."""
        self.dim = dim

    def count_tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return a number that represents the words: int64 (1,)."""
        return np.array([zlib.crc32(repr(media).encode()) % synthetic.BLOCK])

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the same as `encode`: temperatures are 1."""
        return self.encode(modality, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors of the events that `prepare` chose: float32 (n, d)."""
        rows = synthetic.block(synthetic.make_space(self.dim), modality.value, CAPTION_BLOCK).astype(np.float32)
        chosen = rows[np.concatenate([*prepared, np.zeros(0, np.int64)]).astype(np.int64)]
        return np.asarray(chosen / np.linalg.norm(chosen, axis=1, keepdims=True), np.float32)


def fill_store(store_path: Path, data: Dataset, settings: IndexSettings | None = None) -> BuildFigures:
    """Commit all vectors in batches, as `index` does once they are embedded, then build the indexes."""
    if settings is None and data.n <= SMALL:
        settings = IndexSettings(recall=RECALL_SMALL)
    encoder = SyntheticEncoder(next(iter(data.vectors.values())).shape[1])
    started, started_core = time.perf_counter(), time.process_time()
    commit_vectors(store_path, data, encoder)
    committed, committed_core = time.perf_counter(), time.process_time()
    with bs.connect(store_path, encoder=encoder) as store:
        store.optimize(index_settings=settings)
    done = time.perf_counter()
    size = sum(path.stat().st_size for path in store_path.rglob("*") if path.is_file())
    return BuildFigures(
        vectors=data.n,
        commit_s=committed - started,
        commit_core_s=committed_core - started_core,
        vectors_per_s=data.n / (committed - started),
        optimize_s=done - committed,
        bytes_on_disk=size,
    )


def commit_vectors(
    store_path: Path, data: Dataset, encoder: SyntheticEncoder, keeps: Callable[[str], bool] = bool
) -> None:
    """Commit the vectors in batches, those of the files whose path relative to the collection is kept."""
    with open_writer(store_path, encoder, DecodeOptions()) as (_, catalog, writer):
        collection = catalog.add_collection(store_path / "media")
        for modality in data.vectors:
            for batch in _batches(data, modality, collection):
                writer.commit(replace(batch, items=[item for item in batch.items if keeps(item.rel_path)]))


class Engine:
    """An open store, searched with precomputed vectors."""

    def __init__(self, place: Path) -> None:
        """Open a store; its encoder is not needed."""
        self.store = bs.connect(place)

    def contender(
        self,
        to: str | None = None,
        ranking: str = "probability",
        where: str | None = None,
        strategy: str | None = None,
    ) -> Contender:
        """Return one kind of search, all modalities for `to` None; `strategy` forces a way to search the partitions."""
        store = self.store

        def planned(query: NDArray[np.float32]) -> list[Hit]:
            return store.search(query, to=to, k=K, ranking=ranking, filter=where)

        ask = planned if strategy is None else self._forced(_query(to, ranking, where), Strategy(strategy))
        setting = strategy or (ranking if to is None else "as planned")
        return Contender("bindsearch", setting, ask, rows_of if to else keys_of)

    def hand_setting(self, query: NDArray[np.float32], target: str) -> HandSetting | None:
        """Return probes and candidates of the engine's own plan for a query, None if it uses no index."""
        prepared = self.store._prepare_vector(query, _query(target), None)
        (step,) = self.store._opened().plan(prepared).partitions
        return HandSetting(step.probes, step.rerank) if step.strategy is Strategy.PROBE else None

    def _forced(self, query: Query, strategy: Strategy) -> Ask:
        """Return the same search by a forced plan, made once: the engine caches its plans too."""
        store = self.store
        plans: list[Plan] = []

        def ask(vector: NDArray[np.float32]) -> list[Hit]:
            search: Any = store._opened()
            prepared = store._prepare_vector(vector, query, None)
            batch = search.batch([prepared])
            if not plans:
                facts = tuple(target.partition.facts for target in batch.targets.values())
                plans.append(make_plan(query, PlanFacts(facts, costs=search.costs), force=strategy))
            queries = [one._replace(plan=plan) for one, plan in zip(batch.queries, plans, strict=True)]
            (found,) = find_candidates(batch := batch._replace(queries=queries))
            result = rank(batch, queries[0], found)
            return result.hits

        return ask


def _query(to: str | None, ranking: str = "probability", where: str | None = None) -> Query:
    return make_query("vector", to=to, k=K, ranking=ranking, filter=make_filter(where=where))


def rows_of(hits: Sequence[Hit]) -> list[int]:
    """Return the rows of hits."""
    return [int(hit.path.stem) for hit in hits]


def keys_of(hits: Sequence[Hit]) -> list[int]:
    """Return the rows of hits of several modalities, as numbers that distinguish modalities."""
    return [key(hit.modality.value, row) for hit, row in zip(hits, rows_of(hits), strict=True)]


def key(modality: str, row: int) -> int:
    """Return one number for a row of a modality."""
    return list(synthetic.SHARES).index(modality) * 10**9 + row


def _batches(data: Dataset, modality: str, collection: int) -> Iterator[StagedBatch]:
    rows = data.vectors[modality]
    for start in range(0, len(rows), BATCH_ROWS):
        block = rows[start : start + BATCH_ROWS].astype(np.float32)
        labels = data.labels[modality][start : start + BATCH_ROWS].tolist()
        chances = data.chances[modality][start : start + BATCH_ROWS].tolist()
        yield StagedBatch(
            items=[
                _item(modality, collection, start + at, embedding, {"label": LABELS[label], "chance": chance})
                for at, (embedding, label, chance) in enumerate(zip(block, labels, chances, strict=True))
            ]
        )


def _item(
    modality: str, collection: int, row: int, embedding: NDArray[np.float32], columns: Mapping[str, str | float]
) -> StagedItem:
    """Return a generated file: 1,000 per folder, with a size and a day of its own."""
    length_s = SEGMENT_S.get(modality)
    return StagedItem(
        item_id=None,
        collection_id=collection,
        rel_path=f"{modality}/{row // 1000:04d}/{row:07d}.{EXTENSIONS[modality]}",
        modality=Modality(modality),
        state=FileState(10_000 + row * 7919 % 4_000_000, YEAR_2020_NS + row % 2000 * DAY_NS, 0),
        content_hash=f"{key(modality, row):032x}",
        fingerprint="synthetic",
        segments=(
            SegmentOf(
                modality=Modality(modality),
                payload=embedding,
                start_s=None if length_s is None else 0.0,
                end_s=length_s,
                text=f"text number {row}" if modality == "text" else None,
            ),
        ),
        columns=json.dumps(columns),
    )
