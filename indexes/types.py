"""Types of indexes: form and parameters, measurements, and search results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from bindsearch.former_names import former_fields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_RECALL = 0.98
"""Default target recall of operating points."""

MIXED = "mixed"
"""Source of queries whose modality is unknown or that combine several."""

UNMEASURED = "none"
"""Value of `OperatingPoint.fallback_source` if no cross-modal query could be measured.

Such a point uses all lists and the widest rerank; its recall and latency, given as 0, are not known.
"""


class IndexForm(StrEnum):
    """Form of a partition's index."""

    EXACT = "exact"
    IVF_PQ = "ivfpq"
    """4-bit PQ codes in inverted lists, scanned with SIMD (FAISS fast-scan); one list if there are few rows."""
    IVF_PQ8 = "ivfpq8"
    """8-bit PQ codes in inverted lists: the form that FAISS can search on a GPU."""


Form = IndexForm
"""The former name."""


class SearchResult(NamedTuple):
    """Positions of rows int64 (nq, k) and cosines float32 (nq, k), best first; -1 and -inf where fewer match."""

    positions: NDArray[np.int64]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class IndexParameters:
    """Parameters that an index is built with, as recorded in its manifest.

    Attributes:
        form: form of the index.
        reduced_dim: dimensions retained by the bias-free PCA.
        subquantizers: number of codes per vector (M).
        bits: bits of each code.
        lists: inverted lists.
        train_rows: rows of the training sample.
        seed: seed of the sample and of the rotation.
    """

    form: IndexForm
    reduced_dim: int = 0
    subquantizers: int = 0
    bits: int = 0
    lists: int = 0
    train_rows: int = 0
    seed: int = 0

    @property
    def code_bytes(self) -> int:
        """Bytes of one code, without its 8-byte id."""
        return self.subquantizers * self.bits // 8


@dataclass(frozen=True)
class IndexSettings:
    """Settings of a store's indexes, as requested by the user.

    Attributes:
        form: None: chosen by size.
        memory_bytes: maximum for the index of one partition; None: no limit.
        recall: the target recall.
        overrides: values of fields of IndexParameters; None: none.
    """

    form: IndexForm | None = None
    memory_bytes: int | None = None
    recall: float = DEFAULT_RECALL
    overrides: Mapping[str, int] | None = None


IndexWishes = IndexSettings
"""The former name."""


@former_fields(kept="selectivity", stand_in="fallback_source")
@dataclass(frozen=True)
class OperatingPoint:
    """The cheapest setting found to reach the target recall for one kind of query.

    Attributes:
        source: modality of the queries, or MIXED.
        k: number of results.
        selectivity: share of the rows matching the filter, 1 for no filter.
        probes: lists probed.
        rerank: candidates scored exactly.
        recall: recall@k against the exact search, mean over the sample.
        latency_ms: median latency of codes and rerank, one query at a time, in milliseconds.
        fallback_source: source of the queries that the point was measured with, if they are not those of `source`;
            UNMEASURED if it was not measured at all; None if it was measured with queries of `source`.
    """

    source: str
    k: int
    selectivity: float
    probes: int
    rerank: int
    recall: float
    latency_ms: float
    fallback_source: str | None = None


_POINT_KEYS = {"selectivity": "kept", "fallback_source": "stand_in"}
"""Keys in manifests and JSON of fields whose keys differ from their names."""


def point_record(point: OperatingPoint) -> dict[str, object]:
    """Return an operating point under the keys of manifests and of `--json`."""
    return {_POINT_KEYS.get(name, name): value for name, value in asdict(point).items()}


def parse_point(record: Mapping[str, Any]) -> OperatingPoint:
    """Return the operating point of a record that `point_record` returned.

    Raises:
        TypeError: a key is missing or unknown.
    """
    names = {key: name for name, key in _POINT_KEYS.items()}
    return OperatingPoint(**{names.get(key, key): value for key, value in record.items()})


@dataclass(frozen=True)
class IndexQuality:
    """Quality of an index, which shows drift from its training data.

    Attributes:
        code_error: mean squared error of the codes over rows from the time of training.
        imbalance: FAISS's imbalance factor of the lists (1: all of equal length).
    """

    code_error: float
    imbalance: float


@dataclass(frozen=True)
class IndexManifest:
    """Manifest of a published index, stored as JSON in its folder."""

    modality: str
    """Modality of the partition."""
    generation: int
    """Number of the index generation, which names the folder."""
    n: int
    """Rows covered."""
    last_vector_id: int
    """Largest vector id covered."""
    dim: int
    """Dimensions of the vectors."""
    parameters: IndexParameters
    """Parameters it was built with."""
    settings: IndexSettings
    """Settings that the parameters were chosen from."""
    trained_rows: int
    """Rows in the index when it was trained; many more since then are a reason to retrain."""
    tuned_rows: int
    """Rows in the index when its points were measured."""
    measured_sources: tuple[str, ...]
    """Sources that had queries at that time."""
    quality: IndexQuality | None
    """Quality when it was built; None for an exact search."""
    in_distribution_cosine: float
    """A query with at least this cosine to the partition's mean is within the distribution of its vectors."""
    points: tuple[OperatingPoint, ...]
    """Operating points."""
    files: Mapping[str, tuple[int, str]]
    """Name, size in bytes and xxh3-128 hex digest of each file."""
    created: str
    """Time of creation."""
    gpu_parameters: IndexParameters | None = None
    """Parameters of the same rows in codes for a GPU, in a file of their own; None if there are none."""
    gpu_points: tuple[OperatingPoint, ...] = ()
    """Operating points measured on a GPU, without filters."""


@dataclass(frozen=True)
class UnitCosts:
    """Unit costs of the parts of a search on this machine, in nanoseconds, one query at a time."""

    scan_ns_per_byte: float = 0.042
    """A byte of fp16 rows scored in order."""
    gather_ns_per_byte: float = 0.12
    """A byte of fp16 rows fetched one by one and scored."""
    mask_ns_per_row: float = 2.0
    """Testing one bit of a mask while scanning rows."""
    code_ns_per_byte: float = 0.040
    """A byte of PQ codes scanned."""
    probe_ns: float = 1000.0
    """Visiting one inverted list, without its codes."""
    call_ns: float = 40_000.0
    """One call of an index."""
