"""Collections of the paths given to `index`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.manifests.manifest import is_list, list_paths
from bindsearch.ingest.manifests.rows import LIST_NAMES
from bindsearch.ingest.scan.collection import ScanTarget


def resolve_paths(paths: Iterable[str | os.PathLike[str]], roots: Iterable[Path]) -> list[Path]:
    """Absolute paths to index, without those inside another one.

    Each is a folder or a file that exists, or one that has gone from a collection whose root (in `roots`) is there.

    Raises:
        UsageError: none is given, or one is neither.
    """
    known = [root for root in roots if root.is_dir()]
    resolved = [_resolve(os.fspath(path), known) for path in paths]
    if not resolved:
        raise UsageError("nothing to index: give a folder or a file")
    unique = list(dict.fromkeys(resolved))
    return [path for path in unique if not any(path != other and path.is_relative_to(other) for other in unique)]


def _resolve(path: str, roots: Iterable[Path]) -> Path:
    if not path:
        raise UsageError("a path to index is empty: give a folder or a file")
    try:
        path.encode()
        absolute = Path(path).expanduser().resolve()
        if absolute.is_dir() or absolute.is_file():
            return absolute
        exists = absolute.exists()
    except (OSError, UnicodeEncodeError, RuntimeError) as error:
        raise UsageError(f"{os.fsencode(path)!r} cannot be indexed: {error}") from error
    if exists:
        raise UsageError(f"{path} is neither a folder nor a file: give one to index")
    if not any(root in absolute.parents for root in roots):
        raise UsageError(f"{path} does not exist: give a folder or a file to index")
    return absolute


def plan_targets(
    paths: Iterable[Path], collections: Mapping[int, Path], add_collection: Callable[[Path], int], store: Path
) -> Iterator[ScanTarget]:
    """Each path within the collection that holds it, or as a new one; collections inside it are rescanned too."""
    known = dict(collections)
    for path in map(_standing, paths):
        if (named := _named_by(path)) is not None:
            yield from _listed_targets(path, named, known, add_collection, store)
            continue
        if not any(path.is_relative_to(root) for root in known.values()):
            root = path if path.is_dir() else path.parent
            known[add_collection(root)] = root
        holder = _holder(path, known)
        assert holder is not None
        inner = [key for key, root in known.items() if root.is_relative_to(path) and key != holder]
        for key in (holder, *inner):
            place = _rel_path(path, known[key]) if key == holder else ""
            yield ScanTarget(key, known[key], _skipped(known, key, store), (place,))


def changed_targets(paths: Iterable[Path], collections: Mapping[int, Path], store: Path) -> list[ScanTarget]:
    """Return what to index where these files and folders have changed: one pass a collection, so that what has moved is
    known again. A list stands for the collection it speaks of. Paths outside of all collections are left out."""
    places: dict[int, set[str]] = {}
    for path in paths:
        key = _holder(path, collections)
        if key is not None:
            rel_path = _rel_path(path, collections[key])
            speaks = rel_path.lower().endswith(LIST_NAMES) and (not path.is_file() or is_list(path))
            places.setdefault(key, set()).add("" if speaks else rel_path)
    return [
        ScanTarget(
            key,
            collections[key],
            _skipped(collections, key, store),
            _outermost(found),
            deletions_confirmed="" not in found,
        )
        for key, found in places.items()
    ]


def _standing(path: Path) -> Path:
    """The archive that a path leads into; other paths as they are."""
    return next((above for above in path.parents if above.is_file()), path)


def _holder(path: Path, collections: Mapping[int, Path]) -> int | None:
    """The innermost collection that holds a path."""
    holders = [key for key, root in collections.items() if path.is_relative_to(root)]
    return max(holders, key=lambda key: len(collections[key].parts), default=None)


def _rel_path(path: Path, root: Path) -> str:
    return "" if path == root else path.relative_to(root).as_posix()


def _skipped(collections: Mapping[int, Path], key: int, store: Path) -> frozenset[Path]:
    """Folders that are not looked into from a collection: the store, and other collections."""
    return frozenset({store.resolve(), *(root for other, root in collections.items() if other != key)})


def _outermost(places: Iterable[str]) -> tuple[str, ...]:
    """Places that lie in no other one of them."""
    kept: list[str] = []
    for place in sorted(places, key=lambda place: place.split("/")):
        if not (kept and (not kept[-1] or place.startswith(f"{kept[-1]}/"))):
            kept.append(place)
    return tuple(kept)


def failed_targets(
    failures: Iterable[tuple[int, str]], collections: Mapping[int, Path], store: Path
) -> list[ScanTarget]:
    """The files that failed, each given by its collection and relative path; the archive where it is a member."""
    named: dict[int, set[str]] = {}
    for key, rel_path in failures:
        place = collections[key] / rel_path
        named.setdefault(key, set()).add(_standing(place).relative_to(collections[key]).as_posix())
    return [
        ScanTarget(
            key,
            collections[key],
            _skipped(collections, key, store),
            _outermost(names),
            deletions_confirmed=collections[key].is_dir(),  # else it is a disk that is not mounted
        )
        for key, names in named.items()
    ]


def _named_by(path: Path) -> list[Path] | None:
    """The files that the list at `path` names; None where it is no list.

    Raises:
        UsageError: the list is damaged.
    """
    if not path.is_file() or not is_list(path):
        return None
    try:
        return list_paths(path)
    except MediaError as error:
        raise UsageError(f"the list {path} cannot be used: {error}") from error


def _listed_targets(
    path: Path, named: Sequence[Path], known: dict[int, Path], add_collection: Callable[[Path], int], store: Path
) -> Iterator[ScanTarget]:
    """The files of the list at `path` within the collections that hold them, the others in a new one.

    Raises:
        UsageError: those have no folder in common.
    """
    outside = [file for file in named if _holder(file, known) is None]
    if outside:
        common = Path(os.path.commonpath([file.parent for file in outside]))
        if common == Path(common.anchor):
            raise UsageError(
                f"the list {path} names files that have no folder in common, such as {outside[0]} and {outside[-1]}: "
                "give it in parts"
            )
        known[add_collection(common)] = common
    places: dict[int, set[str]] = {}
    for file in named:
        key = _holder(file, known)
        assert key is not None
        places.setdefault(key, set()).add(_rel_path(file, known[key]))
    for key, found in places.items():
        lists = (Path(os.path.relpath(path, known[key])).as_posix(),)
        yield ScanTarget(key, known[key], _skipped(known, key, store), _outermost(found), only_listed=True, lists=lists)
