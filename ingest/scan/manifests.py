"""Lists of a collection, and those of them that have changed since the last run."""

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
    """`entries`: by relative path. `lists`: state of each list read. `changed`: whether any is new, gone or other than
    it was. `problems`: a line each."""

    entries: Mapping[str, ListEntry]
    lists: Mapping[str, FileState]
    changed: bool
    problems: Sequence[str]


def read_lists(
    found: Scan, recorded: Mapping[str, FileState], files: IndexedFiles, besides: Sequence[str] = ()
) -> ManifestContents:
    """Read the lists in a scan, and those `recorded` before or named `besides` that lie outside of it; deeper ones have
    the last word.

    Which of `files` are items and have not changed are no lists.

    Raises:
        UsageError: a recorded list cannot be read now: what it says must not be lost for that.
    """
    states = {}
    for row, path in enumerate(found.rel_paths):
        if path.lower().endswith(LIST_NAMES):
            state, before = found.state(row), files.file_at(path)
            if (
                before is None
                or before.item_id is None
                or replace(before.state, sidecar_version=state.sidecar_version) != state
            ):
                states[path] = state
    known = {path: state for path, state in recorded.items() if path.lower().endswith(LIST_NAMES)}
    for path in (known.keys() | {*besides}) - states.keys():
        try:
            states[path] = file_state((found.root / path).stat())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable(found.root / path, error) from error
    entries: dict[str, ListEntry] = {}
    lists: dict[str, FileState] = {}
    problems: list[str] = []
    for path in sorted(states, key=lambda path: (path.count("/"), path)):
        try:
            if known.get(path) != states[path] and not is_list(found.root / path):
                continue
            content = read_list(found.root / path, found.root)
        except MediaError as error:
            problems.append(f"the list {found.root / path} is not used: {error}")
            content = ListContent({}, ())
        except OSError as error:
            if path in known:
                raise _unreadable(found.root / path, error) from error
            continue
        lists[path] = states[path]
        entries.update(content.entries)
        problems += [f"{found.root / path}: {problem}" for problem in content.problems]
    return ManifestContents(entries, lists, lists != known, problems)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"the list {path} cannot be read ({error.strerror}): repair or delete it")
