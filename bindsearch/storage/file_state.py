"""Catalogued files of a collection with their states, for fast lookup by path in little memory."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bindsearch.environment import is_installation_failure
from bindsearch.types import Modality

if TYPE_CHECKING:
    import pyarrow as pa


LARGEST = (1 << 63) - 1
"""Largest integer of the catalog, 64 bits signed."""


@dataclass(frozen=True, slots=True)
class FileState:
    """State of a file, by which a changed file is detected without reading it.

    Attributes:
        size_bytes: Size in bytes.
        mtime_ns: Modification time in nanoseconds since 1970.
        sidecar_version: Changes with the metadata declared in the file's sidecar or in manifests; 0 without any. A
            modification time that the catalog cannot hold is part of it, too.
        inode: Inode number; 0 if unknown.
    """

    size_bytes: int
    mtime_ns: int
    sidecar_version: int
    inode: int = 0


UNKNOWN_STATE = FileState(-1, -1, -1)
"""State that no file has: recorded for files that the next run must process, changed or not."""


def file_state(status: os.stat_result, sidecar_version: int = 0) -> FileState:
    """Return the state of a file; whatever numbers a file system makes up, the catalog can hold those of the state.

    Broken clocks of cameras, NTFS, SMB and FUSE give times from the year 1601 to 30828; inode numbers are unsigned.
    """
    mtime_ns = storable_ns(status.st_mtime_ns)
    if mtime_ns != status.st_mtime_ns:
        sidecar_version ^= time_version(status.st_mtime_ns)
    return FileState(min(max(status.st_size, 0), LARGEST), mtime_ns, sidecar_version, status.st_ino & LARGEST)


def storable_ns(time_ns: int) -> int:
    """Return a time in nanoseconds since 1970, clipped to what the catalog can hold: the years 1677 to 2262."""
    return min(max(time_ns, -LARGEST - 1), LARGEST)


def time_version(time_ns: int) -> int:
    """Return a number from 1 to LARGEST that changes with a time of any size, in nanoseconds since 1970."""
    if 0 < time_ns <= LARGEST:
        return time_ns
    import xxhash

    return int(xxhash.xxh3_64_intdigest(str(time_ns).encode())) >> 1 or 1


STATE_COLUMNS = ("size_bytes", "mtime_ns", "facts_stamp", "inode")
"""Columns of the catalog for a file state, in the order of its fields."""


def state_columns(state: FileState) -> dict[str, int]:
    """Return a state as a dict by column name."""
    return dict(zip(STATE_COLUMNS, astuple(state), strict=True))


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A catalogued file: an item, a failure, or an item that could not be read in the last run (both).

    Attributes:
        rel_path: Path relative to the collection's root.
        state: State of the file when it was last processed.
        item_id: Id of the item; None for a file that has only failed.
        modality: Modality of the item; None for a file that has only failed.
        fingerprint: Digest of all that determines its embeddings; None for a file that has only failed.
        reason: Reason of the failure; None if the file has not failed.
    """

    rel_path: str
    state: FileState
    item_id: int | None
    modality: Modality | None
    fingerprint: str | None
    reason: str | None


def positions_below(rel_path: str, n: int, path_at: Callable[[int], str]) -> range:
    """Return the positions, among n relative paths sorted by their bytes, of those below a folder or archive."""
    low = bisect_left(range(n), f"{rel_path}/", key=path_at)
    return range(low, bisect_left(range(n), f"{rel_path}0", low, key=path_at))  # "0" comes after "/"


def positions_at_or_below(rel_path: str, n: int, path_at: Callable[[int], str]) -> list[int]:
    """Return the positions, among n sorted relative paths, of a path and of those below it; "": all."""
    if not rel_path:
        return [*range(n)]
    at = bisect_left(range(n), rel_path, key=path_at)
    is_there = at < n and path_at(at) == rel_path
    return [*range(at, at + is_there), *positions_below(rel_path, n, path_at)]


class IndexedFiles:
    """The n catalogued files, sorted by the bytes of their relative paths; about 100 bytes of memory each."""

    def __init__(self, rows: pa.Table) -> None:
        """Take rows as `Catalog.known_files` selects them."""
        import pyarrow as pa

        self._rows = rows.combine_chunks()
        self._rel_paths = self._rows.column("rel_path")
        states = [self._rows.column(name).to_numpy() for name in STATE_COLUMNS]
        self.states: NDArray[np.int64] = np.stack(states, axis=1).astype(np.int64)
        """Fields of FileState: int64 (n, 4)."""
        self.item_ids: NDArray[np.int64] = self._rows.column("item_id").to_numpy()
        """Item ids: int64 (n,), -1 for files that have only failed."""
        self.failed: NDArray[np.bool_] = self._rows.column("reason").is_valid().to_numpy()
        """True for files that have failed: bool (n,)."""
        self.n = self._rows.num_rows
        self._path_set = pa.array(self._rel_paths.to_pylist(), pa.string()) if self.n else pa.array([], pa.string())

    @cached_property
    def failed_by_installation(self) -> NDArray[np.bool_]:
        """True for files that failed because a library could not be loaded; they are tried again: bool (n,)."""
        result = np.zeros(self.n, np.bool_)
        failed = np.flatnonzero(self.failed)
        reasons = self._rows.column("reason").take(failed).to_pylist()
        result[failed] = [is_installation_failure(reason) for reason in reasons]
        return result

    def rows_of(self, rel_paths: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each path: int64 (m,), -1 for paths that are not catalogued."""
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = pc.index_in(pa.array(rel_paths, pa.string()), value_set=self._path_set)
        return np.asarray(rows.fill_null(-1).to_numpy(), np.int64)

    def rows_below(self, rel_path: str) -> range:
        """Return the rows of files below a folder or inside an archive."""
        return positions_below(rel_path, self.n, self.rel_path)

    def rows_at_or_below(self, rel_path: str) -> NDArray[np.int64]:
        """Return the rows of a path and of the files below it, "" for all: int64 (m,)."""
        return np.array(positions_at_or_below(rel_path, self.n, self.rel_path), np.int64)

    def rel_path(self, row: int) -> str:
        """Return the relative path in a row."""
        path: str = self._rel_paths[row].as_py()
        return path

    def modality(self, row: int) -> Modality | None:
        """Return the modality in a row; None for a file that has only failed."""
        name = self._rows.column("modality")[row].as_py()
        return None if name is None else Modality(name)

    def file(self, row: int) -> IndexedFile:
        """Return the catalogued file in a row."""
        path, item_id, fingerprint, reason = (
            self._rows.column(name)[row].as_py() for name in ("rel_path", "item_id", "fingerprint", "reason")
        )
        state, known_id = FileState(*self.states[row].tolist()), None if item_id < 0 else item_id
        return IndexedFile(path, state, known_id, self.modality(row), fingerprint, reason)

    def file_at(self, rel_path: str) -> IndexedFile | None:
        """Return the catalogued file at a path; None if there is none."""
        row = bisect_left(range(self.n), rel_path, key=self.rel_path)
        return self.file(row) if row < self.n and self.rel_path(row) == rel_path else None
