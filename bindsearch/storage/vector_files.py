"""The immutable vector files: Arrow IPC, one record batch of (vector_id, embedding fp16), memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.errors import StoreError, VectorError
from bindsearch.hashing import HashingFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS = "vectors"
UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class VectorFile:
    """An open vector file: `vector_ids` int64 (n,), ascending; `embeddings` fp16 (n, d), a view of the mapped file."""

    vector_ids: NDArray[np.int64]
    embeddings: NDArray[np.float16]


def check_vectors(embeddings: NDArray[np.float32], dim: int) -> None:
    """Refuse what must never reach the store.

    Raises:
        VectorError: not (n, dim), NaN or infinity, or not of unit length.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise VectorError(f"vectors of shape {embeddings.shape} do not fit a space of {dim} dimensions")
    norms = np.sqrt(np.vecdot(embeddings, embeddings))
    if not np.isfinite(norms).all():
        raise VectorError("a vector holds NaN or infinity")
    if len(norms) and np.abs(norms - 1.0).max() > UNIT_TOLERANCE:
        raise VectorError("a vector is not of unit length")


def write_vectors(path: Path, vector_ids: NDArray[np.int64], embeddings: NDArray[np.floating]) -> str:
    """Write ids (n,), ascending, and embeddings (n, d) as fp16 to `path`, atomically and durably; the file's digest."""
    import pyarrow as pa

    rows = np.ascontiguousarray(embeddings, np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    batch = pa.record_batch([pa.array(vector_ids, pa.int64()), column], names=["vector_id", "embedding"])
    with atomic_write(path) as file:
        hashing = HashingFile(file)
        with pa.ipc.new_file(hashing, batch.schema) as writer:
            writer.write_batch(batch)
        return hashing.hexdigest


def dim_of_vectors(path: Path) -> int | None:
    """Dimensions of the vectors in a file; None where it is missing or damaged."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            column = pa.ipc.open_file(source).schema.field("embedding").type
    except (OSError, pa.ArrowException, KeyError):
        return None
    return int(column.list_size) if pa.types.is_fixed_size_list(column) else None


def check_dim(paths: Iterable[Path], dim: int) -> None:
    """Refuse a space that none of a store's vector files (all of its `paths`) is of: giving them up would lose them.

    Raises:
        StoreError: those that can be read hold vectors of other sizes.
    """
    held = {dim_of_vectors(path) for path in paths} - {None}
    if held and dim not in held:
        raise StoreError(
            f"store.json says {dim} dimensions, the vector files hold {', '.join(map(str, held))}: "
            "put the right store.json back"
        )


def open_vectors(path: Path, dim: int) -> VectorFile:
    """Map a vector file.

    Raises:
        StoreError: it is missing, damaged, or holds vectors of another size.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        batch.validate(full=False)
        column = batch.column("embedding")
        if column.type != pa.list_(pa.float16(), dim):
            raise StoreError(f"vector file {path} holds {column.type}, not {dim} half floats a row")
        embeddings = column.flatten().to_numpy(zero_copy_only=True).reshape(len(batch), dim)
        return VectorFile(batch.column("vector_id").to_numpy(zero_copy_only=True), embeddings)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise StoreError(
            f"vector file {path} is missing or damaged ({error}): run `bindsearch index` on its collections again"
        ) from error
