"""Results of a store: hits with the query as it was understood, and the status of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bindsearch.atomic import folder_size
from bindsearch.former_names import former_fields
from bindsearch.indexes.types import IndexForm, IndexParameters, OperatingPoint
from bindsearch.reports import FailedFile
from bindsearch.search.generation import Generation
from bindsearch.search.partition import Partition
from bindsearch.search.plan import Plan, PlanRun
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Hit, Modality


@dataclass(frozen=True, slots=True)
class AnsweredTerm:
    """A term as it was understood: its modality, its source and the weight used."""

    modality: Modality
    source: str
    weight: float


@dataclass(frozen=True)
class Answer:
    """Hits, best first, with the query as it was understood, its plan, the time it took, and what is wrong with
    the store's indexes."""

    terms: tuple[AnsweredTerm, ...]
    to: tuple[Modality, ...]
    k: int
    took_ms: float
    hits: tuple[Hit, ...]
    plan: Plan
    run: PlanRun
    notices: tuple[str, ...] = ()


@former_fields(covered="indexed_rows", trouble="index_error")
@dataclass(frozen=True)
class PartitionStatus:
    """A partition: its rows, those deleted, the form of its index (exact: none), rows that it covers and holds bytes
    for, its parameters and operating points, and why an index that should be there is not used."""

    modality: Modality
    rows: int
    deleted: int
    form: IndexForm
    indexed_rows: int
    index_bytes: int
    parameters: IndexParameters | None
    points: tuple[OperatingPoint, ...]
    index_error: str | None


def partition_status(partition: Partition) -> PartitionStatus:
    """Return what is to be told of a partition."""
    opened = partition.index
    manifest = None if opened is None else opened.manifest
    return PartitionStatus(
        modality=partition.modality,
        rows=partition.n,
        deleted=partition.n - partition.live_rows,
        form=IndexForm.EXACT if manifest is None else manifest.parameters.form,
        indexed_rows=partition.indexed_rows,
        index_bytes=0 if manifest is None else sum(size for size, _ in manifest.files.values()),
        parameters=None if manifest is None else manifest.parameters,
        points=() if manifest is None else manifest.points,
        index_error=partition.index_error,
    )


@dataclass(frozen=True)
class Status:
    """Status of a store: counts by modality, and the files that failed."""

    path: Path
    encoder: str
    weights_digest: str
    encoder_options: Mapping[str, str | int | float | bool]
    dim: int
    generation: int
    collections: tuple[Path, ...]
    items: Mapping[Modality, int]
    segments: Mapping[Modality, int]
    partitions: tuple[PartitionStatus, ...]
    failures: tuple[FailedFile, ...]
    size_bytes: int


def store_status(path: Path, config: StoreConfig, generation: Generation) -> Status:
    """Return what is to be told of a store."""
    snapshot = generation.snapshot
    roots = {key: Path(root) for key, root in snapshot.manifest.collections.items()}
    failed = [] if snapshot.failures is None else snapshot.failures.to_pylist()
    return Status(
        path=path,
        encoder=config.encoder,
        weights_digest=config.weights_digest,
        encoder_options=config.encoder_options,
        dim=config.dim,
        generation=snapshot.manifest.generation,
        collections=tuple(roots.values()),
        items=snapshot.counts("items"),
        segments=snapshot.counts("segments"),
        partitions=tuple(partition_status(partition) for partition in generation.partitions.values()),
        failures=tuple(FailedFile(roots[row["collection_id"]] / row["rel_path"], row["reason"]) for row in failed),
        size_bytes=folder_size(path),
    )
