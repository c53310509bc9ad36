"""Deduplication: whether an inspected file is embedded, or refers to vectors that exist already.

Fingerprints are stored in 16 bytes each, so a large number of files needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.scan.share import FoundVectors, find_nothing
from bindsearch.ingest.workers.scheduler import FileTask
from bindsearch.storage.file_state import IndexedFile, IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_NEW = 4096
"""Fingerprints added to the set before they are sorted into its array."""


class Action(Enum):
    """Action on a file."""

    LEAVE_OUT = "leave out"
    TOUCH = "touch"
    SHARE = "share"
    MOVE = "move"
    FOLLOW = "follow"
    EMBED = "embed"
    TAKE = "take"


@dataclass(frozen=True, slots=True)
class Decision:
    """An action on a file.

    TOUCH: the file is unchanged. SHARE: an item with equal content has its vectors. MOVE: that item (`item_id`) was
    this file, at another path. FOLLOW: a file with equal content is being embedded. TAKE: another store has its
    vectors.

    Attributes:
        action: the action.
        before: the indexed file at this path; None: it is new.
        item_id: the item of MOVE.
        found: the vectors of TAKE.
    """

    action: Action
    before: IndexedFile | None
    item_id: int | None = None
    found: FoundVectors | None = None


class Deduplicator:
    """Decides about the files of one scan, in the order of calls; for one thread at a time."""

    def __init__(
        self,
        known: IndexedFiles,
        prints: FingerprintIndex,
        seen: FingerprintSet,
        missing: dict[int, int],
        find: Callable[[str], FoundVectors | None] = find_nothing,
    ) -> None:
        """Use the state of the catalog.

        Args:
            known: the collection's files.
            prints: fingerprints of all items.
            seen: fingerprints embedded in this scan.
            missing: rows in `known` of the missing files, by item_id; moved ones are removed from it.
            find: returns the vectors of a fingerprint in other shards.
        """
        self._known = known
        self._prints = prints
        self._seen = seen
        self._missing = missing
        self._find = find
        self._replaced: set[int] = set()
        self.in_flight: set[str] = set()
        """Fingerprints of files that are being embedded; removed by the caller when a file is done."""

    def wants_decoding(self, file_task: FileTask) -> bool:
        """Decide about a file; return whether to decode it."""
        decision = self._decide(file_task)
        file_task.decision = decision
        before = decision.before
        if before is not None and before.item_id is not None and decision.action is not Action.TOUCH:
            self._replaced.add(before.item_id)  # its vectors cannot be shared any more
        return decision.action is Action.EMBED

    def _decide(self, file_task: FileTask) -> Decision:
        """Return the decision about a file."""
        before = self._known.file_at(file_task.file.rel_path)
        inspection = file_task.inspection
        if inspection is None or inspection.verdict.modality is None:
            return Decision(Action.LEAVE_OUT, before)
        if before is not None and before.item_id is not None and before.fingerprint == inspection.fingerprint:
            same_metadata = before.state.sidecar_version == file_task.file.state.sidecar_version
            return Decision(Action.TOUCH if same_metadata else Action.SHARE, before)
        candidates = [
            key for key in self._prints.items_of(inspection.fingerprint).tolist() if key not in self._replaced
        ]
        if before is None or before.item_id is None:
            for key in candidates:
                if self._missing.pop(key, None) is not None:
                    return Decision(Action.MOVE, before, key)
        if candidates:
            return Decision(Action.SHARE, before)
        if inspection.fingerprint in self._seen:
            return Decision(Action.FOLLOW, before)
        self._seen.add(inspection.fingerprint)
        self.in_flight.add(inspection.fingerprint)
        if (found := self._find(inspection.fingerprint)) is not None:
            return Decision(Action.TAKE, before, found=found)
        return Decision(Action.EMBED, before)


class FingerprintIndex:
    """Fingerprints of the items of a store, with their item ids."""

    def __init__(self, rows: NDArray[np.bytes_], item_ids: NDArray[np.int64]) -> None:
        """Sort the rows of `as_rows`, S16 (n,), with their item ids, int64 (n,)."""
        order = np.argsort(rows, kind="stable")
        self._rows, self._item_ids = rows[order], item_ids[order]

    def items_of(self, fingerprint: str) -> NDArray[np.int64]:
        """Return the item_id of all items with this fingerprint: int64 (m,)."""
        row = as_rows([fingerprint])[0]
        low, high = np.searchsorted(self._rows, row, "left"), np.searchsorted(self._rows, row, "right")
        return self._item_ids[low:high]


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
