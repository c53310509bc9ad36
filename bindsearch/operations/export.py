"""Export: the vectors of a store as Parquet, or as .npy files beside Parquet, in the layout of clip-retrieval.

`npy`: `img_emb/img_emb_0.npy` with `metadata/metadata_0.parquet`, rows in the same order, as `clip-retrieval inference`
writes them (github.com/rom1504/clip-retrieval, clip_inference/writer.py); other modalities as
`audio_emb/audio_emb_0.npy` with `audio_metadata/audio_metadata_0.parquet`. `metadata` is the pictures'; the texts'
where no pictures are exported. `parquet`: `vectors-00000.parquet`, with a column `vector`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.atomic import atomic_write, folder_size
from bindsearch.errors import StoreError, UsageError
from bindsearch.operations.exchange_format import (
    FACTS,
    SPACE_KEY,
    complete_items,
    living_rows,
    open_generation,
    read_blocks,
    space_to_json,
    split_at_item_boundaries,
)
from bindsearch.reports import OnRows, ignore_rows
from bindsearch.search.filter import NO_FILTER, Filter, make_filter, segment_mask
from bindsearch.search.generation import Generation
from bindsearch.search.query import parse_modalities
from bindsearch.storage.config import StoreConfig, resolve_store
from bindsearch.types import Modality, PathLike

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

SHARD_ROWS = 1_000_000
"""Vectors in one file, but for a last item that goes beyond."""

VECTOR_COLUMN = "vector"
SHORT_NAMES = {Modality.IMAGE: "img"}
"""Modalities that clip-retrieval calls otherwise."""

CLIP_COLUMNS: Mapping[Modality, Mapping[str, str]] = {
    Modality.IMAGE: {"path": "image_path"},
    Modality.TEXT: {"text": "caption"},
}
"""Names of columns in the metadata of clip-retrieval."""


class Layout(StrEnum):
    """Layout of the files of an export."""

    NPY = "npy"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Report of an export: the number of vectors by modality, files, bytes, and the seconds it took."""

    target: Path
    vectors: Mapping[Modality, int]
    files: int
    size_bytes: int
    took_s: float


def export_vectors(
    store: PathLike | None,
    target: PathLike,
    *,
    layout: str | Layout = Layout.PARQUET,
    modalities: str | Modality | Iterable[str | Modality] | None = None,
    filter: Filter | str | None = None,
    on_progress: OnRows = ignore_rows,
) -> ExportReport:
    """Write vectors with their facts into the empty folder `target`; half-precision rows go out as they are stored.

    `modalities`: those of segments, default all; `filter` as of `Store.search`. The store is read in one generation
    and may be written to meanwhile. Each file appears whole or not at all.

    Raises:
        UsageError: an unknown layout or modality, a wrong filter, nothing to export, or `target` is not empty.
        StoreNotFoundError: there is no store.
    """
    started = time.monotonic()
    wanted = parse_modalities(modalities)
    if layout not in list(Layout):
        raise UsageError(f"unknown layout {str(layout)!r}: choose from {', '.join(Layout)}")
    chosen = make_filter(where=filter) if isinstance(filter, str) else filter or NO_FILTER
    config, generation = open_generation(resolve_store(store))
    rows = _chosen_rows(generation, wanted, chosen)
    counts = {modality: len(part) for modality, part in rows.items() if len(part)}
    if not counts:
        raise UsageError("nothing to export: the store holds no such vectors, ask for other modalities or filters")
    folder = Path(target).expanduser()
    total = sum(counts.values())
    try:
        _check_target(folder)
        write = _write_npy if layout == Layout.NPY else _write_parquet
        on_progress(0, total)
        for done in accumulate(write(folder, config, generation, rows)):
            on_progress(done, total)
        files = sum(path.is_file() for path in folder.rglob("*"))
    except OSError as error:
        raise StoreError(f"cannot write the export {folder}: {error}") from error
    return ExportReport(folder, counts, files, folder_size(folder), time.monotonic() - started)


def _chosen_rows(
    generation: Generation, modalities: Iterable[Modality], filter: Filter
) -> dict[Modality, NDArray[np.int64]]:
    """Segment rows of each modality that are wanted, by item."""
    import pyarrow.compute as pc

    snapshot = generation.snapshot
    rows = living_rows(snapshot)
    if filter:
        rows = rows[segment_mask(filter, snapshot)[rows]]
    held = snapshot.segments.column("modality")
    return {modality: rows[pc.equal(held, modality.value).to_numpy()[rows]] for modality in modalities}


def _check_target(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder: export into another one")
    folder.mkdir(parents=True, exist_ok=True)


def _write_parquet(
    folder: Path, config: StoreConfig, generation: Generation, rows: Mapping[Modality, NDArray[np.int64]]
) -> Iterator[int]:
    """All vectors, those of an item together. Yields the size of each block that is written."""
    import pyarrow as pa

    snapshot = generation.snapshot
    everything = np.concatenate(list(rows.values()))
    everything = everything[np.argsort(snapshot.items_of(everything), kind="stable")]
    whole = complete_items(snapshot, everything)
    kind = pa.list_(pa.field("element", pa.float16(), nullable=False), config.dim)
    schema = _schema(config).append(pa.field(VECTOR_COLUMN, kind))
    for number, shard in enumerate(split_at_item_boundaries(snapshot, everything, SHARD_ROWS)):
        with _parquet_file(folder / f"vectors-{number:05d}.parquet", schema) as file:
            for block in read_blocks(generation, shard, whole):
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.reshape(-1)), type=kind)
                file.write_table(block.facts.append_column(schema.field(VECTOR_COLUMN), vectors).cast(schema))
                yield len(block.vectors)


def _write_npy(
    folder: Path, config: StoreConfig, generation: Generation, rows: Mapping[Modality, NDArray[np.int64]]
) -> Iterator[int]:
    """Each modality in files of its own, numbered as clip-retrieval does. Yields as `_write_parquet`."""
    snapshot = generation.snapshot
    whole = complete_items(snapshot, np.concatenate(list(rows.values())))
    first = next((one for one in (Modality.IMAGE, Modality.TEXT) if len(rows.get(one, ()))), None)
    for modality, wanted in rows.items():
        if not len(wanted):
            continue
        short = SHORT_NAMES.get(modality, modality.value)
        facts_name = "metadata" if modality is first else f"{short}_metadata"
        for place in (folder / f"{short}_emb", folder / facts_name):
            place.mkdir()
        shards = split_at_item_boundaries(snapshot, wanted, SHARD_ROWS)
        renamed = CLIP_COLUMNS.get(modality, {})
        schema = _schema(config, renamed)
        for number, shard in enumerate(shards):
            digits = str(number).zfill(len(str(len(shards))))
            with (
                atomic_write(folder / f"{short}_emb" / f"{short}_emb_{digits}.npy") as vectors,
                _parquet_file(folder / facts_name / f"{facts_name}_{digits}.parquet", schema) as facts,
            ):
                header = {"descr": "<f2", "fortran_order": False, "shape": (len(shard), config.dim)}
                np.lib.format.write_array_header_1_0(vectors, header)
                for block in read_blocks(generation, shard, whole):
                    vectors.write(np.ascontiguousarray(block.vectors, "<f2").data)
                    facts.write_table(block.facts.rename_columns(schema.names).cast(schema))
                    yield len(block.vectors)


def _schema(config: StoreConfig, renamed: Mapping[str, str] = MappingProxyType({})) -> pa.Schema:
    import pyarrow as pa

    fields = [(renamed.get(name, name), pa.type_for_alias(kind)) for name, kind in FACTS.items()]
    return pa.schema(fields, {SPACE_KEY: space_to_json(config)})


@contextmanager
def _parquet_file(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet file that appears when the block ends; vectors go in as they are, which is all that compresses them."""
    import pyarrow.parquet as pq

    facts = [name for name in schema.names if name != VECTOR_COLUMN]
    compression = {**dict.fromkeys(facts, "zstd"), f"{VECTOR_COLUMN}.list.element": "none"}
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(
            file, schema, compression=compression, use_dictionary=facts, write_statistics=facts, store_schema=True
        ) as writer,
    ):
        yield writer
