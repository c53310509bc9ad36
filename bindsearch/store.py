"""Store: the one object that ties encoder, catalog, snapshot and partitions together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.environment import check_libraries, installation_faults
from bindsearch.errors import UsageError, VectorError
from bindsearch.indexes.cost_model import costs_path, load_costs
from bindsearch.indexes.types import UnitCosts
from bindsearch.operations.writing import (
    decode_options,
)
from bindsearch.results import Answer, AnsweredTerm, Status, store_status
from bindsearch.search.engine import NO_ITEMS, Asked, Machine, Terms, ask, labels_of, left_out, plan_query, run
from bindsearch.search.executor import QueryVector
from bindsearch.search.filter import EVERYTHING, Filter, make_filter
from bindsearch.search.generation import Generation
from bindsearch.search.plan import Plan, PlanRun
from bindsearch.search.query import (
    Query,
    Rank,
    Searchable,
    make_query,
    resolve_weights,
    terms_of,
)
from bindsearch.search.query_encoding import encode_terms, find_source
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.config import default_store
from bindsearch.types import Hit, Modality
from bindsearch.vectors import l2_normalize
from bindsearch.writable import PathLike, WritableStore

if TYPE_CHECKING:
    from numpy.typing import NDArray


SEARCH_LIBRARIES = ("faiss",)
"""Modules that every search imports; terms import those of the encoder."""


class Store(WritableStore):
    """A store on disk. Searching needs no lock and sees whole batches only; one process at a time may index.

    Use it as a context manager or call `close`.
    """

    @cached_property
    def _workers(self) -> Workers:
        return Workers()

    def search(
        self,
        query: Searchable | NDArray[np.floating],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        rank: str | Rank = Rank.CALIBRATED,
        filter: Filter | str | None = None,
        diverse: float = 0.0,
        source: str | Modality | None = None,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[Hit]:
        """The k items nearest to a text, a term, a composition or a ready unit vector (d,); see `answer`.

        `filter`: an expression such as "duration_s > 3", or what `bs.filters` makes. `diverse` in 0..1: how much
        likeness to the hits before counts against a hit. `source`: the modality a ready vector was made from.
        """
        found = self.search_many(
            [query],
            to=to,
            k=k,
            rank=rank,
            filter=filter,
            diverse=diverse,
            source=source,
            include_query=include_query,
            imu_rate_hz=imu_rate_hz,
        )
        return found[0]

    @installation_faults()
    def search_many(
        self,
        queries: Sequence[Searchable | NDArray[np.floating]],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        rank: str | Rank = Rank.CALIBRATED,
        filter: Filter | str | None = None,
        diverse: float = 0.0,
        source: str | Modality | None = None,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[list[Hit]]:
        """`search` for several queries, one list of hits each; texts are encoded and indexes searched together."""
        check_libraries(SEARCH_LIBRARIES)
        if isinstance(queries, str):
            raise UsageError(f"{queries!r} is one query: give a list of them, or ask `search`")
        wanted = make_filter(where=filter) if isinstance(filter, str) else (filter or EVERYTHING)
        known = _known_source(source)
        generation = self._reader.current()
        shared = make_query(
            "vector", to=to, k=k, rank=rank, include_query=include_query, filter=wanted, diverse=diverse
        )
        written = [replace(shared, terms=terms_of(query)) for query in queries if not isinstance(query, np.ndarray)]
        encoded = iter(self._encode(generation, written, imu_rate_hz))
        asked = [
            self._ready(query, shared, known) if isinstance(query, np.ndarray) else next(encoded) for query in queries
        ]
        plans = [plan_query(generation, one, self._machine) for one in asked]
        return [result.hits for result in run(generation, asked, plans, self._workers)]

    @installation_faults()
    def answer(self, query: Query, *, imu_rate_hz: float | None = None) -> Answer:
        """Answer a query: encode its terms, compose them, search each target modality, rank the whole.

        Raises:
            UsageError: a term's file or item does not exist or cannot be used, the terms cancel, or the filter cannot
                be used.
            StoreNotFoundError: there is no store.
        """
        started = time.perf_counter()
        check_libraries(SEARCH_LIBRARIES)
        generation = self._reader.current()
        (asked,) = self._encode(generation, [query], imu_rate_hz)
        encoded = time.perf_counter()
        plan = plan_query(generation, asked, self._machine)
        planned = time.perf_counter()
        (result,) = run(generation, [asked], [plan], self._workers)
        done = time.perf_counter()
        terms = tuple(
            AnsweredTerm(step.source, term.source, step.weight)
            for step, term in zip(plan.terms, query.terms, strict=True)
            if step.source is not None
        )
        ran = PlanRun(
            partitions=result.partitions,
            encode_ms=1000 * (encoded - started),
            filter_ms=1000 * (planned - encoded),
            merge_ms=result.merge_ms,
            facts_ms=result.facts_ms,
            total_ms=1000 * (done - started),
        )
        troubles = [generation.partitions[step.modality].trouble for step in plan.partitions]
        notices = tuple(f"scanned exactly instead: {trouble}" for trouble in troubles if trouble is not None)
        return Answer(terms, query.to, query.k, ran.total_ms, tuple(result.hits), plan, ran, notices)

    def explain(self, query: Query) -> Plan:
        """The plan of a query: nothing is encoded and nothing searched; its filter is evaluated.

        Raises:
            UsageError: as `answer`.
            StoreNotFoundError: there is no store.
        """
        generation = self._reader.current()
        found = [find_source(term, generation.snapshot) for term in query.terms]
        terms = Terms(
            sources=tuple(source.modality for source in found),
            labels=labels_of(query),
            weights=resolve_weights(query.terms),
            loads=tuple(source.load for source in found),
        )
        hashes = [source.content_hash for source in found if source.content_hash is not None]
        excluded, rows = left_out(generation, query, hashes)
        return plan_query(generation, Asked(query, terms, None, excluded, rows), self._machine)

    def status(self) -> Status:
        """What the store holds in its newest generation.

        Raises:
            StoreNotFoundError: there is no store.
        """
        return store_status(self.path, self.config, self._reader.current())

    @property
    def _machine(self) -> Machine:
        return Machine(self._costs, self._gpus.notes)

    @cached_property
    def _costs(self) -> UnitCosts:
        """As measured here when an index was last made; the defaults before that."""
        return load_costs(costs_path()) or UnitCosts()

    def _encode(self, generation: Generation, queries: Sequence[Query], imu_rate_hz: float | None) -> list[Asked]:
        """Queries with their terms encoded, all at once."""
        if not queries:
            return []
        everything = [term for query in queries for term in query.terms]
        options = decode_options(self.config, imu_rate_hz)
        encoded = iter(
            encode_terms(everything, lambda: self.encoder, options, generation.snapshot, generation.partitions)
        )
        return [ask(generation, query, [next(encoded) for _ in query.terms]) for query in queries]

    def _ready(self, vector: NDArray[np.floating], query: Query, source: Modality | None) -> Asked:
        dim = self.config.dim
        if vector.shape != (dim,):
            raise VectorError(f"the query vector has shape {vector.shape}, the store needs ({dim},)")
        unit = l2_normalize(vector)
        return Asked(query, Terms(sources=(source,)), QueryVector(unit, unit[None]), NO_ITEMS)


def _known_source(source: str | Modality | None) -> Modality | None:
    if source is None:
        return None
    if source not in list(Modality):
        raise UsageError(f"unknown modality {source!r} of a ready vector: choose one of {', '.join(Modality)}")
    return Modality(source)


def connect(
    path: PathLike | None = None,
    *,
    encoder: str | Encoder | None = None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str = "auto",
    compile: bool = False,
    segment_s: Mapping[str, float] | None = None,
) -> Store:
    """Open the store at `path` (default: $BINDSEARCH_STORE, else the user's data directory), made by the first `index`.

    `encoder`: a name or an Encoder; left out, the one the store was made with, `mini` for a new store.
    `encoder_options`: preprocessing options of that encoder; those left out are as the store was made with.
    `device`: where towers and indexes run: "auto" (GPUs where there are some, else the CPU), "cpu", "cuda", "cuda:1";
    towers take the first GPU, indexes all. `compile`: let torch.compile fuse towers first, which pays for long runs
    on a GPU.
    `segment_s`: lengths of segments in a new store, such as {"audio": 5.0}; for audio, video (10 s) and imu (5 s).

    Raises:
        UsageError: the path is empty, or a segment length is not one.
    """
    if path is not None and not os.fspath(path):
        raise UsageError("the store's path is empty: name a folder")
    place = default_store() if path is None else Path(path).expanduser()
    return Store(
        place,
        encoder=encoder,
        encoder_options=encoder_options,
        device=device,
        compile=compile,
        segment_s=segment_s,
    )
