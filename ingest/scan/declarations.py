"""Declarations of lists and globs about the files of a collection, and stamps by which a change is detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bindsearch.ingest.archives.samples import TAR_NAMES, ZIP_NAMES, archive_above
from bindsearch.ingest.inspect.folder_settings import FolderSettings, hash_text
from bindsearch.ingest.inspect.globs import glob_matches
from bindsearch.ingest.manifests.manifest import ManifestEntry


@dataclass(frozen=True)
class Declarations:
    """Declarations about the files of a collection, members of archives included.

    Attributes:
        listed: entries of lists by path.
        settings: settings of the collection.
    """

    listed: Mapping[str, ManifestEntry]
    settings: FolderSettings

    def zip_encoding(self, rel_path: str) -> str | None:
        """Return the encoding that is set for the names in a zip; None if none is."""
        return next((encoding for glob, encoding in self.settings.zip_names if glob_matches(glob, rel_path)), None)

    def stamp(self, rel_path: str) -> int:
        """Return a number from 0 to 2^63 - 1 that changes with what is declared about a file; 0: nothing is."""
        entry = self.listed.get(rel_path)
        return (0 if entry is None else entry.stamp) ^ self.settings.facts.stamp(rel_path)

    def stamps(self, rel_paths: Sequence[str]) -> dict[str, int]:
        """Return the stamps of files about which something is declared, by path; for archives, about their members."""
        stamps = {path: self.settings.facts.stamp(path) for path in rel_paths} if self.settings.facts.globs else {}
        archives = {path for path in rel_paths if path.lower().endswith((*TAR_NAMES, *ZIP_NAMES))}
        for path in archives if self.settings.facts.globs else ():
            stamps[path] ^= self.settings.facts.stamp_below(path)
        for path in archives if self.settings.zip_names else ():
            if (encoding := self.zip_encoding(path)) is not None:
                stamps[path] = stamps.get(path, 0) ^ hash_text(f"zip_names {encoding}")
        scanned = {*rel_paths} if self.listed else set()
        for path, entry in self.listed.items():
            if path in scanned:
                stamps[path] = stamps.get(path, 0) ^ entry.stamp
            elif (archive := archive_above(path, archives)) is not None:
                stamps[archive] = stamps.get(archive, 0) ^ hash_text(f"{path} {entry.stamp}")
        return {path: stamp for path, stamp in stamps.items() if stamp}
