"""Checks of the media files that a store was made from: whether they are there, and are what was indexed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bindsearch.hashing import hash_file
from bindsearch.operations.verify.findings import Finding, FindingKind, Repair, finding
from bindsearch.storage.file_state import FileState
from bindsearch.storage.snapshot import Snapshot

COLUMNS = ("collection_id", "rel_path", "size_bytes", "mtime_ns", "content_hash")
BATCH_ROWS = 65_536

Containers = Mapping[int, Mapping[str, FileState]]
"""State of each archive when it was taken in, by collection and relative path."""


@dataclass
class MediaCheck:
    """State of a check of the files of a snapshot, by collection."""

    snapshot: Snapshot
    containers: Containers
    hash_media: bool
    read_bytes: int = 0
    members: int = 0
    """Items inside archives: told only by the archive's own state."""
    _gone: dict[int, list[Path]] = field(default_factory=dict)
    _changed: dict[int, list[Path]] = field(default_factory=dict)
    _silent: dict[int, list[Path]] = field(default_factory=dict)
    _unreadable: dict[int, list[Path]] = field(default_factory=dict)
    _held_by: dict[Path, bool] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Look at every file; with `hash_media` those that look unchanged are read."""
        roots = {key: Path(root) for key, root in self.snapshot.manifest.collections.items()}
        there = {key: root for key, root in roots.items() if root.is_dir()}
        for key, states in self.containers.items():
            for rel_path, state in states.items():
                if key in there:
                    self._look(key, there[key] / rel_path, state.size_bytes, state.mtime_ns, "")
        for key, rel_path, size_bytes, mtime_ns, content_hash in self._items():
            if key in there and size_bytes >= 0:  # below 0: it is to be embedded anew, which is told elsewhere
                self._look(key, there[key] / rel_path, size_bytes, mtime_ns, content_hash)
        for key in roots.keys() - there.keys():
            what = f"the collection {roots[key]} is not there"
            way_out = f"mount it or put it back, or run `bindsearch forget {roots[key]}`"
            yield finding(FindingKind.FILES_GONE, what, Repair.FORGET, [roots[key]], way_out=way_out)
        for key, root in there.items():
            yield from self._of_collection(key, root)

    def _of_collection(self, key: int, root: Path) -> Iterator[Finding]:
        again = f"run `bindsearch index {root}`"
        if gone := self._gone.get(key):
            yield finding(FindingKind.FILES_GONE, f"{_files(gone)} gone from {root}", Repair.INDEX, gone, way_out=again)
        if changed := self._changed.get(key):
            what = f"{_files(changed)} changed in {root} since indexed"
            yield finding(FindingKind.FILES_CHANGED, what, Repair.INDEX, changed, way_out=again)
        if unreadable := self._unreadable.get(key):
            what = f"{_files(unreadable)} become unreadable in {root}"
            yield finding(FindingKind.FILES_GONE, what, Repair.BY_HAND, unreadable, way_out="check their permissions")
        if silent := self._silent.get(key):
            what = f"{_files(silent)} other bytes in {root} than indexed, of the same size and time"
            way_out = f"put the right files back, or `touch` them and {again}"
            yield finding(FindingKind.FILES_CHANGED, what, Repair.BY_HAND, silent, way_out=way_out)

    def _items(self) -> Iterator[tuple[int, str, int, int, str]]:
        items, alive = self.snapshot.items.select(list(COLUMNS)), self.snapshot.item_alive
        for start in range(0, items.num_rows, BATCH_ROWS):
            rows = items.slice(start, BATCH_ROWS)
            living = rows if alive is None else rows.filter(alive[start : start + BATCH_ROWS])
            yield from zip(*(column.to_pylist() for column in living.columns), strict=True)

    def _look(self, key: int, path: Path, size_bytes: int, mtime_ns: int, content_hash: str) -> None:
        try:
            state = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if self._in_archive(path):
                self.members += 1
            else:
                self._gone.setdefault(key, []).append(path)
            return
        except OSError:
            self._unreadable.setdefault(key, []).append(path)
            return
        if (state.st_size, state.st_mtime_ns) != (size_bytes, mtime_ns):
            self._changed.setdefault(key, []).append(path)
        elif self.hash_media and content_hash:
            self.read_bytes += state.st_size
            try:
                if hash_file(path) != content_hash:
                    self._silent.setdefault(key, []).append(path)
            except OSError:
                self._unreadable.setdefault(key, []).append(path)

    def _in_archive(self, path: Path) -> bool:
        """Return whether a file lies where the path wants a folder."""
        folder = path.parent
        if folder not in self._held_by:
            self._held_by[folder] = folder.is_file() or (not folder.is_dir() and self._in_archive(folder))
        return self._held_by[folder]


def _files(paths: list[Path]) -> str:
    return "1 file has" if len(paths) == 1 else f"{len(paths)} files have"
