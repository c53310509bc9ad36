"""Files as the catalog knows them, for an indexing run: by path, many at once, in little memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.environment import is_installation_failure
from bindsearch.types import Modality

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FileState:
    """State of a file, which tells a changed one from an unchanged one without reading it.

    `sidecar_version` changes with what is said of the file elsewhere, in its sidecar or a list; 0 where nothing is.
    `inode` 0: not known."""

    size_bytes: int
    mtime_ns: int
    sidecar_version: int
    inode: int = 0


UNKNOWN_STATE = FileState(-1, -1, -1)
"""No file has it: recorded where the next run is to look at a file again, changed or not."""


STATE_COLUMNS = ("size_bytes", "mtime_ns", "facts_stamp", "inode")
"""Columns of the catalog that hold a state, in the order of its fields."""


def state_columns(state: FileState) -> dict[str, int]:
    """Return a state under the names of its columns."""
    return dict(zip(STATE_COLUMNS, astuple(state), strict=True))


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file as the catalog knows it: an item, a failure (`reason` set), or an item that could not be read of late
    (both)."""

    rel_path: str
    state: FileState
    item_id: int | None
    modality: Modality | None
    fingerprint: str | None
    reason: str | None


class IndexedFiles:
    """The n files that the catalog knows, by relative path in the order of bytes; about 100 bytes each."""

    def __init__(self, rows: pa.Table) -> None:
        """`rows` as `Catalog.known_files` selects them."""
        import pyarrow as pa

        self._rows = rows.combine_chunks()
        self._rel_paths = self._rows.column("rel_path")
        states = [self._rows.column(name).to_numpy() for name in STATE_COLUMNS]
        self.states: NDArray[np.int64] = np.stack(states, axis=1).astype(np.int64)
        """Fields of FileState: int64 (n, 4)."""
        self.item_ids: NDArray[np.int64] = self._rows.column("item_id").to_numpy()
        """int64 (n,), -1 where a file has only failed."""
        self.failed: NDArray[np.bool_] = self._rows.column("reason").is_valid().to_numpy()
        """True for those that have failed: bool (n,)."""
        self.n = self._rows.num_rows
        self._path_set = pa.array(self._rel_paths.to_pylist(), pa.string()) if self.n else pa.array([], pa.string())

    @cached_property
    def failed_by_installation(self) -> NDArray[np.bool_]:
        """Which of them failed since a library could not be loaded, which is worth another try: bool (n,)."""
        result = np.zeros(self.n, np.bool_)
        failed = np.flatnonzero(self.failed)
        reasons = self._rows.column("reason").take(failed).to_pylist()
        result[failed] = [is_installation_failure(reason) for reason in reasons]
        return result

    def rows_of(self, rel_paths: Sequence[str]) -> NDArray[np.int64]:
        """Row of each path: int64 (m,), -1 where nothing is known of it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(pa.array(rel_paths, pa.string()), value_set=self._path_set)
        return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)

    def rows_below(self, rel_path: str) -> range:
        """Rows of what lies below a folder, or inside an archive."""
        low = bisect_left(range(self.n), f"{rel_path}/", key=self.rel_path)
        return range(low, bisect_left(range(self.n), f"{rel_path}0", low, key=self.rel_path))  # "0" comes after "/"

    def rel_path(self, row: int) -> str:
        """The path of a row."""
        path: str = self._rel_paths[row].as_py()
        return path

    def modality(self, row: int) -> Modality | None:
        """The modality of a row; None where the file has only failed."""
        found = self._rows.column("modality")[row].as_py()
        return None if found is None else Modality(found)

    def file(self, row: int) -> IndexedFile:
        """All that is known of a row."""
        facts = self._rows.slice(row, 1).to_pylist()[0]
        return IndexedFile(
            facts["rel_path"],
            FileState(*self.states[row].tolist()),
            None if facts["item_id"] < 0 else facts["item_id"],
            self.modality(row),
            facts["fingerprint"],
            facts["reason"],
        )

    def file_at(self, rel_path: str) -> IndexedFile | None:
        """Return what is known of a path; None where nothing is."""
        row = bisect_left(range(self.n), rel_path, key=self.rel_path)
        return self.file(row) if row < self.n and self.rel_path(row) == rel_path else None
