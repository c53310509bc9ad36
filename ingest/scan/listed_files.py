"""Manifests of a collection, and whether they changed since the last run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.manifests.manifest import ListContent, ListEntry, is_list, read_list
from bindsearch.ingest.manifests.rows import LIST_NAMES
from bindsearch.ingest.scan.walk import Scan, file_state
from bindsearch.storage.file_state import FileState, IndexedFiles


@dataclass(frozen=True)
class ManifestContents:
    """Contents of the manifests of a collection.

    Attributes:
        entries: entries by relative path.
        lists: state of each manifest that was read.
        changed: whether a manifest was added, deleted or changed.
        problems: one line each.
    """

    entries: Mapping[str, ListEntry]
    lists: Mapping[str, FileState]
    changed: bool
    problems: Sequence[str]


def read_lists(
    scan: Scan, recorded: Mapping[str, FileState], files: IndexedFiles, besides: Sequence[str] = ()
) -> ManifestContents:
    """Read the manifests of a collection; entries of deeper manifests take precedence.

    Args:
        scan: the scan.
        recorded: archives and manifests of previous runs; manifests outside of the scan are read too.
        files: indexed files; unchanged items are not manifests.
        besides: further manifests outside of the scan.

    Raises:
        UsageError: a recorded manifest cannot be read now: its entries must not be lost.
    """
    states = {}
    for row, path in enumerate(scan.rel_paths):
        if path.lower().endswith(LIST_NAMES):
            state, previous = scan.state(row), files.file_at(path)
            if (
                previous is None
                or previous.item_id is None
                or replace(previous.state, sidecar_version=state.sidecar_version) != state
            ):
                states[path] = state
    known = {path: state for path, state in recorded.items() if path.lower().endswith(LIST_NAMES)}
    for path in (known.keys() | {*besides}) - states.keys():
        try:
            states[path] = file_state((scan.root / path).stat())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable(scan.root / path, error) from error
    entries: dict[str, ListEntry] = {}
    lists: dict[str, FileState] = {}
    problems: list[str] = []
    for path in sorted(states, key=lambda path: (path.count("/"), path)):
        try:
            if known.get(path) != states[path] and not is_list(scan.root / path):
                continue
            content = read_list(scan.root / path, scan.root)
        except MediaError as error:
            problems.append(f"the manifest {scan.root / path} is not used: {error}")
            content = ListContent({}, ())
        except OSError as error:
            if path in known:
                raise _unreadable(scan.root / path, error) from error
            continue
        lists[path] = states[path]
        entries.update(content.entries)
        problems += [f"{scan.root / path}: {problem}" for problem in content.problems]
    return ManifestContents(entries, lists, lists != known, problems)


def _unreadable(path: Path, error: OSError) -> UsageError:
    """Return the error for a recorded manifest that cannot be read."""
    return UsageError(f"cannot read the manifest {path} ({error.strerror}): make it readable, or delete it")
