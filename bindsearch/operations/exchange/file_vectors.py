"""Vectors of the files that a table lists, as a table: the step that Ray, Spark, Daft and others run in parallel."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from bindsearch.arguments import shown, to_absolute, to_choice, to_texts
from bindsearch.encoders.base import Encoder
from bindsearch.environment import installation_faults
from bindsearch.errors import UsageError
from bindsearch.ingest.collect import metadata_of, modality_of
from bindsearch.ingest.embed import embed_files as embed_messages
from bindsearch.ingest.inspect.folder_settings import FolderSettings, read_folder_settings
from bindsearch.ingest.inspect.inspect_file import InspectOptions, SourceFile
from bindsearch.ingest.inspect.rules import parse_rule
from bindsearch.ingest.manifests.manifest import ManifestEntry
from bindsearch.ingest.media.options import segment_lengths
from bindsearch.ingest.media.subtitles.names import subtitles_beside
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.ingest.workers.prepare import failure_of
from bindsearch.ingest.workers.scheduler import FileTask
from bindsearch.operations.exchange.exchange_format import (
    ERROR_COLUMN,
    FACTS,
    SPACE_COLUMN,
    SPACE_KEY,
    VECTOR_COLUMN,
    space_to_json,
)
from bindsearch.storage.config import StoreConfig, new_config
from bindsearch.storage.file_state import FileState, file_state
from bindsearch.types import METADATA_COLUMNS, DecodeIn, Metadata, Modality, PathLike

ENCODERS_KEPT = 2
"""Encoders that a process keeps for the next batch."""


class VectorType(StrEnum):
    """Type of the numbers of vectors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@dataclass(frozen=True, slots=True)
class _Row:
    """A file of a batch: its path in the result, and what is embedded, or why nothing can be."""

    path: str
    file: SourceFile | None
    problem: str = ""


@installation_faults()
def embed_files(
    batch: pa.Table,
    *,
    encoder: str | Encoder = "mini",
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    root: PathLike | None = None,
    rules: Iterable[str] = (),
    segment_s: Mapping[str, float] | None = None,
    imu_rate_hz: float | None = None,
    dtype: str = VectorType.FLOAT32,
    decode: str = DecodeIn.THREAD,
    device: str = "auto",
) -> pa.Table:
    """Embed the files that a table lists, as `Store.index` does, and return a table with a row for each segment.

    It needs no store: call it on batches in parallel, write the results as Parquet, and read them with
    `import_vectors`. The encoder stays loaded in the process for the next call. Archives are not opened, and lists of
    files (manifests) are not read; each such file has an error.

    Args:
        batch: A pyarrow Table or RecordBatch with a column `path`; or with `bytes`, the content of files, and `name`,
            their paths. A column `modality` sets the modality of files where it is not null.
        encoder: Encoder, or its name. A name is loaded once a process.
        encoder_options: Preprocessing options of the encoder.
        root: Collection that the files belong to: its `.bindsearch.toml` is used, the names of its folders decide
            on the modality of files as in `index`, and relative paths are below it. None: each file is taken by itself.
        rules: Rules MODALITY=GLOB that override the detected modality.
        segment_s: Lengths of segments in seconds, as in `connect`.
        imu_rate_hz: Sampling rate in Hz of IMU recordings that do not give one.
        dtype: Type of the vectors, `float32` or `float16`.
        decode: `thread`, or `process`: in processes of their own, which a damaged file cannot crash this one from.
        device: Device as in `connect`.

    Returns:
        A table with the rows of each file together, in the order of the batch: `path`, `modality`, `start_s`, `end_s`,
        `text`, `vector` (a fixed-size list of d numbers, of unit length), the other columns of an export, `error` and
        `space`. A file without vectors has one row, with the reason in `error` and zeros in `vector`. `space` names
        the encoder, so that the rows can be imported whatever wrote the file.

    Raises:
        UsageError: the batch lacks a column, a row has no path, an unknown modality or a path outside of `root`, or an
            option is invalid.
        EncoderError: there is no such encoder, or it does not work.
        InstallationError: a library cannot be loaded.
    """
    numbers = to_choice(dtype, VectorType, "dtype")
    where = to_choice(decode, DecodeIn, "decode")
    if not isinstance(batch, pa.Table | pa.RecordBatch):
        raise UsageError(f"the batch is {shown(batch)}: give a pyarrow Table or RecordBatch")
    given_options = tuple(sorted((encoder_options or {}).items()))
    chosen = _load(encoder, given_options, device) if isinstance(encoder, str) else encoder
    options = replace(segment_lengths(segment_s or {}, chosen.wants), imu_rate_hz=imu_rate_hz)
    folder = None if root is None else to_absolute(root)
    settings = FolderSettings() if folder is None else read_folder_settings(folder)
    parsed = (*(parse_rule(rule) for rule in to_texts(rules, "rules")), *settings.rules)
    name = "" if folder is None else folder.name
    inspect = InspectOptions(parsed, chosen.modalities, name, settings.facts, options)
    with TemporaryDirectory(prefix="bindsearch-") as temporary:
        rows = _rows(batch, folder, Path(temporary))
        found = _embed([row.file for row in rows if row.file is not None], chosen, inspect, where)
    records = [record for row in rows for record in _records(row, found, folder)]
    return _table(records, new_config(chosen, options), numbers)


@lru_cache(ENCODERS_KEPT)
def _load(name: str, options: tuple[tuple[str, Any], ...], device: str) -> Encoder:
    """Return an encoder; it is loaded once a process."""
    from bindsearch.encoders import load_encoder
    from bindsearch.encoders.torch_runtime.device import Runtime

    return load_encoder(name, options=dict(options), runtime=Runtime(device=device))


def _rows(batch: pa.Table, root: Path | None, temporary: Path) -> list[_Row]:
    """Return the files of a batch; contents are written into `temporary`; raise UsageError for bad columns and rows."""
    names = batch.schema.names
    by_content = "bytes" in names and "path" not in names
    needed = ("bytes", "name") if by_content else ("path",)
    if missing := [name for name in needed if name not in names]:
        given = ", ".join(names) or "none"
        raise UsageError(f"the batch has no column {missing[0]}: give path, or bytes and name; its columns: {given}")
    paths = _texts(batch, needed[-1])
    modalities = _texts(batch, "modality") if "modality" in names else [None] * len(paths)
    rows = []
    for number, (path, modality) in enumerate(zip(paths, modalities, strict=True)):
        if not path or "\0" in path:
            raise UsageError(f"row {number} of the batch has no {needed[-1]} of a file: {shown(path)}")
        listed = None
        if modality is not None:
            listed = ManifestEntry(to_choice(modality, Modality, "modality"), (), {}, Metadata())
        if by_content:
            content = batch.column("bytes")[number].as_py()
            rows.append(_content_row(path, content, listed, root, temporary / str(number)))
        else:
            rows.append(_path_row(path, listed, root))
    return rows


def _texts(batch: pa.Table, name: str) -> list[str | None]:
    """Return a column of texts; raise UsageError if it has another type."""
    values: list[str | None] = batch.column(name).to_pylist()
    if wrong := [value for value in values if not isinstance(value, str | None)]:
        raise UsageError(f"the column {name} contains {shown(wrong[0])}: give texts")
    return values


def _path_row(text: str, listed: ManifestEntry | None, root: Path | None) -> _Row:
    """Return a file on disk."""
    path, rel_path = _placed(text, root)
    try:
        file = SourceFile(path, rel_path, file_state(path.stat()), listed=listed, subtitles=subtitles_beside(path))
    except OSError as error:
        return _Row(str(path), None, failure_of(error).reason)
    return _Row(str(path), file)


def _content_row(name: str, content: object, listed: ManifestEntry | None, root: Path | None, folder: Path) -> _Row:
    """Return a file whose content is given, written into a new folder."""
    rel_path = posixpath.normpath(f"/{name}").lstrip("/")
    if root is not None:
        path, rel_path = _placed(name, root)
        name = str(path)
    base = PurePosixPath(rel_path).name
    if not base:
        raise UsageError(f"{shown(name)} is not the name of a file: give the path that it has")
    if not isinstance(content, bytes):
        return _Row(name, None, f"the content is {shown(content)}: give bytes")
    try:
        folder.mkdir()
        (folder / base).write_bytes(content)
    except OSError as error:  # such as a name that is too long
        return _Row(name, None, failure_of(error).reason)
    return _Row(name, SourceFile(folder / base, rel_path, FileState(len(content), -1, -1), listed=listed))


def _placed(text: str, root: Path | None) -> tuple[Path, str]:
    """Return an absolute path, and the one below `root`, or below the folder above its own; links are not followed."""
    path = Path(os.path.abspath((root or Path()) / Path(text).expanduser()))  # noqa: PTH100  (follows no links)
    if root is None:
        return path, "/".join(path.parts[-2:]).lstrip("/")
    if not path.is_relative_to(root):
        path = path.parent.resolve() / path.name
    if not path.is_relative_to(root):
        raise UsageError(f"{path} is outside of {root}: give a root that contains all files")
    return path, path.relative_to(root).as_posix()


def _embed(
    files: Sequence[SourceFile], encoder: Encoder, options: InspectOptions, where: DecodeIn
) -> dict[int, FileTask]:
    """Embed files; return the result of each by the id of its object."""
    found: dict[int, FileTask] = {}
    if not files:
        return found

    def is_wanted(task: FileTask) -> bool:
        return task.failure is None and task.inspection is not None and task.inspection.verdict.modality is not None

    with (
        Decoders(encoder, where) as decoders,
        closing(decoders.run(iter(files), lambda: True, is_wanted, options)) as messages,
    ):
        for embedded in embed_messages(messages, encoder):
            if isinstance(embedded, FileTask):
                found[id(embedded.file)] = embedded
    return found


def _records(row: _Row, found: Mapping[int, FileTask], root: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file in the result, without its space."""
    record: dict[str, Any] = {"path": row.path, "collection": None if root is None else str(root)}
    if row.file is None:
        yield {**record, ERROR_COLUMN: row.problem}
        return
    embedded, state = found[id(row.file)], row.file.state
    record["size_bytes"] = state.size_bytes
    if state.mtime_ns != -1:
        record |= {"mtime_ns": state.mtime_ns, "modified": state.mtime_ns // 1000}
    inspection = embedded.inspection
    if embedded.failure is not None:
        yield {**record, ERROR_COLUMN: embedded.failure.reason}
    elif inspection is None or not embedded.segments:
        yield {**record, ERROR_COLUMN: "not indexed" if inspection is None else inspection.verdict.why}
    else:
        metadata = metadata_of(embedded)
        record["item_modality"] = modality_of(embedded, embedded.segments).value
        record |= {name: getattr(inspection, name) for name in ("content_hash", "fingerprint", "columns")}
        record |= {name: getattr(metadata, name) for name in METADATA_COLUMNS}
        for segment in embedded.segments:
            span = {"start_s": segment.start_s, "end_s": segment.end_s, "text": segment.text}
            yield {**record, "modality": segment.modality.value, **span, VECTOR_COLUMN: segment.payload}


def _table(records: Sequence[Mapping[str, Any]], config: StoreConfig, dtype: VectorType) -> pa.Table:
    """Return the rows of the result as a table."""
    space = space_to_json(replace(config, created=""))
    kind = pa.list_(pa.type_for_alias(dtype.value), config.dim)
    fields = [(name, pa.type_for_alias(alias)) for name, alias in FACTS.items()]
    fields += [(VECTOR_COLUMN, kind), (ERROR_COLUMN, pa.string()), (SPACE_COLUMN, pa.string())]
    vectors = np.zeros((len(records), config.dim), dtype.value)
    for row, record in enumerate(records):
        if VECTOR_COLUMN in record:
            vectors[row] = record[VECTOR_COLUMN]
    columns: dict[str, Any] = {
        VECTOR_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=kind),
        SPACE_COLUMN: pa.array([space.decode()] * len(records), pa.string()),
    }
    for name, type_ in fields:
        if name not in columns:
            columns[name] = pa.array([record.get(name) for record in records], type_)
    return pa.table(columns, pa.schema(fields, {SPACE_KEY: space}))
