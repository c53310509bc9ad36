"""Immutable vector files: Arrow IPC, one record batch of (vector_id, embedding fp16), memory-mapped.

The schema's metadata holds a digest of the ids, which is compared when the file is opened, and one of each block of
rows, which is compared before the block is used for the first time. So damage is found without reading the whole file.
"""

from __future__ import annotations

import base64
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.atomic import TEMPORARY_SUFFIX, atomic_write
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import StoreError, VectorError, VectorFileLostError
from bindsearch.hashing import HashingFile
from bindsearch.small_files import is_not_regular, open_regular

if TYPE_CHECKING:
    import pyarrow as pa

VECTORS = "vectors"
REMEDY = "run `bindsearch compact`, then `bindsearch index` on its collections"
UNIT_TOLERANCE = 1e-3
"""Maximum deviation of a vector's norm from 1."""

BLOCK_BYTES = 1 << 16
"""Size of the blocks that have digests: a random row costs hashing one, about 5 us, once."""

BLOCK_ROWS_KEY, BLOCK_DIGESTS_KEY, IDS_DIGEST_KEY = b"block_rows", b"block_digests", b"ids_digest"
"""Keys in the schema's metadata: rows of a block; xxh3-64 of each block, little-endian, in base64; xxh3-64 of the ids.

Files of versions before these digests have none of them; `bindsearch verify` compares the digest of the whole file."""


class BlockChecks:
    """Comparison of blocks of rows with their digests, each once, before its first use; threads may share it."""

    def __init__(self, path: Path, rows: NDArray[np.float16], block_rows: int, digests: NDArray[np.uint64]) -> None:
        """Check the blocks of `block_rows` rows of a file: `rows` fp16 (n, d), `digests` uint64 (blocks,)."""
        self._path, self._rows, self._block_rows, self._digests = path, rows, block_rows, digests
        self._pending = np.ones(len(digests), np.bool_)
        self.done = not len(digests)

    def check(self, first: int, stop: int) -> None:
        """Check the blocks of rows first..stop.

        Raises:
            VectorFileLostError: a block is damaged.
        """
        if not self.done and first < stop:
            begin, end = first // self._block_rows, -(-stop // self._block_rows)
            self._check_blocks(np.flatnonzero(self._pending[begin:end]) + begin)

    def check_rows(self, rows: NDArray[np.int64]) -> None:
        """Check the blocks of these rows, int64 (m,).

        Raises:
            VectorFileLostError: a block is damaged.
        """
        if not self.done:
            blocks = rows // self._block_rows
            if (is_pending := self._pending[blocks]).any():
                self._check_blocks(np.unique(blocks[is_pending]))

    def _check_blocks(self, blocks: NDArray[np.int64]) -> None:
        import xxhash

        for block in blocks.tolist():
            rows = self._rows[block * self._block_rows : (block + 1) * self._block_rows]
            if xxhash.xxh3_64_intdigest(rows.data) != self._digests[block]:
                raise _damaged(self._path, f"rows {block * self._block_rows} and following do not match their digest")
        self._pending[blocks] = False
        self.done = not self._pending.any()


class VectorFileEntry(NamedTuple):
    """A vector file as the catalog and CURRENT list it.

    Attributes:
        name: Its name in the folder of its modality: FIRSTID-GENERATION.arrow.
        rows: Number of rows.
        digest: xxh3-128 of the file, "" if unknown.
    """

    name: str
    rows: int
    digest: str = ""

    @property
    def first_id(self) -> int:
        """Smallest vector id of the file."""
        return int(self.name.partition("-")[0])


def generation_of(name: str) -> int | None:
    """Return the generation that a vector file was written for, from its name; None for other names."""
    numbers = name.removesuffix(".arrow").split("-")
    return int(numbers[1]) if len(numbers) == 2 and numbers[1].isdecimal() else None


def vector_files_in(folder: Path) -> list[Path]:
    """Return the vector files in a folder, sorted, and those that are being written; what is not ours is left out.

    A link may be in the place of the folder, so its other content must not be touched.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    unfinished = f".*.arrow.*{TEMPORARY_SUFFIX}"
    return [folder / name for name in names if name.endswith(".arrow") or fnmatch(name, unfinished)]


@dataclass(frozen=True)
class VectorFile:
    """An open vector file.

    Attributes:
        vector_ids: int64 (n,), ascending.
        embeddings: fp16 (n, d), a view of the mapped file; check them before use.
        checks: Comparison of the embeddings with their digests; None if the file has none.
    """

    vector_ids: NDArray[np.int64]
    embeddings: NDArray[np.float16]
    checks: BlockChecks | None = None

    def checked_embeddings(self) -> NDArray[np.float16]:
        """Return the embeddings after checking all of them.

        Raises:
            VectorFileLostError: a block is damaged.
        """
        if self.checks is not None:
            self.checks.check(0, len(self.embeddings))
        return self.embeddings


def check_vectors(embeddings: NDArray[np.float32], dim: int) -> None:
    """Check vectors before they are stored: float32 (n, dim), of unit norm.

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
    """Write a vector file, atomically and durably, and return its hex digest.

    Args:
        path: The file.
        vector_ids: int64 (n,), ascending.
        embeddings: (n, d), stored as fp16.
    """
    import pyarrow as pa
    import xxhash

    rows = np.ascontiguousarray(embeddings, np.float16)
    ids = np.ascontiguousarray(vector_ids, np.int64)
    block_rows = max(1, BLOCK_BYTES // max(1, rows.itemsize * rows.shape[1]))
    blocks = range(0, len(rows), block_rows)
    digests = [xxhash.xxh3_64_intdigest(rows[start : start + block_rows].data) for start in blocks]
    metadata = {
        BLOCK_ROWS_KEY: str(block_rows).encode(),
        BLOCK_DIGESTS_KEY: base64.b64encode(np.array(digests, "<u8").tobytes()),
        IDS_DIGEST_KEY: xxhash.xxh3_64_hexdigest(ids.data).encode(),
    }
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    batch = pa.record_batch([pa.array(ids, pa.int64()), column], names=["vector_id", "embedding"])
    batch = batch.replace_schema_metadata(metadata)
    with atomic_write(path) as file:
        hashing = HashingFile(file)
        with pa.ipc.new_file(hashing, batch.schema) as writer:
            writer.write_batch(batch)
        return hashing.hexdigest


def dim_of_vectors(path: Path) -> int | None:
    """Return the dimensions of the vectors in a file; None if it is missing or damaged.

    Raises:
        StoreError: the file cannot be read now.
    """
    try:
        batch = _map_batch(path)
        return int(batch.column("embedding").type.list_size)
    except (VectorFileLostError, KeyError, AttributeError):
        return None


def check_dim(paths: Iterable[Path], dim: int) -> None:
    """Check the dimensions in store.json against all vector files: with wrong ones, all vectors would be given up.

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
        VectorFileLostError: the file is missing or damaged, or contains vectors of other dimensions.
        StoreError: the file cannot be read now, for a reason that says nothing about its content.
    """
    import pyarrow as pa

    batch = _map_batch(path)
    try:
        column = batch.column("embedding")
        if column.type != pa.list_(pa.float16(), dim):
            raise _damaged(path, f"it contains {column.type}, expected {dim} half floats per row")
        if column.null_count or column.offset:
            raise _damaged(path, "it has rows without a vector")
        # flatten() would import pyarrow.compute, which takes 50 ms
        embeddings = column.values.to_numpy(zero_copy_only=True)[: len(batch) * dim].reshape(len(batch), dim)
        vector_ids = batch.column("vector_id").to_numpy(zero_copy_only=True)
        return VectorFile(vector_ids, embeddings, _checks(path, batch.schema.metadata or {}, vector_ids, embeddings))
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from error


def open_stored_vectors(folder: Path, stored: VectorFileEntry, dim: int) -> VectorFile:
    """Map a vector file and compare its ids with what the store lists.

    Raises:
        VectorFileLostError, StoreError: as for `open_vectors`, or the file holds other rows.
    """
    path = folder / stored.name
    opened = open_vectors(path, dim)
    ids = opened.vector_ids
    if len(ids) != stored.rows or not len(ids) or ids[0] != stored.first_id or np.any(ids[1:] <= ids[:-1]):
        raise _damaged(path, f"it does not hold the {stored.rows} rows from id {stored.first_id} on")
    return opened


def _map_batch(path: Path) -> pa.RecordBatch:
    """Return the record batch of a file, mapped; Arrow reports faults of the system and of the format as OSError."""
    import pyarrow as pa

    try:
        with open_regular(path) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise VectorFileLostError(f"vector file {path} is missing: {REMEDY}") from error
    except ValueError as error:
        raise _damaged(path, "it is empty") from error
    except OSError as error:
        if is_not_regular(error):
            raise _damaged(path, "it is not a regular file") from error
        raise StoreError(
            f"vector file {path} cannot be read ({error.strerror or error}): nothing was changed; try again when it can"
        ) from error
    try:
        batch = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
        batch.validate(full=False)
    except Exception as error:
        raise_installation_fault(error)
        if isinstance(error, MemoryError):
            raise
        raise _damaged(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return batch


def _checks(
    path: Path, metadata: Mapping[bytes, bytes], vector_ids: NDArray[np.int64], embeddings: NDArray[np.float16]
) -> BlockChecks | None:
    """Compare the ids with their digest, and return the checks of the rows; None for a file without digests."""
    import xxhash

    keys = {BLOCK_ROWS_KEY, BLOCK_DIGESTS_KEY, IDS_DIGEST_KEY}
    if not keys & metadata.keys():
        return None
    block_rows = int(metadata[BLOCK_ROWS_KEY])
    digests = np.frombuffer(base64.b64decode(metadata[BLOCK_DIGESTS_KEY], validate=True), "<u8")
    if block_rows < 1 or len(digests) != -(-len(embeddings) // block_rows):
        raise ValueError(f"{len(digests)} digests do not fit {len(embeddings)} rows")
    if xxhash.xxh3_64_hexdigest(vector_ids.data).encode() != metadata[IDS_DIGEST_KEY]:
        raise ValueError("the ids do not match their digest")
    return BlockChecks(path, embeddings, block_rows, digests)


def _damaged(path: Path, problem: str) -> VectorFileLostError:
    return VectorFileLostError(f"vector file {path} is damaged ({problem}): {REMEDY}")
