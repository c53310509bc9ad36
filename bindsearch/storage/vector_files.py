"""Immutable vector files: Arrow IPC, one record batch of (vector_id, embedding fp16), memory-mapped."""

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
"""Maximum deviation of a vector's norm from 1."""


@dataclass(frozen=True)
class VectorFile:
    """An open vector file.

    Attributes:
        vector_ids: int64 (n,), ascending.
        embeddings: fp16 (n, d), a view of the mapped file.
    """

    vector_ids: NDArray[np.int64]
    embeddings: NDArray[np.float16]


def check_vectors(embeddings: NDArray[np.float32], dim: int) -> None:
    """Check vectors before they are stored.

    Args:
        embeddings: float32 (n, dim), unit norm.
        dim: Dimensions of the store's embedding space.

    Raises:
        VectorError: the shape is not (n, dim), or a vector holds NaN or infinity or is not of unit length.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise VectorError(f"vectors of shape {embeddings.shape} do not fit a space of {dim} dimensions")
    norms = np.sqrt(np.vecdot(embeddings, embeddings))
    if not np.isfinite(norms).all():
        raise VectorError("a vector holds NaN or infinity")
    if len(norms) and np.abs(norms - 1.0).max() > UNIT_TOLERANCE:
        raise VectorError("a vector is not of unit length")


def write_vectors(path: Path, vector_ids: NDArray[np.int64], embeddings: NDArray[np.floating]) -> str:
    """Write a vector file, atomically and durably.

    Args:
        path: The file.
        vector_ids: int64 (n,), ascending.
        embeddings: (n, d), stored as fp16.

    Returns:
        The hex digest of the file.
    """
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
    """Return the dimensions of the vectors in a file; None if it is missing or damaged."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            column = pa.ipc.open_file(source).schema.field("embedding").type
    except (OSError, pa.ArrowException, KeyError):
        return None
    return int(column.list_size) if pa.types.is_fixed_size_list(column) else None


def check_dim(paths: Iterable[Path], dim: int) -> None:
    """Check the dimensions in store.json against the vector files: with wrong ones, all vectors would be given up.

    Args:
        paths: All vector files of a store.
        dim: Dimensions in store.json.

    Raises:
        StoreError: the readable files contain vectors of other dimensions only.
    """
    dims = {dim_of_vectors(path) for path in paths} - {None}
    if dims and dim not in dims:
        raise StoreError(
            f"store.json has {dim} dimensions, the vector files have {', '.join(map(str, dims))}: "
            "put the right store.json back"
        )


def open_vectors(path: Path, dim: int) -> VectorFile:
    """Map a vector file.

    Raises:
        StoreError: the file is missing, damaged, or contains vectors of other dimensions.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        batch.validate(full=False)
        column = batch.column("embedding")
        if column.type != pa.list_(pa.float16(), dim):
            raise StoreError(f"vector file {path} contains {column.type}, expected {dim} half floats per row")
        embeddings = column.flatten().to_numpy(zero_copy_only=True).reshape(len(batch), dim)
        return VectorFile(batch.column("vector_id").to_numpy(zero_copy_only=True), embeddings)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise StoreError(
            f"vector file {path} is missing or damaged ({error}): run `bindsearch index` on its collections again"
        ) from error
