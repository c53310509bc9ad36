"""The files of a collection that a run looks at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WHOLE_COLLECTION = ("",)
"""The path of the whole collection."""


@dataclass(frozen=True)
class ScanTarget:
    """Files to index.

    Attributes:
        collection_id: the collection.
        root: its root folder.
        skipped_folders: folders that are not scanned: other collections, the store.
        paths: relative paths of files and folders; all files at or under them are scanned.
        deletions_confirmed: missing files are certainly deleted, since their deletion was observed.
        only_listed: no other file is scanned, whatever manifests list.
        manifests: manifests to read in addition, also from outside of the root.
    """

    collection_id: int
    root: Path
    skipped_folders: frozenset[Path]
    paths: tuple[str, ...] = WHOLE_COLLECTION
    deletions_confirmed: bool = False
    only_listed: bool = False
    manifests: tuple[str, ...] = ()

    def is_named(self, rel_path: str) -> bool:
        """Return whether the user named this file itself."""
        return not (self.deletions_confirmed or self.only_listed) and rel_path in self.paths

    @property
    def start(self) -> Path:
        """The only path, or the root if there are several."""
        return self.root / self.paths[0] if len(self.paths) == 1 else self.root
