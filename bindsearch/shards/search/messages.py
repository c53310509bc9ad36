"""Requests of a router to shards, and their replies: plain data and arrays, which can be sent between processes.

Letters: m candidates, d dimensions. Ids and rows are those of the shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bindsearch.search.plan import PartitionRun, Plan, WordRun
from bindsearch.search.prepare import PreparedQuery, QueryItems, SameContent
from bindsearch.search.scoring.scores import PartitionScale, Scored
from bindsearch.search.words.matches import WordCounts
from bindsearch.storage.config import StoreConfig
from bindsearch.storage.snapshot import SegmentFacts
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Stale(NamedTuple):
    """Reply of a shard that has published another generation than the router knows.

    Attributes:
        generation: Number of its newest generation.
    """

    generation: int


class ModalitySummary(NamedTuple):
    """Vectors of one modality in a shard.

    Attributes:
        n: Number of vectors that `mu` was computed from, or estimated for.
        mu: Their mean: float32 (d,).
        live_rows: Number of vectors that a segment refers to.
    """

    n: int
    mu: NDArray[np.float32]
    live_rows: int


@dataclass(frozen=True)
class Summary:
    """State of a shard's newest generation.

    Attributes:
        generation: Number of the generation.
        config: Configuration of the shard.
        roots: Root folders of its collections.
        modalities: Its vectors by modality.
        problems: What is wrong with its files, or left out.
    """

    generation: int
    config: StoreConfig
    roots: tuple[Path, ...]
    modalities: Mapping[Modality, ModalitySummary]
    problems: tuple[str, ...]


class SampleRequest(NamedTuple):
    """Request for a sample of vectors.

    Attributes:
        generation: Number of the generation.
        sizes: Number of vectors by modality.
    """

    generation: int
    sizes: Mapping[Modality, int]


class Sample(NamedTuple):
    """Sample of the vectors of one modality.

    Attributes:
        vectors: fp16 (m, d).
        items: Item of each: int64 (m,).
    """

    vectors: NDArray[np.float16]
    items: NDArray[np.int64]


@dataclass(frozen=True)
class PrepareRequest:
    """Request for what the scales of queries depend on.

    Attributes:
        generation: Number of the generation.
        queries: Queries with the same targets and filter.
    """

    generation: int
    queries: tuple[PreparedQuery, ...]


class TargetPart(NamedTuple):
    """One target partition of a shard under a filter.

    Attributes:
        items: Number of its items.
        live_rows: Number of its live rows.
        matching_rows: Number of those that match the filter.
        moments: Mean and variance of the cosine with each query; empty if no query has a vector.
    """

    items: int
    live_rows: int
    matching_rows: int
    moments: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PreparedPart:
    """Reply to PrepareRequest.

    Attributes:
        targets: The target partitions.
        words: How common the words of each query are; None if words are not searched.
        same_content: Items with the content of the file of each term, by query.
    """

    targets: Mapping[Modality, TargetPart]
    words: tuple[WordCounts | None, ...]
    same_content: tuple[tuple[SameContent, ...], ...]


@dataclass(frozen=True)
class PartSearch:
    """A query as a shard searches it.

    Attributes:
        prepared: The query, with ids of items of the shard.
        items: Items of the shard that are excluded, and that certainly match.
        scales: Scale of each target partition over all shards.
        words: How common the words are over all shards.
        spare: Number of further items that are ranked; None: as planned.
    """

    prepared: PreparedQuery
    items: QueryItems
    scales: Mapping[Modality, PartitionScale]
    words: WordCounts | None
    spare: int | None = None


@dataclass(frozen=True)
class SearchRequest:
    """Request for the best candidates.

    Attributes:
        generation: Number of the generation.
        searches: Queries with the same targets and filter.
        has_copies: Modalities whose copies are recognised by their cosine.
        shards: Number of shards.
    """

    generation: int
    searches: tuple[PartSearch, ...]
    has_copies: frozenset[Modality]
    shards: int


@dataclass(frozen=True)
class FoundPart:
    """Best candidates of a shard for one query.

    Attributes:
        plan: Plan of the shard.
        runs: Measurements of each partition.
        words: Measurements of searching words; None if they were not searched.
        scored: The candidates, the best segment of each item; None: there are none.
    """

    plan: Plan
    runs: tuple[PartitionRun, ...]
    words: WordRun | None
    scored: Scored | None


@dataclass(frozen=True)
class DetailsRequest:
    """Request for vectors and metadata of candidates.

    Attributes:
        generation: Number of the generation.
        modalities: Modality of the partition of each: m of them.
        rows: Row of its vector in the partition: int64 (m,).
        segment_rows: Row of its segment in the snapshot: int64 (m,).
        with_vectors: Whether vectors are wanted.
    """

    generation: int
    modalities: tuple[Modality, ...]
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    with_vectors: bool


@dataclass(frozen=True)
class Details:
    """Reply to DetailsRequest.

    Attributes:
        vectors: fp16 (m, d); (0, d) if they are not wanted.
        facts: Metadata of each candidate.
        hashes: Content hash of the item of each; "" if it is unknown.
    """

    vectors: NDArray[np.float16]
    facts: tuple[SegmentFacts, ...]
    hashes: tuple[str, ...]
