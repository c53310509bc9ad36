"""Decision about a file that was inspected: embed it, or refer to vectors that are there already.

Fingerprints are kept in 16 bytes each: knowing what has been seen costs little however much that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.workers.scheduler import FileTask
from bindsearch.storage.file_state import IndexedFile, IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEW_AT_MOST = 4096


class Action(Enum):
    """Action for a file."""

    LEAVE_OUT = "leave out"
    TOUCH = "touch"
    SHARE = "share"
    MOVE = "move"
    FOLLOW = "follow"
    EMBED = "embed"


@dataclass(frozen=True, slots=True)
class Decision:
    """An action on a file of which `before` was known. TOUCH: it is as it was. SHARE: an item with equal content has
    its vectors. MOVE: that item (`item_id`) was this one, at another place. FOLLOW: a file with equal content is just
    being embedded."""

    action: Action
    before: IndexedFile | None
    item_id: int | None = None


class Deduplicator:
    """Decides for the files of one pass, in the order it is asked; use it from one thread at a time."""

    def __init__(
        self, known: IndexedFiles, prints: FingerprintIndex, seen: FingerprintSet, gone: dict[int, int]
    ) -> None:
        """`known`: the collection's files; `prints`: of all items; `seen`: fingerprints embedded in this pass;
        `gone`: item_id of files that are no more, with their rows in `known`; a moved one is taken out."""
        self._known = known
        self._prints = prints
        self._seen = seen
        self._gone = gone
        self._replaced: set[int] = set()
        self.in_flight: set[str] = set()
        """Fingerprints of files that are being embedded; whoever finishes one takes it out."""

    def wants_decoding(self, file_task: FileTask) -> bool:
        """Decide; whether the file is to be decoded."""
        decision = self._decide(file_task)
        file_task.decision = decision
        before = decision.before
        if before is not None and before.item_id is not None and decision.action is not Action.TOUCH:
            self._replaced.add(before.item_id)  # its vectors are no longer there for others
        return decision.action is Action.EMBED

    def _decide(self, file_task: FileTask) -> Decision:
        before = self._known.file_at(file_task.file.rel_path)
        look = file_task.look
        if look is None or look.verdict.modality is None:
            return Decision(Action.LEAVE_OUT, before)
        if before is not None and before.item_id is not None and before.fingerprint == look.fingerprint:
            same_facts = before.state.sidecar_version == file_task.file.state.sidecar_version
            return Decision(Action.TOUCH if same_facts else Action.SHARE, before)
        holders = [key for key in self._prints.items_of(look.fingerprint).tolist() if key not in self._replaced]
        if before is None or before.item_id is None:
            for key in holders:
                if self._gone.pop(key, None) is not None:
                    return Decision(Action.MOVE, before, key)
        if holders:
            return Decision(Action.SHARE, before)
        if look.fingerprint in self._seen:
            return Decision(Action.FOLLOW, before)
        self._seen.add(look.fingerprint)
        self.in_flight.add(look.fingerprint)
        return Decision(Action.EMBED, before)


class FingerprintIndex:
    """Fingerprints of the items that a store holds, and whose they are."""

    def __init__(self, rows: NDArray[np.bytes_], item_ids: NDArray[np.int64]) -> None:
        """`rows` as `as_rows` gives them."""
        order = np.argsort(rows, kind="stable")
        self._rows, self._item_ids = rows[order], item_ids[order]

    def items_of(self, fingerprint: str) -> NDArray[np.int64]:
        """item_id of all items with this fingerprint: int64 (m,)."""
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
        place = int(np.searchsorted(self._rows, row))
        return place < len(self._rows) and self._rows[place] == row

    def add(self, fingerprint: str) -> None:
        """Put one in."""
        self._new.add(fingerprint)
        if len(self._new) >= _NEW_AT_MOST:
            self._rows = np.sort(np.concatenate([self._rows, as_rows([*self._new])]))
            self._new.clear()


def as_rows(fingerprints: Sequence[str]) -> NDArray[np.bytes_]:
    """Hex digests of 128 bits as bytes: S16 (n,)."""
    return np.frombuffer(bytes.fromhex("".join(fingerprints)), "S16")
