"""Results that a store returns: answers to queries, and its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import folder_size
from bindsearch.former_names import former_fields
from bindsearch.indexes.types import IndexForm, IndexParameters, OperatingPoint
from bindsearch.reports import FailedFile, LeftOutFile
from bindsearch.search.generation import Generation
from bindsearch.search.partition import Partition
from bindsearch.search.plan import Plan, PlanRun
from bindsearch.storage.config import StoreConfig
from bindsearch.types import STANDS_OUT, Hit, Modality

if TYPE_CHECKING:
    from bindsearch.operations.classify.column import ColumnStatus
    from bindsearch.search.suggestions import Suggestion


@dataclass(frozen=True, slots=True)
class AnsweredTerm:
    """A resolved query term.

    Attributes:
        modality: Modality of the source.
        source: The text, file or item.
        weight: The weight used, after defaults were applied.
    """

    modality: Modality
    source: str
    weight: float


@dataclass(frozen=True)
class Answer:
    """Answer to a query.

    Attributes:
        terms: The resolved terms, in the order of the query.
        to: Target modalities.
        k: Number of hits asked for.
        took_ms: Total time in milliseconds.
        hits: Hits, best first.
        plan: The plan of the search.
        run: Measurements of running the plan.
        notices: Problems with the store's snapshot and indexes, with the query's files, and with the filter's folders.
        suggestions: What to try if no hit stands out.
        missing_shards: Why a shard of a sharded store did not answer, by its number.
    """

    terms: tuple[AnsweredTerm, ...]
    to: tuple[Modality, ...]
    k: int
    took_ms: float
    hits: tuple[Hit, ...]
    plan: Plan
    run: PlanRun
    notices: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    missing_shards: Mapping[int, str] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Return whether a shard did not answer, so that hits may be missing."""
        return bool(self.missing_shards)

    @property
    def stands_out(self) -> bool:
        """Return whether a hit is better than what chance finds."""
        return any(hit.probability >= STANDS_OUT for hit in self.hits)


def missing_paths(hits: Iterable[Hit]) -> set[Path]:
    """Return the paths of hits whose files are not there any more: deleted or moved, or on a disk that is not mounted.

    A member of an archive is there if the archive is. A file that cannot be looked up now does not count as missing.
    """
    return {hit.path for hit in hits if not may_be_there(hit.path)}


def may_be_there(path: Path) -> bool:
    """Return whether there is a file at a path, or an archive above it, or neither can be looked up now."""
    try:
        return any(one.is_file() for one in (path, *path.parents))
    except OSError:
        return True


@former_fields(covered="indexed_rows", trouble="index_error")
@dataclass(frozen=True)
class PartitionStatus:
    """Status of a partition and its index.

    Attributes:
        modality: Target modality of the partition.
        rows: Number of rows, deleted ones included.
        deleted: Number of deleted rows.
        form: Form of the index; exact if there is none.
        indexed_rows: Number of rows that the index covers.
        index_bytes: Size of the index files in bytes.
        parameters: Parameters of the index; None if there is none.
        points: Measured operating points of the index.
        index_error: Reason why a published index is not used; None if there is no problem.
    """

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
    """Return the status of a partition."""
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
    """Status of a store.

    Attributes:
        path: Folder of the store.
        encoder: Name of the encoder.
        weights_digest: Digest of the encoder's weights.
        encoder_options: Preprocessing options of the encoder.
        dim: Dimensions of the embedding space.
        generation: Number of the newest generation.
        collections: Root folders of the collections.
        items: Number of items by modality.
        segments: Number of segments by modality.
        partitions: Status of each partition.
        failures: Files that could not be indexed.
        without_content: Files that have nothing to find: silence, one colour, no words.
        left_out: Number of files and folders that were not indexed by reason, such as "not media: .docx" or "hidden".
        size_bytes: Size of the store's folder in bytes.
        columns: Columns that `classify` has written.
        shards: Status of each shard of a sharded store, by its number.
        missing_shards: Why a shard did not answer, by its number.
    """

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
    without_content: tuple[FailedFile, ...]
    left_out: Mapping[str, int]
    size_bytes: int
    columns: tuple[ColumnStatus, ...] = ()
    shards: Mapping[int, Status] = field(default_factory=dict)
    missing_shards: Mapping[int, str] = field(default_factory=dict)


def store_status(path: Path, config: StoreConfig, generation: Generation) -> Status:
    """Return the status of a store in this generation."""
    from bindsearch.ingest.left_out import counts_by_reason, read_left_out

    snapshot = generation.snapshot
    roots = {key: Path(root) for key, root in snapshot.manifest.collections.items()}
    rows = [] if snapshot.failures is None else snapshot.failures.to_pylist()
    failed = [FailedFile(roots[row["collection_id"]] / row["rel_path"], row["reason"]) for row in rows]
    left_out: Counter[str] = Counter()
    for collection_id in roots:
        left_out.update(counts_by_reason(read_left_out(path, collection_id)))
    columns: tuple[ColumnStatus, ...] = ()
    if snapshot.class_columns is not None:
        from bindsearch.operations.classify.column import column_status

        columns = tuple(column_status(snapshot))
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
        failures=tuple(file for file in failed if not file.is_empty),
        without_content=tuple(file for file in failed if file.is_empty),
        left_out=dict(left_out.most_common()),
        size_bytes=folder_size(path),
        columns=columns,
    )


def left_out_files(store: Path, collections: Mapping[int, str], start: int, most: int) -> list[LeftOutFile]:
    """Return files and folders that were not indexed, `most` of them from number `start` on, by collection and path."""
    from bindsearch.ingest.left_out import read_left_out

    files: list[LeftOutFile] = []
    for collection_id, root in collections.items():
        table = read_left_out(store, collection_id)
        part = table.slice(min(start, table.num_rows), most - len(files)).to_pylist()
        files += [LeftOutFile(Path(root) / row["rel_path"], row["reason"]) for row in part]
        start = max(0, start - table.num_rows)
    return files
