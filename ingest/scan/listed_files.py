"""Manifests of a collection, whether they changed since the last run, and what they and globs declare about files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.archives.samples import TAR_NAMES, ZIP_NAMES, archive_above
from bindsearch.ingest.inspect.folder_settings import FolderSettings, hash_text
from bindsearch.ingest.inspect.globs import glob_matches
from bindsearch.ingest.manifests.manifest import ManifestContent, ManifestEntry, is_manifest, names_files, read_manifest
from bindsearch.ingest.manifests.rows import DEFAULT_LIMITS, MANIFEST_NAMES, ListLimits
from bindsearch.ingest.scan.walk import Scan
from bindsearch.ingest.workers.prepare import failure_of
from bindsearch.storage.file_state import FileState, IndexedFiles, file_state

NAMES_NOTHING = "not media, and no list of files: none of its paths is that of a file of the collection"


@dataclass(frozen=True)
class CollectionManifests:
    """Contents of the manifests of a collection.

    Attributes:
        entries: entries by relative path.
        states: state of each manifest that was read.
        changed: whether a manifest was added, deleted or changed.
        problems: one line each.
        others: reason by path of tables that have a column of paths, but are no manifests.
    """

    entries: Mapping[str, ManifestEntry]
    states: Mapping[str, FileState]
    changed: bool
    problems: Sequence[str]
    others: Mapping[str, str] = field(default_factory=dict)


def read_manifests(
    scan: Scan,
    recorded: Mapping[str, FileState],
    files: IndexedFiles | None = None,
    besides: Sequence[str] = (),
    *,
    limits: ListLimits = DEFAULT_LIMITS,
    is_whole: bool = False,
) -> CollectionManifests:
    """Read the manifests of a collection; entries of deeper manifests take precedence.

    Args:
        scan: the scan.
        recorded: archives and manifests of previous runs; manifests outside of the scan are read too.
        files: indexed files; unchanged items are not manifests. None: nothing is indexed.
        besides: further manifests outside of the scan.
        limits: limits of manifests.
        is_whole: the scan is that of the whole collection: files that it lacks are counted.

    Raises:
        UsageError: a recorded manifest cannot be read now: its entries must not be lost.
    """
    candidates = {}
    for row, path in enumerate(scan.rel_paths):
        if path.lower().endswith(MANIFEST_NAMES):
            state, previous = scan.state(row), None if files is None else files.file_at(path)
            item = None if previous is None or previous.item_id is None else previous
            if item is None or replace(item.state, sidecar_version=state.sidecar_version) != state:
                candidates[path] = state
    known = {path: state for path, state in recorded.items() if path.lower().endswith(MANIFEST_NAMES)}
    for path in (known.keys() | {*besides}) - candidates.keys():
        try:
            candidates[path] = file_state((scan.root / path).stat())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable(scan.root / path, error) from error
    scanned = {*scan.rel_paths, *scan.elsewhere} if candidates else set()
    own = {*scan.rel_paths} if scan.elsewhere else scanned
    entries: dict[str, ManifestEntry] = {}
    states: dict[str, FileState] = {}
    problems: list[str] = []
    others: dict[str, str] = {}
    for path in sorted(candidates, key=lambda path: (path.count("/"), path)):
        try:
            if known.get(path) != candidates[path] and not is_manifest(scan.root / path):
                continue
            if path not in besides and not names_files(scan.root / path, scan.root, scanned, limits):
                others[path] = NAMES_NOTHING
                continue
            content = read_manifest(scan.root / path, scan.root, limits, own)
        except MediaError as error:
            problems.append(f"the manifest {scan.root / path} is not used: {error}")
            content = ManifestContent({}, ())
        except OSError as error:
            if path in known:
                raise _unreadable(scan.root / path, error) from error
            continue
        except Exception as error:  # one list must not end the run
            raise_installation_fault(error)
            problems.append(f"the manifest {scan.root / path} is not used: {failure_of(error).reason}")
            content = ManifestContent({}, ())
        states[path] = candidates[path]
        entries.update(content.entries)
        problems += [f"{scan.root / path}: {problem}" for problem in content.problems]
        absent = content.entries.keys() - scanned if is_whole else ()
        if missing := sum(archive_above(listed, scanned) is None for listed in absent):
            problems.append(
                f"{scan.root / path}: {missing} of {len(content.entries)} listed files are not there, hidden or ignored"
            )
    return CollectionManifests(entries, states, states != known, problems, others)


def _unreadable(path: Path, error: OSError) -> UsageError:
    """Return the error for a recorded manifest that cannot be read."""
    return UsageError(f"cannot read the manifest {path} ({error.strerror}): make it readable, or delete it")


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
