"""Plan: what a search will do, as data. `explain` tells it in words, the same words for the same plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bindsearch.former_names import former_fields
from bindsearch.indexes.types import DEFAULT_RECALL, IndexForm, OperatingPoint, UnitCosts
from bindsearch.search.query import Ranking
from bindsearch.types import Modality

DIVERSITY_FACTOR = 5
"""A diverse list is chosen from so many times k results."""


def rerank_depth(k: int, diversity: float) -> int:
    """Results that are to be right: k, or what a diverse list is chosen from."""
    return DIVERSITY_FACTOR * k if diversity else k


class Strategy(StrEnum):
    """Strategy of searching the rows of one partition. Whatever the strategy, cosines come from the fp16 rows."""

    SKIP = "skip"
    """Nothing can match."""
    GATHER = "gather"
    """Fetch the rows that the filter keeps and score each."""
    SCAN = "scan"
    """Score all rows in order, those a bitmap leaves out skipped."""
    PROBE = "probe"
    """Scan codes in the nearest inverted lists, with a bitmap; score the best candidates exactly."""
    PROBE_WIDE = "probe wide"
    """The same on a GPU, where no bitmap can be given: more candidates, filtered afterwards."""


@dataclass(frozen=True)
class IndexFacts:
    """Facts on a partition's index for the planner: `n` rows covered, those after them are the tail.

    `device`: "cpu" or "cuda:0"; `recall`: what its points were to reach (`IndexManifest.settings`). `IndexForm.EXACT`
    stands here on a GPU only: on the CPU it is the scan, and a partition in that form has no index."""

    n: int
    lists: int
    code_bytes: int
    points: tuple[OperatingPoint, ...]
    device: str = "cpu"
    form: IndexForm = IndexForm.IVF_PQ
    recall: float = DEFAULT_RECALL


@dataclass(frozen=True)
class PartitionFacts:
    """Facts on a partition for the planner. `rows` are all, `live_rows` those a segment refers to, `matching_rows`
    those of them that the filter keeps; `index` None: it has none; `index_error`: why an index that should be there is
    not used; `in_distribution`: whether the query resembles the partition's vectors (None: not known before encoding);
    `runs`: stretches of neighbouring rows that the kept ones lie in (None: as many as if they were kept at random);
    `predicted_source`: the modality among whose queries a ready vector lies (None: not known)."""

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


@dataclass(frozen=True)
class PlanFacts:
    """Everything a plan depends on beside the query. `sources`: modality of each term, in order (None: a ready
    vector of unknown modality); `cost_notes`: what encoding each term takes, in words; `weights`: those used;
    `filter`: its text, None without one; `excluded`: rows of the query's own files, left out of the answer;
    `notes`: what else the reader of a plan should know."""

    partitions: tuple[PartitionFacts, ...]
    sources: tuple[Modality | None, ...] = (None,)
    labels: tuple[str, ...] = ("vector",)
    weights: tuple[float, ...] = (1.0,)
    cost_notes: tuple[str, ...] = ("a ready vector",)
    filter: str | None = None
    excluded: int = 0
    costs: UnitCosts = field(default_factory=UnitCosts)
    notes: tuple[str, ...] = ()


@former_fields(load="cost_note")
@dataclass(frozen=True)
class TermStep:
    """Step that turns a term into a vector."""

    label: str
    source: Modality | None
    weight: float
    cost_note: str


@former_fields(want="fetch_rows", kept="matching_rows", considered="alternatives", living="live_rows")
@dataclass(frozen=True)
class PartitionStep:
    """Step that searches a partition. `fetch_rows`: rows fetched at first; `rerank`: candidates scored exactly;
    `tail`: rows after the index, always scanned; `recall`: as measured, 1.0 where exact, None where not known;
    `alternatives`: every strategy that could have been taken with its estimate in milliseconds; `live_rows`: rows that
    the filter chose from; `point`: what `probes`, `rerank` and `recall` come from, None where nothing was measured."""

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


@former_fields(rank="ranking", diverse="diversity")
@dataclass(frozen=True)
class Plan:
    """Plan of a search. `estimate_ms`: of the partitions together, encoding and merging apart."""

    terms: tuple[TermStep, ...]
    filter: str | None
    partitions: tuple[PartitionStep, ...]
    ranking: Ranking
    k: int
    diversity: float
    estimate_ms: float
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Results that are to be right: k, or what a diverse list is chosen from."""
        return rerank_depth(self.k, self.diversity)


@dataclass(frozen=True)
class PartitionRun:
    """Measurements of searching a partition: `scored` rows compared exactly (those of the tail too), `found` rows that
    were fetched from it, `ms` milliseconds."""

    modality: Modality
    scored: int
    found: int
    ms: float


@dataclass(frozen=True)
class PlanRun:
    """Measurements of a plan that was run: rows and milliseconds of each partition, milliseconds of the steps around
    them and of everything. A partition that was skipped may be missing."""

    partitions: tuple[PartitionRun, ...]
    encode_ms: float
    filter_ms: float
    merge_ms: float
    facts_ms: float
    total_ms: float
