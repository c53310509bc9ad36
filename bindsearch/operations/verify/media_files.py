"""Checks of the media files of a store: whether they exist and have not changed since they were indexed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bindsearch.arguments import shell_command
from bindsearch.hashing import hash_file
from bindsearch.operations.verify.findings import Finding, FindingKind, Repair, finding
from bindsearch.storage.file_state import FileState, file_state
from bindsearch.storage.snapshot import Snapshot

COLUMNS = ("collection_id", "rel_path", "size_bytes", "mtime_ns", "content_hash")
BATCH_ROWS = 65_536

Containers = Mapping[int, Mapping[str, FileState]]
"""State of each archive when it was indexed, by collection and relative path."""


@dataclass
class MediaCheck:
    """State of a check of the media files of a snapshot.

    Attributes:
        snapshot: Snapshot whose items are checked.
        containers: State of each archive.
        hash_media: Whether files that seem unchanged are read and hashed.
        read_bytes: Number of bytes read.
        members: Number of items inside archives; only the archive itself is checked.
    """

    snapshot: Snapshot
    containers: Containers
    hash_media: bool
    read_bytes: int = 0
    members: int = 0
    _missing: dict[int, list[Path]] = field(default_factory=dict)
    _changed: dict[int, list[Path]] = field(default_factory=dict)
    _same_stat: dict[int, list[Path]] = field(default_factory=dict)
    _unreadable: dict[int, list[Path]] = field(default_factory=dict)
    _is_archive: dict[Path, bool] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Check every file, and yield the findings; with `hash_media`, files that seem unchanged are read."""
        roots = {key: Path(root) for key, root in self.snapshot.manifest.collections.items()}
        existing = {key: root for key, root in roots.items() if root.is_dir()}
        for key, states in self.containers.items():
            for rel_path, state in states.items():
                if key in existing:
                    self._check_file(key, existing[key] / rel_path, state.size_bytes, state.mtime_ns, "")
        for key, rel_path, size_bytes, mtime_ns, content_hash in self._items():
            if key in existing and size_bytes >= 0:  # below 0: to be embedded again, reported elsewhere
                self._check_file(key, existing[key] / rel_path, size_bytes, mtime_ns, content_hash)
        for key in roots.keys() - existing.keys():
            what = f"the collection {roots[key]} does not exist"
            way_out = (
                f"mount or restore it, run `{shell_command('relocate', roots[key], 'NEW')}` if it was moved, or run "
                f"`{shell_command('forget', roots[key])}`"
            )
            yield finding(FindingKind.FILES_GONE, what, Repair.FORGET, [roots[key]], way_out=way_out)
        for key, root in existing.items():
            yield from self._of_collection(key, root)

    def _of_collection(self, key: int, root: Path) -> Iterator[Finding]:
        """Yield the findings of one collection."""
        run_index = f"run `{shell_command('index', root)}`"
        if missing := self._missing.get(key):
            yield finding(
                FindingKind.FILES_GONE,
                f"{_files(missing)} disappeared from {root}",
                Repair.INDEX,
                missing,
                way_out=run_index,
            )
        if changed := self._changed.get(key):
            what = f"{_files(changed)} changed in {root} since indexing"
            yield finding(FindingKind.FILES_CHANGED, what, Repair.INDEX, changed, way_out=run_index)
        if unreadable := self._unreadable.get(key):
            what = f"{_files(unreadable)} become unreadable in {root}"
            yield finding(FindingKind.FILES_GONE, what, Repair.BY_HAND, unreadable, way_out="check their permissions")
        if same_stat := self._same_stat.get(key):
            what = f"{_files(same_stat)} other content in {root} than indexed, with the same size and modification time"
            way_out = f"restore the original files, or `touch` them and {run_index}"
            yield finding(FindingKind.FILES_CHANGED, what, Repair.BY_HAND, same_stat, way_out=way_out)

    def _items(self) -> Iterator[tuple[int, str, int, int, str]]:
        """Yield COLUMNS of each live item."""
        items, alive = self.snapshot.items.select(list(COLUMNS)), self.snapshot.item_alive
        for start in range(0, items.num_rows, BATCH_ROWS):
            rows = items.slice(start, BATCH_ROWS)
            live = rows if alive is None else rows.filter(alive[start : start + BATCH_ROWS])
            yield from zip(*(column.to_pylist() for column in live.columns), strict=True)

    def _check_file(self, key: int, path: Path, size_bytes: int, mtime_ns: int, content_hash: str) -> None:
        """Compare one file with its state when it was indexed."""
        try:
            state = file_state(path.stat())
        except (FileNotFoundError, NotADirectoryError):
            if self._in_archive(path):
                self.members += 1
            else:
                self._missing.setdefault(key, []).append(path)
            return
        except OSError:
            self._unreadable.setdefault(key, []).append(path)
            return
        if (state.size_bytes, state.mtime_ns) != (size_bytes, mtime_ns):
            self._changed.setdefault(key, []).append(path)
        elif self.hash_media and content_hash:
            self.read_bytes += state.size_bytes
            try:
                if hash_file(path) != content_hash:
                    self._same_stat.setdefault(key, []).append(path)
            except OSError:
                self._unreadable.setdefault(key, []).append(path)

    def _in_archive(self, path: Path) -> bool:
        """Return whether a parent of the path is a file, such as an archive."""
        folder = path.parent
        if folder not in self._is_archive:
            self._is_archive[folder] = folder.is_file() or (not folder.is_dir() and self._in_archive(folder))
        return self._is_archive[folder]


def _files(paths: list[Path]) -> str:
    """Return the number of files as the subject of a sentence."""
    return "1 file has" if len(paths) == 1 else f"{len(paths)} files have"
