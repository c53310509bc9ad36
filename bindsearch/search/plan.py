"""Plans of searches as data; `explain` formats them as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from bindsearch.former_names import former_fields
from bindsearch.indexes.types import DEFAULT_RECALL, IndexForm, OperatingPoint, UnitCosts
from bindsearch.search.query import Ranking
from bindsearch.types import Modality

DIVERSITY_FACTOR = 5
"""A diverse list is selected from this many times k results."""


def rerank_depth(k: int, diversity: float) -> int:
    """Return the number of results that must be correct: k, or more to select a diverse list from."""
    return DIVERSITY_FACTOR * k if diversity else k


class Strategy(StrEnum):
    """Strategy of searching the rows of one partition; all strategies compute cosines from the fp16 rows."""

    SKIP = "skip"
    """No row can match."""
    GATHER = "gather"
    """Fetch and score each row that matches the filter."""
    SCAN = "scan"
    """Score all rows in order, skipping those excluded by a bitmap."""
    PROBE = "probe"
    """Scan codes in the nearest inverted lists with a bitmap; score the best candidates exactly."""
    PROBE_WIDE = "probe wide"
    """Probe on a GPU, where a bitmap cannot be used: fetch more candidates and filter them afterwards."""


@dataclass(frozen=True)
class IndexFacts:
    """Properties of a partition's index, for the planner.

    Attributes:
        n: Number of rows that the index covers; later rows are the tail.
        lists: Number of inverted lists (nlist).
        code_bytes: Bytes per PQ code.
        points: Measured operating points.
        device: "cpu" or "cuda:0".
        form: Form of the index. `IndexForm.EXACT` occurs on a GPU only: on the CPU, a partition of that form has no
            index and is scanned.
        recall: Target recall of the points (`IndexManifest.settings`).
    """

    n: int
    lists: int
    code_bytes: int
    points: tuple[OperatingPoint, ...]
    device: str = "cpu"
    form: IndexForm = IndexForm.IVF_PQ
    recall: float = DEFAULT_RECALL


@dataclass(frozen=True)
class PartitionFacts:
    """Properties of a partition, for the planner.

    Attributes:
        modality: Modality of the partition.
        dim: Dimensions of the embedding space.
        rows: Number of rows.
        live_rows: Number of rows that a segment refers to.
        matching_rows: Number of live rows that match the filter.
        index: Properties of the index; None if there is none.
        index_error: Reason why a published index is not used; None if there is no problem.
        in_distribution: Whether the query is in the distribution of the partition's vectors; None if unknown, as before
            encoding.
        runs: Number of runs of consecutive matching rows; None: as many as for randomly chosen rows.
        predicted_source: Predicted source modality of a query vector; None if unknown.
    """

    modality: Modality
    dim: int
    rows: int
    live_rows: int
    matching_rows: int
    index: IndexFacts | None = None
    index_error: str | None = None
    in_distribution: bool | None = None
    runs: int | None = None
    predicted_source: Modality | None = None


@former_fields(load="cost_note")
@dataclass(frozen=True)
class TermStep:
    """Step that encodes a term.

    Attributes:
        label: Text form of the term.
        source: Modality of the term; None if unknown.
        weight: Weight of the term.
        cost_note: What encoding requires, as text.
    """

    label: str
    source: Modality | None
    weight: float
    cost_note: str


VECTOR_TERM = TermStep("vector", None, 1.0, "a query vector")
"""The term of a query vector of unknown modality."""


@dataclass(frozen=True)
class PlanFacts:
    """Everything that a plan depends on besides the query.

    Attributes:
        partitions: Properties of the target partitions.
        terms: A step for each term.
        filter: Text of the filter; None without one.
        excluded: Number of rows of the query's own files, which are excluded from the hits.
        costs: Measured unit costs.
        notes: Further notes for readers of the plan.
        shards: Number of shards that the files are divided among.
    """

    partitions: tuple[PartitionFacts, ...]
    terms: tuple[TermStep, ...] = (VECTOR_TERM,)
    filter: str | None = None
    excluded: int = 0
    costs: UnitCosts = field(default_factory=UnitCosts)
    notes: tuple[str, ...] = ()
    shards: int = 1


@former_fields(want="fetch_rows", kept="matching_rows", considered="alternatives", living="live_rows")
@dataclass(frozen=True)
class PartitionStep:
    """Step that searches a partition.

    Attributes:
        modality: Modality of the partition.
        strategy: How the partition is searched.
        fetch_rows: Number of rows fetched at first.
        matching_rows: Number of live rows that match the filter.
        rows: Number of rows.
        tail: Number of rows that the index does not cover; they are scanned exactly.
        probes: Number of inverted lists probed (nprobe).
        lists: Number of inverted lists (nlist).
        rerank: Number of candidates scored exactly.
        recall: Measured recall; 1.0 if exact, None if unknown.
        estimate_ms: Estimated time in milliseconds.
        reason: Reasons for the strategy and its settings.
        alternatives: Every proposed strategy with its estimated time in milliseconds.
        live_rows: Number of rows that a segment refers to.
        point: Operating point that `probes`, `rerank` and `recall` are from; None if nothing was measured.
        shard: Number of the shard; None in a store without shards.
    """

    modality: Modality
    strategy: Strategy
    fetch_rows: int
    matching_rows: int
    rows: int
    tail: int
    probes: int
    lists: int
    rerank: int
    recall: float | None
    estimate_ms: float
    reason: str
    alternatives: tuple[tuple[Strategy, float], ...] = ()
    live_rows: int = 0
    point: OperatingPoint | None = None
    shard: int | None = None


@dataclass(frozen=True)
class WordStep:
    """Step that searches the words of a query in names, captions, metadata and passages.

    Attributes:
        tokens: The words, as they are searched.
        names: The texts, as whole names of files.
        share: Share of the query that they are, 0..1.
        fields: Number of names, captions, sets of metadata and passages that are searched.
        tail: Number of them that have no index; they are read into memory.
        alone: Whether vectors are not searched.
    """

    tokens: tuple[str, ...]
    names: tuple[str, ...]
    share: float
    fields: int
    tail: int
    alone: bool


@former_fields(rank="ranking", diverse="diversity")
@dataclass(frozen=True)
class Plan:
    """Plan of a search.

    Attributes:
        terms: A step for each term.
        filter: Text of the filter; None without one.
        partitions: A step for each target partition.
        ranking: Ranking of hits of several modalities.
        k: Number of items to return.
        diversity: Diversity in 0..1.
        estimate_ms: Estimated time of all partitions in milliseconds, without encoding and merging.
        notes: Further notes for readers of the plan.
        min_match: Least probability of a match, 0..1, that a hit must have.
        copies: Whether copies of a hit are hits of their own.
        spare: Number of further items that are ranked, because copies among the best are folded.
        words: The search by words; None if there is none.
    """

    terms: tuple[TermStep, ...]
    filter: str | None
    partitions: tuple[PartitionStep, ...]
    ranking: Ranking
    k: int
    diversity: float
    estimate_ms: float
    notes: tuple[str, ...] = ()
    min_match: float = 0.0
    copies: bool = True
    spare: int = 0
    words: WordStep | None = None

    @cached_property
    def depth(self) -> int:
        """Number of items that must be correct: k, or more to fold copies or to select a diverse list from."""
        return rerank_depth(self.k, self.diversity) + self.spare


@dataclass(frozen=True)
class PartitionRun:
    """Measurements of searching a partition.

    Attributes:
        modality: Modality of the partition.
        scored: Number of rows scored exactly, tail included.
        found: Number of segments found.
        ms: Time in milliseconds.
        shard: Number of the shard; None in a store without shards.
    """

    modality: Modality
    scored: int
    found: int
    ms: float
    shard: int | None = None


@dataclass(frozen=True)
class WordRun:
    """Measurements of searching words.

    Attributes:
        found: Number of names, captions, sets of metadata and passages found.
        ms: Time in milliseconds.
    """

    found: int
    ms: float


@dataclass(frozen=True)
class PlanRun:
    """Measurements of running a plan.

    Attributes:
        partitions: Measurements of each partition; skipped partitions are missing.
        encode_ms: Time of encoding the query in milliseconds.
        filter_ms: Time of evaluating the filter and planning in milliseconds.
        merge_ms: Time of ranking in milliseconds.
        facts_ms: Time of looking up metadata in milliseconds.
        total_ms: Total time in milliseconds.
        words: Measurements of searching words; None if words were not searched.
    """

    partitions: tuple[PartitionRun, ...]
    encode_ms: float
    filter_ms: float
    merge_ms: float
    facts_ms: float
    total_ms: float
    words: WordRun | None = None
