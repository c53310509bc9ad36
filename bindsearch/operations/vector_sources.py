"""Files of ready vectors, as `export` and other programs write them: found, opened, and read in blocks.

A shard is a Parquet file with the facts of its rows, and their vectors: in a column of it, or in a .npy file beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.media.numpy_files import npy_header
from bindsearch.operations.exchange_format import BLOCK_ROWS, FACTS, SPACE_KEY, space_from_json
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

ALIASES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "image_path", "file_path", "filepath", "filename", "file_name", "file"),
    "text": ("text", "caption"),
}
"""Names of columns, of which the first that is there counts; clip-retrieval says image_path and caption."""

FOLDER = re.compile(r"(\w+)_emb")
"""A folder of .npy files, named by what they are of."""

_MODALITIES = {"img": Modality.IMAGE, **{modality.value: modality for modality in Modality}}
_NUMBER = re.compile(r"_(\d+)\.npy")


@dataclass(frozen=True, slots=True)
class Shard:
    """Files of some rows: `vectors` None where they are in a column of `facts`; `modality` as the folder's name
    says."""

    facts: Path
    vectors: Path | None
    modality: Modality | None


def find_shards(source: Path) -> list[Shard]:
    """The shards of a folder as `export` or clip-retrieval writes it, of one of Parquet files, or of a single file.

    Raises:
        UsageError: there are none, or a .npy file has no Parquet file that goes with it.
    """
    if source.is_file():
        return [_with_facts(source) if source.suffix == ".npy" else Shard(source, None, None)]
    if not source.is_dir():
        raise UsageError(f"{source} does not exist: give a folder, a .parquet or a .npy file")
    shards = [_numbered(vectors) for vectors in sorted(source.glob("*_emb/*_emb_*.npy"))]
    shards = shards or [Shard(path, None, None) for path in sorted(source.glob("*.parquet"))]
    if not shards:
        raise UsageError(f"{source} holds no vectors: expected *.parquet, or img_emb/img_emb_0.npy and the like")
    return shards


def _numbered(vectors: Path) -> Shard:
    found, number = FOLDER.fullmatch(vectors.parent.name), _NUMBER.search(vectors.name)
    name = found[1] if found else ""
    digits = number[1] if number else ""
    own, common = (vectors.parent.parent / folder for folder in (f"{name}_metadata", "metadata"))
    facts = own / f"{own.name}_{digits}.parquet" if own.is_dir() else common / f"metadata_{digits}.parquet"
    if not facts.is_file():
        raise UsageError(f"{vectors} has no {facts} beside it, which would name its rows: put it there")
    return Shard(facts, vectors, _MODALITIES.get(name))


def _with_facts(vectors: Path) -> Shard:
    beside = [vectors.with_suffix(".parquet"), *sorted(vectors.parent.glob("*.parquet"))]
    found = [path for path in dict.fromkeys(beside) if path.is_file()]
    if not found or (len(found) > 1 and found[0] != beside[0]):
        raise UsageError(f"{vectors} needs {beside[0].name} beside it: a Parquet file with a column path, row for row")
    return Shard(found[0], vectors, None)


class VectorFileReader:
    """A shard that has been looked at: n rows, whose vectors and facts fit together."""

    def __init__(self, shard: Shard, vector_column: str | None) -> None:
        """Look at the headers. `vector_column`: where vectors are in the Parquet file; None: in its only column of
        lists of floating-point numbers.

        Raises:
            UsageError: a file is not what its name says, there is no such column, or the numbers of rows differ.
        """
        self.facts = shard.facts
        self.modality = shard.modality
        with _open_parquet(self.facts) as file:
            self.schema: pa.Schema = file.schema_arrow
            self.n = int(file.metadata.num_rows)
        self.space: StoreConfig | None = None
        if text := (self.schema.metadata or {}).get(SPACE_KEY):
            self.space = space_from_json(text)
        self._array = None if shard.vectors is None else _map(shard.vectors, self.facts, self.n)
        self._column = "" if self._array is not None else _vector_column(self.schema, self.facts, vector_column)
        self.vectors = shard.vectors or shard.facts

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Which column of the file holds which of FACTS."""
        held = set(self.schema.names) - {self._column}
        found = {name: next((alias for alias in ALIASES.get(name, (name,)) if alias in held), "") for name in FACTS}
        return {name: alias for name, alias in found.items() if alias}

    @property
    def extras(self) -> list[str]:
        """Columns that are none of FACTS: numbers, texts and truth values."""
        import pyarrow.types as types

        used = {*self.names.values(), self._column}
        scalar = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
        return [
            field.name for field in self.schema if field.name not in used and any(test(field.type) for test in scalar)
        ]

    def column(self, name: str) -> pa.ChunkedArray | None:
        """A whole column of FACTS; None where there is none.

        Raises:
            UsageError: it has another type, or the file is damaged.
        """
        if name not in self.names:
            return None
        with _open_parquet(self.facts) as file:
            return self._cast(file.read([self.names[name]]).column(0), name)

    def blocks(self, dim: int) -> Iterator[tuple[pa.Table, NDArray[np.floating[Any]]]]:
        """Facts, extras with them, and vectors (m, dim) as the file has them, in the order of rows.

        Raises:
            UsageError: a column has another type, a vector another length, or the file is damaged.
        """
        import pyarrow as pa

        wanted = [*self.names.values(), *self.extras, *([self._column] if self._array is None else [])]
        start = 0
        with _open_parquet(self.facts) as file:
            for batch in file.iter_batches(BLOCK_ROWS, columns=wanted):
                table = pa.Table.from_batches([batch])
                if self._array is None:
                    vectors = _to_array(batch.column(self._column), dim, self.facts, start)
                else:
                    vectors = self._array[start : start + len(batch)]
                columns = {name: self._cast(table.column(alias), name) for name, alias in self.names.items()}
                extras = {f"#{name}": table.column(name) for name in self.extras}
                yield pa.table({**columns, **extras}), vectors
                start += len(batch)

    @property
    def dim(self) -> int | None:
        """d; None where only the rows tell."""
        if self._array is not None:
            return int(self._array.shape[1])
        kind = self.schema.field(self._column).type
        return getattr(kind, "list_size", None)

    def _cast(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            cast = column.cast(pa.type_for_alias(FACTS[name]))
            if pa.types.is_floating(cast.type):  # what is not known is NaN where pandas wrote it
                return pc.if_else(pc.is_nan(cast), pa.scalar(None, cast.type), cast)
            return cast
        except pa.ArrowException:
            alias = self.names[name]
            raise UsageError(f"{self.facts}: the column {alias} holds {column.type}, not {FACTS[name]}") from None


@contextmanager
def _open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _map(path: Path, facts: Path, n: int) -> NDArray[np.floating[Any]]:
    """The rows (n, d) of a .npy file, mapped."""
    try:
        with path.open("rb") as file:
            shape, dtype, _ = npy_header(file)
        if dtype.kind != "f" or len(shape) != 2:
            raise MediaError(f"it holds {dtype} of shape {shape}, not rows of floating-point numbers")
        array: NDArray[np.floating[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
    except MediaError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if len(array) != n:
        raise UsageError(f"{path} has {len(array)} rows and {facts} {n}: they must be the same ones, in the same order")
    return array


def _vector_column(schema: pa.Schema, path: Path, wanted: str | None) -> str:
    import pyarrow.types as types

    def holds_vectors(kind: pa.DataType) -> bool:
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(lists and types.is_floating(kind.value_type))

    found = [field.name for field in schema if holds_vectors(field.type)]
    listed = ", ".join(found) or "none"
    if wanted is not None and wanted not in found:
        raise UsageError(f"{path} has no column {wanted!r} of vectors: those of floating-point lists are {listed}")
    if wanted is None and len(found) != 1:
        raise UsageError(f"{path} has {len(found)} columns of floating-point lists ({listed}): name the one of vectors")
    return wanted or found[0]


def _to_array(column: pa.Array, dim: int, path: Path, start: int) -> NDArray[np.floating[Any]]:
    """A column of lists as rows (m, dim); the first of them is row `start` of the file."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    if wrong := np.flatnonzero(lengths != dim).tolist():
        row = wrong[0]
        what = "no vector" if lengths[row] < 0 else f"a vector of {lengths[row]} dimensions"
        raise UsageError(f"{path}: row {start + row} holds {what}, the store's have {dim}")
    values = column.flatten()
    if values.null_count:
        raise UsageError(f"{path}: a vector in rows {start} to {start + len(column) - 1} holds null")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), dim)
