"""The words of an index: its form and parameters, what was measured on it, and what a search of it gives."""

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
"""The share of the true nearest that operating points are chosen to find, where none is asked for."""

MIXED = "mixed"
"""The source of queries whose modality is not known or not one."""

UNMEASURED = "none"
"""Stands for the measured source in `OperatingPoint.stand_in` where no query from across modalities could be measured:
such a point takes all lists and the widest rerank; its recall and latency, given as 0, are not known."""


class IndexForm(StrEnum):
    """Form of index that a partition is searched with."""

    EXACT = "exact"
    IVF_PQ = "ivfpq"
    """4-bit PQ codes in inverted lists, scanned with SIMD (FAISS fast-scan); one list where there are few rows."""
    IVF_PQ8 = "ivfpq8"
    """8-bit PQ codes in inverted lists: the form that FAISS can search on a GPU."""


class SearchResult(NamedTuple):
    """Positions of rows int64 (nq, k) and cosines float32 (nq, k), best first; -1 and -inf where fewer match."""

    positions: NDArray[np.int64]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class IndexParameters:
    """Parameters that an index is built with; all of it stands in its manifest.

    `reduced_dim`: dimensions kept by the bias-free PCA; `subquantizers` (M) of `bits` bits each make a code; `lists`:
    inverted lists; `train_rows`: rows of the training sample; `seed`: of sample and rotation.
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
        """Bytes of one code, its 8-byte id apart."""
        return self.subquantizers * self.bits // 8


@dataclass(frozen=True)
class IndexSettings:
    """Settings of a store's indexes, as the user asks for them. `form` None: by size; `memory_bytes`: of a partition's
    index; `overrides`: fields of IndexParameters."""

    form: IndexForm | None = None
    memory_bytes: int | None = None
    recall: float = DEFAULT_RECALL
    overrides: Mapping[str, int] | None = None


IndexWishes = IndexSettings
"""The former name."""


@former_fields(kept="selectivity", stand_in="fallback_source")
@dataclass(frozen=True)
class OperatingPoint:
    """The cheapest setting found to reach the wanted recall for one kind of query.

    `source`: modality of the queries, or MIXED. `k`: results asked for. `selectivity`: share of the rows that the
    filter keeps, 1 for none. `probes` of the lists and `rerank` candidates scored exactly give `recall` (recall@k
    against the exact search, mean over the sample) in `latency_ms` (median, codes and rerank, one query at a time).
    `fallback_source`: the points were not measured with queries of that source, but taken from another (its name)."""

    source: str
    k: int
    selectivity: float
    probes: int
    rerank: int
    recall: float
    latency_ms: float
    fallback_source: str | None = None


_POINT_KEYS = {"selectivity": "kept", "fallback_source": "stand_in"}
"""Keys in manifests and JSON of the fields that have other names there."""


def point_record(point: OperatingPoint) -> dict[str, object]:
    """Return an operating point under the keys of manifests and of `--json`."""
    return {_POINT_KEYS.get(name, name): value for name, value in asdict(point).items()}


def parse_point(record: Mapping[str, Any]) -> OperatingPoint:
    """Return the operating point that `point_record` gave.

    Raises:
        TypeError: a key is missing or unknown.
    """
    names = {key: name for name, key in _POINT_KEYS.items()}
    return OperatingPoint(**{names.get(key, key): value for key, value in record.items()})


@dataclass(frozen=True)
class IndexQuality:
    """Quality of an index, which shows drift from what it was trained on: mean squared error of the codes over rows of
    the training time, and FAISS's imbalance factor of the lists (1: all equally long)."""

    code_error: float
    imbalance: float


@dataclass(frozen=True)
class IndexManifest:
    """Manifest of a published index: JSON beside it.

    `n` rows are covered, of vector ids up to `last_vector_id`; `files` gives name, bytes and xxh3-128 hex digest of
    each file. `in_distribution_cosine`: a query whose cosine to the partition's mean is at least this lies among its
    vectors."""

    modality: str
    generation: int
    n: int
    last_vector_id: int
    dim: int
    parameters: IndexParameters
    settings: IndexSettings
    trained_rows: int
    """Rows the index held when it was trained; far more since then is a reason to train anew."""
    tuned_rows: int
    """Rows it held when its points were measured."""
    measured_sources: tuple[str, ...]
    """Sources that there were queries of then."""
    quality: IndexQuality | None
    in_distribution_cosine: float
    points: tuple[OperatingPoint, ...]
    files: Mapping[str, tuple[int, str]]
    created: str
    gpu_parameters: IndexParameters | None = None
    """Of the same rows in codes for a GPU, in a file of their own; None where there is none."""
    gpu_points: tuple[OperatingPoint, ...] = ()
    """Measured on a GPU, without filters."""


@dataclass(frozen=True)
class UnitCosts:
    """Costs of the parts of a search on this machine, in nanoseconds, one query at a time."""

    scan_ns_per_byte: float = 0.042
    """Of fp16 rows scored in order."""
    gather_ns_per_byte: float = 0.12
    """Of fp16 rows fetched one by one and scored."""
    mask_ns_per_row: float = 2.0
    """Looking at one bit of a mask while scanning rows."""
    code_ns_per_byte: float = 0.040
    """Of PQ codes scanned."""
    probe_ns: float = 1000.0
    """Each inverted list visited, its codes apart."""
    call_ns: float = 40_000.0
    """Each call of an index."""
