"""Segments of an export to an engine: the vectors of a generation, with the columns of `where` expressions by type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from bindsearch.search.generation import Generation
from bindsearch.search.sql_filter.columns import DOCUMENTED, FilterColumns, Level
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BLOCK_ROWS = 1000
BLOCK_BYTES = 2 << 20
"""Vectors of a block in float32; as JSON they take four times as much, less than the 32 MB that Qdrant accepts."""


class EngineBlock(NamedTuple):
    """Block of segments of one modality.

    Attributes:
        ids: Segment ids, the same in every export of the store.
        values: Values of each column by name, m each, None where unknown.
        vectors: Unit vectors, float16 (m, d).
    """

    ids: list[int]
    values: Mapping[str, list[Any]]
    vectors: NDArray[Any]


@dataclass(frozen=True)
class EngineSource:
    """Segments to export.

    Attributes:
        config: Configuration of the store.
        generation: Generation to read.
        rows: Segment rows by modality, int64 (m,); none is empty.
        columns: Values of the columns.
        kinds: SQL type of each column by name: the documented ones, then those of classes, then the users'.
    """

    config: StoreConfig
    generation: Generation
    rows: Mapping[Modality, NDArray[Any]]
    columns: FilterColumns
    kinds: Mapping[str, str]

    @property
    def counts(self) -> dict[Modality, int]:
        """Number of vectors by modality."""
        return {modality: len(rows) for modality, rows in self.rows.items()}

    @property
    def total(self) -> int:
        """Number of all vectors."""
        return sum(self.counts.values())

    @property
    def known_kinds(self) -> dict[str, str]:
        """SQL type of each column that has a value in the store, by name."""
        arrays = {name: self.columns.array(name) for name in self.kinds}
        return {
            name: self.kinds[name] for name, array in arrays.items() if array is None or array.null_count < len(array)
        }

    def describe(self) -> dict[str, Any]:
        """Return what is recorded with an export: the embedding space, and the number of vectors by modality."""
        return {"bindsearch_export": 1, "space": asdict(self.config), "vectors": {**self.counts}}


def is_description(text: str | None) -> bool:
    """Return whether a text is a description that `EngineSource.describe` made, as JSON."""
    try:
        return bool(json.loads(text or "")["bindsearch_export"] == 1)
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def make_source(config: StoreConfig, generation: Generation, rows: Mapping[Modality, NDArray[Any]]) -> EngineSource:
    """Return what an export writes; all its columns are computed, so that they fail before anything is written.

    Args:
        config: Configuration of the store.
        generation: Generation to read.
        rows: Segment rows by modality, int64 (m,).

    Raises:
        UsageError: a column has values that no type of SQL holds, or the name of another one.
    """
    columns = FilterColumns(generation.snapshot)
    documented = {name: kind for name, (_, kind, _) in DOCUMENTED.items()}
    kinds = {**documented, **columns.class_types, **columns.user_types}
    for name in kinds:
        columns.array(name)
    return EngineSource(config, generation, {name: part for name, part in rows.items() if len(part)}, columns, kinds)


def read_engine_blocks(source: EngineSource) -> Iterator[EngineBlock]:
    """Yield the segments of a source, one modality after another, in blocks of bounded size."""
    snapshot = source.generation.snapshot
    size = max(1, min(MAX_BLOCK_ROWS, BLOCK_BYTES // (4 * source.config.dim)))
    for modality, rows in source.rows.items():
        partition = source.generation.partitions[modality]
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            segments = snapshot.segments.select(["segment_id", "vector_id"]).take(pa.array(block))
            vector_ids = segments.column("vector_id").to_numpy()
            vectors = partition.rows.gather(partition.rows_of_vectors(vector_ids))
            columns = source.columns
            indices = {Level.SEGMENT: pa.array(block), Level.ITEM: pa.array(columns.item_rows[block])}
            values: dict[str, list[Any]] = {name: [] for name in source.kinds}  # in this order
            for name in source.kinds:
                array = columns.array(name)
                if array is not None:
                    values[name] = array.take(indices[columns.level(name)]).to_pylist()
            rel_paths = source.generation.snapshot.items.column("rel_path").take(indices[Level.ITEM]).to_pylist()
            roots = [root.rstrip("/") for root in values["collection"]]
            values["path"] = [f"{root}/{rel_path}" for root, rel_path in zip(roots, rel_paths, strict=True)]
            values["name"] = [rel_path.rpartition("/")[2] for rel_path in rel_paths]
            yield EngineBlock(segments.column("segment_id").to_pylist(), values, vectors)
