"""Scan targets: the collections of the paths given to `index`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bindsearch.arguments import is_at_or_below, shown, to_absolute, to_path_text
from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.manifests.manifest import is_manifest, manifest_paths
from bindsearch.ingest.manifests.rows import DEFAULT_LIMITS, MANIFEST_NAMES, ListLimits
from bindsearch.ingest.scan.target import ScanTarget


def resolve_paths(paths: Iterable[str | os.PathLike[str]], roots: Iterable[Path]) -> list[Path]:
    """Return the absolute paths to index, without those inside others.

    Each is an existing folder or file, or one that is missing from a collection whose root (in `roots`) exists.

    Raises:
        UsageError: there are no paths, or one is neither.
    """
    known = [root for root in roots if root.is_dir()]
    resolved = [_resolve(to_path_text(path), known) for path in paths]
    if not resolved:
        raise UsageError("nothing to index: give a folder or a file")
    unique = list(dict.fromkeys(resolved))
    return [path for path in unique if not any(path != other and path.is_relative_to(other) for other in unique)]


def _resolve(path: str, roots: Iterable[Path]) -> Path:
    """Return the absolute path of an existing file or folder, or of a missing one below one of `roots`."""
    if not path:
        raise UsageError("a path to index is empty: give a folder or a file")
    absolute = to_absolute(path)
    try:
        path.encode()
        if absolute.is_dir() or absolute.is_file():
            return absolute
        exists = absolute.exists()
    except (OSError, UnicodeEncodeError) as error:
        raise UsageError(f"cannot index {shown(path)}: {error}") from error
    if exists:
        raise UsageError(f"{path} is neither a folder nor a file: give one to index")
    if not any(root in absolute.parents for root in roots):
        raise UsageError(f"{path} does not exist: give a folder or a file to index")
    return absolute


def plan_targets(
    paths: Iterable[Path],
    collections: Mapping[int, Path],
    add_collection: Callable[[Path], int],
    store: Path,
    lists: ListLimits = DEFAULT_LIMITS,
) -> Iterator[ScanTarget]:
    """Yield each path as part of the collection that contains it, or of a new one, and the collections inside it.

    Args:
        paths: absolute paths of folders, files and manifests.
        collections: roots of the existing collections, by id.
        add_collection: adds a root and returns its id.
        store: the store's folder, which is never indexed.
        lists: limits of manifests.
    """
    known = dict(collections)
    for path in map(archive_of, paths):
        if (files := _manifest_files(path, lists)) is not None:
            yield from _manifest_targets(path, files, known, add_collection, store)
            continue
        if not any(path.is_relative_to(root) for root in known.values()):
            root = path if path.is_dir() else path.parent
            known[add_collection(root)] = root
        container = _containing_collection(path, known)
        assert container is not None
        inner = [key for key, root in known.items() if root.is_relative_to(path) and key != container]
        yield _target(container, known, store, [_rel_path(path, known[container])])
        yield from (_target(key, known, store, [""]) for key in inner)


def changed_targets(paths: Iterable[Path], collections: Mapping[int, Path], store: Path) -> list[ScanTarget]:
    """Return targets for changed files and folders: one scan per collection, so that moved files are recognised.

    A manifest stands for the whole collection that it lists files of. Paths outside of all collections are ignored.
    """
    rel_paths: dict[int, set[str]] = {}
    for path in paths:
        key = _containing_collection(path, collections)
        if key is not None:
            rel_path = _rel_path(path, collections[key])
            scans_all = rel_path.lower().endswith(MANIFEST_NAMES) and _may_be_manifest(path)
            rel_paths.setdefault(key, set()).add("" if scans_all else rel_path)
    return [
        _target(key, collections, store, changed, deletions_confirmed="" not in changed)
        for key, changed in rel_paths.items()
    ]


def _may_be_manifest(path: Path) -> bool:
    """Return whether a file of a table is a manifest, or was one; one that cannot be read now is none."""
    try:
        return not path.is_file() or is_manifest(path)
    except OSError:
        return False


def archive_of(path: Path) -> Path:
    """Return the archive that a path is inside of; other paths unchanged."""
    return next((parent for parent in path.parents if parent.is_file()), path)


def _containing_collection(path: Path, collections: Mapping[int, Path]) -> int | None:
    """Return the innermost collection that contains a path; None if none does."""
    containers = [key for key, root in collections.items() if path.is_relative_to(root)]
    return max(containers, key=lambda key: len(collections[key].parts), default=None)


def _rel_path(path: Path, root: Path) -> str:
    return "" if path == root else path.relative_to(root).as_posix()


def _target(
    key: int, collections: Mapping[int, Path], store: Path, rel_paths: Iterable[str], **options: Any
) -> ScanTarget:
    """Return the paths that are not inside another one as a target; it skips the store and other collections."""
    outermost: list[str] = []
    for rel_path in sorted(set(rel_paths), key=lambda rel_path: rel_path.replace("/", "\0")):
        if not (outermost and is_at_or_below(rel_path, outermost[-1])):
            outermost.append(rel_path)
    skipped = frozenset({store.resolve(), *(root for number, root in collections.items() if number != key)})
    return ScanTarget(key, collections[key], skipped, tuple(outermost), **options)


def failed_targets(
    failures: Iterable[tuple[int, str]], collections: Mapping[int, Path], store: Path
) -> list[ScanTarget]:
    """Return targets for files that failed, given by collection and relative path; a member is given as its archive."""
    failed: dict[int, set[str]] = {}
    for key, rel_path in failures:
        path = collections[key] / rel_path
        failed.setdefault(key, set()).add(archive_of(path).relative_to(collections[key]).as_posix())
    return [  # a root that is no folder is probably on a disk that is not mounted
        _target(key, collections, store, names, deletions_confirmed=collections[key].is_dir())
        for key, names in failed.items()
    ]


def _manifest_files(path: Path, limits: ListLimits) -> list[str] | None:
    """Return the absolute paths of the files in the manifest at `path`; None if it is not a manifest."""
    try:
        return manifest_paths(path, limits) if path.is_file() and is_manifest(path) else None
    except (MediaError, OSError) as error:
        raise UsageError(f"cannot use the manifest {path}: {error}") from error


def _manifest_targets(
    path: Path, files: Sequence[str], known: dict[int, Path], add_collection: Callable[[Path], int], store: Path
) -> Iterator[ScanTarget]:
    """Yield the files of the manifest at `path` in the collections that contain them, the others in a new one.

    Raise UsageError if the others have no common folder.
    """
    listed, outside = _by_collection(files, known)
    if outside:
        common = Path(os.path.commonpath({file.rpartition("/")[0] or "/" for file in outside}))
        if common == Path(common.anchor):
            raise UsageError(
                f"the manifest {path} lists files without a common folder, such as {outside[0]} and {outside[-1]}: "
                "split the manifest"
            )
        known[add_collection(common)] = common
        listed, _ = _by_collection(files, known)
    for key, rel_paths in listed.items():
        manifests = (Path(os.path.relpath(path, known[key])).as_posix(),)
        yield _target(key, known, store, rel_paths, only_listed=True, manifests=manifests)


def _by_collection(files: Sequence[str], known: Mapping[int, Path]) -> tuple[dict[int, list[str]], list[str]]:
    """Return the relative paths of files by the innermost collection that contains each, and the other files."""
    roots = {key: root.as_posix().rstrip("/") + "/" for key, root in known.items()}
    innermost_first = sorted(roots.items(), key=lambda key_and_root: -key_and_root[1].count("/"))
    listed: dict[int, list[str]] = {}
    outside = []
    for file in files:
        found = next(((key, root) for key, root in innermost_first if file.startswith(root)), None)
        if found is None:
            outside.append(file)
        else:
            listed.setdefault(found[0], []).append(file[len(found[1]) :])
    return listed, outside
