"""Which collection each path given to `index` belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from bindsearch.errors import UsageError
from bindsearch.ingest.pipeline import Target


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
) -> Iterator[Target]:
    """Each path within the collection that holds it, or as a new one; collections inside it are rescanned too."""
    known = dict(collections)
    for path in paths:
        if not any(path.is_relative_to(root) for root in known.values()):
            root = path if path.is_dir() else path.parent
            known[add_collection(root)] = root
        holder = max(
            (key for key, root in known.items() if path.is_relative_to(root)), key=lambda key: len(known[key].parts)
        )
        inner = [key for key, root in known.items() if root.is_relative_to(path) and key != holder]
        for key in (holder, *inner):
            others = {root for other, root in known.items() if other != key}
            prefix = path.relative_to(known[key]).as_posix() if key == holder and path != known[key] else ""
            yield Target(key, known[key], prefix, frozenset({store.resolve(), *others}))
