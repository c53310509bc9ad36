"""Files of precomputed vectors, as `export` and other programs write them: search, open, and read in blocks.

A shard is a Parquet file with the metadata of its rows; the vectors are in one of its columns or in a .npy file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types
from numpy.typing import NDArray

from bindsearch.errors import MediaError, UsageError, first_line
from bindsearch.ingest.media.numpy_files import npy_header
from bindsearch.ingest.media.parquet_metadata import parquet_columns
from bindsearch.operations.exchange.exchange_format import (
    BLOCK_ROWS,
    CLASS_COLUMNS_KEY,
    ERROR_COLUMN,
    EXPORT_FILE,
    EXPORT_KEY,
    FACTS,
    SPACE_COLUMN,
    SPACE_KEY,
    columns_from_json,
    space_from_json,
)
from bindsearch.small_files import open_regular, read_json_object
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality

ALIASES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "image_path", "file_path", "filepath", "filename", "file_name", "file"),
    "text": ("text", "caption"),
}
"""Accepted column names, the first one that exists is used; image_path and caption are those of clip-retrieval."""

MAX_TEXT_BYTES, MAX_PATH_BYTES = 1 << 28, 1 << 30
"""Maximum size of a column of texts in a block of rows, and of all paths of a file."""

MAX_MEAN_BYTES = 1 << 20
"""Maximum mean size of the texts of a row group, checked before any of them is read."""

FOLDER = re.compile(r"(\w+)_emb")
"""Name of a folder of .npy files, with their modality."""

_MODALITIES = {"img": Modality.IMAGE, **{modality.value: modality for modality in Modality}}
_NUMBER = re.compile(r"_(\d+)\.npy")


@dataclass(frozen=True, slots=True)
class Shard:
    """Files of some rows."""

    facts: Path  # Parquet file with the metadata of the rows
    vectors: Path | None  # .npy file; None: the vectors are in a column of `facts`
    modality: Modality | None  # by the name of the folder; None: unknown


def find_shards(source: Path) -> list[Shard]:
    """Find the shards of an export, of a folder of clip-retrieval or of Parquet files, or of a single file.

    Raises:
        UsageError: there are none, or a .npy file lacks its Parquet file.
    """
    if source.is_file():
        return [_with_facts(source) if source.suffix == ".npy" else Shard(source, None, None)]
    if not source.is_dir():
        raise UsageError(f"{source} does not exist: give a folder, a .parquet or a .npy file")
    shards = [_numbered(vectors) for vectors in sorted(source.glob("*_emb/*_emb_*.npy"))]
    shards = shards or [Shard(path, None, None) for path in sorted(source.glob("*.parquet"))]
    if not shards:
        raise UsageError(f"{source} holds no vectors: expected files such as *.parquet or img_emb/img_emb_0.npy")
    return shards


def _numbered(vectors: Path) -> Shard:
    """Return the shard of a numbered .npy file; raise UsageError if its Parquet file is missing."""
    folder_match, number_match = FOLDER.fullmatch(vectors.parent.name), _NUMBER.search(vectors.name)
    name = folder_match[1] if folder_match else ""
    folder = vectors.parent.parent / f"{name}_metadata"
    if not folder.is_dir():
        folder = folder.with_name("metadata")
    facts = folder / f"{folder.name}_{number_match[1] if number_match else ''}.parquet"
    if not facts.is_file():
        raise UsageError(f"{vectors} needs {facts} with the paths of its rows: add this file")
    return Shard(facts, vectors, _MODALITIES.get(name))


def _with_facts(vectors: Path) -> Shard:
    """Return the shard of a single .npy file; raise UsageError if no Parquet file belongs to it."""
    candidates = [vectors.with_suffix(".parquet"), *sorted(vectors.parent.glob("*.parquet"))]
    existing = [path for path in dict.fromkeys(candidates) if path.is_file()]
    if not existing or (len(existing) > 1 and existing[0] != candidates[0]):
        needed = f"{candidates[0].name} in its folder: a Parquet file with a column path, row by row"
        raise UsageError(f"{vectors} needs {needed}")
    return Shard(existing[0], vectors, None)


class VectorFileReader:
    """Reader of a shard: n rows of metadata and vectors."""

    def __init__(self, shard: Shard, vector_column: str | None) -> None:
        """Read the headers of a shard.

        Args:
            shard: Files to read.
            vector_column: Column of the vectors in the Parquet file; None: its only column of lists of floats.

        Raises:
            UsageError: a file has another format, there is no such column, or the numbers of rows differ.
        """
        self.facts = shard.facts
        self.modality = shard.modality
        with _open_parquet(self.facts) as file:
            schema: pa.Schema = file.schema_arrow
            for i, field in enumerate(schema):
                if pa.types.is_dictionary(field.type):
                    schema = schema.set(i, field.with_type(field.type.value_type))
            self.schema = schema
            self.n = int(file.metadata.num_rows)
            _check_texts(self.facts)
        self.space: StoreConfig | None = None
        if text := (self.schema.metadata or {}).get(SPACE_KEY) or self._space_in_rows():
            self.space = space_from_json(text)
        self.export_id = (self.schema.metadata or {}).get(EXPORT_KEY, b"").decode(errors="replace")
        self.columns = columns_from_json((self.schema.metadata or {}).get(CLASS_COLUMNS_KEY, b"[]"))
        self._array = None if shard.vectors is None else _map(shard.vectors, self.facts, self.n)
        self._column = "" if self._array is not None else _vector_column(self.schema, self.facts, vector_column)
        self.vectors = shard.vectors or shard.facts

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Names of the file's columns, by their names in FACTS; columns that the file lacks are left out."""
        present = set(self.schema.names) - {self._column}
        found = {name: [alias for alias in ALIASES.get(name, (name,)) if alias in present] for name in FACTS}
        return {name: aliases[0] for name, aliases in found.items() if aliases}

    @property
    def extras(self) -> list[str]:
        """Names of other columns of numbers, texts and booleans."""
        used = {*self.names.values(), self._column}
        scalar = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
        others = (field for field in self.schema if field.name not in used)
        return [field.name for field in others if any(test(field.type) for test in scalar)]

    def _space_in_rows(self) -> bytes | None:
        """Return the embedding space that the rows name, None if they name none; raise UsageError for several."""
        kinds = [field.type for field in self.schema if field.name == SPACE_COLUMN]
        if not kinds or not (types.is_string(kinds[0]) or types.is_large_string(kinds[0])):
            return None
        spaces = [text for text in self._read(SPACE_COLUMN).unique().to_pylist() if text is not None]
        if not spaces or space_from_json(spaces[0].encode()) is None:
            return None
        if len(spaces) > 1:
            raise UsageError(f"{self.facts} contains vectors of several encoders or options: import them apart")
        return str(spaces[0]).encode()

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Rows of files that `embed_files` could not read, bool (n,): they have a reason in place of a vector."""
        if self.space is None or not self._column or ERROR_COLUMN not in self.extras:
            return np.zeros(self.n, np.bool_)
        return np.asarray(self._read(ERROR_COLUMN).is_valid())

    def _read(self, name: str) -> pa.ChunkedArray:
        """Return a whole column of texts."""
        with _open_parquet(self.facts) as file:
            column = file.read([name]).column(0)
            self._check_rows(len(column))
            return self._texts(column, name, 0, MAX_PATH_BYTES)

    def column(self, name: str) -> pa.ChunkedArray | None:
        """Return a whole column of FACTS; None if the file lacks it.

        Raises:
            UsageError: the column has another type, or the file is damaged.
        """
        if name not in self.names:
            return None
        return self._cast(self._read(self.names[name]), name)

    def blocks(self, dim: int) -> Iterator[tuple[pa.Table, NDArray[np.floating[Any]]]]:
        """Yield blocks of rows in the order of the file.

        Args:
            dim: Dimension d that vectors must have.

        Yields:
            Table of m rows with the metadata and the other columns (named with a leading "#"), and vectors in the
            floating-point type of the file: (m, d), without those of rows that are `failed`.

        Raises:
            UsageError: a column has another type, a vector has another dimension, or the file is damaged.
        """
        column_names = [*self.names.values(), *self.extras, *([self._column] if self._array is None else [])]
        start = 0
        with _open_parquet(self.facts) as file:
            for batch in file.iter_batches(BLOCK_ROWS, columns=column_names):
                if start + len(batch) > self.n:
                    self._check_rows(start + len(batch))
                read = {
                    name: self._texts(pa.chunked_array([column]), name, start, MAX_TEXT_BYTES)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                if self._array is None:
                    embedded = ~self.failed[start : start + len(batch)]
                    column = batch.column(self._column)
                    rows = start + np.flatnonzero(embedded)
                    vectors = _to_array(column if embedded.all() else column.filter(embedded), dim, self.facts, rows)
                else:
                    vectors = self._array[start : start + len(batch)]
                columns = {name: self._cast(read[alias], name) for name, alias in self.names.items()}
                extras = {f"#{name}": read[name] for name in self.extras}
                yield pa.table({**columns, **extras}), vectors
                start += len(batch)
        self._check_rows(start)

    def _check_rows(self, n_read: int) -> None:
        """Raise UsageError if the number of rows that were read is not the one that the file states."""
        if n_read != self.n:
            fault = f"it states {self.n} rows, and {n_read} can be read"
            raise UsageError(f"{self.facts} is damaged: {fault}: write the file again")

    @property
    def dim(self) -> int | None:
        """Dimension d of the vectors; None if it is known only from the rows."""
        if self._array is not None:
            return int(self._array.shape[1])
        return getattr(self.schema.field(self._column).type, "list_size", None)

    def _texts(self, column: pa.ChunkedArray, name: str, start: int, max_bytes: int) -> pa.ChunkedArray:
        """Return texts that were read as a dictionary as plain ones; raise UsageError: too many bytes, or not UTF-8."""
        if not pa.types.is_dictionary(column.type):
            return column
        lengths = [pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
        size = sum(pc.sum(chunk).as_py() or 0 for chunk in lengths)
        if size > max_bytes:  # repeated ones included
            fault = f"the texts of the column {name} in rows {start} to {start + len(column) - 1} have {size} bytes"
            raise UsageError(f"{self.facts}: {fault}: the maximum is {max_bytes}, shorten them or split the file")
        plain = column.cast(column.type.value_type)
        try:
            plain.validate(full=True)
        except pa.ArrowInvalid:
            texts = (text.as_py() or b"" for text in plain.cast(pa.large_binary()))
            row = next((row for row, text in enumerate(texts) if text.decode(errors="ignore").encode() != text), None)
            if row is None:
                raise UsageError(f"{self.facts}: column {name} is damaged: write the file again") from None
            raise UsageError(f"{self.facts}: row {start + row}, column {name} is not UTF-8: save it as UTF-8") from None
        return plain

    def _cast(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        """Return a column with the type that it has in FACTS; raise UsageError if it has another type."""
        try:
            cast = column.cast(pa.type_for_alias(FACTS[name]))
            if pa.types.is_floating(cast.type):  # pandas writes unknown values as NaN
                return pc.if_else(pc.is_nan(cast), pa.scalar(None, cast.type), cast)
            return cast
        except pa.ArrowException:
            alias = self.names[name]
            raise UsageError(f"{self.facts}: the column {alias} holds {column.type}, not {FACTS[name]}") from None


def check_complete(source: Path, shards: Sequence[VectorFileReader]) -> None:
    """Check that a folder with files of an export contains all files of that export, and of no other.

    Args:
        source: Folder, or a file, of which nothing is checked.
        shards: The files of the source.

    Raises:
        UsageError: a file of the export is missing or incomplete.
    """
    exports = {shard.export_id for shard in shards} - {""}
    if not exports or not source.is_dir():
        return
    way_out = "export again into an empty folder, or give the files that you want one by one"
    try:
        listed: Any = read_json_object(source / EXPORT_FILE)
        sizes = {str(name): int(size) for name, size in listed["files"].items()}
        export_id = str(listed["id"])
    except FileNotFoundError:
        raise UsageError(f"{source} is an incomplete export, without {EXPORT_FILE}: {way_out}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{source / EXPORT_FILE} cannot be read ({first_line(error)}): {way_out}") from None
    if exports != {export_id}:
        raise UsageError(f"{source} contains files of several exports: {way_out}")
    for name, size in sizes.items():
        path = source / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "missing" if found is None else f"of {found} bytes in place of {size}"
            raise UsageError(f"{source} is an incomplete export, {name} is {state}: {way_out}")


@contextmanager
def _open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Yield an open Parquet file; raise UsageError for errors of reading it."""
    try:
        open_regular(path).close()
        with pq.ParquetFile(path) as plain:
            columns = [plain.schema.column(i) for i in range(plain.metadata.num_columns)]
        texts = [one.path for one in columns if one.physical_type == "BYTE_ARRAY" and not one.max_repetition_level]
        with pq.ParquetFile(path, memory_map=True, read_dictionary=texts) as file:
            yield file
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _check_texts(path: Path) -> None:
    """Check the mean size of texts by the metadata alone; raise UsageError if it exceeds MAX_MEAN_BYTES."""
    try:
        columns = parquet_columns(path)
    except MediaError as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    for column in columns:
        if column.is_text and column.max_mean_bytes > MAX_MEAN_BYTES:
            fault = f"the texts of the column {column.path} have {column.max_mean_bytes} bytes on average"
            raise UsageError(f"{path}: {fault}: the maximum is {MAX_MEAN_BYTES}, shorten them")


def _map(path: Path, facts: Path, n: int) -> NDArray[np.floating[Any]]:
    """Memory-map the rows (n, d) of a .npy file; raise UsageError if they are not vectors or do not match."""
    try:
        with open_regular(path) as file:
            shape, dtype, is_fortran = npy_header(file)
            offset = file.tell()
        if dtype.kind != "f" or len(shape) != 2:
            raise MediaError(f"it holds {dtype} of shape {shape}, not rows of floating-point numbers")
        order: Literal["C", "F"] = "F" if is_fortran else "C"
        array: NDArray[np.floating[Any]] = np.memmap(path, dtype, "r", offset, shape, order)
    except MediaError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if len(array) != n:
        raise UsageError(f"{path} has {len(array)} rows and {facts} {n}: both need the same rows, in the same order")
    return array


def _vector_column(schema: pa.Schema, path: Path, name: str | None) -> str:
    """Return the name of the column of vectors; raise UsageError if it is missing or not unique."""

    def holds_vectors(kind: pa.DataType) -> bool:
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(lists and types.is_floating(kind.value_type))

    candidates = [field.name for field in schema if holds_vectors(field.type)]
    listed = ", ".join(candidates) or "none"
    if name is not None and name not in candidates:
        raise UsageError(f"{path} has no column {name!r} of vectors: the columns of floating-point lists are {listed}")
    if name is None and len(candidates) != 1:
        fault = f"has {len(candidates)} columns of floating-point lists ({listed})"
        raise UsageError(f"{path} {fault}: give the column of the vectors")
    return name or candidates[0]


def _to_array(column: pa.Array, dim: int, path: Path, rows: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
    """Return a column of lists as rows (m, dim); `rows`: their positions in the file, int64 (m,)."""
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    if mismatched := np.flatnonzero(lengths != dim).tolist():
        row = mismatched[0]
        what = "no vector" if lengths[row] < 0 else f"a vector of {lengths[row]} dimensions"
        raise UsageError(f"{path}: row {rows[row]} holds {what}, the store needs {dim}")
    values = column.flatten()
    if values.null_count:
        raise UsageError(f"{path}: a vector in rows {rows[0]} to {rows[-1]} holds null")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), dim)
