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
    """Reply of a shard that has published another generation than the router knows."""

    generation: int  # number of its newest generation


class ModalitySummary(NamedTuple):
    """Vectors of one modality in a shard."""

    n: int  # number of vectors that `mu` was computed from, or estimated for
    mu: NDArray[np.float32]  # their mean: float32 (d,)
    live_rows: int  # number of vectors that a segment refers to


@dataclass(frozen=True)
class Summary:
    """State of a shard's newest generation."""

    generation: int
    config: StoreConfig
    roots: tuple[Path, ...]
    modalities: Mapping[Modality, ModalitySummary]
    problems: tuple[str, ...]  # what is wrong with its files, or left out


class SampleRequest(NamedTuple):
    """Request for a sample of vectors."""

    generation: int
    sizes: Mapping[Modality, int]


class Sample(NamedTuple):
    """Sample of the vectors of one modality."""

    vectors: NDArray[np.float16]  # fp16 (m, d)
    items: NDArray[np.int64]  # item of each: int64 (m,)


@dataclass(frozen=True)
class PrepareRequest:
    """Request for what the scales of queries depend on."""

    generation: int
    queries: tuple[PreparedQuery, ...]  # queries with the same targets and filter


class TargetPart(NamedTuple):
    """One target partition of a shard under a filter."""

    items: int
    live_rows: int
    matching_rows: int  # number of those that match the filter
    moments: tuple[tuple[float, float], ...]  # mean and variance of the cosine with each query that has a vector


@dataclass(frozen=True)
class PreparedPart:
    """Reply to PrepareRequest."""

    targets: Mapping[Modality, TargetPart]
    words: tuple[WordCounts | None, ...]  # how common the words of each query are; None if words are not searched
    same_content: tuple[tuple[SameContent, ...], ...]  # items with the content of the file of each term, by query


@dataclass(frozen=True)
class PartSearch:
    """A query as a shard searches it."""

    prepared: PreparedQuery  # the query, with ids of items of the shard
    items: QueryItems  # items of the shard that are excluded, and that certainly match
    scales: Mapping[Modality, PartitionScale]  # scale of each target partition over all shards
    words: WordCounts | None  # how common the words are over all shards
    spare: int | None = None  # number of further items that are ranked; None: as planned


@dataclass(frozen=True)
class SearchRequest:
    """Request for the best candidates."""

    generation: int
    searches: tuple[PartSearch, ...]  # queries with the same targets and filter
    has_copies: frozenset[Modality]  # modalities whose copies are recognised by their cosine
    shards: int


@dataclass(frozen=True)
class FoundPart:
    """Best candidates of a shard for one query."""

    plan: Plan
    runs: tuple[PartitionRun, ...]
    words: WordRun | None  # measurements of searching words; None if they were not searched
    scored: Scored | None  # the candidates, the best segment of each item; None: there are none


@dataclass(frozen=True)
class DetailsRequest:
    """Request for vectors and metadata of candidates."""

    generation: int
    modalities: tuple[Modality, ...]  # modality of the partition of each: m of them
    rows: NDArray[np.int64]  # row of its vector in the partition: int64 (m,)
    segment_rows: NDArray[np.int64]  # row of its segment in the snapshot: int64 (m,)
    with_vectors: bool


@dataclass(frozen=True)
class Details:
    """Reply to DetailsRequest."""

    vectors: NDArray[np.float16]  # fp16 (m, d); (0, d) if they are not wanted
    facts: tuple[SegmentFacts, ...]
    hashes: tuple[str, ...]  # content hash of the item of each; "" if it is unknown
