"""Files of arrays that can be computed again: safetensors, replaced as a whole, but not durable.

Not NumPy's own format, whose headers are parsed as Python: in several threads at a time Python 3.11 fails at that
("AST constructor recursion depth mismatch").
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.atomic import TEMPORARY_SUFFIX
from bindsearch.reports import OnRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARD = 1024
"""Rows of a file of vectors: what a kill can lose."""

_DIGEST = "digest"


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str] | None = None) -> None:
    """Write arrays and texts by name; several threads and processes may write the same file.

    A power loss may damage it: then `read_arrays` finds nothing, and the arrays are computed again.
    """
    from safetensors.numpy import save

    own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    texts = dict(facts or {})
    content = save(own, {**texts, _DIGEST: _digest_of(own, texts)})
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(TEMPORARY_SUFFIX, ".", file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_arrays(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]] | None:
    """Return the arrays and texts of a file; None: it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
            texts = dict(opened.metadata() or {})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return (arrays, texts) if texts.pop(_DIGEST, "") == _digest_of(arrays, texts) else None


def _digest_of(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> str:
    """Return a digest of everything in a file, hex."""
    import xxhash

    digest = xxhash.xxh3_128(repr(sorted(texts.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return str(digest.hexdigest())


def kept_rows(
    folder: Path, shape: tuple[int, int], make: Callable[[range], NDArray[np.float32]], on_done: OnRows
) -> NDArray[np.float32]:
    """Return rows of vectors, float32 of this shape, from the files of a folder; those that it lacks are made and kept.

    `on_done` is called with the number of rows that are done, and their number.
    """
    total, width = shape
    shards = []
    for start in range(0, total, SHARD):
        rows = range(start, min(start + SHARD, total))
        file = folder / f"{start:09d}.safetensors"
        shard = (read_arrays(file) or ({}, {}))[0].get("rows")
        if shard is None or shard.shape != (len(rows), width) or shard.dtype != np.float32:
            shard = make(rows)
            write_arrays(file, {"rows": shard})
        shards.append(shard)
        on_done(rows.stop, total)
    return np.concatenate(shards)
