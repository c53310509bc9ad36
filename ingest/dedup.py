"""Deduplication: whether an inspected file is embedded, or refers to vectors that exist already.

Fingerprints are stored in 16 bytes each, so a large number of files needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.scan.target import FoundVectors, find_nothing
from bindsearch.ingest.workers.scheduler import Action, FileTask
from bindsearch.storage.file_state import IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_NEW = 4096
"""Fingerprints added to the set before they are sorted into its array."""


class Deduplicator:
    """Decides about the files of one scan, in the order of calls; for one thread at a time."""

    def __init__(
        self,
        known: IndexedFiles,
        prints: FingerprintIndex,
        missing: dict[int, int],
        find: Callable[[str], FoundVectors | None] = find_nothing,
    ) -> None:
        """Use the state of the catalog.

        Args:
            known: the collection's files.
            prints: fingerprints of all items.
            missing: rows in `known` of the missing files, by item_id; moved ones are removed from it.
            find: returns the vectors of a fingerprint in other shards.
        """
        self._known = known
        self._prints = prints
        self._seen = FingerprintSet()
        self._missing = missing
        self._find = find
        self._replaced: set[int] = set()
        self.in_flight: set[str] = set()
        """Fingerprints of files that are being embedded; removed by the caller when a file is done."""

    def wants_decoding(self, task: FileTask) -> bool:
        """Decide about a file; return whether to decode it."""
        before = task.before = self._known.file_at(task.file.rel_path)
        task.action = self._action(task)
        if before is not None and before.item_id is not None and task.action is not Action.TOUCH:
            self._replaced.add(before.item_id)  # its vectors cannot be shared any more
        return task.action is Action.EMBED

    def _action(self, task: FileTask) -> Action:
        """Return the action on a file; that on its vectors is noted in the task."""
        before, inspection = task.before, task.inspection
        if inspection is None or inspection.verdict.modality is None:
            return Action.LEAVE_OUT
        fingerprint = inspection.fingerprint
        if before is not None and before.item_id is not None and before.fingerprint == fingerprint:
            same_metadata = before.state.sidecar_version == task.file.state.sidecar_version
            return Action.TOUCH if same_metadata else Action.SHARE
        candidates = [key for key in self._prints.items_of(fingerprint).tolist() if key not in self._replaced]
        if before is None or before.item_id is None:
            for key in candidates:
                if self._missing.pop(key, None) is not None:
                    task.moved_id = key
                    return Action.MOVE
        if candidates:
            return Action.SHARE
        if fingerprint in self._seen:
            return Action.FOLLOW
        self._seen.add(fingerprint)
        self.in_flight.add(fingerprint)
        task.found = self._find(fingerprint)
        return Action.EMBED if task.found is None else Action.TAKE


class FingerprintIndex:
    """Fingerprints of the items of a store, with their item ids."""

    def __init__(self, rows: NDArray[np.bytes_], item_ids: NDArray[np.int64]) -> None:
        """Sort the rows of `as_rows`, S16 (n,), with their item ids, int64 (n,)."""
        order = np.argsort(rows, kind="stable")
        self._rows, self._item_ids = rows[order], item_ids[order]

    def items_of(self, fingerprint: str) -> NDArray[np.int64]:
        """Return the item_id of all items with this fingerprint: int64 (m,)."""
        row = as_rows([fingerprint])[0]
        return self._item_ids[np.searchsorted(self._rows, row, "left") : np.searchsorted(self._rows, row, "right")]


class FingerprintSet:
    """A growing set of fingerprints."""

    def __init__(self) -> None:
        self._rows = as_rows([])
        self._new: set[str] = set()

    def __contains__(self, fingerprint: str) -> bool:
        if fingerprint in self._new:
            return True
        row = as_rows([fingerprint])[0]
        position = int(np.searchsorted(self._rows, row))
        return position < len(self._rows) and self._rows[position] == row

    def add(self, fingerprint: str) -> None:
        """Add a fingerprint."""
        self._new.add(fingerprint)
        if len(self._new) >= _MAX_NEW:
            self._rows = np.sort(np.concatenate([self._rows, as_rows([*self._new])]))
            self._new.clear()


def as_rows(fingerprints: Sequence[str]) -> NDArray[np.bytes_]:
    """Return hex digests of 128 bits as bytes: S16 (n,)."""
    return np.frombuffer(bytes.fromhex("".join(fingerprints)), "S16")
